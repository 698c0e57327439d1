"""Which trace an event belongs to, and which events an attempt is there for."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.events import traces
from reconciler.model.base import Agreed, Base
from reconciler.model.desired import Desired, Element, Field, Register
from reconciler.model.document import Agreement, Document
from reconciler.model.event import Outgoing, PlainRecord
from reconciler.model.stamp import Stamp

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
MEANT = traces.Parent(int(TRACE, 16), int(SPAN, 16), 1)
CAUSE = traces.Cause("//erp", "e1")


def record(value: object, *headers: tuple[str, bytes | None]) -> PlainRecord:
    text = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    return PlainRecord("t", 0, 0, 0, None, text, headers)


def event(**more: object) -> dict[str, object]:
    return {"source": "//erp", "id": "e1", **more}


@pytest.mark.parametrize(
    "said",
    [
        record(event(traceparent=PARENT)),
        record(event(), ("traceparent", PARENT.encode())),
        record(event(traceparent=PARENT), ("traceparent", b"00-" + b"1" * 32 + b"-" + b"1" * 16 + b"-00")),
        record(b"{}", ("ce_source", b"//erp"), ("ce_id", b"e1"), ("ce_traceparent", PARENT.encode())),
        record(None, ("ce_source", b"//erp"), ("CE_ID", b"e1"), ("traceparent", PARENT.encode())),
    ],
)
def test_an_event_says_its_trace_in_either_mode_and_its_own_word_comes_first(said: PlainRecord) -> None:
    assert traces.of(said) == (CAUSE, MEANT)


@pytest.mark.parametrize(
    "said",
    [
        record(None),
        record(event()),
        record(b'{"traceparent"'),
        record(event(traceparent=7)),
        record({"traceparent": PARENT}),
        record(event(traceparent=f"ff-{TRACE}-{SPAN}-01")),
        record(event(traceparent=f"00-{'0' * 32}-{SPAN}-01")),
        record(event(traceparent=f"00-{TRACE}-{'0' * 16}-01")),
        record(event(traceparent=PARENT.upper())),
        record(event(traceparent=PARENT + "\r\nx: y")),
        record(b"[" * 100_000 + b'"traceparent"'),
    ],
)
def test_what_is_no_trace_is_none(said: PlainRecord) -> None:
    assert traces.of(said) is None


@given(st.binary(), st.lists(st.tuples(st.text(), st.none() | st.binary())))
def test_no_record_raises(value: bytes, headers: list[tuple[str, bytes | None]]) -> None:
    traces.of(record(b'"traceparent"' + value, *headers))


def stamp(second: int, name: str) -> Stamp:
    return Stamp("", f"2026-11-22T10:00:{second:02}.000000Z", "", "t", 0, second, "//erp", name)


def test_an_attempt_is_there_for_the_claims_that_are_newer_than_what_was_agreed() -> None:
    desired = Desired(
        {
            "agreed": Field(Register(stamp(1, "old"), "x")),
            "moved": Field(Register(stamp(5, "new"), "x")),
            "first": Field(Register(stamp(5, "new"), "x")),
            "set": Field(None, {'"a"': Element(stamp(7, "added"), True)}),
        }
    )
    base = Base({"agreed": Agreed("x", stamp(1, "old")), "moved": Agreed("w", stamp(2, "older"))})
    document = Document("d", desired, agreement=Agreement(base=base))
    assert traces.causes(document) == [traces.Cause("//erp", "added"), traces.Cause("//erp", "new")]


def test_an_outcome_names_its_trace_beside_everything_it_said() -> None:
    outcome = Outgoing("outcomes", b"d", b'{"data":{"base":{"x":1e3}},"id":"o1"}')
    told = traces.told(outcome, PARENT)
    assert told.value == b'{"data":{"base":{"x":1e3}},"id":"o1","traceparent":"' + PARENT.encode() + b'"}'
    assert traces.told(outcome._replace(value=None), PARENT).value is None
