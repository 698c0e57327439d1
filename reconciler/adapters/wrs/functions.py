"""
What the server tells about an iteration beside its properties. Used by writes and by the probe.

    GetValidStateTransitions   which states can follow
    IsCheckoutAllowed          whether it would accept a check-out, without making one
"""

import attrs

from reconciler.adapters import replies
from reconciler.adapters.replies import Exchange, Lost, Reply, Unusable
from reconciler.adapters.wrs import signatures
from reconciler.adapters.wrs.metadata import Operation, Schema
from reconciler.adapters.wrs.service import Service
from reconciler.model.answer import Failed, NotAvailable, Throttled, Trouble, Unauthorised
from reconciler.model.value import Json

_FORBIDDEN = (
    f"Windchill does not let us check it out ({signatures.ALLOWED} says no), because of its state, another lock, or"
    " missing rights"
)


@attrs.frozen
class Unreadable:
    """The server has answered in an unknown form, and will do so again."""

    message: str


Told = list[dict[str, Json]] | Unreadable | Trouble | None


async def transitions(service: Service, schema: Schema, id: str) -> Told:
    """Return the states that can follow, each with `Value` and `Display`; None if the server does not say."""
    operation = signatures.operation(schema, signatures.TRANSITIONS)
    if operation is None:
        return None
    match await _asked(service, schema, id, operation):
        case Reply(status=200) as reply:
            if not replies.is_json(reply) or replies.is_html(reply):
                return service.not_promised(reply)
            body = replies.json_object(reply)
            found = None if body is None else signatures.states(body, operation)
            if found is None:
                shown = service.hidden(signatures.shown(body))
                return Unreadable(replies.cut(f"the answer to {signatures.TRANSITIONS} is not understood: {shown}"))
            return found
        case Reply() as reply:
            trouble = service.trouble(reply)
            return trouble if isinstance(trouble, Unauthorised | Throttled) else None
        case Lost(message) | Unusable(message):
            return Failed(message)
        case trouble:
            return trouble


async def forbidden(service: Service, id: str) -> NotAvailable | None:
    """Return that the server would refuse to check an iteration out; None if it would not, or does not say."""
    schema = await service.schema()
    operation = signatures.operation(schema, signatures.ALLOWED) if isinstance(schema, Schema) else None
    if operation is None or not isinstance(schema, Schema):
        return None
    match await _asked(service, schema, id, operation):
        case Reply(status=200) as reply if replies.is_json(reply):
            if signatures.truth(replies.json_object(reply) or {}, operation) is False:
                return NotAvailable(409, _FORBIDDEN)
    return None  # CheckOut itself will tell


async def _asked(service: Service, schema: Schema, id: str, operation: Operation) -> Exchange:
    path = service.action(id, operation.name)
    is_function = operation in schema.functions.values()
    return await service.get(f"{path}()") if is_function else await service.post(path, {})
