"""
The dialect `wrs`: Windchill REST Services, OData v4, below `/Windchill/servlet/odata/`.

    GET  PTC/GetCSRFToken()                              a nonce for what changes anything
    GET  [vN/]DocMgmt/$metadata
    GET  [vN/]DocMgmt/Documents?…                        $filter, $orderby, pages
    GET  [vN/]DocMgmt/Documents('OR:…:100')              one iteration, whether or not it is the latest
    PATCH …('OR:…:101')                                  a working copy's attributes
    POST …('OR:…:100')/PTC.DocMgmt.CheckOut and the other actions
    {"error": {"code": …, "message": …}}                 every refusal

A module that is an `asgi.Dialect`. Nothing here awaits, so each request is one step.
"""

import re
from typing import Any

import orjson
from attrs import evolve, frozen

from reconciler.simulator import documents_dialect
from reconciler.simulator.history import Writer
from reconciler.simulator.messages import Reply, Request
from reconciler.simulator.world import World
from reconciler.simulator.wrs import checkout, lists, query, replies, types, writing
from reconciler.simulator.wrs.entities import View
from reconciler.simulator.wrs.iterations import Iteration, WorkingCopy
from reconciler.simulator.wrs.options import ACTIONS
from reconciler.simulator.wrs.query import Malformed
from reconciler.simulator.wrs.state import WrsState
from reconciler.simulator.wrs.types import NAMESPACE

_ROOT = re.compile(r"/Windchill/(?:oauth/)?servlet/odata/")
_SERVICE = re.compile(r"(?:(v\d+)/)?(PTC|DocMgmt)(?:/(.*))?")
_ENTITY = re.compile(r"Documents\('((?:[^']|'')*)'\)(?:/(.*))?")
_KEY = re.compile(r"(OR|VR):wt\.doc\.WTDocument:(\d{1,18})")
_CHANGES = ("POST", "PATCH", "PUT", "DELETE")
_GUARDED = f"{NAMESPACE}.CheckOut"
_NAMED = ("GetCSRFToken()", "$metadata", "Documents", "$batch", "")


@frozen
class Call:
    """One request by one user to the domain of documents."""

    state: WrsState
    request: Request
    user: str
    root: str
    """The URL of the domain as the client reached it, with a slash at its end."""

    @property
    def if_match(self) -> bytes | None:
        return self.request.headers.get(b"if-match")

    @property
    def writer(self) -> Writer:
        return Writer(self.user, "rest", documents_dialect.bare(self.if_match))

    def saw(self, view: View) -> None:
        """Remember what the user was shown. An old iteration does not count."""
        if isinstance(view.found, WorkingCopy):
            view.found.read |= view.found.holder == self.user
        elif view.latest:
            self.state.showed(self.user, view.found.key, view.token)

    def entity(self, view: View, asked: query.Asked | None = None) -> Reply:
        asked = query.Asked() if asked is None else asked
        content = {"@odata.context": f"{self.root}$metadata#Documents/$entity"}
        return replies.shown(content | view.entity(asked.select, asked.expand), *_tags(self.state, view))

    def view(self, found: Iteration | WorkingCopy) -> View:
        return View(self.state, found, self.user)


def serves(path: str) -> bool:
    """Whether the path lies below an OData root."""
    return _ROOT.match(path) is not None


def target(world: World, request: Request) -> str | None:
    """The key of the document that an ID or a filter names."""
    service = _SERVICE.fullmatch(_ROOT.sub("", request.path, count=1))
    rest = service[3] if service is not None else None
    if rest == "Documents":
        return lists.only_key(world.wrs, request)
    entity = _ENTITY.fullmatch(rest or "")
    found = None if entity is None else _find(world.wrs, entity[1], None)
    return None if found is None else found.key


def guarded(request: Request) -> bool:
    """Whether the request must notice a rival's edit right before it."""
    return b"if-match" in request.headers or request.path.endswith(_GUARDED)


def answer(world: World, request: Request, user: str) -> Reply:
    """Carry out the request, in a session if this server has them."""
    switches, sessions, now_s = world.wrs.switches, world.wrs.sessions, world.clock().timestamp()
    if switches.sessions == "none":
        return _answer(world, request, user, user)
    session = sessions.of(request)
    if sessions.goes_on(session, switches, now_s):
        return _answer(world, request, user, user if switches.nonce_of == "user" else session)
    if session and switches.session_ended != "new":
        return replies.turned_away(switches.session_ended)
    session = sessions.begin(now_s)
    reply = _answer(world, request, user, user if switches.nonce_of == "user" else session)
    cookie = f"JSESSIONID={session}; Path=/Windchill; HttpOnly".encode()
    return evolve(reply, headers=[*reply.headers, (b"set-cookie", cookie)])


