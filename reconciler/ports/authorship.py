"""Authorship: which operator's action brought a document, conflict or dead letter where it is, from the audit trail."""

from reconciler.model.action import ActionKind, OperatorAction
from reconciler.model.document import Document, Status
from reconciler.model.event import DeadLetter
from reconciler.model.policy import OPERATORS
from reconciler.ports.store import Views

_RELEASES_MAX = 20  # releases of single fields are among them
_SETTLING = {"discarded": (ActionKind.DISCARD,), "replayed": (ActionKind.REPLAY, ActionKind.RESEND)}


async def paused(store: Views, document: Document) -> OperatorAction | None:
    """Return the action that paused a document; None if it is not paused."""
    if document.status is not Status.PAUSED:
        return None
    return next(iter(await store.actions(target=document.key, kinds=[ActionKind.PAUSE], limit=1)), None)


async def released(store: Views, document: Document) -> OperatorAction | None:
    """Return the action that last released a document; None if it was not released, or by a source of events."""
    stamp = document.desired.released
    if stamp is None or stamp.source != OPERATORS:
        return None
    actions = await store.actions(target=document.key, kinds=[ActionKind.RELEASE], limit=_RELEASES_MAX)
    return next((action for action in actions if [stamp.id] == action.details.get("events")), None)


async def resolved(store: Views, conflict_id: str) -> OperatorAction | None:
    """Return the action that last decided a conflict; None if no person has."""
    return next(iter(await store.actions(target=conflict_id, kinds=[ActionKind.RESOLVE], limit=1)), None)


async def closed(store: Views, letter: DeadLetter) -> OperatorAction | None:
    """Return the action that closed a dead letter; None while it is open."""
    kinds = _SETTLING.get(letter.status)
    return next(iter(await store.actions(target=letter.id, kinds=kinds, limit=1)), None) if kinds else None
