"""
The control API, `/_control/…`, JSON in and out: how tests and demos steer the simulation and ask what happened.

It never meets faults, and asks for no credentials or preconditions. `_ROUTES` at the end is its table of contents.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reconciler.simulator import history
from reconciler.simulator.asgi import CONTROL
from reconciler.simulator.documents import Condition
from reconciler.simulator.history import Writer
from reconciler.simulator.validation import chosen
from reconciler.simulator.world import World
from reconciler.simulator.wrs import people
from reconciler.simulator.wrs.iterations import identity
from reconciler.simulator.wrs.state import Step

_PAGE_DEFAULT = 10_000
_WORDS = {403: "Not allowed", 404: "There is no such document", 410: "The document was deleted for good"}


class Control:
    """The endpoints. Each returns what to show; ValueError and TypeError become 400, KeyError 404."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def settings(self, request: Request) -> object:
        """GET faults, behaviour, rivals or wrs; PATCH some of one, or PUT some and reset the rest to their defaults."""
        world, group = self._world, request.path_params["group"]
        owner, name = {
            "faults": (world.faults, "settings"),
            "behaviour": (world.documents, "behaviour"),
            "rivals": (world.rivals, "settings"),
            "wrs": (world.wrs, "switches"),
        }[group]
        current = getattr(owner, name)
        if request.method != "GET":
            over = current if request.method == "PATCH" else type(current)()
            current = chosen(over, await _given(request))
            setattr(owner, name, current)
        return attrs.asdict(current)

    async def script(self, request: Request) -> object:
        """POST a script; GET or DELETE those that are waiting."""
        plan = self._world.faults
        if request.method == "POST":
            plan.script(await _given(request))
        elif request.method == "DELETE":
            plan.clear_scripts()
        return {"waiting": plan.waiting()}

    async def edit(self, request: Request) -> object:
        """POST `{"document": KEY, "user": NAME, "set": {dotted path: value}}`: a person's edit, without a guard."""
        given = await _given(request, "document set", "user")
        writer = Writer(given.get("user", "jdoe"), "control")
        if not isinstance(given["set"], dict):
            raise TypeError("set must be an object of dotted paths")
        return history.as_json(self._world.documents.edit(given["document"], given["set"], writer))

    async def lock(self, request: Request) -> object:
        """POST `{"document": KEY, "user": NAME}`: NAME checks it out, without a working copy."""
        given = await _given(request, "document user", "")
        self._world.wrs.iterations.release(given["document"])
        self._world.documents.locks[given["document"]] = given["user"]
        return self._world.documents.locks

    async def unlock(self, request: Request) -> object:
        """POST `{"document": KEY}`: the lock is removed, with its working copy."""
        self._world.wrs.iterations.release((await _given(request, "document", ""))["document"])
        return self._world.documents.locks

    async def condition(self, request: Request) -> object:
        """POST `{"document": KEY, "status": 403 | 404 | 410 | … | null, "message"?: TEXT, "writes_only"?: false}`."""
        given = await _given(request, "document status", "message writes_only")
        conditions, status = self._world.documents.conditions, given["status"]
        if status is None:
            conditions.pop(given["document"], None)
        elif isinstance(status, int) and 400 <= status <= 599:
            message = given.get("message", _WORDS.get(status, "Refused"))
            conditions[given["document"]] = Condition(status, message, bool(given.get("writes_only")))
        else:
            raise ValueError("status must lie between 400 and 599, or be null")
        return {key: attrs.asdict(condition) for key, condition in conditions.items()}

    async def history(self, request: Request) -> object:
        """GET `?document=&after=&limit=`: accepted writes after a sequence number, oldest first."""
        asked, kept = request.query_params, self._world.documents.history
        limit = int(asked.get("limit", _PAGE_DEFAULT))
        entries = kept.after(int(asked.get("after", 0)), asked.get("document"), limit)
        return {"items": list(map(history.as_json, entries)), "last": kept.last, "forgotten": kept.forgotten}

    async def statistics(self, _: Request) -> object:
        """GET counts of requests and replies."""
        return self._world.statistics.shown()

    async def reset_statistics(self, _: Request) -> object:
        """POST: count from zero."""
        self._world.statistics.reset()
        return self._world.statistics.shown()

    async def documents(self, request: Request) -> object:
        """POST a document with its `id`: an administrator creates or replaces it."""
        given = await _given(request, "id")
        key = str(given["id"])
        return self._world.documents.write(key, given, Writer("administrator", "control")).fields

    async def document(self, request: Request) -> object:
        """GET one document and its bare token as they are, whatever readers are shown; or DELETE it."""
        key, documents = request.path_params["key"], self._world.documents
        if request.method == "DELETE":
            for one in self._world.wrs.iterations.revisions(key):
                documents.delete(one, Writer("administrator", "control"))
            return {"deleted": key}
        found = documents.get(key)
        if found is None:
            raise KeyError(key)
        return {"token": found.token, "document": found.fields, **people.where(self._world.wrs, key)}

    async def expire_tokens(self, _: Request) -> object:
        """POST: every issued bearer token becomes invalid."""
        self._world.credentials.revoke_all()
        return {}

    async def reset(self, _: Request) -> object:
        """POST: start again, as when the program started."""
        self._world.begin()
        return {"documents": len(self._world.documents)}

    async def act(self, request: Request) -> object:
        """
        POST `{"document": KEY, "user": NAME, "do": ACTION or [ACTION, …], …}`: what a person does, all at once.

        `wrs.people` lists the actions. 400 with the server's words where a person would be refused.
        """
        given = people.checked(await _given(request))
        for action in given["do"]:
            people.do(self._world.wrs, action, given)
        return people.where(self._world.wrs, given["document"])

    async def checkouts(self, request: Request) -> object:
        """GET `?document=&user=&after=`: every CheckOut, CheckIn and UndoCheckOut with its note, oldest first."""
        asked = request.query_params
        steps = [
            _shown(step)
            for step in self._world.wrs.steps
            if step.sequence > int(asked.get("after", 0))
            and asked.get("document", step.document) == step.document
            and asked.get("user", step.user) == step.user
        ]
        return {"items": steps}

    async def working_copies(self, _: Request) -> object:
        """GET all working copies with their holders."""
        copies = self._world.wrs.iterations.copies()
        return {"items": [{"document": c.key, "holder": c.holder, "id": identity(c.number)} for c in copies]}

    async def audit(self, _: Request) -> object:
        """GET the security audit log: each request that changes something and came without a good nonce."""
        nonces = self._world.wrs.nonces
        return {"items": list(nonces.audited), "issued": nonces.issued}

    async def sessions(self, request: Request) -> object:
        """GET how many sessions were opened; DELETE ends them all, as a restart does."""
        if request.method == "DELETE":
            self._world.wrs.sessions.end()
        return {"opened": self._world.wrs.sessions.opened}

    async def expire_nonces(self, _: Request) -> object:
        """POST: every nonce becomes invalid."""
        self._world.wrs.nonces.expire()
        return {}


