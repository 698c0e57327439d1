"""Writing attributes under a check-out, on a real socket: what it costs, what is refused, and who comes in between."""

import asyncio
from collections import Counter
from functools import partial
from typing import Any

import pytest
from msgspec import structs

from reconciler.adapters.wrs import service
from reconciler.model.answer import Locked, NotAvailable, Refused, VersionConflict, Written
from reconciler.model.document import Status
from reconciler.model.policy import Rule, Strategy
from reconciler.model.snapshot import Token
from tests.adapters.wrs.conftest import MakeWorld
from tests.adapters.wrs.world import ME, Fault, WrsWorld
from tests.checks import expect
from tests.fakes.journal import MemoryJournal
from tests.flows.world import KEY, policy

CYCLE = ["GET one", "CheckOut", "GET copy", "GET list", "PATCH", "CheckIn", "GET new"]
LOCKED_REPLIES = ["same", 400, 409, 423, 500]


@pytest.fixture
async def ready(world: WrsWorld) -> WrsWorld:
    """A world whose document was written once, so that the next write begins with its check-out."""
    return await world.known()


# -------------------------------------------------------------------------------------------------------- what it costs


async def test_changed_attributes_cost_one_check_out_cycle_whatever_the_number_of_events(ready: WrsWorld) -> None:
    for number in range(100):
        await ready.emit({"Owner": f"user{number}", "CostCenter": str(number), "Title": f"Title {number}"})
    await ready.settle()
    assert ready.wire.asked == CYCLE
    assert ready.cycles() == ["CheckOut", "CheckIn"] * 2
    shown = ready.live()
    assert (shown["owner"], shown["attributes"]["CostCenter"], shown["title"]) == ("user99", "99", "Title 99")
    assert ready.document().status is Status.SYNCED


async def test_a_first_write_costs_besides_a_read_the_metadata_and_a_nonce(world: WrsWorld) -> None:
    await world.reconcile({"Owner": "lchen"})
    assert world.wire.asked == ["metadata", "GET list", CYCLE[0], "nonce", *CYCLE[1:]]


async def test_many_documents_at_once_cost_a_cycle_each_and_one_nonce(world: WrsWorld) -> None:
    keys = [f"{number:010d}" for number in range(1, 17)]
    shown = [await world.snapshot(key) for key in keys]
    world.wire.asked.clear()
    answers = await asyncio.gather(*(world.write(one, {"Owner": "akim"}) for one in shown))
    assert [type(answer) for answer in answers] == [Written] * len(keys)
    assert {world.live(key)["owner"] for key in keys} == {"akim"}
    asked = Counter("GET one" if step.startswith("GET") else step for step in world.wire.asked)
    cycles = dict.fromkeys(("CheckOut", "PATCH", "CheckIn"), len(keys))
    assert asked == {"nonce": 1, "GET one": 4 * len(keys), **cycles}


async def test_nothing_to_write_costs_no_check_out(ready: WrsWorld) -> None:
    await ready.reconcile({"Owner": "lchen", "CostCenter": "4000"})
    assert ready.wire.asked == ["GET one"]


async def test_what_the_metadata_forbids_costs_no_request_and_keeps_nothing_else_from_going_out(
    ready: WrsWorld,
) -> None:
    wrong = {"LegacyID": "L-1", "CreatedBy": "me", "Nonsense": 1, "Number": "X", "Weight": "heavy", "Quantity": 1.5}
    await ready.reconcile({**wrong, "Owner": "akim"})
    assert ready.held() == sorted(wrong)
    assert ready.live()["owner"] == "akim"
    assert ready.cycles() == ["CheckOut", "CheckIn"] * 2
    assert ready.live().get("number") is None, "the document would not be found by its key any more"


async def test_the_check_in_note_names_the_system_and_the_reason(world: WrsWorld) -> None:
    await world.reconcile({"Owner": "lchen"}, reason="ECN-2231 approved", id="e-77")
    assert world.notes("CheckIn") == ["ERP: ECN-2231 approved (Owner)"]


