"""
Events over HTTP: `POST /api/v1/events` appends change events to the log (CloudEvents 1.0, HTTP binding).

Each event is decoded as the reconciler will decode it from the log, so that the sender of an unusable one learns of it
at once and not from a dead letter. Of several events, all are appended or none.
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
from reconciler.web import action_api, inputs, responses
from reconciler.web.endpoint import Call, Endpoint
from reconciler.web.principal import Role
from reconciler.web.responses import HttpError
from reconciler.web.services import Services

PATH = "/api/v1/events"
BATCH_MAX = 100

_STRUCTURED, _BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
_ATTRIBUTE = re.compile(r"[a-z0-9]+")

_Members = dict[str, msgspec.Raw]
_members = msgspec.json.Decoder(_Members).decode
_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


async def append(services: Services, call: Call) -> views.actions.Appended:
    """Append one change event, or up to 100: all or none. They are in the log when this answers."""
    action_api.require_log(services)
    texts = await _events(call.request)
    records: list[Outgoing] = []
    rows: list[views.actions.AppendedEvent] = []
    unusable: list[responses.RefusedEvent] = []
    forbidden: list[responses.RefusedEvent] = []
    for number, text in enumerate(texts):
        decode_options = services.decoding()
        record = change_events.given(_attributed(text, call.who.name), decode_options.topics)
        event = change_events.decoded(record, decode_options, services.clock.now_us())
        source = change_events.source_of(text) if isinstance(event, str) else event.stamp.source
        if source and (reason := call.who.refusal(source)):
            forbidden.append(responses.RefusedEvent(number=number, reason=reason))
        elif isinstance(event, str):
            unusable.append(responses.RefusedEvent(number=number, reason=event))
        else:
            records.append(record._replace(key=event.key.encode()))
            rows.append(views.actions.AppendedEvent(id=event.stamp.id, document=event.key, topic=record.topic))
    for refused, status, said in ((forbidden, 403, "may not be appended"), (unusable, 422, "can't be used")):
        if refused:
            what = refused[0].reason if len(texts) == 1 else f"{len(refused)} of {len(texts)} events {said}"
            raise HttpError(status, f"{what}; nothing was appended", errors=refused)
    await services.log.append(records)
    by_document: dict[str, list[str]] = {}
    for row in rows:
        by_document.setdefault(row.document, []).append(row.id)
    await action_api.actions_of(services, call).emitted(call.who.name, by_document)
    return views.actions.Appended(items=rows)


async def _events(request: Request) -> Sequence[bytes]:
    """Return each event in its structured form, not yet decoded."""
    content_type = inputs.content_type(request)
    binary = "ce-specversion" in request.headers or "ce-type" in request.headers
    if content_type not in (_STRUCTURED, _BATCH) and not binary:
        raise HttpError(415, f"send {_STRUCTURED}, {_BATCH}, or an event in binary mode with its ce- headers")
    too_large = HttpError(
        413, f"the body is larger than {limits.size(EVENT_BYTES_MAX)}; send the events in several requests"
    )
    body = await inputs.read(request, too_large, EVENT_BYTES_MAX)
    if content_type == _STRUCTURED:
        return [body]
    if content_type == _BATCH:
        return _batch(body)
    return [_from_headers(request, body)]


def _batch(body: bytes) -> Sequence[bytes]:
    try:
        found = [bytes(text) for text in _array(body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"a batch must be a JSON array of events: {error}") from error
    if not 1 <= len(found) <= BATCH_MAX:
        raise HttpError(400, f"a batch must have 1 to {BATCH_MAX} events, not {len(found)}")
    return found


def _from_headers(request: Request, body: bytes) -> bytes:
    """Build an event from binary mode, with percent-encoded headers (HTTP binding, section 3.1.3.2)."""
    attributes: dict[str, Any] = {}
    for name, text in request.headers.items():
        if not name.startswith("ce-"):
            continue
        attribute = name.removeprefix("ce-")
        if attribute in attributes or attribute == "data" or not _ATTRIBUTE.fullmatch(attribute):
            raise HttpError(400, f"{name}: given twice, or not a CloudEvents attribute")
        try:
            attributes[attribute] = unquote_to_bytes(text.encode("latin-1")).decode()
        except UnicodeDecodeError as error:
            raise HttpError(400, f"{name}: must be percent-encoded UTF-8") from error
    if content_type := request.headers.get("content-type"):
        attributes["datacontenttype"] = content_type
    if body:
        try:
            _ = msgspec.json.decode(body)  # it must not end the object that it is inserted into
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HttpError(400, f"in binary mode the body must be the event's data in JSON: {error}") from error
        attributes["data"] = msgspec.Raw(body)
    return msgspec.json.encode(attributes)


def _attributed(text: bytes, name: str) -> bytes:
    """Return an event with the sender as its actor, unless it names one; anything but an object is unchanged."""
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
        handler=append,
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
