"""The circuit breaker: its table, what holds after any history, then the course of an outage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reconciler.core.scheduling import breaker
from reconciler.core.scheduling.breaker import Breaker, Pass, RequestResult, Signal, State, What

CHANCES = st.floats(min_value=0, max_value=1, exclude_max=True)
NAMES = st.sampled_from("abcdefgh")


def test_from_every_state_every_state_can_be_reached() -> None:
    for start in State:
        reached = {start}
        for _ in State:
            reached |= {target for state in reached for target in breaker.TRANSITIONS[state].values()}
        assert reached == set(State)


def test_it_closes_only_on_a_success_and_opens_only_when_probes_fail() -> None:
    moves = [(s, signal, t) for s, row in breaker.TRANSITIONS.items() for signal, t in row.items() if s is not t]
    assert {signal for _, signal, target in moves if target is State.CLOSED} == {Signal.SUCCEEDED}
    assert {state for state, _, target in moves if target is State.CLOSED} == {State.HALF_OPEN}
    assert {(state, signal) for state, signal, target in moves if target is State.OPEN} == {
        (State.HALF_OPEN, Signal.FAILED_WIDELY)
    }


class BreakerUnderAnyHistory(RuleBasedStateMachine):
    """Requests start and end in any order and with any verdict."""

    @initialize(documents_max=st.integers(1, 4))
    def start(self, documents_max: int) -> None:
        self.documents_max = documents_max
        self.breaker = Breaker(documents_max, cooldown_base_s=5, cooldown_max_s=60)
        self.now_s = 3.0
        self.under_way: list[Pass] = []
        self.troubled: set[str] = set()  # since the last proper answer, while closed

    @rule(weight=st.integers(1, 5))
    def ask(self, weight: int) -> None:
        before, wanted = self.breaker.state, self.breaker.probes(self.now_s)
        leave = self.breaker.try_pass(self.now_s, weight)
        match before:
            case State.CLOSED:
                assert leave is not None
            case State.OPEN:
                assert (leave is not None) == (self.now_s >= self.breaker.open_until_s) == (wanted > 0)
            case State.HALF_OPEN:
                assert (leave is not None) == (wanted > 0)
        if leave is not None:
            assert before is State.CLOSED or leave.weight <= wanted
            self.under_way.append(leave)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), result=st.sampled_from(RequestResult), name=NAMES, known=st.booleans(), chance=CHANCES)
    def report(self, data: st.DataObject, result: RequestResult, name: str, known: bool, chance: float) -> None:
        leave = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        before, era = self.breaker.state, self.breaker._era
        self.breaker.report(leave, result, self.now_s, chance, What(name, known))
        after = self.breaker.state
        if before is State.OPEN:
            assert after is before, "late answers decide nothing while it is open"
        elif result is RequestResult.SUCCESS:
            assert after is State.CLOSED
            self.troubled.clear()
        elif leave.era != era or result is RequestResult.ABANDONED:
            assert after is before, "a failure from before says nothing"
        elif before is State.CLOSED:
            self.troubled |= set() if known else {name}
            assert (after is State.HALF_OPEN) == (len(self.troubled) >= self.documents_max)
        else:
            assert after in (State.HALF_OPEN, State.OPEN)
        if before is not State.OPEN and after is State.OPEN:
            assert 0.8 * 5 * 0.999 <= self.breaker.open_until_s - self.now_s <= 60
            assert self.breaker.away

    @rule(seconds=st.floats(min_value=0, max_value=70))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def in_doubt_a_probe_is_under_way_or_may_be_sent(self) -> None:
        if self.breaker.state is State.HALF_OPEN:
            probing = [leave for leave in self.under_way if leave.era == self.breaker._era]
            assert probing or self.breaker.probes(self.now_s)


TestBreakerUnderAnyHistory = BreakerUnderAnyHistory.TestCase


def passed(subject: Breaker, now_s: float = 0.0, weight: int = 1) -> Pass:
    leave = subject.try_pass(now_s, weight)
    assert leave is not None
    return leave


def fail(subject: Breaker, *names: str, now_s: float = 0.0, known: bool = False, told_s: float = 0.0) -> None:
    for name in names:
        subject.report(passed(subject, now_s), RequestResult.FAILURE, now_s, 1 - 2**-53, What(name, known, told_s))


def fail_round(subject: Breaker, now_s: float = 0.0, told_s: float = 0.0) -> int:
    """Let all probes of a round fail; return how many these were."""
    count = subject.probes(now_s)
    fail(subject, *(f"probe {number}" for number in range(count)), now_s=now_s, told_s=told_s)
    assert subject.state is State.OPEN
    return count


@given(st.integers(1, 6), st.lists(st.tuples(st.sampled_from(RequestResult), NAMES), max_size=60))
def test_so_many_different_documents_in_a_row_raise_a_doubt(
    documents_max: int, answers: list[tuple[RequestResult, str]]
) -> None:
    subject, in_a_row = Breaker(documents_max), set[str]()
    for result, name in answers:
        subject.report(passed(subject), result, 0, 0, What(name))
        if result is RequestResult.SUCCESS:
            in_a_row.clear()
        elif result is RequestResult.FAILURE:
            in_a_row.add(name)
        assert (subject.state is State.HALF_OPEN) == (len(in_a_row) == documents_max)
        if subject.state is State.HALF_OPEN:
            return


def test_a_few_documents_that_fail_for_ever_raise_no_doubt() -> None:
    subject = Breaker(5)
    fail(subject, *["a", "b", "c", "d"] * 100)
    fail(subject, *(f"{number}" for number in range(100)), known=True)
    assert subject.state is State.CLOSED


def test_a_doubt_ends_with_the_first_proper_answer() -> None:
    subject = Breaker(2)
    late = passed(subject)
    fail(subject, "a", "b")
    subject.report(late, RequestResult.SUCCESS, 0, 0)
    assert (subject.state, subject.away) == (State.CLOSED, False)


def test_after_the_cool_down_a_round_of_probes_passes_and_one_success_lets_everyone_pass() -> None:
    subject = Breaker(1, cooldown_base_s=10)
    fail(subject, "a", now_s=100)
    fail_round(subject, 100)
    assert subject.open_until_s == pytest.approx(110)
    assert subject.try_pass(109.9) is None
    probe = passed(subject, 110.1)
    fail(subject, "b", now_s=200)
    subject.report(probe, RequestResult.SUCCESS, 200, 0)
    assert (subject.state, subject.away) == (State.CLOSED, False)


def test_rounds_grow_smaller_and_cool_downs_longer_up_to_the_maximum_and_a_success_sets_both_back() -> None:
    subject, now_s, found = Breaker(1, cooldown_base_s=5, cooldown_max_s=60), 0.0, []
    fail(subject, "a")
    for _ in range(6):
        count = fail_round(subject, now_s)
        found.append((count, round(subject.open_until_s - now_s)))
        now_s = subject.open_until_s
    assert found == [(8, 5), (8, 10), (8, 20), (1, 40), (1, 60), (1, 60)]
    subject.report(passed(subject, now_s), RequestResult.SUCCESS, now_s, 0)
    fail(subject, "a", now_s=now_s)
    assert fail_round(subject, now_s) == 8
    assert round(subject.open_until_s - now_s) == 5


@pytest.mark.parametrize(("told_s", "waits_s"), [(0, 5), (30, 30), (3600, 60)])
def test_all_wait_as_long_as_all_were_told_but_a_minute_at_most(told_s: float, waits_s: float) -> None:
    subject = Breaker(2, cooldown_base_s=5, cooldown_max_s=60)
    fail(subject, "a", told_s=told_s)
    fail(subject, "b", told_s=told_s + 1)
    fail_round(subject, told_s=told_s + 2)
    assert round(subject.open_until_s) == waits_s


def test_a_probe_of_weight_stands_for_several() -> None:
    subject = Breaker(1)
    fail(subject, "a")
    for name in ("well before", "well before too"):
        subject.report(passed(subject, weight=4), RequestResult.FAILURE, 0, 0, What(name))
    assert subject.state is State.OPEN


@pytest.mark.parametrize("result", [RequestResult.FAILURE, RequestResult.ABANDONED])
def test_a_failure_from_before_the_outage_does_not_decide_for_the_probes(result: RequestResult) -> None:
    subject = Breaker(1)
    late = [passed(subject) for _ in range(20)]
    fail(subject, "a")
    for leave in late:
        subject.report(leave, result, 0, 0, What("late"))
    assert (subject.state, subject.probes(0)) == (State.HALF_OPEN, 8)


def test_a_probe_that_is_cancelled_makes_room_for_the_next_at_once() -> None:
    subject = Breaker(1)
    fail(subject, "a")
    probes = [passed(subject) for _ in range(8)]
    assert subject.try_pass(0) is None
    subject.report(probes[0], RequestResult.ABANDONED, 0, 0)
    subject.report(passed(subject), RequestResult.SUCCESS, 0, 0)
    assert subject.state is State.CLOSED
