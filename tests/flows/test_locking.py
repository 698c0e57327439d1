"""Attempts on a server whose guard is a lock, and on one that takes some fields only by themselves."""

from typing import Any

import pytest
from msgspec import structs

from reconciler.core.planning import plan as planning
from reconciler.core.settling import notes
from reconciler.model.action import Change, OperatorAction
from reconciler.model.answer import NotAvailable, Refused
from reconciler.model.document import Lane, Status
from reconciler.model.plan import Patch
from reconciler.model.policy import Normaliser
from tests.fakes.memory_windchill import ME, Fault
from tests.flows.conftest import MakeWorld
from tests.flows.world import KEY, World

APART = (("title",), ("status", "attributes.Site"))


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(locks=True)


async def test_what_is_decided_under_the_lock_is_what_is_written_and_audited(world: World) -> None:
    await world.emit_and_settle({"owner": "sgarcia", "attributes.CostCenter": "4000"})
    await world.emit({"owner": "akim", "attributes.CostCenter": "4711"})
    world.windchill.script_writes(Fault.RIVAL)
    await world.edit({"attributes.CostCenter": "4711"})  # after the read that the attempt rests on
    assert (await world.settle()).status is Status.SYNCED
    assert world.live()["owner"] == "akim"
    assert world.live()["title"].startswith("edited"), "someone's edit was lost"
    assert world.windchill.lockings == world.windchill.writes == 1
    assert world.windchill.history[-1].fields == {"owner": "akim"}


async def test_what_is_confirmed_after_a_lost_reply_is_what_was_decided_under_the_lock(world: World) -> None:
    """A user wrote the other field. That it shows our value does not make it ours."""
    await world.emit_and_settle({"owner": "sgarcia", "attributes.CostCenter": "4000"})
    await world.emit({"owner": "akim", "attributes.CostCenter": "4711"})
    world.windchill.script_writes(Fault.LOST_REPLY)
    await world.edit({"attributes.CostCenter": "4711"})
    await world.attempt()
    assert world.intent().fields == {"owner": "akim"}
    assert (await world.settle()).status is Status.SYNCED
    assert world.outcomes("reconciled")[-1]["data"]["written"] == {"owner": "akim"}
    assert world.windchill.writes == 1


async def test_what_was_decided_under_the_lock_is_stored_before_it_is_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.emit_and_settle({"owner": "sgarcia", "attributes.CostCenter": "4000"})
    await world.emit({"owner": "akim", "attributes.CostCenter": "4711"})
    await world.edit({"attributes.CostCenter": "4711"})
    written, stored = world.windchill._written, []

    def looked_at(*given: Any) -> Any:
        stored.append(world.document().agreement.intent)
        return written(*given)

    monkeypatch.setattr(world.windchill, "_written", looked_at)
    await world.settle()
    assert [intent and intent.fields for intent in stored] == [{"owner": "akim"}]


async def test_nothing_left_to_write_under_the_lock_ends_without_a_write(world: World) -> None:
    await world.emit_and_attempt({"owner": "akim"})
    await world.emit({"owner": "lchen"})
    await world.edit({"owner": "lchen"})  # the cached snapshot does not know
    accepted = len(world.windchill.history)
    assert (await world.settle()).status is Status.SYNCED
    assert len(world.windchill.history) == accepted
    assert not world.windchill.holders


@pytest.mark.parametrize("left", [Fault.STRANDED, Fault.LOST_LOCK, Fault.LOST_REPLY])
async def test_a_lock_left_behind_is_given_up_before_anything_else(world: World, left: Fault) -> None:
    world.windchill.script_writes(left)
    await world.emit_and_attempt({"owner": "akim"})
    assert world.intent().lock == (None if left is Fault.LOST_LOCK else "lock 1")
    assert (await world.settle()).status is Status.SYNCED
    assert world.live()["owner"] == "akim"
    assert not world.windchill.holders
    assert len(world.windchill.history) == 1, "the document got more than one version"


