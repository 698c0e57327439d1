"""Trail: the search in the audit trail, and its export as CSV."""

import csv
import io
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import attrs
import msgspec
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from reconciler import views
from reconciler.errors import StoreError
from reconciler.model import instant
from reconciler.model.action import OperatorAction
from reconciler.web import bodies, lists, reading
from reconciler.web.answers import HttpError
from reconciler.web.endpoint import Asked, Page, Query
from reconciler.web.page import looks, rendering, spelling
from reconciler.web.sources import Sources

_log = structlog.get_logger(__name__)

_PAGE: Final = 500
_COLUMNS: Final = (
    *("id", "at", "document", "cause", "attempt", "result", "written", "status", "message"),
    *("token_before", "token_after", "policy", "decisions"),
)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_BEHIND: Final = re.compile('(?s)(?<=.)([;\\t\\r\\n][ "]*)(?=[=+\\-@\uff1d\uff0b\uff0d\uff20])')
_Text = Annotated[str, msgspec.Meta(max_length=600)]


class TrailQuery(Page, frozen=True, kw_only=True):
    """Which attempts; a form sends empty texts for what is not said."""

    document: _Text = ""
    since: _Text = ""
    until: _Text = ""


class ExportQuery(Query, frozen=True, kw_only=True):
    """Which attempts."""

    document: _Text = ""
    since: _Text = ""
    until: _Text = ""


async def show(sources: Sources, asked: Asked) -> Response:
    """List attempts, newest first."""
    query: TrailQuery = asked.query
    wanted = _wanted(query, query.after, query.limit)
    found = await reading.audit(sources, attrs.evolve(asked, query=wanted))
    same = {"document": query.document, "since": query.since, "until": query.until}
    options = [word for name in ("document", "since", "until") if same[name] for word in (f"--{name}", same[name])]
    return rendering.current(
        sources,
        asked,
        "audit.html",
        query=query,
        rows=found.items,
        next=found.next and spelling.address("/audit", **same, after=found.next),
        first=spelling.address("/audit", **same),
        export=spelling.address("/audit.csv", **same),
        command=spelling.command("audit", "list", *options),
    )


class ActionsQuery(Page, frozen=True, kw_only=True):
    """Which actions."""

    document: _Text = ""
    who: _Text = ""


async def actions(sources: Sources, asked: Asked) -> Response:
    """List what people have done, newest first."""
    query: ActionsQuery = asked.query
    before = bodies.place(query.after, tuple[bodies.Number]) if query.after else None
    page = await lists.actions(
        sources.store, before, query.limit, document=query.document or None, who=query.who or None
    )
    same = {"document": query.document, "who": query.who}
    return rendering.current(
        sources,
        asked,
        "actions.html",
        query=query,
        rows=[(action, instant.from_us(action.at_us), _said(action)) for action in page.items],
        next=page.next and spelling.address("/audit/acts", **same, after=page.next),
        first=spelling.address("/audit/acts", **same),
    )


def _said(action: OperatorAction) -> list[tuple[str, str]]:
    """Return what was given with an action, in texts."""
    given = [(name, value) for name, value in action.details.items() if value not in ("", [], None)]
    return [(name, value if isinstance(value, str) else looks.of_json(value)) for name, value in given]


async def export(sources: Sources, asked: Asked) -> Response:
    """Answer with all attempts that are searched for as CSV, newest first, page by page."""
    query: ExportQuery = asked.query
    wanted = _wanted(query, "", _PAGE)
    begun = await reading.audit(sources, attrs.evolve(asked, query=wanted))  # what is wrong is said before anything
    return _Export(sources, asked, wanted, begun)


class _AbandonedError(Exception):
    """An export is not worth going on with."""


class _Export(Response):
    """
    The rows, as many as there are.

    An export that can't go on ends without the end of the answer, so that no client takes what it has for the whole.
    """

    def __init__(
        self, sources: Sources, asked: Asked, wanted: reading.AuditQuery, begun: views.history.AuditPage
    ) -> None:
        headers = {"content-disposition": 'attachment; filename="audit.csv"'}
        super().__init__(None, headers=headers, media_type="text/csv")
        del self.headers["content-length"]
        self._sources = sources
        self._asked = asked
        self._wanted = wanted
        self._begun = begun

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  as ASGI has it
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            try:
                async for text in self._lines():
                    await send({"type": "http.response.body", "body": text, "more_body": True})
            except (StoreError, _AbandonedError) as error:
                _log.warning("an export ends before its end", error=str(error))
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _lines(self) -> AsyncIterator[bytes]:
        yield _csv([_COLUMNS])
        wanted, found = self._wanted, self._begun
        while True:
            yield await rendering.beside(_rows, found)
            if found.next is None:
                return
            if self._sources.stopping.is_set() or await self._asked.request.is_disconnected():
                raise _AbandonedError("nobody waits for it any more, or the reconciler stops")
            wanted = msgspec.structs.replace(wanted, after=found.next)
            found = await reading.audit(self._sources, attrs.evolve(self._asked, query=wanted))


def _wanted(query: Any, after: str, limit: int) -> reading.AuditQuery:
    return reading.AuditQuery(
        document=query.document or None,
        since=_moment("since", query.since),
        until=_moment("until", query.until),
        after=after,
        limit=limit,
    )


def _moment(name: str, given: str) -> str | None:
    """Return a time as the API takes it; what a date field gives has neither seconds nor zone, and means UTC."""
    if not given:
        return None
    for text in (given, f"{given}Z", f"{given}:00Z", f"{given}T00:00:00Z"):
        try:
            return instant.canonical(text)
        except ValueError:
            continue
    raise HttpError(400, f"{name}: write 2026-11-22, 2026-11-22T10:00 or 2026-11-22T10:00:00Z (in UTC)")


def _rows(found: views.history.AuditPage) -> bytes:
    return _csv([[safe(cell) for cell in _row(row)] for row in found.items])


def _csv(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(errors="backslashreplace")


def _row(row: views.history.AuditRow) -> tuple[object, ...]:
    said = {verdict.field: verdict.decision for verdict in row.decisions}
    return (
        *(row.id, row.at, row.document, row.cause, row.attempt, row.result, " ".join(row.written), row.status),
        *(row.message, row.token_before, row.token_after, row.policy),
        "; ".join(f"{field}: {decision}" for field, decision in said.items()),
    )


def safe(cell: object) -> object:
    """
    Return a cell that no spreadsheet takes for a formula: such a text gets an apostrophe in front.

    Where numbers have a comma, spreadsheets part cells at semicolons: what stands behind one may begin a cell too.
    """
    if not isinstance(cell, str):
        return cell
    text = _BEHIND.sub(r"\1'", cell)
    return "'" + text if text.lstrip(" ").startswith(_FORMULA) else text
