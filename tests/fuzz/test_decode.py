"""Decoding under fire: whatever a record holds, one value comes back, soon, and it can be kept, shown and published."""

import json
import random
from collections.abc import Sequence

import attrs
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.cli import archive_lines, output
from reconciler.core.events import decode, decode_fast, outcomes
from reconciler.core.events.outcomes import OutcomeType
from reconciler.core.folding import fold
from reconciler.model import codec, instant
from reconciler.model.desired import NOTHING_DESIRED
from reconciler.model.event import DeadLetter, Event, Foreign, Header, PlainRecord, Refusal
from reconciler.model.policy import Policy, Rule, Strategy
from tests.core.strategies import KEY, RECORDED_MS, envelope, structured
from tests.fuzz import mutating

OPTIONS = [
    decode.Options(),
    decode.Options(archived=True),
    decode.Options(by_position=True),
    decode.Options(record_bytes_max=2000),
    decode.Options(policy=Policy((Rule(("status", "attributes.*"), Strategy.EXTERNAL, sources=("//erp/*",)),))),
]
EVENTS = mutating.seeds("event/*/*.json", "events/*")
MEMBERS = [*envelope(), "sequence", "actor", "datacontenttype", "kafkatopic", "kafkapartition", "kafkaoffset", "x"]
MEMBERS += ["recordedtime", "data", "data", "data", "data_base64", "traceparent"]
DATA = ["set", "set", "add", "remove", "release", "expect", "reason", "x"]
ADDED_BYTES_MAX = 8192  # what a dead letter may weigh more than its record


def check(record: PlainRecord, options: decode.Options) -> None:
    """Everything that holds for every record."""
    with mutating.bounded():
        found = decode.record(record, options)
        events, left = decode_fast.events([record], options)
        line = archive_lines.of(record, options)
    assert (events, left) in (([found], []), ([], [record]))
    match found:
        case Event():
            check_event(found)
        case Refusal():
            check_refusal(found, record)
        case Foreign():
            assert not found.type.startswith(decode.NAMESPACE) or found.type in set(OutcomeType)
    if line is not None:
        assert line.text.endswith(b"\n")
        assert line.text.count(b"\n") == 1
    if isinstance(found, Event):
        assert line is not None
    if line is not None and line.usable and isinstance(found, Event):
        bare = PlainRecord(record.topic, record.partition, record.offset, 0, None, line.text.rstrip())
        assert decode.record(bare, attrs.evolve(options, archived=True)) == found


def check_event(event: Event) -> None:
    """It can be stored, and what is stored is what was decoded."""
    assert 0 < len(event.key.encode()) <= 4 * decode.KEY_LENGTH_MAX
    assert instant.from_us(instant.to_us(event.stamp.time)) == event.stamp.time
    stored = codec.encode(event)
    again = msgspec.json.decode(stored, type=Event)
    assert again == event
    assert codec.encode(again) == stored
    row = fold.steps(NOTHING_DESIRED, [event])
    assert fold.steps(row, [event]) == row
    assert codec.encode(codec.decode_desired(codec.encode_desired(row))) == codec.encode(row)


def check_refusal(refusal: Refusal, record: PlainRecord) -> None:
    """It says what to change, and can be published and listed."""
    assert refusal.place == (record.topic, record.partition, record.offset)
    assert refusal.stage in {"decode", "policy"}
    assert len(refusal.reason) > len("not JSON")
    headers = tuple(record.headers)
    letter = DeadLetter(
        refusal.place, record.timestamp, record.key, record.value, headers, refusal.stage, refusal.reason, 0
    )
    published = outcomes.dead_letter(letter, "dead-letters")
    assert (published.key, published.value) == (record.key, record.value)
    for name, value in published.headers:
        assert isinstance(name.encode(), bytes)
        assert isinstance(value, bytes | None)
    assert weight(published.headers) - weight(headers) <= ADDED_BYTES_MAX
    assert output.words(refusal.reason).isprintable()


def weight(headers: Sequence[Header]) -> int:
    return sum(len(name.encode()) + len(value or b"") for name, value in headers)


# ------------------------------------------------------------------------------------------------------------- records


def hostile_event(number: int) -> PlainRecord:
    """A structured event whose members may be anything."""
    chance = random.Random(number)
    event = mutating.changed(chance, envelope(), MEMBERS)
    if chance.random() < 0.6:
        event["data"] = mutating.changed(chance, {"set": {"status": "RELEASED"}}, DATA)
    if chance.random() < 0.3:
        field = str(mutating.values(chance, 0))
        event["data"] = {"set": {field: mutating.values(chance)}, "expect": {field: mutating.values(chance)}}
    return structured(mutating.as_json(event, chance), timestamp=chance.choice([0, -1, RECORDED_MS, 2**62, -(2**62)]))


