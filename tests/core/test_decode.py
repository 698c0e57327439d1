"""Decode: every record gives exactly one value, and a refusal tells its producer what to change."""

import itertools
import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.events import decode
from reconciler.core.folding import fold
from reconciler.model import codec, instant
from reconciler.model.desired import NOTHING_DESIRED
from reconciler.model.event import NO_MORE, Event, Foreign, More, PlainRecord, Refusal, Topics
from reconciler.model.policy import OPERATORS, Policy, Rule, Strategy
from reconciler.model.value import canonical
from tests.core import strategies
from tests.core.strategies import KEY, RECORDED_MS, binary, envelope, structured

OPTIONS = decode.Options()
ARCHIVED = decode.Options(archived=True)
BY_POSITION = decode.Options(by_position=True)
BIG = 2**63 - 1


def more_of(event: Event) -> More:
    return event.more or NO_MORE


def refused(record: PlainRecord, options: decode.Options = OPTIONS) -> str:
    """The reason of a record that must be refused, at its own place."""
    outcome = decode.record(record, options)
    assert isinstance(outcome, Refusal), outcome
    assert outcome.place == (record.topic, record.partition, record.offset)
    return outcome.reason


def accepted(record: PlainRecord, options: decode.Options = OPTIONS) -> Event:
    outcome = decode.record(record, options)
    assert isinstance(outcome, Event), outcome
    return outcome


def data(**members) -> PlainRecord:
    return structured(envelope(data=members))


# ---------------------------------------------------------------------------------------------------------- properties

# Headers as they come from a wire: any names, any bytes, and the null that Kafka allows for a header's value.
header_names = st.sampled_from(
    [
        "content-type",
        "Content-Type",
        "ce_type",
        "ce_specversion",
        "ce_id",
        "ce_subject",
        "ce_data",
        "ce_",
        "x",
        "ce_time",
    ]
) | st.text(max_size=6)
header_values = (
    st.none()
    | st.binary(max_size=8)
    | st.sampled_from(
        [
            b"1.0",
            b"application/json",
            b"application/cloudevents+json",
            b"application/cloudevents",
            b"com.other",
            decode.CHANGED.encode(),
            decode.RELEASED.encode(),
            b"2026-11-22T10:00:00Z",
            b"D",
        ]
    )
)
any_values = st.none() | st.binary(max_size=64) | st.text(max_size=64).map(str.encode)
any_options = st.sampled_from([OPTIONS, ARCHIVED, BY_POSITION, decode.Options(record_bytes_max=40)])


def is_decoded(outcome: object) -> bool:
    """Whether this is one of the three, and an event that can be folded, stored and read again."""
    if not isinstance(outcome, Event):
        return isinstance(outcome, Refusal | Foreign)
    row = fold.step(NOTHING_DESIRED, outcome)
    return codec.encode(codec.decode_desired(codec.encode_desired(row))) == codec.encode(row)


@given(
    value=any_values,
    key=any_values,
    headers=st.lists(st.tuples(header_names, header_values), max_size=5),
    timestamp=st.integers(-(2**63), 2**63 - 1),
    options=any_options,
)
def test_nothing_that_a_broker_can_hand_out_raises(value, key, headers, timestamp, options):
    record = PlainRecord("changes", 0, 7, timestamp, key, value, headers)
    assert is_decoded(decode.record(record, options))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
attributes = st.sampled_from([*envelope(), "sequence", "actor", "datacontenttype", "traceparent", "recordedtime"]) | (
    st.sampled_from(["kafkatopic", "kafkapartition", "kafkaoffset"])
)
members = st.sampled_from(["set", "add", "remove", "release", "expect", "reason", "sett"])


@given(strategies.envelopes, st.dictionaries(attributes, json_values | st.just(...), max_size=3), any_options)
def test_no_change_of_a_valid_event_raises(event, changes, options):
    changed = {name: value for name, value in {**event, **changes}.items() if value is not ...}
    assert is_decoded(decode.record(structured(changed), options))
    assert is_decoded(decode.record(binary(changed), options))


@given(strategies.envelopes, st.dictionaries(members, json_values, min_size=1, max_size=3), any_options)
def test_no_change_of_valid_data_raises(event, changes, options):
    assert is_decoded(decode.record(structured({**event, "data": {**event["data"], **changes}}), options))


