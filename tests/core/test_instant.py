"""Instants: every RFC 3339 timestamp has one canonical form, whose order as text is its order in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model import instant

SECONDS_MAX = 253_402_300_799  # the last one of the year 9999
offsets = st.integers(-(23 * 60 + 59), 23 * 60 + 59)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00.000000Z"),
        ("2026-11-22t10:00:00z", "2026-11-22T10:00:00.000000Z"),
        ("2026-11-22t10:00:00.000001z", "2026-11-22T10:00:00.000001Z"),
        ("2026-11-22T10:00:00-00:00", "2026-11-22T10:00:00.000000Z"),
        ("2026-11-22T00:00:00+14:00", "2026-11-21T10:00:00.000000Z"),
        ("2026-11-22T22:00:00-12:00", "2026-11-23T10:00:00.000000Z"),
        ("2026-11-22T10:00:00.1Z", "2026-11-22T10:00:00.100000Z"),
        ("2026-11-22T10:00:00.9999999Z", "2026-11-22T10:00:00.999999Z"),
        ("2026-11-22T10:00:00.000000500000000000000000001Z", "2026-11-22T10:00:00.000000Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999Z"),
        ("2016-12-31T23:59:60.000001Z", "2016-12-31T23:59:59.999999Z"),
        ("1990-12-31T15:59:60-08:00", "1990-12-31T23:59:59.999999Z"),
        ("1991-01-01t05:29:60.25+05:30", "1990-12-31T23:59:59.999999Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ("9999-12-31T23:59:60Z", "9999-12-31T23:59:59.999999Z"),
        ("9999-12-31T23:59:59+14:00", "9999-12-31T09:59:59.000000Z"),
    ],
)
def test_what_rfc_3339_allows_has_a_canonical_form_that_stands_for_itself(written: str, canonical: str) -> None:
    assert instant.canonical(written) == canonical
    assert instant.canonical(canonical) == canonical
    assert instant.from_us(instant.to_us(canonical)) == canonical


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("2026-11-22T10:00:00", "no offset"),
        ("2026-11-22T10:00:60Z", "leap second"),
        ("2016-12-31T23:59:60+01:00", "leap second"),
        ("0001-01-01T00:00:00+00:01", "out of range"),
        ("9999-12-31T23:59:59-00:01", "out of range"),
        ("9999-12-31T23:59:60-00:01", "out of range"),
        ("2026-02-30T10:00:00Z", "day"),
        ("0000-01-01T00:00:00Z", "year"),
        ("2026-11-22T24:00:00.000000Z", "RFC 3339"),
        *((wrong, "RFC 3339") for wrong in ("2026-11-22T10:00:00+10:99", "2026-11-22T10:00:61Z", "10000-01-01T0:0:0Z")),
        *((wrong, "RFC 3339") for wrong in ("2026-11-22T10:00:00.Z", "2026-11-22T10:00:00.00000\u0661Z", "Z", "")),
    ],
)
def test_anything_else_is_refused_in_words(written: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        instant.canonical(written)


@given(st.lists(st.tuples(st.integers(86_400, SECONDS_MAX - 86_400), offsets), min_size=2, max_size=2))
def test_canonical_text_is_ordered_as_time_is(moments: list[tuple[int, int]]) -> None:
    texts = []
    for second, offset in moments:
        sign, minutes = "-" if offset < 0 else "+", abs(offset)
        local = instant.from_us((second + offset * 60) * 1_000_000)[:19]
        texts.append(instant.canonical(f"{local}{sign}{minutes // 60:02}:{minutes % 60:02}"))
    (first, _), (second, _) = moments
    assert (texts[0] < texts[1]) is (first < second)


@pytest.mark.parametrize("text", ["2026-11-22T10:00:00", "yesterday", ""])
def test_what_is_no_canonical_text_has_no_microseconds(text: str) -> None:
    with pytest.raises(ValueError, match=r"offset|isoformat"):
        instant.to_us(text)
