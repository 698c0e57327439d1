"""
Outcomes: the results of attempts, as CloudEvents for the outcome log (schemas/outcome.schema.json).

An outcome's id is a digest of what happened and when, not of its publication: an outcome that is published twice has
one id, and a conflict that opens again just as before has another. The `reconciled` outcomes of a document are
numbered, and each holds the whole base: the greatest number is the last one, whatever the order and number of copies.
No clock has a say in it.
"""

import base64
import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from reconciler.core.events import signing
from reconciler.model import codec, instant
from reconciler.model.base import Agreed, Base, RefusedField, Wrote
from reconciler.model.chain import Checkpoint, Head, parse_head
from reconciler.model.document import Conflict
from reconciler.model.event import DeadLetter, Header, Outgoing, Record, Refusal
from reconciler.model.plan import Decision, Verb
from reconciler.model.signing import Keys, Noted
from reconciler.model.snapshot import Token
from reconciler.model.stamp import Partition, Place, Stamp
from reconciler.model.value import Json, is_deep


class OutcomeType(enum.StrEnum):
    """The types of our outcome events."""

    RECONCILED = "windchill.document.reconciled.v1"
    CONFLICT_OPENED = "windchill.conflict.opened.v1"
    CONFLICT_CLOSED = "windchill.conflict.closed.v1"
    PARKED = "windchill.document.parked.v1"
    SIGNING_BEGAN = "windchill.signing.began.v1"  # of no document, as the next
    CHECKPOINT = "windchill.audit.checkpoint.v1"


class Outcome(msgspec.Struct, frozen=True):
    """One outcome."""

    id: str
    type: OutcomeType
    key: str
    at_us: int
    data: msgspec.Raw  # encoded once: the id is made of it, and the event holds it


_CONTENT_TYPE = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
ERRORS = "__reconciler.errors."
REPLAY_OF = "__reconciler.replay-of"
_LARGE_BYTES = 256  # several times a digest; an outcome is only slimmed if the log does not take it whole
_SEQUENCE_DIGITS = 10  # the extension is compared as text


def reconciled(
    key: str,
    at_us: int,
    decisions: tuple[Decision, ...],
    base: Base,
    *,
    tokens: tuple[Token | None, Token | None],
    tries: int,
) -> Outcome:
    """Return the outcome of an attempt on a document's managed fields; `tokens` are those before and after."""
    named = {verb: [d.field for d in decisions if d.verb is verb] for verb in Verb}
    satisfied = {d.stamp.id: None for d in decisions if d.verb is not Verb.HOLD and not d.later}
    data: dict[str, object] = {
        "written": {d.field: d.target for d in decisions if d.verb is Verb.WRITE and not d.later},
        "yielded": [*named[Verb.YIELD]],
        "kept": [*named[Verb.KEEP]],
        "held": [*named[Verb.HOLD]],
        "events": [*satisfied],
        "token_before": tokens[0],
        "token_after": tokens[1],
        "attempts": tries,
        "base": {name: _agreed(agreed) for name, agreed in base.fields.items()},
        "refused": {name: _refused(refused) for name, refused in base.refused.items()},
        "wrote": None if base.wrote is None else _wrote_data(base.wrote),
    }
    if digests := {name: agreed.digest for name, agreed in base.fields.items() if agreed.digest}:
        data["digests"] = {"base": digests}
    return _outcome(OutcomeType.RECONCILED, key, at_us, data)


def opened(key: str, at_us: int, conflict: Conflict, reason: str) -> Outcome:
    """Return the outcome that a person has to decide a field; `reason` is the sentence of the conflict's reasons."""
    data: dict[str, Json] = {
        "conflict": conflict.id,
        "field": conflict.field,
        "reason": reason,
        "codes": [*{one.code.value: None for one in conflict.reasons}],
        "hold": conflict.hold.value,
        "desired": conflict.desired,
        "live": conflict.live,
        "event": conflict.stamp.id,
        "source": conflict.stamp.source,
    }
    if conflict.has_base:
        data["base"] = conflict.base
    return _outcome(OutcomeType.CONFLICT_OPENED, key, at_us, data)


def closed(key: str, at_us: int, conflict: Conflict, reason: str) -> Outcome:
    """Return the outcome that a conflict has ended."""
    data: dict[str, Json] = {"conflict": conflict.id, "field": conflict.field, "reason": reason}
    return _outcome(OutcomeType.CONFLICT_CLOSED, key, at_us, data)