@given(strategies.envelopes, st.data(), any_options)
def test_no_damage_to_the_bytes_of_a_valid_event_raises(event, data, options):
    text = json.dumps(event, ensure_ascii=False).encode(errors="replace")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 8)))
    damaged = text[:start] + data.draw(st.binary(max_size=4)) + text[end:]
    assert is_decoded(decode.record(structured(damaged), options))


@given(strategies.envelopes)
def test_both_content_modes_give_the_same_event(event):
    assert decode.record(binary(event), OPTIONS) == decode.record(structured(event), OPTIONS)
    declared = structured(event, headers=[("content-type", b"application/cloudevents+json; charset=UTF-8")])
    assert decode.record(declared, OPTIONS) == decode.record(structured(event), OPTIONS)


def leaves(said: dict) -> list[tuple[str, object]]:
    """Values with the dotted names of their leaves; an empty object stays one."""
    found: list[tuple[str, object]] = []
    for name, value in said.items():
        inner = leaves({f"{name}.{key}": deep for key, deep in value.items()}) if isinstance(value, dict) else []
        found += inner or [(name, value)]
    return found


def is_said_twice(names: list[str]) -> bool:
    """Whether a name comes twice, or together with its group."""
    return any(one == other or one.startswith(f"{other}.") for one, other in itertools.permutations(names, 2))


@given(strategies.envelopes)
def test_an_event_says_what_its_producer_wrote(event):
    outcome = decode.record(structured(event), OPTIONS)
    said = [leaves(event["data"].get(part, {})) for part in ("set", "expect")]
    wanted, expected = map(dict, said)
    # The pools hold events that say nothing: `remove` of no element, an empty object; an `expect` of other leaves; and
    # a group beside its fields.
    if isinstance(outcome, Refusal):
        said_nothing = "add" in event["data"] or "remove" in event["data"]
        twice = any(is_said_twice([name for name, _ in one]) for one in said)
        empty = {} in (*wanted.values(), *expected.values())
        assert said_nothing or twice or empty or not expected.keys() <= wanted.keys()
        return
    assert isinstance(outcome, Event)
    assert (outcome.key, outcome.stamp.id, outcome.stamp.source) == (event["subject"], event["id"], event["source"])
    more = more_of(outcome)
    assert canonical(outcome.set) == canonical(wanted)
    assert canonical(more.expect) == canonical(expected)
    assert list(more.release) == event["data"].get("release", [])
    assert outcome.stamp.place == ("changes", 0, 7)


# -------------------------------------------------------------------------------------------------------------- leaves


def test_an_object_is_another_way_to_write_the_dotted_names_of_its_leaves():
    nested = {"attributes": {"CostCenter": "5", "Size": {"Width": 3, "Tags": ["a", {"b": {}}]}}, "status": None}
    event = accepted(structured(envelope(data={"set": nested, "expect": {"attributes": {"CostCenter": None}}})))
    assert event.set == {
        "attributes.CostCenter": "5",
        "attributes.Size.Width": 3,
        "attributes.Size.Tags": ["a", {"b": {}}],
        "status": None,
    }
    assert more_of(event).expect == {"attributes.CostCenter": None}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"set": {"attributes": {}}}, "`attributes` is an empty object"),
        ({"set": {"attributes": {"Size": {}}}}, "`attributes.Size` is an empty object"),
        ({"set": {"attributes": {"a.b": 1}}}, "'a.b' within `attributes` has a dot"),
        ({"set": {"attributes": {"": 1}}}, "'attributes.' is not a dotted path"),
        ({"set": {"attributes": {"Note": 1}, "attributes.Note": 2}}, "one event sets `attributes.Note` twice"),
        ({"set": {"attributes": None, "attributes.Note": 2}}, "both `attributes.Note` and its group `attributes`"),
        ({"set": {"a.b.c": 1}, "release": ["a"]}, "both `a.b.c` and its group `a`"),
        ({"set": {"a": {"b": 1}}, "add": {"a": ["x"]}}, "both `a.b` and its group `a`"),
        ({"set": {"a": 1}, "expect": {"a": {"b": 1}}}, "`expect` names `a.b`, which `set` does not"),
    ],
)
def test_an_event_that_says_two_things_of_one_leaf_or_nothing_is_refused(data, reason):
    assert reason in refused(structured(envelope(data=data)))


def test_a_rule_for_sources_is_asked_about_the_leaves_of_an_object():
    policy = Policy((Rule(("attributes.Secret",), Strategy.MERGE, sources=("//mes",), name="policy[1]"),))
    nested = structured(envelope(data={"set": {"attributes": {"Secret": 1}}}))
    assert "may not set `attributes.Secret`" in refused(nested, attrs.evolve(OPTIONS, policy=policy))


