"""Refusals of a stock server: how often they are met, and which fields they hold."""

from typing import Any

import pytest

from reconciler.model.document import Status
from tests.flows.world import KEY
from tests.stock.world import PERSON, StockWorld

DAY_S = 86_400.0
FIELDS = {"CostCenter": "4711", "Title": "Lid", "Description": "A lid", "Weight": 1.5, "Keywords": ["lid"]}


async def a_day(world: StockWorld) -> None:
    """Let a day pass with all attempts that come due in it."""
    end_us = world.clock.now_us() + DAY_S * 1e6
    for _ in range(2000):
        due_us = world.document().due_us
        if due_us is None or due_us > end_us:
            return
        await world.wait()
        await world.attempt()
    raise AssertionError("more than 2,000 attempts in a day")


@pytest.mark.parametrize(
    ("step", "status", "message"),
    [
        ("PATCH", 403, "You are not authorized to modify this object."),
        ("CheckIn", 500, "wt.util.WTException: a validation of the site failed"),
        ("CheckIn", 400, "The object can't be checked in: a required attribute of the folder is missing."),
    ],
)
async def test_what_fails_under_check_out_is_tried_ever_more_rarely(
    world: StockWorld, step: str, status: int, message: str
) -> None:
    await world.known()
    world.stock.refused_documents[KEY] = (step, status, message)
    made = len(world.vault.history(KEY))
    await world.emit({"CostCenter": "4711"})
    await world.attempt()
    await a_day(world)
    assert world.stock.counts()["CheckOut"] <= 30, "a check-out and an undo for every attempt"
    assert world.vault.checked_out() == {}
    assert len(world.vault.history(KEY)) == made
    del world.stock.refused_documents[KEY]
    for _ in range(3):
        if world.document().status is not Status.SYNCED:
            await a_day(world)
    assert world.live()["CostCenter"] == "4711", "it is never tried again"


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize("way", ["name", "display", "none"])
async def test_one_refused_attribute_holds_no_other(world: StockWorld, status: int, way: Any) -> None:
    await world.known()
    made = len(world.vault.history(KEY))
    world.stock.refused["CostCenter"] = (status, way)
    await world.emit(FIELDS)
    await world.attempt()
    for _ in range(3):
        if world.document().due_us is not None and "CostCenter" not in world.held():
            await world.wait()
            await world.attempt()
    live = world.live()
    assert {name: live[name] for name in FIELDS} == {**FIELDS, "CostCenter": "4000"}
    assert world.held() == ["CostCenter"]
    assert len(world.vault.history(KEY)) == made + 1, "more than one iteration for one refused attribute"
    assert world.vault.checked_out() == {}
    assert world.stock.counts()["PATCH"] <= 10
    del world.stock.refused["CostCenter"]
    await a_day(world)
    assert world.live()["CostCenter"] == "4711"


@pytest.mark.parametrize("message", ["The object is locked by the workflow Release.", "Locked by administrator."])
async def test_a_lock_by_workflow_or_administrator_is_called_so(world: StockWorld, message: str) -> None:
    await world.known()
    world.stock.refused_documents[KEY] = ("CheckOut", 403, message)
    await world.emit({"CostCenter": "4711"})
    await world.attempt()
    row = world.document()
    assert row.status is not Status.SYNCED
    assert world.live()["CostCenter"] == "4000"
    assert "workflow" in repr(row).lower() or "administrator" in repr(row).lower()


async def test_where_the_server_tells_no_check_out_is_tried_that_is_not_allowed(world: StockWorld) -> None:
    world.stock.checkout_allowed = True
    await world.known()
    world.vault.check_out(PERSON, KEY)
    await world.emit({"CostCenter": "4711"})
    await world.attempt()
    assert "CheckOut" not in world.stock.steps(KEY)
    assert world.document().status is Status.LOCKED
    world.vault.check_in(PERSON, KEY)
    await world.settle()
    assert world.live()["CostCenter"] == "4711"


async def test_a_check_out_that_the_server_says_it_will_not_take_is_not_sent(world: StockWorld) -> None:
    world.stock.checkout_allowed = True
    await world.known()
    world.stock.checkout_allowed = False
    await world.emit({"CostCenter": "4711"})
    await world.attempt()
    assert "IsCheckoutAllowed" in world.stock.steps(KEY)
    assert "CheckOut" not in world.stock.steps(KEY)
    assert world.live()["CostCenter"] == "4000"
