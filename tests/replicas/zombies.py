"""
One replica that falls asleep at a chosen point, another one that takes its place, and what the world sees of both.

A story has a store, a log and a Windchill of its own, so several can be told at the same time: they mostly wait.
"""

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs

from reconciler.model import instant
from reconciler.simulator import history
from reconciler.simulator.validation import chosen
from reconciler.simulator.wrs.options import Wrs
from tests import postgres
from tests.adapters.simulated import Simulated, simulating
from tests.cli.program import Program, event
from tests.crash.launch import Launcher
from tests.crash.strikes import Strike
from tests.patience import HANG_S

ME, KEY = "integration", "0000000001"
ZOMBIE, OTHER = "zombie", "other"
NOBODY, A_PERSON, THE_OTHER = "nobody", "a person", "the other one"
_LOOK_S = 0.3
_HOLD = """\
[[policy]]
fields = ["owner", "Owner", "State"]
strategy = "hold"
[[policy]]
"""
_WRS = """\
dialect = "wrs"
base_url = "{url}/Windchill/servlet/odata"
account = "Integration, Reconciler"
checkin_interval_s = 0
"""
_VALUES = {"owner": ("akim", "lchen"), "Owner": ("akim", "lchen"), "State": ("INREVIEW", "INWORK")}


@attrs.frozen
class Story:
    """Where a replica sleeps, who moves the document meanwhile, and what is to be seen once it has woken and ended."""

    asleep: str  # the moment and the effect; nothing: when all is done
    moved_by: str
    ours: int  # accepted writes of ours
    field: str = "owner"
    number: int = 1  # of the effect's calls
    stranded: int = 0  # working copies that the zombie has left
    outcomes: tuple[int, ...] | None = None  # the numbers of the document's, in the order of the log

    @property
    def wrs(self) -> bool:
        return self.field != "owner"

    def __str__(self) -> str:
        dialect = "wrs" if self.wrs else "documents"
        return f"{dialect}, {self.asleep or 'at rest'} {self.number}, moved by {self.moved_by}"


class Pair:
    """Two warm processes, for the replicas of one story after the other."""

    def __init__(self, mutant: str | None = None) -> None:
        self._launchers = {name: Launcher(Path(), name, mutant) for name in (ZOMBIE, OTHER)}
        self._pids: dict[str, int] = {}

    def start(self, name: str, program: Program, strike: Strike | None = None) -> int:
        launcher = self._launchers[name]
        launcher.folder = program.folder
        self._pids[name] = launcher.start(["run", "-c", str(program.config)], strike and attrs.asdict(strike))
        return self._pids[name]

    def is_alive(self, name: str) -> bool:
        """Whether it runs; nobody has waited for its end yet."""
        return "Z (zombie)" not in self._status(name)

    def is_asleep(self, name: str) -> bool:
        """Whether it has come to its strike."""
        return "T (stopped)" in self._status(name)

    def _status(self, name: str) -> str:
        path = Path(f"/proc/{self._pids[name]}/status")
        return path.read_text() if path.exists() else "Z (zombie)"

    def end(self, name: str, number: signal.Signals) -> tuple[int, str]:
        """Send a signal, and wait for the end: its status, and what was said."""
        launcher = self._launchers[name]
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.kill(self._pids.pop(name), number)
        return launcher.wait(), launcher.stderr.read_text()

    def kill(self) -> None:
        """End what is left of a story."""
        for name in [*self._pids]:
            self.end(name, signal.SIGKILL)

    def close(self) -> None:
        self.kill()
        for launcher in self._launchers.values():
            launcher.close()


def tell(story: Story, folder: Path, server: postgres.Server, pair: Pair) -> None:
    """Let it happen; raises AssertionError if the world sees anything but what it should."""
    with ExitStack() as stack:
        stack.callback(pair.kill)
        wrs = chosen(Wrs(), {"display_names": {ME: "Integration, Reconciler"}})
        windchill = stack.enter_context(simulating(documents=3, wrs=wrs))
        program, url = Program(folder, windchill.url, real=True), server.new()
        program.reconfigure(f'url = "sqlite:///{folder}/state.db"', f'url = "{url}"\nevict_s = 3')
        # A newcomer writes nothing while requests of a dead one may be in flight.
        program.reconfigure("[windchill]", "[windchill]\ntimeout_s = 3")
        program.reconfigure("[retry]", "[resync]\ninterval_s = 2\n[retry]")
        program.reconfigure("[[policy]]\n", _HOLD)
        program.reconfigure('bind = "127.0.0.1:0"', 'bind = ""')
        if story.wrs:
            program.reconfigure(f'base_url = "{windchill.url}"', _WRS.format(url=windchill.url))
        _Telling(story, windchill, program, pair, lambda sql: server.sql(sql, url.rpartition("/")[2])).all()