# --------------------------------------------------------------------------------------------------------- whose event


def test_the_example_of_the_contract_is_an_event():
    event = accepted(
        structured(
            envelope(
                time="2026-11-22T10:00:00.000001Z",
                datacontenttype="application/json",
                data={
                    "set": {"status": "RELEASED", "attributes.CostCenter": "4711", "attributes.Note": None},
                    "add": {"attributes.Keywords": ["bracket"]},
                    "remove": {"attributes.Keywords": ["draft"]},
                    "release": ["attributes.Legacy"],
                    "expect": {"status": "INREVIEW"},
                    "reason": "ECN-2231 approved",
                },
            )
        )
    )
    assert event.set == {"status": "RELEASED", "attributes.CostCenter": "4711", "attributes.Note": None}
    assert more_of(event).elements == {"attributes.Keywords": {'"bracket"': True, '"draft"': False}}
    assert more_of(event).release == ("attributes.Legacy",)
    assert more_of(event).expect == {"status": "INREVIEW"}
    assert event.reason == "ECN-2231 approved"
    assert event.stamp.time == "2026-11-22T10:00:00.000001Z"


@pytest.mark.parametrize("make", [structured, binary])
def test_foreign_types_are_skipped_and_named(make):
    outcome = decode.record(make(envelope(type="com.example.other", data={"anything": 1})), OPTIONS)
    assert outcome == Foreign(("changes", 0, 7), "com.example.other")


@pytest.mark.parametrize("value", [None, b"", b"\x00avro", b"x" * 2_000_000])
def test_a_foreign_event_in_binary_mode_is_skipped_in_any_format_and_of_any_size(value):
    headers = [("ce_specversion", b"1.0"), ("ce_type", b"com.other"), ("content-type", b"application/avro")]
    assert isinstance(decode.record(structured(value, headers=headers), OPTIONS), Foreign)


def test_unknown_extension_attributes_are_ignored():
    assert accepted(structured(envelope(traceparent="00-1", partitionkey=KEY, colour={"a": 1}))).key == KEY


def test_an_unknown_type_of_our_namespace_is_refused_by_its_name():
    reason = refused(structured(envelope(type="windchill.document.chnaged.v1")))
    assert "windchill.document.chnaged.v1" in reason
    assert decode.CHANGED in reason


@pytest.mark.parametrize("member", ["sett", "Set", "values"])
def test_an_unknown_member_of_data_is_refused_by_its_name(member):
    assert f"`{member}`" in refused(data(**{"set": {"status": "A"}, member: {"owner": "b"}}))


@pytest.mark.parametrize("attribute", ["specversion", "id", "source", "type", "subject", "time"])
@pytest.mark.parametrize("make", [structured, binary])
def test_a_required_attribute_that_is_missing_is_named(attribute, make):
    reason = refused(make(envelope(**{attribute: ...})))
    assert f"`{attribute}`" in reason or (make is binary and attribute in {"type", "specversion"})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": ""}, "id"),
        ({"source": ""}, "source"),
        ({"subject": ""}, "subject"),
        ({"subject": "x" * 513}, "512"),
        ({"subject": 12345}, "subject"),
        ({"id": "x" * 1025}, "1024"),
        ({"actor": "x" * 1025}, "1024"),
        ({"sequence": "x" * 1025}, "1024"),
        ({"sequence": 5}, "sequence"),
        ({"datacontenttype": "application/xml"}, "application/xml"),
        ({"data": ...}, "data"),
        ({"data": {}}, "set, add, remove, release"),
        ({"data": []}, "data"),
        ({"data": "text"}, "data"),
        ({"time": "yesterday"}, "yesterday"),
        ({"time": "2026-11-22T10:00:00"}, "offset"),
        ({"time": "2026-11-22"}, "2026-11-22"),
        ({"time": "0001-01-01T00:00:00+01:00"}, "out of range"),
        ({"time": 5}, "time"),
    ],
)
def test_what_breaks_the_profile_is_refused_with_a_reason_that_names_it(changes, named):
    assert named in refused(structured(envelope(**changes)))


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"set": {}}, "is empty"),
        ({"add": {"attributes.Keywords": []}}, "is empty"),
        ({"reason": "because"}, "is empty"),
        ({"set": {"status": "A"}, "reason": "x" * 1025}, "reason"),
        ({"set": {"status": "A"}, "release": ["status"]}, "only one of"),
        ({"set": {"k": ["a"]}, "add": {"k": ["b"]}}, "only one of"),
        ({"add": {"k": ["a"]}, "release": ["k"]}, "only one of"),
        ({"release": ["k", "k"]}, "only one of"),
        ({"add": {"k": ["a"]}, "remove": {"k": ["a"]}}, "both added to and removed from `k`"),
        ({"add": {"k": "a"}}, "$.data.add"),
        ({"add": {"k": [{"x": 1}]}}, "$.data.add"),
        ({"add": {"k": [None]}}, "$.data.add"),
        ({"add": {"k": [2**63]}}, "64 bits"),
        ({"set": {"": 1}}, "1 to 256"),
        ({"set": {"x" * 257: 1}}, "1 to 256"),
        ({"set": {"a..b": 1}}, "a..b"),
        ({"set": {".a": 1}}, "dotted path"),
        ({"set": {"a\u0000b": 1}}, "printable"),
        ({"set": {".".join("a" * 17): 1}}, "16"),
        ({"release": ["a..b"]}, "a..b"),
        ({"remove": {"a..b": ["x"]}}, "a..b"),
        ({"set": {"status": "A"}, "expect": {"owner": "b"}}, "`owner`"),
        ({"set": {"status": 2**63}}, "64 bits"),
        ({"set": {"status": -(2**63)}}, "64 bits"),
        ({"set": {"status": {"deep": [2**64]}}}, "64 bits"),
        ({"set": {"status": "A"}, "expect": {"status": 2**80}}, "64 bits"),
    ],
)
def test_data_that_cant_be_meant_is_refused_with_a_reason_that_names_it(members, named):
    assert named in refused(data(**members))


