"""
What `reconciler demo` starts: a broker, a simulated Windchill and a daemon, each a process of its own on loopback.

Nothing here is a shortcut: the daemon is `reconciler run`, events reach it through the broker, and what became of them
is read from its log, its store, and the simulator's own history.
"""

import asyncio
import itertools
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import orjson

from reconciler import config, factory
from reconciler.adapters.clock import SystemClock
from reconciler.core.events import decode
from reconciler.errors import ReconcilerError
from reconciler.model import instant
from reconciler.model.document import Status
from reconciler.model.event import Outgoing
from reconciler.ports import EventLog, Store
from reconciler.simulator import broker, history
from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Settings

_LOOK_S = 0.1
_PARTITIONS = 2
_CONTENT_TYPE = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
_CONFIG = """\
# Written by `reconciler demo`.
[log]
brokers = ["{broker}"]

[store]
url = "sqlite:///{folder}/state.db"

[windchill]
base_url = "{windchill}"

[admin]
bind = "127.0.0.1:0"

[retry]                    # everything a little faster than usual, so that there is something to see
backoff_base_s = 0.3

[resync]
interval_s = 3

[[policy]]                 # the process owns the status
fields = ["status"]
strategy = "external"

[[policy]]                 # people own the owner
fields = ["owner"]
strategy = "preserve"

[[policy]]                 # everything else: the side that changed wins; a person decides when both did
fields = ["*"]
strategy = "merge"
on_overlap = "hold"
"""


