"""
Traces: the trace of an event, and the events that caused an attempt.

A trace is not folded, so rows, their bytes and their cost are the same with and without it. It is read from the record
itself.
"""

import re
from typing import NamedTuple

import msgspec

from reconciler.model.document import Document
from reconciler.model.event import Outgoing, Record
from reconciler.model.stamp import Stamp

_MEMBER = b'"traceparent"'
# W3C Trace Context, level 1: a version that is not ff, and ids that are not all zeros.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Parent(NamedTuple):
    """A producer's span: the numbers of a `traceparent`."""

    trace: int
    span: int
    flags: int


class Cause(NamedTuple):
    """An event by its identity: in CloudEvents, source and id name one event."""

    source: str
    id: str


class _Named(msgspec.Struct, frozen=True):
    source: str
    id: str
    traceparent: str = ""


_named = msgspec.json.Decoder(_Named).decode


def of(record: Record) -> tuple[Cause, Parent] | None:
    """
    Return an event and its trace; None if the record names no valid one.

    CloudEvents' own attribute comes before a `traceparent` header, which instrumented producers set.
    """
    headers = {name.lower(): value for name, value in record.headers} if record.headers else {}
    if not headers and (record.value is None or _MEMBER not in record.value):
        return None
    said = _header(headers, "ce_traceparent") or _header(headers, "traceparent")
    source, event = _header(headers, "ce_source"), _header(headers, "ce_id")
    if record.value is not None and not (source and event):
        try:
            found = _named(record.value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        source, event, said = found.source, found.id, found.traceparent or said
    parent = parsed(said)
    return None if parent is None or not (source and event) else (Cause(source, event), parent)


def parsed(traceparent: str) -> Parent | None:
    """Return the parent in a `traceparent`, None for an invalid one."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return None if found is None else Parent(int(found[1], 16), int(found[2], 16), int(found[3], 16))


def causes(document: Document) -> list[Cause]:
    """Return the events whose claims are newer than the agreed ones, newest first: the causes of an attempt."""
    stamps: set[Stamp] = set()
    base = document.agreement.base.fields
    for name, field in document.desired.fields.items():
        agreed = base.get(name)
        since = None if agreed is None else agreed.stamp
        stamps.update(claim.stamp for claim in field.claims if since is None or claim.stamp > since)
    return [Cause(stamp.source, stamp.id) for stamp in sorted(stamps, reverse=True)]


def told(outcome: Outgoing, traceparent: str) -> Outgoing:
    """Return an outcome with its trace (CloudEvents' extension for distributed tracing)."""
    if outcome.value is None:
        return outcome
    event = {**msgspec.json.decode(outcome.value, type=dict[str, msgspec.Raw]), "traceparent": traceparent}
    return outcome._replace(value=msgspec.json.encode(event, order="deterministic"))


def _header(headers: dict[str, bytes | None], name: str) -> str:
    return (headers.get(name) or b"").decode(errors="replace")