def test_an_empty_list_beside_elements_says_nothing_and_harms_nothing():
    assert accepted(data(add={"k": ["a"], "m": []}, remove={"k": []})).more == More({"k": {'"a"': True}})


def nested(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


def test_values_are_nested_as_deep_as_the_rules_allow_and_no_deeper():
    assert accepted(data(set={"status": nested(32)})).set == {"status": nested(32)}
    assert "too deeply" in refused(data(set={"status": nested(33)}))
    assert "too deeply" in refused(data(set={"status": "A"}, expect={"status": nested(33)}))


@pytest.mark.parametrize("make", [structured, lambda event: structured(event, headers=[("ce_type", b"x")])])
@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000, b'{"data":{"set":{"a":' + b"[" * 100_000])
def test_bottomless_nesting_is_refused(make, text):
    assert "too deeply" in refused(make(text)) or text.startswith(b"[")


def test_a_record_is_as_large_as_the_rules_allow_and_no_larger():
    text = json.dumps(envelope()).encode()
    options = decode.Options(record_bytes_max=len(text))
    assert accepted(structured(text), options)
    assert str(len(text) + 1) in refused(structured(text + b" "), options)


def test_the_largest_numbers_are_kept_exactly():
    given_values = [BIG, -BIG, 0.1, 1e300, 1.0]
    event = accepted(data(set={"status": given_values}))
    assert canonical(event.set["status"]) == canonical(given_values)


def test_not_json_is_said_to_be_not_json():
    assert "not JSON" in refused(structured(b"{'a': 1}"))
    assert "not a CloudEvent" in refused(structured(b"[]"))
    assert "not a CloudEvent" in refused(structured(b"{}"))


# --------------------------------------------------------------------------------------------------------- binary mode


def test_content_type_is_tested_before_the_ce_headers():
    headers = [("content-type", b"application/cloudevents+json"), ("ce_type", b"com.other"), ("ce_specversion", b"1.0")]
    assert accepted(structured(envelope(), headers=headers)).key == KEY


@pytest.mark.parametrize("content_type", [b"application/cloudevents-batch+json", b"application/cloudevents+avro"])
def test_other_forms_of_cloudevents_are_refused_by_name(content_type):
    assert content_type.decode() in refused(structured(envelope(), headers=[("content-type", content_type)]))


def test_a_binary_event_whose_data_is_not_json_is_refused():
    headers = [("ce_type", decode.CHANGED.encode()), ("ce_specversion", b"1.0"), ("content-type", b"text/plain")]
    assert "text/plain" in refused(structured(b"x", headers=headers))
    assert "not JSON" in refused(structured(b"x", headers=headers[:2]))


def test_headers_that_are_not_text_are_refused_by_name():
    assert "ce_id" in refused(structured(b"{}", headers=[("ce_type", decode.CHANGED.encode()), ("ce_id", b"\xff")]))


