"""
The probe: find out what this server really does, step by step, with a document that no one needs.

Theory of operation. No manual says whether a stale `If-Match` is refused, which ID a check-in leaves, or whether a
filter honours the time of day. The probe asks the server, in the order in which later questions build on earlier
answers: first with reads; then it announces what it will do to the document; then with writes (`probe_writes`).
Whatever happens on the way, even if its task is cancelled, it puts the document back at the end.
"""

import asyncio
from collections.abc import Callable, Sequence

import attrs

from reconciler.adapters import replies
from reconciler.adapters.replies import Reply
from reconciler.adapters.wrs import checked_out, functions, service, signatures
from reconciler.adapters.wrs.lookup import Lookup
from reconciler.adapters.wrs.metadata import Schema
from reconciler.adapters.wrs.probe_document import NO_WAY_BACK, NOTE, ProbeDocument, Sight
from reconciler.adapters.wrs.probe_findings import Finding, Halt, Result, answered, listed
from reconciler.adapters.wrs.probe_writes import MARKER, ProbeWrites
from reconciler.adapters.wrs.service import Service
from reconciler.adapters.wrs.windchill import WrsWindchill
from reconciler.model import instant
from reconciler.model.answer import Unauthorised
from reconciler.model.snapshot import Token
from reconciler.model.value import Json
from reconciler.ports import Clock

_NEEDED = ("CheckOut", "CheckIn", "UndoCheckOut")
_ACTIONS = (*_NEEDED, "SetState", "UpdateCommonProperties")
_PAGES_MAX = 5
_ON_TIME = "ptc.search.allowFilterOnTime=true"


@attrs.frozen
class Means:
    """What a probe needs: connections to the server, and where its findings go."""

    windchill: WrsWindchill  # always with `lock = "checkout"`, so that no token of ours hides an ETag
    nonces: Service | None  # the domain that gives nonces; None: the service has none
    bare: Service | None  # the service without nonces, only with a bearer token
    clock: Clock
    lock: str  # as it is configured
    tell: Callable[[Finding], None]
    announce: Callable[[Sequence[str]], None]  # what will be done to the document