def _answer(world: World, request: Request, user: str, whose: str) -> Reply:
    """Carry out the request; `whose` is the user or session that the nonce belongs to."""
    service = _SERVICE.fullmatch(_ROOT.sub("", request.path, count=1))
    if service is None:
        return replies.unknown(f"service at {request.path}")
    version, domain, rest = service.groups()
    state = world.wrs
    switches = state.switches
    world.statistics.calls[f"{request.method} {_called(rest or '')}"] += 1
    if version is not None and domain == "DocMgmt" and version not in switches.versions:
        return replies.unknown(f"version {version} of {domain}")
    changes = request.method in _CHANGES
    if changes and not state.nonces.accepts(request, user, whose, switches, state.clock()):
        return replies.refusal(400, "INVALID_NONCE", "The CSRF nonce is missing or not valid.", cause="invalid_nonce")
    if domain == "PTC":
        return _nonce(state, request, whose) if rest == "GetCSRFToken()" else replies.not_implemented(f"PTC/{rest}")
    try:
        return _document_management(Call(state, request, user, _root(world, request, rest or "")), rest or "")
    except Malformed as mistake:
        return replies.invalid(str(mistake))


def _called(rest: str) -> str:
    """What is called, whatever the document; `?` if there is no such call."""
    entity = _ENTITY.fullmatch(rest)
    if entity is None:
        return rest if rest in _NAMED else "?"
    if entity[2] is None:
        return "Documents()"
    name = entity[2].removeprefix(f"{NAMESPACE}.").removesuffix("()")
    return name if name in ACTIONS else "?"


def _nonce(state: WrsState, request: Request, whose: str) -> Reply:
    if request.method != "GET":
        return replies.refusal(405, "METHOD_NOT_ALLOWED", "GetCSRFToken is a function")
    value = state.nonces.give(whose, state.switches)
    return replies.shown({"NonceKey": "CSRF_NONCE", "NonceValue": value})


def _document_management(call: Call, rest: str) -> Reply:
    state, reading = call.state, call.request.method == "GET"
    if rest == "$metadata" and reading:
        content = types.document(state.types, state.switches)
        return Reply(200, [(b"content-type", b"application/xml"), (b"odata-version", b"4.0")], content)
    if rest == "Documents" and reading:
        return lists.answer(state, call.request, call.user, call.root)
    entity = _ENTITY.fullmatch(rest)
    if entity is None:
        return replies.not_implemented(f"{call.request.method} {rest}")
    found = _find(state, entity[1].replace("''", "'"), call.user)
    if found is None:
        return replies.unknown(f"document {entity[1]}")
    condition = state.documents.conditions.get(found.key)
    if condition is not None and not (condition.writes_only and reading):
        return replies.refusal(condition.status, "REFUSED", condition.message, cause="standing_refusal")
    view, rest = call.view(found), entity[2] or ""
    return _read(call, view, rest) if reading else _write(call, view, rest)


def _find(state: WrsState, key: str, user: str | None) -> Iteration | WorkingCopy | None:
    """The object with this key, if `user` may see it; user None may see everything."""
    given = _KEY.fullmatch(key)
    if given is None:
        return None
    iterations, switches = state.iterations, state.switches
    if given[1] == "VR":
        return iterations.on_branch(int(given[2])) if switches.vr_keys else None
    found = iterations.find(int(given[2]))
    hidden = isinstance(found, WorkingCopy) and user not in (None, found.holder, *switches.administrators)
    return None if hidden else found


def _read(call: Call, view: View, rest: str) -> Reply:
    state = call.state
    if rest == f"{NAMESPACE}.GetValidStateTransitions()" and _bound(state, rest):
        states = state.switches.states
        allowed = writing.allowed(state.switches, view.document.get("status"))
        content = [{"Value": value, "Display": states.get(value, value)} for value in allowed]
        listed = state.switches.transitions_in
        kind = "Collection(PTC.EnumType)" if listed == "value" else "PTC.EnumTypeList"
        return replies.shown({"@odata.context": f"{call.root}$metadata#{kind}", listed: content})
    if rest == f"{NAMESPACE}.IsCheckoutAllowed()" and _bound(state, rest):
        return replies.shown(
            {"@odata.context": f"{call.root}$metadata#Edm.Boolean", "value": _may_check_out(call, view)}
        )
    if rest:
        return replies.not_implemented(rest)
    asked = query.read(call.request.query, state.types, state.switches)
    tag = view.etag()
    if asked.shows_content:
        call.saw(view)
    if tag is not None and tag.encode() in call.request.headers.get(b"if-none-match", b""):
        return Reply(304, _tags(state, view))
    return call.entity(view, asked)


