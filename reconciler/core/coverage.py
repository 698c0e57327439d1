"""Coverage: which of a log's offsets are in archives, and which are in none."""

from collections.abc import Iterable

Span = tuple[int, int]  # from an offset up to, not including, another


def missing(spans: Iterable[Span], end: int) -> list[Span]:
    """
    Return what of the offsets from 0 up to `end` lies in none of the spans, in order.

    An archive counts as whole between its first and its last record: offsets that hold no record, as transactions and
    compaction leave them, can't be told from records that somebody cut out of it.
    """
    gaps: list[Span] = []
    reached = 0
    for first, after in sorted(spans):
        if first >= end:
            break
        if after <= reached or first == after:
            continue
        if first > reached:
            gaps.append((reached, first))
        reached = after
    return [*gaps, (reached, end)] if reached < end else gaps
