"""
Notices: what a person outside should hear of, and how it is put for a webhook (Standard Webhooks 1.0).

Rules of this file:
1. A notice's id is a digest of what happened, never of when it is told: whatever is told twice has the same id.
2. Text from outside goes into a body only through `wording.safe`, and values of documents not at all: whoever
   receives notifications need not be allowed to read documents.
3. A lot is put into notifications as a function of its content alone. The same lot, read again after a crash, gives
   the same notifications.
"""

import enum
import shlex
from collections import Counter
from typing import Final

import attrs
import msgspec

from reconciler.core import outcomes
from reconciler.core.wording import safe
from reconciler.model import codec, instant
from reconciler.model.chain import GENESIS, Entry, Head, link
from reconciler.model.document import Document, Status
from reconciler.model.event import Record
from reconciler.model.outcome import OutcomeType

_KEY_MAX = 512  # what a document's key may have
_TEXT_MAX = 300
_FIRST = 5  # of a digest's notices, shown whole


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
    DIGEST = "digest"


@attrs.frozen
class Notice:
    """One thing to be told. `what` names it among all of its kind."""

    kind: Kind
    what: str
    at_us: int
    facts: dict[str, str | int]


@attrs.frozen
class Notification:
    """What is posted: `id` goes into a header, and is the same whenever this is posted again."""

    id: str
    kind: Kind
    body: bytes


class Fault(enum.Enum):
    """Whom a failure to deliver is to be blamed on."""

    ENDPOINT = "endpoint"  # another notification would fare no better: try again
    CONTENT = "content"  # it will not take this one
    GONE = "gone"  # it says that nobody listens any more


@attrs.frozen
class Undelivered:
    """A notification that was not accepted; `why` names no address, since that may be a secret."""

    why: str
    fault: Fault = Fault.ENDPOINT
    retry_after_s: float | None = None


# ------------------------------------------------------------------------------------------------------ what happened


class _OpenedData(msgspec.Struct, frozen=True):
    conflict: str
    field: str
    reason: str


class _ParkedData(msgspec.Struct, frozen=True):
    status: str
    reason: str


class _Outcome(msgspec.Struct, frozen=True):
    id: str
    type: str
    subject: str
    time: str
    data: msgspec.Raw


class _Letter(msgspec.Struct, frozen=True):
    reasons: dict[str, str]


_OPENED, _PARKED = OutcomeType.CONFLICT_OPENED.value.encode(), OutcomeType.PARKED.value.encode()
_outcome = msgspec.json.Decoder(_Outcome).decode
_opened = msgspec.json.Decoder(_OpenedData).decode
_parked = msgspec.json.Decoder(_ParkedData).decode
_letter = msgspec.json.Decoder(_Letter).decode
_UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError, OverflowError)
_KINDS = {Status.PARKED.value: Kind.PARKED, Status.CONTENDED.value: Kind.CONTENDED}  # locked: only if it lasts


def of_outcome(record: Record) -> Notice | None:
    """Return what a record of the outcome log has to tell a person; most have nothing."""
    text = record.value
    if text is None or (_OPENED not in text and _PARKED not in text):
        return None
    try:
        event = _outcome(text)
        at_us = instant.to_us(instant.canonical(event.time))
        if event.type == OutcomeType.CONFLICT_OPENED:
            return _conflict(event, at_us, _opened(event.data))
        if event.type == OutcomeType.PARKED:
            return _put_aside(event, at_us, _parked(event.data))
    except _UNREADABLE:
        return None  # not an outcome, it only mentions one
    return None


def _conflict(event: _Outcome, at_us: int, data: _OpenedData) -> Notice:
    facts: dict[str, str | int] = {
        "document": safe(event.subject, _KEY_MAX),
        "field": safe(data.field, _TEXT_MAX),
        "conflict": safe(data.conflict, _TEXT_MAX),
        "reason": safe(data.reason, _TEXT_MAX),
        "command": _command("reconciler conflicts show", data.conflict, "reconciler conflicts list"),
    }
    return Notice(Kind.CONFLICT, event.id, at_us, facts)


def _put_aside(event: _Outcome, at_us: int, data: _ParkedData) -> Notice | None:
    kind = _KINDS.get(data.status)
    if kind is None:
        return None
    return Notice(kind, event.id, at_us, _about(event.subject, data.status, data.reason))


