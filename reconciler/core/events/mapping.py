"""
Mapping: a record of another shape → the members of one of our change events, as `[[source]]` says (docs/sources.md).

Rules of this file:
1. It is a pure function of the record and the mapping: a record gives the same event whenever and wherever it is read.
2. Nothing depends on the record's place. The event's `id` comes from the payload, or is its digest, so a copy of a
   record is the same event. Only a source without a `time` of its own takes the record's timestamp, and is then not
   protected against copies.
3. What a table does not have, and a record that says nothing, is refused with a reason that names it.
4. An expression that finds nothing says nothing, unless its field is `clear`: JMESPath has one null for a member that
   is missing and one that is null.

Theory of operation: the first source of a record's topic whose headers and `when` fit takes it. `said` returns the
members of a CloudEvent; `decode` checks them as it checks every other event. The mapping's digest is part of the
claim's reason, so each claim says how it was read. The store keeps the definitions in force (`flows/reading.py`), and
`changed` says whether another one may go on from there.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias

import attrs

from reconciler.core.events import framing, profile, timing
from reconciler.core.events.expressions import Expression
from reconciler.core.events.framing import Format, Schemas
from reconciler.model import instant
from reconciler.model.event import Record
from reconciler.model.value import Json, canonical

Scalar: TypeAlias = str | int | float | bool
Table: TypeAlias = Mapping[str, Scalar]

RFC_3339: Final = "rfc3339"
# Digits of a whole number of these per second.
EPOCHS: Final = {"epoch_s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000, "epoch_ns": 1_000_000_000}
_SEQUENCE_DIGITS = 20  # of a number used as a sequence: sequences are compared as text
_DIGEST_SHOWN = 12


@attrs.frozen
class Pick:
    """Where a value comes from: an expression, and the name of a table that translates what it finds."""

    expression: Expression
    table: str = ""
    clear: bool = False  # whether null clears the field


@attrs.frozen(kw_only=True)
class Source:
    """One `[[source]]`: which records it takes, and what they say."""

    name: str
    source: str
    topic: str
    document: Pick
    format: Format = framing.JSON
    schemas: Schemas = attrs.field(factory=Schemas, eq=False, repr=False)  # known so far; for Avro
    headers: Mapping[str, str] = attrs.field(factory=dict)  # name → glob
    whole: bool = False  # expressions see the whole record, not only its value
    when: Expression | None = None
    released: Expression | None = None
    time: Pick | None = None
    time_format: str = RFC_3339
    zone: tzinfo | None = None
    id: Pick | None = None
    sequence: Pick | None = None
    actor: Pick | None = None
    reason: Pick | None = None
    set: Mapping[str, Pick] = attrs.field(factory=dict)
    add: Mapping[str, Pick] = attrs.field(factory=dict)
    remove: Mapping[str, Pick] = attrs.field(factory=dict)
    release: Mapping[str, Expression] = attrs.field(factory=dict)
    tables: Mapping[str, Table] = attrs.field(factory=dict)
    definition: Mapping[str, object] = attrs.field(factory=dict)  # as it was written, without its tables
    mark: str = attrs.field(init=False)  # the end of each claim's reason: it identifies the mapping with its tables

    @mark.default
    def _digest(self) -> str:
        digest = hashlib.sha256(canonical(self.written).encode()).hexdigest()
        return f"[{self.name} {digest[:_DIGEST_SHOWN]}]"

    @property
    def written(self) -> dict[str, object]:
        """The mapping with its tables, as the store keeps it."""
        return {"definition": self.definition, "tables": self.tables}


UNPROTECTED: Final = (
    "has no `time` of its own, so a copy of a record is a new event, and a record that is sent again can bring back an"
    " old value"
)
Sources: TypeAlias = Mapping[str, Sequence[Source]]  # by topic, in the order of the configuration


def taken(sources: Sequence[Source], record: Record) -> tuple[Source, Any] | None:
    """
    Return the first source that takes a record, and the record's JSON value; None if no source does.

    A framed record is for sources of a framed format, any other for those of plain JSON. Raises `profile.Invalid`.
    """
    content = record.value or b""
    framed = framing.is_framed(content)
    open_to = [one for one in sources if (one.format != framing.JSON) is framed]
    if not open_to and framed:
        raise profile.Invalid(framing.advice(content))
    if not open_to:
        raise profile.Invalid(
            f"it is not in a schema registry's wire format, as `format` of [[source]] {sources[0].name} says: it does"
            " not begin with a zero byte"
        )
    found = {form: framing.parsed(content, form, open_to[0].schemas) for form in {one.format for one in open_to}}
    for source in open_to:
        value = found[source.format]
        if _headers_fit(source, record) and (source.when is None or source.when.holds(_seen(source, record, value))):
            return source, value
    return None


def schema_ids(sources: Sequence[Source], record: Record) -> list[int]:
    """Return the numbers of the schemas without which a record can't be read."""
    avro = [one for one in sources if one.format == framing.AVRO]
    contents = (record.value, record.key if any(one.whole for one in avro) else None) if avro else ()
    return [number for one in contents if (number := framing.schema_id(one)) is not None]


