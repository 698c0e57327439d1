"""
Results: what the reply to a writing request means, as one of the port's answers.

Rules
- Only a status says that something was carried out, and 200 only with JSON or no body: login pages have that status.
- A refusal (4xx) was not carried out. A lost reply, a redirect, 202 and a 5xx leave it open: `Unknown`.
- Servers have no common way to say that a document is locked. With the statuses that may mean it, the text decides.
"""

import re
from collections.abc import Collection

from msgspec import structs

from reconciler.adapters import refusals, replies
from reconciler.adapters.refusals import Labels
from reconciler.adapters.replies import Exchange, Lost, Reply, Unusable
from reconciler.adapters.wrs import tokens
from reconciler.adapters.wrs.reading import Entity, Reader
from reconciler.adapters.wrs.service import Service, code
from reconciler.adapters.wrs.tokens import Place
from reconciler.model.answer import (
    Broken,
    Locked,
    NotAvailable,
    Refused,
    Trouble,
    Unchanged,
    Unguarded,
    Unknown,
    VersionConflict,
)
from reconciler.model.snapshot import Snapshot, Token

Unfulfilled = VersionConflict | Refused | Locked | Unknown | Unguarded | Trouble

_DONE = (200, 201, 204, 205)
_MAY_MEAN_LOCKED = (400, 403, 409, 422, 423, 500)
_GONE = (404, 410)
_MAY_MEAN_STALE = (400, 404, 409, 410)
# "The object must be checked out before it is updated" names no one who holds it.
_WANTS_A_LOCK = re.compile(r"\b(?:must|to|should|shall|can) (?:first )?be (?:checked|locked)", re.IGNORECASE)


def of(
    service: Service, exchange: Exchange, fields: Collection[str] = (), labels: Labels = refusals.NO_LABELS
) -> Reply | Unfulfilled:
    """
    Return the reply of a request that was carried out, or what the answer means.

    `fields` are the fields it wrote, `labels` their display names.
    """
    match exchange:
        case Reply(status=status) as reply if status in _DONE:
            return Unknown(service.not_promised(reply).message) if _is_page(reply) else reply
        case Reply() as reply:
            return _refusal(service, reply, fields, labels)
        case Lost(message) | Unusable(message):
            return Unknown(message)
        case _:  # never sent
            return exchange


def identity(reply: Reply) -> str | None:
    """Return the ID of the entity that an action has made."""
    said = (replies.json_object(reply) or {}).get("ID")
    return said if isinstance(said, str) and said else None


def etag(entity: Entity) -> Token | None:
    """Return an entity's ETag byte for byte, None if it has none that could guard a write (as `replies.token`)."""
    said = entity.row.get("@odata.etag")
    inside = isinstance(said, str) and said.isprintable() and said.strip() not in ("", "*")
    return Token(str(said)) if inside else entity.etag


def perhaps_stale(answer: Unfulfilled) -> Unfulfilled:
    """Return a refusal by an iteration that may not be the document's latest any more."""
    match answer:
        case Refused(status) | NotAvailable(status) if status in _MAY_MEAN_STALE:
            return structs.replace(answer, perhaps_stale=True)
    return answer


async def latest(reader: Reader, key: str, id: str | None = None) -> Snapshot | Trouble:
    """Read a document without a condition; `id` is its likely iteration, which saves the server a search."""
    known = None if id is None else Snapshot(key, {}, tokens.seen(id, {}))
    shown = await reader.read(key, known)
    return Broken("a read without a condition was answered as unchanged") if isinstance(shown, Unchanged) else shown


def id_of(snapshot: Snapshot) -> str | None:
    """Return the ID of the iteration that a snapshot shows."""
    place = place_of(snapshot)
    return None if place is None else place.id


def place_of(snapshot: Snapshot) -> Place | None:
    """Return what a snapshot's token says."""
    return None if snapshot.token is None else tokens.place(snapshot.token)


def undone_by_others(answer: Unfulfilled) -> Unfulfilled:
    """Return a version conflict for a working copy that is gone: someone undid it, and the document has to be read."""
    match answer:
        case NotAvailable(status, message) if status in _GONE:
            return VersionConflict(status, replies.cut(f"our working copy is gone: {message}"))
        case _:
            return answer


def _is_page(reply: Reply) -> bool:
    return bool(reply.body.strip()) and not replies.is_json(reply)


def _refusal(service: Service, reply: Reply, fields: Collection[str], labels: Labels) -> Unfulfilled:
    status, said, message = reply.status, replies.said(reply), service.message(reply)
    if status == 423 or (status in _MAY_MEAN_LOCKED and _says_locked(said)):
        kind = refusals.lock_kind(said)
        holder = None if kind else refusals.holder(reply)
        return Locked(status, message, None if holder is None else service.hidden(holder), kind)
    if code(reply) == "ENTITY_NOT_FOUND":
        return NotAvailable(404, message)
    refused = refusals.of_write(reply, fields, message, service.retry_after_s(reply), labels)
    return refused or Unknown(message if status >= 500 else service.not_promised(reply).message)


def _says_locked(said: str) -> bool:
    return refusals.is_lock(said) and _WANTS_A_LOCK.search(said) is None
