"""
Attention: what needs a person, why, and the one next action; the order is by how long it has been waiting.

The trouble of the reconciler itself (a loop that is stuck, a log or a Windchill that is away) comes first, because most
of what is below it follows from it.
"""

from collections.abc import Iterable, Mapping

import attrs

from reconciler import views
from reconciler.model import instant
from reconciler.web.page import looks, spelling

_STUCK_S = 900.0  # pending for longer than this is no queue any more
_SAID_MAX = 160
_TOGETHER = 5  # conflicts on one field, from which on they are one thing to decide


@attrs.frozen
class Need:
    """One thing that needs a person. `kind` is a word with a colour, `address` leads to where it is settled."""

    kind: str
    what: str
    why: str
    since: str | None
    action: str
    address: str
    command: str


@attrs.frozen
class Headline:
    """Whether Windchill agrees with the log, in a sentence, with its tone."""

    tone: str
    text: str
    more: str


def is_old(now: views.service.Status) -> bool:
    """Tell whether a document has been pending for longer than a queue explains."""
    return (now.oldest_pending_seconds or 0) > _STUCK_S


def headline(now: views.service.Status, late: Mapping[str, float]) -> Headline:
    """Return the answer to the first question of whoever opens the page."""
    counts = now.documents
    total, synced = sum(counts.values()), counts.get("synced", 0)
    share = f"{synced:,} of {total:,} documents agree with the log."
    waiting = now.conflicts + now.dead_letters + counts.get("parked", 0) + counts.get("contended", 0)
    if late:
        return Headline("bad", "The reconciler is stuck.", f"As far as is known: {share}")
    if now.phase != "ready":
        return Headline("busy", f"The reconciler is {now.phase}.", f"As far as is known: {share}")
    if not total:
        return Headline("busy", "No document yet.", "No event in the log has named one so far.")
    if not now.log_reachable:
        return Headline("bad", "The log does not answer.", f"As far as it was folded: {share}")
    if now.windchill == "down":
        return Headline("bad", "Windchill does not answer.", f"When it was last heard of: {share}")
    if waiting:
        return Headline("warn", share, f"{_things(waiting)} a person.")
    if is_old(now):
        return Headline("warn", share, "The rest has been waiting for longer than a queue explains.")
    if synced == total:
        return Headline("good", "Windchill agrees with the log.", f"All {total:,} documents are synced.")
    return Headline("busy", share, "The rest is on its way; nothing needs a person.")


def _things(count: int) -> str:
    return "1 thing needs" if count == 1 else f"{count:,} things need"


def found(
    now: views.service.Status,
    *,
    now_us: int,
    late: Mapping[str, float],
    conflicts: Iterable[views.waiting.Conflict],
    letters: Iterable[views.waiting.DeadLetterRow],
    documents: Iterable[views.documents.DocumentRow],
) -> list[Need]:
    """Return what needs a person, the reconciler's own troubles first, then oldest first."""
    needs = [
        *_conflicts(conflicts),
        *(_letter(one) for one in letters),
        *(_document(one) for one in documents if one.status != "pending" or _is_stuck(one, now_us)),
    ]
    return [*_troubles(now, late), *sorted(needs, key=lambda need: need.since or "9")]


def _troubles(now: views.service.Status, late: Mapping[str, float]) -> Iterable[Need]:
    for loop, seconds in late.items():
        why = f"Nothing was heard of it for {looks.span(seconds)}. The program's log tells more."
        yield Need("stuck", f"The loop {loop} is stuck", why, None, "See the probe", "/livez", "reconciler doctor")
    if now.phase == "ready" and not now.log_reachable:
        why = "What Windchill has is still compared with what was folded; new events are not seen."
        yield Need("log", "The change log does not answer", why, None, "See the log", "#log", "reconciler doctor")
    if now.windchill == "down":
        why = f"The breaker is {now.breaker}: nothing is written until Windchill answers again. This mends itself."
        yield Need("down", "Windchill does not answer", why, None, "Look at it", "#windchill", "reconciler doctor")


def _conflicts(conflicts: Iterable[views.waiting.Conflict]) -> Iterable[Need]:
    """Say of a field that comes up again and again that it does, so that what else there is can be seen beside it."""
    by_field: dict[str, list[views.waiting.Conflict]] = {}
    for one in conflicts:
        by_field.setdefault(one.field, []).append(one)
    for field, same in by_field.items():
        if len(same) < _TOGETHER:
            yield from map(_conflict, same)
            continue
        yield Need(
            "held",
            f"{looks.plain(field, 60)} of many documents",
            f"Of the oldest conflicts {len(same)} are on this field: perhaps one decision will do for all, or a rule.",
            min(one.opened_at for one in same),
            "Decide together",
            spelling.address("/conflicts", field=field),
            spelling.command("conflicts", "list"),
        )


def _conflict(one: views.waiting.Conflict) -> Need:
    desired, live = (looks.plain(looks.of_json(value), 40) for value in (one.desired, one.live))
    return Need(
        "held",
        f"{looks.plain(one.field, 60)} of {looks.plain(one.document, 60)}",
        f"The log wants {desired}, Windchill has {live}{'' if live.endswith('…') else '.'}",
        one.opened_at,
        "Decide",
        spelling.conflict(one.id),
        spelling.command("conflicts", "show", of=one.id),
    )


def _letter(one: views.waiting.DeadLetterRow) -> Need:
    return Need(
        "dead letter",
        f"Record {looks.plain(one.topic, 40)}/{one.partition}/{one.offset}",
        looks.plain(one.reason, _SAID_MAX),
        one.refused_at,
        "Look at it",
        spelling.letter(one.id),
        spelling.command("dead-letters", "show", of=one.id),
    )


def _document(one: views.documents.DocumentRow) -> Need:
    why = looks.plain(one.reason or "It has been pending for long.", _SAID_MAX)
    kind = "stuck" if one.status == "pending" else one.status
    command = spelling.command("docs", "retry", of=one.document)
    since = one.pending_since
    return Need(kind, looks.plain(one.document, 60), why, since, "Try again", spelling.document(one.document), command)


def _is_stuck(one: views.documents.DocumentRow, now_us: int) -> bool:
    since = one.pending_since
    return since is not None and (now_us - instant.to_us(since)) / 1_000_000 > _STUCK_S
