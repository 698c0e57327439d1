"""Conflicts: the list, one conflict with a preview of each choice, and the decisions on one or many."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import attrs
import msgspec
from starlette.responses import Response

from reconciler import views
from reconciler.core.planning import resolution
from reconciler.errors import UsageError
from reconciler.model.action import RESOLVED_MAX, WAYS, Gone, Other, Preview, Resolved, Side, Stale, Take, Unusable
from reconciler.model.document import ConflictRow, Document
from reconciler.model.plan import Hold
from reconciler.model.policy import FALLBACK
from reconciler.ports import authorship
from reconciler.web import action_api, inputs, paging, read_api
from reconciler.web.endpoint import Call
from reconciler.web.page import diff, links, notices, rendering
from reconciler.web.responses import HttpError
from reconciler.web.services import Services


class ConflictsQuery(notices.PageWithNotice, frozen=True, kw_only=True):
    """Which conflicts."""

    closed: bool = False
    field: Annotated[str, msgspec.Meta(max_length=600)] = ""
    document: Annotated[str, msgspec.Meta(max_length=600)] = ""
    source: Annotated[str, msgspec.Meta(max_length=600)] = ""
    sort: paging.Order = "oldest"

    def wants(self, row: ConflictRow) -> bool:
        """Whether a conflict passes the filters."""
        return (
            self.field in ("", row.conflict.field)
            and row.document.startswith(self.document)
            and self.source in ("", row.conflict.stamp.source)
        )

    @property
    def filters(self) -> dict[str, str]:
        """What the address of this list says, but its order and place."""
        said = {"field": self.field, "document": self.document, "source": self.source}
        return {"closed": "true" if self.closed else "", **said}


class ConflictQuery(notices.WithNotice, frozen=True, kw_only=True):
    """One conflict."""


@attrs.frozen
class Choice:
    """One choice: its value and a preview of the writes, or why it is not possible."""

    take: str  # desired, live or value
    value: object
    parts: tuple[diff.Part, ...]
    preview: Preview | None
    fault: str


@attrs.frozen
class Way:
    """One button: what it does to the conflict, its label and an explanation."""

    take: Side
    label: str
    about: str


KEEP, WRITE = "Keep Windchill's value", "Write our value"
ACCEPT, RETRY = "Accept as equal", "Retry now"
LABELS: Final = {Side.LIVE: KEEP, Side.DESIRED: WRITE, Side.ACCEPT: ACCEPT, Side.RETRY: RETRY}
CHOICES: Final = {
    Hold.DECIDE: (
        Way(Side.LIVE, KEEP, "Windchill keeps its value."),
        Way(Side.DESIRED, WRITE, "The value from the log is written to Windchill."),
    ),
    Hold.REFUSED: (
        Way(Side.LIVE, KEEP, "Windchill keeps its value."),
        Way(Side.RETRY, RETRY, "Our value is written again now; its attempts are counted from zero."),
    ),
    Hold.CONTESTED: (
        Way(Side.ACCEPT, ACCEPT, "From now on Windchill's form of the value counts as equal to ours."),
        Way(Side.RETRY, RETRY, "Our value is written again now; its attempts are counted from zero."),
        Way(Side.LIVE, KEEP, "Windchill keeps its value until an event asks for another one."),
    ),
}


async def show_list(services: Services, call: Call, notice: notices.Notice | None = None, code: int = 200) -> Response:
    """List fields that are waiting for a decision."""
    query: ConflictsQuery = call.query
    asked, closed, wanted = (services.store, query.after, query.limit), query.closed, query.wants
    if query.sort == "oldest":
        page, whole = await paging.conflicts(*asked, closed=closed, wanted=wanted), True
    else:
        page, whole = await paging.sorted_conflicts(*asked, query.sort, closed=closed, wanted=wanted)
    sort = "" if query.sort == "oldest" else query.sort
    return rendering.page(
        services,
        call,
        "conflicts.html",
        notice,
        code,
        rows=page.items,
        bulk={"live": f"{KEEP} for all", "desired": f"{WRITE} for all", "accept": "Accept all contested"},
        fields=sorted({row.field for row in page.items}),
        sources=sorted({row.source for row in page.items}),
        filtered=any((query.field, query.document, query.source)),
        whole=whole,
        orders={order: links.address("/conflicts", **query.filters, sort=order) for order in paging.ORDERS},
        rules=[rule.name for rule in (*services.policy.rules, FALLBACK)],
        **links.pages("/conflicts", page.next, **query.filters, sort=sort),
    )


async def show_one(
    services: Services,
    call: Call,
    notice: notices.Notice | None = None,
    code: int = 200,
    *,
    typed: Any = msgspec.UNSET,
    text: str = "",
) -> Response:
    """Show one conflict and what each choice would write; `text` is a typed value that is not JSON."""
    found = await read_api.conflict(services, call)
    closed = found.closed_at is not None
    document = (await services.store.documents([found.document])).get(found.document)
    again = _again(document, found) if closed else None
    decided = await authorship.resolved(services.store, found.id) if closed else None
    choices = []
    if not closed:
        choices = [await _choice(services, found, way.take) for way in CHOICES[Hold(found.hold)]]
        if typed is not msgspec.UNSET:
            choices.append(await _choice(services, found, Other(typed)))
    live = next((choice.preview.live for choice in choices if choice.preview), found.live)
    return rendering.page(
        services,
        call,
        "conflict.html",
        notice,
        code,
        conflict=found,
        again=again,
        modified=None if document is None else views.documents.row(document),
        actor=_actor(document, found),
        in_windchill="" if document is None else services.windchill_link(document),
        decided=decided and (views.actions.by(decided), decided.details),
        live=live,
        choices={choice.take: choice for choice in choices},
        ways=CHOICES[Hold(found.hold)],
        typed="" if typed is msgspec.UNSET else typed,
        text=text,
        marked_desired=diff.parts(found.desired, live),
        marked_live=diff.parts(live, found.desired),
        marked_base=diff.parts(found.base, live) if found.has_base else (),
    )


def _actor(document: Document | None, found: views.open_items.Conflict) -> str:
    """Return who asked for our value, as its event says; empty if it doesn't, or if a newer one took its place."""
    field = None if document is None else document.desired.fields.get(found.field)
    register = None if field is None else field.register
    return register.actor if register is not None and register.stamp.id == found.event else ""