def _may_check_out(call: Call, view: View) -> bool:
    holder = call.state.documents.locks.get(view.found.key)
    return call.state.switches.check_out_allowed and view.latest and holder in (None, call.user)


def _write(call: Call, view: View, rest: str) -> Reply:
    state, method = call.state, call.request.method
    given = _precondition(state, view, call.if_match) or _content(call.request)
    if isinstance(given, Reply):
        return given
    if method == "PATCH" and not rest:
        refused = writing.patch(state, view, call.writer, given)
        if refused is not None:
            return refused
        if state.switches.patch_reply == "none":
            return replies.nothing(*_tags(state, _again(call, view)))
        return _shown_again(call, view)
    if method == "POST" and rest and _bound(state, rest):
        return _act(call, view, rest.removeprefix(f"{NAMESPACE}."), given)
    return replies.not_implemented(f"{method} {rest or 'Documents'}")


def _act(call: Call, view: View, action: str, given: dict[str, Any]) -> Reply:
    state, found = call.state, view.found
    match action:
        case "CheckOut":
            made = checkout.check_out(state, found, call.user, given.get("CheckOutNote"))
            # This reply doesn't count as read: it comes before anyone decides again.
            return made if isinstance(made, Reply) else _made(call, made, state.switches.checkout_reply)
        case "CheckIn":
            if not isinstance(found, WorkingCopy) or found.holder != call.user:
                return replies.invalid("CheckIn needs a working copy of yours.", cause="not_checked_out")
            keep = given.get("KeepCheckedOut", False) is True
            iteration = checkout.check_in(state, found, given.get("CheckInNote"), keep=keep)
            if state.switches.checkin_reply == "entity":
                call.saw(call.view(iteration))
            return _made(call, iteration, state.switches.checkin_reply)
        case "UndoCheckOut":
            left = checkout.undo(state, found, call.user)
            return left if isinstance(left, Reply) else call.entity(call.view(left))
        case "SetState":
            refused = writing.set_state(state, found, call.writer, given.get("State"))
        case "UpdateCommonProperties":
            refused = writing.update_common_properties(state, found, call.writer, given.get("Updates"))
        case _:
            refused = replies.refusal(405, "METHOD_NOT_ALLOWED", f"{action} is a function")
    if refused is not None:
        return refused
    return replies.nothing() if state.switches.action_reply == "none" else _shown_again(call, view)


def _again(call: Call, view: View) -> View:
    """The same object after a write."""
    found = call.state.iterations.find(view.found.number)
    assert found is not None
    return call.view(found)


def _shown_again(call: Call, view: View) -> Reply:
    now = _again(call, view)
    call.saw(now)
    return call.entity(now)


def _made(call: Call, found: Iteration | WorkingCopy, form: str) -> Reply:
    return call.entity(call.view(found), None if form == "entity" else query.Asked(select=("ID",)))


def _tags(state: WrsState, view: View) -> list[tuple[bytes, bytes]]:
    tag = view.etag()
    return [] if tag is None or state.switches.etag_in == "body" else [(b"etag", tag.encode())]


def _precondition(state: WrsState, view: View, if_match: bytes | None) -> Reply | None:
    tag, enforced = view.etag(), state.switches.if_match
    if tag is None or enforced == "ignored":
        return None
    if if_match is None:
        if enforced == "enforced":
            return None
        return replies.refusal(428, "PRECONDITION_REQUIRED", "Send If-Match.", cause="precondition_required")
    if if_match.strip() in (b"*", tag.encode()):
        return None
    return replies.refusal(412, "PRECONDITION_FAILED", "The object has changed.", cause="version_conflict")


def _content(request: Request) -> dict[str, Any] | Reply:
    try:
        given = orjson.loads(request.body or b"{}")
    except orjson.JSONDecodeError as mistake:
        return replies.invalid(f"Not JSON: {mistake}")
    return given if isinstance(given, dict) else replies.invalid("The body must be a JSON object")


def _bound(state: WrsState, rest: str) -> bool:
    """Whether this server has the action or function."""
    return rest.removeprefix(f"{NAMESPACE}.").removesuffix("()") in state.switches.actions


def _root(world: World, request: Request, rest: str) -> str:
    """The URL of the service, with a slash at its end, as the client reached it."""
    host = request.headers.get(b"host", b"localhost").decode("latin-1")
    path = request.path.removesuffix(rest).rstrip("/")
    return f"http://{host}{world.settings.base_path.rstrip('/')}{path}/"
