"""
Archive lines: records of a log as lines of a file that fold to the very same state (docs/topics.md).

A line is one structured-mode event, with the record's place and timestamp as extension attributes. Values are copied
byte for byte, never decoded and encoded again: a number must not change its last digit on its way through an archive.
A record in binary mode becomes a structured one; a tombstone becomes a released event with the stamp of the tombstone;
a record of another shape becomes the event that its `[[source]]` makes of it now.
"""

import base64
from collections.abc import Mapping

import attrs
import msgspec

from reconciler.core.events import decode
from reconciler.model import instant
from reconciler.model.event import Event, PlainRecord, Record

_PLACE = ("kafkatopic", "kafkapartition", "kafkaoffset")
_ARCHIVED = (*_PLACE, "recordedtime")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


@attrs.frozen
class Line:
    """A record's line; if not `usable`, a replay would refuse it although the log's reader accepts the record."""

    text: bytes
    usable: bool


def of(record: Record, options: decode.Options) -> Line | None:
    """
    Return a record's line, or `None` if it is not an event in any mode (it is a dead letter).

    `options` are those that the log is decoded with. The line is decoded as a replay will do it, and compared.
    """
    here = decode.record(record, options)
    said = decode.meant(record, options) if isinstance(here, Event) else None
    if said is not None:
        text: bytes | None = _line(_raw(said) | _place(record))
    else:
        text = _from_file(record, believed=isinstance(here, Event)) if options.archived else _from_kafka(record)
    if text is None:
        return None
    bare = PlainRecord(record.topic, record.partition, record.offset, 0, None, text.rstrip(), ())
    there = decode.record(bare, attrs.evolve(options, archived=True, vouched=True, sources={}))
    if isinstance(there, Event) and not isinstance(here, Event):
        return None  # without its headers, an unusable record must not become usable
    return Line(text, here == there or not isinstance(here, Event))


def _from_kafka(record: Record) -> bytes | None:
    try:
        members = _binary(record) or _structured(record)
        if members is None:
            return None
        place = _place(record)
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RecursionError):
        return None
    return _line({name: value for name, value in members.items() if name not in _ARCHIVED} | place)


def _from_file(record: Record, *, believed: bool) -> bytes | None:
    """
    Return a line of a file with its place; a line that says where its record stood keeps saying so if it is `believed`.

    A refused record must not be accepted later because of the place it names itself.
    """
    try:
        members = _members(record.value or b"")
        place = {} if believed and all(name in members for name in _PLACE) else _place(record)
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RecursionError):
        return None
    return _line(members | place)


def _place(record: Record) -> dict[str, msgspec.Raw]:
    place: dict[str, str | int] = {
        "kafkatopic": record.topic,
        "kafkapartition": record.partition,
        "kafkaoffset": record.offset,
    }
    if record.timestamp > 0:
        place["recordedtime"] = instant.from_us(record.timestamp * 1000)
    return _raw(place)


def _structured(record: Record) -> dict[str, msgspec.Raw] | None:
    if record.value is None:
        return _tombstone(record)
    return _members(record.value)


def _tombstone(record: Record) -> dict[str, msgspec.Raw] | None:
    """Return a released event with the tombstone's stamp, as `decode` gives it."""
    bare = PlainRecord(record.topic, record.partition, record.offset, record.timestamp, record.key, None, ())
    event = decode.record(bare, decode.Options())
    if not isinstance(event, Event):
        return None
    stamp = event.stamp
    said = {
        "specversion": "1.0",
        "id": stamp.id,
        "source": stamp.source,
        "type": decode.RELEASED,
        "subject": event.key,
        "time": stamp.time,
    }
    return _raw(said)


def _binary(record: Record) -> dict[str, msgspec.Raw] | None:
    """Return the members of a record in binary mode, or `None` if it may be a structured one."""
    found = {name.lower(): value for name, value in record.headers}
    content_type = (found.get("content-type") or b"").decode().lower()
    if content_type.startswith("application/cloudevents") or not ("ce_specversion" in found or "ce_type" in found):
        return None
    members = {
        name.removeprefix("ce_"): msgspec.Raw(_encode(None if value is None else value.decode()))
        for name, value in found.items()
        if name.startswith("ce_") and name != "ce_data"
    }
    if content_type:
        members["datacontenttype"] = msgspec.Raw(_encode(content_type))
    return members | _data(record.value or b"null")


def _data(value: bytes) -> dict[str, msgspec.Raw]:
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"data_base64": msgspec.Raw(_encode(base64.b64encode(value).decode()))}
    return {"data": msgspec.Raw(value)}


def _raw(values: Mapping[str, object]) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(_encode(value)) for name, value in values.items()}


def _line(members: dict[str, msgspec.Raw]) -> bytes:
    # Inside a JSON text, raw line breaks can only be white space between its tokens.
    return _encode(members).replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"