def test_data_as_a_header_is_refused():
    event = binary(envelope())
    assert "ce_data" in refused(event._replace(headers=[*event.headers, ("ce_data", b"{}")]))


def test_unrelated_headers_leave_a_structured_event_what_it_is():
    assert accepted(structured(envelope(), headers=[("traceparent", b"00-1")])) == accepted(structured(envelope()))


# ---------------------------------------------------------------------------------------------------------- tombstones


def test_a_tombstone_releases_the_document_at_its_records_time():
    event = accepted(structured(None, timestamp=1_795_341_600_123))
    assert event.more == More(released=True)
    assert event.key == KEY
    assert event.stamp.time == instant.from_us(1_795_341_600_123_000)
    assert event.stamp.place == ("changes", 0, 7)


def test_a_tombstone_ranks_by_position_where_the_log_says_so():
    tombstone, event = accepted(structured(None), BY_POSITION), accepted(structured(envelope()), BY_POSITION)
    assert tombstone.stamp.lead == event.stamp.lead != ""


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"x" * 513])
def test_a_tombstone_that_names_no_document_is_refused(key):
    assert "key" in refused(structured(None, key=key))


def test_a_null_value_under_ce_headers_is_the_event_that_the_headers_name_and_no_tombstone():
    released = accepted(binary(envelope(type=decode.RELEASED, data=...)))
    assert released.stamp.source == "//erp/prod"
    assert isinstance(decode.record(binary(envelope(type="com.other", data=...)), OPTIONS), Foreign)
    assert "data" in refused(binary(envelope(data=...)))


@pytest.mark.parametrize("content", [{"data": ...}, {"data": None}, {"data": {"reason": "obsolete"}}, {"data": {}}])
def test_a_released_event_takes_no_more_than_a_reason(content):
    event = accepted(structured(envelope(type=decode.RELEASED, **content)))
    assert event.more == More(released=True)
    assert event.reason in {"", "obsolete"}
    assert accepted(binary(envelope(type=decode.RELEASED, **content))) == event


@pytest.mark.parametrize("member", ["set", "add", "remove", "release", "expect", "reasn"])
def test_a_released_event_that_says_more_is_refused_by_what_it_says(member):
    content = {member: ["a"] if member == "release" else {"a": ["b"]}}
    assert f"`{member}`" in refused(structured(envelope(type=decode.RELEASED, data=content)))


# ---------------------------------------------------------------------------------------------------- time and position


def test_a_time_too_far_ahead_of_its_record_is_refused():
    record = structured(envelope(time="2026-11-22T10:05:00Z"), timestamp=1_795_341_600_000)
    assert accepted(record)
    late = structured(envelope(time="2026-11-22T10:05:00.000001Z"), timestamp=1_795_341_600_000)
    assert "300 s" in refused(late)
    assert accepted(late, decode.Options(clock_skew_us_max=301_000_000))


@pytest.mark.parametrize("timestamp", [0, -1])
def test_without_a_records_time_no_skew_is_known(timestamp):
    assert accepted(structured(envelope(), timestamp=timestamp))


@pytest.mark.parametrize("value", [None, envelope()])
def test_a_record_from_beyond_the_calendar_is_refused(value):
    assert "9999" in refused(structured(value, timestamp=2**63 - 1))


@pytest.mark.parametrize(
    "text", ["2026-11-22T10:00:00.000001Z", "2026-11-22T11:00:00.000001+01:00", "2026-11-22T10:00:00.0000019Z"]
)
def test_every_way_of_writing_a_time_gives_one_stamp(text):
    assert accepted(structured(envelope(time=text))).stamp.time == "2026-11-22T10:00:00.000001Z"


def test_an_archived_line_keeps_the_place_and_time_of_its_record():
    line = envelope(
        kafkatopic="changes",
        kafkapartition=3,
        kafkaoffset=99,
        recordedtime="2026-11-22T10:00:00Z",
        time="2026-11-22T10:00:01Z",
    )
    event = accepted(structured(line, topic="old.jsonl", timestamp=0), ARCHIVED)
    assert event.stamp.place == ("changes", 3, 99)
    late = {**line, "time": "2026-11-22T10:05:01Z"}
    assert "correct the producer's clock" in refused(structured(late, topic="old.jsonl", timestamp=0), ARCHIVED)


def test_a_live_record_can_t_claim_another_place():
    line = envelope(kafkatopic="other", kafkapartition=3, kafkaoffset=99, recordedtime="2030-01-01T00:00:00Z")
    assert accepted(structured(line)).stamp.place == ("changes", 0, 7)


