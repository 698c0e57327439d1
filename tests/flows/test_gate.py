"""The gate: how many at once, whether at all, and that no one who waits is forgotten."""

import asyncio
import contextlib
import itertools
from collections.abc import Coroutine, Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.scheduling.breaker import Breaker, State
from reconciler.core.scheduling.limiter import Limiter, RetryQuota
from reconciler.flows.gate import Gate, HeldUpError
from reconciler.model.answer import (
    Failed,
    NotAvailable,
    NotSent,
    ReadAnswer,
    ReleaseAnswer,
    Throttled,
    Unchanged,
    WriteAnswer,
)
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import Journal
from tests.fakes.virtual_clock import VirtualClock

FINE = NotAvailable(404, "an answer as good as any")
WELL = Unchanged()


class Slow:
    """A Windchill whose every request takes a time and gives an answer, both told by the key: an index into `steps`."""

    def __init__(self, clock: VirtualClock, steps: list[tuple[float, ReadAnswer | Exception]]) -> None:
        self.clock = clock
        self.steps = steps
        self.under_way = self.most = 0
        self.keys: list[str] = []

    @property
    def asked(self) -> int:
        return len(self.keys)

    async def read(self, key: str, known: Snapshot | None = None) -> ReadAnswer:
        takes_s, answer = self.steps[int(key)]
        self.keys.append(key)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.clock.sleep(takes_s)
        finally:
            self.under_way -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def locks(self) -> bool:
        return False

    async def release(self, key: str, lock: str | None, mark: str) -> ReleaseAnswer:
        raise NotImplementedError

    async def write(
        self,
        snapshot: Snapshot,
        fields: Mapping[str, Json],
        *,
        token: Token,
        journal: Journal,
    ) -> WriteAnswer:
        raise NotImplementedError

    async def close(self) -> None:
        return None


class CountingClock(VirtualClock):
    waits = 0

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        self.waits += 1
        await super().wait(event, timeout_s)


@attrs.define
class Crowd:
    """Many tasks before one gate."""

    clock: CountingClock
    windchill: Slow
    limiter: Limiter
    breaker: Breaker
    gate: Gate
    tasks: list[asyncio.Task[ReadAnswer]]

    async def gate_run(self, asking: Coroutine[Any, Any, ReadAnswer]) -> ReadAnswer:
        task = asyncio.ensure_future(asking)
        await self.clock.advance(5)
        return await task


def crowd(steps: list[tuple[float, ReadAnswer | Exception]], limit: int, documents_max: int = 1000) -> Crowd:
    clock = CountingClock()
    windchill = Slow(clock, steps)
    limiter, breaker = Limiter(limit), Breaker(documents_max, cooldown_max_s=10)
    gate = Gate(windchill, clock, limiter=limiter, breaker=breaker, quota=RetryQuota())
    tasks = [asyncio.ensure_future(asked(gate, clock, str(number))) for number in range(len(steps))]
    return Crowd(clock, windchill, limiter, breaker, gate, tasks)


async def asked(gate: Gate, clock: CountingClock, key: str) -> ReadAnswer:
    """Ask as the reconciler does, who begins again when it was held up, and names probes when they are wanted."""
    while True:
        with contextlib.suppress(HeldUpError):
            return await gate.read(key)
        await clock.sleep(max(0.01, gate.held_s))
        if gate.probes_wanted:
            gate.let_probe([key])


async def test_no_more_requests_are_under_way_than_the_limit_allows() -> None:
    made = crowd([(1.0, FINE)] * 10, limit=3)
    await made.clock.advance(4)
    assert made.windchill.most == 3
    assert all(task.done() for task in made.tasks)


async def test_those_who_wait_sleep_until_there_is_something_to_do() -> None:
    made = crowd([(10.0, FINE)] * 6, limit=1)
    await made.clock.advance(25)
    assert made.windchill.asked == 3
    assert made.clock.waits <= 5 + 2 * 2, "each return of a permit is worth one look, not a busy loop"
    await made.clock.advance(40)
    assert all(task.done() for task in made.tasks)