HEADER_NAMES = [
    *(f"ce_{name}" for name in MEMBERS),
    "content-type",
    "Content-Type",
    "CE_ID",
    "ce_",
    "ce_dataschema",
    "",
]
HEADER_VALUES = [None, b"", b"1.0", b"\xff\xfe1\x00", "1.0".encode("utf-16"), KEY.encode(), decode.CHANGED.encode()]
HEADER_VALUES += [decode.RELEASED.encode(), b"com.other", b"application/json", b"application/json;charset=utf-16"]
HEADER_VALUES += [
    b"application/cloudevents+json",
    b"application/cloudevents-batch+json",
    b"text/plain",
    b"APPLICATION/JSON",
]
HEADER_VALUES += [b"2026-11-22T10:00:00.000001Z", b"windchill.document.changed.v2", b"x" * 100_000, *mutating.TOKENS]


def hostile_headers(number: int) -> PlainRecord:
    """A record in binary mode whose headers are repeated, missing, or in any encoding."""
    chance = random.Random(number)
    headers = [(f"ce_{name}", str(value).encode()) for name, value in envelope(data=...).items()]
    headers.append(("content-type", b"application/json"))
    for _ in range(chance.choice((0, 1, 2, 5))):
        headers.insert(chance.randrange(len(headers) + 1), (chance.choice(HEADER_NAMES), chance.choice(HEADER_VALUES)))
        if chance.random() < 0.3:
            headers.pop(chance.randrange(len(headers)))
    data = mutating.changed(chance, {"set": {"status": "RELEASED"}}, DATA)
    value = chance.choice([None, b"", b"\xff", mutating.as_json(data, chance), mutating.as_json(data, chance)])
    return structured(value, headers=headers, key=chance.choice([None, b"", b"\xff", b"k" * 600, KEY.encode()]))


numbers = st.integers(0, 2**64 - 1)
options_ = st.integers(0, len(OPTIONS) - 1)  # their numbers, and not themselves: a find is then a line, not a page


@given(mutating.mutated(EVENTS), options_)
def test_no_damage_to_the_bytes_of_an_event_gets_past(value, options):
    check(structured(value), OPTIONS[options])


@given(numbers, options_)
def test_no_event_made_of_hostile_values_gets_past(number, options):
    check(hostile_event(number), OPTIONS[options])


@given(numbers, options_)
def test_no_headers_in_any_encoding_get_past(number, options):
    check(hostile_headers(number), OPTIONS[options])


@given(st.binary(max_size=200), options_)
@example(b"", 0)
def test_no_bytes_get_past(value, options):
    check(structured(value), OPTIONS[options])


@given(st.lists(numbers, min_size=2, max_size=8), options_)
def test_a_hostile_record_spoils_no_other_of_its_slice(given_numbers, options):
    records = [hostile_event(number) for number in given_numbers]
    events, left = decode_fast.events(records, OPTIONS[options])
    alone = [decode.record(record, OPTIONS[options]) for record in records if record not in left]
    assert events == alone


# --------------------------------------------------------------------------------------------------------------- finds


@pytest.mark.parametrize("member", ["type", "datacontenttype", "time", "specversion"])
def test_a_reason_does_not_repeat_half_a_megabyte(member):
    said = {member: ("windchill." if member == "type" else "") + "\u200b" * 170_000}
    record = structured(json.dumps(envelope(**said), ensure_ascii=False).encode())
    refusal = decode.record(record, OPTIONS[0])
    assert isinstance(refusal, Refusal)
    assert len(refusal.reason) <= decode.REASON_LENGTH_MAX
    check_refusal(refusal, record)


def test_a_record_from_beyond_the_calendar_is_refused_whatever_stands_beside_it():
    records = [structured(json.dumps(envelope()).encode(), timestamp=stamp) for stamp in (RECORDED_MS, 2**62)]
    events, left = decode_fast.events(records, OPTIONS[0])
    assert (events, left) == ([], records)
    assert isinstance(decode.record(records[1], OPTIONS[0]), Refusal)


def test_a_line_with_an_impossible_timestamp_is_no_line():
    assert archive_lines.of(structured(b"{}", timestamp=2**62), OPTIONS[1]) is None


@pytest.mark.parametrize("member", [b'"a\xff":1', b'"x":"\xff"'])
def test_bytes_that_are_no_text_are_refused_also_in_members_that_are_not_read(member):
    record = structured(json.dumps(envelope()).encode()[:-1] + b"," + member + b"}")
    assert decode_fast.events([record], OPTIONS[0]) == ([], [record])
    refusal = decode.record(record, OPTIONS[0])
    assert isinstance(refusal, Refusal)  # an export of the log would find no event in it
    assert "utf-8" in refusal.reason