def of_letter(record: Record) -> Notice | None:
    """Return what a record of the dead-letter topic has to tell; in a file its line says what in Kafka headers do."""
    said = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    if not any(name.startswith(outcomes.ERRORS) for name in said):
        try:
            said = _letter(record.value or b"").reasons
        except _UNREADABLE:
            return None  # somebody else's
    place = [said.get(outcomes.ERRORS + name) for name in ("topic", "partition", "offset")]
    if None in place:
        return None
    letter = "/".join(map(str, place))
    facts: dict[str, str | int] = {
        "dead_letter": safe(letter, _TEXT_MAX),
        "stage": safe(said.get(outcomes.ERRORS + "stage", ""), _TEXT_MAX),
        "reason": safe(said.get(outcomes.ERRORS + "message", ""), _TEXT_MAX),
        "command": _command("reconciler dead-letters show", letter, "reconciler dead-letters list"),
    }
    return Notice(Kind.DEAD_LETTER, letter, record.timestamp * 1000, facts)


def locked(document: Document, since_us: int) -> Notice:
    """Tell that a document has been waiting for a lock since `since_us`."""
    facts = _about(document.key, Status.LOCKED.value, document.reason)
    return Notice(Kind.LOCKED, f"{since_us} {document.key}", since_us, facts | {"since": instant.from_us(since_us)})


def breaker_opened(opened_us: int) -> Notice:
    """Tell that Windchill has been taken to be down since `opened_us`."""
    facts: dict[str, str | int] = {
        "reason": "Windchill does not answer as it should, and is asked only now and then until it does",
        "since": instant.from_us(opened_us),
        "command": "reconciler doctor",
    }
    return Notice(Kind.BREAKER_OPENED, str(opened_us), opened_us, facts)


def breaker_closed(opened_us: int, closed_us: int) -> Notice:
    """Tell that Windchill answers again, after what `breaker_opened` told."""
    facts: dict[str, str | int] = {
        "reason": "Windchill answers again",
        "since": instant.from_us(opened_us),
        "command": "reconciler status",
    }
    return Notice(Kind.BREAKER_CLOSED, str(opened_us), closed_us, facts)


def chain_broken(before: Head, entry: Entry, at_us: int) -> Notice | None:
    """Return a notice if an audit record does not follow from the one before; None if it does."""
    reason = ""
    if entry.number != before.number + 1:
        reason = f"record {before.number + 1} is missing"
    elif link(before.link if before.number else GENESIS, entry.number, entry.record) != entry.link:
        reason = f"record {entry.number} is not what was written"
    if not reason:
        return None
    facts: dict[str, str | int] = {
        "record": entry.number,
        "reason": f"the audit trail was changed: {reason}",
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
    """Return a command line that can be pasted into a shell; a name that can't is left to `otherwise`."""
    if not name or not name.isprintable() or len(name) > _KEY_MAX:
        return otherwise
    return f"{command} {'-- ' if name.startswith('-') else ''}{shlex.quote(name)}"


# ------------------------------------------------------------------------------------------------------ how it is told

ONE_BY_ONE: Final = 5
"""Notices of a lot that are told one by one, unless the configuration says otherwise."""


class Lot:
    """
    Notices that are told together: one by one if there are at most `most`, else as one digest.

    Memory: the id of each, and of the earliest the whole.
    """

    def __init__(self, source: str, most: int = ONE_BY_ONE) -> None:
        self._source = source
        self._most = most
        self._ids: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._earliest: list[tuple[int, str, Notice]] = []
        self._latest_us = 0

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, notice: Notice) -> None:
        """Take a notice in, once however often it comes."""
        name = codec.digest([notice.kind, self._source, notice.what])
        if name in self._ids:
            return
        self._ids.add(name)
        self._counts[notice.kind.value] += 1
        self._latest_us = max(self._latest_us, notice.at_us)
        self._earliest.append((notice.at_us, name, notice))
        self._earliest.sort(key=lambda kept: kept[:2])
        del self._earliest[max(self._most, _FIRST) :]

    def notifications(self) -> list[Notification]:
        """Return what is to be posted, in this order."""
        if len(self) <= self._most:
            return [
                Notification(f"msg_{name}", notice.kind, codec.encode(self._envelope(notice)))
                for _, name, notice in self._earliest
            ]
        facts = {
            "total": len(self),
            "counts": dict(self._counts),
            "first": [self._envelope(notice) for _, _, notice in self._earliest[:_FIRST]],
            "command": "reconciler status",
            "source": self._source,
        }
        name = codec.digest([Kind.DIGEST, self._source, sorted(self._ids)])
        body = {"type": Kind.DIGEST, "timestamp": instant.from_us(self._latest_us), "data": facts}
        return [Notification(f"msg_{name}", Kind.DIGEST, codec.encode(body))]

    def _envelope(self, notice: Notice) -> dict[str, object]:
        data = notice.facts | {"source": self._source}
        return {"type": notice.kind, "timestamp": instant.from_us(notice.at_us), "data": data}
