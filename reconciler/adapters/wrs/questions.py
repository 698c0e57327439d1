"""
Questions: what the server tells of an iteration beside its properties. For writes and for the probe alike;
and findings: what a probe asked, what came back in a few words, and what that means.

    GetValidStateTransitions   which states can follow
    IsCheckoutAllowed          whether a check-out would be taken, without one that leaves a trace
"""

import enum
from collections.abc import Mapping

import attrs

from reconciler.adapters import replies
from reconciler.adapters.replies import Exchange, Lost, Reply, Unusable
from reconciler.adapters.wrs import shapes
from reconciler.adapters.wrs.answers import Unfulfilled
from reconciler.adapters.wrs.metadata import Operation, Schema
from reconciler.adapters.wrs.service import Service
from reconciler.model.answer import Failed, NotAvailable, Throttled, Trouble, Unauthorised
from reconciler.model.value import Json

_FORBIDDEN = (
    f"Windchill does not let us check it out ({shapes.ALLOWED} says no): its state, a lock of another kind, or missing"
    " rights"
)


class Result(enum.StrEnum):
    """How well a question was answered."""

    OK = "ok"
    WARNING = "warning"  # worth knowing; writing is safe all the same
    FAILED = "failed"  # writing would not be safe, or is not possible
    SKIPPED = "skipped"  # not asked, or not to be told


@attrs.frozen
class Finding:
    """One question to the server and what came of it."""

    check: str
    result: Result
    message: str  # what it means
    sent: str = ""
    answer: str = ""
    setting: Mapping[str, Json] = attrs.field(factory=dict)  # what follows: "windchill.account" → "Integration"


class Halt(Exception):
    """The probe can't go on; the finding says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


def answered(answer: Reply | Unfulfilled | Trouble) -> str:
    """Return an answer in a few words: `204`, `200 with ID OR:…:101`, `400 INVALID_REQUEST: …`."""
    if isinstance(answer, Reply):
        body = replies.json_object(answer)
        if body is None:
            return f"{answer.status} without content"
        shown = [name for name in body if "@" not in name]
        what = "the whole entity" if len(shown) > 3 else f"{', '.join(shown) or 'nothing'} alone"
        return f"{answer.status} with {what}" + (f", {body['ID']}" if isinstance(body.get("ID"), str) else "")
    status = getattr(answer, "status", None)
    return f"{status}, {answer.message}" if status else answer.message


def listed(words: list[str]) -> str:
    """Return words as a sentence lists them: `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def plain(value: object) -> str:
    """Return a value as a sentence can hold it."""
    if isinstance(value, dict):
        value = value.get("Value", value)
    return "nothing" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@attrs.frozen
class Unreadable:
    """The server has answered in a form that we don't understand, and will do so again."""

    message: str


Told = list[dict[str, Json]] | Unreadable | Trouble | None


async def transitions(service: Service, schema: Schema, id: str) -> Told:
    """Return the states that can follow, each with `Value` and `Display`; None where the server doesn't tell."""
    operation = shapes.operation(schema, shapes.TRANSITIONS)
    if operation is None:
        return None
    match await _asked(service, schema, id, operation):
        case Reply(status=200) as reply:
            if not replies.is_json(reply) or replies.is_html(reply):
                return service.not_promised(reply)
            body = replies.json_object(reply)
            found = None if body is None else shapes.states(body, operation)
            if found is None:
                said = f"the answer to {shapes.TRANSITIONS} is not understood: {service.hidden(shapes.shown(body))}"
                return Unreadable(replies.cut(said))
            return found
        case Reply() as reply:
            trouble = service.trouble(reply)
            return trouble if isinstance(trouble, Unauthorised | Throttled) else None
        case Lost(message) | Unusable(message):
            return Failed(message)
        case trouble:
            return trouble


async def forbidden(service: Service, id: str) -> NotAvailable | None:
    """Return that the server would not let us check an iteration out; None where it would, or does not tell."""
    schema = await service.schema()
    operation = shapes.operation(schema, shapes.ALLOWED) if isinstance(schema, Schema) else None
    if operation is None or not isinstance(schema, Schema):
        return None
    match await _asked(service, schema, id, operation):
        case Reply(status=200) as reply if replies.is_json(reply):
            if shapes.truth(replies.json_object(reply) or {}, operation) is False:
                return NotAvailable(409, _FORBIDDEN)
    return None  # CheckOut itself will tell


async def _asked(service: Service, schema: Schema, id: str, operation: Operation) -> Exchange:
    path = service.action(id, operation.name)
    is_function = operation in schema.functions.values()
    return await service.get(f"{path}()") if is_function else await service.post(path, {})


def finding(told: Told) -> Finding:
    """Return what it means for writing State that the server has told this."""
    check, sent = "transitions", shapes.TRANSITIONS
    match told:
        case None:
            said = "the server does not tell which states can follow; it decides when one is set"
            return Finding(check, Result.WARNING, said)
        case list():
            named = listed([str(one["Value"]) for one in told]) or "none"
            return Finding(check, Result.OK, "the states that can follow are understood", sent, named)
        case Unreadable(message):
            return Finding(check, Result.FAILED, f"State can't be written: {message}", sent, "200")
        case trouble:
            return Finding(check, Result.WARNING, "no usable answer", sent, answered(trouble))
