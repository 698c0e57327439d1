"""Mapping: what records of another shape mean (docs/sources.md), and which changes of a mapping matter."""

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import config, factory
from reconciler.cli import archive_lines
from reconciler.config import sources
from reconciler.core.events import decode, mapping
from reconciler.errors import ConfigError
from reconciler.flows import reading
from reconciler.model.event import ChangeTopic, Event, Foreign, Header, PlainRecord, Refusal, Topics
from reconciler.model.stamp import Partition, Place
from reconciler.model.value import canonical
from tests.cli.program import invoked

TOPIC = "erp"
ROW: dict[str, Any] = {
    "name": "erp",
    "source": "//erp/prod",
    "when": "kind == 'document'",
    "document": "number",
    "time": "changed",
    "set": {"status": {"from": "state", "table": "states"}, "attributes.Plant": "plant"},
    "tables": {"states": {"FR": "RELEASED", "IA": "INWORK"}},
}
PAYLOAD: dict[str, Any] = {
    "kind": "document",
    "number": 12345,
    "changed": "2026-11-22T11:00:00+01:00",
    "state": "FR",
    "plant": "1000",
}


def made(*rows: dict[str, Any]) -> tuple[mapping.Source, ...]:
    faults: list[str] = []
    found = sources.read(list(rows) or [ROW], "source", faults)
    assert not faults
    return found


def options(*rows: dict[str, Any], topic: str = TOPIC) -> decode.Options:
    return decode.Options(topics=Topics((ChangeTopic(topic),)), sources={topic: made(*rows)})


def record(
    value: object, *, timestamp: int = 1_800_000_000_000, offset: int = 7, key: bytes | None = None, **headers: bytes
) -> PlainRecord:
    text = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    given: tuple[Header, ...] = tuple(headers.items())
    return PlainRecord(TOPIC, 0, offset, timestamp, key, text, given)


def event(row: dict[str, Any], payload: object = None, **more: Any) -> Event:
    found = decode.record(record(PAYLOAD if payload is None else payload, **more), options(row))
    assert isinstance(found, Event), found
    return found


def refusal(row: dict[str, Any], payload: object, **more: Any) -> str:
    found = decode.record(record(payload, **more), options(row))
    assert isinstance(found, Refusal), found
    return found.reason


# ------------------------------------------------------------------------------------------------------- what they mean


def test_a_record_of_another_shape_is_an_event_that_says_how_it_was_read() -> None:
    found = event(ROW)
    assert (found.key, found.time, found.source) == ("12345", "2026-11-22T10:00:00.000000Z", "//erp/prod")
    assert found.set == {"status": "RELEASED", "attributes.Plant": "1000"}
    assert found.reason == made()[0].mark


@given(st.integers(0, 10**6), st.integers(1, 10**12))
def test_a_copy_is_the_same_event_wherever_and_whenever_it_is_appended(offset: int, timestamp: int) -> None:
    one = event(ROW)
    again = event(ROW, offset=offset, timestamp=max(timestamp, 1_795_400_000_000))
    assert one._replace(offset=0) == again._replace(offset=0)
    assert one.stamp.event == again.stamp.event


def test_without_a_time_of_its_own_the_records_timestamp_counts() -> None:
    row = {key: value for key, value in ROW.items() if key != "time"}
    assert event(row).time == "2027-01-15T08:00:00.000000Z"
    assert "no timestamp" in refusal(row, PAYLOAD, timestamp=0)


@pytest.mark.parametrize(
    ("form", "zone", "said"),
    [
        ("epoch_s", "", 1795341600),
        ("epoch_ms", "", 1795341600000),
        ("epoch_us", "", "1795341600000000"),
        ("epoch_ns", "", 1795341600000000000),
        ("%Y%m%d%H%M%S", "Europe/Berlin", "20261122110000"),
        ("%Y-%m-%dT%H:%M:%S.%f%z", "", "2026-11-22T11:00:00.000+0100"),
        ("%d.%m.%Y %H:%M", "UTC", "22.11.2026 10:00"),
    ],
)
def test_times_come_in_many_forms(form: str, zone: str, said: object) -> None:
    row = ROW | {"time_format": form, "time_zone": zone}
    assert event(row, PAYLOAD | {"changed": said}).time == "2026-11-22T10:00:00.000000Z"
    assert form in refusal(row, PAYLOAD | {"changed": "yesterday"})


def test_an_entry_that_is_missing_is_named() -> None:
    told = refusal(ROW, PAYLOAD | {"state": "XX"})
    assert "[[source]] erp: table states has no entry for 'XX' (`status`)" in told


def test_null_says_nothing_unless_it_clears() -> None:
    assert event(ROW, PAYLOAD | {"plant": None}).set == {"status": "RELEASED"}
    row = ROW | {"set": {"attributes.Plant": {"from": "plant", "clear": True}}}
    assert event(row, PAYLOAD | {"plant": None}).set == {"attributes.Plant": None}


def test_a_record_that_says_nothing_is_refused_not_dropped() -> None:
    assert "none of the source's fields" in refusal(ROW, {"kind": "document", "number": "1", "changed": "x"})