async def test_values_go_out_as_their_types_want_them(ready: WrsWorld) -> None:
    given: dict[str, Any] = {
        "Classification": "PUBLIC",
        "Keywords": ["b", "a"],
        "Weight": "12.5",
        "Quantity": 7,
        "ExportControlled": True,
        "ReviewDue": "2027-01-02T03:04:05+02:00",
        "Note": None,
    }
    await ready.reconcile(given)
    assert ready.held() == []
    attributes = ready.live()["attributes"]
    assert attributes["Classification"] == "PUBLIC"
    assert attributes["Weight"] == 12.5
    assert attributes["Quantity"] == 7
    assert attributes.get("Note") is None
    ready.wire.asked.clear()
    await ready.resync()
    assert ready.document().status is Status.SYNCED
    assert "CheckOut" not in ready.wire.asked, "what the server shows is not what was written"


@pytest.mark.parametrize("checkin_id", ["working_copy", "fresh"])
@pytest.mark.parametrize("form", ["entity", "id"])
@pytest.mark.parametrize("patch_reply", ["none", "entity"])
async def test_whatever_the_replies_look_like_the_new_iteration_is_known(
    ready: WrsWorld, checkin_id: str, form: str, patch_reply: str
) -> None:
    ready.switch(checkin_id=checkin_id, checkin_reply=form, checkout_reply=form, patch_reply=patch_reply)
    await ready.reconcile({"Owner": "akim"})
    snapshot = ready.document().agreement.snapshot
    assert snapshot is not None
    assert not snapshot.assumed
    assert snapshot == await ready.adapter.read(KEY)
    await ready.reconcile({"Owner": "mrossi"})
    assert ready.wire.asked[-7:] == CYCLE
    assert ready.iterations() == 4


@pytest.mark.parametrize("lock", ["auto", "checkout"])
@pytest.mark.parametrize("place", ["header", "body", "both"])
@pytest.mark.parametrize("strictness", ["ignored", "enforced", "required"])
async def test_where_etags_are_shown_they_come_on_top_and_never_instead(
    make_world: MakeWorld, lock: str, place: str, strictness: str
) -> None:
    world = (await make_world(lock=lock)).switch(etags="weak", etag_in=place, if_match=strictness)
    for owner in ("lchen", "akim"):
        world.wire.asked.clear()
        world.wire.before["CheckOut"] = partial(world.person.edits, title=f"Theirs before {owner}")
        await world.reconcile({"Owner": owner})
        assert (world.live()["owner"], world.live()["title"]) == (owner, f"Theirs before {owner}")
    assert world.cycles() == ["CheckOut", "CheckIn"] * 2
    if strictness != "required":
        assert world.wire.asked == [*CYCLE[:2], "GET list", *CYCLE]
    world.wire.asked.clear()
    await world.resync()
    assert "CheckOut" not in world.wire.asked


async def test_an_old_nonce_is_renewed_and_the_write_sent_once_more(ready: WrsWorld) -> None:
    ready.wire.before["PATCH"] = ready.simulated.expire_nonces
    await ready.reconcile({"Owner": "akim"})
    assert ready.wire.asked == [*CYCLE[:4], "PATCH", "nonce", "PATCH", "CheckIn", "GET new"]
    assert ready.iterations() == 3


# --------------------------------------------------------------------------------------------------------------- people


@pytest.mark.parametrize("stale", [400, 404, "latest"])
async def test_an_edit_before_our_check_out_is_kept_and_ours_lands(ready: WrsWorld, stale: int | str) -> None:
    ready.switch(stale_checkout=stale)
    ready.wire.before["CheckOut"] = lambda: ready.person.edits(title="Theirs")
    await ready.reconcile({"Owner": "akim"})
    assert (ready.live()["owner"], ready.live()["title"]) == ("akim", "Theirs")
    undone = ["CheckOut", "UndoCheckOut"] if stale == "latest" else []
    assert ready.cycles() == ["CheckOut", "CheckIn", *undone, "CheckOut", "CheckIn"]


