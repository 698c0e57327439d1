"""
Change events that we write ourselves, and whether the reconciler would accept them.

An operator's decision is an event like any other (docs/topics.md), so before it is appended, the decoder that will read
it from the log checks it.
"""

import json
from collections.abc import Mapping

import msgspec

from reconciler.core.events import decode, part, signing
from reconciler.errors import UsageError
from reconciler.model.event import Event, Foreign, Header, Outgoing, PlainRecord, Topics
from reconciler.model.policy import OPERATORS

CONTENT_TYPE: tuple[Header, ...] = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
_LAST = 2**62  # an offset after all others


class _Sourced(msgspec.Struct):
    source: str = ""


_sourced = msgspec.json.Decoder(_Sourced).decode


def changed(
    document: str, data: Mapping[str, object], *, id: str, source: str, actor: str, time: str
) -> dict[str, object]:
    """Return a changed event; `time` is a canonical instant. Empty members of `data` are left out."""
    return _event(decode.CHANGED, document, data, id=id, source=source, actor=actor, time=time)


def released(document: str, reason: str, *, id: str, source: str, actor: str, time: str) -> dict[str, object]:
    """Return the event that releases a whole document."""
    return _event(decode.RELEASED, document, {"reason": reason}, id=id, source=source, actor=actor, time=time)


def record(event: Mapping[str, object], topics: Topics) -> Outgoing:
    """
    Return the record that appends an event: structured, keyed by its document, to the topic of its source.

    Raises UsageError.
    """
    try:
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise UsageError("an argument is not text in UTF-8") from error
    return given(text, topics)._replace(key=str(event.get("subject", "")).encode())


def given(text: bytes, topics: Topics) -> Outgoing:
    """Return a record without a key for an event in JSON, to the topic of its source; the event may be unusable."""
    return Outgoing(topics.of(source_of(text)), None, text, CONTENT_TYPE)


def source_of(text: bytes) -> str:
    """Return the source of an event; empty if it can't be read."""
    try:
        return _sourced(text).source
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def signed(record: Outgoing, options: decode.Options) -> Outgoing:
    """Return a record with its signature if it is an operator's decision and there is a key, else unchanged."""
    if options.keys is None or record.value is None:
        return record
    decides = source_of(record.value) == OPERATORS
    return record._replace(value=signing.signed(record.value, options.keys)) if decides else record


def refusal(record: Outgoing, options: decode.Options, now_us: int) -> str | None:
    """Return why the reconciler would refuse a record appended now, `None` if it would accept it."""
    found = decoded(record, options, now_us)
    return found if isinstance(found, str) else None


def decoded(record: Outgoing, options: decode.Options, now_us: int) -> Event | str:
    """Return a record as the reconciler will decode it at the end of its topic; or why it would refuse it."""
    plain = PlainRecord(record.topic, 0, _LAST, now_us // 1000, record.key, record.value, record.headers)
    match decode.record(plain, options):
        case Event() as event:
            return event
        case Foreign(type=part.ELSEWHERE):
            return "its document or source is not in this reconciler's part of the log (log.subjects, log.sources)"
        case Foreign(type=type):
            return f"type {type!r} is not one of ours, so the reconciler would skip it"
        case refused:
            return refused.reason


def on_behalf(text: bytes, actor: str) -> bytes:
    """Return an event's text with another actor; raises ValueError for what is no JSON object."""
    decode.check_text(text)
    members: dict[str, msgspec.Raw] = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**members, "actor": actor})


def _event(
    type: str, document: str, data: Mapping[str, object], *, id: str, source: str, actor: str, time: str
) -> dict[str, object]:
    event = {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": type,
        "subject": document,
        "time": time,
        "datacontenttype": "application/json",
        "actor": actor,
        "data": {member: said for member, said in data.items() if said},
    }
    return {name: said for name, said in event.items() if said != ""}
