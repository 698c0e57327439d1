"""Authorship: whose act it is that something stands where it stands, from the audit trail."""

from reconciler.model.action import ActionKind, OperatorAction
from reconciler.model.document import Document, Status
from reconciler.model.event import DeadLetter
from reconciler.model.policy import OPERATORS
from reconciler.ports.store import Views

_RELEASES_MAX = 20  # also those of single fields, which come in between
_SETTLING = {"discarded": (ActionKind.DISCARD,), "replayed": (ActionKind.REPLAY, ActionKind.RESEND)}


async def paused(store: Views, document: Document) -> OperatorAction | None:
    """Return the act by which a document is paused; None: it is not."""
    if document.status is not Status.PAUSED:
        return None
    return next(iter(await store.actions(target=document.key, kinds=[ActionKind.PAUSE], limit=1)), None)


async def released(store: Views, document: Document) -> OperatorAction | None:
    """Return the act by which a document was released last; None: it was not, or by a source of events."""
    stamp = document.desired.released
    if stamp is None or stamp.source != OPERATORS:
        return None
    actions = await store.actions(target=document.key, kinds=[ActionKind.RELEASE], limit=_RELEASES_MAX)
    return next((action for action in actions if [stamp.id] == action.details.get("events")), None)


async def resolved(store: Views, conflict_id: str) -> OperatorAction | None:
    """Return the act by which a conflict was decided last; None: no person has decided it."""
    return next(iter(await store.actions(target=conflict_id, kinds=[ActionKind.RESOLVE], limit=1)), None)


async def settled(store: Views, letter: DeadLetter) -> OperatorAction | None:
    """Return the act by which a dead letter is not open any more; None: it is open."""
    kinds = _SETTLING.get(letter.status)
    return next(iter(await store.actions(target=letter.id, kinds=kinds, limit=1)), None) if kinds else None
