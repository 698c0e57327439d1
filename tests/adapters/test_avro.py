"""Avro → JSON: what each type becomes, and that no bytes do harm."""

import json
import struct
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.adapters import avro
from tests.brokers.registry import framed

MOMENT = datetime(2026, 11, 22, 10, 0, 0, 123000, tzinfo=UTC)


def logical(kind: str, logical_type: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": logical_type, **more}


def read(schema: Any, value: Any) -> Any:
    return avro.reader(json.dumps(schema))(framed(1, schema, value)[5:])


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        ("null", None, None),
        ("boolean", True, True),
        ("long", -(2**63), -(2**63)),
        ("double", 0.1, 0.1),
        ("float", 0.1, struct.unpack("<f", struct.pack("<f", 0.1))[0]),
        ("string", "Ü", "Ü"),
        ("bytes", b"\x00\xff", "AP8="),
        ({"type": "fixed", "name": "f", "size": 2}, b"\x00\xff", "AP8="),
        ({"type": "enum", "name": "e", "symbols": ["A", "B"]}, "B", "B"),
        ({"type": "array", "items": "int"}, [1, 2], [1, 2]),
        ({"type": "map", "values": "int"}, {"a": 1}, {"a": 1}),
        (["null", "string"], "x", "x"),
        (["null", "string"], None, None),
        (logical("bytes", "decimal", precision=20, scale=2), Decimal("-12.50"), "-12.50"),
        (logical("bytes", "decimal", precision=20, scale=12), Decimal("1E-12"), "0.000000000001"),
        (logical("fixed", "decimal", name="d", size=8, precision=10, scale=2), Decimal("7.00"), "7.00"),
        (logical("string", "uuid"), UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (logical("int", "date"), date(2026, 11, 22), "2026-11-22"),
        (logical("int", "time-millis"), time(10, 0, 0, 123000), "10:00:00.123000"),
        (logical("long", "time-micros"), time(10, 0), "10:00:00.000000"),
        (logical("long", "timestamp-millis"), MOMENT, "2026-11-22T10:00:00.123000Z"),
        (logical("long", "timestamp-micros"), MOMENT, "2026-11-22T10:00:00.123000Z"),
        (logical("long", "local-timestamp-millis"), MOMENT.replace(tzinfo=None), "2026-11-22T10:00:00.123000"),
        (logical("long", "timestamp-nanos"), 1795341600123456789, 1795341600123456789),
        (logical("int", "of-our-own"), 5, 5),
    ],
)
def test_each_type_has_one_form_in_json(schema: Any, value: Any, said: Any) -> None:
    assert read(schema, value) == said


@pytest.mark.parametrize(
    ("schema", "body", "said"),
    [
        ("string", b"\x08ab", "ends too early"),
        ("string", b"\x04\xff\xfe", "utf-8"),
        ("int", b"\x02abc", "3 bytes follow its end"),
        ("double", b"\0\0\0\0\0\0\xf8\x7f", "nan, which JSON does not have"),
        (["null", "int"], b"\x0e", "names a branch"),
        (logical("long", "timestamp-millis"), b"\xff" * 9 + b"\x01", "Error"),
        ("bytes", b"\xfe\xff\xff\xff\xff\xff\x0f", "ends too early"),
    ],
)
def test_bytes_of_another_schema_are_refused_with_a_reason(schema: Any, body: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        avro.reader(json.dumps(schema))(body)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "record", "name": "a.L", "fields": [{"name": "n", "type": ["null", "L"]}]}, "a.L contains itself"),
        ({"type": "array", "items": "null"}, "take no bytes"),
        ({"type": "array", "items": {"type": "record", "name": "E", "fields": []}}, "take no bytes"),
        ({"type": "map", "values": {"type": "array", "items": {"type": "null"}}}, "take no bytes"),
        ({"type": "nope"}, "is not an Avro schema"),
        ("nope", "is not an Avro schema"),
    ],
)
def test_a_schema_that_can_do_harm_is_refused(schema: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        avro.reader(json.dumps(schema))


def test_a_schema_may_refer_to_others() -> None:
    part = {"type": "record", "name": "a.Part", "fields": [{"name": "n", "type": "int"}]}
    whole = {"type": "record", "name": "a.Whole", "fields": [{"name": "p", "type": "a.Part"}]}
    assert avro.reader(json.dumps(whole), [json.dumps(part)])(b"\x0a") == {"p": {"n": 5}}


EVERYTHING = {
    "type": "record",
    "name": "R",
    "fields": [
        {"name": "a", "type": ["null", "string", {"type": "array", "items": "bytes"}]},
        {"name": "b", "type": {"type": "map", "values": ["int", logical("int", "date")]}},
        {"name": "c", "type": ["null", logical("bytes", "decimal", precision=4, scale=2), logical("string", "uuid")]},
        {"name": "d", "type": ["double", logical("long", "timestamp-micros"), logical("int", "time-millis")]},
    ],
}
READ = avro.reader(json.dumps(EVERYTHING))


@given(st.binary(max_size=80))
def test_no_bytes_do_anything_but_give_json_or_a_reason(body: bytes) -> None:
    try:
        found = READ(body)
    except ValueError:
        return
    assert json.loads(json.dumps(found, allow_nan=False)) == READ(body)
