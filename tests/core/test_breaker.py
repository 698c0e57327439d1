"""The circuit breaker: its table, what holds after any history, then the course of an outage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reconciler.core import breaker
from reconciler.core.breaker import Breaker, Pass, Signal, State, Verdict

CHANCES = st.floats(min_value=0, max_value=1, exclude_max=True)


def test_from_every_state_every_state_can_be_reached() -> None:
    for start in State:
        reached = {start}
        for _ in State:
            reached |= {target for state in reached for target in breaker.TRANSITIONS[state].values()}
        assert reached == set(State)


def test_it_closes_only_on_a_success_and_opens_only_on_trouble() -> None:
    moves = [(s, signal, t) for s, row in breaker.TRANSITIONS.items() for signal, t in row.items() if s is not t]
    assert {signal for _, signal, target in moves if target is State.CLOSED} == {Signal.SUCCEEDED}
    assert {state for state, _, target in moves if target is State.CLOSED} == {State.HALF_OPEN}
    assert {signal for _, signal, target in moves if target is State.HALF_OPEN} == {Signal.COOLED}


class BreakerUnderAnyHistory(RuleBasedStateMachine):
    """Requests start and end in any order and with any verdict."""

    @initialize(failures_max=st.integers(1, 4))
    def start(self, failures_max: int) -> None:
        self.breaker = Breaker(failures_max, cooldown_base_s=5, cooldown_max_s=60)
        self.now_s = 3.0
        self.under_way: list[Pass] = []
        self.probe: Pass | None = None

    @rule()
    def ask(self) -> None:
        before = self.breaker.state
        leave = self.breaker.try_pass(self.now_s)
        match before:
            case State.CLOSED:
                assert leave is not None
            case State.OPEN:
                assert (leave is not None) == (self.now_s >= self.breaker.open_until_s)
                self.probe = leave
            case State.HALF_OPEN:
                assert leave is None, "one probe at a time"
        if leave is not None:
            self.under_way.append(leave)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), verdict=st.sampled_from(Verdict), chance=CHANCES)
    def report(self, data: st.DataObject, verdict: Verdict, chance: float) -> None:
        leave = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        before = self.breaker.state
        self.breaker.report(leave, verdict, self.now_s, chance)
        after = self.breaker.state
        if before is State.OPEN or (before is State.HALF_OPEN and leave is not self.probe):
            assert after is before, "late answers decide nothing"
        elif before is State.HALF_OPEN:
            assert after is (State.CLOSED if verdict is Verdict.SUCCESS else State.OPEN)
        if before is not State.OPEN and after is State.OPEN and verdict is Verdict.FAILURE:
            assert 0.8 * 5 * 0.999 <= self.breaker.open_until_s - self.now_s <= 60

    @rule(seconds=st.floats(min_value=0, max_value=70))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def a_probe_is_under_way_while_half_open(self) -> None:
        if self.breaker.state is State.HALF_OPEN:
            assert any(leave is self.probe for leave in self.under_way)


TestBreakerUnderAnyHistory = BreakerUnderAnyHistory.TestCase


def passed(subject: Breaker, now_s: float = 0.0) -> Pass:
    leave = subject.try_pass(now_s)
    assert leave is not None
    return leave


def fail(subject: Breaker, times: int = 1, now_s: float = 0.0) -> None:
    for _ in range(times):
        subject.report(passed(subject, now_s), Verdict.FAILURE, now_s, 0.5)


@given(st.integers(1, 10), st.lists(st.sampled_from(Verdict), max_size=60))
def test_it_opens_exactly_after_so_many_failures_in_a_row(failures_max: int, verdicts: list[Verdict]) -> None:
    subject, in_a_row = Breaker(failures_max), 0
    for verdict in verdicts:
        subject.report(passed(subject), verdict, 0, 0)
        match verdict:
            case Verdict.SUCCESS:
                in_a_row = 0
            case Verdict.FAILURE:
                in_a_row += 1
        assert (subject.state is State.OPEN) == (in_a_row == failures_max)
        if subject.state is State.OPEN:
            return


def test_after_the_cool_down_one_probe_passes_and_its_success_lets_everyone_pass() -> None:
    subject = Breaker(3, cooldown_base_s=10)
    fail(subject, 3, now_s=100)
    assert subject.open_until_s == pytest.approx(109)
    assert subject.try_pass(108.9) is None
    probe = passed(subject, 109)
    assert subject.try_pass(200) is None
    subject.report(probe, Verdict.SUCCESS, 200, 0)
    assert subject.state is State.CLOSED
    fail(subject, 2)
    assert subject.state is State.CLOSED, "the count starts over"


def test_each_probe_that_fails_doubles_the_cool_down_up_to_its_maximum_and_a_success_sets_it_back() -> None:
    subject, now_s, cooldowns_s = Breaker(1, cooldown_base_s=5, cooldown_max_s=60), 0.0, []
    for _ in range(6):
        subject.report(passed(subject, now_s), Verdict.FAILURE, now_s, 1 - 2**-53)
        cooldowns_s.append(round(subject.open_until_s - now_s))
        now_s = subject.open_until_s
    assert cooldowns_s == [5, 10, 20, 40, 60, 60]
    subject.report(passed(subject, now_s), Verdict.SUCCESS, now_s, 0)
    subject.report(passed(subject, now_s), Verdict.FAILURE, now_s, 1 - 2**-53)
    assert round(subject.open_until_s - now_s) == 5


@pytest.mark.parametrize("verdict", list(Verdict))
def test_an_answer_from_before_the_outage_does_not_decide_for_the_probe(verdict: Verdict) -> None:
    subject = Breaker(1)
    late = passed(subject)
    fail(subject)
    passed(subject, subject.open_until_s)
    subject.report(late, verdict, subject.open_until_s, 0)
    assert subject.state is State.HALF_OPEN


def test_a_probe_that_is_cancelled_makes_room_for_the_next_at_once() -> None:
    subject = Breaker(1)
    fail(subject)
    now_s = subject.open_until_s
    subject.report(passed(subject, now_s), Verdict.ABANDONED, now_s, 0)
    subject.report(passed(subject, now_s), Verdict.SUCCESS, now_s, 0)
    assert subject.state is State.CLOSED
