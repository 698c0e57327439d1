"""
Decode: one record of the change log → an event, a refusal, or a foreign event.

Rules of this file:
1. Every record gives exactly one value; no input raises. An unusable record becomes a `Refusal` whose reason tells its
   producer what to change.
2. A typo must not vanish: unknown types of our namespace and unknown members of `data` are refused. Unknown extension
   attributes, which CloudEvents allows, are ignored.

Theory of operation: nearly every record is a valid structured event, so `_structured` decodes and checks it in one pass
into typed structs. Only if that fails does `_explain` look at the envelope again to find out its type and what is wrong
with it. Binary mode puts an envelope together and joins the same path; so does a record of another shape, once a
`[[source]]` of its topic has said what it means (`mapping.py`).

Sources: CloudEvents 1.0, its Kafka binding (`content-type` is tested first), and schemas/event.schema.json.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import msgspec

from reconciler.core.events import framing, mapping, profile, signing, timing
from reconciler.core.events.outcomes import OutcomeType
from reconciler.core.events.part import ALL, ELSEWHERE, Part
from reconciler.model import instant, limits
from reconciler.model.event import Decoded, Event, Foreign, Header, More, Record, Refusal, Topics
from reconciler.model.policy import OPERATORS, Policy
from reconciler.model.signing import Keys
from reconciler.model.stamp import Place, Stamp
from reconciler.model.value import canonical

CHANGED = "windchill.document.changed.v1"
RELEASED = "windchill.document.released.v1"
NAMESPACE = "windchill."
POLICY = "policy"  # the stage of a refusal by configuration: the source may not set this field, or not in this topic
CLOCK = "clock"  # the stage of a refusal by our own clock when the record was first read
_NEWEST = (CHANGED, RELEASED)
# Our own outcomes change nothing if a merged archive holds them.
_OUTCOMES = frozenset(OutcomeType)

KEY_LENGTH_MAX = 512
FIELDS_MAX = 256  # each is stored with its event's whole provenance
TEXT_LENGTH_MAX = 1024  # id, source, sequence, actor, reason: they are stored with every field they set
_UNSIGNED = "its writer does not have log.signing_key. Decide again by a command or the page, or discard this"
REASON_LENGTH_MAX = 1000  # of a refusal: it may quote a megabyte, and is published beside that very record


@attrs.frozen
class Options:
    """The part of the configuration that decoding needs."""

    record_bytes_max: int = limits.EVENT_BYTES_MAX
    depth_max: int = 32  # nesting of a value; deeper ones are refused
    clock_skew_us_max: int = round(limits.CLOCK_SKEW_S_MAX * instant.SECOND_US)
    by_position: bool = False  # `[log] order = "log"`
    archived: bool = False  # lines of a file: their own `kafka…` attributes give the record's place
    vouched: bool = False  # that place decides who may write there: a person has given the file as an archive
    policy: Policy = attrs.field(factory=Policy)
    topics: Topics = attrs.field(factory=Topics)
    keys: Keys | None = None  # to sign decisions before they are appended
    signed: signing.Required | None = None  # the decisions that need a signature; None: none does
    part: Part = ALL  # of the log; events of others are skipped
    sources: mapping.Sources = attrs.field(factory=dict)  # that say what records of another shape mean, by topic
    sources_restricted: bool = attrs.field(init=False)  # needed for every event, so computed once

    @sources_restricted.default
    def _ask_policy(self) -> bool:
        return any(rule.sources for rule in self.policy.rules)


class _Data(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    set: dict[str, Any] = {}
    add: dict[str, list[str | int | float | bool]] = {}
    remove: dict[str, list[str | int | float | bool]] = {}
    release: list[str] = []
    expect: dict[str, Any] = {}
    accept: dict[str, Any] = {}
    reason: str | None = None


class _Envelope(msgspec.Struct, frozen=True):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    data: _Data | None = None
    datacontenttype: str | None = None
    sequence: str | None = None
    actor: str | None = None
    kafkatopic: str | None = None
    kafkapartition: int | None = None
    kafkaoffset: int | None = None
    recordedtime: str | None = None


class _ReleasedData(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    reason: str | None = None


class _Released(msgspec.Struct, frozen=True):
    """The data of a released event: decoded only once the type is known."""

    data: _ReleasedData | None = None


class _Kind(msgspec.Struct, frozen=True):
    """The part of an envelope that shows whether the event is ours."""

    type: str
    specversion: str


_envelope = msgspec.json.Decoder(_Envelope).decode
_released = msgspec.json.Decoder(_Released).decode
_kind = msgspec.json.Decoder(_Kind).decode
_anything = msgspec.json.Decoder().decode
_TIME = "; write the time as RFC 3339, such as 2026-11-22T10:00:00Z, not as a number of milliseconds"


def record(source: Record, options: Options, present: timing.Present = timing.READ_BEFORE) -> Decoded:
    """Decode one record; `present` is the time of its first reading."""
    found = _record(source, options)
    if isinstance(found, Event) and (objection := present.objection(found.stamp)) is not None:
        return _refusal(found.stamp.place, CLOCK, objection)
    return found


def _record(source: Record, options: Options) -> Decoded:
    value = source.value
    try:
        if options.sources and (mappings := options.sources.get(source.topic)) and not _is_own(source):
            return _mapped(mappings, source, options)
        if source.headers and (found := _binary_headers(source.headers)):
            return _binary(found, source, options)
        if value is None:
            return _tombstone(source, options)
        _check_size(value, options)
        return _structured(value, source, options)
    except profile.Invalid as error:
        return _refusal(_place(source), "decode", str(error))


def _check_size(value: bytes, options: Options) -> None:
    if len(value) > options.record_bytes_max:
        raise profile.Invalid(
            f"record has {limits.size(len(value))}, at most {limits.size(options.record_bytes_max)} are allowed"
        )


def check_text(text: bytes) -> None:
    """
    Raise UnicodeDecodeError unless all of it is UTF-8, as JSON has to be (RFC 8259 section 8.1).

    The decoder skips unknown members without a check, but a reader of all members, such as an export, would fail.
    """
    text.decode()


def _structured(text: bytes, source: Record, options: Options) -> Decoded:
    """Decode an event in JSON."""
    try:
        check_text(text)
        envelope = _envelope(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _explain(text, source, error)
    if envelope.type not in _NEWEST:
        return _explain(text, source, None)
    if envelope.type == RELEASED:
        try:
            _released(text)
        except msgspec.ValidationError as error:
            raise profile.Invalid(f"not a valid {RELEASED}: {error}") from error
    return _event(envelope, source, options, text)


def _is_own(source: Record) -> bool:
    """Whether a record of a mapped topic is one of our events, or means to be one."""
    if source.headers and (found := _binary_headers(source.headers)):
        return (_header(found, "ce_type") or "").startswith(NAMESPACE)
    try:
        return source.value is not None and _kind(source.value).type.startswith(NAMESPACE)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def meant(source: Record, options: Options) -> dict[str, Any] | None:
    """Return the members of the event that a record of another shape means; None if it is none, or can't be used."""
    mappings = options.sources.get(source.topic, ())
    try:
        if not mappings or source.value is None or _is_own(source):
            return None
        found = mapping.taken(mappings, source)
        return None if found is None else mapping.said(found[0], source, found[1])
    except profile.Invalid:
        return None


