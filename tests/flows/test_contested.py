"""Values that Windchill takes and does not keep: held as contested, and tried ever more rarely (ARCHITECTURE.md)."""

import json

import attrs
import pytest
from msgspec import structs

from reconciler.core.events import outcomes
from reconciler.model.action import Resolved, Side, Unusable
from reconciler.model.answer import Throttled, VersionConflict
from reconciler.model.document import Lane, Status
from reconciler.model.policy import ListMode, Rule, Strategy
from tests import defaults
from tests.fakes.memory_log import MemoryLog
from tests.fakes.memory_store import MemoryStore
from tests.fakes.memory_windchill import ME
from tests.flows.conftest import MakeWorld
from tests.flows.world import DECISIONS, KEY, OPERATORS, TOPIC, World, policy

HOUR_S = 3600
KEYWORDS = "attributes.Keywords"
OURS = policy(
    Rule(("title",), Strategy.EXTERNAL),
    Rule((KEYWORDS,), Strategy.EXTERNAL, list=ListMode.SET),
)


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(OURS)


async def undo(world: World, times: int, who: str = "plm-batch", **fields: object) -> None:
    """Let another program set fields back, and a comparison find it, so many times."""
    for _ in range(times):
        world.windchill.edit(KEY, fields or {"title": "Bracket"}, who)
        await world.resync()
        if world.document().status is Status.PENDING:
            await world.settle()


async def contested(world: World) -> None:
    await world.emit_and_settle({"title": "Cover"})
    await undo(world, 3)
    assert world.held() == ["title"]


async def test_a_value_that_is_set_back_three_times_is_not_written_a_fourth_time(world: World) -> None:
    await world.emit_and_settle({"title": "Cover"})
    await undo(world, 20)
    assert (world.windchill.writes, world.held()) == (3, ["title"])
    assert "written 3 times and changed again each time" in world.document().reason
    assert "plm-batch" in world.document().reason
    assert len(world.outcomes("conflict.opened")) == 1


async def test_a_conflict_that_is_contested_stays_one_whatever_it_is_changed_to(world: World) -> None:
    await contested(world)
    for number in range(5):
        await undo(world, 1, title=f"Bracket {number}")
    assert (world.windchill.writes, len(world.outcomes("conflict.opened"))) == (3, 1)


async def test_other_fields_of_the_document_go_on(world: World) -> None:
    await contested(world)
    await world.emit_and_settle({"attributes.CostCenter": "4711"})
    assert (world.live()["attributes"]["CostCenter"], world.held()) == ("4711", ["title"])


@pytest.mark.parametrize("interval_s", [600, 0])
async def test_four_writes_in_the_first_day_and_one_on_each_further_day(
    make_world: MakeWorld, interval_s: float
) -> None:
    """Comparisons every ten minutes; with comparisons switched off, whatever else leads to a look."""
    world = make_world(OURS, pace=defaults.pace(interval_s=interval_s))
    await world.emit_and_settle({"title": "Cover"})
    written: list[int] = []
    for _ in range(6):
        for _ in range(6 * 24):
            world.windchill.edit(KEY, {"title": "Bracket"}, "plm-batch")
            await world.clock.advance(600)
            due_us = world.document().due_us
            await world.attempt(Lane.RESYNC if due_us is None or due_us > world.clock.now_us() else None)
        written.append(world.windchill.writes)
    assert written[0] == 4
    assert written[-1] <= 4 + 6
    assert written[-1] > 6, "it is tried again"


async def test_another_value_is_written_at_once_and_counted_from_zero(world: World) -> None:
    await contested(world)
    await world.emit_and_settle({"title": "Lid"})
    assert (world.live()["title"], world.held()) == ("Lid", [])
    await undo(world, 5)
    assert world.windchill.writes == 3 + 3


async def test_a_new_event_that_asks_for_the_same_value_is_no_new_try(world: World) -> None:
    """Many producers publish the whole state again, every few minutes."""
    await contested(world)
    for _ in range(4):
        await world.emit_and_attempt({"title": "Cover"})
    assert (world.windchill.writes, world.held()) == (3, ["title"])
    assert len(world.outcomes("conflict.opened")) == 1


