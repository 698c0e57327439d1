"""One document's trouble is its own: whatever the sick ones answer, the healthy ones are written soon."""

import random
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from reconciler.model.answer import Broken, Failed, ReadAnswer, Throttled, Trouble, Unknown, WriteAnswer
from reconciler.model.document import Lane, Status
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import Clock, Journal
from reconciler.web.probes import Health
from tests.fakes.memory_windchill import MemoryWindchill
from tests.flows.world import BODY, World

MINUTES_3_S = 180.0
ANSWER_S = 0.05
TIMEOUT_S = 30.0
THROTTLED = Throttled(503, "come back later", 3600.0)


class Ward(MemoryWindchill):
    """A Windchill some of whose documents are sick: they give `answer`, after `takes_s`."""

    def __init__(self, clock: Clock, keys: list[str]) -> None:
        super().__init__(dict.fromkeys(keys, BODY), now_us=clock.now_us)
        self.clock = clock
        self.sick: set[str] = set()
        self.answer: Trouble | Unknown = THROTTLED
        self.takes_s = ANSWER_S
        self.writes_only = False
        self.asked: list[tuple[float, str]] = []
        self.under_way = self.most = 0

    async def read(self, key: str, known: Snapshot | None = None) -> ReadAnswer:
        answer = await self._asked(key, sick=key in self.sick and not self.writes_only)
        if isinstance(answer, Unknown):
            return Failed(answer.message)
        return await super().read(key, known) if answer is None else answer

    async def write(
        self, snapshot: Snapshot, fields: Mapping[str, Json], *, token: Token, journal: Journal
    ) -> WriteAnswer:
        answer = await self._asked(snapshot.key, sick=snapshot.key in self.sick)
        return await super().write(snapshot, fields, token=token, journal=journal) if answer is None else answer

    async def _asked(self, key: str, *, sick: bool) -> Trouble | Unknown | None:
        self.asked.append((self.clock.monotonic_s(), key))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.clock.sleep(self.takes_s if sick else ANSWER_S)
        finally:
            self.under_way -= 1
        return self.answer if sick else None

    @property
    def well(self) -> list[str]:
        return [key for key in self._versions if key not in self.sick]


