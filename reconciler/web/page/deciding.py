"""Deciding: a person takes one side of a conflict, or types a value; or takes one side of many at once."""

from collections.abc import Mapping

import attrs
import msgspec
from starlette.responses import Response

from reconciler.model.act import Gone, Other, Resolved, Side, Stale, Take, Unusable
from reconciler.model.value import Json
from reconciler.web import forms
from reconciler.web.answers import Refused
from reconciler.web.endpoint import Asked
from reconciler.web.page import conflicts, notices, rendering, spelling
from reconciler.web.sources import Sources

_STALE = "somebody was quicker: this is what each choice would write now; look again before you decide"
_LIMIT = 500


async def preview(sources: Sources, asked: Asked) -> Response:
    """Show what a typed value would write; nothing is done."""
    form = await forms.fields(asked.request)
    asked = attrs.evolve(asked, query=conflicts.ConflictQuery())
    return await conflicts.shown(sources, asked, None, typed=typed(form.get("value", "")))


async def resolve(sources: Sources, asked: Asked) -> Response:
    """Decide one conflict, if what was seen is still so."""
    form = await forms.fields(asked.request)
    take, seen = _take(form), form.get("seen", "")
    if not seen:
        raise Refused(400, "seen: is missing; decide on the page of the conflict, which shows what will be written")
    conflict, reason = asked.path["id"], notices.reason(form)
    asked = attrs.evolve(asked, query=conflicts.ConflictQuery())
    value = take.value if isinstance(take, Other) else msgspec.UNSET
    match await notices.acts_on_log(sources, asked).resolve(asked.who.name, conflict, take, reason, seen):
        case Resolved():
            return rendering.elsewhere(spelling.address("/conflicts", done="decided"))
        case Stale():
            return await conflicts.shown(sources, asked, notices.refused(_STALE), 409, value)
        case Gone(said):
            return await conflicts.shown(sources, asked, notices.refused(said), 409)
        case Unusable(said):
            return await conflicts.shown(sources, asked, notices.refused(said), 422, value)


async def resolve_many(sources: Sources, asked: Asked) -> Response:
    """Decide all conflicts on a field or of a rule for one side."""
    form = await forms.fields(asked.request)
    field, rule = form.get("field", ""), form.get("rule", "")
    if form.get("take") not in ("desired", "live") or bool(field) is bool(rule):
        raise Refused(400, "say which side is taken, and either a field or a rule")
    done = await notices.acts_on_log(sources, asked).resolve_many(
        asked.who.name,
        Side(form["take"]),
        notices.reason(form),
        field=field or None,
        rule=rule or None,
        limit=_LIMIT,
    )
    if not done.left and not done.more and done.decided:
        return rendering.elsewhere(spelling.address("/conflicts", done="decided-many", n=len(done.decided)))
    asked = attrs.evolve(asked, query=conflicts.ConflictsQuery())
    more = " There are others beyond these: do it again for the next." if done.more else ""
    kept = "".join(f" {one}: {why}." for one, why in list(done.left.items())[:5])
    said = f"Decided: {len(done.decided)}; left: {len(done.left)}.{more}{kept}"
    return await conflicts.listed(sources, asked, notices.Notice("warn", said), 200 if done.decided else 409)


def _take(form: Mapping[str, str]) -> Take:
    match form.get("take"):
        case "desired" | "live" as side:
            return Side(side)
        case "value":
            return Other(typed(form.get("value", "")))
        case _:
            raise Refused(400, "take: is desired, live or value")


def typed(text: str) -> Json:
    """Return what somebody has typed: JSON if it reads as JSON, else text."""
    try:
        found: Json = msgspec.json.decode(text)
        return found
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text