async def test_a_refusal_of_what_may_be_stale_holds_nothing_while_that_can_not_be_told(ready: WrsWorld) -> None:
    ready.wire.before["CheckOut"] = lambda: ready.person.edits(title="Theirs")
    ready.wire.faults["GET list"] = Fault.REQUEST_LOST
    await ready.reconcile({"Owner": "akim"})
    assert ready.held() == []
    assert ready.live()["owner"] == "akim"


async def test_an_edit_of_the_same_field_before_our_check_out_is_decided_by_the_policy(make_world: MakeWorld) -> None:
    for strategy, owner, status in (
        (Strategy.MERGE, "theirs", Status.HELD),
        (Strategy.PRESERVE, "theirs", Status.SYNCED),
        (Strategy.EXTERNAL, "ours", Status.SYNCED),
    ):
        world = await (await make_world(policy(Rule(("Owner",), strategy)))).known()
        before = world.cycles().count("CheckIn")
        world.wire.before["CheckOut"] = lambda world=world: world.person.edits(owner="theirs")  # type: ignore[misc]  # bound early
        await world.reconcile({"Owner": "ours"})
        assert world.live()["owner"] == owner
        assert world.document().status is status
        assert world.holder() is None
        assert world.cycles().count("CheckIn") == before + (owner == "ours")


async def test_what_someone_else_has_written_meanwhile_is_not_written_again(ready: WrsWorld) -> None:
    ready.wire.before["CheckOut"] = lambda: ready.person.edits(owner="akim")
    await ready.reconcile({"Owner": "akim"})
    assert ready.live()["owner"] == "akim"
    assert ready.cycles() == ["CheckOut", "CheckIn", "CheckOut", "UndoCheckOut"]


@pytest.mark.parametrize("shown", [True, False], ids=["holder shown", "holder not shown"])
@pytest.mark.parametrize("reply", LOCKED_REPLIES)
async def test_a_document_that_someone_is_at_work_on_is_locked_until_they_are_done(
    ready: WrsWorld, reply: int | str, shown: bool
) -> None:
    message = "The object is checked out by {holder}." if shown else "The object is checked out."
    ready.switch(checkout_conflict=reply, holder_shown=shown, locked_message=message)
    ready.person.does("checkout", "edit", set={"title": "Theirs"})
    await ready.try_once({"Owner": "akim"})
    document = ready.document()
    assert document.status is Status.LOCKED
    assert document.agreement.intent is None, "nothing was sent that could be in doubt"
    assert ("jdoe" in document.reason) is shown
    assert ready.holder() == "jdoe"
    ready.person.does("checkin")
    await ready.settle()
    assert (ready.live()["owner"], ready.live()["title"]) == ("akim", "Theirs")


async def test_a_document_that_has_given_its_number_to_another_one_is_not_written_in_its_place(ready: WrsWorld) -> None:
    other = "0000000002"
    renamed = ready.live(KEY)["attributes"]
    for key, number in ((KEY, "ARCHIVED-1"), (other, KEY)):  # in place: no new iteration tells of it
        ready.person.renames(key, number)
    await ready.reconcile({"CostCenter": "4711"})
    assert ready.live(KEY)["attributes"] == renamed
    assert ready.cycles() == ["CheckOut", "CheckIn"]
    shown = ready.document().agreement.snapshot
    assert shown is not None
    assert shown.value("Title") == ready.live(other)["title"], "whoever has the number now is the document"


@pytest.mark.parametrize("step", ["GET copy", "PATCH", "CheckIn"])
@pytest.mark.parametrize("action", ["edits", "holds"])
async def test_when_an_administrator_undoes_our_check_out_nothing_of_theirs_is_lost(
    ready: WrsWorld, step: str, action: str
) -> None:
    ready.switch(administrators=[ME])

    def undo() -> None:
        ready.simulated.unlock(KEY)
        if action == "edits":
            ready.person.edits(title="Theirs", owner="lchen")
        else:
            ready.person.does("checkout", "edit", set={"title": "Theirs"})

    ready.wire.before[step] = undo
    await ready.try_once({"Owner": "akim"})
    if action == "holds":
        assert ready.holder() == "jdoe"
        ready.person.does("checkin")
    await ready.settle()
    assert (ready.live()["owner"], ready.live()["title"]) == ("akim", "Theirs")
    assert ready.cycles("jdoe") == ["CheckOut", "CheckIn"]
    assert ready.cycles().count("CheckIn") == 2


