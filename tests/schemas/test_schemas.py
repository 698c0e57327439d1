"""The published schemas: true to 2020-12, to their examples, to the program's own decoder and to its configuration."""

import copy
import json
import re
import tomllib
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types
from msgspec import structs

from reconciler import config
from reconciler.config.groups import GROUPS
from reconciler.core.events import change_events, decode
from reconciler.core.events.outcomes import OutcomeType
from reconciler.core.explain import notices
from reconciler.core.explain.notices import Batch, Kind
from reconciler.errors import ConfigError
from reconciler.model.base import NO_BASE
from reconciler.model.document import NO_AGREEMENT, Conflict, Document, Status
from reconciler.model.event import DeadLetter, Event, PlainRecord, Refusal
from reconciler.model.instant import to_us
from reconciler.model.plan import Reason, ReasonCode
from reconciler.model.stamp import Place, Stamp
from schemas import generate
from tests.nodes import texts

SCHEMAS = Path(generate.__file__).parent
EXAMPLES = SCHEMAS / "examples"
RECORDED_MS = to_us("2026-11-22T10:00:00.250000Z") // 1000


def validator(kind: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{kind}.schema.json").read_text(encoding="utf-8"))
    return Draft202012Validator(schema)


VALIDATORS = {kind: validator(kind) for kind in ("event", "outcome", "config", "notification")}


def examples(kind: str, folder: str) -> list[Any]:
    found = sorted((EXAMPLES / kind / folder).glob("*.*"))
    assert found
    return [pytest.param(path, id=path.stem) for path in found]


def content(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)


def decoded(event: Any) -> Any:
    """What a record of the event is, in the topic that events of its source go to."""
    options = decode.Options()
    record = change_events.given(json.dumps(event).encode(), options.topics)
    return decode.record(PlainRecord(record.topic, 0, 0, RECORDED_MS, b"0000012345", record.value), options)


# ---------------------------------------------------------------------------------------------------------- the schemas


@pytest.mark.parametrize("kind", VALIDATORS)
def test_a_schema_is_valid_2020_12(kind: str) -> None:
    Draft202012Validator.check_schema(VALIDATORS[kind].schema)


@pytest.mark.parametrize("path", [path for kind in VALIDATORS for path in examples(kind, "valid")])
def test_a_valid_example_keeps_to_its_schema(path: Path) -> None:
    VALIDATORS[path.parts[-3]].validate(content(path))


@pytest.mark.parametrize("path", [path for kind in VALIDATORS for path in examples(kind, "invalid")])
def test_an_invalid_example_breaks_its_schema(path: Path) -> None:
    assert not VALIDATORS[path.parts[-3]].is_valid(content(path))


@pytest.mark.parametrize("path", [*examples("event", "beyond-schema"), *examples("config", "beyond-schema")])
def test_what_a_schema_cannot_state_keeps_to_it(path: Path) -> None:
    VALIDATORS[path.parts[-3]].validate(content(path))


@pytest.mark.parametrize(("path", "text"), [pytest.param(*pair, id=pair[0].name) for pair in generate.files().items()])
def test_a_generated_file_is_current(path: Path, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, "run python -m schemas.generate"


# -------------------------------------------------------------------------------------------------- events, the decoder


@pytest.mark.parametrize("path", examples("event", "valid"))
def test_the_decoder_takes_a_valid_event(path: Path) -> None:
    assert isinstance(decoded(content(path)), Event)


@pytest.mark.parametrize("path", [*examples("event", "invalid"), *examples("event", "beyond-schema")])
def test_the_decoder_takes_no_other_event(path: Path) -> None:
    assert not isinstance(decoded(content(path)), Event)


FIELDS = st.sampled_from(
    ["status", "owner", "attributes.A", "", "a..b", ".", "a b", "a\n", "é", "a\x00", "a\u200b", "a" * 257]
)
SCALARS = st.sampled_from(["x", "", 0, -1, 1.5, True, None, [], {}, ["x"], {"x": 1}])
LISTS = st.one_of(st.lists(SCALARS, max_size=2), SCALARS)
DATA = st.one_of(
    SCALARS,
    st.fixed_dictionaries(
        {},
        optional={
            "set": st.one_of(st.dictionaries(FIELDS, SCALARS, max_size=2), SCALARS),
            "add": st.one_of(st.dictionaries(st.sampled_from(["k", "", "l.m"]), LISTS, max_size=2), SCALARS),
            "release": st.one_of(st.lists(st.sampled_from(["r", "r.s", ".", ""]), unique=True, max_size=2), SCALARS),
            "reason": SCALARS,
            "unknown": SCALARS,
        },
    ),
)
TIMES = [
    *("2026-11-22T10:00:00Z", "2026-11-22T10:00:00.5+02:00", "2026-11-22T10:00:00-00:00"),
    *("2026-11-22T10:00:00.0000019Z", "2026-11-22T10:00:00+24:00", "2026-11-22T10:00:00", "2026-11-22t10:00:00z"),
    *("2026-11-22 10:00:00Z", "2026-11-22T24:00:00Z", "2026-11-22T09:60:00Z", "2016-12-31T23:59:60Z"),
    *("2016-12-31T23:59:61Z", "2026-11-22T10:00:00Z\n", " 2026-11-22T10:00:00Z", "2026/11/22T10:00:00Z"),
    *("2026-1-22T10:00:00Z", "２０26-11-22T10:00:00Z", "2026-11-22", ""),
]
# Forms of ISO 8601 that RFC 3339 does not have.
NOT_RFC_3339 = [
    *("20261122T100000Z", "2026-W47-7T10:00:00Z", "2026-11-22T10Z", "2026-11-22T10:00Z", "2026-11-22T10:00:00,5Z"),
    *("2026-11-22T10:00:00.Z", "2026-11-22T10:00:00+01", "2026-11-22T10:00:00+0100", "2026-11-22T10:00:00+01:00:30"),
]
ATTRIBUTES = {
    "specversion": st.sampled_from(["1.0", "1.1", 1.0, None]),
    "id": SCALARS,
    "source": st.one_of(SCALARS, st.just("s" * 1025)),
    "type": st.sampled_from([decode.CHANGED, decode.RELEASED, "windchill.x", "other", "", None, 1]),
    "subject": st.one_of(SCALARS, st.just("k" * 512), st.just("k" * 513)),
    "time": st.one_of(st.sampled_from(TIMES), SCALARS),
    "sequence": st.one_of(SCALARS, st.just("9" * 1025)),
    "actor": SCALARS,
    "datacontenttype": st.one_of(
        st.sampled_from(
            ["application/json; charset=utf-8", "APPLICATION/JSON", "text/plain", "a+json", "a+json;x", "+json", ";"]
        ),
        SCALARS,
    ),
    **dict.fromkeys(("traceparent", "kafkatopic", "kafkaoffset", "recordedtime", "extension"), SCALARS),
    "data": DATA,
}
SEEDS = [content(path.values[0]) for path in examples("event", "valid")]


@st.composite
def neighbours(draw: st.DrawFn) -> Any:
    """A valid event with one or two attributes replaced: more, and nearly every event is wrong for several reasons."""
    event = copy.deepcopy(draw(st.sampled_from(SEEDS)))
    for name in draw(st.sets(st.sampled_from(sorted(ATTRIBUTES)), min_size=1, max_size=2)):
        event.pop(name, None)
        if draw(st.integers(0, 9)):
            event[name] = draw(ATTRIBUTES[name])
    return event


@given(event=neighbours())
@example(event={**SEEDS[0], "data": {"add": {"": [], "k": ["x"]}}})
@example(event={**SEEDS[0], "source": "//erp/prod", "data": {"set": {"a": 1}, "accept": {"a": 2}}})
def test_schema_and_decoder_agree_on_events_near_the_valid_ones(event: Any) -> None:
    found = decoded(event)
    assume(not isinstance(found, Refusal) or "and its group" not in found.reason)  # a schema can't say so
    assert VALIDATORS["event"].is_valid(event) == isinstance(found, Event), found


@pytest.mark.parametrize("time", NOT_RFC_3339)
def test_schema_and_decoder_agree_on_times_that_only_look_like_rfc_3339(time: str) -> None:
    event = {**SEEDS[0], "time": time}
    assert VALIDATORS["event"].is_valid(event) == isinstance(decoded(event), Event)


@pytest.mark.parametrize("data", [{"set": {}}, {"add": {}}, {"remove": {}}, {"release": []}, {"expect": {}}])
def test_schema_and_decoder_agree_that_a_released_event_has_no_other_members(data: Any) -> None:
    event = {**SEEDS[0], "type": decode.RELEASED, "data": data}
    assert VALIDATORS["event"].is_valid(event) == isinstance(decoded(event), Event)


def test_schema_and_decoder_agree_on_every_assigned_character_of_a_name() -> None:
    field = re.compile(VALIDATORS["event"].schema["$defs"]["field"]["pattern"])
    assigned = [chr(code) for code in range(0x10000) if unicodedata.category(chr(code)) != "Cn"]
    wrong = [char for char in assigned if char != "." and bool(field.search(f"a{char}b")) != char.isprintable()]
    assert not wrong


# ------------------------------------------------------------------------------------------------------------- outcomes


def test_the_outcome_schema_knows_exactly_the_types_that_are_published() -> None:
    assert set(VALIDATORS["outcome"].schema["properties"]["type"]["enum"]) == set(OutcomeType)
    shown = {content(path.values[0])["type"] for path in examples("outcome", "valid")}
    assert shown == set(OutcomeType)


def test_the_outcome_schema_describes_stamps_as_the_program_has_them() -> None:
    definitions = VALIDATORS["outcome"].schema["$defs"]
    assert tuple(definitions["stamp"]["properties"]) == Stamp._fields
    assert set(definitions["reconciled"]["properties"]) >= {"base", "refused", "wrote"}
    assert NO_BASE.wrote is None


# -------------------------------------------------------------------------------------------------------- notifications


def test_the_notification_schema_knows_exactly_the_types_that_are_posted() -> None:
    assert set(VALIDATORS["notification"].schema["properties"]["type"]["enum"]) == set(Kind)
    assert {content(path.values[0])["type"] for path in examples("notification", "valid")} == set(Kind)


def test_the_outcome_schema_knows_exactly_the_codes_of_reasons() -> None:
    codes = VALIDATORS["outcome"].schema["$defs"]["opened"]["properties"]["codes"]
    assert set(codes["items"]["enum"]) == set(ReasonCode)


@given(text=st.text(max_size=600), many=st.booleans(), closed=st.none() | st.just(7))
def test_what_is_posted_keeps_to_the_schema_whatever_it_tells_of(text: str, many: bool, closed: int | None) -> None:
    key = text.encode(errors="replace").decode() or "k"
    batch = Batch("//reconciler/x")
    stamp = Stamp("", "", "", "t", 0, 0, "", "")
    why = (Reason(ReasonCode.REFUSED, message=key),)
    batch.add(notices.of_conflict(key, Conflict(key, key, why, None, False, None, None, stamp, 1), closed))
    for number in range(9 if many else 1):
        agreement = structs.replace(NO_AGREEMENT, aside_us=number)
        batch.add(notices.put_aside(Document(key, status=Status.PARKED, reason=key, agreement=agreement)))
    status = "open" if closed is None else "replayed"
    batch.add(notices.of_letter(DeadLetter(Place(key, 0, 1), 1, None, None, (), key, key, 1, status)))
    batch.add(notices.locked(Document(key, reason=key), 1))
    told = batch.notifications()
    assert [one.kind is Kind.DIGEST for one in told] == ([True] if many else [False] * 4)
    for one in told:
        VALIDATORS["notification"].validate(json.loads(one.body))


# -------------------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize("path", examples("config", "valid"))
def test_the_program_loads_a_valid_configuration(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES / "config")
    config.load(path, {})


@pytest.mark.parametrize("path", [*examples("config", "invalid"), *examples("config", "beyond-schema")])
def test_the_program_loads_no_other_configuration(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES / "config")
    with pytest.raises(ConfigError, match=f"^{path}:"):
        config.load(path, {})


SOURCES = sorted((Path(__file__).parents[2] / "docs" / "examples" / "sources").glob("*/reconciler.toml"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.parent.name)
def test_the_schema_accepts_the_examples_of_sources(path: Path) -> None:
    VALIDATORS["config"].validate(content(path))


def test_the_example_of_defaults_states_every_key_that_is_no_secret_and_its_default() -> None:
    stated = content(EXAMPLES / "config" / "valid" / "defaults.toml")
    properties = VALIDATORS["config"].schema["properties"]
    expected = {
        section: {
            key: about["default"]
            for key, about in group["properties"].items()
            if not key.endswith("_file") or not about.get("minLength")
            if not about.get("writeOnly")
        }
        for section, group in properties.items()
        if section in GROUPS
    }
    stated["notify"].pop("webhook_url")  # a secret, but worth showing
    assert stated == expected


TEXTS = ["", "a", "a b", "h:1", "http://h/a", "sqlite:///a", "//erp/*", "roles //erp/*", "openid x", "a" * 43]
TEXT_KEYS = [
    (section, key, about)
    for section, group in VALIDATORS["config"].schema["properties"].items()
    if section in GROUPS
    for key, about in group["properties"].items()
    if "string" in (about.get("type"), about.get("items", {}).get("type"))
]


@given(
    key=st.sampled_from(TEXT_KEYS),
    text=st.sampled_from(TEXTS),
    char=st.sampled_from(["", "\n", "\r", "\t", "\x00", "\x1b", "\x1c", "\x7f", "\x80", "é", "\u2028"]),
    place=st.floats(0, 1),
)
@example(key=("log", "group", {"type": "string"}), text="a", char="\n", place=1)
@example(key=("windchill", "token_file", {"type": "string"}), text="a", char="\x7f", place=0)
@example(key=("notify", "webhook_url", {"type": "string"}), text="http://h/a", char="", place=0)
def test_schema_and_loader_agree_on_texts_with_control_characters(
    key: tuple[str, str, dict[str, Any]], text: str, char: str, place: float
) -> None:
    section, name, about = key
    at = round(place * len(text))
    text = text[:at] + char + text[at:]
    value = text if about["type"] == "string" else [text]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tomllib, "loads", lambda _: {section: {name: value}})
        try:
            config.load(Path(__file__), {})
            told = ""
        except ConfigError as error:
            told = str(error)
    refused = f":{section}.{name}: must be " in told
    assert VALIDATORS["config"].is_valid({section: {name: value}}) != refused, told


@pytest.mark.parametrize(
    ("variable", "tables"),
    [
        ("LOG__TOPICS", [{"name": "a\n", "sources": ["b"]}]),
        ("LOG__TOPICS", [{"name": "a", "sources": ["b\n"]}]),
        ("POLICY", [{"fields": ["a\n"], "strategy": "hold"}]),
    ],
)
def test_schema_and_loader_refuse_control_characters_in_tables(variable: str, tables: list[Any]) -> None:
    given = {"policy": tables} if variable == "POLICY" else {"log": {"topics": tables}}
    assert not VALIDATORS["config"].is_valid(given)
    with pytest.raises(ConfigError, match="control characters"):
        config.load(None, {f"RECONCILER_{variable}": json.dumps(tables)})


# ------------------------------------------------------------------------------------------------------------- asyncapi


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = generate.asyncapi()
    found = texts(document, "$ref")
    assert found
    for reference in found:
        file, _, pointer = reference.partition("#")
        node = json.loads((SCHEMAS / file).read_text(encoding="utf-8")) if file else document
        for step in pointer.strip("/").split("/") if pointer else []:
            node = node[step]


def test_the_topics_of_the_asyncapi_document_are_the_defaults() -> None:
    log = config.Config().log
    addresses = {name: channel["address"] for name, channel in generate.asyncapi()["channels"].items()}
    assert addresses == {
        "changes": log.topic,
        "decisions": log.decisions_topic,
        "outcomes": log.outcomes_topic,
        "deadLetters": log.dead_letter_topic,
    }


def test_every_message_is_keyed_by_the_document() -> None:
    for message in generate.asyncapi()["components"]["messages"].values():
        assert message["bindings"]["kafka"]["key"]["type"] == "string"


def test_yaml_is_written_so_that_nothing_can_be_misread() -> None:
    tricky = {"a.b": "no", "_c": [{"d": "x: #y", "e": []}, "2026-11-22", -1, None], "f": {}}
    assert generate.as_yaml(tricky) == (
        'a.b: "no"\n"_c":\n  - d: "x: #y"\n    e: []\n  - "2026-11-22"\n  - -1\n  - null\nf: {}'
    )
