"""
A second server: an imitation of Windchill REST Services, on a real socket, with a thread of its own.

It is written from `$metadata` and the vendor's pages, and shares no code with `reconciler.simulator`. Each attribute of
`Stock` is a switch; nothing is chance. `stock.vault` has the documents, people's actions and the history; `stock.asked`
has the requests.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs
from aiohttp import web

from tests.stock import asking, described
from tests.stock.vault import LIFE_CYCLE, STATES, Iteration, Master, Refusal, Vault, version_id

ACCOUNT = "svc-reconciler"  # who has sent no name of their own
DISPLAY = "Reconciler, Service"  # how Windchill shows that account
ROOT = "/Windchill/servlet/odata"
_HIDDEN = "(Secured information)"
_PATH = re.compile(r"/v\d+/DocMgmt/Documents(?:\('(?P<id>[^']*)'\)(?:/PTC\.DocMgmt\.(?P<action>\w+)(?:\(\))?)?)?")
_STANDING = {"c/i": "Checked in", "c/o": "Checked out", "wrk": "Working copy"}


@attrs.frozen
class Asked:
    """A request as it came, named by what it is for: `CheckOut`, `GET copy`, `PATCH`, `GET list`, `nonce`, …"""

    step: str
    number: str = ""
    who: str = ""
    session: str = ""
    status: int = 0
    body: Any = None
    query: dict[str, str] = attrs.field(factory=dict)


@attrs.define(eq=False)
class _Trap:
    step: str
    when: Literal["before", "after"]
    left: int
    action: Callable[[], object]


class Dropped(Exception):
    """The connection breaks without an answer."""


def drop() -> None:
    """A action for `Stock.at`: break the connection here."""
    raise Dropped


@attrs.define(eq=False)
class Stock:
    """The server. `with Stock() as stock` runs it; `stock.url` and `stock.root` say where."""

    vault: Vault = attrs.field(factory=Vault)
    display: dict[str, str] = attrs.field(factory=lambda: {ACCOUNT: DISPLAY})
    # who holds a document, and what is shown of a check-out
    holder: Literal["shown", "hidden", "secured"] = "shown"
    columns: Literal["shown", "as checked out", "null", "secured"] = "shown"  # of working copies
    note: Literal["shown", "hidden"] = "shown"
    locked: Literal["same", 400, 409, 423, 500] = 409  # what CheckOut is answered while another has it
    # sessions and nonces
    sessions: list[str] = attrs.field(factory=list)
    nonce_single_use: bool = False
    nonce_ttl_s: float = 86_400.0
    security_log: list[str] = attrs.field(factory=list)
    # shapes
    transitions: Literal["Items", "value", "nonsense"] = "Items"
    # as described, not as done
    actions: dict[str, Mapping[str, str]] = attrs.field(factory=lambda: {**described.ACTIONS})
    checkout_allowed: bool | None = None  # None: the metadata does not have it
    soft_in_lists: bool = True
    copies_in_lists: bool = False  # whether who asks finds their own working copies in lists
    time_filters: bool = True  # whether `ptc.search.allowFilterOnTime` is
    rows_max: int = 2000
    patch_answers: Literal[200, 204] = 204
    secured: set[str] = attrs.field(factory=set)  # attributes that the client's account may not see
    # refusals
    refused: dict[str, tuple[int, str]] = attrs.field(factory=dict)
    refused_documents: dict[str, tuple[str, int, str]] = attrs.field(factory=dict)
    """Number → (step, status, message)."""
    latency_s: float = 0.0
    asked: list[Asked] = attrs.field(factory=list)

    _traps: list[_Trap] = attrs.field(factory=list)
    _nonces: dict[str, tuple[str, float]] = attrs.field(factory=dict)
    _loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None
    _runner: web.AppRunner | None = None
    url: str = ""

    # --------------------------------------------------------------------------------------------------------- running

    def __enter__(self) -> Stock:
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._runner is not None
        assert self._thread is not None
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{rest:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    @property
    def root(self) -> str:
        return self.url + ROOT

    # -------------------------------------------------------------------------------------------------------- steering

    def at(self, step: str, when: Literal["before", "after"], action: Callable[[], object], nth: int = 1) -> None:
        """Do something before a step is carried out, or after and before its reply; `drop` there loses it."""
        self._traps.append(_Trap(step, when, nth, action))

    def forget_traps(self) -> None:
        """What was to be done at a step that never came is not done any more."""
        self._traps.clear()

    def expire_nonces(self) -> None:
        """Restart of the server, or the end of a day."""
        self._nonces.clear()

    def expire_sessions(self) -> None:
        """All sessions end, and their nonces with them."""
        self.sessions.append("")  # a mark: what is before it is no session any more
        self._nonces.clear()

    @property
    def sessions_opened(self) -> int:
        return sum(1 for one in self.sessions if one)

    def counts(self) -> collections.Counter[str]:
        """Step → how often it was asked for."""
        return collections.Counter(asked.step for asked in self.asked)

    def steps(self, number: str = "") -> list[str]:
        """What was asked for of a document, in order."""
        return [asked.step for asked in self.asked if number in ("", asked.number)]

    # --------------------------------------------------------------------------------------------------------- serving

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        with self.vault.guard:
            one = _Request(self, request, json.loads(text) if text else None)
            self.asked.append(one.asked)
            try:
                self._spring(one.step, "before")
                reply = one.answered()
                self.asked[-1] = attrs.evolve(one.asked, status=reply.status)
                self._spring(one.step, "after")
            except Dropped:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            return reply

    def _spring(self, step: str, when: str) -> None:
        for trap in [one for one in self._traps if (one.step, one.when) == (step, when)]:
            trap.left -= 1
            if trap.left == 0:
                self._traps.remove(trap)
                trap.action()


class _Request:
    """One request on its way to an answer."""

    def __init__(self, stock: Stock, request: web.Request, body: Any) -> None:
        self.stock, self.vault, self.request, self.body = stock, stock.vault, request, body
        self.path = request.path.removeprefix(ROOT)
        found = _PATH.fullmatch(self.path)
        self.id: str | None = found["id"] if found else None
        self.action: str | None = found["action"] if found else None
        self.who = _user(request.headers.get("authorization", ""))
        cookie = request.cookies.get("JSESSIONID", "")
        mark = len(stock.sessions) - stock.sessions[::-1].index("") if "" in stock.sessions else 0
        self.opened = cookie not in stock.sessions[mark:]
        self.session = secrets.token_hex(16) if self.opened else cookie
        if self.opened:
            stock.sessions.append(self.session)
        self.master = self._found()
        self.step = self._step(request.method)
        number = str(self.master.shared["Number"]) if self.master is not None else ""
        self.asked = Asked(self.step, number, self.who, self.session, body=body, query=dict(request.query))

    def _found(self) -> Master | None:
        if self.id is None:
            return None
        try:
            master, self.one = self.vault.by_id(self.id)
        except Refusal:
            return None
        return master

    def _step(self, method: str) -> str:
        if self.id is None:
            ends = {"/PTC/GetCSRFToken()": "nonce", "/PTC/$metadata": "metadata of PTC"}
            named = next((name for end, name in ends.items() if self.path.endswith(end)), "")
            return named or ("metadata" if self.path.endswith("$metadata") else f"{method} list")
        if self.action or self.master is None:
            return self.action or f"{method} nothing"
        return method if method != "GET" else "GET copy" if self.one is self.master.copy else "GET one"

    def answered(self) -> web.Response:
        try:
            reply = self._routed()
        except Refusal as refusal:
            error = {"error": {"code": refusal.code, "message": refusal.message}}
            reply = web.json_response(error, status=refusal.status)
        if self.opened:
            reply.set_cookie("JSESSIONID", self.session, path="/Windchill", httponly=True)
        return reply

    def _routed(self) -> web.Response:
        method = self.request.method
        if method != "GET":
            self._check_nonce()
        match self.step:
            case "nonce":
                value = base64.b64encode(secrets.token_bytes(18)).decode()
                self.stock._nonces[value] = (self.session, self.vault.now())
                return web.json_response({"NonceKey": "CSRF_NONCE", "NonceValue": value})
            case "metadata of PTC":
                return web.Response(text=described.PTC, content_type="application/xml")
            case "metadata":
                allowed = self.stock.checkout_allowed is not None
                common = f"{ROOT}/v5/PTC/$metadata"
                text = described.doc_mgmt(checkout_allowed=allowed, common=common, actions=self.stock.actions)
                return web.Response(text=text, content_type="application/xml")
            case "GET list" if _PATH.fullmatch(self.path):
                return self._list()
            case "GET list" if re.fullmatch(r"/v\d+/DocMgmt/?", self.path):
                return web.json_response({"value": [{"name": "Documents", "url": "Documents"}]})
        if self.id is None:
            raise Refusal(404, f"there is no {self.path}", "ENTITY_NOT_FOUND")
        self.master, self.one = self.vault.by_id(self.id)
        self.number = self.master.shared["Number"]
        if self.number in self.stock.refused_documents:
            step, status, message = self.stock.refused_documents[self.number]
            if step == self.step:
                raise Refusal(status, message, "FORBIDDEN" if status == 403 else "BAD_REQUEST")
        if self.action:
            return self._called(method)
        if method == "PATCH":
            return self._patched()
        if method == "GET":
            return web.json_response(self._shown(self.master, self.one))
        raise Refusal(501, "not implemented", "NOT_IMPLEMENTED")

    def _check_nonce(self) -> None:
        value = self.request.headers.get("CSRF_NONCE", "")
        session, born = self.stock._nonces.get(value, ("", -1e12))
        good = self.vault.now() - born < self.stock.nonce_ttl_s and session == self.session
        if self.stock.nonce_single_use:
            self.stock._nonces.pop(value, None)
        if not good:
            self.stock.security_log.append(f"{self.who}: {self.step} without a valid nonce")
            raise Refusal(400, "The CSRF nonce is missing or not valid.", "INVALID_NONCE")

    # -------------------------------------------------------------------------------------------------------- actions

    def _called(self, method: str) -> web.Response:
        assert self.master is not None
        reads = {"GetValidStateTransitions": self._transitions, "IsCheckoutAllowed": self._allowed}
        acts = {
            "CheckOut": self._check_out,
            "CheckIn": self._check_in,
            "UndoCheckOut": self._undo,
            "SetState": self._set_state,
            "UpdateCommonProperties": self._update_common,
        }
        actions = reads if method == "GET" else acts
        if self.action not in actions or (self.action == "IsCheckoutAllowed" and self.stock.checkout_allowed is None):
            raise Refusal(404, f"no operation {self.action}", "ENTITY_NOT_FOUND")
        return web.json_response(actions[self.action]())

    def _check_out(self) -> dict[str, Any]:
        assert self.master is not None
        copy = self.master.copy
        if copy and copy.who != self.who:
            if self.stock.locked == "same":
                return self._shown(self.master, self.one)
            by = f" by {self._name(copy.who)}" if self.stock.holder == "shown" else ""
            raise Refusal(self.stock.locked, f"The object {self.number} is checked out{by}.", "WVS_CONFLICT")
        if self.one is not copy and not self.master.is_latest(self.one):
            raise Refusal(400, f"{self.id} is not the latest iteration.")
        note = self.body.get("CheckOutNote") or ""
        made = self.vault.check_out(self.who, self.number, note, self.one.revision)
        return self._shown(self.master, made)

    def _working(self) -> Iteration:
        assert self.master is not None
        if self.one is not self.master.copy or self.one.who not in {self.who, *({self.one.who} & self._ruled())}:
            raise Refusal(400, f"{self.id} is no working copy of yours.")
        return self.one

    def _ruled(self) -> set[str]:
        """Whose working copies this user may undo beside their own."""
        assert self.master is not None
        copy = self.master.copy
        return {copy.who} if copy and self.who in self.vault.admins and self.action == "UndoCheckOut" else set()

    def _check_in(self) -> dict[str, Any]:
        assert self.master is not None
        self._working()
        return self._shown(self.master, self.vault.check_in(self.who, self.number, self.body.get("CheckInNote") or ""))

    def _undo(self) -> dict[str, Any]:
        assert self.master is not None
        self._working()
        self.vault.undo(self.who, self.number)
        return self._shown(self.master, self.master.latest)

    def _set_state(self) -> dict[str, Any]:
        assert self.master is not None
        state = self.body.get("State")
        if not isinstance(state, dict) or STATES.get(state.get("Value")) != state.get("Display"):
            raise Refusal(400, "State needs Value and Display, as GetValidStateTransitions gives them.")
        if not self.master.is_latest(self.one):
            raise Refusal(400, f"{self.id} is not the latest iteration.")
        self.vault.set_state(self.who, self.number, state["Value"], self.one.revision)
        return self._shown(self.master, self.one)

    def _update_common(self) -> dict[str, Any]:
        assert self.master is not None
        self.vault.update_common(self.who, self.number, **self.body["Updates"])
        return self._shown(self.master, self.master.latest)

    def _transitions(self) -> dict[str, Any]:
        states = [_pair(state) for state in LIFE_CYCLE[self.one.state]]
        match self.stock.transitions:
            case "nonsense":
                named = [one["Value"] for one in states]
                return {"@odata.context": "$metadata#Collection(Edm.Untyped)", "States": named}
            case name:
                return {"@odata.context": "$metadata#PTC.EnumTypeList", name: states}

    def _allowed(self) -> dict[str, Any]:
        assert self.master is not None
        copy = self.master.copy
        allowed = self.stock.checkout_allowed and not (copy and copy.who != self.who)
        return {"@odata.context": "$metadata#Edm.Boolean", "value": bool(allowed)}

    def _patched(self) -> web.Response:
        assert self.master is not None
        self._working()
        for name in self.body:
            if name not in {*described.SOFT, "Title", "Description"}:
                raise Refusal(400, f"The property '{name}' can't be changed.")
            if name in self.stock.refused:
                status, way = self.stock.refused[name]
                display = described.SOFT.get(name, ("", name))[1]
                called = {"name": f"attribute {name}", "display": f"attribute {display}", "none": "it"}
                raise Refusal(status, f"You are not allowed to change {called[way]}: access denied.", "FORBIDDEN")
        self.vault.change(self.who, self.number, **self.body)
        if self.stock.patch_answers == 204:
            return web.Response(status=204)
        return web.json_response(self._shown(self.master, self.one))

    # ---------------------------------------------------------------------------------------------------------- rows

    def _list(self) -> web.Response:
        query = self.request.query
        by_time = self.stock.time_filters and query.get("ptc.search.allowFilterOnTime") == "true"
        try:
            test = asking.predicate(query["$filter"], by_time=by_time) if "$filter" in query else lambda _: True
        except asking.Unreadable as unreadable:
            raise Refusal(400, f"The filter can't be read: {unreadable}") from None
        newest = query.get("ptc.search.latestversion") == "true"
        found = [(master, one) for master, one in self.vault.all() if one is master.latest or not newest]
        if self.stock.copies_in_lists:
            found += [(one, one.copy) for one in self.vault.masters if one.copy and one.copy.who == self.who]
        found = [(master, one) for master, one in found if test(self._plain(master, one))]
        wanted = re.search(r"odata\.maxpagesize=(\d+)", self.request.headers.get("prefer", ""))
        size = min(int(wanted[1]) if wanted else 25, self.stock.rows_max)
        begin = int(query.get("$skiptoken", "0"))
        rows = [self._shown(master, one, listed=True) for master, one in found[begin : begin + size]]
        page: dict[str, Any] = {"@odata.context": "$metadata#Documents", "value": rows}
        if begin + size < len(found):
            page["@odata.nextLink"] = str(self.request.url.update_query({"$skiptoken": str(begin + size)}))
        return web.json_response(page)

    def _plain(self, master: Master, one: Iteration) -> dict[str, Any]:
        """What filters look at."""
        latest = one is not master.copy and master.is_latest(one)
        return {**master.shared, **one.fields, "LastModified": one.at, "Latest": latest, "Revision": one.revision}

    def _shown(self, master: Master, one: Iteration, *, listed: bool = False) -> dict[str, Any]:
        soft = {} if listed and not self.stock.soft_in_lists else dict.fromkeys(described.SOFT)
        fields = {name: value for name, value in one.fields.items() if name in {*soft, "Title", "Description"}}
        row: dict[str, Any] = {
            "@odata.type": f"#PTC.DocMgmt.{master.type}",
            "ID": one.id,
            "MasterID": master.id,
            **master.shared,
            **soft,
            **fields,
            "Revision": one.revision,
            "Version": f"{one.revision}.{one.number}",
            "VersionID": version_id(master, one),
            "Latest": one is not master.copy and master.is_latest(one),
            "State": _pair(one.state),
            "CreatedBy": self._name(master.iterations[0].who),
            "ModifiedBy": self._name(one.modifier or one.who),
            "CreatedOn": master.iterations[0].at.isoformat(),
            "LastModified": one.at.isoformat(),
            "FolderLocation": "/Default/Design",
            "FolderName": "Design",
            **self._standing(master, one),
            "Comments": one.note if self.stock.note == "shown" else None,
            "TypeIcon": "netmarkets/images/doc.gif",
        }
        for name in self.stock.secured & row.keys():
            _secure(row, name)
        return row

    def _standing(self, master: Master, one: Iteration) -> dict[str, Any]:
        """What a row says of a check-out."""
        is_copy = one is master.copy
        value = "wrk" if is_copy else "c/o" if _is_origin(master, one) else "c/i"
        if is_copy and self.stock.columns == "as checked out":
            value = "c/o"
        shown: dict[str, Any] = {
            "CheckoutState": _STANDING[value],
            "WorkInProgressState": {"Value": value, "Display": _STANDING[value]},
        }
        by = f"Checked out by {self._name(master.copy.who)}" if master.copy and value != "c/i" else ""
        shown["CheckOutStatus"] = by if self.stock.holder == "shown" else ""
        if self.stock.holder == "secured":
            _secure(shown, "CheckOutStatus")
        if is_copy and self.stock.columns in ("null", "secured"):
            for name in list(shown):
                if self.stock.columns == "secured":
                    _secure(shown, name)
                shown[name] = None
        return shown

    def _name(self, who: str) -> str:
        return self.stock.display.get(who, who)


def _is_origin(master: Master, one: Iteration) -> bool:
    """Whether the working copy that there is was made of this iteration."""
    return master.copy is not None and one.revision == master.copy.revision and master.is_latest(one)


def _pair(state: str) -> dict[str, str]:
    return {"Value": state, "Display": STATES[state]}


def _secure(row: dict[str, Any], name: str) -> None:
    row[name] = None
    row[f"{name}@PTC.AccessException"] = _HIDDEN


def _user(said: str) -> str:
    kind, _, ticket = said.partition(" ")
    return base64.b64decode(ticket).decode().partition(":")[0] if kind == "Basic" else ACCOUNT
