"""Check-outs on a stock server: whose they are, what becomes of them, and which revision is written."""

from typing import Any

import pytest

from reconciler.model.document import Status
from tests.flows.world import KEY
from tests.stock.server import ACCOUNT, drop
from tests.stock.world import PERSON, StockWorld

TOUCHES = ("PATCH", "CheckIn", "UndoCheckOut")


def held_by_hand(world: StockWorld) -> None:
    """Someone checks the document out as our account does, and works on it."""
    world.vault.check_out(ACCOUNT, KEY, "by hand")
    world.vault.change(ACCOUNT, KEY, Owner="by hand")


def check_untouched(world: StockWorld) -> None:
    assert world.vault.checked_out() == {KEY: ACCOUNT}
    assert [step for step in world.stock.steps(KEY) if step in TOUCHES] == []
    copy = world.vault.master(KEY).copy
    assert copy is not None
    assert (copy.fields["Owner"], copy.fields["CostCenter"]) == ("by hand", "4000")
    assert world.document().status is Status.LOCKED


@pytest.mark.parametrize("note", ["shown", "hidden"])
@pytest.mark.parametrize("holder", ["shown", "hidden", "secured"])
async def test_work_under_our_own_account_is_left_alone(world: StockWorld, holder: Any, note: Any) -> None:
    await world.known()
    world.stock.holder, world.stock.note = holder, note
    held_by_hand(world)
    await world.emit({"CostCenter": "4711"})
    for _ in range(3):
        await world.attempt()
        check_untouched(world)
        await world.wait()
    world.vault.check_in(ACCOUNT, KEY, "by hand, done")
    await world.settle()
    assert (world.live()["Owner"], world.live()["CostCenter"]) == ("by hand", "4711")
    assert world.vault.checked_out() == {}


@pytest.mark.parametrize("note", ["shown", "hidden"])
@pytest.mark.parametrize("holder", ["shown", "hidden"])
async def test_a_check_out_under_our_account_in_the_same_moment_is_not_taken_for_ours(
    world: StockWorld, holder: Any, note: Any
) -> None:
    await world.known()
    world.stock.holder, world.stock.note = holder, note
    await world.emit({"CostCenter": "4711"})
    world.stock.at("CheckOut", "before", lambda: held_by_hand(world))
    await world.attempt()
    check_untouched(world)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["CheckOut", "GET copy", "PATCH", "CheckIn"])
@pytest.mark.parametrize("holder", ["shown", "hidden", "secured"])
async def test_a_lost_request_or_reply_strands_nothing(world: StockWorld, holder: Any, step: str, when: Any) -> None:
    await world.known()
    world.stock.holder = holder
    made = len(world.vault.history(KEY))
    await world.emit({"CostCenter": "4711"})
    world.stock.at(step, when, drop)
    await world.attempt()
    await world.restarted()
    assert (await world.settle()).status is Status.SYNCED
    assert world.live()["CostCenter"] == "4711"
    assert world.vault.checked_out() == {}
    assert len(world.vault.history(KEY)) == made + 1, "one edit made more than one iteration, or none"


SERVERS: dict[str, dict[str, Any]] = {
    "lists show our working copies": {"copies_in_lists": True},
    "lists leave soft attributes out": {"soft_in_lists": False},
    "answers with the document": {"patch_answers": 200, "locked": "same"},
    "nonces for one use": {"nonce_single_use": True},
    "says whether it may be checked out": {"checkout_allowed": True},
    "no time in filters, small pages": {"time_filters": False, "rows_max": 1},
}


@pytest.mark.parametrize("keeps_id", [True, False], ids=["same ID", "fresh ID"])
@pytest.mark.parametrize("server", SERVERS)
async def test_a_lost_reply_strands_nothing_on_servers_with_other_habits(
    world: StockWorld, server: str, keeps_id: bool
) -> None:
    for name, value in SERVERS[server].items():
        setattr(world.stock, name, value)
    world.vault.checkin_keeps_id = keeps_id
    world.stock.holder = "hidden"
    await world.known()
    for number, step in enumerate(("CheckOut", "PATCH", "CheckIn")):
        made = len(world.vault.history(KEY))
        await world.emit({"CostCenter": f"471{number}"})
        world.stock.at(step, "after", drop)
        await world.attempt()
        await world.restarted()
        assert (await world.settle()).status is Status.SYNCED
        assert world.live()["CostCenter"] == f"471{number}"
        assert world.vault.checked_out() == {}
        assert len(world.vault.history(KEY)) == made + 1