def wards(sick: int, healthy: int, sequence: str) -> list[str]:
    """Who is sick ("s") and who is not ("h"), in the order in which they come due."""
    match sequence:
        case "the sick first":
            return ["s"] * sick + ["h"] * healthy
        case "the sick last":
            return ["h"] * healthy + ["s"] * sick
        case "the healthy in the middle":
            return ["s"] * (sick // 2) + ["h"] * healthy + ["s"] * (sick - sick // 2)
        case _:
            return random.Random(sequence).sample(["s", "h"], counts=[sick, healthy], k=sick + healthy)


def ward(sick: int, healthy: int, sequence: str, **given: Any) -> tuple[World, Ward]:
    """A world in which each document has something to be written; they come due in the order of their keys."""
    keys = [f"{number:04d}{letter}" for number, letter in enumerate(wards(sick, healthy, sequence))]
    world = World()
    world.windchill = windchill = Ward(world.clock, keys)
    windchill.sick = {key for key in keys if key.endswith("s")}
    for name, value in given.items():
        setattr(windchill, name, value)
    return world, windchill


def events(world: World, keys: Iterable[str]) -> None:
    for key in keys:
        world.append(world.event({"title": "Cover"}, key=key))


def written(world: World) -> bool:
    """Whether all healthy documents are written."""
    return all(world.live(key)["title"] == "Cover" for key in world.windchill._versions if key.endswith("h"))


ORDERS = ["the sick first", "the sick last", "the healthy in the middle", "shuffled"]


@pytest.mark.parametrize("sequence", ORDERS)
@pytest.mark.parametrize("count", [(8, 52), (300, 40)], ids=["8 of 60", "300 of 340"])
@pytest.mark.parametrize(
    "answer",
    [THROTTLED, Throttled(429, "slow down"), Broken("a login page")],
    ids=["throttled for an hour", "throttled", "unusable"],
)
async def test_every_healthy_document_is_written_within_three_minutes(
    count: tuple[int, int], answer: Trouble, sequence: str
) -> None:
    world, windchill = ward(*count, sequence, answer=answer)
    async with world.running() as running:
        events(world, windchill._versions)
        await running.pass_until(lambda: written(world), "all healthy ones are written", MINUTES_3_S)
    assert {world.document(key).status for key in windchill.sick} <= {Status.PENDING}


@pytest.mark.parametrize("sequence", ORDERS)
@pytest.mark.parametrize("writes_only", [False, True], ids=["reads", "writes"])
async def test_documents_that_hang_hold_their_requests_once_and_the_others_go_on(
    sequence: str, *, writes_only: bool
) -> None:
    sick = {"answer": Unknown("no answer"), "takes_s": TIMEOUT_S, "writes_only": writes_only}
    world, windchill = ward(20, 52, sequence, **sick)
    async with world.running() as running:
        events(world, windchill._versions)
        await running.pass_until(lambda: written(world), "all healthy ones are written", MINUTES_3_S)
        # From now on it is known which hang. New work finds a request free at any time.
        for number in range(10):
            await world.clock.advance(37)
            world.append(world.event({"title": f"Lid {number}"}, key=windchill.well[number]))
            await running.pass_until(lambda n=number: windchill.body(windchill.well[n])["title"] != "Cover", "it is", 2)
    assert windchill.most <= 16


@pytest.mark.parametrize("sequence", ORDERS)
async def test_a_document_that_has_failed_once_does_not_queue_up_behind_those_that_fail_for_hours(
    sequence: str,
) -> None:
    world, windchill = ward(150, 10, sequence, answer=Failed("500"))
    async with world.running() as running:
        events(world, windchill._versions)
        await running.pass_until(lambda: written(world), "all healthy ones are written", MINUTES_3_S)
        await world.clock.advance(300)
        unlucky = windchill.well[0]
        windchill.sick.add(unlucky)
        world.append(world.event({"title": "Lid"}, key=unlucky))
        await running.pass_until(lambda: world.document(unlucky).agreement.failures > 0, "it has failed once")
        windchill.sick.remove(unlucky)
        await running.pass_until(lambda: windchill.body(unlucky)["title"] == "Lid", "it is written", 5)


@pytest.mark.parametrize(
    ("answer", "takes_s", "asked_max"),
    [
        (THROTTLED, ANSWER_S, 45),
        (Throttled(503, "busy"), ANSWER_S, 50),
        (Failed("no connection"), 0.001, 50),
        (Unknown("no answer"), TIMEOUT_S, 50),
    ],
    ids=["throttled for an hour", "busy", "refused", "hanging"],
)
@pytest.mark.parametrize("known", [False, True], ids=["never seen", "well before"])
async def test_a_server_that_is_down_is_asked_a_few_times_and_used_again_when_it_is_back(
    answer: Trouble, takes_s: float, asked_max: int, *, known: bool
) -> None:
    world, windchill = ward(0, 200, "", answer=answer, takes_s=takes_s)
    async with world.running() as running:
        if known:
            events(world, windchill._versions)
            await running.pass_until(lambda: written(world), "all are written", MINUTES_3_S)
        windchill.sick = set(windchill._versions)
        windchill.asked.clear()
        events(world, windchill._versions)
        await world.clock.advance(MINUTES_3_S)
        assert len(windchill.asked) <= asked_max
        assert running.daemon._progress.readiness(stopping=False).windchill is Health.DOWN
        windchill.sick = set()
        spared = set(windchill._versions) - {key for _, key in windchill.asked}
        await running.pass_until(
            lambda: all(world.document(key).status is Status.SYNCED for key in spared), "the others go on", 70
        )


async def test_retry_after_of_a_server_that_throttles_everyone_is_honoured_by_everyone() -> None:
    world, windchill = ward(60, 0, "", answer=Throttled(429, "slow down", 30.0))
    async with world.running():
        events(world, windchill._versions)
        await world.clock.advance(2)
        first = len(windchill.asked)
        assert first <= 16 + 8
        await world.clock.advance(25)
        assert len(windchill.asked) == first
        await world.clock.advance(30)
        assert first < len(windchill.asked) <= first + 16


@pytest.mark.parametrize(("told_s", "waits_s"), [(1800, 1800), (3600, 3600), (1e9, 3600)])
async def test_a_document_waits_as_long_as_it_was_told_but_an_hour_at_most(told_s: float, waits_s: int) -> None:
    world = World()
    world.windchill.script_reads(Throttled(429, "slow down", told_s))
    await world.emit_and_attempt({"title": "Cover"})
    assert world.document().due_us == world.clock.now_us() + waits_s * 1_000_000


async def test_an_operator_may_have_a_throttled_document_tried_at_once() -> None:
    world, windchill = ward(8, 3, "the sick first")
    async with world.running() as running:
        events(world, windchill._versions)
        await running.pass_until(lambda: written(world), "all healthy ones are written", MINUTES_3_S)
        windchill.sick.remove("0000s")
        await world.store.requeue(["0000s"], Lane.OPERATOR, world.clock.now_us())
        running.daemon.due_feeder.wake()
        await running.pass_until(lambda: windchill.body("0000s")["title"] == "Cover", "it is written", 5)
