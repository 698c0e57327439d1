"""
Events over HTTP: `POST /api/v1/events` appends change events to the log (CloudEvents 1.0, HTTP binding).

Each event is decoded here as the reconciler will decode it from the log, so that whoever sends one that can't be used
hears of it at once instead of finding a dead letter. Of several, all are appended or none.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.requests import Request

from reconciler import views
from reconciler.core.events import change_events, decode
from reconciler.model import limits
from reconciler.model.event import Outgoing
from reconciler.model.limits import EVENT_BYTES_MAX
from reconciler.web import actions, answers
from reconciler.web.answers import HttpError
from reconciler.web.endpoint import Asked, Endpoint
from reconciler.web.principal import Role
from reconciler.web.sources import Sources

PATH = "/api/v1/events"
BATCH_MAX = 100

_STRUCTURED, _BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
_ATTRIBUTE = re.compile(r"[a-z0-9]+")

_Members = dict[str, msgspec.Raw]
_members = msgspec.json.Decoder(_Members).decode
_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


async def append(sources: Sources, asked: Asked) -> views.actions.Appended:
    """Append one change event, or up to 100 at once: all of them or none. The log has them when this answers."""
    actions.require_log(sources)
    texts = await _events(asked.request)
    records: list[Outgoing] = []
    rows: list[views.actions.AppendedEvent] = []
    unusable: list[answers.RefusedEvent] = []
    forbidden: list[answers.RefusedEvent] = []
    for number, text in enumerate(texts):
        decode_options = sources.decoding()
        record = change_events.given(_attributed(text, asked.who.name), decode_options.topics)
        event = change_events.decoded(record, decode_options, sources.clock.now_us())
        source = change_events.source_of(text) if isinstance(event, str) else event.stamp.source
        if source and (reason := asked.who.refusal(source)):
            forbidden.append(answers.RefusedEvent(number=number, reason=reason))
        elif isinstance(event, str):
            unusable.append(answers.RefusedEvent(number=number, reason=event))
        else:
            records.append(record._replace(key=event.key.encode()))
            rows.append(views.actions.AppendedEvent(id=event.stamp.id, document=event.key, topic=record.topic))
    for refused, status, said in ((forbidden, 403, "may not be appended"), (unusable, 422, "can't be used")):
        if refused:
            what = refused[0].reason if len(texts) == 1 else f"{len(refused)} of {len(texts)} events {said}"
            raise HttpError(status, f"{what}; nothing was appended", errors=refused)
    await sources.log.append(records)
    by_document: dict[str, list[str]] = {}
    for row in rows:
        by_document.setdefault(row.document, []).append(row.id)
    await actions.actions_of(sources, asked).emitted(asked.who.name, by_document)
    return views.actions.Appended(items=rows)


async def _events(request: Request) -> Sequence[bytes]:
    """Return each event in its structured form, not looked at yet."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    binary = "ce-specversion" in request.headers or "ce-type" in request.headers
    if content_type not in (_STRUCTURED, _BATCH) and not binary:
        raise HttpError(415, f"send {_STRUCTURED}, {_BATCH}, or an event in binary mode with its ce- headers")
    body = await _body(request)
    if content_type == _STRUCTURED:
        return [body]
    if content_type == _BATCH:
        return _batch(body)
    return [_from_headers(request, body)]


async def _body(request: Request) -> bytes:
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > EVENT_BYTES_MAX:
            raise HttpError(413, f"a request has at most {limits.size(EVENT_BYTES_MAX)}; send the events in several")
        pieces.append(piece)
    return b"".join(pieces)


def _batch(body: bytes) -> Sequence[bytes]:
    try:
        found = [bytes(text) for text in _array(body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"a batch is a JSON array of events: {error}") from error
    if not 1 <= len(found) <= BATCH_MAX:
        raise HttpError(400, f"a batch has 1 to {BATCH_MAX} events, not {len(found)}")
    return found


def _from_headers(request: Request, body: bytes) -> bytes:
    """Put an event in binary mode together; its headers are percent-encoded (HTTP binding, section 3.1.3.2)."""
    attributes: dict[str, Any] = {}
    for name, text in request.headers.items():
        if not name.startswith("ce-"):
            continue
        attribute = name.removeprefix("ce-")
        if attribute in attributes or attribute == "data" or not _ATTRIBUTE.fullmatch(attribute):
            raise HttpError(400, f"{name}: is given twice, or is no attribute of CloudEvents")
        try:
            attributes[attribute] = unquote_to_bytes(text.encode("latin-1")).decode()
        except UnicodeDecodeError as error:
            raise HttpError(400, f"{name}: must be UTF-8 in percent-encoding") from error
    if content_type := request.headers.get("content-type"):
        attributes["datacontenttype"] = content_type
    if body:
        try:
            _ = msgspec.json.decode(body)  # so that it can't end the object that it is put into
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HttpError(400, f"the body of an event in binary mode is its data in JSON: {error}") from error
        attributes["data"] = msgspec.Raw(body)
    return msgspec.json.encode(attributes)


def _attributed(text: bytes, name: str) -> bytes:
    """Return an event with an actor: whoever sent it, where it names none. What is no object is left as it is."""
    try:
        decode.check_text(text)
        members: Mapping[str, msgspec.Raw] = _members(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return text
    if bytes(members.get("actor", b"null")) not in (b"null", b'""'):
        return text
    return msgspec.json.encode({**members, "actor": name})


_EVENT = {
    "description": "A change event, as schemas/event.schema.json describes it.",
    "type": "object",
    "required": ["specversion", "id", "source", "type", "subject", "time"],
}
ENDPOINTS = (
    Endpoint(
        method="POST",
        path=PATH,
        role=Role.OPERATOR,
        producers=True,
        call=append,
        summary=(append.__doc__ or "").strip(),
        answer=views.actions.Appended,
        status=202,
        bodies={
            _STRUCTURED: _EVENT,
            _BATCH: {"type": "array", "items": _EVENT, "minItems": 1, "maxItems": BATCH_MAX},
            "application/json": {"description": "`data` of an event in binary mode, whose attributes are ce- headers."},
        },
        problems=(413, 415, 422),
    ),
)