async def test_an_edit_right_after_our_check_in_is_not_taken_for_ours(make_world: MakeWorld) -> None:
    world = await (await make_world(policy(Rule(("*",), Strategy.PRESERVE)))).known()
    world.wire.before["GET new"] = lambda: world.person.edits(owner="theirs")
    await world.reconcile({"Owner": "akim"})
    await world.resync()
    assert world.live()["owner"] == "theirs"
    assert world.document().agreement.base.fields["Owner"].value == "theirs"
    assert world.document().status is Status.SYNCED


async def test_a_working_copys_date_does_not_make_an_event_late(make_world: MakeWorld) -> None:
    """The event is older than our own last write, which is no edit by others."""
    world = await make_world(policy(Rule(("*",), Strategy.MERGE)))
    written = await world.emit({"Owner": "lchen"})
    await world.settle()
    await world.reconcile({"CostCenter": "4711"}, time=written["time"])
    assert world.live()["attributes"]["CostCenter"] == "4711"
    assert world.cycles() == ["CheckOut", "CheckIn"] * 2


async def test_an_edit_by_others_is_dated_by_its_iteration_not_by_our_working_copy(make_world: MakeWorld) -> None:
    world = await (await make_world(policy(Rule(("*",), Strategy.NEWEST)))).known()
    world.wire.before["CheckOut"] = lambda: world.person.edits(owner="theirs")  # dated an hour before our event
    await world.reconcile({"Owner": "akim"})
    assert world.live()["owner"] == "akim"


async def test_somebodys_working_copy_is_not_written_to_though_the_check_out_was_answered_with_it(
    ready: WrsWorld,
) -> None:
    ready.switch(administrators=[ME])
    ready.person.does("checkout", "edit", set={"title": "Half done"})
    theirs = ready.where()["working_copy"]
    ready.simulated.script("POST", {"status": 200, "body": {"ID": theirs}}, document=KEY)
    await ready.try_once({"Owner": "akim"})
    assert "PATCH" not in ready.wire.asked
    await ready.wait()
    await ready.attempt()
    assert ready.document().status is Status.LOCKED
    assert "jdoe" in ready.document().reason
    assert ready.where()["working_copy"] == theirs
    ready.person.does("checkin")
    await ready.settle()
    assert (ready.live()["owner"], ready.live()["title"]) == ("akim", "Half done")


async def test_a_wrong_account_ends_all_check_outs_after_the_first(ready: WrsWorld) -> None:
    ready.switch(administrators=[ME], checkout_note_shown=False)

    def another_name(key: str) -> None:
        ready.person.does("checkout", document=key)  # stands for a working copy of ours that goes by another name
        copy = ready._control.get(f"/documents/{key}").json()["working_copy"]
        ready.simulated.script("POST", {"status": 200, "body": {"ID": copy}}, document=key)

    answers = []
    for number in range(4, 10):
        key = f"{number:010d}"
        ready.wire.before["CheckOut"] = partial(another_name, key)
        answers.append(await ready.write(await ready.snapshot(key), {"Title": "Lid"}))
    assert ready.wire.asked.count("CheckOut") == 1
    assert all("windchill.account" in getattr(answer, "message", "") for answer in answers)


# ------------------------------------------------------------------------------------------------------------- refusals


async def test_a_refused_field_is_held_and_the_rest_goes_out_in_the_same_check_in(ready: WrsWorld) -> None:
    ready.simulated.behave(refused_fields={"attributes.CostCenter": "is closed"})
    await ready.reconcile({"Owner": "akim", "CostCenter": "4711"})
    assert ready.held() == ["CostCenter"]
    assert "is closed" in ready.document().reason
    assert ready.live()["owner"] == "akim"
    assert ready.cycles() == ["CheckOut", "CheckIn"] * 2


