"""Hot spots: a trend compares rates, and says so where too little has happened."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.explain import hotspots
from reconciler.model.standing import HotSpot

COUNTS = st.integers(0, 10**6)


@pytest.mark.parametrize(
    ("day", "before", "trend"),
    [
        ((0, 9), (0, 9), "quiet"),
        ((1, 1), (1, 1), "too few to tell"),
        ((9, 20), (3, 20), "rising"),
        ((3, 20), (9, 20), "falling"),
        ((6, 40), (3, 20), "steady"),
        ((3, 9), (0, 0), "new"),
    ],
)
def test_a_trend_compares_rates(day: tuple[int, int], before: tuple[int, int], trend: str) -> None:
    assert hotspots.trend(HotSpot("field", "f", 99, 999, *day, *before)) == trend


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_a_trend_turned_round_is_the_opposite(a: int, b: int, c: int, d: int) -> None:
    there = hotspots.trend(HotSpot("field", "f", 9, 9, a, b, c, d))
    back = hotspots.trend(HotSpot("field", "f", 9, 9, c, d, a, b))
    assert "new" in (there, back) or back == {"rising": "falling", "falling": "rising"}.get(there, there)


def test_every_hour_of_two_days_has_a_number_and_the_present_one_is_the_last() -> None:
    hours = hotspots.by_hour(HotSpot("field", "f", 9, 9, hours=((0, 4), (3, 1), (47, 2))))
    assert hours == [2, *[0] * 43, 1, 0, 0, 4]


def test_advice_is_given_by_what_the_last_day_was_like() -> None:
    hot = HotSpot("document", "d", 900, 1000, 5, 10)
    assert "slow the source" in hotspots.advice(hot)
    assert "Two sides write this field" in hotspots.advice(attrs.evolve(hot, kind="field"))
    assert "Nothing to do" in hotspots.advice(attrs.evolve(hot, day_conflicts=0))
