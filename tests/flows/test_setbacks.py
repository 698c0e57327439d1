"""Writes that fail under a lock: how often people see the document checked out for nothing."""

from collections.abc import Mapping

import pytest

from reconciler.model.answer import Failed, Locked, NotAvailable, Unknown, VersionConflict, WriteAnswer, Written
from reconciler.model.document import Lane, Status
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import Journal
from tests.fakes.memory_windchill import MemoryWindchill
from tests.flows.conftest import MakeWorld
from tests.flows.world import KEY, World

DAY_S = 86_400
FORBIDDEN = NotAvailable(403, "You are not authorized to modify this object.", forbidden=True)
ANSWERS = [FORBIDDEN, Failed("500: validation failed"), Unknown("the check-in was answered 500")]


class Failing(MemoryWindchill):
    """Locks a document, and then answers `answer` whatever is to be written, as long as there is one."""

    answer: WriteAnswer | None = None

    async def write(
        self, snapshot: Snapshot, fields: Mapping[str, Json], *, token: Token, journal: Journal
    ) -> WriteAnswer:
        if self.answer is None:
            return await super().write(snapshot, fields, token=token, journal=journal)
        self.lockings += 1
        await journal.locked(f"lock {self.lockings}")
        await journal.redraft(await self.snapshot_of(snapshot.key))
        return self.answer

    async def snapshot_of(self, key: str) -> Snapshot:
        return self._shown(key, self._versions[key])


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    made = make_world(locks=True, later_portions=(("status",),))
    made.windchill.__class__ = Failing
    return made


def failing(world: World) -> Failing:
    assert isinstance(world.windchill, Failing)
    return world.windchill


async def lockings_in(world: World, days: float) -> int:
    """How many locks are taken while so much time passes."""
    before, end_us = world.windchill.lockings, world.clock.now_us() + days * DAY_S * 1e6
    for _ in range(3000):
        due_us = world.document().due_us
        if due_us is None or due_us > end_us:
            await world.clock.advance((end_us - world.clock.now_us()) / 1e6)
            return world.windchill.lockings - before
        await world.next_attempt()
    raise AssertionError("more than 3,000 attempts")


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
async def test_what_fails_under_a_lock_is_locked_ever_more_rarely_and_then_once_a_day(
    world: World, answer: WriteAnswer
) -> None:
    await world.emit({"owner": "akim"})
    failing(world).answer = answer
    assert await lockings_in(world, 1) <= 15
    assert await lockings_in(world, 3) <= 6
    assert world.document().status is Status.PARKED
    assert not isinstance(answer, Written)
    assert answer.message in world.document().reason
    failing(world).answer = None
    assert await lockings_in(world, 1.3) == 1
    assert world.live()["owner"] == "akim"
    assert world.document().agreement.setback is None


async def test_until_then_the_document_is_read_without_a_lock_and_a_move_ends_the_wait(world: World) -> None:
    await world.emit({"owner": "akim"})
    failing(world).answer = FORBIDDEN
    await lockings_in(world, 0.5)
    reads = world.windchill.reads
    assert await lockings_in(world, 0.1) == 0
    assert world.windchill.reads > reads
    failing(world).answer = None
    await world.edit({"status": "INWORK"})  # in which we may write again, for one
    assert await lockings_in(world, 0.02) == 1
    assert world.live()["owner"] == "akim"


async def test_an_operator_tries_now(world: World) -> None:
    await world.emit({"owner": "akim"})
    failing(world).answer = FORBIDDEN
    await lockings_in(world, 0.5)
    failing(world).answer = None
    await world.attempt(Lane.ASKED)
    assert world.live()["owner"] == "akim"


async def test_a_stream_of_events_does_not_make_a_stream_of_locks(world: World) -> None:
    failing(world).answer = FORBIDDEN
    for number in range(600):
        await world.emit_and_attempt({"owner": f"user{number}"})
        await world.clock.advance(9)
    assert 3 <= world.windchill.lockings <= 8, "in 100 minutes"


async def test_a_state_goes_out_though_attributes_fail_under_the_lock(world: World) -> None:
    failing(world).answer = Failed("500: validation failed")
    await world.emit({"owner": "akim", "status": "RELEASED"})
    for _ in range(3):
        await world.attempt_and_wait()
    failing(world).answer = None
    await world.attempt()
    assert world.held() == ["owner"]
    await world.attempt()
    assert world.live()["status"] == "RELEASED"


async def test_a_lock_that_shows_under_ours_is_called_by_its_name(world: World) -> None:
    await world.emit({"owner": "akim"})
    failing(world).answer = Locked(403, "Release 12 has it.", kind="locked by a workflow")
    assert await lockings_in(world, 1) <= 35
    document = world.document()
    assert document.status is Status.LOCKED
    assert document.reason.startswith("locked by a workflow: Release 12 has it.; the next try is at ")
    assert document.key == KEY


@pytest.mark.parametrize(
    ("answer", "result", "status"),
    [(FORBIDDEN, "not_available", 403), (Failed("500: validation failed"), "failed", None)],
    ids=["forbidden", "failed"],
)
async def test_a_look_before_its_time_is_called_by_what_has_failed(
    world: World, answer: WriteAnswer, result: str, status: int | None
) -> None:
    await world.emit({"owner": "akim"})
    failing(world).answer = answer
    lockings = await lockings_in(world, 0.5)
    settlement = await world.attempt(Lane.RETRY)
    assert world.windchill.lockings == lockings, "it is no time to lock it"
    assert settlement.result == result
    assert "; the next try is at 20" in settlement.reason
    assert {(record.result, record.status) for record in world.store.trail if record.result == result} >= {
        (result, status)
    }
    assert settlement.due_us is not None
    assert settlement.due_us - world.clock.now_us() <= 900e6, "it is read at the pace of what is parked"


async def test_fields_that_failed_for_no_status_are_refused_with_none(world: World) -> None:
    failing(world).answer = Failed("500: validation failed")
    await world.emit({"owner": "akim", "status": "RELEASED"})
    for _ in range(4):
        await world.attempt_and_wait()
    refused = [record for record in world.store.trail if record.result == "refused"]
    assert refused
    assert not any(record.status for record in refused)


async def test_what_others_do_to_a_document_is_no_failure_under_our_lock(world: World) -> None:
    """Neither an edit that comes before our write, nor a lock of theirs that keeps us from taking ours."""
    await world.emit({"owner": "akim"})
    failing(world).answer = VersionConflict(412, "modified by another user")
    for _ in range(6):
        await world.attempt_and_wait()
    assert world.windchill.lockings == 6
    assert world.document().agreement.setback is None
    failing(world).answer = None
    world.windchill.holders[KEY] = "jdoe"
    writes = world.windchill.writes
    for _ in range(9):
        await world.attempt_and_wait()
    assert world.windchill.writes == writes + 9, "each look tries whether it has been let go"