def _again(document: Document | None, found: views.open_items.Conflict) -> str | None:
    """Return the open conflict on the same field: a change on either side closes one and opens another."""
    held = () if document is None else document.agreement.held
    return next((one.id for one in held if one.field == found.field), None)


async def _choice(services: Services, found: views.open_items.Conflict, take: Take) -> Choice:
    preview = await services.actions.preview(found.id, take)
    name = take.value if isinstance(take, Side) else "value"
    if isinstance(preview, Gone | Unusable):
        return Choice(name, msgspec.UNSET, (), None, preview.reason)
    return Choice(name, preview.wanted, diff.parts(preview.wanted, preview.live), preview, "")


# ------------------------------------------------------------------------------------------------------------ decisions


_STALE = "a value has changed since this page was loaded; check what each choice would write now"
_SHOWN_MAX = 100  # previews shown; the others are resolved in the same way


async def preview(services: Services, call: Call) -> Response:
    """Preview a typed value."""
    form = await inputs.fields(call.request)
    text = form.get("value", "")
    try:
        return await show_one(services, call, typed=resolution.value(text))
    except UsageError as fault:
        return await show_one(services, call, notices.refused(str(fault)), 422, text=text)


async def resolve(services: Services, call: Call) -> Response:
    """Resolve one conflict, unless a value has changed since the page was shown."""
    form = await inputs.fields(call.request)
    take, seen = _take(form), form.get("seen", "")
    if not seen:
        raise HttpError(400, "seen: missing; resolve the conflict on its page, which shows what will be written")
    conflict, reason = call.path["id"], notices.reason(form)
    value = take.value if isinstance(take, Other) else msgspec.UNSET
    match await action_api.actions_on_log(services, call).resolve(call.who.name, conflict, take, reason, seen):
        case Resolved():
            return rendering.redirect(links.address("/conflicts", done="decided"))
        case Stale():
            return await show_one(services, call, notices.refused(_STALE), 409, typed=value)
        case Gone(said):
            return await show_one(services, call, notices.refused(said), 409)
        case Unusable(said):
            return await show_one(services, call, notices.refused(said), 422, typed=value)


@attrs.frozen
class _Selection:
    """Which conflicts to resolve together, and how."""

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
        return links.command("conflicts", *way, *by, "--limit", str(RESOLVED_MAX))


def _selection(form: Mapping[str, str]) -> _Selection:
    field, rule = form.get("field", ""), form.get("rule", "")
    side = WAYS.get(form.get("take", ""))
    if side is None or bool(field) is bool(rule):
        raise HttpError(400, "choose whose value to take, and either a field or a rule")
    return _Selection(side, field, rule)


async def preview_many(services: Services, call: Call) -> Response:
    """Preview a decision on all conflicts of a field or a rule."""
    selection = _selection(await inputs.fields(call.request))
    found = await services.actions.preview_many(selection.take, **selection.which)
    return rendering.page(
        services,
        call,
        "many.html",
        selection=selection,
        label=LABELS[selection.take],
        found=found,
        listed=found.previews[:_SHOWN_MAX],
        left=list(found.left.items())[:_SHOWN_MAX],
        seen=" ".join(f"{one.conflict}:{one.seen}" for one in found.previews),
    )


async def resolve_many(services: Services, call: Call) -> Response:
    """Resolve the conflicts that were previewed, unless their values have changed since."""
    form = await inputs.fields(call.request)
    selection = _selection(form)
    seen = dict(one.rpartition(":")[::2] for one in form.get("seen", "").split())
    if not seen:
        raise HttpError(400, "seen: missing; the page must first show what will be written")
    done = await action_api.actions_on_log(services, call).resolve_many(
        call.who.name, selection.take, notices.reason(form), **selection.which, seen=seen
    )
    if not done.left and not done.more:
        return rendering.redirect(links.address("/conflicts", done="decided-many", n=len(done.decided)))
    call = attrs.evolve(call, query=ConflictsQuery())
    more = " More conflicts match: repeat this once these have taken effect." if done.more else ""
    kept = "".join(f" {one}: {why}." for one, why in list(done.left.items())[:5])
    said = f"Resolved: {len(done.decided)}; left open: {len(done.left)}.{more}{kept}"
    return await show_list(services, call, notices.Notice("warn", said), 200 if done.decided else 409)


def _take(form: Mapping[str, str]) -> Take:
    take = form.get("take", "")
    if take != "value":
        if take not in WAYS:
            raise HttpError(400, f"take: must be one of {', '.join(WAYS)} or value")
        return WAYS[take]
    try:
        return Other(resolution.value(form.get("value", "")))
    except UsageError as fault:
        raise HttpError(422, str(fault)) from fault