class Probe:
    """Asks one server, with one document. `versions` is filled on the way."""

    def __init__(self, means: Means, key: str) -> None:
        windchill = means.windchill
        self.versions: dict[str, str | list[str]] = {}
        self._means = means
        self._key = key
        self._service = windchill.service
        self._reader = windchill.reader
        self._scratch = ProbeDocument(windchill.service, windchill.reader, key, means.clock)
        self._writes = ProbeWrites(
            self._scratch, windchill.service, windchill.reader, means.clock, bare=means.bare, tell=means.tell
        )
        self._numbers = Lookup(windchill.service, means.clock)
        self._wrote = False

    async def run(self) -> None:
        """Ask everything, and leave the document as it was."""
        whole = False
        try:
            await self._ask()
            whole = True
        except Halt as halt:
            self._means.tell(halt.finding)
        finally:
            if self._wrote:
                await self._leave_surely()
        self._conclude(whole=whole)

    async def _ask(self) -> None:
        await self._reach()
        schema = await self._metadata()
        await self._nonce()
        now = await self._find(schema)
        self._etags(now)
        self._writes.choose(now, schema)
        await self._writes.choose_state(now, schema)
        if (asked := signatures.operation(schema, signatures.ALLOWED)) is not None:
            forbidden = await functions.forbidden(self._service, now.id)
            said = "yes: it is asked before each check-out" if forbidden is None else forbidden.message
            self._tell("check-out allowed", Result.FAILED if forbidden else Result.OK, said, asked.name)
        checks_out = all(schema.action(name) is not None for name in _NEEDED)
        self._means.announce(self._intentions(now, schema, checks_out=checks_out))
        self._wrote = True
        await self._writes.plain(now)
        if checks_out:
            now = await self._scratch.look()
            await self._writes.check_out_and_undo(now)
            after = await self._writes.write_under_lock(now)
            last = await self._scratch.look()
            await self._writes.stale(_gone(now.etag, after.etag, last.etag), last)
        else:
            await self._writes.in_place(await self._scratch.look())
        await self._filters(await self._scratch.look(), schema)
        await self._pages()
        await self._writes.rename(schema)
        await self._writes.set_state(schema)

    # ------------------------------------------------------------------------------------------------------ by reading

    async def _reach(self) -> None:
        exchange = await self._service.get("")
        sent = "GET the service's root"
        trouble = self._service.trouble(exchange) if isinstance(exchange, Reply) else exchange
        if isinstance(trouble, Unauthorised):
            raise Halt(Finding("credentials", Result.FAILED, "refused", sent, trouble.message))
        if not isinstance(exchange, Reply):
            raise Halt(Finding("reachable", Result.FAILED, "no answer", sent, exchange.message))
        for name in ("server", "odata-version"):
            if said := replies.text(exchange, name.encode()):
                self.versions[name] = said
        self._tell("reachable", Result.OK, "the server answers", sent, f"{exchange.status}")

    async def _metadata(self) -> Schema:
        schema = await self._service.schema()
        sent = "GET $metadata"
        if isinstance(schema, Unauthorised):
            raise Halt(Finding("credentials", Result.FAILED, "refused", sent, schema.message))
        if not isinstance(schema, Schema):
            said = "no metadata: see windchill.base_url and windchill.service, and that the account may use the domain"
            raise Halt(Finding("metadata", Result.FAILED, said, sent, answered(schema)))
        self._tell("credentials", Result.OK, "accepted", sent, "200")
        offered = [name for name in _ACTIONS if schema.action(name) is not None]
        missing = [name for name in _ACTIONS if name not in offered]
        said = f"{len(schema.document.properties)} properties; actions {', '.join(offered) or 'none'}"
        said += f"; not offered: {', '.join(missing)}" if missing else ""
        self._tell("metadata", Result.WARNING if missing else Result.OK, said, sent, "200")
        if differences := signatures.differences(schema):
            self._tell(
                "actions", Result.WARNING, f"described differently from how we call them: {'; '.join(differences)}"
            )
        else:
            self._tell("actions", Result.OK, "described as we call them")
        self.versions |= {"type": schema.document.name, "actions": sorted(schema.actions)}
        self.versions["functions"] = sorted(schema.functions)
        return schema

    async def _nonce(self) -> None:
        if self._means.nonces is None:
            self._tell("nonce", Result.SKIPPED, "a plain OData service: none is asked for")
            return
        sent = "GET PTC/GetCSRFToken()"
        match await self._means.nonces.get("GetCSRFToken()"):
            case Reply(status=200) as reply if _is_nonce(reply):
                cookies = ", with a session of its own (cookies)" if reply.cookies else ""
                self._tell("nonce", Result.OK, f"given{cookies}", sent, "200")
            case Reply() as reply:
                said = "no nonce: nothing can be written"
                raise Halt(Finding("nonce", Result.FAILED, said, sent, self._means.nonces.explained(reply).message))
            case exchange:
                raise Halt(Finding("nonce", Result.FAILED, "no nonce: nothing can be written", sent, exchange.message))
        if self._means.bare is None:
            said = "not tried: without a bearer token it would fail, as an entry in the server's security audit log"
            self._tell("write without a nonce", Result.SKIPPED, said)

    async def _find(self, schema: Schema) -> Sight:
        options = self._service.options
        condition = f"{options.key_property} eq {service.literal(self._key)}"
        everything = await self._rows(f"$filter={service.encoded(condition)}")
        latest = await self._rows(self._numbers.query(condition, schema))
        if latest is None:
            self._numbers.narrow = False  # not every server takes `Latest eq true`, and no document needs it
            latest = await self._rows(self._numbers.query(condition, schema))
        now = await self._scratch.look()
        said = f"found, iteration {now.entity.row.get('Version') or now.id}"
        said += f"; type {now.snapshot.type}" if now.snapshot.type else ""
        said += "; `Latest` is shown" if "Latest" in now.entity.row else "; `Latest` is not shown"
        sent, answer = (
            f"GET {options.entity_set}, {condition}",
            f"{_counted(everything)}; {_counted(latest)} of the latest iteration",
        )
        self._tell("number", Result.OK, said, sent, answer)
        if checked_out.is_checked_out(now.entity.row) or checked_out.is_working_copy(now.entity.row):
            who = checked_out.holder(now.entity.row) or "someone"
            said = f"{self._key} is checked out by {who}: take one that is not, or undo that check-out first"
            raise Halt(Finding("document", Result.FAILED, said, sent, answer))
        return now

    async def _rows(self, query: str) -> int | None:
        """Return how many rows a query gives, None if it is refused."""
        count = 0
        async for page in self._service.pages(query, _PAGES_MAX):
            if not isinstance(page, list):
                return None
            count += len(page)
        return count

    def _etags(self, now: Sight) -> None:
        inside, header = now.entity.row.get("@odata.etag"), now.entity.etag
        places = [place for place, said in (("`@odata.etag`", inside), ("the header", header)) if said]
        if now.etag is None:
            said = "none, as on a stock server: only check-out can guard writes"
            self._tell("ETags", Result.OK, said, f"GET {now.id}")
            return
        self._writes.facts.etag = True
        kind = "weak" if now.etag.startswith("W/") else "strong"
        said = f"shown in {listed(places)}, {kind}; whether If-Match counts is asked below"
        self._tell("ETags", Result.OK, said, f"GET {now.id}", now.etag)

    async def _filters(self, now: Sight, schema: Schema) -> None:
        check, known = "filters by time", schema.document.properties.get("LastModified")
        modified = now.snapshot.modified_at
        if modified is None or known is None or not known.filterable:
            said = "LastModified can't be filtered: no polling; only the full comparison finds changes"
            self._tell(check, Result.WARNING, said, resync__poll_s=0)
            return
        at_us = instant.to_us(modified)
        # Near midnight a filter by days can answer like one by times, but not on both sides of it.
        later = await self._sees(f"ge {_moment(at_us + 1_000_000)}", schema)
        earlier = await self._sees(f"le {_moment(at_us - 1_000_000)}", schema)
        itself = await self._sees(f"ge {_moment(at_us)}", schema)
        sent = "LastModified a second later, a second earlier, and as it is"
        sent += f", with {_ON_TIME}" if self._service.options.service else ""
        answer = f"{_found(later)}, {_found(earlier)}, {_found(itself)}"
        if None in (later, earlier, itself):
            self._tell(
                check, Result.WARNING, "refused: days alone are asked for", sent, answer, windchill__time_filters="date"
            )
        elif not itself:
            said = "the document is not found by its own LastModified: polling would miss changes"
            self._tell(check, Result.WARNING, said, sent, answer, resync__poll_s=0)
        elif later or earlier:
            said = "the time of day is ignored: each poll gets all of the day's changes"
            self._tell(check, Result.OK, said, sent, answer, windchill__time_filters="date")
        else:
            said = "the time of day counts: a poll gets only what is new"
            self._tell(check, Result.OK, said, sent, answer, windchill__time_filters="time")

    async def _sees(self, condition: str, schema: Schema) -> bool | None:
        options = self._service.options
        asked = f"{options.key_property} eq {service.literal(self._key)} and LastModified {condition}"
        further = (_ON_TIME,) if options.service else ()
        rows = await self._rows(self._numbers.query(asked, schema, *further))
        return None if rows is None else rows > 0

    async def _pages(self) -> None:
        size = self._service.options.page_size
        one, _ = await self._page(1)
        count, link = await self._page(size)
        sent, answer = (
            f"GET a page of 1, and one of {size}",
            f"{one} and {count} rows{', and more to come' if link else ''}",
        )
        if count is None or one is None:
            self._tell("pages", Result.WARNING, "lists can't be read: no polling", sent, answer)
        elif link and self._service.within_origin(f"{self._service.options.root}/", link) is None:
            said = "the next page is at another host or port, which we don't follow: correct the server's own URL"
            self._tell("pages", Result.WARNING, said, sent, answer, resync__poll_s=0)
        elif one > 1:
            self._tell("pages", Result.OK, "our page size is ignored, which only costs requests", sent, answer)
        elif link and count < size:
            said = "this server gives no larger pages"
            self._tell("pages", Result.OK, said, sent, answer, windchill__page_size=max(count, 1))
        else:
            self._tell("pages", Result.OK, "our page size is honoured", sent, answer)

    async def _page(self, size: int) -> tuple[int | None, str]:
        prefer = ((b"prefer", f"odata.maxpagesize={size}".encode()),)
        options = self._service.options
        reply = await self._service.get(
            options.entity_set, "ptc.search.latestversion=true" if options.service else "", prefer
        )
        body = replies.json_object(reply) if isinstance(reply, Reply) and reply.status == 200 else None
        rows = (body or {}).get("value")
        link = str((body or {}).get("@odata.nextLink") or "")
        return (len(rows) if isinstance(rows, list) else None), link

    # --------------------------------------------------------------------------------------------------- before, after

    def _intentions(self, now: Sight, schema: Schema, *, checks_out: bool) -> list[str]:
        field, state = self._writes.facts.field, self._writes.facts.state
        todo = [f"set {field} to the value that it has, without check-out"]
        if checks_out:
            todo.append("check it out and undo that")
            todo.append(
                f'check it out, set {field} to "{MARKER}" and check it in; then the same to put {field} back:'
                f' two iterations, with the note "{NOTE}"'
            )
        else:
            todo.append(f'set {field} to "{MARKER}", and put it back')
        if schema.action("UpdateCommonProperties") is not None and self._service.options.key_property != "Name":
            todo.append('add " (probe)" to its Name, and take that away again')
        if state is not None:
            todo.append(
                f"move it from {now.value('State')} to {state['Value']}, which starts what the life cycle starts then,"
                " and back if Windchill allows that"
            )
        return todo

    async def _leave_surely(self) -> None:
        """Put the document back, even if this is interrupted: nothing else will do it later."""
        try:
            await self._leave()
        except asyncio.CancelledError:
            await self._leave()
            raise

    async def _leave(self) -> None:
        left = await self._scratch.put_back()
        lasting = [what for what in left if what.startswith("State ") and NO_WAY_BACK in what]
        if left == lasting:
            said = "its other fields are" if left else "its fields are"
            self._tell("put back", Result.OK, f"{self._key} is checked in, and {said} what they were")
        if self._scratch.unanswered:
            said = f"{listed(self._scratch.unanswered)} got no answer and may still be carried out"
            self._tell("late requests", Result.WARNING, f"{said}: look at {self._key} once more in a minute")
        for what in left:
            self._tell("put back", Result.WARNING if what in lasting else Result.FAILED, what)

    def _conclude(self, *, whole: bool) -> None:
        facts, options, check = self._writes.facts, self._service.options, "guard"
        proven = facts.stale == "refused" and facts.plain
        if not whole:
            said = "the probe did not finish, so it is not known what guards a write: solve that, and probe again"
            self._tell(check, Result.FAILED, said)
            return
        if options.etag_proven and not proven:
            said = "the configuration says etag_proven = true, and this server was not seen to refuse a stale If-Match"
            result = Result.FAILED if self._means.lock == "etag" else Result.WARNING
            self._tell("If-Match", result, said, windchill__etag_proven=False)
        if facts.locked and proven:
            said = 'check-out guards writes of attributes; If-Match would too, and leave no iterations (lock = "etag")'
            self._tell(check, Result.OK, said, windchill__lock="checkout", windchill__etag_proven=True)
        elif facts.locked:
            self._tell(check, Result.OK, "check-out guards writes of attributes", windchill__lock="checkout")
        elif proven:
            said = "If-Match guards every write"
            self._tell(check, Result.OK, said, windchill__lock="etag", windchill__etag_proven=True)
        else:
            said = "there is neither a check-out nor an If-Match that is enforced: nothing can be written safely here"
            self._tell(check, Result.FAILED, said)

    def _tell(
        self, check: str, result: Result, message: str, sent: str = "", answer: str = "", **settings: Json
    ) -> None:
        """Tell a finding; settings are named `section__key`."""
        setting = {name.replace("__", "."): value for name, value in settings.items()}
        self._means.tell(Finding(check, result, message, sent, answer, setting))


def _gone(before: Token | None, marked: Token | None, now: Token | None) -> Token | None:
    """Return an ETag that the document no longer has; the present one if it never changed."""
    if before == marked:
        return now
    return before if before != now else marked  # an ETag made from the content alone comes back with it


def _is_nonce(reply: Reply) -> bool:
    value = (replies.json_object(reply) or {}).get("NonceValue") if replies.is_json(reply) else None
    return isinstance(value, str) and value != ""


def _moment(at_us: int) -> str:
    return instant.from_us(max(at_us, 0)).partition(".")[0] + "Z"


def _counted(rows: int | None) -> str:
    return "refused" if rows is None else f"{rows} row{'' if rows == 1 else 's'}"


def _found(seen: bool | None) -> str:
    return {None: "refused", True: "found", False: "not found"}[seen]
