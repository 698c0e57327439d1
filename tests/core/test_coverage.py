"""Which offsets are in no archive: exactly those that no span holds."""

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.core.events.anchoring import missing

offsets = st.integers(0, 30)
spans = st.lists(st.tuples(offsets, offsets).map(lambda pair: (min(pair), max(pair))), max_size=6)


@example([(1, 1)], 2)
@given(spans, offsets)
def test_a_gap_is_what_no_span_holds(held: list[tuple[int, int]], end: int) -> None:
    gaps = missing(held, end)
    absent = {offset for offset in range(end) if not any(first <= offset < after for first, after in held)}
    assert {offset for first, after in gaps for offset in range(first, after)} == absent
    assert all(first < after for first, after in gaps)
    assert all(after < first for (_, after), (first, _) in itertools.pairwise(gaps)), "in order, and joined"
