"""
What `reconciler demo` starts: a broker, a simulated Windchill and daemons, each a process of its own on loopback.

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

import attrs
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
_CONTENT_TYPE = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
_CONFIG = """\
# Written by `reconciler demo`.
[log]
brokers = ["{broker}"]
session_s = {session_s}

{settings}
[windchill]
base_url = "{windchill}"
in_flight_max = {in_flight_max}
timeout_s = {timeout_s}

[admin]
bind = "127.0.0.1:0"

[retry]                    # everything a little faster than usual, so that there is something to see
backoff_base_s = 0.3

[resync]
interval_s = {interval_s}

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


@attrs.frozen(kw_only=True)
class Properties:
    """What one demonstration has that another has not. `settings` are the first lines of its configuration."""

    documents: int
    settings: str
    partitions: int = 2
    groups: bool = False  # whether several members share the consumer group
    session_s: int = 30
    in_flight_max: int = 16
    timeout_s: float = 30.0
    interval_s: float = 3.0


class Stage:
    """Everything that the demo needs, started and stopped together. An async context manager."""

    def __init__(self, folder: Path, properties: Properties) -> None:
        self.folder = folder
        self.said: list[dict[str, Any]] = []  # the daemons' logs, oldest first; `replica` says whose
        self._properties = properties
        self._broker = broker.Broker(groups=properties.groups)
        self._simulator = Simulator(Settings(port=0, documents=properties.documents, seed=7))
        self._clock = SystemClock()
        self._numbers = itertools.count(1)
        self.appended = 0  # records in the change log
        self._daemons: dict[str, tuple[subprocess.Popen[bytes], threading.Thread]] = {}  # with who listens to it
        self._log: EventLog | None = None
        self._store: Store | None = None

    async def __aenter__(self) -> Self:
        try:
            self._broker.start()
            self._simulator.start()
            self.config_file = self.folder / "reconciler.toml"
            text = _CONFIG.format(
                broker=self._broker.brokers[0],
                session_s=self._properties.session_s,
                settings=self._properties.settings,
                windchill=self._simulator.url,
                in_flight_max=self._properties.in_flight_max,
                timeout_s=self._properties.timeout_s,
                interval_s=self._properties.interval_s,
            )
            self.config_file.write_text(text)
            self.config = config.load(self.config_file, {})
            log = self.config.log
            for topic in (*log.read_topics, log.outcomes_topic, log.dead_letter_topic):
                self._broker.make_topic(topic, self._properties.partitions)
            self._log = factory.make_log(self.config, self._clock)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in [*self._daemons]:
            await self.stop_daemon(signal.SIGKILL, name)
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

    def start_daemon(self, name: str = "") -> int:
        """Start `reconciler run` and return its process id. `name` tells several apart."""
        daemon = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "reconciler", "run", "-c", str(self.config_file), "--log-level", "debug"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the demo alone, which then ends everything in order
        )
        listener = threading.Thread(target=self._listen, args=(daemon, name), daemon=True)
        listener.start()
        self._daemons[name] = daemon, listener
        return daemon.pid

    def pid(self, name: str = "") -> int:
        """Return a daemon's process id."""
        return self._daemons[name][0].pid

    def send(self, how: signal.Signals, name: str = "") -> None:
        """Send a daemon a signal."""
        self._daemons[name][0].send_signal(how)

    async def stop_daemon(self, how: signal.Signals, name: str = "") -> int:
        """Send a daemon a signal and return its exit status."""
        if name not in self._daemons:
            return 0
        self.send(how, name)
        return await self.end_of_daemon(name)

    async def end_of_daemon(self, name: str = "") -> int:
        """Return a daemon's exit status, once it has ended."""
        daemon, listener = self._daemons.pop(name)
        status = await asyncio.to_thread(daemon.wait)
        await asyncio.to_thread(listener.join)
        return status

    async def stop_daemons(self) -> list[int]:
        """Stop all daemons in good order, and return their exit statuses."""
        for name in self._daemons:
            self.send(signal.SIGTERM, name)
        return [await self.end_of_daemon(name) for name in [*self._daemons]]

    def names(self) -> list[str]:
        """Return the names of the daemons that were started and not stopped."""
        return [*self._daemons]

    def ended(self) -> list[str]:
        """Return the names of the daemons that have ended by themselves."""
        return [name for name, (daemon, _) in self._daemons.items() if daemon.poll() is not None]

    def require_daemon(self) -> None:
        """Raise ReconcilerError when a daemon that was started is no longer there."""
        for name in self.ended():
            last = self.heard(replica=name)[-1:] or "it said nothing"
            raise ReconcilerError(f"the daemon ended by itself: {last}")

    def page(self, since: int = 0) -> str:
        """Return the address of the operators' page, as the daemon has said it since line `since`; empty: not yet."""
        said = self.heard(since, event="listening")
        return f"{said[-1]['address']}/" if said else ""

    def _listen(self, daemon: "subprocess.Popen[bytes]", name: str) -> None:
        assert daemon.stderr is not None
        for line in daemon.stderr:
            try:
                said = orjson.loads(line)
            except orjson.JSONDecodeError:
                said = {"event": line.decode(errors="replace").rstrip()}
            self.said.append({**said, "replica": name})
        daemon.stderr.close()

    def heard(self, since: int = 0, **wanted: object) -> list[dict[str, Any]]:
        """Return what the daemons have said since line `since` with these members."""
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

    async def differing(self) -> list[str]:
        """Return the documents in which Windchill shows something else than was last agreed."""
        store = await self.store()
        wrong = []
        for document in await store.list_documents(None, "", self._properties.documents):
            shown = (await self.document(document.key)).copy()
            flat = {**shown, **{f"attributes.{name}": value for name, value in shown["attributes"].items()}}
            held = {conflict.field for conflict in document.agreement.held}
            agreed = {name: field.value for name, field in document.agreement.base.fields.items() if name not in held}
            if not agreed or any(flat.get(name) != value for name, value in agreed.items()):
                wrong.append(document.key)
        return wrong

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


async def run(*arguments: str) -> str:
    """Run another of our commands, and return what it prints; raises ReconcilerError if it fails."""
    words = [sys.executable, "-m", "reconciler", *arguments]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    if process.returncode:
        raise ReconcilerError(f"`reconciler {' '.join(arguments)}` failed")
    return said.decode()
