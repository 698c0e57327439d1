"""What a decision on a conflict rests on: whatever of it moves after the preview makes the decision stale."""

import json

import pytest
from msgspec import structs

from reconciler.model import instant
from reconciler.model.action import Appended, Other, Preview, Resolved, Side, Stale, Unusable
from reconciler.model.document import Status
from reconciler.model.policy import ListMode, Rule, Strategy
from tests.flows.conftest import MakeWorld
from tests.flows.world import DECISIONS, KEY, TOPIC, World, policy

WORDS = "attributes.Keywords"
HELD = policy(
    Rule((WORDS,), Strategy.MERGE, on_overlap=Strategy.HOLD, list=ListMode.SET, name="words"),
    Rule(("title",), Strategy.MERGE, on_overlap=Strategy.HOLD, name="title"),
)


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(HELD)


async def held(world: World) -> str:
    """Let both sides move the title, and return the conflict's id."""
    await world.emit_and_settle({"title": "ours"})
    await world.edit({"title": "theirs"})
    assert (await world.emit_and_settle({"title": "ours again"})).status is Status.HELD
    (conflict,) = world.document().agreement.held
    return conflict.id


async def seen_by(world: World, conflict: str) -> Preview:
    preview = await world.actions().preview(conflict, Side.DESIRED)
    assert isinstance(preview, Preview)
    return preview


async def test_a_decision_is_appended_where_decisions_are_taken_from(world: World) -> None:
    conflict = await held(world)
    before = len(world.broker.records(TOPIC))
    assert isinstance(await world.actions().resolve("mlee", conflict, Side.LIVE, ""), Resolved)
    assert isinstance(await world.actions().release("mlee", KEY, "", ["title"]), Appended)
    assert [json.loads(one.value or b"")["actor"] for one in world.broker.records(DECISIONS)] == ["mlee"] * 2
    assert len(world.broker.records(TOPIC)) == before


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59.999999Z", "2099-01-01T00:00:00.000000Z"])
async def test_nothing_answers_a_claim_from_the_future(world: World, time: str) -> None:
    conflict = await held(world)
    row = world.document()
    field = row.desired.fields["title"]
    assert field.register is not None
    last = field.register._replace(stamp=field.register.stamp._replace(time=time))
    desired = row.desired._replace(fields={**row.desired.fields, "title": field._replace(register=last)})
    world.store.rows[KEY] = structs.replace(row, desired=desired)
    for answer in (
        await world.actions().preview(conflict, Side.LIVE),
        await world.actions().release("boss", KEY, ""),
    ):
        assert isinstance(answer, Unusable)
        assert "reconciler docs refold 0000012345" in answer.reason


async def test_a_decision_is_stamped_just_after_a_claim_that_is_a_little_ahead(world: World) -> None:
    await held(world)
    soon = instant.from_us(world.clock.now_us() + 200_000_000)
    world.append(world.event({"title": "ours, a little ahead"}) | {"time": soon})
    await world.fold()
    await world.settle()
    (conflict,) = [one.id for one in world.document().agreement.held]
    resolved = await world.actions().resolve("boss", conflict, Side.LIVE, "")
    assert isinstance(resolved, Resolved)
    assert [event["time"] for event in resolved.events] == [instant.from_us(instant.to_us(soon) + 1)]


async def test_a_decision_on_what_has_not_moved_is_taken_and_settles_the_document(world: World) -> None:
    conflict = await held(world)
    preview = await seen_by(world, conflict)
    assert isinstance(await world.actions().resolve("jdoe", conflict, Side.DESIRED, "", preview.seen), Resolved)
    await world.fold()
    assert (await world.settle()).status is Status.SYNCED
    assert world.live()["title"] == "ours again"


async def test_a_decision_that_an_edit_overtakes_is_held_again_and_overwrites_nothing(world: World) -> None:
    conflict = await held(world)
    preview = await seen_by(world, conflict)
    await world.edit({"title": "theirs again"})  # no one has read that yet, so the decision can't be stale
    assert isinstance(await world.actions().resolve("jdoe", conflict, Side.DESIRED, "", preview.seen), Resolved)
    await world.fold()
    assert (await world.settle()).status is Status.HELD
    assert world.live()["title"] == "theirs again"


async def test_a_decision_is_stale_when_another_policy_is_in_force_for_its_field(world: World) -> None:
    conflict = await held(world)
    preview = await seen_by(world, conflict)
    other = policy(Rule(("title",), Strategy.PRESERVE, name="title"))
    stale = await world.actions(other).resolve("jdoe", conflict, Other("mine"), "", preview.seen)
    assert isinstance(stale, Stale)
    assert len(world.broker.records(TOPIC)) == 2, "it was said all the same"


async def test_a_decision_is_stale_when_an_older_event_that_came_late_has_changed_what_is_asked_for(
    world: World,
) -> None:
    """The newest claim on the list is the same, and yet another element is wanted."""
    await world.emit_and_settle({WORDS: ["draft"]})
    late = world.event(add={WORDS: ["urgent"]})
    await world.edit({"attributes": {"Keywords": ["sheet-metal"]}})
    assert (await world.emit_and_settle(add={WORDS: ["draft"]})).status is Status.HELD
    (conflict,) = world.document().agreement.held
    preview = await seen_by(world, conflict.id)
    await world.fold(late)
    stale = await world.actions().resolve("jdoe", conflict.id, Side.DESIRED, "", preview.seen)
    assert isinstance(stale, Stale)
