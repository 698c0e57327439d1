"""
Avro: one value in binary encoding → JSON, by fastavro (extra `avro`).

Rules
- The same bytes give the same JSON for good, whatever version of fastavro reads them. So only the logical types of
  `_LOGICAL` count; any other is read as the type below it, as Avro asks of readers that don't know one.
- Text for what JSON has no exact form of: base64 for bytes, plain digits for decimals, RFC 3339 for times.
- A value of a union is that value, without the name of its branch.
- No record may cost more than its size: a schema with arrays whose elements take no bytes is refused, because a few
  bytes would stand for billions of them.

Source: Apache Avro 1.12, sections "Binary Encoding" and "Logical Types".
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs
import msgspec

from reconciler.core.events.framing import Reader
from reconciler.errors import ConfigError
from reconciler.model.value import Json

_LOGICAL = {
    "bytes-decimal", "fixed-decimal", "string-uuid", "int-date", "int-time-millis", "long-time-micros",
    "long-timestamp-millis", "long-timestamp-micros", "long-local-timestamp-millis", "long-local-timestamp-micros",
}  # fmt: skip


def require() -> None:
    """Raise ConfigError unless the extra `avro` is installed."""
    _library()


def reader(text: str, references: Sequence[str] = ()) -> Reader:
    """
    Return what reads values of a schema; `references` are the schemas that it refers to, each after its own.

    Raises ValueError if the schema can't be used.
    """
    library = _library()
    named: dict[str, Any] = {}
    try:
        for one in (*references, text):
            schema = library.parse_schema(_kept(msgspec.json.decode(one)), named_schemas=named)
    except Exception as error:  # fastavro raises KeyError and others for what is no schema
        raise ValueError(f"it is not an Avro schema: {_line(error)}") from error
    _Checked(named).takes_nothing(schema)

    def read(body: bytes) -> Json:
        stream = io.BytesIO(body)
        try:
            value = library.schemaless_reader(stream, schema, None)
        except (EOFError, IndexError) as error:
            raise ValueError("it ends too early, or names a branch that the schema does not have") from error
        except Exception as error:  # OverflowError and others, by what is wrong
            raise ValueError(_line(error)) from error
        if left := len(body) - stream.tell():
            raise ValueError(f"{left} bytes follow its end")
        return _json(value)

    return read


def _library() -> Any:
    try:
        import fastavro  # noqa: PLC0415  an extra
    except ImportError as error:
        raise ConfigError(
            "source.format: \"avro\" needs what is not installed: pip install 'windchill-reconciler[avro]'"
        ) from error
    return fastavro


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _kept(schema: Any) -> Any:
    """Return a schema without the logical types that we don't know."""
    if isinstance(schema, list):
        return [_kept(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    known = f"{schema.get('type')}-{schema.get('logicalType')}" in _LOGICAL
    return {name: _kept(value) for name, value in schema.items() if name != "logicalType" or known}


@attrs.frozen
class _Checked:
    """Looks for what would let a small record cost much: the library reads in C, without a limit of its own."""

    named: Mapping[str, Any]
    seen: dict[str, bool | None] = attrs.field(factory=dict)  # None: being looked at

    def takes_nothing(self, schema: Any) -> bool:
        """Return whether a value takes no bytes. Raises ValueError for a schema that is not safe."""
        if isinstance(schema, str):
            return self._named(schema) if schema in self.named else schema == "null"
        if isinstance(schema, list):
            for one in schema:
                self.takes_nothing(one)
            return False  # the branch's number takes a byte
        match schema["type"]:
            case "record":
                return self._named(schema["name"])
            case "array":
                if self.takes_nothing(schema["items"]):
                    raise ValueError("elements of an array take no bytes, so a small record may have billions of them")
                return False
            case "map":
                self.takes_nothing(schema["values"])
                return False  # each key takes a byte
            case "fixed":
                return bool(schema["size"] == 0)
            case "enum":
                return False
            case inner:
                return self.takes_nothing(inner)

    def _named(self, name: str) -> bool:
        if name not in self.seen:
            self.seen[name] = None
            schema = self.named[name]
            inner = [field["type"] for field in schema["fields"]] if "fields" in schema else [schema]
            found = [self.takes_nothing(one) for one in inner]
            self.seen[name] = all(found)
        if (known := self.seen[name]) is None:
            raise ValueError(f"{name} contains itself; a record could be nested so deeply that reading it fails")
        return known


def _json(value: object) -> Json:
    """Return what a value is in JSON. Raises ValueError for what it can't be."""
    match value:
        case dict():
            return {name: _json(one) for name, one in value.items()}
        case list():
            return [_json(one) for one in value]
        case bytes():
            return base64.b64encode(value).decode()
        case Decimal():
            return format(value, "f")
        case datetime():
            return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
        case time():
            return value.isoformat(timespec="microseconds")
        case date() | UUID():
            return str(value)
        case float() if not math.isfinite(value):
            raise ValueError(f"a number is {value}, which JSON does not have")
    return value  # type: ignore[return-value]  # null, a truth value, a number or a text
