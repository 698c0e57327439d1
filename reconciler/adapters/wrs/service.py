"""
The service: URLs, requests and pages of one OData service, and what reads and writes have in common.

Rules
- No other origin gets a request. Reads follow redirects and links to next pages only to the same scheme, host and port,
  a few times at most, and with no other credentials. Writes follow nothing.
- Only JSON that says it is JSON is data; a login page with status 200 is not.
- All requests share one HTTP session (`cookies`). When the server turns one away (401, a redirect elsewhere, a page),
  the session has ended: a read is sent once more without it, and so is a write that was answered 401, which was not
  carried out (RFC 9110 section 15.5.2).
- A write carries a nonce (`nonces`).
- One call reads the schema for all callers that wait. It is read again when an entity has an unknown type, or when it
  is some minutes old and forbids a write.
- A message contains the server's error code and none of our secrets.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote, urljoin, urlsplit

import attrs
import msgspec
import structlog

from reconciler.adapters import refusals, replies
from reconciler.adapters.credentials import Headers
from reconciler.adapters.http import HttpClient
from reconciler.adapters.replies import Exchange, Reply
from reconciler.adapters.wrs import metadata, signatures
from reconciler.adapters.wrs.cookies import Cookies
from reconciler.adapters.wrs.metadata import MetadataError, Schema
from reconciler.adapters.wrs.nonces import Nonce, Nonces
from reconciler.adapters.wrs.options import WrsOptions
from reconciler.model.answer import Broken, Failed, NotAvailable, Trouble
from reconciler.model.snapshot import Token
from reconciler.model.value import Json
from reconciler.ports import Clock

_log = structlog.get_logger(__name__)

INVALID_NONCE = "INVALID_NONCE"
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_HOPS_MAX = 3
_ABOUT_WHAT_WAS_ASKED = frozenset((400, 414, 422, 423, 451))  # its ID, its key, the length of the query
_REFERENCES_MAX = 4  # other services' metadata that ours builds on; for WRS one, PTC's
_SCHEMA_S_MIN = 300.0  # between two readings of the schema for one property: it can be megabytes
_UNKNOWN_TYPES_MAX = 1000  # remembered, so that an undescribed type does not cost a schema at every read
# identity: a front end that compresses marks or weakens the ETag of what it compressed.
_HEADERS: Headers = (
    (b"accept", b"application/json"),
    (b"accept-encoding", b"identity"),
    (b"odata-maxversion", b"4.0"),
)
_SENT: Headers = ((b"content-type", b"application/json"), (b"odata-version", b"4.0"))
_XML: Headers = ((b"accept", b"application/xml"), (b"accept-encoding", b"identity"))

Row = dict[str, Json]


class Service:
    """One OData service over one client. `path` is relative to the service's root, `query` is encoded already."""

    def __init__(self, client: HttpClient, options: WrsOptions, clock: Clock) -> None:
        self.options = options
        self._client = client
        self._clock = clock
        self._cookies = Cookies(clock)
        ask = self._ask_nonce if options.service else None
        known = self.explained, _refuses_nonce, self._cookies, clock
        self._nonces = Nonces(ask, *known, life_s=options.nonce_s)
        self._schema_read_s = 0.0
        self._reading = asyncio.Lock()
        self._schema: Schema | None = None
        self._unknown: set[str] = set()  # types that another reading of the schema did not describe either

    # ------------------------------------------------------------------------------------------------------ addresses

    def entity(self, id: str) -> str:
        """Return the path of one entity by its ID."""
        key = () if self._schema is None else self._schema.document.key
        known = self._schema.document.properties.get(key[0]) if self._schema is not None and key else None
        if known is None or known.type == "Edm.String":
            return f"{self.options.entity_set}({encoded(literal(id))})"
        return f"{self.options.entity_set}({quote(id, safe='')})"  # a number or a GUID has no quotes

    def action(self, id: str, name: str) -> str:
        """Return the path of an action or function bound to one entity; `name` with its namespace."""
        return f"{self.entity(id)}/{name}"

    def within_origin(self, base: str, link: str) -> str | None:
        """Return where a link leads, None if to another server or with other credentials."""
        try:
            target = urljoin(base, link)
            ours = origin(target) == origin(self.options.base_url) and "@" not in urlsplit(target).netloc
            return target if link and ours else None
        except ValueError:
            return None

    # ------------------------------------------------------------------------------------------------------- requests

    async def get(self, path: str, query: str = "", headers: Headers = ()) -> Exchange:
        """Read; redirects within the origin are followed."""
        return await self._read(self._url(path, query), (*_HEADERS, *headers))

    async def post(
        self, path: str, body: Mapping[str, Json], if_match: Token | None = None, *, urgent: bool = False
    ) -> Exchange:
        """
        Call an action; with an ETag, only if the entity still has it. Refused nonces are dealt with.

        `urgent`: sent even while no other write is sent because nonces are refused.
        """
        return await self._write("POST", path, body, _guard(if_match), urgent=urgent)

    async def patch(self, path: str, body: Mapping[str, Json], if_match: Token | None) -> Exchange:
        """Change an entity; with an ETag, only if it still has it."""
        return await self._write("PATCH", path, body, _guard(if_match))

    async def pages(self, query: str, pages_max: int) -> AsyncIterator[list[Row] | Trouble]:
        """Yield the rows that a query of the documents' entity set gives, page by page; trouble comes last."""
        url = self._url(self.options.entity_set, query)
        prefer: Headers = ((b"prefer", f"odata.maxpagesize={self.options.page_size}".encode()),)
        seen: set[str] = set()
        while len(seen) < pages_max:
            seen.add(url)
            page = await self._page(url, prefer)
            if not isinstance(page, _Page):
                yield page
                return
            yield page.rows
            if page.next_link is None:
                return
            following = self.within_origin(url, page.next_link)
            if following is None:
                where = self.hidden(_shown(page.next_link))
                yield Broken(
                    replies.cut(f"the next page is on another origin, not read: {where}; see base_url, or the proxy")
                )
                return
            if following in seen:
                yield Broken(replies.cut(f"the next page was read already: {_shown(following)}"))
                return
            url = following
        yield Failed(f"there are more than {pages_max} pages of {self.options.page_size} rows")

    async def schema(self, type: str | None = None) -> Schema | Trouble:
        """Return the service's schema; one that describes `type` (an `@odata.type`), if there is one."""
        if self._schema is not None and self._knows(self._schema, type):
            return self._schema
        async with self._reading:
            if self._schema is not None and self._knows(self._schema, type):
                return self._schema
            schema = await self._schema_read()
            if not isinstance(schema, Schema):
                return schema
            self._schema = schema
            self._schema_read_s = self._clock.monotonic_s()
            if schema.type(type) is None:
                self._unknown.add(type or "")
            return schema

    async def schema_since(self, known: Schema) -> Schema:
        """Return a newer schema if `known` is some minutes old: properties may have been added meanwhile."""
        async with self._reading:
            if self._schema is known and self._clock.monotonic_s() >= self._schema_read_s + _SCHEMA_S_MIN:
                self._schema_read_s = (
                    self._clock.monotonic_s()
                )  # also if it fails, so that writes don't cause a storm of reads
                schema = await self._schema_read()
                self._schema = schema if isinstance(schema, Schema) else known
            return self._schema or known

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    # -------------------------------------------------------------------------------------------------------- answers

    def message(self, reply: Reply) -> str:
        """Return a reply's text, its error code first: short enough to be stored, and without secrets."""
        return replies.cut(self.hidden(replies.message(reply)))  # cut last: the beginning of a secret must not remain

    def hidden(self, said: str) -> str:
        """Return a server's text without secrets."""
        said = self._client.hidden(said)
        for secret in sorted((*self._nonces.secrets, *self._cookies.secrets), key=len, reverse=True):
            said = said.replace(secret, "***")
        return said

    def trouble(self, reply: Reply) -> Trouble | None:
        """Return what reads and writes have in common; None for any other reply."""
        message = self.message(reply)
        if reply.status >= 400 and code(reply) == "ENTITY_NOT_FOUND":
            return NotAvailable(404, message, absent=True)
        return refusals.trouble(reply, message, self.retry_after_s(reply))

    def retry_after_s(self, reply: Reply) -> float | None:
        """Return for how long the server asks us to wait."""
        return self._client.retry_after_s(reply)

    def explained(self, reply: Reply) -> Trouble:
        """Return what a failed read means."""
        if reply.status in _ABOUT_WHAT_WAS_ASKED and code(reply) != "ENTITY_NOT_FOUND":
            return NotAvailable(reply.status, self.message(reply))
        return self.trouble(reply) or self.not_promised(reply)

    def not_promised(self, reply: Reply) -> Broken:
        """Return that this is not an answer of the protocol."""
        if 300 <= reply.status < 400:
            where = self.hidden(replies.redirect(reply))
            elsewhere = self.within_origin(self.options.base_url, replies.text(reply, b"location") or "") is None
            hint = ": credentials go to no other address; if the server has moved there, see base_url" * elsewhere
            return Broken(replies.cut(f"a redirect to {where} (status {reply.status}), not followed{hint}"))
        kind = self.hidden(replies.text(reply, b"content-type") or "no content type")
        said = f"status {reply.status} with {kind} is not an answer of this protocol: {self.message(reply)}"
        return Broken(replies.cut(said))

    # --------------------------------------------------------------------------------------------------------- inside

    def _url(self, path: str, query: str = "") -> str:
        return f"{self.options.root}/{path}?{query}" if query else f"{self.options.root}/{path}"

    async def _ask_nonce(self) -> Exchange:
        return await self._read(f"{self.options.base_url}/PTC/GetCSRFToken()", _HEADERS)

    async def _read(self, url: str, headers: Headers) -> Exchange:
        cookies = self._cookies.header(url)
        exchange = await self._followed(url, headers)
        return await self._followed(url, headers) if self._has_ended(url, cookies, exchange) else exchange

    async def _followed(self, url: str, headers: Headers) -> Exchange:
        exchange = await self._exchange("GET", url, headers)
        for _ in range(_HOPS_MAX):
            if not isinstance(exchange, Reply) or exchange.status not in _REDIRECTS:
                break
            target = self.within_origin(url, replies.text(exchange, b"location") or "")
            if target is None:
                break
            url = target
            exchange = await self._exchange("GET", url, headers)
        return exchange

    async def _write(
        self, method: str, path: str, body: Mapping[str, Json], guard: Headers, *, urgent: bool = False
    ) -> Exchange:
        url, content = self._url(path), msgspec.json.encode(body)
        cookies: Headers = ()

        async def send(nonce: Nonce) -> Exchange:
            nonlocal cookies
            cookies = self._cookies.header(url)
            return await self._exchange(method, url, (*_HEADERS, *_SENT, *guard, *nonce.headers), content)

        exchange = await self._nonces.send(send, urgent=urgent)
        if self._has_ended(url, cookies, exchange) and isinstance(exchange, Reply) and exchange.status == 401:
            exchange = await self._nonces.send(send, urgent=urgent)
        return exchange

    async def _exchange(self, method: str, url: str, headers: Headers, content: bytes = b"") -> Exchange:
        async with self._cookies.sending():
            cookies = self._cookies.header(url)
            exchange = await self._client.exchange(method, url, (*headers, *cookies), content)
            self._cookies.take(url, cookies, exchange)
            return exchange

    def _has_ended(self, url: str, cookies: Headers, exchange: Exchange) -> bool:
        """Whether the session may have ended, so that the server turned us away; the next request starts another."""
        turned_away = isinstance(exchange, Reply) and (
            exchange.status == 401
            or exchange.status in _REDIRECTS
            or (exchange.status == 200 and replies.is_html(exchange))
        )
        if not cookies or not turned_away:
            return False
        if self._cookies.header(url) == cookies:
            self._cookies.forget()
        return True

    async def _page(self, url: str, prefer: Headers) -> "_Page | Trouble":
        exchange = await self._read(url, (*_HEADERS, *prefer))
        match exchange:
            case Reply(status=200):
                body = replies.json_object(exchange) if replies.is_json(exchange) else None
                rows = None if body is None else body.get("value")
                if body is None or not isinstance(rows, list):
                    return self.not_promised(exchange)
                link = body.get("@odata.nextLink")
                return _Page([row for row in rows if isinstance(row, dict)], link if isinstance(link, str) else None)
            case Reply():
                return about_service(self.explained(exchange))
            case _:
                return replies.no_reply(exchange)

    async def _schema_read(self) -> Schema | Trouble:
        text = await self._metadata_text(self._url("$metadata"))
        if not isinstance(text, bytes):
            return text
        try:
            # In a thread: a whole Windchill's metadata is megabytes, and everything else would wait.
            further = []
            for reference in (await asyncio.to_thread(metadata.references, text))[:_REFERENCES_MAX]:
                url = self.within_origin(self._url("$metadata"), reference)
                found = None if url is None else await self._metadata_text(url)
                further += [found] if isinstance(found, bytes) else []
            schema = await asyncio.to_thread(metadata.parse, text, self.options.entity_set, *further)
        except MetadataError as error:
            return Broken(replies.cut(str(error)))
        if self._schema is None and (differences := signatures.differences(schema)):
            _log.warning("the server describes its actions differently from how we call them", differences=differences)
        return schema

    async def _metadata_text(self, url: str) -> bytes | Trouble:
        match await self._read(url, _XML):
            case Reply(status=200) as reply if b"xml" in reply.headers.get(b"content-type", b"").lower():
                return reply.body
            case Reply() as reply:
                return about_service(self.explained(reply))
            case exchange:
                return replies.no_reply(exchange)

    def _knows(self, schema: Schema, type: str | None) -> bool:
        full = len(self._unknown) >= _UNKNOWN_TYPES_MAX
        return schema.type(type) is not None or type in self._unknown or full


