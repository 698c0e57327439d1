"""Series: what a plot shows is never negative, never invented, and adds up to what was counted."""

from itertools import pairwise

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reconciler.core.explain import series
from reconciler.core.explain.series import STEP_S, Point, Sample

BOUNDS_S = (0.1, 1.0, 10.0, 60.0)
STEP_US = STEP_S * 1_000_000
COUNTS = st.integers(0, 10**6)
CLASSES = st.lists(st.integers(0, 1000), min_size=5, max_size=5).map(tuple)
RATES = ("events_per_s", "writes_per_s", "convergence_p50_s", "convergence_p95_s", "version_conflict_rate")
SAMPLES = st.builds(
    Sample,
    at_us=st.integers(0, 10**15),
    monotonic_s=st.floats(0, 10_000),
    events=COUNTS,
    writes=COUNTS,
    conflicts=COUNTS,
    took=st.one_of(CLASSES, st.just(())),
    pending=st.none() | COUNTS,
    lag=st.none() | COUNTS,
)


def rates(point: Point) -> list[float | None]:
    return [getattr(point, name) for name in RATES]


@given(SAMPLES, SAMPLES)
def test_nothing_is_negative_and_a_share_is_one_at_most_whatever_the_counts_do(before: Sample, now: Sample) -> None:
    point = series.point(before, now, BOUNDS_S)
    assert all(rate is None or rate >= 0 for rate in rates(point))
    assert point.version_conflict_rate is None or point.version_conflict_rate <= 1
    assert (point.convergence_p50_s is None) == (point.convergence_p95_s is None)
    if point.convergence_p50_s is not None and point.convergence_p95_s is not None:
        assert point.convergence_p50_s <= point.convergence_p95_s
    assert (point.pending, point.lag) == (now.pending, now.lag)


@given(SAMPLES, st.floats(1, 90), st.tuples(COUNTS, COUNTS, COUNTS), CLASSES)
def test_rates_give_back_what_was_counted(
    before: Sample, elapsed_s: float, counted: tuple[int, int, int], took: tuple[int, ...]
) -> None:
    events, writes, conflicts = counted
    now = attrs.evolve(
        before,
        monotonic_s=before.monotonic_s + elapsed_s,
        events=before.events + events,
        writes=before.writes + writes,
        conflicts=before.conflicts + conflicts,
        took=tuple(a + b for a, b in zip(before.took or (0,) * 5, took, strict=True)),
    )
    assume(1 <= now.monotonic_s - before.monotonic_s <= 90)
    point = series.point(before, now, BOUNDS_S)
    assert point.events_per_s == pytest.approx(events / elapsed_s)
    assert point.writes_per_s == pytest.approx(writes / elapsed_s)
    tried = writes + conflicts
    assert point.version_conflict_rate == (pytest.approx(conflicts / tried) if tried else None)
    assert (point.convergence_p50_s is None) == (not any(took))


@pytest.mark.parametrize("elapsed_s", [-5.0, 0.0, 0.5, 91.0, 86_400.0])
def test_over_a_gap_or_no_time_at_all_nothing_is_told_of_what_came_in_between(elapsed_s: float) -> None:
    before = Sample(at_us=0, monotonic_s=100.0, took=(0,) * 5)
    now = Sample(at_us=STEP_US, monotonic_s=100.0 + elapsed_s, events=10, writes=5, took=(5, 0, 0, 0, 0), pending=3)
    point = series.point(before, now, BOUNDS_S)
    assert rates(point) == [None] * 5
    assert point.pending == 3


@pytest.mark.parametrize("name", ["events", "writes", "conflicts"])
def test_a_count_that_went_back_says_nothing_of_itself_and_hides_nothing_else(name: str) -> None:
    before = Sample(at_us=0, monotonic_s=0.0, **{name: 100.0})
    point = series.point(before, Sample(at_us=STEP_US, monotonic_s=60.0, took=(0, 4, 0, 0, 0)), BOUNDS_S)
    told = {"events": point.events_per_s, "writes": point.writes_per_s, "conflicts": point.version_conflict_rate}
    assert told[name] is None
    assert point.convergence_p50_s == pytest.approx(0.55)


@given(CLASSES, st.lists(st.floats(0.01, 1), min_size=2, max_size=2))
def test_a_quantile_lies_in_its_class_and_grows_with_its_share(classes: tuple[int, ...], shares: list[float]) -> None:
    lower, upper = (series.quantile(classes, BOUNDS_S, share) for share in sorted(shares))
    if not any(classes):
        assert lower is upper is None
        return
    assert lower is not None
    assert upper is not None
    assert 0 <= lower <= upper <= BOUNDS_S[-1]
    filled = [number for number, count in enumerate(classes) if count]
    assert upper <= BOUNDS_S[min(filled[-1], len(BOUNDS_S) - 1)]
    assert lower >= (0.0, *BOUNDS_S)[filled[0]]


@given(st.lists(st.integers(0, 3000), max_size=50), st.integers(0, 3000), st.integers(1, 1440))
def test_a_window_has_every_step_once_in_order_and_invents_none(kept: list[int], now: int, steps: int) -> None:
    points = [Point(at_us=step * STEP_US, pending=step) for step in kept]
    shown = series.window(points, now * STEP_US + 17, steps)
    assert len(shown) == steps
    assert shown[-1].at_us == now * STEP_US
    assert all(later.at_us - earlier.at_us == STEP_US for earlier, later in pairwise(shown))
    for point in shown:
        step = point.at_us // STEP_US
        assert point.pending == (step if step in kept else None)


@given(st.integers(0, 10**16))
def test_the_next_sample_is_taken_where_the_next_step_ends(at_us: int) -> None:
    wait_s = series.wait_s(at_us)
    assert STEP_S / 2 <= wait_s <= 1.5 * STEP_S
    assert series.step_of(at_us + round(wait_s * 1_000_000)) == series.step_of(at_us) + 1
