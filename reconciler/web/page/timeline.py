"""Time line: events, attempts, edits that were seen, and conflicts of one document, newest first."""

from collections.abc import Iterable, Iterator, Sequence

import attrs

from reconciler import views
from reconciler.model import instant
from reconciler.model.act import Act
from reconciler.web.page import looks

_VALUE_MAX = 120


@attrs.frozen
class Moment:
    """Something that happened. `tone` is a colour, `facts` are names with what they are."""

    at: str
    kind: str
    tone: str
    title: str
    text: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    anchor: str = ""


def of(
    document: views.documents.Document,
    attempts: Sequence[views.history.AuditRow],
    conflicts: Iterable[views.waiting.Conflict],
    acts: Iterable[Act],
    *,
    whole: bool,
) -> list[Moment]:
    """
    Return what is known of these attempts' time, newest first.

    `whole`: they are the newest. Then events that nothing has been decided on yet belong to it too.
    """
    oldest = attempts[-1].at if attempts else ""
    newest = "" if whole or not attempts else attempts[0].at
    moments = [
        *(_attempt(row) for row in attempts),
        *_edits(attempts),
        *(moment for moment in _events(document) if not newest or moment.at <= newest),
        *(_conflict(one) for one in conflicts if not newest or one.opened_at <= newest),
        *(moment for moment in map(_act, acts) if not newest or moment.at <= newest),
    ]
    kept = [moment for moment in moments if moment.at >= oldest or whole]
    return sorted(kept, key=lambda moment: moment.at, reverse=True)


def _events(document: views.documents.Document) -> Iterator[Moment]:
    """Yield the events of which something still stands; what was replaced since is told in the story."""
    said: dict[str, list[tuple[views.documents.Field, views.documents.Claim]]] = {}
    for field in document.fields:
        for claim in field.claims:
            said.setdefault(f"{claim.source} {claim.event}", []).append((field, claim))
    for claims in said.values():
        first = claims[0][1]
        facts = [(field.field, _claimed(claim)) for field, claim in claims]
        facts += [("record", f"{first.topic}/{first.partition}/{first.offset}")]
        by = f", by {first.actor}" if first.actor else ""
        why = f": {first.reason}" if first.reason else ""
        yield Moment(first.time, "event", "busy", f"Event {first.event}", f"{first.source}{by}{why}", tuple(facts))


def _claimed(claim: views.documents.Claim) -> str:
    match claim.kind:
        case "release":
            return "is not managed any more"
        case "set":
            return f"= {_brief(claim.value)}"
        case kind:
            return f"{kind} {_brief(claim.element)}"


def _attempt(row: views.history.AuditRow) -> Moment:
    facts = [("because of", row.cause)]
    if row.repeats:
        facts.append(("looks without a record", f"{row.repeats}, which came to the same as the attempt before"))
    if row.written:
        went_through = row.result in ("written", "confirmed")
        facts.append(("wrote" if went_through else "would have written", ", ".join(row.written)))
    if row.status is not None:
        facts.append(("Windchill answered", str(row.status)))
    before, after = row.token_before or "none", row.token_after
    facts.append(("token", before if after in (None, before) else f"{before} → {after}"))
    title = f"Attempt {row.id}: {row.result.replace('_', ' ')}"
    return Moment(row.at, "attempt", row.result, title, row.message or "", tuple(facts), f"attempt-{row.id}")


def _edits(attempts: Sequence[views.history.AuditRow]) -> Iterator[Moment]:
    """Yield each edit of somebody else's once, where it was first seen: live is not what was last agreed."""
    known: dict[str, str] = {}
    for row in reversed(attempts):
        for verdict in row.decisions:
            if not looks.is_known(verdict.base):
                continue
            live = looks.of_json(verdict.live)
            if verdict.live == verdict.base:
                known.pop(verdict.field, None)
            elif known.get(verdict.field) != live:
                known[verdict.field] = live
                facts = (("was", _brief(verdict.base)), ("is", _brief(verdict.live)))
                yield Moment(row.at, "edit", "lock", f"Somebody's edit of {verdict.field} was seen", "", facts)


def _conflict(one: views.waiting.Conflict) -> Moment:
    facts = (("the log wants", _brief(one.desired)), ("Windchill had", _brief(one.live)))
    return Moment(one.opened_at, "conflict", "warn", f"Conflict on {one.field} opened", one.reason, facts)


def _act(act: Act) -> Moment:
    said = [(name, value) for name, value in act.details.items() if value not in ("", [], None)]
    facts = tuple((name, value if isinstance(value, str) else _brief(value)) for name, value in said)
    return Moment(instant.from_us(act.at_us), "act", "busy", f"{act.who} ({act.role}): {act.kind}", "", facts)


def _brief(value: object) -> str:
    cut = looks.value(value, _VALUE_MAX)
    return cut.text + ("…" if cut.is_cut else "")