@pytest.mark.parametrize("note", ["shown", "hidden"])
@pytest.mark.parametrize("columns", ["as checked out", "null", "secured"])
async def test_a_working_copy_that_is_not_recognised_strands_no_document(
    world: StockWorld, columns: Any, note: Any
) -> None:
    world.stock.columns, world.stock.note, world.stock.holder = columns, note, "hidden"
    numbers = [f"N-{number}" for number in range(10)]
    for number in numbers:
        world.vault.make(number, CostCenter="4000")
        await world.emit({"CostCenter": "4711"}, key=number)
    for _ in range(3):
        for number in numbers:
            await world.attempt(key=number)
            await world.clock.advance(120)
    assert world.vault.checked_out() == {}
    written = [number for number in numbers if world.live(number)["CostCenter"] == "4711"]
    assert written == numbers or world.stock.counts()["CheckOut"] <= 2, "it went on checking out"


async def test_a_check_out_that_cannot_be_undone_ends_all_others(world: StockWorld) -> None:
    world.stock.columns, world.stock.note, world.stock.holder = "null", "hidden", "hidden"
    numbers = [f"N-{number}" for number in range(10)]
    for number in numbers:
        world.vault.make(number, CostCenter="4000")
        for_all = ("UndoCheckOut", 403, "not for you")
        world.stock.refused_documents[number] = for_all
        await world.emit({"CostCenter": "4711"}, key=number)
    for number in numbers:
        await world.attempt(key=number)
    stranded = world.vault.checked_out()
    assert len(stranded) <= 1, f"{len(stranded)} of {len(numbers)} documents are left checked out"


@pytest.mark.parametrize("moment", ["before the attempt", "before the check-out"])
async def test_a_document_is_written_in_its_latest_revision(world: StockWorld, moment: str) -> None:
    await world.known()
    await world.emit({"CostCenter": "4711"})
    old = len(world.vault.history(KEY))
    if moment == "before the attempt":
        world.vault.revise(PERSON, KEY)
    else:
        world.stock.at("CheckOut", "before", lambda: world.vault.revise(PERSON, KEY))
    await world.settle()
    versions = [f"{one.revision}.{one.number}" for one in world.vault.history(KEY)]
    assert [one for one in versions if one.startswith("A")] == [f"A.{n + 1}" for n in range(old)]
    assert versions[-1] == "B.2"
    assert world.live()["CostCenter"] == "4711"
    assert world.vault.checked_out() == {}


async def test_a_state_is_set_on_the_latest_revision(world: StockWorld) -> None:
    await world.known()
    await world.emit({"State": "UNDERREVIEW"})
    world.vault.revise(PERSON, KEY)
    await world.settle()
    states = [(one.revision, one.state) for one in world.vault.history(KEY)]
    assert states[-2:] == [("A", "INWORK"), ("B", "UNDERREVIEW")]


@pytest.mark.parametrize(("edited", "left"), [({"Owner": "lchen"}, "4711"), ({"CostCenter": "9999"}, "9999")])
async def test_the_first_write_gives_way_only_if_the_same_field_was_changed_meanwhile(
    world: StockWorld, edited: dict[str, str], left: str
) -> None:
    def person() -> None:
        clock = world.vault.now
        world.vault.now = lambda: clock() + 5  # later than the event
        world.vault.edit(PERSON, KEY, **edited)

    await world.emit({"CostCenter": "4711"})
    world.stock.at("CheckOut", "before", person)
    await world.settle()
    assert world.live() | {**edited, "CostCenter": left} == world.live()
