"""
Messages: what people are told of a notice, in the words and members that templates of messages use.

Unlike the bodies for a webhook they have values of the document, and who changed it: whoever is told has to decide.
"""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from msgspec import structs

from reconciler.core.explain import phrases
from reconciler.core.explain.notices import Kind, Notice
from reconciler.model import instant
from reconciler.model.desired import Field
from reconciler.model.document import NO_AGREEMENT, Conflict, Document
from reconciler.model.plan import Hold, Reason, ReasonCode
from reconciler.model.snapshot import Snapshot
from reconciler.model.stamp import Stamp

_SUBJECT_MAX = 80  # of a name in a title
_SUBJECTS = {
    Kind.PARKED: "{document} can't be read or written",
    Kind.CONTENDED: "{document} is changed by others again and again",
    Kind.LOCKED: "{document} is waiting for a check-in",
    Kind.DEAD_LETTER: "An event can't be used",
    Kind.BREAKER_OPENED: "Windchill is down",
    Kind.BREAKER_CLOSED: "Windchill answers again",
    Kind.CHAIN_BROKEN: "The audit trail was changed",
}
_HELD = {
    Hold.DECIDE: "Conflict on {field} of {document}",
    Hold.REFUSED: "Windchill refuses our {field} of {document}",
    Hold.CONTESTED: "Windchill does not keep our {field} of {document}",
}


@attrs.frozen
class Message:
    """One message to people. `id` stays the same when it is sent again."""

    id: str
    title: str
    text: str


@attrs.frozen
class Links:
    """Addresses of what a notice is about, empty where there is none: our page, and the document in Windchill."""

    page: Callable[[Notice], str] = lambda _: ""
    windchill: Callable[[Document], str] = lambda _: ""


def about(notice: Notice, document: Document | None, links: Links) -> dict[str, Any]:
    """Return what a template may say of a notice (docs/notifications.md)."""
    snapshot = None if document is None else document.agreement.snapshot
    conflict, subject = notice.conflict, _subject(notice)
    told: dict[str, Any] = {
        "kind": notice.kind.value,
        "title": subject,
        "at": instant.from_us(notice.at_us),
        "document": phrases.safe(notice.document),
        "field": phrases.safe(notice.field),
        "type": phrases.safe((snapshot and snapshot.type) or ""),
        "reason": notice.facts.get("reason", ""),
        "command": notice.facts.get("command", ""),
        "page": links.page(notice),
        "windchill": links.windchill(document) if document is not None else "",
        "modified_by": phrases.safe((snapshot and snapshot.modified_by) or ""),
        "modified_at": (snapshot and snapshot.modified_at) or "",
        "ours": None,
        "theirs": None,
        "agreed": None,
    }
    if conflict is not None:
        told["ours"] = phrases.value(conflict.desired)
        told["theirs"] = phrases.value(conflict.live)
        told["agreed"] = phrases.value(conflict.base) if conflict.has_base else None
        told["source"] = phrases.safe(conflict.stamp.source)
        told["actor"] = phrases.safe(_actor(document, conflict))
        told["claimed_at"] = conflict.stamp.time
    return told


def whole(told: Sequence[dict[str, Any]], counts: dict[str, int]) -> dict[str, Any]:
    """Return everything that a template gets: the notices that are shown, and how many there are of each kind."""
    total = sum(counts.values())
    return {"notices": list(told), "total": total, "counts": counts, "more": total - len(told)}


def _subject(notice: Notice) -> str:
    if notice.kind is Kind.TEST:
        return f"Test: {_HELD[Hold.DECIDE].format(field=notice.field, document=notice.document)}"
    form = _SUBJECTS.get(notice.kind, "") if notice.conflict is None else _HELD[notice.conflict.hold]
    names = {"field": notice.field, "document": notice.document}
    return form.format(**{name: phrases.safe(text, _SUBJECT_MAX) for name, text in names.items()})


def _actor(document: Document | None, conflict: Conflict) -> str:
    """Return who made the claim of a conflict, as its event says; empty if it doesn't, or if it was replaced."""
    field: Field | None = None if document is None else document.desired.fields.get(conflict.field)
    register = None if field is None else field.register
    return (register.actor or "") if register is not None and register.stamp == conflict.stamp else ""


def sample(at_us: int) -> tuple[Notice, Document]:
    """Return a made-up conflict and its document, to try how messages look and whether they arrive."""
    moment = instant.from_us(at_us)
    stamp = Stamp("", moment, "", "sample", 0, 0, "//erp/sample", "sample")
    reasons = (Reason(ReasonCode.BOTH),)
    conflict = Conflict("sample", "attributes.CostCenter", reasons, "4711", True, "4712", "4713", stamp, at_us)
    key = "0000000042"
    seen = Snapshot(key, {}, None, modified_at=moment, modified_by="mrossi", type="SampleDocument")
    document = Document(key, agreement=structs.replace(NO_AGREEMENT, snapshot=seen))
    facts: dict[str, str | int] = {
        "reason": "this is a test; both sides of a made-up field have changed, and nothing needs to be done",
        "command": "reconciler conflicts list",
    }
    return Notice(Kind.TEST, moment, at_us, facts, key, conflict.field, conflict), document
