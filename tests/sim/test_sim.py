"""Worlds from seeds, known mistakes that they must find, and the promise of every seed to be the same run again."""

import asyncio
import itertools
import multiprocessing
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from reconciler.config import rules
from reconciler.core.scheduling.replicas import Stage
from reconciler.errors import ReplacedError
from tests import brokers
from tests.contracts.test_store import batch
from tests.fakes.shared_store import SharedMemory
from tests.sim import loop, mutants, options, runner

# In CI some hundreds of worlds, about two minutes on two cores; elsewhere a glance. `make sim-many` looks further.
SEEDS = int(os.environ.get("SIM_SEEDS") or (350 if brokers.must_be_apache() else 70))
SEVERAL = 60 if brokers.must_be_apache() else 12  # of them with several processes over one store
BLOCK = 35
BROKEN_ONCE = (33503, 41577, 45016, 55112, 55566, 56732, 57304, 91096)
"""Seeds that broke a promise, or that the judge found fault with wrongly, before that was mended."""
BROKEN_ONCE_BY_SEVERAL = (12, 40, 239)
ROOT = Path(__file__).parent.parent.parent

SWEPT_STEPS = 8  # a small world, to die at each of its effects
SWEPT_STRIDE = 1 if brokers.must_be_apache() else 7


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=multiprocessing.get_context("spawn")) as made:
        yield made


def broken(world_results: Iterator[runner.WorldResult]) -> list[str]:
    told = f"at commit {runner.commit()}"
    return [f"{one.violation}\n{runner.command(one)}\n{told}" for one in world_results if one.violation]


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, SEEDS + 1, BLOCK))
def test_every_promise_is_kept_in_worlds_where_everything_goes_wrong(pool: ProcessPoolExecutor, first: int) -> None:
    seeds = range(first, min(first + BLOCK, SEEDS + 1))
    found = broken(pool.map(runner.run, seeds, chunksize=5))
    assert not found, "\n\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, SEVERAL + 1, BLOCK))
def test_every_promise_is_kept_where_several_processes_share_a_store(pool: ProcessPoolExecutor, first: int) -> None:
    seeds = range(first, min(first + BLOCK, SEVERAL + 1))
    found = broken(pool.map(partial(runner.run, several=True), seeds, chunksize=3))
    assert not found, "\n\n".join(found)


@pytest.mark.parametrize("seed", BROKEN_ONCE_BY_SEVERAL)
def test_a_seed_that_broke_a_promise_of_several_once_keeps_it(seed: int) -> None:
    assert not broken(iter([runner.run(seed, several=True)]))


@pytest.mark.parametrize("seed", BROKEN_ONCE)
def test_a_seed_that_broke_a_promise_once_keeps_it(seed: int) -> None:
    assert not broken(iter([runner.run(seed)]))


@pytest.mark.slow
@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_dying_before_or_after_any_effect_of_a_world_breaks_no_promise(pool: ProcessPoolExecutor, store: str) -> None:
    world = partial(runner.run, 7, SWEPT_STEPS, store=store)
    effects = world().effects
    moments = [at for effect in range(1, effects + 1, SWEPT_STRIDE) for at in (effect, -effect)]
    found = broken(pool.map(partial(_dying, world), moments, chunksize=5))
    assert not found, "\n\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("mishap", ["cut_at", "fail_at"])
def test_losing_power_or_failing_at_any_io_of_a_world_breaks_no_promise(pool: ProcessPoolExecutor, mishap: str) -> None:
    world = partial(runner.run, 19, SWEPT_STEPS, store="sqlite")
    assert world().options.checkpoint == 10, "so that it happens in checkpoints too"
    moments = range(1, world().io + 1, SWEPT_STRIDE)
    assert len(moments) > 20
    found = broken(pool.map(partial(_mishap, world, mishap), moments, chunksize=5))
    assert not found, "\n\n".join(found)


def _mishap(world: partial[runner.WorldResult], name: str, moment: int) -> runner.WorldResult:
    return world(**{name: moment})


def _dying(world: partial[runner.WorldResult], moment: int) -> runner.WorldResult:
    return world(crash_at=moment)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", mutants.FOUND)
def test_a_known_mistake_is_found_within_its_number_of_seeds(mutant: str) -> None:
    seeds = (mutants.FOUND[mutant], *range(1, mutants.WITHIN + 1))
    world_results = (runner.run(seed, mutant=mutant) for seed in seeds)
    found = next((world_result.violation for world_result in world_results if world_result.violation), None)
    assert found is not None, f"{mutant} survived {mutants.WITHIN} worlds"
    assert not found.startswith(("TypeError", "AttributeError", "NameError")), f"{mutant} itself is broken: {found}"