def _mapped(mappings: Sequence[mapping.Source], source: Record, options: Options) -> Decoded:
    """Decode a record of another shape; a null value names no document here, and is skipped."""
    if source.value is None:
        return Foreign(_place(source), "tombstone")
    _check_size(source.value, options)
    found = mapping.taken(mappings, source)
    if found is None:
        return Foreign(_place(source), "no [[source]] takes it")
    taker, value = found
    try:
        envelope = msgspec.convert(mapping.said(taker, source, value), _Envelope)
        return _event(envelope, source, options, source.value)
    except (msgspec.ValidationError, profile.Invalid) as error:
        raise profile.Invalid(f"[[source]] {taker.name}: {error}") from error


def _event(envelope: _Envelope, source: Record, options: Options, written: bytes) -> Decoded:
    _check_envelope(envelope)
    if options.part != ALL and not options.part.has(envelope.subject, envelope.source):
        return Foreign(_place(source), ELSEWHERE)
    stamp = _stamp(envelope, source, options)
    here, releases = stamp.place if options.vouched else _place(source), envelope.type == RELEASED
    if refused := profile.refusal(envelope.source, here.topic, options.topics, options.policy, releases=releases):
        return _refusal(here, POLICY, refused)
    if options.signed is not None and envelope.source == OPERATORS and (fault := options.signed.fault(written, here)):
        return _refusal(here, signing.STAGE, f"this decision of an operator is not accepted: {fault}; {_UNSIGNED}")
    data = envelope.data
    key = envelope.subject
    actor = envelope.actor or ""
    reason = (data.reason if data else None) or ""
    if len(reason) > TEXT_LENGTH_MAX:
        raise profile.Invalid(f"`reason` has at most {TEXT_LENGTH_MAX} characters")
    if envelope.type == RELEASED:
        return Event.of(key, stamp, released=True, actor=actor, reason=reason)
    if data is None:
        raise profile.Invalid("`data` is missing: give at least one of set, add, remove, release")
    wanted, expect, accept = profile.leaves(data.set), profile.leaves(data.expect), profile.leaves(data.accept)
    elements = _elements(data) if data.add or data.remove else {}
    _check_values((*wanted.items(), *expect.items(), *accept.items()), options)
    fields = (*wanted, *elements, *data.release)
    _check_fields(fields)
    for member, named in (("expect", expect), ("accept", accept)):
        for field in named:
            if field not in wanted:
                raise profile.Invalid(f"`{member}` names `{field}`, which `set` does not")
    if accept and envelope.source != OPERATORS:
        raise profile.Invalid(f"`accept` is a person's decision, which only {OPERATORS} may make")
    if options.sources_restricted and (forbidden := profile.forbidden(envelope.source, fields, options.policy)):
        return _refusal(here, POLICY, forbidden)
    more = More(elements, tuple(data.release), expect, False, accept)
    return Event(*stamp, actor, reason, wanted, key, more if any(more) else None)


