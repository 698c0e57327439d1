"""
Notices: the events that people are notified of, and their bodies for a webhook (Standard Webhooks 1.0).

Rules of this file:
1. A notice's id is a digest of what happened, never of when it is sent: a notice that is sent twice has one id.
2. Text from outside enters a body only through `phrases.safe`, and values of documents never do: a receiver of
   notifications may not be allowed to read documents.
3. Notifications are a function of a batch's content alone: the same batch gives the same notifications.
"""

import enum
import shlex
from collections import Counter
from typing import Final

import attrs

from reconciler.core.explain.phrases import safe
from reconciler.core.planning import reasons
from reconciler.model import codec, instant
from reconciler.model.chain import Entry, Head, link
from reconciler.model.document import Conflict, Document, Status
from reconciler.model.event import DeadLetter

_KEY_MAX = 512  # the longest key of a document
_TEXT_MAX = 300


class Kind(enum.StrEnum):
    """The types of notifications."""

    CONFLICT = "conflict.opened"
    PARKED = "document.parked"
    CONTENDED = "document.contended"
    LOCKED = "document.locked"
    DEAD_LETTER = "dead_letter.received"
    BREAKER_OPENED = "breaker.opened"
    BREAKER_CLOSED = "breaker.closed"
    CHAIN_BROKEN = "audit.broken"
    TEST = "test"
    DIGEST = "digest"


@attrs.frozen
class Notice:
    """One thing to tell people. `what` names it among all of its kind; `facts` are what a webhook may know."""

    kind: Kind
    what: str
    at_us: int
    facts: dict[str, str | int]
    document: str = ""  # its key, empty if this is about no document
    field: str = ""
    conflict: Conflict | None = None
    over: bool = False  # it needs no one any more


@attrs.frozen
class Notification:
    """The body to post. `id` goes into a header, and stays the same when this is posted again."""

    id: str
    kind: Kind
    body: bytes
    notices: tuple[Notice, ...] = ()  # those that are shown whole
    counts: dict[str, int] = attrs.field(factory=dict)  # of all, by kind


class Fault(enum.Enum):
    """The cause of a failed delivery."""

    ENDPOINT = "endpoint"  # another notification would fare no better: try again
    CONTENT = "content"  # the endpoint will not take this one
    GONE = "gone"  # the endpoint says that no one listens any more


@attrs.frozen
class Undelivered:
    """A notification that was not accepted; `why` names no address, since that may be a secret."""

    why: str
    fault: Fault = Fault.ENDPOINT
    retry_after_s: float | None = None


# ------------------------------------------------------------------------------------------------------ what happened


def of_conflict(document: str, conflict: Conflict, closed_at_us: int | None = None) -> Notice:
    """Tell that a field waits, or has waited, for a decision."""
    facts: dict[str, str | int] = {
        "document": safe(document, _KEY_MAX),
        "field": safe(conflict.field, _TEXT_MAX),
        "conflict": safe(conflict.id, _TEXT_MAX),
        "reason": safe(reasons.text(conflict.reasons), _TEXT_MAX),
        "command": _command("reconciler conflicts show", conflict.id, "reconciler conflicts list"),
    }
    if closed_at_us is not None:
        facts["closed"] = instant.from_us(closed_at_us)
    return Notice(
        Kind.CONFLICT,
        f"{conflict.opened_at_us} {conflict.id}",
        conflict.opened_at_us,
        facts,
        document=document,
        field=conflict.field,
        conflict=conflict,
        over=closed_at_us is not None,
    )


def put_aside(document: Document) -> Notice:
    """Tell that a document is parked or contended."""
    kind = Kind.PARKED if document.status is Status.PARKED else Kind.CONTENDED
    since_us = document.agreement.aside_us or 0
    facts = _about(document.key, document.status.value, document.reason)
    return Notice(kind, f"{since_us} {document.key}", since_us, facts, document.key)


def of_letter(letter: DeadLetter) -> Notice:
    """Tell that a record could not be used."""
    facts: dict[str, str | int] = {
        "dead_letter": safe(letter.id, _TEXT_MAX),
        "stage": safe(letter.stage, _TEXT_MAX),
        "reason": safe(letter.reason, _TEXT_MAX),
        "command": _command("reconciler dead-letters show", letter.id, "reconciler dead-letters list"),
    }
    if letter.status != "open":
        facts["status"] = letter.status
    return Notice(Kind.DEAD_LETTER, letter.id, letter.refused_at_us, facts, over=letter.status != "open")


def locked(document: Document, since_us: int) -> Notice:
    """Tell that a document has been waiting for a lock since `since_us`."""
    facts = _about(document.key, Status.LOCKED.value, document.reason)
    facts["since"] = instant.from_us(since_us)
    return Notice(Kind.LOCKED, f"{since_us} {document.key}", since_us, facts, document.key)


def breaker_opened(opened_us: int) -> Notice:
    """Tell that the breaker has been open since `opened_us`."""
    facts: dict[str, str | int] = {
        "reason": "Windchill is not answering properly; the reconciler sends only probes until it does",
        "since": instant.from_us(opened_us),
        "command": "reconciler doctor",
    }
    return Notice(Kind.BREAKER_OPENED, str(opened_us), opened_us, facts)


