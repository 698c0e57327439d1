"""
The demonstration, act by act: the real job with everything that goes wrong in real life.

What is printed was seen: in the daemon's log, in its store, or in the simulated Windchill's own history.
"""

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import attrs

from reconciler.cli.demo import playground
from reconciler.cli.demo.stage import Properties, Stage, run
from reconciler.cli.demo.telling import US, Telling
from reconciler.errors import ReconcilerError
from reconciler.model.document import Status
from reconciler.simulator import history

ACTS = 7
DOCUMENTS = 40
_CROWD = [f"{number:010d}" for number in range(1, 31)]  # rivals edit these all the time
_HOT, _OWNED, _CLASH, _POISONED, _TORN = (f"{number:010d}" for number in range(31, 36))
_ROUNDS = 10


@attrs.frozen(kw_only=True)
class DemoOptions:
    """How much is shown, and what is left afterwards."""

    keep: Path | None = None
    """The folder as the user named it, if it is to be kept."""
    acts: int = ACTS
    """How many acts, from the first."""
    stay: bool = False
    """Whether everything stays up after the summary."""
    stay_s: float | None = None
    """For how long; None: until someone ends it."""


class Demonstration(Telling):
    """The acts in order."""

    def __init__(self, folder: Path, options: DemoOptions) -> None:
        super().__init__()
        self._folder = folder
        self._options = options

    async def run(self) -> None:
        """Play it; raises ReconcilerError when something did not happen as it must."""
        playground.end_on_signals()
        acts = (self._first_load, self._rivals, self._conflict, self._owner, self._overlap, self._poison, self._kill)
        assert len(acts) == ACTS
        sqlite = f'[store]\nurl = "sqlite:///{self._folder.absolute()}/state.db"\n'
        async with Stage(self._folder, Properties(documents=DOCUMENTS, settings=sqlite)) as stage:
            self._out.print("[bold]Windchill metadata reconciler[/]: a demonstration on this machine")
            self._out.print(f"  Kafka-protocol broker  {stage.broker}")
            self._out.print(f"  simulated Windchill    {stage.windchill}  ({DOCUMENTS} documents)")
            self._out.print("  state store            state.db (SQLite)")
            for act in acts[: self._options.acts]:
                await act(stage)
            await self._summary(stage)
            if self._options.stay:
                await self._stay(stage)
        self._next()

    # ------------------------------------------------------------------------------------------------------------ acts

    async def _first_load(self, stage: Stage) -> None:
        self._title("Events fold into desired state, documents converge")
        keys = [f"{number:010d}" for number in range(1, DOCUMENTS + 1)]
        events = await stage.emit(
            (key, {"set": {"status": status, "attributes.CostCenter": f"{4700 + turn}", "owner": "jdoe"}})
            for turn, status in enumerate(("INWORK", "INREVIEW", "RELEASED", "INREVIEW", "RELEASED"))
            for key in keys
        )
        stage.start_daemon()
        self._say(f"the reconciler runs; operators' page: {await stage.until(stage.page, 'the page')}")
        await stage.until(lambda: stage.settled(DOCUMENTS), "the first load")
        stats = await stage.control("GET", "stats")
        patches = sum(stats["requests"].get("PATCH", {}).values())
        self._say(f"{events} events appended to the log, folded into {DOCUMENTS} documents")
        self._say(f"Windchill agrees after {patches} PATCHes: five events on a document cost one write")

    async def _rivals(self, stage: Stage) -> None:
        self._title("Rival users edit the same documents all the while")
        rivals = {"per_second": 25, "documents": _CROWD, "fields": ["title", "attributes.Project"]}
        await stage.control("PUT", "rivals", rivals)
        since, events = len(stage.said), 0
        for turn in range(_ROUNDS):
            events += await stage.emit((key, {"set": {"attributes.Weight": turn + 0.5}}) for key in _CROWD)
            await stage.until(lambda: stage.settled(DOCUMENTS), "the crowd")
        await stage.control("PUT", "rivals", {"per_second": 0})
        edits = sum(1 for entry in await stage.history() if entry.kind == "rival")
        conflicts = Counter(line["document"] for line in stage.heard(since, result="version_conflict"))
        self._say(f"{events} more events against {edits} edits by rivals, all of them applied")
        self._say(f"{conflicts.total()} version conflicts (409), each read and decided again")

    async def _conflict(self, stage: Stage) -> None:
        self._title("A 409 Conflict, step by step")
        await stage.control("POST", "script", {"document": _HOT, "method": "PATCH", "faults": ["version_conflict"]})
        since = len(stage.said)
        await stage.emit([(_HOT, {"set": {"status": "INWORK"}})])
        await stage.until(lambda: stage.heard(since, document=_HOT, result="version_conflict"), "the conflict")
        written = await stage.until(lambda: stage.heard(since, document=_HOT, result="written"), "the second attempt")
        rival = [entry for entry in await stage.history() if entry.document == _HOT and entry.who != US][-1]
        self._say(f"{rival.who} changed {_fields(rival)} of {_HOT} just before our PATCH: 409")
        self._say(f"nothing was applied; read and decided again, wrote {', '.join(written[0]['fields'])}: both stand")

    async def _owner(self, stage: Stage) -> None:
        self._title("A person's edit of the owner is preserved")
        await stage.user_edits(_OWNED, "akim", {"owner": "akim"})
        since = len(stage.said)
        await stage.emit([(_OWNED, {"set": {"status": "CANCELLED"}})])
        await stage.until(lambda: stage.heard(since, document=_OWNED, result="written"), "the write")
        shown = await stage.document(_OWNED)
        self._say("log: owner = jdoe, status = CANCELLED; meanwhile akim takes it over")
        self._say(f"Windchill: owner = {shown['owner']} (hers), status = {shown['status']} (the log's)")

    async def _overlap(self, stage: Stage) -> None:
        self._title("A real overlap is held for a person, everything else goes out")
        since = len(stage.said)
        await stage.user_edits(_CLASH, "mrossi", {"attributes.CostCenter": "9999"})
        await stage.emit([(_CLASH, {"set": {"attributes.CostCenter": "4720", "status": "INWORK"}})])
        await stage.until(lambda: stage.heard(since, document=_CLASH, status="held"), "the overlap to be held")
        store = await stage.store()
        [row] = [row for row in await store.conflicts() if row.document == _CLASH]
        conflict = row.conflict
        self._say(f"{conflict.field} was {conflict.base}; log: {conflict.desired}, mrossi: {conflict.live}")
        self._say(f"conflict {conflict.id} opened, status went out; an operator settles the rest:")
        command = (
            "conflicts",
            "resolve",
            conflict.id,
            "--take",
            "live",
            "--actor",
            "you",
            "-c",
            str(stage.config_file),
        )
        self._command("reconciler conflicts resolve " + conflict.id + " --take live")
        await run(*command)
        stage.appended += 1
        await stage.until(
            lambda: [line for line in stage.said[since:] if conflict.id in (line.get("closed") or ())], "the resolution"
        )
        shown = await stage.document(_CLASH)
        self._say(f"resolved: {conflict.field} = {shown['attributes']['CostCenter']}, by an event like any other")

    async def _poison(self, stage: Stage) -> None:
        self._title("A poison event does not stop the others")
        since = len(stage.said)
        await stage.emit_raw(_POISONED, b'{"specversion":"1.0","type":"windchill.document.changed.v1","oops":')
        await stage.emit([(_POISONED, {"sett": {"status": "INWORK"}}), (_POISONED, {"set": {"status": "INWORK"}})])
        await stage.until(lambda: stage.heard(since, document=_POISONED, result="written"), "the good event")
        for line in stage.heard(since, event="event refused"):
            self._say(f"dead letter {line['letter']}: {line['reason']}")
        self._say("both are kept whole; the good event behind them is in Windchill")

    async def _kill(self, stage: Stage) -> None:
        self._title("kill -9 in the middle of the work, with replies getting lost")
        await stage.control("PUT", "faults", {"lost_reply": 0.15, "unavailable": 0.1, "retry_after_s": 0})
        before = since = len(stage.said)
        events = await stage.emit(
            (key, {"set": {"status": "RELEASED", "attributes.Note": f"release {turn}"}})
            for turn in range(_ROUNDS)
            for key in _CROWD
        )
        await stage.until(lambda: len(stage.heard(since, result="written")) >= len(_CROWD) // 3, "work to interrupt")
        await stage.stop_daemon(signal.SIGKILL)
        store = await stage.store()
        pending = (await store.counts()).get(Status.PENDING, 0)
        self._say(f"{events} events appended; killed with {pending} documents unsettled")
        since = len(stage.said)
        pid = stage.start_daemon()
        await stage.until(lambda: stage.settled(DOCUMENTS), "the recovery", 40.0)
        await stage.control("PUT", "faults", {})
        lost = len(stage.heard(before, result="unknown"))
        self._say(f"restarted as process {pid}: all settled; {lost} lost replies were read back")

    # --------------------------------------------------------------------------------------------------------- summary

    async def _summary(self, stage: Stage) -> None:
        status = await stage.stop_daemon(signal.SIGTERM)
        entries = await stage.history()
        stats = await stage.control("GET", "stats")
        ours = [entry for entry in entries if entry.who == US and entry.kind == "rest"]
        lost = history.lost_updates(entries, US)
        store = await stage.store()
        counts = await store.counts()
        wrong = await stage.differing()
        rows: list[tuple[str, object]] = [
            ("events in the log", stage.appended),
            ("edits by other users", len([entry for entry in entries if entry.who != US])),
            ("writes by the reconciler", len(ours)),
            ("  of them without a guard", len(history.unguarded(ours))),
            ("  of them that changed nothing", len([entry for entry in ours if not entry.changes])),
            ("version conflicts met (409)", stats["refusals"].get("version_conflict", 0)),
            ("documents agreed / held", f"{counts.get(Status.SYNCED, 0)} / {counts.get(Status.HELD, 0)}"),
            ("documents that differ from what was decided", len(wrong)),
            ("dead letters", await store.count_dead_letters()),
            ("daemon's exit status after SIGTERM", status),
            ("updates lost", len(lost)),
        ]
        self._figures(rows)
        if lost or wrong or history.unguarded(ours):
            raise ReconcilerError(f"the demonstration failed: lost {lost}, wrong {wrong}")

    async def _stay(self, stage: Stage) -> None:
        left = playground.Playground(stage, _CROWD)
        await left.prepare(_TORN)
        self._out.print("[bold]Everything stays up[/], with an event every two seconds and a rival user now and then")
        self._out.print(f"  operators' page  {left.page}", soft_wrap=True)
        self._out.print(f"  waiting for you  conflict {left.conflict} on {_TORN}, and a dead letter")
        self._things_to_try(playground.things_to_try(stage, left.conflict, _TORN))
        self._say_until_when(self._options.stay_s)
        came_of_it = await left.live(self._options.stay_s, stage.require_daemon)
        self._out.print(f"\n[bold]Ended[/]: {came_of_it}\n")

    def _next(self) -> None:
        self._out.print("[bold]Try next[/]")
        program = playground.program_name()
        if self._options.keep is None:
            if not self._options.stay:
                self._command(f"{program} demo --stay".ljust(44) + "# leave it all up, to play with")
            self._command(f"{program} demo --keep ./demo".ljust(44) + "# keep what it leaves, to look at")
            return
        file = self._options.keep / "reconciler.toml"
        for command, comment in (
            ("status", "where everything stands"),
            (f"explain {_CLASH}", "why each field has its value"),
            ("audit list --document " + _HOT, "every decision on one document"),
            ("dead-letters list", "what could not be used, and why"),
        ):
            self._command(f"{program} {command} -c {file}".ljust(66) + f"# {comment}")


def _fields(entry: Any) -> str:
    return ", ".join(entry.changes)
