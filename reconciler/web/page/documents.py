"""The list of documents, the page of one document, and the actions on it: reconcile now, pause, resume, release."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

import attrs
import msgspec
from starlette.responses import Response

from reconciler.flows.actions import OperatorActions
from reconciler.model.document import Status
from reconciler.web import action_api, inputs, paging, read_api
from reconciler.web.endpoint import Call, Handler, Page
from reconciler.web.page import diff, links, notices, rendering
from reconciler.web.services import Services

_Run = Callable[[OperatorActions, str, str, str], Awaitable[object]]
_PREFIX_MAX = 512
_OPEN = 25  # newest chapters shown; the others are folded away


class DocumentsQuery(notices.PageWithNotice, frozen=True, kw_only=True):
    """Which documents; `status` may be empty, as a form sends it."""

    status: Literal["", *(status.value for status in Status)] = ""  # type: ignore[valid-type]  # the members, and none
    q: Annotated[str, msgspec.Meta(max_length=_PREFIX_MAX)] = ""


class DocumentQuery(notices.WithNotice, frozen=True, kw_only=True):
    """Which part of a document."""

    field: Annotated[str, msgspec.Meta(max_length=_PREFIX_MAX)] = ""  # only the history of this field; empty: all


async def show_list(services: Services, call: Call) -> Response:
    """List documents in the order of their keys, by status and by the beginning of the key."""
    query: DocumentsQuery = call.query
    status = Status(query.status) if query.status else None
    page = await paging.documents(services.store, status, query.after, query.limit, query.q)
    same = {"status": query.status, "q": query.q, "limit": "" if query.limit == Page().limit else query.limit}
    return rendering.page(
        services,
        call,
        "documents.html",
        counts={status.value: count for status, count in (await services.store.counts()).items()},
        statuses=[status.value for status in Status],
        rows=page.items,
        **links.pages("/documents", page.next, **same),
        command=links.command("docs", "list", *(("--status", query.status) if query.status else ())),
    )


async def _in_windchill(services: Services, key: str) -> str:
    """Return the address of a document in Windchill's own pages, empty if it is not known."""
    known = await services.store.documents([key])
    return services.windchill_link(known[key]) if key in known else ""


async def show_one(services: Services, call: Call, notice: notices.Notice | None = None, code: int = 200) -> Response:
    """Show one document: its fields, a summary and its history."""
    query: DocumentQuery = call.query
    found = await read_api.document(services, call)
    wanted = attrs.evolve(call, query=read_api.StoryQuery(field=query.field or None))
    story = await read_api.document_story(services, wanted)
    history = story.chapters[::-1]
    return rendering.page(
        services,
        call,
        "document.html",
        notice,
        code,
        document=found,
        in_windchill=await _in_windchill(services, found.document),
        fields=await rendering.in_thread(diff.fields, found),
        story=story,
        told={attempt for chapter in history for attempt in chapter.audit},
        only=query.field,
        history=history[:_OPEN],
        earlier=history[_OPEN:],
    )


# ------------------------------------------------------------------------------------------------------------- actions


async def compare(services: Services, call: Call) -> Response:
    """Make every document due for a comparison."""
    count = await action_api.actions_of(services, call).compare(call.who.name, None)
    return rendering.redirect(links.address("/documents", done="compared", n=str(count)))


def _action(run: _Run, done: str, *, on_log: bool = False) -> Handler:
    """Return the handler of a button; `run` gets the actions, the operator's name, the key and the reason."""

    async def handle(services: Services, call: Call) -> Response:
        reason = notices.reason(await inputs.fields(call.request))
        actions = action_api.actions_on_log(services, call) if on_log else action_api.actions_of(services, call)
        key = call.path["document"]
        refusal = action_api.refusal(await run(actions, call.who.name, key, reason), key)
        if refusal is None:
            return rendering.redirect(links.address(links.document(key), done=done))
        call = attrs.evolve(call, query=DocumentQuery())
        return await show_one(services, call, notices.refused(refusal), 409)

    return handle


retry = _action(lambda actions, who, key, _: actions.retry(who, [key]), "retried")
pause = _action(lambda actions, who, key, reason: actions.pause(who, [key], reason), "paused")
resume = _action(lambda actions, who, key, _: actions.resume(who, [key]), "resumed")
release = _action(lambda actions, who, key, reason: actions.release(who, key, reason), "released", on_log=True)
