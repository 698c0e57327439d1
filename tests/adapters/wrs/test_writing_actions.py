"""Writing what takes an action, outside of any lock: State and the common properties."""

import itertools
from typing import Any

import pytest

from reconciler.model.answer import Refused, VersionConflict, Written
from reconciler.model.document import Status
from reconciler.model.policy import Rule, Strategy
from tests.adapters.wrs.conftest import MakeWorld
from tests.adapters.wrs.world import ME, Fault, Person, WrsWorld
from tests.checks import expect
from tests.fakes.journal import MemoryJournal
from tests.flows.world import KEY, policy

ATTRIBUTES = ["GET one", "CheckOut", "GET copy", "GET list", "PATCH", "CheckIn", "GET new"]
COMMON = ["GET list", "GET one", "UpdateCommonProperties", "GET new"]
STATE = ["GET list", "GetValidStateTransitions", "GET one", "SetState", "GET new"]
EXTERNAL = policy(Rule(("State", "Name"), Strategy.EXTERNAL))


@pytest.fixture
async def ready(make_world: MakeWorld) -> WrsWorld:
    """A world whose document was written once, and whose State and Name are the log's."""
    return await (await make_world(EXTERNAL)).known()


async def test_each_portion_costs_its_own_requests_and_no_more(ready: WrsWorld) -> None:
    await ready.reconcile({"State": "INREVIEW", "Name": "Lid", "Owner": "akim", "CostCenter": "4711"})
    assert ready.wire.asked == [*ATTRIBUTES, *COMMON, *STATE]
    shown = ready.live()
    assert (shown["status"], shown["name"], shown["owner"]) == ("INREVIEW", "Lid", "akim")
    assert ready.cycles() == ["CheckOut", "CheckIn"] * 2, "an action needs no check-out"
    assert ready.written()[-3:] == [{"owner", "attributes.CostCenter"}, {"name"}, {"status"}]
    ready.wire.asked.clear()
    await ready.resync()
    assert ready.wire.asked == ["GET one"]
    assert ready.document().status is Status.SYNCED


async def test_a_state_that_can_not_be_reached_is_refused_with_those_that_can(ready: WrsWorld) -> None:
    await ready.reconcile({"State": "RELEASED", "Owner": "akim"})
    assert ready.held() == ["State"]
    assert "State can't go from INWORK to RELEASED; Windchill allows INREVIEW, OBSOLETE" in ready.document().reason
    assert ready.live()["owner"] == "akim"
    assert "SetState" not in ready.wire.asked


async def test_a_state_from_which_nothing_leads_on_says_so(ready: WrsWorld) -> None:
    ready.person.does("setstate", state="OBSOLETE")
    await ready.reconcile({"State": "INWORK"})
    assert "Windchill allows no other" in ready.document().reason


@pytest.mark.parametrize("listed", ["Items", "value"])
async def test_a_state_goes_out_in_whichever_form_the_server_lists_those_that_can_follow(
    ready: WrsWorld, listed: str
) -> None:
    ready.switch(transitions_in=listed)
    await ready.reconcile({"State": "INREVIEW"})
    assert ready.live()["status"] == "INREVIEW"
    assert ready.document().status is Status.SYNCED


async def test_an_answer_that_is_not_understood_is_called_so_and_not_asked_for_again_and_again(ready: WrsWorld) -> None:
    ready.switch(transitions_in="States")
    await ready.reconcile({"State": "INREVIEW", "Owner": "akim"})
    assert ready.held() == ["State"]
    reason = ready.document().reason
    assert "the answer to GetValidStateTransitions is not understood" in reason
    assert "an object with States (a list of an object)" in reason
    assert "allows" not in reason
    assert ready.live()["owner"] == "akim", "the rest waits for nothing"
    assert "SetState" not in ready.wire.asked
    assert ready.wire.asked.count("GetValidStateTransitions") == 1


async def test_without_transitions_the_server_decides(ready: WrsWorld) -> None:
    ready.switch(actions=["CheckOut", "CheckIn", "UndoCheckOut", "SetState"], states={"INWORK": "INWORK", "B": "B"})
    await ready.adapter.close()
    ready.connect()
    await ready.reconcile({"State": "B"})
    assert ready.document().status is Status.HELD, "the transition from INWORK does not lead there"
    assert "can't go from state INWORK to B" in ready.document().reason
    ready.switch(transitions={})
    await ready.reconcile({"State": "B"})
    assert ready.live()["status"] == "B"


async def test_a_server_without_actions_refuses_state_and_name_by_its_metadata(ready: WrsWorld) -> None:
    ready.switch(actions=["CheckOut", "CheckIn", "UndoCheckOut"])
    await ready.adapter.close()
    ready.connect()
    await ready.reconcile({"State": "INREVIEW", "Name": "Lid", "Owner": "akim"})
    assert ready.held() == ["Name", "State"]
    assert ready.live()["owner"] == "akim"
    assert ready.cycles().count("CheckIn") == 2


