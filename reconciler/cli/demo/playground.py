"""The demonstration left running after its summary: events and other users' edits go on, for people to try things."""

import asyncio
import itertools
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from reconciler.adapters.clock import SystemClock
from reconciler.cli.demo.stage import Stage
from reconciler.cli.demo.telling import US
from reconciler.simulator import history

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_EVERY_S = 2.0  # between two events: enough for the plots to move, and slow enough to follow
_RIVALS_PER_SECOND = 0.5
_STATES = ("INWORK", "INREVIEW", "RELEASED")


class Playground:
    """What goes on after the summary. `crowd` are the documents that live on."""

    def __init__(self, stage: Stage, crowd: list[str]) -> None:
        self._stage = stage
        self._crowd = crowd
        self._ended = asyncio.Event()
        self._clock = SystemClock()
        self.conflict = ""  # its id, once prepared
        self.page = ""  # the page's address, once prepared

    async def prepare(self, torn: str) -> None:
        """Leave a conflict on the document `torn` and a dead letter to play with, and start the daemon on them."""
        stage = self._stage
        # While no daemon looks, so that it meets both changes at once: then it can't take one for agreed.
        await stage.user_edits(torn, "mrossi", {"attributes.CostCenter": "8888"})
        await stage.emit([(torn, {"set": {"attributes.CostCenter": "4730"}})])
        await stage.emit([(torn, {"sett": {"attributes.CostCenter": "4731"}})])  # `sett` is unknown
        since = len(stage.said)
        stage.start_daemon()
        await stage.until(lambda: stage.page(since), "the page")
        await stage.until(lambda: stage.heard(since, document=torn, status="held"), "the conflict")
        await stage.until(lambda: stage.heard(since, event="event refused"), "the dead letter")
        self.page = stage.page(since)
        store = await stage.store()
        [self.conflict] = [row.conflict.id for row in await store.conflicts() if row.document == torn]

    async def live(self, seconds: float | None, look_after: Callable[[], None]) -> str:
        """Go on until a signal or the time; `look_after` the daemons. Return what came of it, in a sentence."""
        loop = asyncio.get_running_loop()
        for number in _ENDING:
            loop.add_signal_handler(number, self._ended.set)
        stage, until_s = self._stage, None if seconds is None else self._clock.monotonic_s() + seconds
        before, appended = len(await stage.history()), stage.appended
        rivals = {"per_second": _RIVALS_PER_SECOND, "documents": self._crowd, "fields": ["title", "attributes.Project"]}
        await stage.control("PUT", "rivals", rivals)
        for turn in itertools.count():
            left_s = _EVERY_S if until_s is None else min(_EVERY_S, until_s - self._clock.monotonic_s())
            if left_s > 0:
                await self._clock.wait(self._ended, left_s)
            if self._ended.is_set() or left_s <= 0:
                break
            look_after()
            await stage.emit([(self._crowd[turn * 7 % len(self._crowd)], {"set": _changes(turn)})])
        await stage.control("PUT", "rivals", {"per_second": 0})
        await stage.stop_daemons()
        entries = await stage.history()
        lost = len(history.lost_updates(entries, US))
        return (
            f"{stage.appended - appended} more events, {len(entries) - before} more writes and edits in Windchill,"
            f" {lost} updates lost"
        )


def things_to_try(stage: Stage, conflict: str, torn: str) -> list[tuple[str, str]]:
    """Return commands that can be typed while it stays, and what each is for."""
    program, file = program_name(), stage.config_file
    return [
        (f"{program} {command} -c {file}", comment)
        for command, comment in (
            ("status", "where everything stands"),
            (f"explain {torn}", "why each field has its value"),
            (f"conflicts resolve {conflict} --take live", "settle what is held"),
            ("dead-letters list", "what could not be used, and why"),
            ("emit 0000000001 --set owner=you", "an event of your own"),
            ("hotspots", "where people collide with us"),
        )
    ]


def program_name() -> str:
    """Return how this program can be called from the shell that called it."""
    if shutil.which("reconciler"):
        return "reconciler"
    called = Path(sys.argv[0])
    return str(called) if called.name == "reconciler" else f"{sys.executable} -m reconciler"


def end_on_signals() -> None:
    """
    Let SIGTERM and SIGHUP cancel the current task, once, so that it takes its processes with it.

    SIGINT does so of itself.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def cancel() -> None:
        for number in _ENDING[1:]:
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    for number in _ENDING[1:]:
        loop.add_signal_handler(number, cancel)


def _changes(turn: int) -> dict[str, object]:
    if turn % 3 == 0:
        return {"status": _STATES[turn // 3 % len(_STATES)]}
    return {"attributes.Weight": 20 + turn / 2}
