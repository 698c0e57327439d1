"""
Anchoring: whether a log still holds the record that was read last, and which offsets no archive holds.

A topic that was deleted and made again, or a file that was replaced, may be longer than the one before it: offsets do
not show the change. If the record is gone, by retention or compaction, there is nothing to compare.
"""

import hashlib
from collections.abc import Iterable

from reconciler.model.event import Record
from reconciler.model.stamp import Anchor

_DIGEST_BYTES = 16


def of(record: Record) -> Anchor:
    """Return a record as the anchor of its partition."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    headers = [part for name, value in record.headers for part in (name.encode(), value)]
    for part in (b"%d %d" % (record.offset, record.timestamp), record.key, record.value, *headers):
        # Each with its length, so that two records never give the same bytes.
        digest.update(b"-" if part is None else b"%d " % len(part) + part)
    return Anchor(record.offset, digest.hexdigest())


def replaced(anchor: Anchor, found: Record) -> bool:
    """Whether another record is in the place of the one that was read."""
    return found.offset == anchor.offset and of(found) != anchor


def fault(name: str, anchor: Anchor) -> str:
    """Say that a log was replaced; `name` is what people call it."""
    return f"{name}: the record at {anchor.offset} is not the one that was read: another log has replaced this one"


# ------------------------------------------------------------------------------------------------------------- archives


Span = tuple[int, int]  # from an offset up to, not including, another


def missing(spans: Iterable[Span], end: int) -> list[Span]:
    """
    Return the offsets from 0 up to `end` that lie in none of the spans, in order.

    An archive counts as whole between its first and its last record: offsets without a record, as transactions and
    compaction leave them, look like records that were cut out of it.
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


def whole_to(spans: Iterable[Span]) -> int:
    """Return the offset before which every one lies in a span."""
    reached = 0
    for first, after in sorted(spans):
        if first > reached:
            break
        reached = max(reached, after)
    return reached