@pytest.mark.parametrize("moves", [True, False], ids=["dated", "not dated"])
@pytest.mark.parametrize("fields", [{"State": "INREVIEW"}, {"Name": "Lid"}], ids=["State", "Name"])
async def test_what_was_decided_on_an_older_read_is_decided_again(
    ready: WrsWorld, fields: dict[str, Any], moves: bool
) -> None:
    ready.switch(set_state_moves_last_modified=moves, common_properties_move_last_modified=moves)
    ready.wire.before["GET one"] = lambda: ready.person.edits(title="Theirs")
    await ready.reconcile(fields)
    assert ready.live()["title"] == "Theirs"
    assert ready.live()["status" if "State" in fields else "name"] == next(iter(fields.values()))
    assert not ready.wire.before


async def test_a_state_that_someone_has_set_meanwhile_is_not_set_again(ready: WrsWorld) -> None:
    ready.wire.before["GET one"] = lambda: ready.person.does("setstate", state="INREVIEW")
    await ready.reconcile({"State": "INREVIEW"})
    assert "SetState" not in ready.wire.asked
    assert ready.document().status is Status.SYNCED


async def test_a_state_that_someone_sets_right_before_ours_is_refused_by_the_server(ready: WrsWorld) -> None:
    ready.wire.before["SetState"] = lambda: ready.person.does("setstate", state="OBSOLETE")
    await ready.reconcile({"State": "INREVIEW"})
    assert ready.live()["status"] == "OBSOLETE"
    assert ready.held() == ["State"]


async def test_an_iteration_made_right_before_an_action_is_a_version_conflict_not_a_refusal(ready: WrsWorld) -> None:
    for fields, action in (({"State": "INREVIEW"}, "SetState"), ({"Name": "Lid"}, "UpdateCommonProperties")):
        ready.wire.before[action] = lambda: ready.person.edits(title="Theirs")
        await ready.reconcile(fields)
        assert ready.held() == []
    assert (ready.live()["status"], ready.live()["name"], ready.live()["title"]) == ("INREVIEW", "Lid", "Theirs")


async def test_an_action_whose_refusal_can_not_be_told_from_a_stale_one_is_tried_again(ready: WrsWorld) -> None:
    ready.wire.before["UpdateCommonProperties"] = lambda: ready.person.edits(title="Theirs")
    ready.wire.faults["GET list"] = Fault.REQUEST_LOST
    await ready.reconcile({"Name": "Lid"})
    assert ready.held() == []
    assert ready.live()["name"] == "Lid"


@pytest.mark.parametrize("step", STATE)
async def test_a_state_is_not_set_once_another_replica_may_have_our_place(ready: WrsWorld, step: str) -> None:
    await ready.emit({"State": "INREVIEW"})
    ready.wire.asked.clear()
    ready.wire.faults[step] = Fault.OUTLIVED
    await ready.cut_short()
    assert ready.live()["status"] == ("INREVIEW" if step == "GET new" else "INWORK")
    intent = ready.document().agreement.intent
    assert intent is None or step == "GET new", "what was not sent is not in doubt"
    ready.wire.outlived = False
    await ready.settle()
    assert ready.live()["status"] == "INREVIEW"
    assert ready.written().count({"status"}) == 1


@pytest.mark.parametrize("step", ["GET one", "SetState", "UpdateCommonProperties"])
@pytest.mark.parametrize("reply", ["same", 400, 409, 423, 500])
async def test_a_document_that_is_checked_out_is_locked_for_actions_too(
    ready: WrsWorld, step: str, reply: int | str
) -> None:
    ready.switch(checkout_conflict=reply)
    await ready.emit({"Name": "Lid"} if step == "UpdateCommonProperties" else {"State": "INREVIEW"})
    ready.wire.before[step] = lambda: ready.person.does("checkout", "edit", set={"title": "Theirs"})
    await ready.attempt()
    assert ready.document().status is Status.LOCKED
    assert "jdoe" in ready.document().reason
    ready.person.does("checkin")
    await ready.settle()
    assert ready.live()["title"] == "Theirs"
    assert ready.live().get("name") == "Lid" or ready.live()["status"] == "INREVIEW"


async def test_a_state_is_not_set_under_somebodys_hands_even_where_the_server_would_let_us(ready: WrsWorld) -> None:
    ready.switch(set_state_when_checked_out="accepted")
    ready.person.does("checkout", "edit", set={"title": "Theirs"})
    await ready.try_once({"State": "INREVIEW"})
    assert ready.document().status is Status.LOCKED
    assert ready.live()["status"] == "INWORK"


async def test_a_check_out_under_our_account_keeps_an_action_waiting(ready: WrsWorld) -> None:
    ready.wire.before["GET one"] = lambda: Person(ready.simulated, ME).does("checkout")
    await ready.try_once({"State": "INREVIEW"})
    assert ready.document().status is Status.LOCKED
    assert "our own account" in ready.document().reason
    assert ready.holder() == ME
    Person(ready.simulated, ME).does("undo")
    await ready.settle()
    assert ready.live()["status"] == "INREVIEW"


