"""Writing where an ETag guards: `lock = "etag"`, on servers that show them, honour them, or only seem to."""

import itertools
from typing import Any

import pytest

from reconciler.model.answer import NotAvailable, Unguarded, Unknown, Written
from reconciler.model.document import Status
from reconciler.model.policy import Rule, Strategy
from tests.adapters.wrs.conftest import MakeWorld
from tests.adapters.wrs.world import Fault, WrsWorld
from tests.checks import expect
from tests.fakes.journal import MemoryJournal
from tests.flows.world import policy

PLAIN = {"etags": "weak", "if_match": "enforced", "patch_without_checkout": "accepted"}
MODES = [
    {"etags": etags, "etag_in": place, "patch_reply": reply, "if_match": strictness}
    for etags, place, reply, strictness in itertools.product(
        ("weak", "strong"), ("header", "body", "both"), ("none", "entity"), ("enforced", "required")
    )
]


async def opened(make_world: MakeWorld, *args: Any, switches: dict[str, Any] | None = None, **options: Any) -> WrsWorld:
    world = await make_world(*args, **{"lock": "etag", "etag_proven": True, **options})
    world.switch(**{**PLAIN, **(switches or {})})
    return await world.known()


@pytest.mark.parametrize("switches", MODES, ids=lambda mode: "-".join(mode.values()))
async def test_a_write_is_one_patch_and_nobodys_edit_is_lost(make_world: MakeWorld, switches: dict[str, Any]) -> None:
    world = await opened(make_world, switches=switches)
    world.wire.before["PATCH"] = lambda: world.person.edits(title="Theirs")
    await world.reconcile({"Owner": "akim", "CostCenter": "4711"})
    assert (world.live()["owner"], world.live()["title"]) == ("akim", "Theirs")
    assert world.cycles() == [], "no check-out is needed"
    assert world.wire.asked.count("PATCH") == 2
    world.wire.asked.clear()
    await world.reconcile({"Owner": "mrossi"})
    assert world.wire.asked.count("PATCH") == 1
    assert world.live()["owner"] == "mrossi"
    assert not world.adapter.locks


@pytest.mark.parametrize("fault", list(Fault)[:4], ids=str)
async def test_a_patch_that_is_cut_short_is_made_once(make_world: MakeWorld, fault: Fault) -> None:
    world = await opened(make_world)
    await world.emit({"Owner": "akim"})
    world.wire.faults["PATCH"] = fault
    await world.cut_short()
    await world.settle()
    assert world.live()["owner"] == "akim"
    assert len(world.written()) == 2


async def test_an_edit_of_the_same_field_is_decided_by_the_policy(make_world: MakeWorld) -> None:
    world = await opened(make_world, policy(Rule(("Owner",), Strategy.PRESERVE)))
    world.wire.before["PATCH"] = lambda: world.person.edits(owner="theirs")
    await world.reconcile({"Owner": "akim"})
    assert world.live()["owner"] == "theirs"


async def test_an_edit_right_after_our_patch_is_not_taken_for_ours(make_world: MakeWorld) -> None:
    world = await opened(make_world, policy(Rule(("Owner",), Strategy.PRESERVE)))
    world.wire.before["GET list"] = lambda: world.person.edits(owner="theirs")
    await world.reconcile({"Owner": "akim"})
    assert not world.wire.before
    await world.resync()
    assert world.live()["owner"] == "theirs"
    assert world.held() == [], "held as if the server had altered it"


async def test_actions_are_guarded_by_the_etag_too(make_world: MakeWorld) -> None:
    world = await opened(make_world, switches={"if_match": "required", "etag_in": "header"})
    world.wire.before["SetState"] = lambda: world.person.edits(title="Theirs")
    await world.reconcile({"State": "INREVIEW", "Name": "Lid"})
    shown = world.live()
    assert (shown["status"], shown["name"], shown["title"]) == ("INREVIEW", "Lid", "Theirs")
    assert world.cycles() == []


async def test_a_server_that_no_one_has_proved_is_not_written_to_by_its_etags(make_world: MakeWorld) -> None:
    world = (await make_world(lock="auto")).switch(**PLAIN, actions=[])
    await world.try_once({"Owner": "akim"})
    assert world.document().status is Status.PARKED
    assert world.document().reason.startswith("this server was not seen to refuse"), "no status stands before it"
    assert "doctor --probe" in world.document().reason
    assert "PATCH" not in world.wire.asked


async def test_a_server_without_etags_is_not_written_to_by_etags(make_world: MakeWorld) -> None:
    world = (await make_world(lock="etag", etag_proven=True)).switch(patch_without_checkout="accepted")
    await world.try_once({"Owner": "akim"})
    assert world.document().status is Status.PARKED
    assert world.live()["owner"] == "sgarcia"


async def test_a_check_out_by_someone_locks_the_document_for_etags_too(make_world: MakeWorld) -> None:
    world = await opened(make_world, switches={"checkout_conflict": 423})
    world.person.does("checkout", "edit", set={"title": "Theirs"})
    await world.try_once({"Owner": "akim"})
    assert world.document().status is Status.LOCKED
    world.person.does("checkin")
    await world.settle()
    assert (world.live()["owner"], world.live()["title"]) == ("akim", "Theirs")


async def test_a_server_that_wants_a_check_out_after_all_says_so(make_world: MakeWorld) -> None:
    world = (await make_world(lock="etag", etag_proven=True)).switch(**{**PLAIN, "patch_without_checkout": "refused"})
    await world.reconcile({"Owner": "akim"})
    assert world.document().status is Status.HELD
    assert "must be checked out" in world.document().reason


async def test_answers_of_the_port(make_world: MakeWorld) -> None:
    world = await opened(make_world)
    journal = MemoryJournal()
    shown = await world.snapshot()

    async def answer(reply: dict[str, Any]) -> object:
        world.simulated.script("PATCH", reply, document=None)
        return await world.write(shown, {"Owner": "a"}, journal)

    expect(Unguarded, await answer({"status": 428, "body": {"error": {"message": "If-Match?"}}}))
    blind = await answer({"status": 204, "applied": False})
    assert blind == Written(None, None), "no ETag came, so nothing is known to guard the next write"
    other = {"status": 200, "body": {"ID": "OR:wt.doc.WTDocument:1", "Number": "another"}}
    expect(Unknown, await answer(other))
    stale = {"status": 404, "body": {"error": {"code": "ENTITY_NOT_FOUND", "message": "gone"}}}
    assert expect(NotAvailable, await answer(stale)).perhaps_stale
    assert not journal.locks