_ROUTES: tuple[tuple[str, str, Callable[[Control, Request], Awaitable[object]]], ...] = (
    ("/script", "GET POST DELETE", Control.script),
    ("/edit", "POST", Control.edit),
    ("/lock", "POST", Control.lock),
    ("/unlock", "POST", Control.unlock),
    ("/condition", "POST", Control.condition),
    ("/documents", "POST", Control.documents),
    ("/documents/{key:path}", "GET DELETE", Control.document),
    ("/history", "GET", Control.history),
    ("/stats", "GET", Control.statistics),
    ("/reset-stats", "POST", Control.reset_statistics),
    ("/expire-tokens", "POST", Control.expire_tokens),
    ("/reset", "POST", Control.reset),
    ("/wrs/act", "POST", Control.act),
    ("/wrs/checkouts", "GET", Control.checkouts),
    ("/wrs/working-copies", "GET", Control.working_copies),
    ("/wrs/audit", "GET", Control.audit),
    ("/wrs/sessions", "GET DELETE", Control.sessions),
    ("/wrs/expire-nonces", "POST", Control.expire_nonces),
    ("/{group}", "GET PUT PATCH", Control.settings),
)


def application(world: World) -> Starlette:
    """The control API over a world."""
    control = Control(world)
    routes = [_route(CONTROL + path, methods, partial(endpoint, control)) for path, methods, endpoint in _ROUTES]
    return Starlette(routes=routes)


def _route(path: str, methods: str, endpoint: Callable[[Request], Awaitable[object]]) -> Route:
    async def call(request: Request) -> Response:
        try:
            status, shown = 200, await endpoint(request)
        except KeyError as missing:
            status, shown = 404, {"error": "Not Found", "message": f"no {missing.args[0]}"}
        except (ValueError, TypeError) as mistake:
            status, shown = 400, {"error": "Bad Request", "message": str(mistake)}
        return Response(orjson.dumps(shown), status_code=status, media_type="application/json")

    return Route(path, call, methods=methods.split())


async def _given(request: Request, needed: str = "", optional: str | None = None) -> dict[str, Any]:
    """The request's JSON object; ValueError if a needed member is missing or another one is unknown."""
    given = orjson.loads(await request.body())
    if not isinstance(given, dict):
        raise TypeError("the body must be a JSON object")
    missing = set(needed.split()) - given.keys()
    unknown = set() if optional is None else given.keys() - {*needed.split(), *optional.split()}
    if missing or unknown:
        wanted = f"needed: {needed}" + (f"; optional: {optional}" if optional else "")
        raise ValueError(f"missing or unknown: {', '.join(sorted(missing | unknown))}; {wanted}")
    return given


def _shown(step: Step) -> dict[str, Any]:
    shown = attrs.asdict(step)
    shown["time"] = step.time.isoformat()
    return shown | {name: identity(shown[name]) for name in ("working_copy", "iteration")}