@pytest.mark.parametrize("reply", ["entity", "none"])
@pytest.mark.parametrize(
    ("fields", "after", "path"),
    [
        ({"State": "INREVIEW"}, "INWORK", "status"),
        ({"State": "INREVIEW"}, "OBSOLETE", "status"),
        ({"Name": "Lid"}, "Cover", "name"),
    ],
)
async def test_what_someone_sets_right_after_ours_is_their_edit_and_never_called_synced_before_it_is_seen(
    make_world: MakeWorld, fields: dict[str, Any], after: str, path: str, reply: str
) -> None:
    world = (await make_world(policy(Rule(("State", "Name"), Strategy.PRESERVE)))).switch(action_reply=reply)
    await world.reconcile({"Owner": "lchen"})
    world.wire.before["GET new"] = lambda: world.person.sets(path, after)
    await world.try_once(fields)
    assert world.document().status is Status.PENDING
    assert world.document().reason == f"{next(iter(fields))} changed by jdoe right after our write"
    await world.settle()
    assert world.live()[path] == after
    assert world.held() == [], "held as if the server had altered it"
    assert world.document().status is Status.SYNCED


@pytest.mark.parametrize("reply", ["entity", "none"])
async def test_a_state_that_no_one_else_can_have_set_is_the_servers_own(make_world: MakeWorld, reply: str) -> None:
    world = (await make_world(EXTERNAL)).switch(action_reply=reply, set_state_effect="ignored")
    await world.reconcile({"State": "INREVIEW"})
    assert world.held() == ["State"]
    assert "left the field as it was" in world.document().reason


async def test_what_can_not_be_read_back_is_read_again_before_it_is_called_synced(ready: WrsWorld) -> None:
    ready.wire.faults["GET new"] = Fault.REQUEST_LOST
    await ready.try_once({"State": "INREVIEW"})
    assert ready.document().status is Status.PENDING
    assert "it can't be read back yet" in ready.document().reason
    await ready.settle()
    assert ready.document().status is Status.SYNCED
    assert ready.written()[1:] == [{"status"}]


async def test_a_state_set_while_we_ask_which_can_follow_is_not_overwritten(make_world: MakeWorld) -> None:
    world = (await make_world(policy(Rule(("State",), Strategy.PRESERVE)))).switch(transitions={})
    await world.reconcile({"State": "INREVIEW"})
    world.wire.before["GetValidStateTransitions"] = lambda: world.person.does("setstate", state="RELEASED")
    await world.reconcile({"State": "INWORK"})
    assert world.live()["status"] == "RELEASED"
    assert [entry.who for entry in world.simulated.history(KEY) if "status" in entry.changes][-2:] == [ME, "jdoe"]


@pytest.mark.parametrize("restarted", [False, True], ids=["same process", "new process"])
@pytest.mark.parametrize("fault", list(Fault)[:4], ids=str)
@pytest.mark.parametrize(
    ("fields", "step"), [({"Name": "Lid"}, step) for step in COMMON] + [({"State": "INREVIEW"}, step) for step in STATE]
)
async def test_an_action_that_is_cut_short_anywhere_is_done_once(
    ready: WrsWorld, fields: dict[str, Any], step: str, fault: Fault, restarted: bool
) -> None:
    await ready.emit(fields)
    ready.wire.faults[step] = fault
    await ready.cut_short(restarted=restarted)
    await ready.settle()
    assert ready.live()["status" if "State" in fields else "name"] == next(iter(fields.values()))
    assert len(ready.written()) == 2, "it was done twice"
    doubt = ready.document().agreement.intent
    assert doubt is None or doubt.action, "only what nothing guards may still come"
    assert ready.held() == []


@pytest.mark.parametrize("etag_in", ["header", "body"])
async def test_where_etags_are_enforced_an_action_carries_one(ready: WrsWorld, etag_in: str) -> None:
    ready.switch(etags="weak", etag_in=etag_in, if_match="required")
    await ready.emit({"State": "INREVIEW", "Name": "Lid", "Owner": "akim"})
    edits = itertools.count()
    ready.wire.before["SetState"] = lambda: ready.person.edits(title=f"Theirs {next(edits)}")
    await ready.settle()
    assert (ready.live()["status"], ready.live()["name"], ready.live()["owner"]) == ("INREVIEW", "Lid", "akim")
    assert ready.live()["title"] == "Theirs 0"
    assert [entry.guard for entry in ready.simulated.history(KEY) if entry.who == ME and entry.way == "SetState"] != [
        None
    ]


async def test_answers_of_the_port(ready: WrsWorld) -> None:
    shown = await ready.snapshot()
    journal = MemoryJournal({})
    assert expect(Refused, await ready.write(shown, {"State": None}, journal)).fields == ("State",)
    ready.person.edits(title="Theirs")
    expect(VersionConflict, await ready.write(shown, {"State": "INREVIEW"}, journal))  # nothing was left to be written
    written = expect(Written, await ready.write(await ready.snapshot(), {"State": "INREVIEW"}, journal))
    assert written.snapshot == await ready.snapshot()
    assert len(journal.shown) == 1, "what has not moved is not decided again"