def _check_envelope(envelope: _Envelope) -> None:
    if envelope.specversion != "1.0":
        raise profile.Invalid(f"specversion is {envelope.specversion!r}, only '1.0' is known")
    if not 0 < len(envelope.subject) <= KEY_LENGTH_MAX:
        raise profile.Invalid(f"`subject`, the document's key, has 1 to {KEY_LENGTH_MAX} characters")
    if not envelope.id or not envelope.source:
        raise profile.Invalid("`id` and `source` must not be empty")
    longest = max(len(envelope.id), len(envelope.source), len(envelope.sequence or ""), len(envelope.actor or ""))
    if longest > TEXT_LENGTH_MAX:
        raise profile.Invalid(f"`id`, `source`, `sequence` and `actor` have at most {TEXT_LENGTH_MAX} characters")
    content_type = envelope.datacontenttype
    if content_type is not None and content_type != "application/json" and not _is_json(content_type):
        raise profile.Invalid(f"`datacontenttype` is {content_type!r}, `data` must be JSON")


def _stamp(envelope: _Envelope, source: Record, options: Options) -> Stamp:
    time = timing.canonical(envelope.time, "time")
    topic, partition, offset = source.topic, source.partition, source.offset
    recorded_us = source.timestamp * 1000
    if options.archived:
        if envelope.kafkatopic is not None and envelope.kafkapartition is not None and envelope.kafkaoffset is not None:
            topic, partition, offset = envelope.kafkatopic, envelope.kafkapartition, envelope.kafkaoffset
            if (
                not (0 <= partition <= profile.NUMBER_MAX and 0 <= offset <= profile.NUMBER_MAX)
                or len(topic) > TEXT_LENGTH_MAX
            ):
                raise profile.Invalid("`kafkatopic`, `kafkapartition` and `kafkaoffset` are not the place of a record")
        if envelope.recordedtime is not None:
            recorded_us = instant.to_us(timing.canonical(envelope.recordedtime, "recordedtime"))
    if recorded_us > 0:  # a line of a file may have no recorded time
        timing.check_skew(time, recorded_us, options.clock_skew_us_max)
    lead = timing.lead(recorded_us, partition, offset, archived=options.archived) if options.by_position else ""
    return Stamp(lead, time, envelope.sequence or "", topic, partition, offset, envelope.source, envelope.id)


