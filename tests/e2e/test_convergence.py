"""Whatever the server, the network and the users do, everything ends as the policy says and no one's edit is lost."""

import asyncio
from typing import Any

import pytest

from reconciler.model.document import Status
from reconciler.model.policy import DEFAULT_RULES, ListMode, Policy, Rule, Strategy
from reconciler.simulator.history import Entry
from tests.e2e.conftest import MakeWorld
from tests.e2e.world import ME, OPERATORS, World, agreed_in, event, kinds, values_of

KEYS = [f"{number:010d}" for number in range(1, 41)]
DOCUMENT = KEYS[0]
MANAGED = ("status", "owner", "title", "attributes.CostCenter", "attributes.Keywords")
RULES = Policy((Rule(("attributes.Keywords",), Strategy.MERGE, list=ListMode.SET), *DEFAULT_RULES))


def at(document: dict[str, Any], path: str) -> Any:
    head, _, rest = path.partition(".")
    return at(document[head], rest) if rest else document.get(head)


def last_writer(entries: list[Entry], key: str, field: str) -> str:
    return next((e.who for e in reversed(entries) if e.document == key and field in e.changes), "nobody")


async def test_everything_ends_as_the_policy_says_under_rivals_and_faults(make_world: MakeWorld) -> None:
    world = await make_world(RULES, resync={"interval_s": 1.0, "interval_factor_max": 1.0})
    simulated = world.simulated
    # Every field is agreed once before anyone else edits: one that is first seen while rivals are at work may be
    # yielded to them, because no one can tell whose value is older.
    first = {"status": "INWORK", "attributes.CostCenter": "first", "title": "first", "owner": "first"}
    await world.settle(*(event(key, first, add={"attributes.Keywords": ["first"]}) for key in KEYS))
    simulated.rivals(per_second=60, documents=KEYS)
    simulated.faults(
        version_conflict=0.05, lost_reply=0.04, cut_reply=0.03, dropped_request=0.03, unavailable=0.03, throttle=0.03,
        retry_after_s=0,
    )  # fmt: skip
    async with world.running() as running:
        for number in range(6):
            given = [
                event(
                    key,
                    {"status": ("INWORK", "INREVIEW", "RELEASED")[number % 3], "attributes.CostCenter": f"{number}"}
                    | ({"title": f"title {number}", "owner": "sgarcia"} if number % 2 else {}),
                    add={"attributes.Keywords": [f"word-{number}"]},
                )
                for key in KEYS
            ]
            await world.append(*given)
            await running.until_folded()
        simulated.rivals(per_second=0)
        simulated.faults(version_conflict=0, lost_reply=0, cut_reply=0, dropped_request=0, unavailable=0, throttle=0)

        async def as_the_policy_says() -> bool:
            documents = [await asyncio.to_thread(simulated.document, key) for key in KEYS]
            return all(shown["status"] == "RELEASED" for shown in documents)

        await running.until(as_the_policy_says, "every status is what the last event says")
        await running.until_settled()
        await running.check()
        stored = await running.daemon.store.documents(KEYS)
    entries = simulated.whole_history()
    for key in KEYS:
        shown, row = simulated.document(key), stored[key]
        held = {conflict.field for conflict in row.agreement.held}
        assert row.status in (Status.SYNCED, Status.HELD)
        assert at(shown, "attributes.CostCenter") == "5"  # no one else edits it, so nothing may keep it
        assert "word-5" in shown["attributes"]["Keywords"] or last_writer(entries, key, "attributes.Keywords") != ME
        for field, value in (("title", "title 5"), ("owner", "sgarcia")):
            assert at(shown, field) == value or field in held or last_writer(entries, key, field) != ME
        touched = {field for entry in entries if (entry.who, entry.document) == (ME, key) for field in entry.changes}
        assert touched <= set(MANAGED), "a field that no one manages was written"
    assert values_of(await world.told()) == agreed_in(stored)


VARIANTS = [
    ({"etag": "strong", "conflict_status": 409}, "patch"),
    ({"etag": "strong", "conflict_status": 412, "write_reply": "none"}, "put"),
    ({"etag": "weak", "conflict_status": 412}, "patch"),
    ({"etag": "weak", "conflict_status": 409, "write_etag": False}, "put"),
    ({"etag": "gzip", "conflict_status": 412, "write_reply": "none", "write_etag": False}, "patch"),
    ({"etag": "gzip", "conflict_status": 409, "gzip_suffix_accepted": False}, "patch"),
    ({"etag": "strong", "conflict_status": 409, "cleared_fields": "null", "write_etag": False}, "patch"),
]


