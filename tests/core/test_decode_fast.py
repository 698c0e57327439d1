"""Decode, the fast way: the same events as `decode.record`, or the record is left to it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.events import decode, decode_fast
from reconciler.model import codec
from reconciler.model.event import Event, PlainRecord
from reconciler.model.policy import Policy, Rule, Strategy
from tests.core import strategies
from tests.core.strategies import binary, envelope, structured

OPTIONS = decode.Options()
ARCHIVED = decode.Options(archived=True)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
times = st.sampled_from(
    [
        "2026-11-22T10:00:00.000001Z",
        "2026-11-22T10:00:00Z",
        "2026-11-22T11:00:00.000001+01:00",
        "2026-11-22T10:09:00.000000Z",
        "2026-02-30T10:00:00.000000Z",
        "2026-11-22T10:00:00.0000001",
        "2026-W47-7T10:00:00.000001Z",
        "",
    ]
)
attributes = st.one_of(
    st.tuples(st.sampled_from([*envelope(), "sequence", "actor", "datacontenttype", "traceparent"]), json_values),
    st.tuples(
        st.sampled_from(["kafkatopic", "kafkapartition", "kafkaoffset"]), st.sampled_from(["t", "", 0, -1, 2**64])
    ),
    st.tuples(st.sampled_from(["time", "recordedtime"]), times),
    st.tuples(
        st.just("data"), st.builds(lambda fields: {"set": fields}, st.dictionaries(st.text(max_size=9), json_values))
    ),
)
headers = st.sampled_from(
    [(), [("content-type", b"application/cloudevents+json")], [("ce_type", b"x")], [("content-type", b"\xff")]]
)
every_rules = st.sampled_from(
    [
        OPTIONS,
        ARCHIVED,
        decode.Options(by_position=True),
        decode.Options(record_bytes_max=200),
        decode.Options(policy=Policy((Rule(("status",), Strategy.EXTERNAL, sources=("//erp/*",)),))),
    ]
)


@st.composite
def records(draw: st.DrawFn) -> PlainRecord:
    """Mostly usual records, changed at a place or two."""
    event = {**draw(strategies.envelopes), **dict(draw(st.lists(attributes, max_size=2)))}
    place = {"offset": draw(st.integers(0, 99)), "timestamp": draw(st.sampled_from([0, strategies.RECORDED_MS, 2**60]))}
    if draw(st.booleans()):
        return structured(event, headers=draw(headers), **place)
    text = json.dumps(event, ensure_ascii=False).encode(errors="replace")
    cut = draw(st.integers(0, len(text)))
    return structured(text[:cut] + draw(st.binary(max_size=2)) + text[cut:], **place)


@given(st.lists(records(), max_size=6), every_rules)
def test_it_gives_the_same_events_as_the_long_way_and_loses_nothing(given_records, options):
    events, left = decode_fast.events(given_records, options)
    rest = list(left)
    taken = [record for record in given_records if not _drop(rest, record)]
    assert not rest
    expected = [decode.record(record, options) for record in taken]
    assert events == expected
    assert codec.encode(events) == codec.encode(expected)  # 1 is not true, and 1.0 is not 1
    assert all(type(event) is Event for event in events)


def _drop(records: list[PlainRecord], record: PlainRecord) -> bool:
    """Take the very record out of a list; whether it was there."""
    for index, other in enumerate(records):
        if other is record:
            del records[index]
            return True
    return False


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data": {"set": {"a": None, "b": 1, "c": 1.5, "d": True, "attributes.E": "x"}, "reason": "ECN-1"}},
        {"sequence": "17", "actor": "jdoe", "traceparent": "00-0-0-01", "datacontenttype": "application/json"},
        {"time": "2026-11-22T10:00:00Z"},
        {"kafkatopic": "t", "kafkapartition": 1, "kafkaoffset": 2, "recordedtime": "2026-11-22T10:00:00Z"},
    ],
)
def test_what_producers_usually_send_goes_the_quick_way(changes: dict[str, Any]):
    declared = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
    for options in (OPTIONS, ARCHIVED):
        events, left = decode_fast.events([structured(envelope(**changes), headers=declared)], options)
        assert len(events) == 1
        assert not left


def test_one_odd_record_does_not_keep_its_neighbours_from_being_decoded():
    whole = [structured(envelope(id=str(number))) for number in range(3)]
    odd = [structured(b"{"), structured(None), binary(envelope()), structured(envelope(data={"release": ["a"]}))]
    events, left = decode_fast.events([whole[0], *odd, *whole[1:]], OPTIONS)
    assert [event.stamp.id for event in events] == ["0", "1", "2"]
    assert left == odd