def _elements(data: _Data) -> dict[str, dict[str, bool]]:
    elements: dict[str, dict[str, bool]] = {}
    for present, changes in ((True, data.add), (False, data.remove)):
        for field, values in changes.items():
            if not values:
                profile.check_field(field)  # an empty list leaves the event before its names are checked
            of_field = elements.setdefault(field, {})
            for value in values:
                profile.check_value(value, 1)
                if of_field.setdefault(canonical(value), present) is not present:
                    raise profile.Invalid(f"{value!r} is both added to and removed from `{field}`")
    return {field: of_field for field, of_field in elements.items() if of_field}


def _check_values(said: Iterable[tuple[str, object]], options: Options) -> None:
    for _, value in said:
        if type(value) is not str and value is not None:
            profile.check_value(value, options.depth_max)


def _check_fields(fields: Sequence[str]) -> None:
    """Refuse an event that names no field, too many fields, or one field twice: by itself, or within its group."""
    if len(fields) > FIELDS_MAX:
        raise profile.Invalid(f"an event names at most {FIELDS_MAX} fields, not {len(fields)}")
    if not fields:
        raise profile.Invalid("`data` is empty: give at least one of set, add, remove, release")
    for field in fields:
        profile.check_field(field)
    if len(set(fields)) != len(fields):
        raise profile.Invalid("an event may name a field in only one of set, add/remove and release")
    problem = profile.nested_problem(fields)
    if problem is not None:
        raise profile.Invalid(problem)


def _place(source: Record) -> Place:
    return Place(source.topic, source.partition, source.offset)


def _refusal(place: Place, stage: str, reason: str) -> Refusal:
    return Refusal(place, stage, reason if len(reason) <= REASON_LENGTH_MAX else reason[: REASON_LENGTH_MAX - 1] + "…")


def _tombstone(source: Record, options: Options) -> Decoded:
    """Decode a null value: it releases the document of its key, with its topic as source and the record's time."""
    if source.key is None:
        raise profile.Invalid("a record without value and key names no document")
    try:
        key = source.key.decode()
    except UnicodeDecodeError as error:
        raise profile.Invalid("the record's key is not UTF-8, so it names no document") from error
    if not 0 < len(key) <= KEY_LENGTH_MAX:
        raise profile.Invalid(f"the record's key, the document's key, has 1 to {KEY_LENGTH_MAX} characters")
    topic, partition, offset = source.topic, source.partition, source.offset
    speaker = f"//kafka/{topic}"
    if not options.part.has(key, speaker):
        return Foreign(_place(source), ELSEWHERE)
    if refused := profile.refusal(speaker, topic, options.topics, options.policy, releases=True):
        return _refusal(_place(source), POLICY, refused)
    time = timing.of_record(max(source.timestamp, 0) * 1000)
    lead = timing.lead(source.timestamp * 1000, partition, offset, archived=False) if options.by_position else ""
    stamp = Stamp(lead, time, "", topic, partition, offset, speaker, f"{partition}/{offset}")
    return Event.of(key, stamp, released=True)