async def test_a_409_under_our_lock_is_no_version_conflict(ready: WrsWorld) -> None:
    canned = {"status": 409, "body": {"error": {"code": "RULE", "message": "Property 'Owner' breaks a rule"}}}
    ready.simulated.script("PATCH", canned, document=KEY)
    await ready.reconcile({"Owner": "akim"})
    assert ready.held() == ["Owner"]
    assert ready.cycles() == ["CheckOut", "CheckIn", "CheckOut", "UndoCheckOut"]


@pytest.mark.parametrize(
    "fault", ["unavailable", "throttle", "login_page", "dropped_request", "lost_reply", "wrong_type", "bad_json"]
)
@pytest.mark.parametrize("method", ["GET", "PATCH", "POST"])
async def test_whatever_a_front_end_does_the_write_is_made_once(ready: WrsWorld, method: str, fault: str) -> None:
    for place in range(3):
        await ready.emit({"Owner": f"user{place}"})
        steps = ["ok"] * place + [fault]
        ready.simulated.script(method, *steps, document=KEY)
        await ready.settle()
        ready.simulated.unscript()
        assert ready.live()["owner"] == f"user{place}"
        assert ready.holder() is None
        assert ready.cycles().count("CheckIn") == place + 2


async def test_a_check_in_that_is_refused_is_undone(ready: WrsWorld) -> None:
    canned = {"status": 400, "body": {"error": {"code": "RULE", "message": "Property 'Owner' is incomplete"}}}
    ready.simulated.script("POST", "ok", canned, document=KEY)
    await ready.reconcile({"Owner": "akim"})
    assert ready.held() == ["Owner"]
    assert ready.holder() is None
    assert ready.iterations() == 2


async def test_tokens_that_guard_nothing_are_not_sent_and_strange_ones_are_read_again(ready: WrsWorld) -> None:
    shown = await ready.snapshot()
    journal = MemoryJournal({"Owner": "akim"})
    for token in ("", " ", "*"):
        with pytest.raises(ValueError, match="token of a read"):
            await ready.adapter.write(shown, {"Owner": "akim"}, token=Token(token), journal=journal)
    answer = await ready.adapter.write(shown, {"Owner": "akim"}, token=Token('"5"'), journal=journal)
    assert isinstance(answer, VersionConflict)
    assert ready.cycles() == ["CheckOut", "CheckIn"]


async def test_the_lock_is_journalled_before_anything_else_is_sent(ready: WrsWorld) -> None:
    asked_when_journalled: list[list[str]] = []
    wire = ready.wire

    class Journal(MemoryJournal):
        async def locked(self, lock: str) -> None:
            await super().locked(lock)
            asked_when_journalled.append(list(wire.asked))
            assert lock == ready.where()["working_copy"]

    shown = await ready.snapshot()
    wire.asked.clear()
    journal = Journal({"Owner": "akim"})
    await ready.write(shown, {"Owner": "akim"}, journal)
    assert asked_when_journalled == [["GET one", "CheckOut"]]
    assert journal.shown == [shown], "the working copy does not look as the document does"


async def test_under_the_lock_a_newer_iteration_is_shown_as_a_read_shows_it(ready: WrsWorld) -> None:
    old = await ready.snapshot()
    ready.person.edits(title="Theirs")
    new = await ready.snapshot()
    journal = MemoryJournal({"Owner": "akim"})
    await ready.write(old, {"Owner": "akim"}, journal)
    assert journal.shown == [new]
    assert new.modified_by == "jdoe"