@attrs.define(eq=False)
class _Telling:
    _story: Story
    _windchill: Simulated
    _program: Program
    _pair: Pair
    _sql: Callable[[str], str]

    def all(self) -> None:
        self._falls_asleep()
        self._is_followed()
        status, said = self._pair.end(ZOMBIE, signal.SIGCONT)
        assert (status, "no sign of life" in said) == (1, True), said
        assert len(self._ours()) == self._story.ours
        assert len(self._copies()) == self._story.stranded
        self._goes_on()
        if self._story.outcomes:
            self._comes_back()

    def _falls_asleep(self) -> None:
        moment, _, effect = self._story.asleep.partition(" ")
        strike = Strike(effect, moment, self._story.number, sleeps=True) if effect else None
        self._wants(0)
        zombie = self._pair.start(ZOMBIE, self._program, strike)
        if strike is None:
            _until(lambda: self._settled(0), "it is at rest")
            os.kill(zombie, signal.SIGSTOP)
        _until(lambda: self._pair.is_asleep(ZOMBIE), "it sleeps")

    def _is_followed(self) -> None:
        story, program = self._story, self._program
        if story.moved_by != THE_OTHER:  # it is not to write
            program.say("docs", "pause", KEY)
        self._pair.start(OTHER, program)
        _until(lambda: self._living() == 2, "the other one has begun")
        _until(lambda: self._living() == 1, "the sleeping one is taken for dead")
        _until(lambda: not self._copies(), "the other one has given up its lock")
        if story.moved_by == A_PERSON:
            self._windchill.edit({"title": "Cover"}, KEY)
        if story.moved_by == THE_OTHER:
            _until(lambda: self._settled(0), "the other one has done it")
        if story.outcomes:
            self._wants(1)
            _until(lambda: self._settled(1), "the other one has gone on")
            _until(lambda: self._is_told(1), "the other one has told of that")

    def _goes_on(self) -> None:
        program = self._program
        if self._story.moved_by != THE_OTHER:
            program.say("docs", "resume", KEY)
        if not self._story.outcomes:
            self._wants(0)  # the same once more, for the other one to look at once
            _until(lambda: self._settled(0), "it is settled")
            self._wants(1)
        _until(lambda: self._settled(1), "it goes on")
        _until(lambda: self._is_told(1), "all is told")
        assert self._pair.end(OTHER, signal.SIGTERM)[0] == 0
        assert len(self._ours()) == 2, "nothing was written twice"
        assert self._sql("SELECT count(*) FROM conflict") == "0", "none of ours passed for a person's edit"
        assert not self._copies(), "a lock is stranded"
        assert not history.lost_updates(self._windchill.whole_history(), ME)
        assert self._sql("SELECT count(*) FROM outbox") == "0", "something is left in the outbox"
        told = [int(one["sequence"]) for one in self._outcomes()]
        if self._story.outcomes:
            assert told == list(self._story.outcomes)
        assert list(dict.fromkeys(told)) == list(range(1, max(told) + 1)), "some are told again, but none is missing"
        program.say("audit", "verify")

    def _comes_back(self) -> None:
        """A store that is made anew from the logs knows what this one has agreed on, whatever came last."""
        program = self._program
        kept = self._base()
        program.config.write_text(
            re.sub('url = "postgresql.*', f'url = "sqlite:///{program.folder}/again.db"', program.config.read_text())
        )
        program.say("run", "--once")
        assert self._base() == kept
        assert len(self._ours()) == 2, "nothing is written for an old outcome"

    def _base(self) -> dict[str, Any]:
        fields = self._program.json("docs", "show", KEY)["fields"]
        return {one["field"]: one["base"] for one in fields}

    def _wants(self, place: int) -> None:
        """Let a system want the first or the second value."""
        now = instant.from_us(time.time_ns() // 1000)
        field = self._story.field
        self._program.append(event(KEY, "//erp/prod", {field: _VALUES[field][place]}, time=now))

    def _living(self) -> int:
        return int(self._sql("SELECT count(*) FROM slot WHERE held AND NOT leaving"))

    def _ours(self) -> list[history.Entry]:
        return [entry for entry in self._windchill.history(KEY) if entry.who == ME]

    def _copies(self) -> list[Any]:
        return list(self._windchill._control.get("/wrs/working-copies").json()["items"])

    def _outcomes(self) -> list[dict[str, Any]]:
        """What the log tells of the document."""
        path = self._program.folder / "events.outcomes.jsonl"
        events = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [one for one in events if one["type"].endswith("document.reconciled.v1")]

    def _is_told(self, place: int) -> bool:
        """Whether the log tells that the first or the second value was written."""
        field = self._story.field
        return any(one["data"]["written"].get(field) == _VALUES[field][place] for one in self._outcomes())

    def _settled(self, place: int) -> bool:
        """Whether Windchill shows the first or the second value, and that is known."""
        field = self._story.field
        shown = self._windchill.document(KEY)["status" if field == "State" else "owner"]
        return bool(shown == _VALUES[field][place] and self._sql("SELECT status FROM document") == "synced")


def _until(true: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + HANG_S
    while not true():
        assert time.monotonic() < end_s, f"waited in vain until {what}"
        time.sleep(_LOOK_S)