def parked(key: str, at_us: int, status: str, reason: str) -> Outcome:
    """Return the outcome that a document is not written to for now, and why."""
    return _outcome(OutcomeType.PARKED, key, at_us, {"status": status, "reason": reason})


def record(outcome: Outcome, topic: str, source: str, number: int = 0) -> Outgoing:
    """
    Return the record that publishes an outcome: a structured CloudEvent, keyed by document.

    `number` counts the `reconciled` outcomes of a document, from 1: CloudEvents' `sequence`.
    """
    event = {
        "specversion": "1.0",
        "id": outcome.id,
        "source": source,
        "type": outcome.type.value,
        "subject": outcome.key,
        "time": instant.from_us(outcome.at_us),
        "datacontenttype": "application/json",
        "data": outcome.data,
    }
    if outcome.type is OutcomeType.RECONCILED:
        event["sequence"] = f"{number:0{_SEQUENCE_DIGITS}}"
    return Outgoing(topic, outcome.key.encode(), codec.encode(event), _CONTENT_TYPE)


def slimmed(record: Outgoing) -> Outgoing | None:
    """
    Return an outcome with digests in the place of its large values; `None` if it has none, or is no outcome.

    A base can still be rebuilt from it: a digest shows whether a value has changed since it was agreed.
    """
    if record.headers != _CONTENT_TYPE or record.value is None:
        return None
    event = msgspec.json.decode(record.value)
    data = event["data"]
    known = data.get("digests", {})  # of values that we know by digest only
    digests: dict[str, dict[str, str] | str] = {**known}
    for member, inner in (("written", None), ("base", "value"), ("refused", "live")):
        if isinstance(found := data.get(member), dict):
            cut = {name: codec.digest(value) for name, value in _values(found, inner) if _is_large(value)}
            for name in cut:
                found[name] = None if inner is None else {**found[name], inner: None}
            digests |= {member: {**known.get(member, {}), **cut}} if cut else {}
    if event["type"] == OutcomeType.CONFLICT_OPENED:
        large = {name: value for name in ("desired", "live", "base") if _is_large(value := data.get(name))}
        digests |= {name: codec.digest(value) for name, value in large.items()}
        data |= dict.fromkeys(large)
    if digests == known:
        return None
    data["digests"] = digests
    return record._replace(value=codec.encode(event))


def _values(found: dict[str, Any], inner: str | None) -> Iterable[tuple[str, object]]:
    return found.items() if inner is None else ((name, of[inner]) for name, of in found.items())


def _is_large(value: object) -> bool:
    return len(codec.encode(value)) > _LARGE_BYTES


def letter_of(record: Record, refusal: Refusal, at_us: int) -> DeadLetter:
    """Return the dead letter of a record that can't be used."""
    return DeadLetter(
        place=refusal.place,
        timestamp=record.timestamp,
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
        stage=refusal.stage,
        reason=refusal.reason,
        refused_at_us=at_us,
    )


def dead_letter(letter: DeadLetter, topic: str) -> Outgoing:
    """Return the record that publishes a dead letter: original bytes, key and headers, and the reason."""
    place = letter.place
    errors = {
        "topic": place.topic,
        "partition": str(place.partition),
        "offset": str(place.offset),
        "stage": letter.stage,
        "message": letter.reason,
    }
    headers = [(name, value) for name, value in letter.headers if not name.startswith(ERRORS)]
    headers += [(ERRORS + name, text.encode(errors="replace")) for name, text in errors.items()]
    return Outgoing(topic, letter.key, letter.value, tuple(headers))


class _StampData(msgspec.Struct, frozen=True):
    lead: str
    time: str
    sequence: str
    topic: str
    partition: int
    offset: int
    source: str
    id: str

    def stamp(self) -> Stamp:
        return Stamp(self.lead, self.time, self.sequence, self.topic, self.partition, self.offset, self.source, self.id)


class _AgreedData(msgspec.Struct, frozen=True):
    value: Json
    stamp: _StampData | None
    elements: dict[str, _StampData] = {}
    writes: dict[str, list[str]] = {}

    def agreed(self, digest: str) -> Agreed:
        stamps = {text: stamp.stamp() for text, stamp in self.elements.items()}
        writes = {part: tuple(map(instant.to_us, times)) for part, times in self.writes.items()}
        return Agreed(self.value, _stamp(self.stamp), stamps, digest, writes)