def test_elements_releases_and_whole_documents() -> None:
    row = ROW | {"set": {}, "add": {"k": "added"}, "remove": {"k": "gone"}, "release": {"old": "done"}}
    said = event(row, PAYLOAD | {"added": ["a", "b"], "gone": "c", "done": True}).more
    assert said is not None
    assert said.elements == {"k": {'"a"': True, '"b"': True, '"c"': False}}
    assert said.release == ("old",)
    row = ROW | {"released": "deleted"}
    (gone, kept) = (event(row, PAYLOAD | {"deleted": deleted}).more for deleted in (True, False))
    assert gone is not None
    assert gone.released
    assert kept is None


def test_a_framed_record_without_a_source_for_it_says_what_to_set() -> None:
    bare = decode.record(record(b"\0\0\0\0\x07\x02x"), decode.Options(topics=Topics((ChangeTopic(TOPIC),))))
    assert isinstance(bare, Refusal)
    for told in (bare.reason, refusal(ROW, b"\0\0\0\0\x07\x02x")):
        assert "schema 7" in told
        assert 'set `format` of a [[source]] for its topic to "avro" or "json-schema"' in told


def test_a_framed_record_is_read_by_sources_of_its_format_and_others_by_those_of_plain_json() -> None:
    framed = ROW | {"name": "new", "source": "//new", "format": "json-schema"}
    both, head = options(framed, ROW), b"\0\0\0\0\x07"
    found = [decode.record(record(value), both) for value in (head + json.dumps(PAYLOAD).encode(), PAYLOAD)]
    assert [one.source for one in found if isinstance(one, Event)] == ["//new", "//erp/prod"]
    assert "does not begin with a zero byte" in refusal(framed, PAYLOAD)
    assert "ends after 3 bytes" in refusal(framed, b"\0\0\0")
    assert "not JSON" in refusal(framed, head + b"{")


def test_avro_is_read_by_its_schema_and_its_key_too() -> None:
    row = ROW | {"format": "avro", "input": "record", "when": "key.id == 'D'", "document": "key.id"}
    row |= {"time": "value.changed", "set": {"status": "value.state"}}
    given_ = options(row)
    (source,) = given_.sources[TOPIC]
    framed = record(b"\0\0\0\0\x07one", key=b"\0\0\0\0\x08two")
    assert mapping.schema_ids([source], framed) == [7, 8]
    assert mapping.schema_ids([source], record(PAYLOAD)) == mapping.schema_ids([source], record(None)) == []
    told = decode.record(framed, given_)
    assert isinstance(told, Refusal)
    assert "schema 7" in told.reason
    source.schemas.readers |= {7: lambda body: PAYLOAD, 8: lambda body: {"id": "D"}}
    found = decode.record(framed, given_)
    assert isinstance(found, Event)
    assert (found.key, found.set) == ("D", {"status": "FR"})
    source.schemas.unusable[7] = "the registry has no schema 7"
    assert decode.record(framed, given_) == Refusal(Place(TOPIC, 0, 7), "decode", "the registry has no schema 7")


def test_numbers_rank_as_numbers() -> None:
    row = ROW | {"sequence": "n"}
    nine, ten = (event(row, PAYLOAD | {"n": n}).sequence for n in (9, 10))
    assert nine < ten


def test_headers_and_when_choose_the_source_and_others_are_skipped() -> None:
    by_header = ROW | {"name": "a", "source": "//a", "headers": {"Kind": "com.sap.*"}}
    both = options(by_header, ROW)
    found = [decode.record(record(PAYLOAD, kind=kind), both) for kind in (b"com.sap.x", b"other")]
    assert [one.source for one in found if isinstance(one, Event)] == ["//a", "//erp/prod"]
    assert isinstance(decode.record(record({"kind": "order"}), both), Foreign)
    assert isinstance(decode.record(record(None), both), Foreign)


def test_expressions_can_see_the_whole_record() -> None:
    row = ROW | {"input": "record", "document": "key.id", "time": "value.changed", "when": "headers.op == 'u'"}
    row |= {"set": {"status": "value.state"}}
    assert event(row, key=b'{"id":"K"}', op=b"u").key == "K"


def test_our_own_events_need_no_mapping() -> None:
    own: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "//x", "type": decode.CHANGED, "subject": "D"}
    own |= {"time": "2026-11-22T10:00:00Z", "data": {"set": {"a": 1}}}
    assert event(ROW, own).set == {"a": 1}
    data = {"set": {"a": 1}}
    ce = {f"ce_{name}": said.encode() for name, said in own.items() if isinstance(said, str)}
    assert event(ROW, data, **ce).key == "D"
    own["data"] = {"sett": {}}
    assert "unknown field" in refusal(ROW, own)


ODD = options(ROW | {"add": {"k": "sort(state)"}, "sequence": "sum(plant)", "id": "join('', plant)"})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_payload_raises(payload: object) -> None:
    text = json.dumps({"kind": "document", "number": payload, "changed": payload, "state": payload, "plant": payload})
    for value in (text.encode(), json.dumps(payload).encode()):
        assert isinstance(decode.record(record(value), ODD), Event | Refusal | Foreign)


