"""Whose check-out it is: ours are known by store and mark, and a person's under our account is never touched."""

import asyncio

import pytest

from reconciler.model.answer import Locked, NotAvailable, WriteAnswer, Written
from reconciler.model.document import Status
from tests.adapters.wrs.world import ME, Fault, Person, WrsWorld
from tests.checks import expect
from tests.flows.world import KEY

HOLDER = pytest.mark.parametrize("holder", [True, False], ids=["holder shown", "holder hidden"])
NOTE = pytest.mark.parametrize("note", [True, False], ids=["note shown", "note hidden"])
COLUMNS = ["CheckoutState", "CheckOutStatus", "WorkInProgressState"]


def in_our_name(world: WrsWorld, *actions: str, **more: object) -> None:
    """A person uses our account."""
    Person(world.simulated, ME).does(*actions, **more)


async def wrote(world: WrsWorld, number: int) -> WriteAnswer:
    """Write to one of many documents."""
    return await world.write(await world.snapshot(f"{number:010d}"), {"Title": "Lid"})


@NOTE
@HOLDER
async def test_a_persons_check_out_under_our_account_is_left_alone_and_shown(
    world: WrsWorld, holder: bool, note: bool
) -> None:
    await world.known()
    world.switch(holder_shown=holder, checkout_note_shown=note)
    in_our_name(world, "checkout", note="by hand")
    theirs = world.where()["working_copy"]
    await world.emit({"Owner": "akim"})
    for _ in range(3):
        await world.attempt()
        document = world.document()
        assert document.status is Status.LOCKED
        assert "locked by our own account" in document.reason
        assert world.where()["working_copy"] == theirs
        await world.wait()
    in_our_name(world, "edit", "checkin", set={"title": "Theirs"})
    await world.settle()
    assert (world.live()["owner"], world.live()["title"]) == ("akim", "Theirs")


@NOTE
async def test_a_check_out_under_our_account_right_before_ours_is_not_written_into(world: WrsWorld, note: bool) -> None:
    await world.known()
    world.switch(checkout_note_shown=note)
    world.wire.before["CheckOut"] = lambda: in_our_name(world, "checkout", "edit", set={"title": "Half done"})
    await world.try_once({"Owner": "akim"})
    assert world.document().status is Status.LOCKED
    assert not {"PATCH", "CheckIn", "UndoCheckOut"} & {*world.wire.asked}
    in_our_name(world, "checkin")
    world.adapter._locks._stuck._look_at_s = 0.0  # a minute later
    await world.settle()
    assert (world.live()["owner"], world.live()["title"]) == ("akim", "Half done")


@pytest.mark.parametrize("fault", [Fault.REPLY_LOST, Fault.DIED_AFTER], ids=str)
async def test_a_check_out_whose_answer_was_lost_is_found_by_its_mark_where_the_holder_is_hidden(
    world: WrsWorld, fault: Fault
) -> None:
    await world.known()
    world.switch(holder_shown=False)
    await world.emit({"Owner": "akim"})
    world.wire.faults["CheckOut"] = fault
    await world.cut_short(restarted=True)
    assert world.holder() == ME
    await world.settle()
    assert (world.live()["owner"], world.holder()) == ("akim", None)
    assert world.cycles().count("CheckIn") == 2


async def test_where_no_note_is_shown_a_check_out_whose_answer_was_lost_is_left_to_a_person(world: WrsWorld) -> None:
    await world.known()
    world.switch(checkout_note_shown=False)
    await world.emit({"Owner": "akim"})
    world.wire.faults["CheckOut"] = Fault.DIED_AFTER
    await world.cut_short()
    await world.wait()
    await world.attempt()
    assert world.document().status is Status.LOCKED
    assert "by hand" in world.document().reason
    in_our_name(world, "undo")
    await world.settle()
    assert world.live()["owner"] == "akim"


@pytest.mark.parametrize("step", ["GET copy", "PATCH", "CheckIn"])
async def test_where_no_note_is_shown_the_stored_identity_is_proof(world: WrsWorld, step: str) -> None:
    await world.known()
    world.switch(checkout_note_shown=False, holder_shown=False)
    await world.emit({"Owner": "akim"})
    world.wire.faults[step] = Fault.DIED_BEFORE
    await world.cut_short()
    await world.settle()
    assert (world.live()["owner"], world.holder()) == ("akim", None)
    assert world.cycles().count("CheckIn") == 2


