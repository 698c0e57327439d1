"""The audit trail: search, operator actions, and export as CSV."""

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
from reconciler.web import paging, read_api
from reconciler.web.endpoint import Call, Page, Query
from reconciler.web.page import formatting, links, rendering
from reconciler.web.responses import HttpError
from reconciler.web.services import Services

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
    """Which attempts; a form sends empty texts for unused fields."""

    document: _Text = ""
    since: _Text = ""
    until: _Text = ""


class ExportQuery(Query, frozen=True, kw_only=True):
    """Which attempts."""

    document: _Text = ""
    since: _Text = ""
    until: _Text = ""


async def show(services: Services, call: Call) -> Response:
    """List attempts, newest first."""
    query: TrailQuery = call.query
    wanted = _wanted(query, query.after, query.limit)
    found = await read_api.audit(services, attrs.evolve(call, query=wanted))
    same = {"document": query.document, "since": query.since, "until": query.until}
    options = [word for name in ("document", "since", "until") if same[name] for word in (f"--{name}", same[name])]
    return rendering.page(
        services,
        call,
        "audit.html",
        rows=found.items,
        **links.pages("/audit", found.next, **same),
        export=links.address("/audit.csv", **same),
        command=links.command("audit", "list", *options),
    )


class ActionsQuery(Page, frozen=True, kw_only=True):
    """Which operator actions."""

    document: _Text = ""
    who: _Text = ""


async def actions(services: Services, call: Call) -> Response:
    """List operator actions, newest first."""
    query: ActionsQuery = call.query
    document, who = query.document or None, query.who or None
    page = await paging.actions(services.store, query.after, query.limit, document=document, who=who)
    same = {"document": query.document, "who": query.who}
    return rendering.page(
        services,
        call,
        "actions.html",
        rows=[(action, _details(action)) for action in page.items],
        **links.pages("/audit/acts", page.next, **same),
    )


def _details(action: views.actions.OperatorAction) -> list[tuple[str, str]]:
    """Return the details of an action as texts."""
    given = [(name, value) for name, value in action.details.items() if value not in ("", [], None)]
    return [(name, value if isinstance(value, str) else formatting.of_json(value)) for name, value in given]


async def export(services: Services, call: Call) -> Response:
    """Export all matching attempts as CSV, newest first, page by page."""
    query: ExportQuery = call.query
    wanted = _wanted(query, "", _PAGE)
    begun = await read_api.audit(
        services, attrs.evolve(call, query=wanted)
    )  # errors are answered before the file begins
    return _Export(services, call, wanted, begun)


class _AbandonedError(Exception):
    """An export that no one waits for."""


class _Export(Response):
    """
    All rows of an export.

    An interrupted export ends without the end of the response, so that no client mistakes it for the whole.
    """

    def __init__(
        self, services: Services, call: Call, wanted: read_api.AuditQuery, begun: views.history.AuditPage
    ) -> None:
        headers = {"content-disposition": 'attachment; filename="audit.csv"'}
        super().__init__(None, headers=headers, media_type="text/csv")
        del self.headers["content-length"]
        self._services = services
        self._call = call
        self._wanted = wanted
        self._begun = begun

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  the signature of ASGI
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            try:
                async for text in self._lines():
                    await send({"type": "http.response.body", "body": text, "more_body": True})
            except (StoreError, _AbandonedError) as error:
                _log.warning("an export was cut off", error=str(error))
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _lines(self) -> AsyncIterator[bytes]:
        yield _csv([_COLUMNS])
        wanted, found = self._wanted, self._begun
        while True:
            yield await rendering.in_thread(_rows, found)
            if found.next is None:
                return
            if self._services.stopping.is_set() or await self._call.request.is_disconnected():
                raise _AbandonedError("the client has disconnected, or the reconciler is stopping")
            wanted = msgspec.structs.replace(wanted, after=found.next)
            found = await read_api.audit(self._services, attrs.evolve(self._call, query=wanted))


def _wanted(query: Any, after: str, limit: int) -> read_api.AuditQuery:
    return read_api.AuditQuery(
        document=query.document or None,
        since=_moment("since", query.since),
        until=_moment("until", query.until),
        after=after,
        limit=limit,
    )


def _moment(name: str, given: str) -> str | None:
    """Return a time in the form of the API; a time without zone is UTC."""
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
    Return a cell that no spreadsheet takes for a formula: such a text gets a leading apostrophe.

    In some locales spreadsheets split cells at semicolons, so text after a semicolon is treated the same way.
    """
    if not isinstance(cell, str):
        return cell
    text = _BEHIND.sub(r"\1'", cell)
    return "'" + text if text.lstrip(" ").startswith(_FORMULA) else text