async def test_a_lock_left_behind_is_given_up_even_if_nothing_is_managed_any_more(world: World) -> None:
    world.windchill.script_writes(Fault.STRANDED)
    await world.emit_and_attempt({"owner": "akim"})
    await world.emit_and_settle(release=["owner"])
    assert not world.windchill.holders
    assert world.live()["owner"] == "sgarcia"


async def test_a_lock_that_no_one_remembers_is_given_up_when_a_read_shows_it(world: World) -> None:
    await world.emit_and_settle({"owner": "akim"})
    world.windchill.holders[KEY] = ME  # a request that came through long after it was given up
    await world.resync()
    assert not world.windchill.holders
    assert world.document().status is Status.SYNCED


async def test_a_lock_of_our_own_in_the_way_of_a_write_is_given_up_after_a_while(world: World) -> None:
    await world.emit_and_settle({"owner": "akim"})
    world.windchill.holders[KEY] = ME
    assert (await world.emit_and_settle({"owner": "lchen"})).status is Status.SYNCED
    assert world.live()["owner"] == "lchen"
    assert not world.windchill.holders


async def test_a_released_document_is_looked_at_for_a_lock_that_came_late(world: World) -> None:
    await world.emit_and_settle({"owner": "akim"})
    await world.emit_and_settle(release=["owner"])
    world.windchill.holders[KEY] = ME
    await world.next_attempt()
    assert not world.windchill.holders


async def test_a_document_of_which_the_store_knows_nothing_is_looked_at_twice_when_it_is_released(world: World) -> None:
    await world.emit({"owner": "akim"})
    await world.emit(release=["owner"])
    world.windchill.holders[KEY] = ME  # of a store that was lost before it had told anything
    await world.settle()
    assert not world.windchill.holders
    world.windchill.holders[KEY] = ME  # a request of that time was still on its way
    await world.next_attempt()
    assert not world.windchill.holders
    assert world.document().due_us is None, "and then no more"


async def test_a_lock_that_a_person_took_under_our_account_is_shown_and_left_alone(world: World) -> None:
    await world.emit_and_settle({"owner": "akim"})
    world.windchill.holders[KEY] = ME
    world.windchill.foreign.add(KEY)
    await world.emit({"owner": "lchen"})
    for _ in range(3):
        await world.resync()
        await world.attempt()
        assert world.document().status is Status.LOCKED
        assert "locked by our own account" in world.document().reason
        assert world.windchill.holders == {KEY: ME}
        await world.wait()
    world.windchill.holders.clear()
    world.windchill.foreign.clear()
    assert (await world.settle()).status is Status.SYNCED
    assert world.live()["owner"] == "lchen"


async def test_the_mark_is_stored_before_a_lock_is_taken_and_no_two_are_the_same(world: World) -> None:
    world.windchill.script_writes(Fault.LOST_LOCK)
    await world.emit_and_attempt({"owner": "akim"})
    first = world.intent()
    assert first.lock is None
    await world.settle()
    world.windchill.script_writes(Fault.LOST_LOCK)
    await world.emit_and_attempt({"owner": "lchen"})
    second = world.intent()
    assert first.mark.rpartition("-")[0] == second.mark.rpartition("-")[0], "a lost store could not know it again"
    assert first.mark != second.mark


@pytest.mark.parametrize("field", ["title", "owner"])
async def test_a_first_write_goes_out_though_a_person_changed_another_field_before_the_lock(
    world: World, field: str
) -> None:
    await world.emit({"owner": "akim"})
    await world.clock.advance(60)  # so that the edit is later than the event
    decided = world.attempts.gate.write

    async def edited(*given: Any, **more: Any) -> Any:
        await world.edit({field: "theirs"})  # after the read that was decided on
        return await decided(*given, **more)

    world.attempts.gate.write = edited  # type: ignore[method-assign]  # the moment between the read and the lock
    await world.settle()
    assert world.live()["owner"] == ("akim" if field == "title" else "theirs")
    assert field == "owner" or world.live()["title"] == "theirs"


async def test_someone_elses_lock_is_never_given_up(world: World) -> None:
    world.windchill.script_writes(Fault.LOST_LOCK)
    await world.emit_and_attempt({"owner": "akim"})
    world.windchill.holders[KEY] = "jdoe"  # ours was never taken after all, and a person took theirs
    await world.next_attempt()
    assert world.document().status is Status.LOCKED
    assert world.windchill.holders == {KEY: "jdoe"}
    del world.windchill.holders[KEY]
    assert (await world.settle()).status is Status.SYNCED


