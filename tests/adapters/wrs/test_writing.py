"""Writing attributes under a check-out, on a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model.document import Status

if TYPE_CHECKING:
    from tests.adapters.wrs.world import WrsWorld

CYCLE = ["CheckOut", "GET one", "PATCH", "CheckIn", "GET list"]


async def test_changed_attributes_cost_one_check_out_cycle_whatever_the_number_of_events(world: WrsWorld) -> None:
    await world.emit({"Owner": "lchen"})
    await world.settle()
    for number in range(100):
        await world.emit({"Owner": f"user{number}", "CostCenter": str(number), "Title": f"Title {number}"})
    world.wire.asked.clear()
    await world.settle()
    assert world.wire.asked == CYCLE
    assert world.cycles() == ["CheckOut", "CheckIn"] * 2
    shown = world.live()
    assert (shown["owner"], shown["attributes"]["CostCenter"], shown["title"]) == ("user99", "99", "Title 99")
    assert world.document().status is Status.SYNCED