async def test_a_permit_passed_to_someone_who_is_cancelled_goes_to_the_next() -> None:
    made = crowd([(1.0, FINE), (1.0, FINE), (1.0, FINE)], limit=1)
    await made.clock.advance(0.5)
    made.gate._waiting[0].set()  # as the end of a request does; and before the one who was woken runs, it is cancelled
    made.gate._waiting.popleft()
    made.tasks[1].cancel()
    await made.clock.advance(2)
    assert made.tasks[2].done()


async def test_retry_after_binds_the_document_that_got_it_and_no_other() -> None:
    made = crowd([(0.1, Throttled(429, "slow down", 20.0))] * 4 + [(0.1, FINE)] * 5, limit=1, documents_max=5)
    await made.clock.advance(1)
    assert all(task.done() for task in made.tasks)


async def test_a_replica_that_may_have_been_evicted_sends_nothing_and_those_who_wait_learn_it() -> None:
    clock = CountingClock()
    windchill = Slow(clock, [(1.0, FINE)] * 3)
    until_s = 0.5
    gate = Gate(
        windchill, clock, limiter=Limiter(1), breaker=Breaker(), quota=RetryQuota(),
        may_send=lambda: clock.monotonic_s() < until_s,
    )  # fmt: skip
    tasks = [asyncio.ensure_future(gate.read(str(number))) for number in range(3)]
    await clock.advance(2)
    assert windchill.asked == 1
    assert [type(task.exception()) for task in tasks] == [type(None), HeldUpError, HeldUpError]


async def test_one_that_sleeps_between_its_permit_and_its_request_looks_again() -> None:
    clock = CountingClock()
    windchill = Slow(clock, [(1.0, FINE)])
    answers = itertools.chain([True], itertools.repeat(False))
    gate = Gate(
        windchill, clock, limiter=Limiter(1), breaker=Breaker(), quota=RetryQuota(),
        may_send=lambda: next(answers),
    )  # fmt: skip
    with pytest.raises(HeldUpError):
        await gate.read("0")
    assert not windchill.asked
    assert gate._limiter.in_flight == 0


async def test_what_was_not_sent_is_held_up_and_says_nothing_about_the_server() -> None:
    clock = CountingClock()
    limiter, breaker = Limiter(8), Breaker(documents_max=20)
    gate = Gate(Slow(clock, [(0.1, NotSent())] * 20), clock, limiter=limiter, breaker=breaker, quota=RetryQuota())
    tasks = [asyncio.ensure_future(gate.read(str(number))) for number in range(20)]
    await clock.advance(5)
    assert {type(task.exception()) for task in tasks} == {HeldUpError}
    assert (breaker.state, limiter.limit, limiter.in_flight) == (State.CLOSED, 8, 0)


async def test_while_the_breaker_is_open_no_one_asks_and_one_probe_lets_all_in_again() -> None:
    made = crowd([(0.1, Failed("500"))] * 11 + [(1.0, FINE)] * 3, limit=1, documents_max=3)
    await made.clock.advance(2)
    assert made.breaker.state is State.OPEN
    await made.clock.advance(2)
    assert made.windchill.asked == 11
    await made.clock.advance(8)
    assert not made.gate._waiting
    assert all(task.done() for task in made.tasks)


async def test_the_first_probe_is_a_document_that_was_well_a_moment_ago() -> None:
    made = crowd([(0.0, WELL)] * 2 + [(0.1, Failed("500"))] * 3, limit=1, documents_max=3)
    await made.clock.advance(1)
    assert made.gate.in_doubt
    made.windchill.steps.append((0.0, FINE))
    assert await made.gate_run(asked(made.gate, made.clock, "5")) == FINE
    assert made.windchill.keys[5:] == ["1", "5"]
    assert not made.gate.in_doubt