async def test_a_producer_that_repeats_itself_does_not_keep_a_tug_of_war_going(world: World) -> None:
    for _ in range(10):
        await world.emit_and_settle({"title": "Cover"})
        world.windchill.edit(KEY, {"title": "Bracket"}, "plm-batch")
    await world.settle()
    assert world.windchill.writes == 3


async def test_a_copy_of_the_event_is_no_new_try(world: World) -> None:
    await contested(world)
    record = world.broker.records(TOPIC)[0]
    world.append(json.loads(record.value or b""))
    await world.fold()
    await world.attempt()
    assert (world.windchill.writes, world.held()) == (3, ["title"])


async def test_an_operators_retry_tries_now_and_counts_as_a_try(world: World) -> None:
    await contested(world)
    await world.clock.advance(1)
    await world.attempt(Lane.ASKED)
    assert (world.live()["title"], world.windchill.writes) == ("Cover", 4)
    await undo(world, 3)
    assert world.windchill.writes == 4
    refused = world.document().agreement.base.refused["title"]
    assert 0.8 * 24 * HOUR_S <= ((refused.due_us or 0) - refused.at_us) / 1e6 <= 24 * HOUR_S


async def test_what_an_operator_decides_is_counted_from_zero(world: World) -> None:
    await contested(world)
    await world.emit_and_settle({"title": "Cover"}, source=OPERATORS, actor="boss", expect={"title": "Bracket"})
    assert (world.live()["title"], world.held()) == ("Cover", [])
    await undo(world, 5)
    assert world.windchill.writes == 3 + 3


async def test_a_value_that_stands_again_closes_the_conflict_and_is_still_known_to_be_contested(world: World) -> None:
    await contested(world)
    world.windchill.edit(KEY, {"title": "Cover"}, "mrossi")
    await world.resync()
    assert world.held() == []
    await undo(world, 3)
    assert (world.windchill.writes, world.held()) == (3, ["title"])


async def test_a_value_that_has_stood_for_a_whole_window_is_trusted_again(world: World) -> None:
    await contested(world)
    await world.attempt(Lane.ASKED)
    assert world.live()["title"] == "Cover"
    await world.clock.advance(25 * HOUR_S)
    await world.resync()
    assert world.document().agreement.base.refused == {}
    await undo(world, 1)
    assert (world.live()["title"], world.windchill.writes) == ("Cover", 5)


async def test_an_edit_now_and_then_is_no_contest(world: World) -> None:
    await world.emit_and_settle({"title": "Cover"})
    for _ in range(6):
        await world.clock.advance(25 * HOUR_S)
        await undo(world, 1)
    assert (world.held(), world.windchill.writes) == ([], 7)


async def test_a_window_of_zero_counts_nothing(make_world: MakeWorld) -> None:
    world = make_world(OURS, pace=defaults.pace(contested_window_s=0))
    await world.emit_and_settle({"title": "Cover"})
    await undo(world, 8)
    assert (world.held(), world.windchill.writes) == ([], 9)


async def test_a_write_that_was_not_applied_is_not_counted(world: World) -> None:
    await world.emit({"title": "Cover"})
    world.windchill.script_writes(*[VersionConflict(412, "stale")] * 3, Throttled(429, "later"))
    await world.settle()
    await undo(world, 2)
    assert (world.held(), world.live()["title"]) == ([], "Cover")


async def test_a_person_whose_edit_stands_contests_nothing(make_world: MakeWorld) -> None:
    world = make_world(policy(Rule(("title",), Strategy.MERGE, on_overlap=Strategy.EXTERNAL)))
    for number in range(6):
        await world.emit_and_settle({"title": "Cover"})
        await undo(world, 1, title=f"by hand {number}")
    assert world.held() == []
    assert world.windchill.writes == 6


async def test_an_element_that_is_taken_out_again_is_contested_alone(world: World) -> None:
    await world.emit_and_settle({KEYWORDS: ["steel", "bracket"]})
    await undo(world, 4, **{KEYWORDS: ["bracket"]})
    assert (world.windchill.writes, world.held()) == (3, [KEYWORDS])
    assert "steel" in world.document().reason
    await world.emit_and_settle(add={KEYWORDS: ["M6"]})
    assert world.live()["attributes"]["Keywords"] == ["bracket", "M6"]
    await undo(world, 1, **{KEYWORDS: []})
    assert sorted(world.live()["attributes"]["Keywords"]) == ["M6", "bracket"]
    assert world.held() == [KEYWORDS]


