"""Conflicts: fields that wait for a person, and one of them with what each choice would write."""

from typing import Annotated, Any, Final

import attrs
import msgspec
from starlette.responses import Response

from reconciler import views
from reconciler.model.action import Gone, Other, Preview, Side, Take, Unusable
from reconciler.model.plan import Hold
from reconciler.model.policy import FALLBACK
from reconciler.ports import authorship
from reconciler.web import bodies, lists, reading
from reconciler.web.endpoint import Asked
from reconciler.web.page import differing, notices, rendering, spelling
from reconciler.web.sources import Sources


class ConflictsQuery(notices.ToldPage, frozen=True, kw_only=True):
    """Which conflicts."""

    closed: bool = False
    field: Annotated[str, msgspec.Meta(max_length=600)] = ""


class ConflictQuery(notices.Told, frozen=True, kw_only=True):
    """One conflict."""


@attrs.frozen
class Choice:
    """What somebody may choose: the value that is taken, what would be written then, or why it can't be had."""

    take: str  # desired, live or value
    value: object
    parts: tuple[differing.Part, ...]
    preview: Preview | None
    fault: str


@attrs.frozen
class Way:
    """One button: how the conflict is decided by it, and what that means."""

    take: Side
    label: str
    about: str


WAYS: Final = {
    Hold.DECIDE: (
        Way(Side.LIVE, "Take theirs", "What Windchill has stands."),
        Way(Side.DESIRED, "Take ours", "What the log wants is written."),
    ),
    Hold.REFUSED: (
        Way(Side.LIVE, "Take theirs", "What Windchill has stands."),
        Way(Side.RETRY, "Try again", "What the log wants is written again now, and its tries are counted from zero."),
    ),
    Hold.CONTESTED: (
        Way(Side.ACCEPT, "Accept as equal", "What Windchill stores counts as the log's value from now on."),
        Way(Side.RETRY, "Keep trying", "What the log wants is written again now, and its tries are counted from zero."),
        Way(Side.LIVE, "Give up", "What Windchill has stands, until an event asks for another value."),
    ),
}


async def many(sources: Sources, asked: Asked) -> Response:
    """List fields that wait for a person, oldest first."""
    return await listed(sources, asked, notices.of(asked.query))


async def listed(sources: Sources, asked: Asked, notice: notices.Notice | None, code: int = 200) -> Response:
    """List conflicts with a notice."""
    query: ConflictsQuery = asked.query
    after = bodies.place(query.after, tuple[bodies.Number, str]) if query.after else (-1, "")
    page = await lists.conflicts(sources.store, after, query.limit, closed=query.closed, field=query.field)
    same = {"closed": "true" if query.closed else "", "field": query.field}
    return rendering.current(
        sources,
        asked,
        "conflicts.html",
        code,
        notice=notice,
        query=query,
        rows=page.items,
        fields=sorted({row.field for row in page.items}),
        rules=[rule.name for rule in (*sources.policy.rules, FALLBACK)],
        next=page.next and spelling.address("/conflicts", **same, after=page.next),
        first=spelling.address("/conflicts", **same),
    )


async def one(sources: Sources, asked: Asked) -> Response:
    """Show one conflict, and what each choice would write."""
    return await shown(sources, asked, notices.of(asked.query))


async def shown(
    sources: Sources,
    asked: Asked,
    notice: notices.Notice | None,
    code: int = 200,
    *,
    typed: Any = msgspec.UNSET,
    text: str = "",
) -> Response:
    """Show one conflict with a notice, and with the preview of a value that was typed, or the text that is none."""
    found = await reading.conflict(sources, asked)
    closed = found.closed_at is not None
    again = await _again(sources, found) if closed else None
    decided = await authorship.resolved(sources.store, found.id) if closed else None
    choices = []
    if not closed:
        choices = [await _choice(sources, found, way.take) for way in WAYS[Hold(found.hold)]]
        if typed is not msgspec.UNSET:
            choices.append(await _choice(sources, found, Other(typed)))
    live = next((choice.preview.live for choice in choices if choice.preview), found.live)
    return rendering.current(
        sources,
        asked,
        "conflict.html",
        code,
        notice=notice,
        conflict=found,
        again=again,
        decided=decided and (views.actions.by(decided), decided.details),
        live=live,
        choices={choice.take: choice for choice in choices},
        ways=WAYS[Hold(found.hold)],
        typed="" if typed is msgspec.UNSET else typed,
        text=text,
        marked_desired=differing.parts(found.desired, live),
        marked_live=differing.parts(live, found.desired),
        marked_base=differing.parts(found.base, live) if found.has_base else (),
    )


async def _again(sources: Sources, found: views.waiting.Conflict) -> str | None:
    """Return the conflict in which the same field waits again: a move of either side closes one and opens another."""
    document = (await sources.store.documents([found.document])).get(found.document)
    held = () if document is None else document.agreement.held
    return next((one.id for one in held if one.field == found.field), None)


async def _choice(sources: Sources, found: views.waiting.Conflict, take: Take) -> Choice:
    preview = await sources.actions.preview(found.id, take)
    name = take.value if isinstance(take, Side) else "value"
    if isinstance(preview, Gone | Unusable):
        return Choice(name, msgspec.UNSET, (), None, preview.reason)
    return Choice(name, preview.wanted, differing.parts(preview.wanted, preview.live), preview, "")