@pytest.mark.parametrize("shown", [True, False], ids=["holder shown", "holder not shown"])
@pytest.mark.parametrize("reply", [400, 409, 500])
async def test_a_document_that_someone_has_checked_out_is_locked_in_whatever_language_that_is_said(
    ready: WrsWorld, reply: int, shown: bool
) -> None:
    ready.switch(checkout_conflict=reply, holder_shown=shown, locked_message="Das Objekt ist von {holder} ausgecheckt.")
    ready.person.does("checkout")
    await ready.try_once({"Owner": "akim"})
    await ready.wait()
    await ready.attempt()  # a 500 leaves it open what has happened, and the next attempt looks
    assert ready.document().status is Status.LOCKED
    assert "set windchill.account" not in ready.document().reason, "it is set"
    ready.person.does("edit", "checkin", set={"title": "Theirs"})
    await ready.settle()
    live = ready.live()
    assert (live["owner"], live["title"], ready.holder()) == ("akim", "Theirs", None)


async def test_an_attribute_that_was_added_since_the_start_is_written_once_the_metadata_is_old(
    ready: WrsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready.switch(soft_attributes={"Colour": "Edm.String"})
    shown = await ready.snapshot()
    shown = structs.replace(shown, body={name: value for name, value in shown.body.items() if name != "Colour"})
    expect(Refused, await ready.write(shown, {"Colour": "red"}))
    monkeypatch.setattr(service, "_SCHEMA_S_MIN", 0.0)
    expect(Written, await ready.write(shown, {"Colour": "red"}))
    assert ready.live()["attributes"]["Colour"] == "red"


async def test_a_service_that_does_not_say_what_is_checked_out_is_not_written_to(ready: WrsWorld) -> None:
    ready.wire.faults["CheckOut"] = Fault.REQUEST_LOST
    shown = await ready.snapshot()
    schema = await ready.adapter.service.schema()
    for name in ("CheckoutState", "CheckOutStatus", "WorkInProgressState"):
        schema.document.properties.pop(name, None)  # type: ignore[union-attr]  # the test's own schema
    expect(NotAvailable, await ready.write(shown, {"Owner": "akim"}))
    assert ready.wire.faults, "a check-out was sent"


async def test_a_locked_answer_names_the_holder(ready: WrsWorld) -> None:
    ready.person.does("checkout")
    shown = await ready.snapshot()
    journal = MemoryJournal({"Owner": "akim"})
    assert expect(Locked, await ready.write(shown, {"Owner": "akim"}, journal)).holder == "jdoe"
    assert not journal.locks
    expect(Refused, await ready.write(shown, {"LegacyID": "x"}))


# ----------------------------------------------------------------------------------------------- asked before check-out

ASKING = ["CheckOut", "CheckIn", "UndoCheckOut", "SetState", "UpdateCommonProperties", "IsCheckoutAllowed"]


async def test_where_the_server_tells_whether_a_check_out_is_allowed_it_is_asked_first(make_world: MakeWorld) -> None:
    world = (await make_world()).switch(actions=ASKING)
    await world.reconcile({"Owner": "lchen"})
    assert world.document().status is Status.SYNCED
    assert [step for step in world.wire.asked if "heck" in step] == ["IsCheckoutAllowed", "CheckOut", "CheckIn"]


async def test_what_may_not_be_checked_out_is_not_tried_and_says_so(make_world: MakeWorld) -> None:
    world = (await make_world()).switch(actions=ASKING, check_out_allowed=False)
    await world.try_once({"Owner": "lchen"})
    assert world.document().status is Status.PARKED
    assert "IsCheckoutAllowed says no" in world.document().reason
    assert "CheckOut" not in world.wire.asked
    world.switch(check_out_allowed=True)
    await world.settle()
    assert world.live()["owner"] == "lchen"


async def test_an_iteration_that_someone_makes_right_after_ours_is_looked_at_before_it_is_called_synced(
    world: WrsWorld,
) -> None:
    world.wire.before["GET new"] = lambda: world.person.edits(owner="akim")
    await world.try_once({"Owner": "lchen"})
    assert world.document().status is Status.PENDING
    assert world.document().reason == "jdoe made another iteration after our check-in"
    await world.settle()
    assert world.document().status is not Status.PENDING
