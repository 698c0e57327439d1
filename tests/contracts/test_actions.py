"""What every store promises of operators' actions and of paused documents (`reconciler/ports/store.py`)."""

import asyncio
import json
from pathlib import Path

import pytest
from msgspec import structs

from reconciler.flows.recording import About, Recorder
from reconciler.model import chain
from reconciler.model.action import Change, OperatorAction
from reconciler.model.audit import AuditRecord
from reconciler.model.document import Agreement, Due, Lane, Status
from reconciler.ports import Store
from tests.checks import check_chain, opened
from tests.contracts.test_store import (
    AGREEMENT,
    HOSTILE,
    batch,
    intend,
    letter,
    record,
    row,
    settle,
    settlement,
    unordered,
    wish,
)
from tests.fakes.virtual_clock import VirtualClock

AT_US = 7000


def action(target: str = "d", kind: str = "pause", *, who: str = "jdoe", **rest: object) -> OperatorAction:
    settings: dict[str, object] = {"document": target, "details": {"reason": "audit"}, "result": "done"} | rest
    return OperatorAction(AT_US, who, "operator", kind, target, **settings)


async def paused(store: Store, key: str = "d") -> None:
    await store.fold(batch(key))
    assert await store.record_actions(Change.PAUSE, [action(key)], at_us=AT_US, reason="paused by jdoe")


# -------------------------------------------------------------------------------------------------------------- pausing


async def test_a_paused_document_says_why_and_is_due_for_a_last_look_and_not_pending(store: Store) -> None:
    await paused(store)
    found = await row(store)
    assert (found.status, found.reason) == (Status.PAUSED, "paused by jdoe")
    assert (found.pending_since_us, found.revision) == (None, 2)
    assert await store.due(2**62, 10) == [Due("d", Lane.RETRY, AT_US)]
    assert await store.oldest_pending_us() is None
    assert (await store.counts())[Status.PAUSED] == 1
    assert [one.key for one in await store.list_documents(Status.PAUSED, "", 10)] == ["d"]


@pytest.mark.parametrize("due_us", [None, 9000])
async def test_a_paused_document_is_due_again_when_its_last_look_says_so(store: Store, due_us: int | None) -> None:
    await paused(store)
    await settle(store, settlement(revision=1, status=Status.PAUSED, due_us=8500, agreement=AGREEMENT))
    assert (await row(store)).due_us == AT_US, "what was looked at before the pause was no last look"
    await settle(store, settlement(revision=2, status=Status.PAUSED, due_us=due_us, agreement=AGREEMENT))
    found = await row(store)
    assert (found.status, found.reason, found.due_us) == (Status.PAUSED, "paused by jdoe", due_us)
    assert await store.next_due_us() == due_us


@pytest.mark.parametrize("key", HOSTILE)
async def test_an_intent_that_comes_after_a_pause_is_stored_and_must_not_be_sent(store: Store, key: str) -> None:
    await paused(store, key)
    await store.fold(batch("other"))
    await store.hold([key, "other"])
    assert tuple(await asyncio.gather(store.intend(key, AGREEMENT), store.intend("other", AGREEMENT))) == (False, True)
    found = (await store.documents([key]))[key]
    assert (found.status, found.agreement) == (Status.PAUSED, AGREEMENT)
    assert await store.record_actions(Change.RESUME, [action(key, kind="resume")], at_us=8000)
    assert await intend(store, key, AGREEMENT)


async def test_a_last_look_at_a_document_that_was_resumed_meanwhile_does_not_pause_it_again(store: Store) -> None:
    await paused(store)
    assert await store.record_actions(Change.RESUME, [action(kind="resume")], at_us=8000)
    await settle(store, settlement(revision=2, status=Status.PAUSED, due_us=None))
    found = await row(store)
    assert (found.status, found.due_us) == (Status.PENDING, 8000)


async def test_a_paused_document_takes_in_what_the_log_says_and_stays_paused(store: Store) -> None:
    await paused(store)
    await store.fold(batch(rows={"d": wish("NEW", 2)}, at_us=8000, urgent=frozenset({"d"})))
    found = await row(store)
    assert (found.desired, found.revision) == (wish("NEW", 2), 3)
    assert (found.status, found.reason, found.due_us, found.pending_since_us) == (
        *(Status.PAUSED, "paused by jdoe"),
        *(AT_US, None),
    )


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.PAUSED])
@pytest.mark.parametrize("revision", [1, 2])
async def test_an_attempt_under_way_stores_what_it_agreed_and_ends_no_pause(
    store: Store, status: Status, revision: int
) -> None:
    await paused(store)
    await settle(store, settlement(revision=revision, status=status, due_us=9000, attempts=1))
    found = await row(store)
    assert (found.agreement, found.attempts) == (AGREEMENT, 1)
    assert (found.status, found.reason, found.due_us, found.pending_since_us) == (
        *(Status.PAUSED, "paused by jdoe"),
        *(AT_US, None),
    )


