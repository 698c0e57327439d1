"""What a stock server counts: sessions, nonces, refusals in its security log, and reads of lists."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from reconciler.model.document import Status
from tests.stock import counting
from tests.stock.server import ACCOUNT, Stock
from tests.stock.world import PERSON, Real, StockWorld

FLIGHT = 16


async def made(world: StockWorld, count: int) -> list[str]:
    """Documents that are known and have a change due."""
    numbers = [f"N-{number}" for number in range(count)]
    for number in numbers:
        world.vault.make(number, CostCenter="4000")
        await world.emit({"Title": "Known"}, key=number)
        await world.settle(number)
        await world.emit({"CostCenter": "4711"}, key=number)
    return numbers


async def poll(world: StockWorld, since_us: int) -> dict[str, str]:
    found = await world.adapter.changed(since_us)
    assert isinstance(found, Sequence), found
    return {one.key: one.token for one in found}


async def test_reads_and_writes_are_one_session(world: StockWorld) -> None:
    await made(world, 5)
    await asyncio.gather(*(world.attempt(key=f"N-{number}") for number in range(5)))
    assert world.stock.sessions_opened == 1


async def test_a_session_that_has_ended_is_renewed(world: StockWorld) -> None:
    await world.known()
    opened = world.stock.sessions_opened
    world.stock.expire_sessions()
    await world.emit({"CostCenter": "4711"})
    assert (await world.settle()).status is Status.SYNCED
    await world.emit({"CostCenter": "4712"})
    await world.settle()
    assert world.stock.sessions_opened <= opened + 2
    assert len(world.stock.security_log) <= 1


@pytest.mark.parametrize("end", ["expire_sessions", "expire_nonces"])
def test_a_run_goes_on_when_all_sessions_or_nonces_end_in_the_middle_of_it(
    stock: Stock, tmp_path: Path, end: str
) -> None:
    program = Real(tmp_path, stock, real=False)
    for number in range(30):
        stock.vault.make(f"N-{number}", CostCenter="4000")
        program.sets(f"N-{number}", CostCenter="4711", State="UNDERREVIEW")
    stock.at("PATCH", "after", getattr(stock, end), 10)
    program.say("run", "--once")
    assert len(stock.vault.made_by(ACCOUNT)) == 30
    assert stock.counts()["nonce"] <= 3
    assert len(stock.security_log) <= FLIGHT, "what is on its way is refused once each, and nothing else"


async def test_a_nonce_is_renewed_before_its_day_is_over(world: StockWorld) -> None:
    await world.known()
    world.stock.nonce_ttl_s = 86_400
    for value in range(4):
        await world.clock.advance(20 * 3600)
        await world.emit({"CostCenter": f"470{value}"})
        await world.settle()
    assert world.live()["CostCenter"] == "4703"
    assert world.stock.security_log == []


async def test_nonces_for_single_use_work_if_slowly(world: StockWorld) -> None:
    world.stock.nonce_single_use = True
    numbers = await made(world, 5)
    log = len(world.stock.security_log)
    for _ in range(3):
        await asyncio.gather(*(world.settle(number) for number in numbers))
    assert [world.live(number)["CostCenter"] for number in numbers] == ["4711"] * 5
    assert log < 5, "finding out that nonces are for one use cost too many refusals"
    assert len(world.stock.security_log) == log, "each write goes on being refused once"


async def test_a_second_poll_reads_no_document_again_that_has_not_changed(world: StockWorld) -> None:
    world.stock.soft_in_lists = False
    numbers = [f"N-{number}" for number in range(60)]
    for number in numbers:
        world.vault.make(number, CostCenter="4000", age_s=60)
    read = {number: (await world.snapshot_of(number)).token for number in numbers}
    since_us = world.clock.now_us() - 3600 * 1_000_000
    await poll(world, since_us)
    world.stock.asked.clear()
    await world.clock.advance(60)
    world.vault.edit(PERSON, "N-7", CostCenter="4001")
    again = await poll(world, since_us)
    assert [key for key, token in again.items() if token != read[key]] == ["N-7"]
    assert world.stock.counts()["GET one"] <= 1


# ----------------------------------------------------- counts that benchmarks/RESULTS.md states, held at a smaller size


def test_a_document_costs_few_requests_and_one_iteration(tmp_path: Path) -> None:
    found = counting.three_hundred(tmp_path, 40)
    assert found["iterations"] == 40
    assert found["a document"] <= 8
    assert (found["sessions"], found["security log"]) == (1, 0)


async def test_a_burst_makes_one_iteration() -> None:
    assert (await counting.burst())["iterations"] == 1


async def test_the_end_of_all_nonces_is_one_entry_in_the_security_log() -> None:
    found = await counting.expiry()
    assert (found["security log"], found["written"]) == (1, counting.FLIGHT)


async def test_one_request_lies_between_the_last_read_of_a_state_and_the_write_that_rests_on_it() -> None:
    assert (await counting.window(moves=4, latency_s=0))["requests"] == 1


async def test_polls_of_unchanged_documents_read_each_once_at_most() -> None:
    reads = (await counting.polls())["reads by ID"]
    assert reads[1:] == [0] * (counting.POLLS - 1)


async def test_a_day_of_failing_check_ins_makes_few_check_outs() -> None:
    assert (await counting.refused_for_a_day())["check-outs"] <= 20