async def test_fields_that_need_a_write_of_their_own_go_out_one_portion_after_the_other(make_world: MakeWorld) -> None:
    world = make_world(later_portions=APART)
    await world.emit({"status": "RELEASED", "title": "Lid", "owner": "akim", "attributes.CostCenter": "4711"})
    await world.attempt(Lane.OPERATOR)
    assert world.document().status is Status.PENDING
    assert (await world.settle()).status is Status.SYNCED
    assert [sorted(entry.fields) for entry in world.windchill.history if entry.who == ME] == [
        ["attributes.CostCenter", "owner"],
        ["title"],
        ["status"],
    ]
    told = [sorted(outcome["data"]["written"]) for outcome in world.outcomes("reconciled")]
    assert told == [["attributes.CostCenter", "owner"], ["title"], ["status"]]


async def test_a_refused_portion_does_not_keep_the_next_one_from_going_out(make_world: MakeWorld) -> None:
    world = make_world(later_portions=APART)
    refused = Refused(400, "no such title", ("title",))
    world.windchill.script_writes(Fault.NONE, refused, Fault.NONE, refused)
    assert (await world.emit_and_settle({"status": "RELEASED", "title": "Lid", "owner": "akim"})).status is Status.HELD
    assert world.held() == ["title"]
    assert world.live()["status"] == "RELEASED"


async def test_what_a_state_does_not_allow_goes_out_once_that_state_is_left(make_world: MakeWorld) -> None:
    for answer in (NotAvailable(403, "not in this state", forbidden=True), Refused(400, "not in this state")):
        world = make_world(later_portions=APART)
        world.windchill.script_writes(answer)
        assert (await world.emit_and_settle({"status": "INWORK2", "owner": "akim"})).status is Status.SYNCED
        assert (world.live()["status"], world.live()["owner"]) == ("INWORK2", "akim")
        assert [sorted(entry.fields) for entry in world.windchill.history if entry.who == ME] == [["status"], ["owner"]]
        await world.check()


async def test_what_is_refused_for_good_is_tried_once_more_after_a_later_portion_and_no_more(
    make_world: MakeWorld,
) -> None:
    world = make_world(later_portions=APART)
    world.windchill.script_writes(Refused(400, "never"), Fault.NONE, Refused(400, "never"))
    assert (await world.emit_and_settle({"status": "INWORK2", "owner": "akim"})).status is Status.HELD
    assert world.held() == ["owner"]
    assert world.windchill.writes == 3


async def test_a_field_that_is_hidden_under_the_lock_alone_is_held_and_not_tried_over_and_over(
    make_world: MakeWorld,
) -> None:
    world = make_world(locks=True)
    world.windchill.hidden_under_lock = frozenset(("owner",))
    assert (await world.emit_and_settle({"owner": "akim"})).status is Status.HELD
    assert "hides" in world.document().reason
    assert world.windchill.lockings == 1
    assert not world.windchill.holders


async def test_a_redraft_does_not_slip_another_portion_under_the_lock(make_world: MakeWorld) -> None:
    world = make_world(locks=True, later_portions=APART)
    await world.emit_and_attempt({"owner": "akim"})
    await world.emit({"owner": "lchen", "status": "RELEASED"})
    await world.edit({"owner": "lchen"})
    assert (await world.settle()).status is Status.SYNCED
    assert world.windchill.writes == 3
    assert world.live()["status"] == "RELEASED"


async def test_values_are_compared_as_the_servers_types_say(make_world: MakeWorld) -> None:
    world = make_world(body={"weight": 5, "due": "2026-01-02T00:00:00.000000Z", "note": "5"})
    await world.emit({"weight": "5.0", "due": "2026-01-02T01:00:00+01:00", "note": "5.0"})
    shown = structs.replace(
        await world.snapshot(), type_normalisers={"weight": (Normaliser.NUMBER,), "due": (Normaliser.INSTANT,)}
    )
    document = world.document()
    plan = planning.draft(document.desired, document.agreement.base, shown, world.policy)
    assert isinstance(plan, Patch)
    assert plan.fields == {"note": "5.0"}


