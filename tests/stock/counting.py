"""
`python -m tests.stock.counting`: what the dialect `wrs` costs a stock server, in requests and iterations.

The second server counts; only `window` is about time. `benchmarks/RESULTS.md` has the figures, beside those from before
sessions, pacing and memory.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reconciler.model import instant
from reconciler.model.policy import Rule, Strategy
from tests import defaults
from tests.cli.program import event
from tests.flows.world import KEY, policy
from tests.stock.server import ACCOUNT, Stock
from tests.stock.world import Real, StockWorld

DOCUMENTS = 300
FLIGHT = 16
POLLED = 60
POLLS = 4
DAY_S = 86_400.0
LATENCY_S = 0.085
MOVES = 20


def main() -> None:
    """Print everything, one JSON object a line."""
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(three_hundred(Path(folder))))
    for count in (burst, expiry, polls, refused_for_a_day, window):
        print(json.dumps(asyncio.run(count())))


def three_hundred(folder: Path, documents: int = DOCUMENTS) -> dict[str, Any]:
    """`run --once` over documents that it has never seen, three events each."""
    with Stock() as stock:
        program = Real(folder, stock, real=False)
        numbers, now = [f"N-{number}" for number in range(documents)], instant.from_us(time.time_ns() // 1000)
        for number in numbers:
            stock.vault.make(number, CostCenter="4000")
        events = [
            event(number, "//erp/prod", {"CostCenter": value}, id=f"{number}-{value}", time=now)
            for value in ("4701", "4702", "4703")
            for number in numbers
        ]
        program.append(*events)
        program.say("run", "--once")
        assert not stock.vault.checked_out()
        return {
            "what": f"{documents} documents, {len(events)} events, run --once",
            "requests": len(stock.asked),
            "a document": round(len(stock.asked) / documents, 2),
            "by step": dict(stock.counts()),
            "iterations": len(stock.vault.made_by(ACCOUNT)),
            "sessions": stock.sessions_opened,
            "security log": len(stock.security_log),
        }


async def burst() -> dict[str, Any]:
    """Ten events in twenty seconds for one document, at the default pace."""
    with Stock() as stock:
        world = StockWorld(stock, pace=defaults.pace(quiet_s=10.0, checkin_interval_s=300.0))
        for number in range(10):
            await world.emit({"CostCenter": f"470{number}"})
            await pass_by(world, 1)
        await pass_by(world, 600)
        await world.adapter.close()
        made = len(stock.vault.made_by(ACCOUNT, KEY))
        return {"what": "ten events in twenty seconds", "iterations": made, "requests": len(stock.asked)}


async def expiry() -> dict[str, Any]:
    """All nonces end while sixteen writes are in flight."""
    with Stock() as stock:
        world = StockWorld(stock)
        numbers = [f"N-{number}" for number in range(FLIGHT)]
        for number in numbers:
            stock.vault.make(number, CostCenter="4000")
            await world.emit({"Title": "Known"}, key=number)
            await world.settle(number)
            await world.emit({"CostCenter": "4711"}, key=number)
        await world.clock.advance(60)
        stock.expire_nonces()
        stock.latency_s = 0.02
        await asyncio.gather(*(world.attempt(key=number) for number in numbers))
        await world.adapter.close()
        written = sum(world.live(number)["CostCenter"] == "4711" for number in numbers)
        return {"what": "one expiry, sixteen writes", "security log": len(stock.security_log), "written": written}


async def polls() -> dict[str, Any]:
    """Polls of sixty documents that were modified today and have not changed since; lists leave soft attributes out."""
    with Stock(soft_in_lists=False) as stock:
        world = StockWorld(stock)
        for number in range(POLLED):
            stock.vault.make(f"N-{number}", CostCenter="4000", age_s=60)
        known = {}
        for number in range(POLLED):
            known[f"N-{number}"] = await world.snapshot_of(f"N-{number}")
        since_us = world.clock.now_us() - 3600 * 1_000_000
        reads = []
        for _ in range(POLLS):
            stock.asked.clear()
            sightings = await world.adapter.changed(since_us)
            assert isinstance(sightings, Sequence)
            for one in sightings:  # as a poll does: what looks changed is read
                if one.token != known[one.key].token:
                    await world.adapter.read(one.key, known[one.key])
            reads.append(stock.counts()["GET one"])
            await world.clock.advance(60)
        await world.adapter.close()
        return {"what": f"{POLLS} polls of {POLLED} unchanged documents", "reads by ID": reads}


async def refused_for_a_day() -> dict[str, Any]:
    """A document whose check-in fails for a day."""
    with Stock() as stock:
        world = StockWorld(stock)
        stock.refused_documents[KEY] = ("CheckIn", 500, "wt.util.WTException: a validation of the site failed")
        await world.emit({"CostCenter": "4711"})
        end_us = world.clock.now_us() + DAY_S * 1e6
        while (due_us := world.document().due_us) is not None and due_us <= end_us:
            await world.wait()
            await world.attempt()
        await world.adapter.close()
        counts = stock.counts()
        return {"what": "a day of failing check-ins", "check-outs": counts["CheckOut"], "requests": len(stock.asked)}


async def window(moves: int = MOVES, latency_s: float = LATENCY_S) -> dict[str, Any]:
    """From the last read of a document to the SetState that rests on it: whoever comes in between is overwritten."""
    with Stock(transitions="value") as stock:  # the form that was always understood
        world = await StockWorld(stock, policy(Rule(("State",), Strategy.EXTERNAL))).known()
        stock.latency_s = latency_s
        read_s = 0.0
        open_s, requests = [], []

        def read() -> None:
            nonlocal read_s
            read_s = time.perf_counter()

        def written() -> None:
            steps = stock.steps()
            last = max(at for at, step in enumerate(steps) if step in ("GET one", "GET list"))
            open_s.append(time.perf_counter() - read_s)
            requests.append(len(steps) - 1 - last)

        for move in range(moves):
            stock.forget_traps()
            stock.asked.clear()
            for step in ("GET one", "GET list"):
                for nth in range(1, 4):
                    stock.at(step, "after", read, nth)
            stock.at("SetState", "before", written)
            await world.emit({"State": "INWORK" if move % 2 else "UNDERREVIEW"})
            await world.settle()
        await world.adapter.close()
        ms = [round(seconds * 1000) for seconds in (min(open_s), statistics.median(open_s), max(open_s))]
        return {"what": f"{moves} states, {latency_s * 1000:.0f} ms a request", "ms": ms, "requests": max(requests)}


async def pass_by(world: StockWorld, seconds: int) -> None:
    """Let time pass, second by second, with the attempts that come due in it."""
    for _ in range(seconds):
        await world.clock.advance(1)
        due_us = world.document().due_us
        if due_us is not None and due_us <= world.clock.now_us():
            await world.attempt()


if __name__ == "__main__":
    main()
