"""
The demonstration of several replicas: three of them share the work, and one after another is lost.

What is printed was seen: in the replicas' logs, in their store on PostgreSQL, or in the simulated Windchill's own
history.
"""

import asyncio
import signal
from collections import Counter
from pathlib import Path

from reconciler.adapters.clock import SystemClock
from reconciler.cli.demo import playground
from reconciler.cli.demo.database import Database
from reconciler.cli.demo.scenes import DemoOptions
from reconciler.cli.demo.stage import Properties, Stage, run
from reconciler.cli.demo.telling import US, Telling
from reconciler.errors import ReconcilerError
from reconciler.model.document import Status
from reconciler.simulator import history

_A, _B, _C = _ALL = ("A", "B", "C")
_DOCUMENTS = 120
_KEYS = [f"{number:010d}" for number in range(1, _DOCUMENTS + 1)]
_PARTITIONS = 6
_IN_FLIGHT_MAX = 6
_ANSWER_MS = 120  # Windchill's: slow enough that there is a middle of the work
_TIMEOUT_S = 4.0  # so long may a dead replica's request still be in flight, and its share of them is not given away
_PATIENCE_S = 90.0  # a busy machine takes some times as long as a quiet one
_EVICT_S, _SESSION_S = 3, 6  # the shortest that the configuration allows; the defaults are 15 and 30
_SETTINGS = """\
[store]
url = "{url}"
evict_s = {evict_s}                # the shortest allowed, so that you need not wait for long; by default 15

"""


