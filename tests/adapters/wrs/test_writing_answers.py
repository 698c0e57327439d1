"""What each answer to each request of a write means, and that a check-out is given up wherever that can be told."""

from typing import Any

import pytest

from reconciler.model.answer import (
    Failed,
    Locked,
    NotAvailable,
    Refused,
    Throttled,
    Unauthorised,
    Unguarded,
    Unknown,
    VersionConflict,
    Written,
)
from tests.adapters.wrs.world import WrsWorld
from tests.fakes.journal import MemoryJournal
from tests.flows.world import KEY

PAGE = {"status": 200, "headers": {"content-type": "text/html"}, "body": "<html><title>Sign in</title></html>"}


def says(status: int, message: str = "No", code: str = "X") -> dict[str, Any]:
    return {"status": status, "body": {"error": {"code": code, "message": message}}}


async def write(world: WrsWorld, method: str, *steps: Any, path: str = "") -> tuple[Any, MemoryJournal]:
    """Write with a script; return the answer and what the journal was told. A 401 is then not about a session."""
    world.switch(sessions="none")
    shown = await world.snapshot()
    world.simulated.script(method, *steps, document=KEY, path=path)
    journal = MemoryJournal({"Owner": "akim"})
    answer = await world.write(shown, {"Owner": "akim"}, journal)
    world.simulated.unscript()
    return answer, journal


CHECK_OUT = [
    (says(400, "Not allowed"), Refused),
    (says(403), NotAvailable),
    (says(404, code="ENTITY_NOT_FOUND"), NotAvailable),
    (says(409, "The object is checked out by jdoe"), Locked),
    (says(400, "Checked out"), Locked),
    (says(403, "It is locked by jdoe."), Locked),
    (says(423), Locked),
    (says(500, "wt.vc.wip.WorkInProgressException: already checked out by jdoe"), Locked),
    (says(400, "The folder must be checked out first"), Refused),
    (says(400, "The object is not checked out"), Refused),
    (says(409, "Document modified by another user"), VersionConflict),
    (says(412), VersionConflict),
    (says(401), Unauthorised),
    (says(408), Failed),
    (says(428), Unguarded),
    (says(429), Throttled),
    (says(503), Throttled),
    (says(500), Unknown),
    (says(502), Unknown),
    (says(501), Refused),
    ({"status": 202, "body": {}}, Unknown),
    ({"status": 302, "headers": {"location": "/login"}, "body": ""}, Unknown),
    ({"status": 200, "body": {"Name": "no ID"}}, Unknown),
    ({"status": 204, "body": ""}, Unknown),
    ({"status": 200, "body": {"ID": ["?"]}}, Unknown),
    (PAGE, Unknown),
]


@pytest.mark.parametrize(("reply", "meaning"), CHECK_OUT, ids=str)
async def test_a_check_out(world: WrsWorld, reply: dict[str, Any], meaning: type) -> None:
    answer, journal = await write(world, "POST", reply, path="CheckOut")
    assert isinstance(answer, meaning), answer
    assert getattr(answer, "perhaps_applied", False) == (reply == says(503))
    assert journal.locks == []
    assert world.cycles() == []


PATCH = [
    (says(400, "Property 'Owner' is no user"), Refused),
    (says(403), NotAvailable),
    (says(403, "No right to modify 'Owner'"), Refused),
    (says(404), VersionConflict),
    (says(409, "A rule"), Refused),
    (says(412), VersionConflict),
    (says(423), Locked),
    (says(401), Unauthorised),
    (says(428), Unguarded),
    (says(429), Throttled),
    (says(503), Throttled),
    (says(500), Failed),
    (says(500, "checked out by jdoe"), Locked),
    ({"status": 302, "headers": {"location": "/login"}, "body": ""}, Failed),
    (PAGE, Failed),
    ("lost_reply", Failed),
    ("dropped_request", Failed),
]


@pytest.mark.parametrize(("reply", "meaning"), PATCH, ids=str)
async def test_a_patch_that_did_not_go_through_ends_with_the_check_out_undone(
    world: WrsWorld, reply: Any, meaning: type
) -> None:
    answer, journal = await write(world, "PATCH", reply)
    assert isinstance(answer, meaning), answer
    assert not getattr(answer, "perhaps_applied", False)
    assert len(journal.locks) == 1
    assert world.cycles() == ["CheckOut", "UndoCheckOut"]
    assert world.live()["owner"] == "sgarcia"


@pytest.mark.parametrize(("reply", "meaning"), PATCH, ids=str)
@pytest.mark.parametrize("undo", [says(500), says(429), "dropped_request", PAGE], ids=str)
async def test_a_check_out_that_could_not_be_undone_leaves_all_in_doubt(
    world: WrsWorld, reply: Any, meaning: type, undo: Any
) -> None:
    world.simulated.script("POST", undo, document=KEY, path="UndoCheckOut")
    answer, journal = await write(world, "PATCH", reply)
    assert isinstance(answer, Unknown), (answer, meaning)
    assert world.cycles() == ["CheckOut"]
    assert journal.locks == [world.where()["working_copy"]]


CHECK_IN = [
    (says(400, "Property 'Owner' is incomplete"), Refused, True),
    (says(403), NotAvailable, True),
    (says(409, "A rule"), Refused, True),
    (says(412), VersionConflict, True),
    (says(423), Locked, True),
    (says(401), Unauthorised, True),
    (says(429), Throttled, True),
    (says(404), Unknown, False),
    (says(503), Throttled, False),
    (says(500), Unknown, False),
    ({"status": 302, "headers": {"location": "/login"}, "body": ""}, Unknown, False),
    (PAGE, Unknown, False),
    ("dropped_request", Unknown, False),
    ({"status": 200, "body": {}}, Unknown, False),  # it says it was done, and it was not
]


@pytest.mark.parametrize(("reply", "meaning", "undone"), CHECK_IN, ids=str)
async def test_a_check_in_is_undone_if_it_was_surely_not_carried_out_and_else_left_in_doubt(
    world: WrsWorld, reply: Any, meaning: type, undone: bool
) -> None:
    answer, journal = await write(world, "POST", reply, path="CheckIn")
    assert isinstance(answer, meaning), answer
    assert len(journal.locks) == 1
    assert world.cycles() == (["CheckOut", "UndoCheckOut"] if undone else ["CheckOut"])
    assert world.live()["owner"] == "sgarcia"


@pytest.mark.parametrize("reply", [{"status": 200, "body": {}}, {"status": 204, "body": ""}, "ok"], ids=str)
@pytest.mark.parametrize("checkin_id", ["working_copy", "fresh"])
async def test_a_check_in_that_tells_no_id_was_made_all_the_same(world: WrsWorld, reply: Any, checkin_id: str) -> None:
    world.switch(checkin_id=checkin_id)
    step = reply if isinstance(reply, str) else {**reply, "applied": True}
    answer, _ = await write(world, "POST", step, path="CheckIn")
    assert isinstance(answer, Written), answer
    known = reply == "ok" or checkin_id == "working_copy"
    assert answer.snapshot == (await world.snapshot() if known else None)
    assert world.live()["owner"] == "akim"
