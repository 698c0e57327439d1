"""Exported lines fold to what their records fold to: any mode, any record."""

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli import archive_lines
from reconciler.core.events import decode
from reconciler.model.event import Event, PlainRecord

OPTIONS = decode.Options()
NOW_MS = 1_796_000_000_000
EVENT = {
    "specversion": "1.0",
    "id": "e1",
    "source": "//erp/prod",
    "type": decode.CHANGED,
    "subject": "0000012345",
    "time": "2026-11-22T10:00:00.000001Z",
    "sequence": "7",
    "data": {"set": {"status": "RELEASED", "weight": 1.0}, "expect": {"weight": 1}, "reason": "because"},
}
STRUCTURED = (("content-type", b"application/cloudevents+json"),)
BINARY = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"e2"),
    ("ce_source", b"//mes"),
    ("ce_type", decode.CHANGED.encode()),
    ("ce_subject", b"0000012345"),
    ("ce_time", b"2026-11-22T10:00:00Z"),
    ("ce_kafkaoffset", b"999"),
    ("content-type", b"application/json"),
)


def _record(
    value: bytes | None, headers=(), *, key: bytes | None = b"0000012345", timestamp: int = NOW_MS
) -> PlainRecord:
    return PlainRecord("changes", 3, 41, timestamp, key, value, headers)


def _again(line: archive_lines.Line, **options) -> object:
    """What a replay makes of a line: another file, another place in it."""
    assert line.text.count(b"\n") == 1
    read = PlainRecord("archive.jsonl", 0, 0, 0, None, line.text.rstrip(b"\n"), ())
    return decode.record(read, attrs.evolve(OPTIONS, archived=True, **options))


USABLE = {
    "structured": _record(json.dumps(EVENT).encode(), STRUCTURED),
    "structured without headers, over several lines": _record(json.dumps(EVENT, indent=2).encode()),
    "structured, exported before": _record(
        json.dumps(EVENT | {"kafkatopic": "old", "kafkaoffset": 1, "recordedtime": "2001-01-01T00:00:00Z"}).encode()
    ),
    "binary": _record(b'{"set": {"status": 4.50}}', BINARY),
    "binary without a value": _record(
        None, tuple((n, decode.RELEASED.encode() if n == "ce_type" else v) for n, v in BINARY)
    ),
    "tombstone": _record(None),
    "tombstone without a time": _record(None, timestamp=-1),
}


@pytest.mark.parametrize("by_position", [False, True])
@pytest.mark.parametrize("record", USABLE.values(), ids=USABLE.keys())
def test_a_line_is_decoded_to_the_very_event_of_its_record(record: PlainRecord, by_position: bool) -> None:
    options = attrs.evolve(OPTIONS, by_position=by_position)
    event = decode.record(record, options)
    if by_position and record.timestamp <= 0:
        assert not isinstance(event, Event)  # nothing says where it ranks
        return
    assert isinstance(event, Event), event
    line = archive_lines.of(record, options)
    assert line is not None
    assert line.usable
    assert _again(line, by_position=by_position) == event


def test_values_are_copied_byte_for_byte() -> None:
    text = json.dumps(EVENT).encode().replace(b"1.0}", b"1.000e0}")
    line = archive_lines.of(_record(text), OPTIONS)
    assert line is not None
    assert b"1.000e0" in line.text


UNUSABLE = {
    "not JSON": _record(b"{", STRUCTURED),
    "no object": _record(b"[1]", STRUCTURED),
    "not text": _record(b"\xff"),
    "a tombstone without a key": _record(None, key=None),
    "a clock beyond the calendar": _record(json.dumps(EVENT).encode(), timestamp=10**15),
    "a format that headers forbid": _record(
        json.dumps(EVENT).encode(), (("content-type", b"application/cloudevents+avro"),)
    ),
}


@pytest.mark.parametrize("record", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_record_that_is_no_event_has_no_line(record: PlainRecord) -> None:
    assert not isinstance(decode.record(record, OPTIONS), Event)
    assert archive_lines.of(record, OPTIONS) is None


def test_a_line_that_became_too_large_is_written_and_said_to_be_unusable() -> None:
    record = _record(json.dumps(EVENT).encode(), STRUCTURED)
    line = archive_lines.of(record, attrs.evolve(OPTIONS, record_bytes_max=len(record.value or b"")))
    assert line is not None
    assert not line.usable


def test_a_line_of_a_file_keeps_the_place_that_it_names() -> None:
    options = attrs.evolve(OPTIONS, archived=True)
    placed = EVENT | {"kafkatopic": "changes", "kafkapartition": 3, "kafkaoffset": 41}
    for event in (EVENT, placed):
        record = PlainRecord("events.jsonl", 0, 5, 0, None, json.dumps(event).encode(), ())
        line = archive_lines.of(record, options)
        assert line is not None
        assert _again(line) == decode.record(record, options)


@given(
    st.binary(max_size=60) | st.none(),
    st.lists(st.tuples(st.sampled_from([n for n, _ in BINARY]), st.binary(max_size=40))),
)
def test_whatever_a_record_holds_it_is_copied_faithfully_or_left_out(value: bytes | None, headers) -> None:
    record = _record(value, headers)
    line = archive_lines.of(record, OPTIONS)
    here = decode.record(record, OPTIONS)
    if line is None:
        assert value is None or not isinstance(here, Event)
    elif isinstance(here, Event):
        assert _again(line) == here
    else:
        assert not isinstance(_again(line), Event)
