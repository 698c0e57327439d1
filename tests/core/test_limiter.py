"""The limit on requests in flight and the budget for retries: what holds after any history, then single rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reconciler.core.scheduling.limiter import Limiter, Load, Permit, RetryQuota


class LimiterUnderAnyLoad(RuleBasedStateMachine):
    """Requests start and end in any order and with any result."""

    @initialize(limit_min=st.integers(1, 4), more=st.integers(0, 12))
    def start(self, limit_min: int, more: int) -> None:
        self.limit_min, self.limit_max = limit_min, limit_min + more
        self.limiter = Limiter(self.limit_max, limit_min)
        self.permits: list[Permit] = []

    @rule(wanted=st.integers(1, 20))
    def acquire(self, wanted: int) -> None:
        for _ in range(wanted):
            free = self.limiter.in_flight < int(self.limiter.limit)
            permit = self.limiter.try_acquire()
            assert (permit is not None) == free
            if permit is not None:
                self.permits.append(permit)

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), load=st.sampled_from(Load))
    def release(self, data: st.DataObject, load: Load) -> None:
        permit = self.permits.pop(data.draw(st.integers(0, len(self.permits) - 1)))
        limit = self.limiter.limit
        self.limiter.released(permit, load)
        if load is not Load.OVERLOAD:
            assert limit <= self.limiter.limit <= limit + 1 / limit
        else:
            assert self.limiter.limit in {limit, max(self.limit_min, limit / 2)}

    @invariant()
    def stays_within_its_bounds(self) -> None:
        assert self.limit_min <= self.limiter.limit <= self.limit_max
        assert 0 <= self.limiter.in_flight == len(self.permits) <= self.limit_max

    def teardown(self) -> None:
        """However it went, once every request has ended the next one may be sent."""
        for permit in self.permits:
            self.limiter.released(permit, Load.UNKNOWN)
        assert self.limiter.try_acquire() is not None


TestLimiterUnderAnyLoad = LimiterUnderAnyLoad.TestCase


def fill(limiter: Limiter) -> list[Permit]:
    permits = []
    while (permit := limiter.try_acquire()) is not None:
        permits.append(permit)
    return permits


def answer(limiter: Limiter, permits: list[Permit], load: Load) -> None:
    for permit in permits:
        limiter.released(permit, load)


def test_it_starts_with_what_the_operator_allows() -> None:
    assert len(fill(Limiter(16))) == 16


def test_a_round_trip_of_overload_halves_the_limit_once() -> None:
    limiter = Limiter(16)
    answer(limiter, fill(limiter), Load.OVERLOAD)
    assert limiter.limit == 8
    answer(limiter, fill(limiter), Load.OVERLOAD)
    assert limiter.limit == 4


def test_good_answers_to_requests_from_before_a_cut_do_not_raise_it_again() -> None:
    limiter = Limiter(16)
    first, *others = fill(limiter)
    limiter.released(first, Load.OVERLOAD)
    answer(limiter, others, Load.NORMAL)
    assert limiter.limit == 8


def test_a_limit_full_of_good_answers_raises_the_limit_by_about_one() -> None:
    limiter = Limiter(16)
    answer(limiter, fill(limiter), Load.OVERLOAD)
    for _ in range(8):
        limiter.released(fill(limiter)[0], Load.NORMAL)
        answer(limiter, fill(limiter), Load.UNKNOWN)
    assert 8.9 < limiter.limit <= 9


def test_a_limit_that_is_not_used_is_not_raised() -> None:
    limiter = Limiter(16)
    answer(limiter, fill(limiter), Load.OVERLOAD)
    for _ in range(1_000):
        permit = limiter.try_acquire()
        assert permit is not None
        limiter.released(permit, Load.NORMAL)
    assert limiter.limit == 8


def test_it_finds_what_the_server_bears_and_comes_back_when_the_server_does() -> None:
    limiter = Limiter(64)
    limits: list[float] = []
    for turn in range(400):
        bears = 20 if turn < 300 else 64
        permits = fill(limiter)
        load = Load.OVERLOAD if len(permits) > bears else Load.NORMAL
        answer(limiter, permits, load)
        limits.append(limiter.limit)
    assert 10 <= min(limits[50:300]) <= max(limits[50:300]) <= 22
    assert limits[-1] == 64


def shared(count: int, limit_max: int) -> list[Limiter]:
    """The limiters of so many replicas, with equal shares."""
    limiters = [Limiter(limit_max) for _ in range(count)]
    for limiter in limiters:
        limiter.allow(limit_max // count, count)
    return limiters


def tell(limiters: list[Limiter]) -> None:
    """Let each know of all others."""
    cuts = max(limiter.cuts for limiter in limiters)
    for limiter in limiters:
        limiter.cut_to(cuts)


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), max_size=60))
def test_replicas_that_hear_of_each_other_slow_down_and_recover_as_one_alone(overloaded: list[list[bool]]) -> None:
    alone, replicas = Limiter(64), shared(4, 64)
    for turn in overloaded:
        answer(alone, fill(alone), Load.OVERLOAD if any(turn) else Load.NORMAL)
        for limiter, trouble in zip(replicas, turn, strict=True):
            permits = fill(limiter)
            answer(limiter, permits, Load.OVERLOAD if trouble else Load.NORMAL)
        tell(replicas)
        assert len({limiter.cuts for limiter in replicas}) == 1
        together = sum(limiter.limit for limiter in replicas)
        assert together <= 2 * max(4, alone.limit), "each keeps one request, and what it has gained in this round"
        assert alone.limit <= 2 * together


def test_a_cut_that_two_replicas_made_counts_once_and_each_later_one_again() -> None:
    one, other, third = replicas = shared(3, 48)
    answer(one, fill(one), Load.OVERLOAD)
    answer(other, fill(other), Load.OVERLOAD)
    tell(replicas)
    assert [limiter.limit for limiter in replicas] == [8, 8, 8]
    tell(replicas)
    answer(third, fill(third), Load.OVERLOAD)
    tell(replicas)
    assert [limiter.limit for limiter in replicas] == [4, 4, 4]


def test_one_that_is_in_trouble_alone_does_not_slow_down_the_others_for_ever() -> None:
    one, other = replicas = shared(2, 16)
    for _ in range(100):
        answer(one, fill(one), Load.OVERLOAD)
        for _ in range(4):
            answer(other, fill(other), Load.NORMAL)
        tell(replicas)
    assert (one.limit, other.limit) == (1, 8)


def test_a_permit_cannot_be_given_back_twice() -> None:
    limiter = Limiter(2)
    permit = limiter.try_acquire()
    assert permit is not None
    limiter.released(permit, Load.NORMAL)
    with pytest.raises(AssertionError):
        limiter.released(permit, Load.NORMAL)


# ---------------------------------------------------------------------------------------------------------- retry quota


@given(
    steps=st.lists(st.tuples(st.booleans(), st.floats(min_value=0, max_value=3)), max_size=200),
    balance_max=st.floats(min_value=1, max_value=50),
    deposit=st.floats(min_value=0, max_value=1),
    per_s=st.floats(min_value=0.01, max_value=10),
)
def test_retries_never_exceed_what_was_saved_paid_in_and_come_by_itself(
    steps: list[tuple[bool, float]], balance_max: float, deposit: float, per_s: float
) -> None:
    quota = RetryQuota(balance_max, deposit, per_s)
    now_s, successes, retries = 50.0, 0, 0
    for succeeds, seconds in steps:
        now_s += seconds
        if succeeds:
            quota.succeeded(now_s)
            successes += 1
        else:
            affordable = quota.balance(now_s) >= 1
            assert quota.try_retry(now_s) == affordable
            retries += affordable
        assert 0 <= quota.balance(now_s) <= balance_max
    assert retries <= balance_max + successes * deposit + (now_s - 50.0) * per_s + 1e-6


@given(st.integers(1, 100), st.floats(min_value=0.01, max_value=10))
def test_a_spent_budget_pays_for_a_retry_again_after_the_wait_it_names(spent: int, per_s: float) -> None:
    quota = RetryQuota(100, per_s=per_s)
    for _ in range(spent):
        assert quota.wait_s(7) == 0
        assert quota.try_retry(7)
    wait_s = quota.wait_s(7)
    assert (wait_s > 0) == (spent == 100)
    assert quota.try_retry(7 + wait_s + 1e-6)


@given(st.integers(1, 16), st.integers(1, 16))
def test_replicas_that_divide_a_budget_retry_as_often_as_one_alone(at_first: int, later: int) -> None:
    quotas = [RetryQuota(100) for _ in range(later)]
    for count in (at_first, later):
        for quota in quotas:
            quota.divide(count)
            quota.balance(0)
    assert sum(quota.balance(1000) for quota in quotas) == pytest.approx(100)
    spent = 0
    for quota in quotas:
        while quota.try_retry(1000):
            spent += 1
    assert spent <= 100
    assert sum(quota.balance(1001) - quota.balance(1000) for quota in quotas) <= 1 + 1e-6


def test_while_successes_flow_a_tenth_of_them_may_be_retried() -> None:
    quota = RetryQuota(balance_max=1)
    assert quota.try_retry(0)
    retries = 0
    for _ in range(1_000):
        quota.succeeded(0)
        retries += quota.try_retry(0)
    assert 90 <= retries <= 100


def test_a_clock_that_stands_or_goes_back_pays_nothing() -> None:
    quota = RetryQuota(balance_max=1)
    assert quota.try_retry(10)
    assert not quota.try_retry(10)
    assert not quota.try_retry(5)
    assert quota.balance(5) == 0
    assert not quota.try_retry(10.5)
    assert quota.try_retry(11)


def test_documents_that_fail_for_days_leave_half_of_the_budget_to_hiccups() -> None:
    quota = RetryQuota(balance_max=20)
    spent = sum(quota.try_retry(0, failures=9) for _ in range(100))
    assert spent == 11
    assert quota.wait_s(0, failures=9) > 0
    assert sum(quota.try_retry(0, failures=1) for _ in range(100)) == 9
