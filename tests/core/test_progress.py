"""Progress: an estimate is never negative, never made of nothing, and 0 at the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.core import progress

COUNTS = st.integers(0, 10**9)


@given(COUNTS, st.none() | COUNTS, st.floats(-1, 10**6))
def test_an_estimate_is_never_negative_and_there_is_one_only_where_there_is_a_pace(
    done: int, total: int | None, elapsed_s: float
) -> None:
    found = progress.estimate_s(done, total, elapsed_s)
    if total is None:
        assert found is None
    elif done >= total:
        assert found == 0
    else:
        assert (found is None) == (done == 0 or elapsed_s <= 0)
        assert found is None or found >= 0


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.floats(0.1, 10**6))
def test_at_one_pace_what_was_and_what_comes_is_the_whole(done: int, left: int, elapsed_s: float) -> None:
    found = progress.estimate_s(done, done + left, elapsed_s)
    assert found is not None
    assert abs(found / left - elapsed_s / done) <= 1e-6 * elapsed_s / done