async def test_recovery_from_an_outcome_log_ends_no_pause(store: Store) -> None:
    await paused(store)
    await store.rebase({"d": structs.replace(AGREEMENT, told=3)}, {}, 8000)
    found = await row(store)
    assert (found.agreement.told, found.status, found.due_us, found.pending_since_us) == (3, Status.PAUSED, AT_US, None)


async def test_nothing_requeues_a_paused_document(store: Store) -> None:
    await paused(store)
    await store.fold(batch("e"))
    assert await store.requeue(["d", "e"], Lane.OPERATOR, 8000) == 1
    assert not await store.record_actions(Change.RETRY, [action(kind="retry")], at_us=8000)
    assert (await row(store)).due_us == AT_US


async def test_a_resumed_document_is_pending_and_due_at_once_before_all_others(store: Store) -> None:
    await paused(store)
    await store.fold(batch("e", at_us=1))
    assert await store.record_actions(Change.RESUME, [action(kind="resume")], at_us=8000)
    found = await row(store)
    assert (found.status, found.reason, found.pending_since_us, found.revision) == (Status.PENDING, "", 8000, 3)
    assert (await store.due(8000, 1)) == [Due("d", Lane.OPERATOR, 8000)]
    await settle(store, settlement(revision=2))  # of an attempt from before
    assert (await row(store)).status is Status.PENDING


async def test_a_document_to_be_retried_is_due_at_once_and_keeps_its_status(store: Store) -> None:
    await store.fold(batch("d"))
    await settle(store, settlement(status=Status.PARKED, reason="gone", due_us=99_000))
    assert await store.record_actions(Change.RETRY, [action(kind="retry")], at_us=8000)
    found = await row(store)
    assert (found.status, found.reason, found.lane, found.due_us) == (Status.PARKED, "gone", Lane.ASKED, 8000)


@pytest.mark.parametrize("change", [Change.RETRY, Change.PAUSE, Change.RESUME, Change.REPLAY, Change.DISCARD])
async def test_an_action_on_a_missing_target_does_nothing_and_is_not_recorded(store: Store, change: Change) -> None:
    await store.fold(batch("d"))
    await store.rebase({"x": Agreement(told=1)}, {}, 8000)  # known from an outcome log only: never named by an event
    for target in ("nix", "x"):
        assert not await store.record_actions(change, [action("d"), action(target)], at_us=8000)
    assert await store.actions() == []
    assert (await row(store)).status is Status.PENDING


async def test_what_is_paused_or_not_is_not_paused_or_resumed_again(store: Store) -> None:
    await store.fold(batch("d"))
    assert not await store.record_actions(Change.RESUME, [action()], at_us=8000)
    assert await store.record_actions(Change.PAUSE, [action()], at_us=8000, reason="first")
    assert not await store.record_actions(Change.PAUSE, [action()], at_us=9000, reason="second")
    assert ((await row(store)).reason, len(await store.actions())) == ("first", 1)


async def test_letters_are_marked_with_the_record_of_who_did_it(store: Store) -> None:
    await store.fold(batch(dead_letters=[letter(7), letter(8)]))
    await store.record_actions(Change.DISCARD, [action("changes/0/7", "discard", document="")], at_us=8000)
    await store.record_actions(Change.REPLAY, [action("changes/0/8", "replay", document="")], at_us=8000)
    assert [(one.id, one.status) for one in await store.dead_letters(None)] == [
        ("changes/0/7", "discarded"),
        ("changes/0/8", "replayed"),
    ]
    (found,) = await store.actions(target="changes/0/7")
    assert (found.kind, found.details) == ("discard", {"reason": "audit"})


# ---------------------------------------------------------------------------------------------------------- the records


async def noted(store: Store, *actions: OperatorAction) -> None:
    assert await store.record_actions(Change.NOTHING, actions, at_us=AT_US)


async def test_acts_are_numbered_and_listed_newest_first_page_by_page(store: Store) -> None:
    for number in range(5):
        await noted(store, action(f"d{number}"))
    assert [(one.id, one.target) for one in await store.actions(limit=2)] == [(5, "d4"), (4, "d3")]
    assert [one.id for one in await store.actions(limit=2, before=4)] == [3, 2]
    assert await store.actions(before=1) == []


async def test_actions_are_found_by_document_person_and_target(store: Store) -> None:
    await noted(store, action("a"), action("b", who="sgarcia"), action("c1", "resolve", document="a", who="sgarcia"))
    ids = [
        [one.id for one in await store.actions(**wanted)]
        for wanted in (
            *({"document": "a"}, {"who": "sgarcia"}, {"target": "a"}, {"document": "a", "who": "sgarcia"}),
            *({"document": "a", "target": "b"}, {"who": "nobody"}),
        )
    ]
    assert ids == [[3, 1], [3, 2], [1], [3], [], []]