class _RefusedData(msgspec.Struct, frozen=True):
    stamp: _StampData
    live: Json
    message: str
    tries: int = 1
    at: str | None = None
    due: str | None = None
    contested: bool = False
    wanted: str = ""
    elements: dict[str, bool] = {}

    def refused(self) -> RefusedField:
        return RefusedField(
            self.stamp.stamp(),
            self.live,
            self.message,
            tries=self.tries,
            at_us=0 if self.at is None else instant.to_us(self.at),
            due_us=None if self.due is None else instant.to_us(self.due),
            contested=self.contested,
            wanted=self.wanted,
            elements=self.elements,
        )


class _WroteData(msgspec.Struct, frozen=True):
    token: str | None
    modified_before: str | None


class _Digests(msgspec.Struct, frozen=True):
    base: dict[str, str] = {}
    refused: dict[str, str] = {}


class _ReconciledData(msgspec.Struct, frozen=True):
    base: dict[str, _AgreedData]
    digests: _Digests = _Digests()
    refused: dict[str, _RefusedData] = {}
    wrote: _WroteData | None = None


_Number = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,18}$")]


class _Reconciled(msgspec.Struct, frozen=True):
    type: str
    subject: str
    time: str
    data: msgspec.Raw
    sequence: _Number = "0"  # outcomes of the first version had none: they count as older than all that have one
    kafkatopic: str = ""
    kafkapartition: int = 0
    kafkaoffset: int = 0


class Heading(NamedTuple):
    """A `reconciled` outcome without its data."""

    key: str
    number: int  # of the document's outcomes; the greatest is the last
    time: str
    place: tuple[Partition, int] | None  # in Kafka, if it comes from an exported log


class Told(NamedTuple):
    """The number and base in a `reconciled` outcome."""

    key: str
    number: int
    base: Base


_envelope = msgspec.json.Decoder(_Reconciled).decode
_reconciled = msgspec.json.Decoder(_ReconciledData).decode


def heading(text: bytes) -> Heading | None:
    """
    Return the heading of a `reconciled` outcome, `None` for an outcome of another type.

    It costs a fraction of `told`, which is needed only for the last outcome of each document. Raises ValueError if the
    text is no outcome of ours.
    """
    event = _opened_envelope(text)
    if event is None:
        return None
    place = (Partition(event.kafkatopic, event.kafkapartition), event.kafkaoffset) if event.kafkatopic else None
    return Heading(event.subject, int(event.sequence), event.time, place)