def test_an_archive_has_the_event_that_was_meant() -> None:
    given = options()
    line = archive_lines.of(record(PAYLOAD), given)
    assert line is not None
    assert line.usable
    archived = PlainRecord("2026.jsonl", 0, 0, 0, None, line.text.rstrip())
    read = decode.record(archived, attrs.evolve(given, archived=True, vouched=True, sources={}))
    assert read == decode.record(record(PAYLOAD), given)


# ------------------------------------------------------------------------------------------------------------- examples

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples" / "sources").iterdir())


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_each_example_gives_the_event_beside_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (one,) = config.load(Path("reconciler.toml"), {}).sources
    (payload,) = Path().glob("payload.*")
    told = invoked("source", "test", str(payload), "--source", one.name, "-o", "json", "-c", "reconciler.toml")
    assert json.loads(told) == json.loads(Path("event.json").read_text(encoding="utf-8"))


# -------------------------------------------------------------------------------------------------------------- reading

READ = {Partition(TOPIC, 0): 5}


def noted(given: decode.Options) -> bytes:
    return canonical(reading._described(given, {})).encode()  # what `begin` stores


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([ROW], None),
        ([ROW | {"tables": {"states": {"FR": "RELEASED", "IA": "INWORK", "PR": "INREVIEW"}}}], None),
        ([ROW | {"tables": {"states": {"FR": "RELEASED", "IA": "OBSOLETE"}}}], "entry 'IA' of table states"),
        ([ROW | {"tables": {"states": {"FR": "RELEASED"}}}], "entry 'IA' of table states"),
        ([ROW | {"document": "id"}], "its expressions"),
        ([ROW, ROW | {"name": "more"}], "with [[source]] erp, and is to be read with [[source]] erp, more"),
    ],
)
def test_a_change_that_could_have_read_records_otherwise_is_told(rows: list[dict[str, Any]], said: str | None) -> None:
    found = reading.changes(noted(options()), options(*rows), READ)
    assert bool(found) is (said is not None)
    assert said is None or said in found[0]
    assert not reading.changes(noted(options()), options(*rows), {}), "nothing was read yet"


def test_a_topic_that_was_read_without_a_mapping_asks_too() -> None:
    assert "no [[source]]" in reading.changes(b"", options(), READ)[0]
    assert not reading.changes(b"", decode.Options(topics=Topics((ChangeTopic(TOPIC),))), READ)


# -------------------------------------------------------------------------------------------------------- configuration


def config_of(tmp_path: Path, text: str) -> config.Config:
    file = tmp_path / "r.toml"
    file.write_text(text, encoding="utf-8")
    return config.load(file, {})


GIVEN = '[[source]]\nname = "a"\nsource = "//a"\ndocument = "d"\nset.status = "s"\n'


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ('when = "a b"', "source[1].when: is no JMESPath expression: unexpected 'b' (character 3)"),
        ('when = "nope(a)"', "source[1].when: calls nope(), which does not exist (character 1)"),
        ('set.owner = { from = "a", table = "t" }', "source[1].set.owner.table: there is no table t; known are none"),
        ('set."a..b" = "x"', "source[1].set: 'a..b' is not a dotted path"),
        ('documnt = "d"', "source[1].documnt: unknown key; did you mean document?"),
        ('time_format = "%H:%M"', "source[1].time_format: has no offset (%z), so it needs time_zone"),
        ('time_format = "rfc"', "source[1].time_format: must be rfc3339"),
        ('time_zone = "Mars/Base"', "source[1].time_zone: 'Mars/Base' is no time zone"),
        ('table_files.t = "nowhere.csv"', "source[1].table_files.t: nowhere.csv can't be read"),
        ("add = 3", "source[1].add: must be a table of field"),
        ('topic = "windchill.document.outcomes"', "is log.outcomes_topic"),
        ('format = "avro"', 'source[1].format: "avro" needs schemas.registry_url or schemas.dir'),
        ('format = "protobuf"', "source[1].format: must be"),
        ('format = "json-schema"\n[log]\nkind = "file"', 'source[1].format: "json-schema" needs log.kind = "kafka"'),
        ('[schemas]\nregistry_url = "http://r"\nusername = "u"', "schemas.username: needs schemas.password"),
        ('[schemas]\nregistry_url = "http://r"\nusername = "u"\npassword = "p"', "can read schemas.password"),
    ],
)
def test_faults_name_the_key_and_the_place(tmp_path: Path, more: str, fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config_of(tmp_path, f"{GIVEN}{more}\n")
    assert fault in str(raised.value)


def test_topics_of_sources_are_read_besides_the_change_log(tmp_path: Path) -> None:
    found = config_of(tmp_path, GIVEN + 'topic = "erp"\n')
    assert found.log.change_topics == ("windchill.document.changes", "erp")
    topics = factory.topics(found.log)
    assert topics.refusal("erp", "//a") is None
    assert topics.refusal("erp", "//b")
    assert topics.refusal("windchill.document.changes", "//b") is None
    assert factory.decoding(found).sources.keys() == {"erp"}