@pytest.mark.slow
@pytest.mark.parametrize("mutant", mutants.FOUND_AMONG_SEVERAL)
def test_a_known_mistake_of_several_is_found_within_its_number_of_seeds(mutant: str) -> None:
    seeds = (mutants.FOUND_AMONG_SEVERAL[mutant], *range(1, mutants.WITHIN_OF_SEVERAL + 1))
    world_results = (runner.run(seed, mutant=mutant, several=True) for seed in seeds)
    found = next((world_result.violation for world_result in world_results if world_result.violation), None)
    assert found is not None, f"{mutant} survived {mutants.WITHIN_OF_SEVERAL} worlds"
    assert not found.startswith(("TypeError", "AttributeError", "NameError")), f"{mutant} itself is broken: {found}"


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_two_runs_of_a_seed_leave_the_same_trace_byte_for_byte(store: str) -> None:
    for seed in (4, 12):
        first, again = runner.run(seed, store=store), runner.run(seed, store=store)
        assert first.trace == again.trace
        assert len(first.trace) > 100


def test_going_round_in_circles_is_found_out() -> None:
    """Waits that are too short for the clock to move once kept a world, and a daemon, busy for ever."""
    turn_s = 1e-20

    async def circles() -> None:
        await asyncio.sleep(1.0)
        for _ in itertools.count():
            await asyncio.sleep(turn_s)

    made = loop.SimLoop(random.Random(1))
    try:
        with pytest.raises(loop.Standstill):
            made.run_until_complete(circles())
    finally:
        made.close()


def test_a_stopped_process_does_nothing_until_it_goes_on() -> None:
    made = loop.SimLoop(random.Random(1), stops=True)
    process, said = loop.Process(made), list[tuple[int, float]]()

    async def counts() -> None:
        for number in range(4):
            said.append((number, made.time()))
            await asyncio.sleep(1.0)

    async def world() -> None:
        counting = made.create_task(counts(), context=process.context)
        await asyncio.sleep(1.5)
        process.stopped = True
        await asyncio.sleep(10.0)
        process.go_on()
        await counting

    try:
        made.run_until_complete(world())
    finally:
        made.close()
    assert said == [(0, 0.0), (1, 1.0), (2, 11.5), (3, 12.5)]


async def test_after_a_failover_nothing_of_before_counts_and_a_generation_begins() -> None:
    memory = SharedMemory()
    owner, other = memory.owner(), memory.owner()
    assert other.slots is not None
    await owner.fold(batch("kept"))
    state = memory.state()
    await owner.fold(batch("lost"))
    memory.go_back(state)
    with pytest.raises(ReplacedError):
        await owner.fold(batch("late"))
    with pytest.raises(ReplacedError):
        await other.slots.beat(0)
    with pytest.raises(ReplacedError):
        await other.documents(["kept"])
    successor = memory.owner()
    assert successor.slots is not None
    seen = await successor.slots.beat(0)
    assert (seen.generation, seen.stage) == (2, Stage.RECOVERING)
    assert [one.leaving for one in seen.members] == [True, True, False]
    assert [one.key for one in await successor.list_documents(None, "", 9)] == ["kept"]


def test_worlds_draw_only_rules_that_a_configuration_can_say() -> None:
    for seed in range(1, 200):
        for rule in options.policy(options.drawn(seed, 10, {}), version=1).rules:
            row = attrs.asdict(rule, filter=lambda _, value: value not in (None, ()))
            del row["name"]
            faults: list[str] = []
            rules.read([row], "policy", faults)
            assert not faults


@pytest.mark.parametrize("more", [[], ["--several"]])
def test_a_seed_leaves_the_same_trace_in_every_process(more: list[str]) -> None:
    command = [sys.executable, "-m", "tests.sim", "--seed", "12", *more]
    printed = {
        subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": hashing}, cwd=ROOT, check=True, capture_output=True
        ).stdout
        for hashing in ("0", "1")
    }
    assert len(printed) == 1


def test_what_is_printed_of_a_violation_replays_it_to_the_same_step() -> None:
    """By its trace's digest, from a world in which everything that can be given by hand was given."""
    by_hand: dict[str, Any] = {"store": "memory", "rates": {"sigkill": 0.0, "rival_at_write": 0.8}}
    worlds = (runner.run(seed, 30, "stale-token", **by_hand) for seed in range(1, 60))
    found = next(world_result for world_result in worlds if world_result.violation)
    first = subprocess.run(
        [sys.executable, *runner.command(found).split()[1:]], cwd=ROOT, check=False, capture_output=True, text=True
    )
    (printed,) = [line for line in first.stderr.splitlines() if line.startswith("replay: ")]
    again = printed.removeprefix("replay: ").split()
    assert again[0] == "python"
    ran = subprocess.run([sys.executable, *again[1:]], cwd=ROOT, check=False, capture_output=True, text=True)
    assert ran.returncode == 1
    assert str(found.violation) in ran.stderr
    assert f"commit: {runner.commit()}" in ran.stderr
    assert f"trace {found.digest}" in ran.stdout
