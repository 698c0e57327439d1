"""
Questions: what the server tells of an iteration beside its properties. For writes and for the probe alike.

    GetValidStateTransitions   which states can follow
    IsCheckoutAllowed          whether a check-out would be taken, without one that leaves a trace
"""

import attrs

from reconciler.adapters import replies
from reconciler.adapters.replies import Exchange, Lost, Reply, Unusable
from reconciler.adapters.wrs import shapes
from reconciler.adapters.wrs.findings import Finding, Result, answered, listed
from reconciler.adapters.wrs.metadata import Operation, Schema
from reconciler.adapters.wrs.service import Service
from reconciler.model.answer import Failed, NotAvailable, Throttled, Trouble, Unauthorised
from reconciler.model.value import Json

_FORBIDDEN = (
    f"Windchill does not let us check it out ({shapes.ALLOWED} says no): its state, a lock of another kind, or missing"
    " rights"
)


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
