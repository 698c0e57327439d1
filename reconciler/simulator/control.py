"""
The control API, `/_control/…`, JSON in and out: how tests and demos steer the simulation and ask what happened.

Never subject to faults, credentials or preconditions. `ROUTES` at the end is its table of contents; `wrs.control` has
those of the dialect `wrs`.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import attrs
from starlette.applications import Starlette
from starlette.requests import Request

from reconciler.simulator import history
from reconciler.simulator.asgi import CONTROL
from reconciler.simulator.documents import Condition
from reconciler.simulator.endpoints import given_object, route, steered
from reconciler.simulator.history import Writer
from reconciler.simulator.world import World
from reconciler.simulator.wrs import control as wrs_control
from reconciler.simulator.wrs import writing

_PAGE_DEFAULT = 10_000
_WORDS = {403: "Not allowed", 404: "There is no such document", 410: "The document was deleted for good"}


class Control:
    """The endpoints. Each returns what to show; ValueError becomes 400, KeyError 404."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def faults(self, request: Request) -> object:
        """GET, PUT (all of them, the rest back to their defaults), PATCH (some)."""
        plan = self._world.faults
        plan.settings = await steered(request, plan.settings)
        return attrs.asdict(plan.settings)

    async def behaviour(self, request: Request) -> object:
        """GET, PUT, PATCH, as for faults."""
        documents = self._world.documents
        documents.behaviour = await steered(request, documents.behaviour)
        return attrs.asdict(documents.behaviour)

    async def rivals(self, request: Request) -> object:
        """GET, PUT, PATCH, as for faults."""
        rivals = self._world.rivals
        rivals.settings = await steered(request, rivals.settings)
        return attrs.asdict(rivals.settings)

    async def script(self, request: Request) -> object:
        """POST a script, GET those that wait, DELETE them."""
        plan = self._world.faults
        if request.method == "POST":
            plan.script(await given_object(request))
        elif request.method == "DELETE":
            plan.clear_scripts()
        return {"items": plan.waiting()}

    async def edit(self, request: Request) -> object:
        """POST `{"document": KEY, "user": NAME, "set": {dotted path: value}}`: a person's edit, asking no version."""
        given = await given_object(request, "document set", "user")
        writer = Writer(given.get("user", "jdoe"), "control")
        if not isinstance(given["set"], dict):
            raise TypeError("set must be an object of dotted paths")
        return history.as_json(self._world.documents.edit(given["document"], given["set"], writer))

    async def lock(self, request: Request) -> object:
        """POST `{"document": KEY, "user": NAME}`: checked out by NAME from now on, without a working copy."""
        given = await given_object(request, "document user", "")
        self._world.wrs.shelf.release(given["document"])
        self._world.documents.locks[given["document"]] = given["user"]
        return self._world.documents.locks

    async def unlock(self, request: Request) -> object:
        """POST `{"document": KEY}`. A working copy is gone with its lock."""
        self._world.wrs.shelf.release((await given_object(request, "document", ""))["document"])
        return self._world.documents.locks

    async def condition(self, request: Request) -> object:
        """POST `{"document": KEY, "status": 403 | 404 | 410 | … | null, "message"?: TEXT, "writes_only"?: false}`."""
        given = await given_object(request, "document status", "message writes_only")
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
        """GET what was asked and answered."""
        return self._world.statistics.shown()

    async def reset_statistics(self, _: Request) -> object:
        """POST: count from zero."""
        self._world.statistics = type(self._world.statistics)()
        return self._world.statistics.shown()

    async def documents(self, request: Request) -> object:
        """POST a document with its `id`: made, or replaced, as an administrator."""
        given = await given_object(request, "id")
        key = str(given["id"])
        return self._world.documents.write(key, given, Writer("administrator", "control")).fields

    async def document(self, request: Request) -> object:
        """GET one document with its bare token, as it is, whatever its readers are told; or DELETE it."""
        key, documents = request.path_params["key"], self._world.documents
        if request.method == "DELETE":
            for one in self._world.wrs.shelf.revisions(key):
                documents.delete(one, Writer("administrator", "control"))
            return {"deleted": key}
        found = documents.get(key)
        if found is None:
            raise KeyError(key)
        return {"token": found.token, "document": found.fields, **writing.where(self._world, key)}

    async def expire_tokens(self, _: Request) -> object:
        """POST: every issued bearer token is void from now on."""
        self._world.credentials.revoke_all()
        return {}

    async def reset(self, _: Request) -> object:
        """POST: everything as it was when the program started."""
        self._world.begin()
        return {"documents": len(self._world.documents)}


Endpoint = Callable[[Control, Request], Awaitable[object]]

ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("/faults", "GET PUT PATCH", Control.faults),
    ("/script", "GET POST DELETE", Control.script),
    ("/behaviour", "GET PUT PATCH", Control.behaviour),
    ("/rivals", "GET PUT PATCH", Control.rivals),
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
)


def application(world: World) -> Starlette:
    """The control API over a world."""
    control = Control(world)
    own = [route(CONTROL + path, methods, partial(endpoint, control)) for path, methods, endpoint in ROUTES]
    return Starlette(routes=[*own, *wrs_control.routes(world, CONTROL + "/wrs")])