async def test_an_element_that_comes_back_is_contested_too(world: World) -> None:
    await world.emit_and_settle(remove={KEYWORDS: ["draft"]})
    await undo(world, 6, **{KEYWORDS: ["draft"]})
    assert (world.windchill.writes, world.held()) == (3, [KEYWORDS])
    await world.emit_and_settle(add={KEYWORDS: ["draft"]})
    assert world.held() == []


async def test_two_keys_that_reach_one_document_are_found_out(world: World) -> None:
    """What sets the value back is our own account: another spelling of the key, with another wish."""
    await world.emit_and_settle({"title": "Cover"})
    await undo(world, 4, ME)
    assert world.windchill.writes == 3
    assert f"{ME}, which is our own account: another key may name the same document" in world.document().reason


async def test_what_is_counted_and_contested_survives_a_rebuild(world: World) -> None:
    await world.emit_and_settle({"title": "Cover"})
    for number in range(6):
        row = world.document()
        told = outcomes.told(json.dumps(world.outcomes("reconciled")[-1]).encode())
        assert told is not None
        assert (told.base.fields, told.base.refused) == (row.agreement.base.fields, row.agreement.base.refused)
        world.store.rows[KEY] = structs.replace(
            row, agreement=structs.replace(row.agreement, base=told.base, snapshot=None)
        )
        await undo(world, 1, title=f"Bracket {number}")
    assert (world.windchill.writes, world.held()) == (3, ["title"])


async def test_a_server_that_stores_another_form_is_found_out_by_one_write(make_world: MakeWorld) -> None:
    """The answer shows what was sent; the same version, read again, shows another value."""
    world = make_world(OURS, shows_document=False)
    await world.emit_and_settle({"title": "Cover"})
    stored = world.windchill._versions[KEY]
    world.windchill._versions[KEY] = attrs.evolve(stored, body=stored.body | {"title": "COVER"})
    for _ in range(5):
        await world.resync()
    assert (world.windchill.writes, world.held()) == (1, ["title"])
    assert "stores another value than was written" in world.document().reason


# -------------------------------------------------------------------------------------------------- three ways out


async def decide(world: World, take: Side) -> Resolved:
    (conflict,) = world.document().agreement.held
    done = await world.actions().resolve("mrossi", conflict.id, take, "seen in the GUI")
    assert isinstance(done, Resolved), done
    await world.fold()
    await world.settle()
    return done


async def test_an_accepted_form_counts_as_the_value_from_now_on(world: World) -> None:
    await contested(world)
    done = await decide(world, Side.ACCEPT)
    assert done.events[0]["data"] == {
        "set": {"title": "Cover"},
        "expect": {"title": "Bracket"},
        "accept": {"title": "Bracket"},
        "reason": "seen in the GUI",
    }
    assert (world.held(), world.document().status, world.windchill.writes) == ([], Status.SYNCED, 3)
    await undo(world, 3)
    await world.emit_and_settle({"title": "Cover"})
    assert (world.held(), world.windchill.writes) == ([], 3)


async def test_a_form_that_was_not_accepted_is_still_put_right(world: World) -> None:
    await contested(world)
    await decide(world, Side.ACCEPT)
    await undo(world, 1, title="a slip of the hand")
    assert world.live()["title"] == "Cover"
    await world.emit_and_settle({"title": "Lid"})
    assert world.live()["title"] == "Lid"


async def test_an_accepted_form_survives_a_rebuild_from_the_log(world: World) -> None:
    await contested(world)
    await decide(world, Side.ACCEPT)
    rebuilt = MemoryStore()
    again = world.make_ingest(store=rebuilt)
    log = MemoryLog(world.broker, TOPIC, DECISIONS)
    await log.open({})
    while records := await log.fetch(100, 0):
        await again.take(records)
    assert rebuilt.rows[KEY].desired == world.document().desired
    world.store.rows[KEY] = structs.replace(rebuilt.rows[KEY], status=Status.PENDING)
    await world.attempt(Lane.RESYNC)
    assert (world.held(), world.document().status, world.windchill.writes) == ([], Status.SYNCED, 3)