async def test_the_last_acts_of_some_kinds_on_one_thing_is_found_among_others(store: Store) -> None:
    await noted(store, action("a", "pause"))
    await noted(store, action("a", "resume"))
    await noted(store, action("a", "pause", details={"reason": '"kind":"resume"'}))
    await noted(store, action("a", "retry"), action("b", "pause"))
    assert [one.id for one in await store.actions(target="a", kinds=["pause"])] == [3, 1]
    assert [one.id for one in await store.actions(target="a", kinds=["resume", "pause"], limit=2)] == [3, 2]
    assert await store.actions(target="b", kinds=["resume"]) == []


@pytest.mark.parametrize("text", HOSTILE)
async def test_an_action_comes_back_as_it_was_recorded(store: Store, text: str) -> None:
    said = action(text, text, who=text, details={"reason": text, "value": [text, None, 1.5, {"a": text}]})
    await noted(store, said)
    (found,) = await store.actions(document=text, who=text, target=text)
    assert unordered(found) == structs.replace(said, id=1)


async def test_actions_and_decisions_are_in_one_chain_in_order(store: Store) -> None:
    await store.fold(batch("d", "e"))
    await noted(store, action("d"), action("upload", document=""))
    await settle(store, settlement("d", audit=(record("d", 8000), record("d", 9000))))
    await noted(store, action("e"))
    await settle(store, settlement("e", audit=(record("e", 10),)))
    kinds = [next(iter(json.loads(entry.record))) async for entry in store.audit_chain()]
    assert kinds == ["act", "act", "decision", "decision", "act", "decision"]
    await check_chain(store, {3, 4, 6})
    assert [one.id for one in await store.actions()] == [5, 2, 1]
    assert [one.id for one in await store.audit()] == [4, 3, 6]
    assert [entry.number async for entry in store.audit_chain("d")] == [1, 3, 4]
    assert [entry.number async for entry in store.audit_chain(None, AT_US, 8001)] == [1, 2, 3, 4, 5]
    assert await store.last_audited_us() == 10


async def test_records_of_a_document_have_places_in_the_order_in_which_they_were_recorded(store: Store) -> None:
    await store.fold(batch("d", "e"))
    await settle(store, settlement("d", audit=(record("d", 9000, message="1"), record("d", 8000, message="2"))))
    await noted(store, action("d", "3"), action("e"), action("d", "4"))
    await settle(store, settlement("e", audit=(record("e", 1),)))
    await settle(store, settlement("d", audit=(record("d", 10, message="5"),)))
    assert await store.record_actions(Change.PAUSE, [action("d", "6")], at_us=AT_US, reason="")
    found = sorted([*await store.audit("d"), *await store.actions(document="d")], key=chain.place)
    assert [one.message if isinstance(one, AuditRecord) else one.kind for one in found] == list("123456")
    assert [entry.number async for entry in store.audit_chain("d")] == [1, 2, 3, 5, 7, 8]


async def test_simultaneous_actions_are_recorded_or_reported_as_not_recorded(store: Store) -> None:
    told = await asyncio.gather(
        *(store.record_actions(Change.NOTHING, [action(f"d{n}")], at_us=AT_US) for n in range(10))
    )
    recorded = await store.actions()
    assert len(recorded) == sum(told) >= 1
    assert {one.target for one in recorded} == {f"d{n}" for n, done in enumerate(told) if done}


async def test_acts_that_race_with_settlements_lose_nothing_and_break_no_link(store: Store) -> None:
    keys = [f"d{number}" for number in range(40)]
    await store.fold(batch(*keys))
    recorder = Recorder(store, VirtualClock(), "operator")
    await store.hold(keys)
    await asyncio.gather(
        *(store.settle(settlement(key, audit=(record(key), record(key)))) for key in keys),
        *(recorder.record("jdoe", [About(kind="pause", target=key, document=key)]) for key in keys),
    )
    assert sorted(one.target for one in await store.actions()) == sorted(keys)
    decided = {one.id for one in await store.audit()}
    assert len(decided) == 80
    await check_chain(store, decided)


async def test_guests_and_the_owner_write_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with opened(path, owner=True) as owner, opened(path) as guest:
        await owner.fold(batch("d"))
        await noted(owner, action("a"))
        assert await guest.record_actions(Change.PAUSE, [action("d")], at_us=AT_US, reason="by hand")
        await noted(owner, action("b"))
        assert [one.target for one in await guest.actions()] == ["b", "d", "a"]
        assert (await row(owner)).reason == "by hand"
