"""Writes that come late: after a release, under another token, long after they were given up. They are ours."""

from typing import Any

import pytest

from reconciler.core.settling import doubts
from reconciler.model.answer import NotAvailable, Unknown
from reconciler.model.document import Status
from tests.fakes.memory_windchill import ME
from tests.flows.conftest import MakeWorld
from tests.flows.world import KEY, World

LOST = Unknown("no answer in time")
DIALECTS: dict[str, Any] = {"documents": {}, "wrs": {"locks": True, "later_portions": (("title",),)}}


@pytest.fixture(params=list(DIALECTS.values()), ids=list(DIALECTS))
def world(make_world: MakeWorld, request: pytest.FixtureRequest) -> World:
    return make_world(**request.param)


@pytest.fixture
def acting(make_world: MakeWorld) -> World:
    """A server where the title is written by an action, which nothing guards."""
    return make_world(**DIALECTS["wrs"])


async def in_doubt(world: World, title: str) -> None:
    """Agree on a title, then write another one and get no answer."""
    await world.emit_and_settle({"title": "Bracket"})
    world.windchill.script_writes(LOST)
    await world.emit_and_attempt({"title": title})


async def comes_late(world: World, title: str) -> None:
    await world.clock.advance(1)
    world.windchill.edit(KEY, {"title": title}, ME)


async def test_a_write_that_comes_after_the_release_is_no_persons_edit(world: World) -> None:
    """The next claim is older than that write, so a person's edit would be the later of the two."""
    await in_doubt(world, "Cover")
    await world.clock.advance(1)
    await world.fold(world.event() | {"type": "windchill.document.released.v1", "data": {}})
    await world.settle()
    await world.clock.advance(1)
    claim = world.event({"title": "Lid"})
    await comes_late(world, "Cover")
    await world.fold(claim)
    assert (await world.settle()).status is Status.SYNCED
    assert world.live()["title"] == "Lid"
    doubt = world.document().agreement.intent
    assert doubt is None or doubt.action, "only what nothing guards may still come"


async def test_a_write_that_comes_while_the_document_is_parked_is_no_persons_edit(world: World) -> None:
    await in_doubt(world, "Cover")
    world.windchill.refusals[KEY] = NotAvailable(403, "not now")
    assert (await world.attempt()).status is Status.PARKED
    del world.windchill.refusals[KEY]
    await comes_late(world, "Cover")
    await world.emit_and_settle({"title": "Lid"})
    assert world.live()["title"] == "Lid"


async def test_a_write_that_comes_right_before_the_next_ones_lock_is_no_persons_edit(
    acting: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = acting
    await world.emit_and_settle({"owner": "sgarcia"})
    world.windchill.script_writes(LOST)
    await world.emit_and_attempt({"owner": "akim"})
    await world.emit({"owner": "jdoe"})
    locked = world.windchill._under_lock

    async def late(*given: object) -> object:
        monkeypatch.undo()
        world.windchill.edit(KEY, {"owner": "akim"}, ME)
        return await locked(*given)

    monkeypatch.setattr(world.windchill, "_under_lock", late)
    await world.settle()
    assert world.live()["owner"] == "jdoe"
    assert [one["data"]["written"] for one in world.outcomes("reconciled")][-2:] == [
        {"owner": "akim"},
        {"owner": "jdoe"},
    ]


async def test_an_action_that_comes_after_someone_elses_change_is_no_persons_edit(acting: World) -> None:
    await in_doubt(acting, "Cover")
    await acting.edit({"owner": "lchen"})
    await acting.emit_and_settle({"title": "Bracket"})
    await comes_late(acting, "Cover")
    await acting.resync()
    assert (await acting.settle()).status is Status.SYNCED
    assert acting.live()["title"] == "Bracket"
    assert acting.live()["owner"] == "lchen"


async def test_an_action_in_doubt_is_looked_for_once_more_and_then_is_over(acting: World) -> None:
    await in_doubt(acting, "Cover")
    await acting.edit({"owner": "lchen"})
    document = await acting.emit_and_settle({"title": "Bracket"})
    assert document.agreement.intent is not None
    assert await acting.wait() <= doubts.LATE_S
    await acting.attempt()
    assert acting.document().agreement.intent is None
    await acting.edit({"title": "Cover"})
    await acting.resync()
    await acting.settle()
    assert acting.live()["title"] == "Cover", "a person's edit was overwritten"


async def test_an_action_that_comes_while_the_next_write_is_answered_is_no_persons_edit(
    acting: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is nearly over when the document is read, and over when the answer is settled."""
    await in_doubt(acting, "Cover")
    await acting.clock.advance(doubts.LATE_S)
    await acting.emit({"title": "Lid"})
    answered = acting.windchill.write

    async def late(*args: Any, **named: Any) -> Any:
        answer = await answered(*args, **named)
        monkeypatch.undo()
        acting.windchill.edit(KEY, {"title": "Cover"}, ME)
        return answer

    monkeypatch.setattr(acting.windchill, "write", late)
    assert (await acting.settle()).status is Status.SYNCED
    await acting.wait()
    await acting.attempt()
    await acting.settle()
    assert acting.live()["title"] == "Lid"


async def test_the_second_of_two_equal_actions_that_come_late_is_no_persons_edit(acting: World) -> None:
    await in_doubt(acting, "Cover")
    acting.windchill.script_writes(LOST)
    await acting.wait()
    await acting.attempt()
    await comes_late(acting, "Cover")
    await acting.settle()
    await acting.emit_and_settle({"title": "Bracket"})
    await comes_late(acting, "Cover")
    await acting.resync()
    await acting.settle()
    assert acting.live()["title"] == "Bracket"


async def test_an_action_is_told_once_though_it_may_come_again(acting: World) -> None:
    await in_doubt(acting, "Cover")
    await comes_late(acting, "Cover")
    await acting.settle()
    told = len(acting.outcomes("reconciled"))
    await acting.resync()
    await acting.resync()
    assert len(acting.outcomes("reconciled")) == told
    await acting.edit({"title": "Box"})
    await acting.resync()
    assert acting.live()["title"] == "Box", "a person's edit was overwritten"