async def test_what_a_person_does_in_a_check_out_of_ours_that_was_lost_is_kept(world: WrsWorld) -> None:
    await world.known()
    await world.emit({"Owner": "akim"})
    world.wire.faults["CheckOut"] = Fault.REPLY_LOST
    await world.cut_short(restarted=True)
    in_our_name(world, "edit", set={"title": "Half done"})
    await world.attempt()
    assert world.document().status is Status.LOCKED
    assert "Title" in world.document().reason
    in_our_name(world, "checkin")
    await world.settle()
    assert (world.live()["owner"], world.live()["title"]) == ("akim", "Half done")


async def test_a_note_that_a_working_copy_has_inherited_proves_nothing(world: WrsWorld) -> None:
    await world.known()
    copies = world.adapter._locks._copies
    mark = "rec-0123-4567"
    inherited = {"Comments": f"[{mark}] Reconciler: Owner"}
    assert copies.is_ours(mark, inherited, below={}, before={}) is True
    assert copies.is_ours(mark, inherited, below={}, before=inherited) is None
    assert copies.is_ours(mark, {"Comments": "[rec-0123-89ab]"}, below={}, before=inherited) is True
    assert copies.is_ours(mark, {"Comments": "[rec-9999-4567]"}, below={}, before={}) is False
    assert copies.is_ours(mark, {"Comments": None}, below=inherited, before={}) is True, "it is shown below"


async def test_a_document_that_does_not_show_whether_it_is_checked_out_is_not_checked_out(world: WrsWorld) -> None:
    world.switch(secured={"*": COLUMNS})
    for number in range(4, 10):
        answer = expect(NotAvailable, await wrote(world, number))
        assert "CheckoutState" in answer.message
    assert "CheckOut" not in world.wire.asked


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "one by one"])
async def test_the_first_check_out_that_can_not_be_undone_stops_all_others_until_it_is_gone(
    world: WrsWorld, at_once: bool
) -> None:
    refusal = {"status": 403, "body": {"error": {"code": "FORBIDDEN", "message": "not for you"}}}
    keys = [f"{number:010d}" for number in range(4, 10)]
    for key in keys:
        world.simulated.script("PATCH", refusal, document=key)
        world.simulated.script("POST", "ok", refusal, document=key)
    if at_once:
        answers = await asyncio.gather(*(wrote(world, int(key)) for key in keys))
    else:
        answers = [await wrote(world, int(key)) for key in keys]
    assert world.wire.asked.count("CheckOut") == 1
    assert sum("writing has stopped" in getattr(answer, "message", "") for answer in answers) == 5
    world.simulated.unscript()
    world.adapter._locks._stuck._look_at_s = 0.0  # a minute later
    assert [type(await wrote(world, int(key))) for key in keys] == [Written] * len(keys)
    assert world.holder() is None


async def test_what_needs_no_check_out_stops_too(world: WrsWorld) -> None:
    refusal = {"status": 403, "body": {"error": {"code": "FORBIDDEN", "message": "not for you"}}}
    world.simulated.script("PATCH", refusal, document=f"{4:010d}")
    world.simulated.script("POST", "ok", refusal, document=f"{4:010d}")
    await wrote(world, 4)
    await world.try_once({"State": "INREVIEW"})
    assert world.document().status is Status.PARKED
    assert "writing has stopped" in world.document().reason
    assert "SetState" not in world.wire.asked
    world.simulated.unscript()
    world.adapter._locks._stuck._look_at_s = 0.0  # a minute later
    await world.settle()
    assert world.live()["status"] == "INREVIEW"


async def test_the_note_of_a_check_out_begins_with_its_mark_and_fits(world: WrsWorld) -> None:
    await world.reconcile({"Owner": "akim"}, reason="because " * 100)
    (note,) = world.notes("CheckOut")
    assert note.startswith("[rec-")
    assert "] ERP: because because " in note
    assert len(note) <= 250


async def test_a_persons_check_out_under_our_account_does_not_stop_the_others(world: WrsWorld) -> None:
    assert isinstance(await wrote(world, 4), Written)
    key = f"{5:010d}"
    world.wire.before["CheckOut"] = lambda: in_our_name(world, "checkout", document=key, note="by hand")
    assert isinstance(await wrote(world, 5), Locked)
    assert isinstance(await wrote(world, 6), Written)


async def test_an_action_is_not_kept_waiting_by_a_check_out_of_ours_that_came_late(world: WrsWorld) -> None:
    await world.known()
    world.switch(holder_shown=False)
    world.wire.faults["CheckOut"] = Fault.LATE
    await world.try_once({"Owner": "akim"})
    await world.settle()
    world.switch(stale_checkout="latest")
    await world.wire.arrive()
    assert world.holder() == ME
    await world.reconcile({"State": "INREVIEW"})
    assert (world.live()["status"], world.holder()) == ("INREVIEW", None)
    assert world.simulated.document(KEY)["owner"] == "akim"