async def test_two_documents_that_were_well_and_are_in_trouble_are_enough_to_open() -> None:
    made = crowd([(0.0, WELL)] * 3 + [(0.1, Failed("500"))] * 3, limit=1, documents_max=3)
    await made.clock.advance(1)
    made.windchill.steps[:3] = [(0.1, Failed("500"))] * 3
    made.tasks.append(asyncio.ensure_future(asked(made.gate, made.clock, "3")))
    await made.clock.advance(1)
    assert made.breaker.state is State.OPEN
    assert made.windchill.keys[6:] == ["2", "1"]


async def test_a_document_known_to_be_in_trouble_is_no_evidence_and_cuts_no_limit() -> None:
    made = crowd([(0.0, Throttled(503, "busy"))] * 9, limit=16, documents_max=3)
    for task in made.tasks:
        task.cancel()
    for number in range(9):
        await made.gate_run(made.gate.read(str(number), failures=1))
    assert (made.breaker.state, made.limiter.limit) == (State.CLOSED, 16)


async def test_documents_in_trouble_get_a_quarter_of_the_limit_together() -> None:
    made = crowd([], limit=16)
    assert [made.gate.retry_wait_s(1, retrying) > 0 for retrying in range(6)] == [False] * 4 + [True] * 2


async def test_a_cancelled_probe_leaves_the_way_to_the_next() -> None:
    made = crowd([(0.1, Failed("500")), *[(1.0, FINE)] * 4], limit=1, documents_max=1)
    await made.clock.advance(0.2)
    assert made.breaker.state is State.HALF_OPEN
    made.tasks[1].cancel()
    await made.clock.advance(8)
    assert all(task.done() for task in made.tasks)


ANSWERS = st.sampled_from([FINE, FINE, FINE, Throttled(429, "slow", 0.5), Throttled(503, "slow"), OSError("broken")])
STEPS = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), ANSWERS), min_size=1, max_size=14)
IDLE_S_MAX = 30  # the longest pause is the breaker's, of ten seconds
# Who is cancelled, and when: also in the very turn in which a permit was passed on.
CANCELS = st.lists(st.tuples(st.integers(0, 13), st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.0])), max_size=8)


@given(steps=STEPS, cancels=CANCELS, limit=st.integers(1, 5), documents_max=st.integers(1, 9))
def test_no_one_who_waits_is_forgotten_whoever_gives_up(
    steps: list[tuple[float, ReadAnswer | Exception]], cancels: list[tuple[int, float]], limit: int, documents_max: int
) -> None:
    async def scenario() -> None:
        made = crowd(steps, limit, documents_max)
        for number, at_s in sorted(cancels, key=lambda one: one[1]):
            await made.clock.advance(max(0.0, at_s - made.clock.monotonic_s()))
            if number < len(made.tasks):
                made.tasks[number].cancel()
        # A waiter that is forgotten looks again only after 60 s; no other waiter waits in vain for that long.
        idle_s, asked_before = 0, 0
        while idle_s < IDLE_S_MAX and not all(task.done() for task in made.tasks):
            await made.clock.advance(1)
            at_work = made.windchill.under_way or made.windchill.asked > asked_before
            idle_s, asked_before = 0 if at_work else idle_s + 1, made.windchill.asked
        assert [number for number, task in enumerate(made.tasks) if not task.done()] == []
        assert (made.windchill.under_way, made.limiter.in_flight, len(made.gate._waiting)) == (0, 0, 0)
        assert made.windchill.most <= limit
        await asyncio.gather(*made.tasks, return_exceptions=True)

    asyncio.run(scenario())


async def test_an_adapter_that_raises_gives_its_permit_back() -> None:
    made = crowd([(0.0, OSError("broken")), (0.0, FINE)], limit=1)
    await made.clock.advance(1)
    with pytest.raises(OSError, match="broken"):
        await made.tasks[0]
    assert await made.tasks[1] == FINE
