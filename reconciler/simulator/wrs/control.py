"""The part of the control API that is about this dialect, `/_control/wrs…`. `ROUTES` is its table of contents."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
from starlette.requests import Request
from starlette.routing import Route

from reconciler.simulator.endpoints import given_object, route, steered
from reconciler.simulator.wrs import writing
from reconciler.simulator.wrs.checkout import Step
from reconciler.simulator.wrs.entities import identity

if TYPE_CHECKING:
    from reconciler.simulator.world import World


async def switches(world: "World", request: Request) -> object:
    """GET, PUT (all of them, the rest back to their defaults), PATCH (some)."""
    world.wrs.switches = await steered(request, world.wrs.switches)
    return attrs.asdict(world.wrs.switches)


async def act(world: "World", request: Request) -> object:
    """
    POST `{"document": KEY, "user": NAME, "do": DEED or [DEED, …], …}`: what a person does, all at once.

    Deeds: checkout (`"note"`), edit (`"set": {dotted path: value}`) of the working copy, checkin (`"note"`), undo,
    setstate (`"state": VALUE`, asking no transition), rename (`"name": TEXT`), revise.
    400 with the server's words where a person would be refused.
    """
    given = writing.checked(await given_object(request))
    for deed in given["do"]:
        writing.do(world, deed, given)
    return writing.where(world, given["document"])


async def checkouts(world: "World", request: Request) -> object:
    """GET `?document=&user=&after=`: every CheckOut, CheckIn and UndoCheckOut with its note, oldest first."""
    asked = request.query_params
    steps = [
        _shown(step)
        for step in world.wrs.cycles.steps
        if step.sequence > int(asked.get("after", 0))
        and asked.get("document", step.document) == step.document
        and asked.get("user", step.user) == step.user
    ]
    return {"items": steps}


async def working_copies(world: "World", _: Request) -> object:
    """GET who has which working copy."""
    copies = world.wrs.shelf.copies()
    return {"items": [{"document": c.key, "holder": c.holder, "id": identity(c.number)} for c in copies]}


async def audit(world: "World", _: Request) -> object:
    """GET the security audit log: each request that changes something and came without a good nonce."""
    nonces = world.wrs.nonces
    return {"items": list(nonces.audited), "issued": nonces.issued}


async def sessions(world: "World", request: Request) -> object:
    """GET how many sessions were opened; DELETE ends them all, as a restart does."""
    if request.method == "DELETE":
        world.wrs.sessions.end()
    return {"opened": world.wrs.sessions.opened}


async def expire_nonces(world: "World", _: Request) -> object:
    """POST: every nonce is void from now on."""
    world.wrs.nonces.expire()
    return {}


ROUTES: tuple[tuple[str, str, Callable[["World", Request], Awaitable[object]]], ...] = (
    ("", "GET PUT PATCH", switches),
    ("/act", "POST", act),
    ("/checkouts", "GET", checkouts),
    ("/working-copies", "GET", working_copies),
    ("/audit", "GET", audit),
    ("/sessions", "GET DELETE", sessions),
    ("/expire-nonces", "POST", expire_nonces),
)


def routes(world: "World", root: str) -> list[Route]:
    """The routes below `root`."""
    return [route(root + path, methods, partial(endpoint, world)) for path, methods, endpoint in ROUTES]


def _shown(step: Step) -> dict[str, Any]:
    shown = attrs.asdict(step)
    shown["time"] = step.time.isoformat()
    return shown | {name: identity(shown[name]) for name in ("working_copy", "iteration")}
