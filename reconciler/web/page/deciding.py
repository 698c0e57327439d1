"""Deciding: a person takes one side of a conflict, or types a value; or takes one side of many at once."""

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec
from starlette.responses import Response

from reconciler.core.planning import resolution
from reconciler.errors import UsageError
from reconciler.model.action import RESOLVED_MAX, WAYS, Gone, Other, Resolved, Side, Stale, Take, Unusable
from reconciler.web import actions, bodies
from reconciler.web.answers import HttpError
from reconciler.web.endpoint import Asked
from reconciler.web.page import conflicts, notices, rendering, spelling
from reconciler.web.sources import Sources

_STALE = "somebody was quicker: this is what each choice would write now; look again before you decide"
_SHOWN_MAX = 100  # of many; the rest is decided alike


async def preview(sources: Sources, asked: Asked) -> Response:
    """Show what a typed value would write; nothing is done."""
    form = await bodies.fields(asked.request)
    text = form.get("value", "")
    try:
        return await conflicts.shown(sources, asked, None, typed=resolution.value(text))
    except UsageError as fault:
        return await conflicts.shown(sources, asked, notices.refused(str(fault)), 422, text=text)


async def resolve(sources: Sources, asked: Asked) -> Response:
    """Decide one conflict, if what was seen is still so."""
    form = await bodies.fields(asked.request)
    take, seen = _take(form), form.get("seen", "")
    if not seen:
        raise HttpError(400, "seen: is missing; decide on the page of the conflict, which shows what will be written")
    conflict, reason = asked.path["id"], notices.reason(form)
    value = take.value if isinstance(take, Other) else msgspec.UNSET
    match await actions.actions_on_log(sources, asked).resolve(asked.who.name, conflict, take, reason, seen):
        case Resolved():
            return rendering.elsewhere(spelling.address("/conflicts", done="decided"))
        case Stale():
            return await conflicts.shown(sources, asked, notices.refused(_STALE), 409, typed=value)
        case Gone(said):
            return await conflicts.shown(sources, asked, notices.refused(said), 409)
        case Unusable(said):
            return await conflicts.shown(sources, asked, notices.refused(said), 422, typed=value)


@attrs.frozen
class _Wish:
    """Which conflicts are to be decided at once, and for which side."""

    take: Side
    field: str
    rule: str

    @property
    def which(self) -> dict[str, Any]:
        return {"field": self.field or None, "rule": self.rule or None, "limit": RESOLVED_MAX}

    @property
    def command(self) -> str:
        by = ("--field", self.field) if self.field else ("--rule", self.rule)
        way = (self.take.value,) if self.take in (Side.ACCEPT, Side.RETRY) else ("resolve", "--take", self.take.value)
        return spelling.command("conflicts", *way, *by, "--limit", str(RESOLVED_MAX))


def _wish(form: Mapping[str, str]) -> _Wish:
    field, rule = form.get("field", ""), form.get("rule", "")
    side = WAYS.get(form.get("take", ""))
    if side is None or bool(field) is bool(rule):
        raise HttpError(400, "say which side is taken, and either a field or a rule")
    return _Wish(side, field, rule)


async def preview_many(sources: Sources, asked: Asked) -> Response:
    """Show what deciding all conflicts on a field or of a rule for one side would write; nothing is done."""
    wish = _wish(await bodies.fields(asked.request))
    found = await sources.actions.preview_many(wish.take, **wish.which)
    return rendering.current(
        sources,
        asked,
        "many.html",
        wish=wish,
        found=found,
        listed=found.previews[:_SHOWN_MAX],
        left=list(found.left.items())[:_SHOWN_MAX],
        seen=" ".join(f"{one.conflict}:{one.seen}" for one in found.previews),
    )


async def resolve_many(sources: Sources, asked: Asked) -> Response:
    """Decide those conflicts on a field or of a rule for one side that were shown, if what was seen is still so."""
    form = await bodies.fields(asked.request)
    wish = _wish(form)
    seen = dict(one.rpartition(":")[::2] for one in form.get("seen", "").split())
    if not seen:
        raise HttpError(400, "seen: is missing; the page shows first what will be written")
    done = await actions.actions_on_log(sources, asked).resolve_many(
        asked.who.name, wish.take, notices.reason(form), **wish.which, seen=seen
    )
    if not done.left and not done.more:
        return rendering.elsewhere(spelling.address("/conflicts", done="decided-many", n=len(done.decided)))
    asked = attrs.evolve(asked, query=conflicts.ConflictsQuery())
    more = " There are others beyond these: do it again for the next, once these are read." if done.more else ""
    kept = "".join(f" {one}: {why}." for one, why in list(done.left.items())[:5])
    said = f"Decided: {len(done.decided)}; left: {len(done.left)}.{more}{kept}"
    return await conflicts.listed(sources, asked, notices.Notice("warn", said), 200 if done.decided else 409)


def _take(form: Mapping[str, str]) -> Take:
    take = form.get("take", "")
    if take != "value":
        if take not in WAYS:
            raise HttpError(400, f"take: is one of {', '.join(WAYS)} or value")
        return WAYS[take]
    try:
        return Other(resolution.value(form.get("value", "")))
    except UsageError as fault:
        raise HttpError(422, str(fault)) from fault