async def test_a_note_names_systems_and_events_and_fits(world: World) -> None:
    await world.emit({"owner": "akim"}, reason="ECN-2231\napproved", id="e-1")
    await world.emit({"title": "Lid", "attributes.Site": "B1"}, id="e-2", source="//line-3.mes/x")
    assert await _note(world) == "line-3.mes: event e-2 (attributes.Site, title); ERP: ECN-2231 approved (owner)"
    for number in range(3, 33):
        await world.emit({f"attributes.Extra{number}": "x"}, id=f"e-{number}", reason=f"ECN-{number}")
    note = await _note(world)
    assert len(note) <= notes.CHARACTERS_MAX
    assert note.startswith("ERP: ECN-32; ECN-31; ")
    assert note.endswith(" more")
    await world.emit({"attributes.Note": "x"}, id="e-33", source="//mes/line-1", reason="because " * 100)
    note = await _note(world)
    assert len(note) <= notes.CHARACTERS_MAX
    assert note.startswith("MES: because because ")
    assert "…; ERP: ECN-32; " in note, "a long reason leaves no room for others"
    assert note.endswith(" more")


async def _note(world: World) -> str:
    document = world.document()
    plan = planning.draft(document.desired, document.agreement.base, await world.snapshot(), world.policy)
    assert isinstance(plan, Patch)
    return notes.of(document.desired, plan)


async def pause(world: World) -> None:
    action = OperatorAction(world.clock.now_us(), "jdoe", "operator", "pause", KEY, KEY, {}, "done")
    assert await world.store.record_actions(Change.PAUSE, [action], at_us=world.clock.now_us(), reason="paused by jdoe")


@pytest.mark.parametrize("left", [Fault.STRANDED, Fault.LOST_LOCK, Fault.LOST_REPLY])
async def test_a_lock_left_behind_does_not_stay_for_the_length_of_a_pause(world: World, left: Fault) -> None:
    world.windchill.script_writes(left)
    await world.emit_and_attempt({"owner": "akim"})
    await pause(world)
    reads, writes = world.windchill.reads, world.windchill.writes
    async with world.running() as running:
        await running.pass_until(lambda: not world.windchill.holders, "the lock is given up", 60)
        await world.clock.advance(1)
    assert (world.windchill.reads, world.windchill.writes) == (reads, writes)
    found = world.document()
    assert (found.status, found.reason) == (Status.PAUSED, "paused by jdoe")
    assert found.agreement.intent is not None, "what became of the write is still to be read"
    assert found.agreement.intent.lock is None


async def test_a_lock_that_came_late_does_not_stay_for_the_length_of_a_pause(world: World) -> None:
    await world.emit_and_settle({"owner": "akim"})
    await pause(world)
    async with world.running() as running:
        await world.clock.advance(30)
        world.windchill.holders[KEY] = ME  # a request that came through long after it was given up
        await running.pass_until(lambda: not world.windchill.holders, "the lock is given up", 3 * 3600)
    assert world.document().status is Status.PAUSED


async def test_a_lock_of_a_store_that_was_lost_does_not_stay_for_the_length_of_a_pause(world: World) -> None:
    await world.emit({"owner": "akim"})
    await pause(world)
    world.windchill.holders[KEY] = ME
    async with world.running() as running:
        await running.pass_until(lambda: not world.windchill.holders, "the lock is given up", 60)
    assert world.windchill.writes == 0


async def test_a_lock_that_a_pause_finds_in_someone_elses_hands_is_theirs(world: World) -> None:
    world.windchill.script_writes(Fault.LOST_LOCK)
    await world.emit_and_attempt({"owner": "akim"})
    await pause(world)
    world.windchill.holders[KEY] = "jdoe"
    async with world.running():
        await world.clock.advance(600)
    assert world.windchill.holders == {KEY: "jdoe"}
    assert not world.outcomes("parked"), "a pause is no trouble to be told of"
    del world.windchill.holders[KEY]
