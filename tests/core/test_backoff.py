"""Waits: properties over all arguments first, then the numbers that the contract names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.scheduling import backoff

CHANCES = st.floats(min_value=0, max_value=1, exclude_max=True)
TIMES = st.integers(min_value=1, max_value=10_000)
SECONDS = st.floats(min_value=0.001, max_value=100_000)


@given(TIMES, SECONDS, SECONDS, CHANCES)
def test_no_wait_is_longer_than_its_maximum_or_shorter_than_its_share_of_it(
    times: int, base_s: float, max_s: float, chance: float
) -> None:
    whole_s = backoff.doubled_s(times, base_s, max_s)
    assert 0.5 * whole_s <= backoff.delay_s(times, base_s, max_s, chance) <= whole_s <= max_s
    assert 0.8 * whole_s * 0.999999 <= backoff.cooldown_s(times, base_s, max_s, chance) <= whole_s


@given(TIMES, SECONDS, SECONDS, CHANCES)
def test_at_one_chance_a_later_wait_is_never_shorter(times: int, base_s: float, max_s: float, chance: float) -> None:
    for wait_s in (backoff.delay_s, backoff.cooldown_s):
        assert wait_s(times, base_s, max_s, chance) <= wait_s(times + 1, base_s, max_s, chance)


@given(TIMES, SECONDS, SECONDS, CHANCES, CHANCES)
def test_chance_scatters_every_wait(times: int, base_s: float, max_s: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    for wait_s in (backoff.delay_s, backoff.cooldown_s):
        assert wait_s(times, base_s, max_s, low) <= wait_s(times, base_s, max_s, high)
        assert wait_s(times, base_s, max_s, 0) < wait_s(times, base_s, max_s, 0.999)


@given(st.integers(min_value=0, max_value=10_000), SECONDS, CHANCES)
def test_an_interval_lies_within_a_tenth_of_the_base_stretched_eight_times_at_most(
    stable: int, base_s: float, chance: float
) -> None:
    interval_s = backoff.interval_s(stable, base_s, chance)
    whole_s = base_s * min(8, 2 ** min(stable, 3))
    assert interval_s == pytest.approx(whole_s, rel=0.1001)


@given(st.integers(min_value=0, max_value=10_000), CHANCES)
def test_an_interval_of_zero_means_never(stable: int, chance: float) -> None:
    assert backoff.interval_s(stable, 0, chance) is None


def test_conflict_waits_are_up_to_1_2_4_and_8_seconds() -> None:
    wholes_s = [backoff.doubled_s(attempt, 1.0, 60.0) for attempt in range(1, 9)]
    assert wholes_s == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [backoff.delay_s(attempt, 1.0, 60.0, 0.5) for attempt in range(1, 5)] == [0.75, 1.5, 3, 6]


def test_cool_downs_double_from_a_minute_to_a_quarter_of_an_hour() -> None:
    nearly_one = 1 - 2**-53
    waits_s = [round(backoff.cooldown_s(times, 60.0, 900.0, nearly_one)) for times in range(1, 7)]
    assert waits_s == [60, 120, 240, 480, 900, 900]


def test_a_stable_document_is_compared_after_10_20_40_and_then_every_80_minutes() -> None:
    assert [backoff.interval_s(stable, 600, 0.5) for stable in range(6)] == [600, 1200, 2400, 4800, 4800, 4800]
