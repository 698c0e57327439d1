"""
Framing: the content of a record → JSON, in the format that its `[[source]]` names (docs/sources.md).

Serialisers of a schema registry begin a key or a value with a zero byte and the number of its schema (4 bytes,
big-endian); the content follows. JSON never begins with a zero byte, so the two can't be taken for each other.

Rules of this file:
1. It is a pure function of the bytes and the schema, so a record gives the same JSON whenever it is read.
2. A schema's number never changes its meaning, so `Schemas` only grows. Others fill it before they hand a record on
   (`adapters/framed_log.py`); a number that no one knows is refused here.

Source: "Wire format" in the documentation of Confluent's Schema Registry.
"""

from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

import attrs
import msgspec

from reconciler.core.events import profile
from reconciler.model.value import Json

Format: TypeAlias = Literal["json", "avro", "json-schema"]
JSON: Final = "json"
AVRO: Final = "avro"
Reader: TypeAlias = Callable[[bytes], Json]  # raises ValueError for bytes that are not of its schema

_ZERO = b"\0"
_HEAD = 5  # bytes before the content
_json = msgspec.json.Decoder().decode


@attrs.define(eq=False)
class Schemas:
    """The schemas that are known so far, by number, and why others can't be used."""

    readers: dict[int, Reader] = attrs.field(factory=dict)
    unusable: dict[int, str] = attrs.field(factory=dict)


def is_framed(content: bytes | None) -> bool:
    """Whether this begins as a schema registry's serialisers write it."""
    return content is not None and content.startswith(_ZERO)


def schema_id(content: bytes | None) -> int | None:
    """Return the number of the schema that content names, None if it names none."""
    if content is None or not is_framed(content) or len(content) < _HEAD:
        return None
    return int.from_bytes(content[1:_HEAD], "big")


def parsed(content: bytes, form: Format, schemas: Schemas) -> Any:
    """Return the JSON value of a key or a value. Raises `profile.Invalid`."""
    if form == JSON:
        return _of_json(content)
    number = schema_id(content)
    if number is None:
        raise profile.Invalid(f"it ends after {len(content)} bytes, within a schema registry's framing")
    if form != AVRO:
        return _of_json(content[_HEAD:])
    if number in schemas.unusable:
        raise profile.Invalid(schemas.unusable[number])
    if number not in schemas.readers:
        raise profile.Invalid(f"no one has asked for its schema {number} yet")
    try:
        return schemas.readers[number](content[_HEAD:])
    except ValueError as error:
        raise profile.Invalid(f"it is not Avro of its schema {number}: {error}") from error


def advice(content: bytes) -> str:
    """Say what lets a framed record be read, where nothing says so yet."""
    number = schema_id(content)
    named = "" if number is None else f", schema {number}"
    return (
        f"it is in a schema registry's wire format (it begins with a zero byte{named}); to read it, set `format` of a"
        ' [[source]] for its topic to "avro" or "json-schema", or let the producer write plain JSON'
    )


def _of_json(content: bytes) -> Any:
    try:
        return _json(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise profile.Invalid(f"not JSON, or nested too deeply: {error}") from error