@attrs.frozen
class _Page:
    rows: list[Row]
    next_link: str | None


def literal(text: str) -> str:
    """Return a text as an OData literal, not encoded yet: quotes are doubled (ABNF: SQUOTE-in-string)."""
    return "'" + text.replace("'", "''") + "'"


def encoded(said: str) -> str:
    """Return an expression encoded for a path or query. Raises UnicodeEncodeError for what is not text."""
    return quote(said, safe="'(),:")


def code(reply: Reply) -> str:
    """Return the code of an OData error, empty when there is none."""
    error = (replies.json_object(reply) or {}).get("error")
    said = error.get("code") if isinstance(error, dict) else None
    return said if isinstance(said, str) else ""


def _guard(if_match: Token | None) -> Headers:
    return () if if_match is None else ((b"if-match", if_match.encode()),)


def _refuses_nonce(exchange: Exchange) -> bool:
    return isinstance(exchange, Reply) and exchange.status >= 400 and code(exchange) == INVALID_NONCE


def about_service(trouble: Trouble) -> Trouble:
    """Return trouble with the service itself: that it is forbidden or not there says nothing about a document."""
    match trouble:
        case NotAvailable(status, message) if status in (403, 404, 410):
            return Failed(replies.cut(f"the service is not available: {message}"), status)
        case _:
            return trouble


def origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port (RFC 6454). Raises ValueError for an invalid URL."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", port


def _shown(link: str) -> str:
    """Return a link without its query, which can carry secrets."""
    return link.partition("?")[0]