def test_an_archived_line_without_its_whole_place_stands_where_it_stands():
    assert accepted(structured(envelope(kafkatopic="changes", kafkaoffset=1)), ARCHIVED).stamp.place.offset == 7


@pytest.mark.parametrize("place", [("t", -1, 0), ("t", 0, -1), ("t", 0, 2**63), ("t", 2**70, 0), ("t" * 1025, 0, 0)])
def test_an_impossible_archived_place_is_refused(place):
    topic, partition, offset = place
    line = envelope(kafkatopic=topic, kafkapartition=partition, kafkaoffset=offset)
    assert "kafkaoffset" in refused(structured(line), ARCHIVED)


def test_exporting_and_reading_again_gives_the_same_event():
    line = envelope(kafkatopic="changes", kafkapartition=0, kafkaoffset=7)
    assert accepted(structured(line, topic="f", offset=0), ARCHIVED) == accepted(structured(envelope()))


def test_by_position_a_later_record_outranks_a_later_time():
    first = accepted(structured(envelope(time="2026-11-22T10:00:03Z"), offset=9), BY_POSITION)
    second = accepted(structured(envelope(time="2026-11-22T10:00:01Z"), offset=10), BY_POSITION)
    assert second.stamp > first.stamp
    assert accepted(structured(envelope())).stamp.lead == ""


def test_by_position_the_record_that_was_written_later_wins_whatever_its_topic_and_partition_are_called():
    first = accepted(structured(envelope(), topic="z", partition=7, offset=90), BY_POSITION)
    later = structured(envelope(), topic="a", partition=0, offset=0, timestamp=RECORDED_MS + 1)
    assert accepted(later, BY_POSITION).stamp > first.stamp


def test_by_position_records_of_one_millisecond_rank_by_partition_and_offset():
    stamps = [
        accepted(structured(envelope(), partition=partition, offset=offset), BY_POSITION).stamp
        for partition, offset in ((0, 9), (0, 10), (1, 0))
    ]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("timestamp", [0, -1])
def test_by_position_a_record_without_a_timestamp_is_refused(timestamp):
    assert "timestamp" in refused(structured(envelope(), timestamp=timestamp), BY_POSITION)
    assert "timestamp" in refused(structured(None, timestamp=timestamp), BY_POSITION)
    options = decode.Options(by_position=True, archived=True)
    assert "`recordedtime` is missing" in refused(structured(envelope(), timestamp=timestamp), options)
    assert accepted(structured(envelope(recordedtime="2026-11-22T10:00:00Z"), timestamp=timestamp), options)


# ------------------------------------------------------------------------------------------------------------- sources

ONLY_ERP = Rule(("status",), Strategy.EXTERNAL, sources=("//erp/*",), name="policy[1]")


def under(*rules: Rule) -> decode.Options:
    return decode.Options(policy=Policy(rules))


@pytest.mark.parametrize("members", [{"set": {"status": "A"}}, {"add": {"status": ["A"]}}, {"release": ["status"]}])
def test_a_source_that_may_not_set_a_field_is_refused_with_the_rule_and_who_may(members):
    outcome = decode.record(structured(envelope(source="//mes", data=members)), under(ONLY_ERP))
    assert isinstance(outcome, Refusal)
    assert outcome.stage == "policy"
    for word in ("//mes", "status", "policy[1]", "//erp/*"):
        assert word in outcome.reason


def test_sources_that_may_and_fields_without_limits_pass():
    options = under(ONLY_ERP)
    assert accepted(structured(envelope(source="//erp/prod")), options)
    assert accepted(structured(envelope(source="//mes", data={"set": {"owner": "b"}})), options)
    decision = structured(envelope(source=OPERATORS), topic=Topics().decisions)
    assert accepted(decision, options), "operators resolve conflicts on any field"


def test_a_limit_that_may_not_apply_to_the_document_refuses_nothing_yet():
    """The log does not tell the document's type: a rule that may not be the deciding one can't forbid."""
    drawings = Rule(("status",), Strategy.EXTERNAL, sources=("//erp/*",), types=("Drawing",), name="policy[1]")
    assert accepted(structured(envelope(source="//mes")), under(drawings))
    assert "policy[1]" in refused(structured(envelope(source="//mes")), under(drawings, ONLY_ERP))


def test_records_of_the_pools_are_not_ahead_of_their_time():
    assert instant.from_us(RECORDED_MS * 1000) > max(strategies.TIMES)