@functools.lru_cache(maxsize=1024)  # bounded; producers send the same headers over and over
def is_structured(headers: tuple[Header, ...]) -> bool:
    """Whether a record with these headers holds one event in JSON, envelope and all. Raises `profile.Invalid`."""
    return _binary_headers(headers) is None


def _binary_headers(headers: Sequence[Header]) -> dict[str, bytes | None] | None:
    """Return the headers of a record in binary mode by name, `None` for a structured one."""
    found = {name.lower(): content for name, content in headers}
    content_type = (_header(found, "content-type") or "").lower()
    if content_type.startswith("application/cloudevents"):
        if not content_type.startswith("application/cloudevents+json"):
            raise profile.Invalid(f"content type {content_type!r} is not one event in JSON")
        return None
    return found if "ce_specversion" in found or "ce_type" in found else None


def _binary(found: Mapping[str, bytes | None], source: Record, options: Options) -> Decoded:
    """
    Turn a record in binary mode into its structured form, and decode that.

    A null value is an event without `data` here, not a tombstone.
    """
    event_type = _header(found, "ce_type") or ""
    if "ce_specversion" in found and event_type and not event_type.startswith(NAMESPACE):
        return Foreign(_place(source), event_type)  # in any format, of any size
    content_type = _header(found, "content-type")
    if content_type is not None and not _is_json(content_type):
        raise profile.Invalid(f"content type {content_type!r}: `data` must be JSON")
    attributes = {name.removeprefix("ce_"): _header(found, name) for name in found if name.startswith("ce_")}
    for number in ("kafkapartition", "kafkaoffset"):  # headers are text; these have a meaning only in archives
        attributes.pop(number, None)
    if "data" in attributes:
        raise profile.Invalid("`ce_data` is not a CloudEvents header: `data` is the record's value")
    value = source.value or b"null"
    _check_size(value, options)
    try:
        _anything(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise profile.Invalid(f"the value is not JSON, or nested too deeply: {error}") from error
    return _structured(msgspec.json.encode({**attributes, "data": msgspec.Raw(value)}), source, options)


def _header(found: Mapping[str, bytes | None], name: str) -> str | None:
    content = found.get(name)
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise profile.Invalid(f"header {name!r} is not UTF-8") from error


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _explain(text: bytes, source: Record, error: Exception | None) -> Decoded:
    """Return what a record is that did not decode as one of our events."""
    place = _place(source)
    try:
        kind = _kind(text)
    except msgspec.ValidationError as missing:
        raise profile.Invalid(f"not a CloudEvent: {missing}{_hint(text)}") from missing
    except RecursionError as deep:
        raise profile.Invalid("the record is nested too deeply") from deep
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        if framing.is_framed(text):
            raise profile.Invalid(framing.advice(text)) from broken
        raise profile.Invalid(f"not JSON: {broken}") from broken
    if not kind.type.startswith(NAMESPACE) or kind.type in _OUTCOMES:
        return Foreign(place, kind.type)
    if kind.type not in _NEWEST:
        raise profile.Invalid(f"type {kind.type!r} is not known here; known are {CHANGED} and {RELEASED}")
    of_time = isinstance(error, msgspec.ValidationError) and "`$.time`" in str(error)
    raise profile.Invalid(f"not a valid {kind.type}: {error}{_TIME if of_time else ''}")


def _hint(text: bytes) -> str:
    """Return what to do about a record of another system; empty if it is of none that is known here."""
    try:
        found = _anything(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    envelope = found.get("payload", found) if isinstance(found, dict) else None
    if isinstance(envelope, dict) and "op" in envelope and {"before", "after"} & envelope.keys():
        return "; it looks like a change of Debezium, which a [[source]] can map (docs/sources.md)"
    return ""