class Replication(Telling):
    """The acts in order."""

    def __init__(self, folder: Path, options: DemoOptions) -> None:
        super().__init__()
        self._folder = folder
        self._options = options
        self._clock = SystemClock()
        self._turn = 0

    async def run(self) -> None:
        """Play it; raises ReconcilerError when something did not happen as it must."""
        playground.end_on_signals()
        acts = (self._share, self._kill, self._freeze, self._leave)
        with Database() as self._database:
            properties = Properties(
                documents=_DOCUMENTS,
                settings=_SETTINGS.format(url=self._database.url, evict_s=_EVICT_S),
                session_s=_SESSION_S,
                partitions=_PARTITIONS,
                groups=True,
                in_flight_max=_IN_FLIGHT_MAX,
                timeout_s=_TIMEOUT_S,
                interval_s=60,
            )
            async with Stage(self._folder, properties) as stage:
                self._out.print("[bold]Windchill metadata reconciler[/]: three replicas on this machine")
                self._out.print(f"  Kafka-protocol broker  {stage.broker}  ({_PARTITIONS} partitions)")
                self._out.print(f"  simulated Windchill    {stage.windchill}  ({_DOCUMENTS} documents)")
                self._out.print(f"  state store            {self._database.url}")
                await stage.control("PUT", "faults", {"slow_ms": _ANSWER_MS})
                for act in acts[: self._options.acts]:
                    await act(stage)
                if self._options.stay:
                    await self._stay(stage)
                await self._summary(stage)
        program = playground.program_name()
        self._out.print("[bold]Try next[/]")
        if not self._options.stay:
            self._command(f"{program} demo --replicas --stay".ljust(44) + "# and kill some yourself")
        self._out.print("  docs/scaling.md says when to use several replicas, and how to get there")

    # ------------------------------------------------------------------------------------------------------------ acts

    async def _share(self, stage: Stage) -> None:
        self._title("Three replicas share one store, and divide the log")
        await run("store", "migrate", "-c", str(stage.config_file))
        self._command("reconciler store migrate        # makes the schema in the empty database")
        pids = {name: stage.start_daemon(name) for name in _ALL}
        await stage.until(lambda: self._divided(stage, _ALL), "the replicas", _PATIENCE_S)
        for name in _ALL:
            self._command(f"reconciler run                  # {name}, process {pids[name]}, slot {_slot(stage, name)}")
        events = await self._emit(stage, 3)
        await self._settled(stage, "the first load")
        for name in _ALL:
            written = len({line["document"] for line in stage.heard(replica=name, result="written")})
            self._say(f"{name} reads {_partitions(stage, name)}, and brought {written} documents to Windchill")
        stats = await stage.control("GET", "stats")
        self._say(
            f"{events} events are in Windchill; all three together never had more than"
            f" {stats['crowding']['in_flight']} requests at one time (in_flight_max is {_IN_FLIGHT_MAX})"
        )

    async def _kill(self, stage: Stage) -> None:
        self._title("kill -9 one of three in the middle of the work, while people edit")
        rivals = {"per_second": 15, "documents": _KEYS[:40], "fields": ["title", "attributes.Project"]}
        await stage.control("PUT", "rivals", rivals)
        since = len(stage.said)
        await self._begin_work(stage, since)
        slot = _slot(stage, _A)
        await stage.stop_daemon(signal.SIGKILL, _A)
        began_s = self._clock.monotonic_s()
        orphans = await self._held_by(slot)
        self._say(f"A is dead. It was at work on {len(orphans)} documents: no other replica may touch these yet")
        more = await self._emit(stage, 1)
        self._say(f"{more} more events arrive; also in the partitions that A read, and no one reads now")
        await stage.until(lambda: stage.heard(since, event=_SILENT, slot=slot), "A's end to be noticed", _PATIENCE_S)
        self._say(f"after {self._since(began_s)} the others took A for dead: it gave no sign of life for {_EVICT_S} s")
        await stage.until(
            lambda: orphans <= {line["document"] for line in stage.heard(since) if _ended_by(line, {_B, _C})},
            "A's documents",
            _PATIENCE_S,
        )
        self._say(f"after {self._since(began_s)} all {len(orphans)} of them had been taken up by B or C")
        await stage.until(lambda: self._divided(stage, (_B, _C)), "A's partitions", _PATIENCE_S)
        self._say(f"after {self._since(began_s)} Kafka had given A's partitions to B and C")
        await self._settled(stage, "the takeover")
        await stage.control("PUT", "rivals", {"per_second": 0})
        self._say(f"after {self._since(began_s)} every event was in Windchill, and every edit was still there")

    async def _freeze(self, stage: Stage) -> None:
        self._title("A replica hangs, is taken for dead, and wakes up")
        await self._start_again(stage, _A)
        await stage.until(lambda: self._divided(stage, _ALL), "A's share of the log", _PATIENCE_S)
        self._say("A is started again, and is one of three at once; now it is B's turn")
        since = len(stage.said)
        await self._begin_work(stage, since)
        slot = _slot(stage, _B)
        stage.send(signal.SIGSTOP, _B)
        held = await self._held_by(slot)
        self._say(
            f"B is stopped (SIGSTOP) with {len(held)} documents in its hands, like a virtual machine that is moved"
        )
        await stage.until(lambda: stage.heard(since, event=_SILENT, slot=slot), "B's silence", _PATIENCE_S)
        await self._settled(stage, "B's work")
        self._say("the others did its work; now B wakes up (SIGCONT) and still believes that it is in the middle of it")
        woken = len(stage.said)
        stage.send(signal.SIGCONT, _B)
        status = await stage.end_of_daemon(_B)
        wrote = stage.heard(woken, replica=_B, result="written")
        if wrote or not status:
            raise ReconcilerError(f"a replica that was taken for dead went on: status {status}, wrote {wrote}")
        self._say(f"it sends nothing to Windchill, stores nothing, and ends with exit status {status}")

    async def _leave(self, stage: Stage) -> None:
        self._title("One is stopped in good order (SIGTERM), as in a rollout")
        since = len(stage.said)
        await self._begin_work(stage, since)
        slot = _slot(stage, _C)
        began_s = self._clock.monotonic_s()
        status = await stage.stop_daemon(signal.SIGTERM, _C)
        took = self._since(began_s)
        left = len(await self._held_by(slot))
        if status or left:
            raise ReconcilerError(f"a stopped replica left {left} documents behind, status {status}")
        self._say(f"C finished what it had begun, gave back the rest and ended after {took}: no one had to wait for it")
        await self._settled(stage, "the rest")
        self._say("A did the rest")

    # --------------------------------------------------------------------------------------------------------- summary

    async def _summary(self, stage: Stage) -> None:
        statuses = await stage.stop_daemons()
        entries = await stage.history()
        ours = [entry for entry in entries if entry.who == US and entry.kind == "rest"]
        lost, wrong = history.lost_updates(entries, US), await stage.differing()
        counts = await stage.counts()
        verified = await run("audit", "verify", "-c", str(stage.config_file))
        chains = sum(line.startswith("Chain ") for line in verified.splitlines())
        self._figures(
            [
                ("events in the log", stage.appended),
                ("edits by other users", len([entry for entry in entries if entry.who != US])),
                ("writes by the replicas", len(ours)),
                ("  of them without a guard", len(history.unguarded(ours))),
                ("documents agreed / held", f"{counts.get(Status.SYNCED, 0)} / {counts.get(Status.HELD, 0)}"),
                ("documents that differ from what was decided", len(wrong)),
                ("chains of the audit trail that were verified", chains or 1),
                ("exit statuses after SIGTERM", ", ".join(map(str, statuses))),
                ("updates lost", len(lost)),
            ]
        )
        if lost or wrong or history.unguarded(ours) or any(statuses):
            raise ReconcilerError(f"the demonstration failed: lost {lost}, wrong {wrong}, ended with {statuses}")

    async def _stay(self, stage: Stage) -> None:
        for name in sorted({*_ALL} - {*stage.names()}):
            await self._start_again(stage, name)
        left = playground.Playground(stage, _KEYS)
        self._out.print("\n[bold]Everything stays up[/], with an event every two seconds and a rival user now and then")
        for name in _ALL:
            page = stage.heard(event="listening", replica=name)[-1]["address"]
            self._out.print(f"  operators' page of {name}  {page}/  (process {stage.pid(name)})", soft_wrap=True)
        program, file = playground.program_name(), stage.config_file
        self._things_to_try(
            [
                (f"{program} doctor -c {file}", "who uses the store, and since when a replica is silent"),
                (f"{program} status -c {file}", "where everything stands"),
                (f"kill -9 {stage.pid(_A)}", "a replica dies; the demo starts it again after a while"),
            ]
        )
        self._say_until_when(self._options.stay_s)

        def look_after() -> None:
            """Start those again that someone has killed, as a supervisor would."""
            for name in stage.ended():
                stage.start_daemon(name)

        came_of_it = await left.live(self._options.stay_s, look_after)
        self._out.print(f"\n[bold]Ended[/]: {came_of_it}\n")

    # ------------------------------------------------------------------------------------------------------------ work

    async def _emit(self, stage: Stage, rounds: int) -> int:
        """Append events for every document, each with values that no other has."""
        turns = range(self._turn, self._turn + rounds)
        self._turn += rounds
        return await stage.emit(
            (key, {"set": {"attributes.Weight": turn + 0.5, "attributes.Note": f"turn {turn}"}})
            for turn in turns
            for key in _KEYS
        )

    async def _begin_work(self, stage: Stage, since: int) -> None:
        """Give all documents something to do, and wait for its middle."""
        await self._emit(stage, 2)
        await stage.until(lambda: len(stage.heard(since, result="written")) >= _DOCUMENTS // 4, "work", _PATIENCE_S)

    async def _settled(self, stage: Stage, what: str) -> None:
        await stage.until(lambda: stage.settled(_DOCUMENTS), what, _PATIENCE_S)

    async def _start_again(self, stage: Stage, name: str) -> None:
        """Start a replica, and wait until it is at work."""
        since = len(stage.said)
        stage.start_daemon(name)
        await stage.until(lambda: stage.heard(since, replica=name, event="started"), name, _PATIENCE_S)

    async def _held_by(self, slot: int) -> set[str]:
        """Return the documents that a slot has in its hands."""
        query = f"SELECT convert_from(key, 'UTF8') FROM document WHERE holder = {slot:d}"  # noqa: S608 - a number
        return set((await asyncio.to_thread(self._database.ask, query)).split())

    def _since(self, began_s: float) -> str:
        return f"{self._clock.monotonic_s() - began_s:.1f} s"

    def _divided(self, stage: Stage, names: tuple[str, ...]) -> bool:
        """Whether these replicas read all partitions of the change log, each partition once."""
        read = Counter(place for name in names for place in _places(stage, name))
        return len(read) == _PARTITIONS and set(read.values()) == {1} and all(_places(stage, name) for name in names)


_SILENT = "a replica is silent, and its work goes on elsewhere"


def _ended_by(line: dict[str, object], replicas: set[str]) -> bool:
    """Whether a line of the log is the end of an attempt by one of these replicas."""
    return line.get("replica") in replicas and "result" in line and "document" in line


def _slot(stage: Stage, name: str) -> int:
    """Return the slot of the store that a replica has."""
    return int(stage.heard(event="one of the store's replicas", replica=name)[-1]["slot"])


def _places(stage: Stage, name: str) -> list[int]:
    """Return the partitions of the change log that a replica reads."""
    shares = stage.heard(event="our share of the log", replica=name)
    topic = stage.config.log.topic
    said = [place.rpartition("/") for place in shares[-1]["partitions"]] if shares else []
    return sorted(int(number) for name, _, number in said if name == topic)


def _partitions(stage: Stage, name: str) -> str:
    places = [str(place) for place in _places(stage, name)]
    return f"partition {places[0]}" if len(places) == 1 else f"partitions {', '.join(places[:-1])} and {places[-1]}"