def told(text: bytes) -> Told | None:
    """
    Return the number and base in a `reconciled` outcome, `None` for an outcome of another type.

    Raises ValueError if the text is no outcome of ours.
    """
    event = _opened_envelope(text)
    if event is None:
        return None
    try:
        data = _reconciled(event.data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if is_deep([*(a.value for a in data.base.values()), *(r.live for r in data.refused.values())]):
        raise ValueError("it holds values nested too deeply")
    fields = {name: one.agreed(data.digests.base.get(name, "")) for name, one in data.base.items()}
    # A refusal whose live value is only a digest can't be compared: its field is tried again.
    refused = {
        name: one.refused() for name, one in data.refused.items() if one.contested or name not in data.digests.refused
    }
    return Told(event.subject, int(event.sequence), Base(fields, refused, _wrote(data.wrote)))


def _opened_envelope(text: bytes) -> _Reconciled | None:
    try:
        event = _envelope(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if event.type != OutcomeType.RECONCILED.value:
        return None
    if not event.subject:
        raise ValueError("it names no document")
    return event


def _wrote_data(wrote: Wrote) -> dict[str, object]:
    return {"token": wrote.token, "modified_before": wrote.modified_before}


def _wrote(data: _WroteData | None) -> Wrote | None:
    if data is None:
        return None
    return Wrote(None if data.token is None else Token(data.token), data.modified_before)


def _stamp(data: _StampData | None) -> Stamp | None:
    return None if data is None else data.stamp()


def _agreed(agreed: Agreed) -> dict[str, object]:
    found: dict[str, object] = {
        "value": agreed.value,
        "stamp": None if agreed.stamp is None else _StampData(*agreed.stamp),
        "elements": {text: _StampData(*stamp) for text, stamp in agreed.elements.items()},
    }
    if agreed.writes:
        found["writes"] = {part: [*map(instant.from_us, times)] for part, times in agreed.writes.items()}
    return found


def _refused(refused: RefusedField) -> dict[str, object]:
    return {
        "stamp": _StampData(*refused.stamp),
        "live": refused.live,
        "message": refused.message,
        "tries": refused.tries,
        "at": instant.from_us(refused.at_us),
        "due": None if refused.due_us is None else instant.from_us(refused.due_us),
        "contested": refused.contested,
        "wanted": refused.wanted,
        "elements": {**refused.elements},
    }


def _outcome(kind: OutcomeType, key: str, at_us: int, data: Mapping[str, object]) -> Outcome:
    text = msgspec.Raw(codec.encode(data))
    return Outcome(codec.digest([kind, key, at_us, text]), kind, key, at_us, text)


# ------------------------------------------------------------------------------------- dead letters read from their log


class _Line(msgspec.Struct):
    """A dead letter in a file log: bytes in Base64, and the reasons apart."""

    key: str | None
    value: str | None
    headers: list[tuple[str, str | None]]
    reasons: dict[str, str]


_line = msgspec.json.Decoder(_Line).decode


def letter_in(record: Record) -> DeadLetter | None:
    """Return the dead letter in a record of the dead-letter log, None if there is none."""
    try:
        reasons = {name: (text or b"").decode() for name, text in record.headers if name.startswith(ERRORS)}
        if reasons:
            headers = tuple(header for header in record.headers if header[0] not in reasons)
            return _letter(record, record.key, record.value, headers, reasons)
        line = _line(record.value or b"")
        headers = tuple((name, _bytes(text)) for name, text in line.headers)
        return _letter(record, _bytes(line.key), _bytes(line.value), headers, line.reasons)
    except (msgspec.DecodeError, ValueError, KeyError):
        return None


def _letter(
    record: Record, key: bytes | None, value: bytes | None, headers: Sequence[Header], reasons: Mapping[str, str]
) -> DeadLetter:
    said = {name.removeprefix(ERRORS): text for name, text in reasons.items()}
    return DeadLetter(
        place=Place(said["topic"], int(said["partition"]), int(said["offset"])),
        timestamp=record.timestamp,
        key=key,
        value=value,
        headers=tuple(headers),
        stage=said["stage"],
        reason=said["message"],
        refused_at_us=max(record.timestamp, 0) * 1000,
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


# ------------------------------------------------------------------------------------------------------------- signing

_NO_DOCUMENT: Final = "signing"
_TRAIL: Final = "audit"


class _Since(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    offset: int


class _SigningData(msgspec.Struct, frozen=True):
    since: list[_Since]


class _Began(msgspec.Struct, frozen=True):
    type: str
    data: _SigningData


_began = msgspec.json.Decoder(_Began).decode


def signing_began(noted: Noted, at_us: int, topic: str, source: str) -> Outgoing:
    """Return the record that announces where signing began, for a store that is rebuilt."""
    since: list[object] = [
        {"topic": place, "partition": partition, "offset": offset} for place, partition, offset in noted.since
    ]
    kind, data = OutcomeType.SIGNING_BEGAN, dict[str, Json](key=noted.key, since=since)
    return record(_outcome(kind, _NO_DOCUMENT, at_us, data), topic, source)


def signing_since(text: bytes) -> Mapping[Partition, int] | None:
    """Return the places where signing began that a record announces, `None` if it announces none."""
    try:
        found = _began(text)
    except (ValueError, RecursionError):
        return None
    if found.type != OutcomeType.SIGNING_BEGAN:
        return None
    return {Partition(one.topic, one.partition): one.offset for one in found.data.since}


def checkpoint(head: Head, made: Checkpoint, topic: str, source: str) -> Outgoing:
    """Return the record that announces a checkpoint of the audit trail."""
    data = {"head": str(head), "heads": list(made.heads)}
    return record(_outcome(OutcomeType.CHECKPOINT, _TRAIL, made.at_us, data), topic, source)


class _Heads(msgspec.Struct, frozen=True):
    head: str
    heads: list[str]


class _Announced(msgspec.Struct, frozen=True):
    type: str
    data: _Heads


_announced = msgspec.json.Decoder(_Announced).decode


def announced(text: bytes) -> tuple[Head, ...]:
    """Return the heads that the announcement of a checkpoint names, its own first; none if it is no such record."""
    try:
        found = _announced(text)
        named = [found.data.head, *found.data.heads] if found.type == OutcomeType.CHECKPOINT else []
        return tuple(map(parse_head, named))
    except (ValueError, RecursionError):
        return ()


def signed(record: Outgoing, topic: str, keys: Keys | None) -> Outgoing:
    """Return a record of the outcome log with its signature; without a key, or of another log, unchanged."""
    if keys is None or record.topic != topic or record.value is None:
        return record
    return record._replace(value=signing.signed(record.value, keys))