@pytest.mark.parametrize(("behaviour", "method"), VARIANTS)
async def test_servers_of_all_kinds_are_written_to_safely(
    make_world: MakeWorld, behaviour: dict[str, Any], method: str
) -> None:
    world = await make_world(windchill={"write_method": method})
    world.simulated.behave(**behaviour)
    keys = KEYS[:4]
    await world.settle(*(event(key, {"title": "one", "attributes.CostCenter": "1"}) for key in keys))
    for key in keys:
        world.simulated.edit({"owner": "someone"}, key)
    world.simulated.forget_requests()
    await world.settle(*(event(key, {"title": "two", "attributes.CostCenter": None}) for key in keys))
    for key in keys:
        shown = world.simulated.document(key)
        assert (shown["title"], shown["owner"], shown["attributes"].get("CostCenter")) == ("two", "someone", None)
    if behaviour.get("write_etag", True):  # our token was stale, and the server said so
        assert str(behaviour["conflict_status"]) in world.simulated.requests()[method.upper()]


async def test_a_server_without_tokens_is_never_written_to(world: World) -> None:
    world.simulated.behave(etag="absent")
    await world.append(event(DOCUMENT, {"title": "one"}))
    summary = await world.converge()
    assert (summary.settled, summary.counts[Status.PARKED]) == (False, 1)
    assert "PATCH" not in world.simulated.requests()
    assert kinds(await world.outcomes()) == ["document.parked"]


async def test_an_overlap_is_held_and_shown_and_closed_by_a_resolution(world: World) -> None:
    await world.settle(event(DOCUMENT, {"title": "first", "attributes.CostCenter": "1"}))
    world.simulated.edit({"title": "by hand"})
    await world.append(event(DOCUMENT, {"title": "second", "attributes.CostCenter": "2"}))
    summary = await world.converge()
    assert (summary.settled, summary.counts[Status.HELD]) == (False, 1)
    shown = world.simulated.document()
    assert (shown["title"], shown["attributes"]["CostCenter"]) == ("by hand", "2")
    opened = (await world.outcomes())[-1]["data"]
    assert (opened["field"], opened["base"], opened["desired"], opened["live"]) == (
        "title",
        "first",
        "second",
        "by hand",
    )

    resolution = event(DOCUMENT, {"title": "third"}, expect={"title": "by hand"}, source=OPERATORS, actor="boss")
    await world.settle(resolution)
    assert world.simulated.document()["title"] == "third"
    told = await world.outcomes()
    assert kinds(told) == [
        "document.reconciled", "document.reconciled", "conflict.opened", "document.reconciled", "conflict.closed",
    ]  # fmt: skip
    assert (told[3]["data"]["written"], told[3]["data"]["events"][-1]) == ({"title": "third"}, resolution["id"])
    assert told[4]["data"]["conflict"] == opened["conflict"]


async def test_a_lock_is_waited_for_and_then_written_through(world: World) -> None:
    world.simulated.lock("jdoe")
    async with world.running() as running:
        await world.append(event(DOCUMENT, {"title": "one"}))
        await running.until_status(DOCUMENT, Status.LOCKED)
        world.simulated.unlock()
        await running.until_status(DOCUMENT, Status.SYNCED)
        await running.check()
    assert world.simulated.document()["title"] == "one"


async def test_a_missing_document_is_awaited_and_the_next_event_finds_it(world: World) -> None:
    world.simulated.condition(404)
    async with world.running() as running:
        await world.append(event(DOCUMENT, {"title": "one"}))
        await running.until_status(DOCUMENT, Status.ABSENT)
        world.simulated.condition(None)
        await world.append(event(DOCUMENT, {"title": "two"}))
        await running.until_status(DOCUMENT, Status.SYNCED)
        await running.check()


async def test_drift_is_found_and_put_right_and_stable_documents_cost_304s(make_world: MakeWorld) -> None:
    world = await make_world(resync={"interval_s": 0.3, "interval_factor_max": 2.0})
    async with world.running() as running:
        await world.append(event(DOCUMENT, {"status": "RELEASED"}))
        await running.until_status(DOCUMENT, Status.SYNCED)
        world.simulated.edit({"status": "INWORK"})
        await running.until(
            lambda: world.simulated.document()["status"] == "RELEASED", "the drift is written over again"
        )
        await running.until(lambda: world.simulated.requests()["GET"].get("304", 0) >= 2, "two comparisons gave a 304")
        await running.check()


async def test_known_documents_cost_one_patch_each_and_no_read_however_many_events_there_are(world: World) -> None:
    keys = [f"{number:010d}" for number in range(1, 301)]
    await world.append(*(event(key, {"attributes.CostCenter": "first"}) for key in keys))
    assert (await world.converge()).counts[Status.SYNCED] == len(keys)
    world.simulated.forget_requests()
    await world.settle(
        *(event(key, {"attributes.CostCenter": f"value {n}", "title": f"t {n}"}) for n in range(20) for key in keys)
    )
    assert world.simulated.requests() == {"PATCH": {"200": len(keys)}}
    for key in keys:
        shown = world.simulated.document(key)
        assert (shown["attributes"]["CostCenter"], shown["title"]) == ("value 19", "t 19")