class Stage:
    """Everything that the demo needs, started and stopped together. An async context manager."""

    def __init__(self, folder: Path, documents: int) -> None:
        self.folder = folder
        self.said: list[dict[str, Any]] = []  # the daemon's log, oldest first
        self._broker = broker.Broker()
        self._simulator = Simulator(Settings(port=0, documents=documents, seed=7))
        self._clock = SystemClock()
        self._numbers = itertools.count(1)
        self.appended = 0  # records in the change log
        self._daemon: subprocess.Popen[bytes] | None = None
        self._log: EventLog | None = None
        self._store: Store | None = None

    async def __aenter__(self) -> Self:
        try:
            self._broker.start()
            self._simulator.start()
            self.config_file = self.folder / "reconciler.toml"
            text = _CONFIG.format(
                broker=self._broker.brokers[0], folder=self.folder.absolute(), windchill=self._simulator.url
            )
            self.config_file.write_text(text)
            self.config = config.load(self.config_file, {})
            log = self.config.log
            for topic in (*log.read_topics, log.outcomes_topic, log.dead_letter_topic):
                self._broker.make_topic(topic, _PARTITIONS)
            self._log = factory.make_log(self.config, self._clock)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_daemon(signal.SIGKILL)
        if self._store is not None:
            await self._store.close()
        if self._log is not None:
            await self._log.close()
        self._simulator.stop()
        self._broker.stop()

    @property
    def windchill(self) -> str:
        """The simulated Windchill's address."""
        return self._simulator.url

    @property
    def broker(self) -> str:
        """The broker's address."""
        return self._broker.brokers[0]

    # ---------------------------------------------------------------------------------------------------------- daemon

    def start_daemon(self) -> int:
        """Start `reconciler run` and return its process id."""
        self._daemon = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "reconciler", "run", "-c", str(self.config_file), "--log-level", "debug"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the demo alone, which then ends everything in order
        )
        self._listener = threading.Thread(target=self._listen, args=(self._daemon,), daemon=True)
        self._listener.start()
        return self._daemon.pid

    async def stop_daemon(self, how: signal.Signals) -> int:
        """Send the daemon a signal and return its exit status."""
        daemon, self._daemon = self._daemon, None
        if daemon is None:
            return 0
        daemon.send_signal(how)
        status = await asyncio.to_thread(daemon.wait)
        await asyncio.to_thread(self._listener.join)
        return status

    def require_daemon(self) -> None:
        """Raise ReconcilerError when a daemon that was started is no longer there."""
        if self._daemon is not None and self._daemon.poll() is not None:
            raise ReconcilerError(f"the daemon ended by itself: {self.said[-1:] or 'it said nothing'}")

    def page(self, since: int = 0) -> str:
        """Return the address of the operators' page, as the daemon has said it since line `since`; empty: not yet."""
        said = self.heard(since, event="listening")
        return f"{said[-1]['address']}/" if said else ""

    def _listen(self, daemon: "subprocess.Popen[bytes]") -> None:
        assert daemon.stderr is not None
        for line in daemon.stderr:
            try:
                self.said.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                self.said.append({"event": line.decode(errors="replace").rstrip()})
        daemon.stderr.close()

    def heard(self, since: int = 0, **wanted: str) -> list[dict[str, Any]]:
        """Return what the daemon has said since line `since` with these members."""
        return [line for line in self.said[since:] if all(line.get(name) == value for name, value in wanted.items())]

    async def until(self, done: Callable[[], Any], what: str, timeout_s: float = 20.0) -> Any:
        """Wait until `done()` is truthy and return that; an awaitable result is awaited first."""
        give_up_s = self._clock.monotonic_s() + timeout_s
        while True:
            result = done()
            if asyncio.iscoroutine(result):
                result = await result
            if result:
                return result
            self.require_daemon()
            if self._clock.monotonic_s() > give_up_s:
                raise ReconcilerError(f"waited {timeout_s:.0f} s in vain for {what}; its log is in {self.folder}")
            await self._clock.sleep(_LOOK_S)

    # ----------------------------------------------------------------------------------------------------------- store

    async def store(self) -> Store:
        """Return the daemon's store, opened beside it for reading."""
        if self._store is None:
            self._store = await factory.open_store(self.config, owner=False)
        return self._store

    async def counts(self) -> dict[Status, int]:
        """Return how many documents stand where."""
        return dict(await (await self.store()).counts())

    async def settled(self, documents: int) -> bool:
        """Whether the log has been folded and every document is agreed, or waits for a person."""
        if self._log is None or not await factory.store_admin(self.config).exists():
            return False
        store = await self.store()
        counts = await store.counts()
        positions = await store.positions()
        folded = sum(offset for place, offset in positions.items() if place.topic in self.config.log.read_topics)
        return folded == self.appended and counts.get(Status.SYNCED, 0) + counts.get(Status.HELD, 0) >= documents

    # ----------------------------------------------------------------------------------------------------------- events

    async def emit(self, events: Iterable[tuple[str, dict[str, Any]]]) -> int:
        """Append change events, `(document, data)` each, as an ERP system would; return how many."""
        assert self._log is not None
        records = []
        for document, data in events:
            event = {
                "specversion": "1.0",
                "id": f"demo-{next(self._numbers):05d}",
                "source": "//erp/demo",
                "type": decode.CHANGED,
                "subject": document,
                "time": instant.from_us(self._clock.now_us()),
                "datacontenttype": "application/json",
                "data": data,
            }
            records.append(Outgoing(self.config.log.topic, document.encode(), orjson.dumps(event), _CONTENT_TYPE))
        await self._append(records)
        return len(records)

    async def emit_raw(self, key: str, value: bytes) -> None:
        """Append whatever bytes, as a broken producer would."""
        await self._append([Outgoing(self.config.log.topic, key.encode(), value)])

    async def _append(self, records: list[Outgoing]) -> None:
        assert self._log is not None
        await self._log.append(records)
        self.appended += len(records)

    # -------------------------------------------------------------------------------------------------------- windchill

    async def control(self, method: str, path: str, body: object = None) -> Any:
        """Ask the simulator's control API."""
        return await asyncio.to_thread(self._ask, method, "/_control/" + path, body)

    async def document(self, key: str) -> dict[str, Any]:
        """Return a document as Windchill shows it."""
        shown: dict[str, Any] = (await self.control("GET", f"documents/{key}"))["document"]
        return shown

    async def user_edits(self, key: str, user: str, fields: dict[str, Any]) -> None:
        """Let a person edit a document in Windchill."""
        await self.control("POST", "edit", {"document": key, "user": user, "set": fields})

    async def history(self) -> list[history.Entry]:
        """Return every write that Windchill accepted, as it remembers them itself."""
        entries: list[history.Entry] = []
        while True:
            after = entries[-1].sequence if entries else 0
            page = (await self.control("GET", f"history?after={after}"))["items"]
            if not page:
                return entries
            entries += [history.from_json(entry) for entry in page]

    def _ask(self, method: str, path: str, body: object) -> Any:
        content = None if body is None else orjson.dumps(body)
        request = urllib.request.Request(  # noqa: S310 - our own simulator's address
            self._simulator.url + path, content, {"content-type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - likewise
            return orjson.loads(reply.read() or b"null")