async def test_keeping_on_trying_writes_now_and_counts_from_zero(world: World) -> None:
    await contested(world)
    await decide(world, Side.RETRY)
    assert (world.live()["title"], world.held()) == ("Cover", [])
    await undo(world, 4)
    assert (world.windchill.writes, world.held()) == (6, ["title"])


async def test_giving_up_lets_windchills_value_stand(world: World) -> None:
    await contested(world)
    await decide(world, Side.LIVE)
    await undo(world, 2)
    assert (world.live()["title"], world.held(), world.windchill.writes) == ("Bracket", [], 3)


async def test_an_element_that_the_server_stores_otherwise_is_accepted_alone(world: World) -> None:
    await world.emit_and_settle({KEYWORDS: ["steel", "bracket"]})
    await undo(world, 4, **{KEYWORDS: ["STEEL", "bracket"]})
    assert world.held() == [KEYWORDS]
    await decide(world, Side.ACCEPT)
    assert (world.held(), world.document().status) == ([], Status.SYNCED)
    await world.emit_and_settle({KEYWORDS: ["steel", "bracket", "M6"]})
    assert world.live()["attributes"]["Keywords"] == ["STEEL", "bracket", "M6"]
    await undo(world, 1, **{KEYWORDS: ["STEEL", "M6"]})
    assert sorted(world.live()["attributes"]["Keywords"]) == ["M6", "STEEL", "bracket"]
    assert world.held() == []


async def test_keeping_on_trying_takes_no_element_of_a_user_in(world: World) -> None:
    """The conflict is as old as the contest, and users have gone on tagging since."""
    await world.emit_and_settle({KEYWORDS: ["steel"]})
    await undo(world, 4, **{KEYWORDS: ["mine"]})
    await undo(world, 1, **{KEYWORDS: ["yours"]})
    done = await decide(world, Side.RETRY)
    assert dict(done.events[0]["data"])["set"] == {KEYWORDS: ["steel"]}  # type: ignore[call-overload]  # it is JSON
    assert sorted(world.live()["attributes"]["Keywords"]) == ["steel", "yours"]


async def test_an_altered_form_can_be_accepted_too(make_world: MakeWorld) -> None:
    world = make_world(OURS, shows_document=False)
    await world.emit_and_settle({"title": "Cover"})
    stored = world.windchill._versions[KEY]
    world.windchill._versions[KEY] = attrs.evolve(stored, body=stored.body | {"title": "COVER"})
    await world.resync()
    await decide(world, Side.ACCEPT)
    assert (world.held(), world.document().status, world.windchill.writes) == ([], Status.SYNCED, 1)


async def test_what_is_not_contested_has_nothing_to_accept(make_world: MakeWorld) -> None:
    world = make_world(policy(Rule(("title",), Strategy.HOLD)))
    await world.emit_and_settle({"title": "Cover"})
    await undo(world, 1)
    (conflict,) = world.document().agreement.held
    for way in (Side.ACCEPT, Side.RETRY):
        assert isinstance(await world.actions().resolve("mrossi", conflict.id, way, ""), Unusable)


async def test_all_contested_fields_are_accepted_at_once_though_producers_repeat_themselves(world: World) -> None:
    await contested(world)
    await world.emit_and_settle({"title": "Cover"})
    done = await world.actions().resolve_many("mrossi", Side.ACCEPT, "", field="title")
    assert (len(done.decided), done.left) == (1, {})


async def test_a_producer_accepts_nothing(world: World) -> None:
    await contested(world)
    given = world.event({"title": "Cover"})
    given["data"]["accept"] = {"title": "Bracket"}
    await world.fold(given)
    assert len(await world.store.dead_letters()) == 1


async def test_an_event_that_an_operator_emits_is_no_decision(world: World) -> None:
    """`emit` speaks as an operator, and may well be run by a job, every few minutes."""
    await contested(world)
    for fields in ({"title": "Cover"}, {"attributes.CostCenter": "1"}, {"title": "Cover"}):
        await world.emit(fields, source=OPERATORS, actor="cron")
        await world.attempt(Lane.OPERATOR)
    assert (world.windchill.history[-1].fields, world.held()) == ({"attributes.CostCenter": "1"}, ["title"])