def breaker_closed(opened_us: int, closed_us: int) -> Notice:
    """Tell that Windchill answers again; follows `breaker_opened`."""
    facts: dict[str, str | int] = {
        "reason": "Windchill answers again",
        "since": instant.from_us(opened_us),
        "command": "reconciler status",
    }
    return Notice(Kind.BREAKER_CLOSED, str(opened_us), closed_us, facts)


def chain_broken(before: Head, entry: Entry, at_us: int) -> Notice | None:
    """Return a notice if an audit record does not follow from the one before in its chain; None if it does."""
    reason = ""
    if entry.number != before.number + 1:
        reason = f"record {before.number + 1} is missing"
    elif link(before.link, entry.number, entry.record) != entry.link:
        reason = f"record {entry.number} is not what was written"
    if not reason:
        return None
    facts: dict[str, str | int] = {
        "record": entry.number,
        "reason": f"the audit trail was changed: {f'chain {entry.chain}: ' if entry.chain > 0 else ''}{reason}",
        "command": "reconciler audit verify",
    }
    return Notice(Kind.CHAIN_BROKEN, f"{before} {entry.number} {entry.link.hex()}", at_us, facts)


def _about(key: str, status: str, reason: str) -> dict[str, str | int]:
    return {
        "document": safe(key, _KEY_MAX),
        "reason": safe(reason, _TEXT_MAX),
        "command": _command("reconciler docs show", key, f"reconciler docs list --status {status}"),
    }


def _command(command: str, name: str, otherwise: str) -> str:
    """Return a command line to paste into a shell; `otherwise` for a name that can't be pasted."""
    if not name or not name.isprintable() or len(name) > _KEY_MAX:
        return otherwise
    return f"{command} {'-- ' if name.startswith('-') else ''}{shlex.quote(name)}"


# ------------------------------------------------------------------------------------------------------ how it is told

ONE_BY_ONE: Final = 5
"""Notices of a batch that are sent one by one, unless the configuration says otherwise."""

FIRST: Final = 5
"""Notices of a digest that are shown whole, unless its receiver gets more of them."""

BATCH_MAX: Final = 50_000  # ids that a batch keeps, some megabytes; further notices are only counted


def trial(at_us: int, source: str) -> Notification:
    """Return a notification that only tests whether notifications arrive."""
    facts = {"reason": "this is a test; nothing needs to be done", "command": "reconciler status", "source": source}
    body = {"type": Kind.TEST, "timestamp": instant.from_us(at_us), "data": facts}
    named = codec.digest([Kind.TEST, source, at_us])
    return Notification(f"msg_{named}", Kind.TEST, codec.encode(body), counts={Kind.TEST.value: 1})


def name(notice: Notice, source: str) -> str:
    """Return the id of an installation's notice."""
    return codec.digest([notice.kind, source, notice.what])


class Batch:
    """
    Notices that are sent together: one by one if there are at most `most`, else as one digest that shows the `first`.

    It keeps the id of each, up to `BATCH_MAX`, and only the earliest ones whole.
    """

    def __init__(self, source: str, most: int = ONE_BY_ONE, first: int = FIRST) -> None:
        self._source = source
        self._most = most
        self._first = first
        self._ids: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._earliest: list[tuple[int, str, Notice]] = []
        self._latest_us = 0

    def __len__(self) -> int:
        return self._counts.total()

    def add(self, notice: Notice) -> None:
        """Add a notice; one that was added before is ignored."""
        known = name(notice, self._source)
        if known in self._ids:
            return
        if len(self._ids) < BATCH_MAX:
            self._ids.add(known)
        self._counts[notice.kind.value] += 1
        self._latest_us = max(self._latest_us, notice.at_us)
        self._earliest.append((notice.at_us, known, notice))
        self._earliest.sort(key=lambda kept: kept[:2])
        del self._earliest[max(self._most, self._first) :]

    def notifications(self) -> list[Notification]:
        """Return the notifications to post, in order."""
        if len(self) <= self._most:
            return [
                Notification(
                    f"msg_{known}", notice.kind, codec.encode(self._envelope(notice)), (notice,), {notice.kind.value: 1}
                )
                for _, known, notice in self._earliest
            ]
        shown = tuple(notice for _, _, notice in self._earliest[: self._first])
        facts = {
            "total": len(self),
            "counts": dict(self._counts),
            "first": [self._envelope(notice) for notice in shown],
            "command": "reconciler status",
            "source": self._source,
        }
        digest = codec.digest([Kind.DIGEST, self._source, sorted(self._ids)])
        body = {"type": Kind.DIGEST, "timestamp": instant.from_us(self._latest_us), "data": facts}
        return [Notification(f"msg_{digest}", Kind.DIGEST, codec.encode(body), shown, dict(self._counts))]

    def _envelope(self, notice: Notice) -> dict[str, object]:
        data = notice.facts | {"source": self._source}
        return {"type": notice.kind, "timestamp": instant.from_us(notice.at_us), "data": data}
