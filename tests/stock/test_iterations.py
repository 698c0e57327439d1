"""What people see in a document's history: how many iterations, and what their notes say."""

from pathlib import Path

import pytest

from reconciler.model.document import Status
from tests import defaults
from tests.flows.world import KEY
from tests.stock.conftest import MakeWorld
from tests.stock.counting import pass_by
from tests.stock.server import ACCOUNT, Stock
from tests.stock.world import Real, StockWorld


def iterations(world: StockWorld) -> int:
    return len(world.vault.made_by(ACCOUNT, KEY))


@pytest.fixture
async def paced(make_world: MakeWorld) -> StockWorld:
    return await make_world(pace=defaults.pace(quiet_s=10.0, checkin_interval_s=300.0))


async def test_ten_events_in_twenty_seconds_make_one_iteration(paced: StockWorld) -> None:
    for number in range(10):
        await paced.emit({"CostCenter": f"470{number}"})
        await pass_by(paced, 1)
    assert iterations(paced) == 0
    await pass_by(paced, 30)
    assert (iterations(paced), paced.live()["CostCenter"]) == (1, "4709")
    assert paced.document().status is Status.SYNCED


async def test_the_next_iteration_keeps_its_distance(paced: StockWorld) -> None:
    await paced.emit({"CostCenter": "4701"})
    await pass_by(paced, 20)
    await paced.emit({"CostCenter": "4702"})
    await pass_by(paced, 200)
    assert (iterations(paced), paced.live()["CostCenter"]) == (1, "4701")
    await pass_by(paced, 120)
    assert (iterations(paced), paced.live()["CostCenter"]) == (2, "4702")


async def test_a_stream_without_end_goes_out_all_the_same(paced: StockWorld) -> None:
    for number in range(170):
        await paced.emit({"CostCenter": str(number)})
        await pass_by(paced, 4)
    assert iterations(paced) == 0
    for number in range(20):
        await paced.emit({"CostCenter": str(number)})
        await pass_by(paced, 4)
    assert iterations(paced) == 1


async def test_a_state_does_not_wait(paced: StockWorld) -> None:
    await paced.emit({"State": "UNDERREVIEW"})
    await pass_by(paced, 2)
    assert paced.live()["State"] == "UNDERREVIEW"


async def test_the_note_says_events_and_systems_within_what_the_server_takes(paced: StockWorld) -> None:
    await paced.emit({"CostCenter": "4711"}, source="//erp/prod", reason="ECN-2231 approved")
    await paced.emit({"Title": "Lid"}, source="//mes/line-1", reason="measured on the line")
    await pass_by(paced, 30)
    (made,) = paced.vault.made_by(ACCOUNT, KEY)
    assert "erp" in made.note.lower()
    assert "mes" in made.note.lower()
    assert "ECN-2231" in made.note
    assert len(made.note) <= 250


async def test_one_long_reason_leaves_room_for_the_other_systems(paced: StockWorld) -> None:
    await paced.emit({"CostCenter": "4711"}, source="//erp/prod", reason="ECN-2231 approved")
    await paced.emit({"Title": "Lid"}, source="//mes/line-1", reason="x" * 400)
    await pass_by(paced, 30)
    (made,) = paced.vault.made_by(ACCOUNT, KEY)
    assert "ERP" in made.note
    assert len(made.note) <= 250


def test_one_pass_does_not_wait(stock: Stock, tmp_path: Path) -> None:
    program = Real(tmp_path, stock, real=False)
    stock.vault.make("N-1", CostCenter="4000")
    for value in ("4711", "4712"):
        program.sets("N-1", CostCenter=value)
        program.say("run", "--once")
        assert stock.vault.current("N-1")["CostCenter"] == value
