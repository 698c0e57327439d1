"""Authorship: whose act it is that something stands where it stands, from the audit trail."""

from reconciler.model.act import Act, Deed
from reconciler.model.document import Document, Status
from reconciler.model.event import DeadLetter
from reconciler.model.policy import OPERATORS
from reconciler.ports.store import Views

_RELEASES_MAX = 20  # also those of single fields, which come in between
_SETTLING = {"discarded": (Deed.DISCARD,), "replayed": (Deed.REPLAY, Deed.RESEND)}


async def paused(store: Views, document: Document) -> Act | None:
    """Return the act by which a document is paused; None: it is not."""
    if document.status is not Status.PAUSED:
        return None
    return next(iter(await store.acts(target=document.key, kinds=[Deed.PAUSE], limit=1)), None)


async def released(store: Views, document: Document) -> Act | None:
    """Return the act by which a document was released last; None: it was not, or by a source of events."""
    stamp = document.desired.released
    if stamp is None or stamp.source != OPERATORS:
        return None
    acts = await store.acts(target=document.key, kinds=[Deed.RELEASE], limit=_RELEASES_MAX)
    return next((act for act in acts if [stamp.id] == act.details.get("events")), None)


async def resolved(store: Views, conflict_id: str) -> Act | None:
    """Return the act by which a conflict was decided last; None: no person has decided it."""
    return next(iter(await store.acts(target=conflict_id, kinds=[Deed.RESOLVE], limit=1)), None)


async def settled(store: Views, letter: DeadLetter) -> Act | None:
    """Return the act by which a dead letter is not open any more; None: it is open."""
    kinds = _SETTLING.get(letter.status)
    return next(iter(await store.acts(target=letter.id, kinds=kinds, limit=1)), None) if kinds else None