def said(source: Source, record: Record, found: Any) -> dict[str, Any]:
    """Return the members of the event that a record with this payload means. Raises `profile.Invalid`."""
    found = _seen(source, record, found)
    releases = source.released is not None and source.released.holds(found)
    data = {"reason": _reason(source, found)} if releases else _data(source, found)
    members = {
        "specversion": "1.0",
        "type": "windchill.document.released.v1" if releases else "windchill.document.changed.v1",
        "id": _identity(source, record, found),
        "source": source.source,
        "subject": _required(source, "document", source.document, found),
        "time": _time(source, record, found),
        "sequence": _sequence(source, found),
        "actor": _optional(source, "actor", source.actor, found),
        "data": data,
    }
    return {name: value for name, value in members.items() if value is not None}


def _data(source: Source, found: Any) -> dict[str, Any]:
    wanted = {}
    for field, pick in source.set.items():
        value = _looked_up(source, field, pick, found)
        if value is not None or pick.clear:
            wanted[field] = value
    elements = {
        member: {
            field: value if isinstance(value, list) else [value]
            for field, pick in picks.items()
            if (value := _looked_up(source, field, pick, found)) not in (None, [])
        }
        for member, picks in (("add", source.add), ("remove", source.remove))
    }
    release = [field for field, expression in source.release.items() if expression.holds(found)]
    if not wanted and not release and not any(elements.values()):
        raise profile.Invalid(
            "this payload has none of the source's fields; narrow `when` to the records that say something, or set"
            " `clear` where null means that the field is cleared"
        )
    return {"set": wanted, **elements, "release": release, "reason": _reason(source, found)}


def _headers_fit(source: Source, record: Record) -> bool:
    if not source.headers:
        return True
    texts = {name.lower(): (said or b"").decode(errors="replace") for name, said in record.headers}
    return all(fnmatchcase(texts.get(name.lower(), ""), glob) for name, glob in source.headers.items())


def _seen(source: Source, record: Record, found: Any) -> Any:
    """Return what a source's expressions see."""
    if not source.whole:
        return found
    headers = {name: None if said is None else said.decode(errors="replace") for name, said in record.headers}
    return {
        "key": _key(source, record.key or b""),
        "headers": headers,
        "topic": record.topic,
        "timestamp": record.timestamp,
        "value": found,
    }


def _key(source: Source, key: bytes) -> Any:
    """Return a key as JSON if it is JSON, or framed as the source says; otherwise as text."""
    if framing.is_framed(key) and source.format != framing.JSON:
        return framing.parsed(key, source.format, source.schemas)
    try:
        return framing.parsed(key, framing.JSON, source.schemas)
    except profile.Invalid:
        return key.decode(errors="replace")


# -------------------------------------------------------------------------------------------------------------- values


def _looked_up(source: Source, member: str, pick: Pick, found: Any) -> Json:
    """Return a value, translated by its table if it has one; of a list, each element."""
    value = pick.expression.of(found)
    if not pick.table or value is None:
        return value
    if isinstance(value, list):
        return [_entry(source, member, pick, one) for one in value]
    return _entry(source, member, pick, value)


def _entry(source: Source, member: str, pick: Pick, value: object) -> Json:
    table = source.tables[pick.table]
    key = value if isinstance(value, str) else canonical(value)
    if key not in table:
        raise profile.Invalid(
            f"table {pick.table} has no entry for {key!r} (`{member}`); add it, restart, and replay this dead letter"
        )
    return table[key]


def _optional(source: Source, member: str, pick: Pick | None, found: Any) -> str | None:
    """Return a text, None without a value; whole numbers become text."""
    value = None if pick is None else _looked_up(source, member, pick, found)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise profile.Invalid(f"`{member}` must be a text, not {canonical(value)[:80]}")


def _required(source: Source, member: str, pick: Pick, found: Any) -> str:
    text = _optional(source, member, pick, found)
    if not text:
        raise profile.Invalid(f"`{member}` (`{pick.expression.text}`) finds nothing in this payload")
    return text


def _reason(source: Source, found: Any) -> str:
    return f"{_optional(source, 'reason', source.reason, found) or ''} {source.mark}".lstrip()


def _identity(source: Source, record: Record, found: Any) -> str:
    if source.id is not None:
        return _required(source, "id", source.id, found)
    return hashlib.sha256(record.value or b"").hexdigest()


def _sequence(source: Source, found: Any) -> str | None:
    text = _optional(source, "sequence", source.sequence, found)
    return text.rjust(_SEQUENCE_DIGITS, "0") if text is not None and text.isascii() and text.isdecimal() else text


def _time(source: Source, record: Record, found: Any) -> str:
    if source.time is None:
        if record.timestamp <= 0:
            raise profile.Invalid("the source has no `time`, and the record has no timestamp")
        return timing.of_record(record.timestamp * 1000)
    text = _required(source, "time", source.time, found)
    if source.time_format == RFC_3339:
        return text
    try:
        if source.time_format in EPOCHS:
            return instant.from_us(int(text) * instant.SECOND_US // EPOCHS[source.time_format])
        moment = datetime.strptime(text, source.time_format)  # noqa: DTZ007  the zone follows
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=source.zone)
        return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError) as error:
        raise profile.Invalid(f"`time` is {text!r}, which is not {source.time_format}: {error}") from error


# ------------------------------------------------------------------------------------------------------------- changes


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """
    Return what is different between two definitions of one source, None if nothing that was read can be.

    New entries of a table change nothing: a record that needed one was refused, and can be replayed.
    """
    if before.get("definition") != now.get("definition"):
        return "its expressions or other settings"
    for name, table in before.get("tables", {}).items():
        kept = now.get("tables", {}).get(name, {})
        for key, value in table.items():
            if key not in kept or canonical(kept[key]) != canonical(value):
                return f"entry {key!r} of table {name}"
    return None
