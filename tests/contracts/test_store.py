"""What every store promises (`reconciler/ports/store.py`), sentence by sentence, on every store there is."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import attrs
import pytest
from msgspec import UNSET, structs

from reconciler.core.folding import rows
from reconciler.errors import MovedError, StoreError
from reconciler.model import codec
from reconciler.model.action import ActionKind, Change, OperatorAction
from reconciler.model.audit import AuditRecord, Contention, Settlement
from reconciler.model.base import NO_BASE, Agreed, Base
from reconciler.model.chain import Recorded
from reconciler.model.desired import NOTHING_DESIRED, Claims, Desired, Element, Field, Register
from reconciler.model.document import (
    NO_AGREEMENT,
    SET_ASIDE,
    SETTLED,
    Agreement,
    Conflict,
    ConflictRow,
    Document,
    Due,
    Intent,
    Lane,
    Row,
    Status,
    Superseded,
)
from reconciler.model.event import DeadLetter, Outgoing
from reconciler.model.plan import Reason, ReasonCode
from reconciler.model.policy import Policy, Rule, Strategy
from reconciler.model.signing import Noted
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.stamp import LEAST, Anchor, Partition, Place, Stamp
from reconciler.model.standing import HOUR_US, HotSpot
from reconciler.ports import Changed, FoldBatch, OutboxMessage, Refolded, Store
from tests.checks import check_chain

P0, P1 = Partition("changes", 0), Partition("changes", 1)
COOLING = [Status.CONTENDED, Status.LOCKED]
OTHERS = [status for status in Status if status not in COOLING and status not in (Status.PENDING, Status.PAUSED)]
HOSTILE = [
    "it's",
    'say "hi"',
    "emoji 🧾",
    "nul \0 inside",
    "\0",
    "back\\slash",
    "line\nbreak\r\t",
    "%_*?[]",
    "'; DROP TABLE document; --",
    "\u2028\ufeff\u202e",
    "e\u0301",
    "\u00e9",
    "[1,2]",
    "42",
    "x" * 512,
    "🧾" * 512,
    "\U0010ffff",
]


# ------------------------------------------------------------------------------------------------------------ material


def stamp(number: int = 1) -> Stamp:
    return Stamp("", f"2026-11-22T10:00:00.{number:06}Z", "7", "changes", 0, number, "//erp/prod", f"e{number}")


def wish(value: object = "RELEASED", number: int = 1) -> Desired:
    return Desired({"status": Field(Register(stamp(number), value))})


def batch(
    *keys: str, rows: dict[str, Desired] | None = None, at_us: int = 1000, lane: Lane = Lane.EVENT, **rest: object
) -> FoldBatch:
    settings: dict[str, object] = {"positions": {}, "dead_letters": ()} | rest
    wanted = rows or {key: wish() for key in keys}
    return FoldBatch({key: Claims.of(wanted[key]) for key in wanted}, lane=lane, at_us=at_us, **settings)


async def desired(store: Store, keys: Sequence[str]) -> dict[str, Desired]:
    return {key: one.desired for key, one in (await store.documents(keys)).items() if one.revision}


AGREEMENT = Agreement(Base({"status": Agreed("INWORK", stamp())}), failures=2)


def settlement(key: str = "d", revision: int = 1, **rest: object) -> Settlement:
    settings: dict[str, object] = {
        "agreement": AGREEMENT,
        "status": Status.SYNCED,
        "reason": "all agreed",
        "lane": Lane.RESYNC,
        "due_us": 9000,
        "at_us": 2000,
    } | rest
    return Settlement(key=key, revision=revision, **settings)


async def settle(store: Store, end: Settlement) -> None:
    """Take a document and settle it."""
    await store.hold([end.key])
    await store.settle(end)


async def intend(store: Store, key: str, agreement: Agreement) -> bool:
    """Take a document and store an intent."""
    await store.hold([key])
    return await store.intend(key, agreement)


def letter(offset: int = 7, topic: str = "changes") -> tuple[DeadLetter, Outgoing]:
    refused = DeadLetter(
        Place(topic, 0, offset), 5, b"k\0\xff", b"\xffnot json\0", (("h", b"\xfe"),), "decode", "not JSON", 77
    )
    return refused, Outgoing("dead", refused.key, refused.value, (("why", b"not JSON\0"),))


def record(document: str = "d", at_us: int = 2000, **rest: object) -> AuditRecord:
    settings: dict[str, object] = {"result": "written", "message": ""} | rest
    snapshot, patch = Snapshot(document, {"status": "INWORK"}, Token('W/"1"')), {"status": "RELEASED"}
    return AuditRecord(
        *(document, at_us, "event", 1, wish(), NO_BASE, snapshot, "p1", (), patch),
        status=200,
        token_after=Token('W/"2"'),
        **settings,
    )


def conflict(conflict_id: str = "c1", field: str = "owner", opened_at_us: int = 2000) -> Conflict:
    return Conflict(conflict_id, field, (Reason(ReasonCode.BOTH),), "a", True, "b", "c", stamp(), opened_at_us)


async def discard(store: Store, letter_id: str) -> bool:
    act = OperatorAction(2500, "jdoe", "operator", ActionKind.DISCARD, letter_id, "", {}, "done")
    return await store.record_actions(Change.DISCARD, [act], at_us=2500)


async def row(store: Store, key: str = "d") -> Document:
    return (await store.documents([key]))[key]


async def scalars(store: Store) -> Row:
    found = await row(store)
    return Row(*(getattr(found, name) for name in Row._fields))


async def placed(store: Store, status: Status, due_us: int | None = 5000, lane: Lane = Lane.RETRY) -> None:
    """Fold document "d" and put it where a test wants it."""
    await store.fold(batch("d"))
    await settle(store, settlement(status=status, due_us=due_us, lane=lane))


# --------------------------------------------------------------------------------------------------------------- folds


async def test_a_new_store_holds_nothing(store: Store) -> None:
    assert await store.positions() == {}
    assert await desired(store, ["d"]) == {}
    assert await store.documents(["d"]) == {}
    assert await store.due(10**18, 10) == []
    assert await store.next_due_us() is None
    assert await store.oldest_pending_us() is None
    assert await store.waiting(10) == []
    assert await store.counts() == dict.fromkeys(Status, 0)
    assert (await store.count_dead_letters(), await store.count_conflicts(), await store.signing()) == (0, 0, None)
    assert [item async for item in store.export_projection()] == []


async def test_rows_and_positions_advance_together(store: Store) -> None:
    await store.fold(batch("d", positions={P0: 11, P1: 3}))
    await store.fold(batch(rows={"d": wish("CANCELLED", 2)}, positions={P0: 12}))
    assert await store.positions() == {P0: 12, P1: 3}
    assert await desired(store, ["d", "unknown"]) == {"d": wish("CANCELLED", 2)}


async def test_a_batch_that_does_not_begin_where_the_store_is_moves_no_position(store: Store) -> None:
    """Two replicas may believe that they read one partition: only one of them is right."""
    mine, other = Partition("t", 0), Partition("t", 1)
    await store.fold(batch(positions={mine: 5}, since={mine: 0}))
    await store.fold(batch(positions={mine: 8, other: 2}, since={mine: 5, other: 0}))
    for since in ({mine: 5, other: 2}, {mine: 9, other: 2}, {mine: 8, other: 0}):
        with pytest.raises(MovedError):
            await store.fold(batch("d", positions={mine: 9, other: 3}, since=since))
        assert await store.positions() == {mine: 8, other: 2}
    await store.fold(batch("d", positions={mine: 9, other: 3}, since={mine: 8, other: 2}))
    assert await store.positions() == {mine: 9, other: 3}


async def test_of_two_batches_that_begin_at_one_place_one_is_stored(store: Store) -> None:
    place = Partition("t", 0)
    for offset in range(10):
        folds = [store.fold(batch(key, positions={place: offset + 1}, since={place: offset})) for key in ("a", "b")]
        ends = await asyncio.gather(*folds, return_exceptions=True)
        assert sorted(isinstance(one, MovedError) for one in ends) == [False, True]


async def test_positions_advance_without_rows(store: Store) -> None:
    await store.fold(FoldBatch({}, {P0: 5}, (), Lane.EVENT, 1))
    assert await store.positions() == {P0: 5}
    assert await store.counts() == dict.fromkeys(Status, 0)


async def test_the_last_record_of_a_partition_is_kept_until_a_person_moves_the_position(store: Store) -> None:
    await store.fold(batch(positions={P0: 5, P1: 3}, anchors={P0: Anchor(4, "a")}))
    assert await store.anchors() == {P0: Anchor(4, "a")}
    await store.fold(batch(positions={P0: 7}))  # offsets that hold no record
    await store.rebase({}, {P1: 4}, 1, {P1: Anchor(3, "b")})
    assert await store.anchors() == {P0: Anchor(4, "a"), P1: Anchor(3, "b")}
    await store.published([], {P0: 9})
    assert (await store.anchors())[P0] == Anchor(4, "a")
    await store.reposition({P0: 9, P1: 2})  # P0 goes on where it stood
    assert await store.anchors() == {P0: Anchor(4, "a")}
    await store.reposition({P0: 1})
    assert await store.anchors() == {}


async def test_records_refused_by_our_clock_are_listed_by_place_even_if_settled(store: Store) -> None:
    early, odd, other = letter(7), letter(8, "a/b"), letter(9)
    early, odd = ((attrs.evolve(one, stage="clock"), announced) for one, announced in (early, odd))
    await store.fold(batch(dead_letters=[early, odd, other]))
    await discard(store, "changes/0/7")
    assert await store.refused() == {Place("changes", 0, 7), Place("a/b", 0, 8)}


async def test_a_letter_that_was_announced_before_is_kept_and_not_announced(store: Store) -> None:
    await store.fold(batch(dead_letters=[(letter(7)[0], None), letter(8)]))
    assert [one.id for one in await store.dead_letters()] == ["changes/0/7", "changes/0/8"]
    assert [message.record for message in await store.waiting(10)] == [letter(8)[1]]


async def test_a_folded_document_is_pending_and_due(store: Store) -> None:
    await store.fold(batch("d", at_us=1000, lane=Lane.REPLAY))
    assert await row(store) == Document(
        "d", wish(), 1, NO_AGREEMENT, Status.PENDING, "", Lane.REPLAY, due_us=1000, pending_since_us=1000
    )


async def test_desired_state_comes_back_as_it_was_folded(store: Store) -> None:
    element = Element(stamp(2), True, "jdoe", "ECN")
    values = [None, True, 1, 1.5, "é\0🧾\u2028", ["a", {"b": None}], {"Value": "R", "Display": "Released"}]
    fields = {f"f{n}": Field(Register(stamp(n), value, True, (value,))) for n, value in enumerate(values)}
    fields["k"] = Field(None, {'"bracket"': element})
    whole = Desired(fields, stamp(9))
    await store.fold(batch(rows={"d": whole}))
    found = (await desired(store, ["d"]))["d"]
    assert found == whole
    assert codec.encode(found) == codec.encode(whole)


async def test_each_change_counts_up_the_revision(store: Store) -> None:
    for number in (1, 2, 3):
        await store.fold(batch(rows={"d": wish(number=number)}))
    assert (await row(store)).revision == 3


@pytest.mark.parametrize("status", Status)
async def test_a_row_equal_to_the_stored_one_is_not_touched(store: Store, status: Status) -> None:
    await placed(store, status)
    before = await row(store)
    await store.fold(batch("d", at_us=3000, lane=Lane.OPERATOR, urgent=frozenset({"d"}), positions={P0: 2}))
    assert await row(store) == before
    assert await store.positions() == {P0: 2}


async def test_an_operators_event_is_urgent(store: Store) -> None:
    await store.fold(batch("d", "e", lane=Lane.EVENT, urgent=frozenset({"d"})))
    assert (await row(store, "d")).lane is Lane.OPERATOR
    assert (await row(store, "e")).lane is Lane.EVENT


@pytest.mark.parametrize("status", Status)
async def test_a_row_changes_as_the_rules_say(store: Store, status: Status) -> None:
    """`tests/core/test_rows.py` holds the rules themselves to what they promise."""
    older = settlement(status=Status.CONTENDED, lane=Lane.RETRY, due_us=9000, at_us=4000, conflicts=1)
    changes: list[tuple[Callable[[], Awaitable[object]], Callable[[Row], Row | None]]] = [
        (lambda: store.compare_again(["d"], SETTLED, 900), lambda row: rows.compared(row, SETTLED, 900)),
        (
            lambda: store.fold(batch(rows={"d": wish("X")}, at_us=3000, lane=Lane.REPLAY)),
            lambda row: rows.folded(row, Lane.REPLAY, 3000),
        ),
        (lambda: settle(store, older), lambda row: rows.settled(row, older)),
        (lambda: store.rebase({"d": Agreement(told=9)}, {}, 4500), lambda row: rows.rebased(row, 4500)),
        (lambda: store.requeue(["d"], Lane.OPERATOR, 5000), lambda row: rows.requeued(row, Lane.OPERATOR, 5000)),
        (lambda: store.refold(refolded(), REFOLDED), lambda row: rows.refolded(row, REFOLDED.at_us)),
        (
            lambda: store.bring_forward(10, dict.fromkeys(Status, 100)),
            lambda row: rows.brought_forward(row, 10, 100),
        ),
    ]
    await placed(store, status)
    for change, rule in changes:
        before = await scalars(store)
        await change()
        assert await scalars(store) == (rule(before) or before)


# ------------------------------------------------------------------------------------------------------------- refolds


def refolded(value: str = "INREVIEW", **rest: object) -> Refolded:
    settings: dict[str, object] = {"key": "d", "positions": {P0: 11}, "dead_letters": ()} | rest
    return Refolded(desired=wish(value, number=0), **settings)


REFOLDED = OperatorAction(3000, "jdoe", "cli", "refold", "d", "d", {"reason": "a clock ahead"}, "done")


async def test_a_row_is_replaced_when_it_is_folded_again(store: Store) -> None:
    await store.fold(batch("d", positions={P0: 11}))
    await settle(store, settlement())
    assert await store.refold(refolded(dead_letters=[letter(1)]), REFOLDED)
    found = await row(store)
    assert (found.desired, found.revision, found.status) == (wish("INREVIEW", number=0), 2, Status.PENDING)
    assert (found.lane, found.due_us, found.pending_since_us) == (Lane.OPERATOR, 3000, 3000)
    assert [one.id for one in await store.dead_letters()] == ["changes/0/1"]
    assert [message.record for message in await store.waiting(10)] == [letter(1)[1]]
    assert [(action.kind, action.who) for action in await store.actions(document="d")] == [("refold", "jdoe")]


async def test_agreements_on_claims_left_out_lose_their_stamps_even_if_stored_later(store: Store) -> None:
    later = Stamp("", "2099-01-01T00:00:00.000000Z", "", "changes", 0, 5, "//erp/prod", "e5")
    listed = Agreed(["a"], later, {'"a"': later, '"b"': stamp(0)})
    future = Agreement(Base({"status": Agreed("CANCELLED", later), "other": Agreed(1, later), "list": listed}))
    rows = {"d": Desired({**wish().fields, "list": Field(Register(stamp(), ["a"]))})}
    await store.fold(batch(rows=rows, positions={P0: 11}))
    await settle(store, settlement(agreement=future))
    assert (await row(store)).agreement == future
    again = attrs.evolve(refolded(), desired=rows["d"])
    assert await store.refold(again, REFOLDED)
    await settle(store, settlement(agreement=future))  # of an attempt that was under way
    base = (await row(store)).agreement.base.fields
    assert base["status"] == Agreed("CANCELLED", None)
    assert base["list"] == Agreed(["a"], None, {'"a"': LEAST, '"b"': stamp(0)})
    assert base["other"] == Agreed(1, later), "no claim on it is left"
    assert (await store.list_documents(None, "", 1))[0].agreement.base.fields == base


async def test_no_row_is_replaced_where_the_store_has_read_further_or_knows_no_such_document(store: Store) -> None:
    assert not await store.refold(refolded(), REFOLDED)
    await store.fold(batch("d", positions={P0: 12, Partition("other", 0): 99}))
    assert not await store.refold(refolded(), REFOLDED)
    found = await store.fold(batch())
    assert (found, await store.actions(), (await row(store)).revision) == (Changed([]), [], 1)
    assert await store.refold(refolded(positions={P0: 12}), REFOLDED)
    assert await store.refold(refolded(positions={P0: 13}), REFOLDED)
    assert await store.fold(batch()) == Changed([], refolds=2)


async def test_events_that_changed_nothing_are_counted_and_the_last_is_known(store: Store) -> None:
    await store.fold(batch(rows={"d": wish(number=9), "e": wish(number=9)}))
    assert await store.superseded("d") is None
    assert await store.fold(batch(rows={"d": wish(number=2), "e": wish(number=10)})) == Changed(["e"], 1)
    assert await store.fold(batch(rows={"d": wish(number=1), "e": wish(number=10)})) == Changed([], 1)
    assert await store.superseded("d") == Superseded(2, stamp(1), stamp(9))
    assert await store.superseded("e") is None


async def test_what_is_folded_after_a_refold_is_joined_with_the_new_row(store: Store) -> None:
    await store.fold(batch("d", positions={P0: 11}))
    assert await store.refold(refolded(), REFOLDED)
    other = Desired({"owner": wish().fields["status"]})
    assert await store.fold(batch(rows={"d": other}, positions={P0: 12})) == Changed(["d"], refolds=1)
    assert (await row(store)).desired == Desired({**wish("INREVIEW", number=0).fields, **other.fields})


# -------------------------------------------------------------------------------------------------------- dead letters


async def test_a_dead_letter_is_stored_and_announced_once(store: Store) -> None:
    await store.fold(batch(dead_letters=[letter(7), letter(7)]))
    await store.fold(batch(dead_letters=[letter(7), letter(8)]))
    assert [one.id for one in await store.dead_letters()] == ["changes/0/7", "changes/0/8"]
    assert [message.record for message in await store.waiting(10)] == [letter(7)[1], letter(8)[1]]


async def test_refusing_a_record_again_does_not_reopen_its_letter(store: Store) -> None:
    await store.fold(batch(dead_letters=[letter()]))
    assert await discard(store, "changes/0/7")
    await store.fold(batch(dead_letters=[letter()]))
    assert await store.dead_letters() == []


async def test_letters_that_came_round_again_are_replayed(store: Store) -> None:
    await store.fold(batch(dead_letters=[letter(7), letter(8)]))
    await store.fold(batch(replayed=frozenset({"changes/0/7", "unknown"})))
    assert [one.id for one in await store.dead_letters()] == ["changes/0/8"]
    assert [one.id for one in await store.dead_letters("replayed")] == ["changes/0/7"]


async def test_dead_letters_are_listed_oldest_first_by_status_and_page_by_page_without_their_bytes(
    store: Store,
) -> None:
    await store.fold(batch(dead_letters=[letter(9), letter(7), letter(8)]))
    await discard(store, "changes/0/7")
    assert [one.place.offset for one in await store.dead_letters(None)] == [9, 7, 8]
    assert [one.place.offset for one in await store.dead_letters()] == [9, 8]
    assert [(one.place.offset, one.status) for one in await store.dead_letters("discarded")] == [(7, "discarded")]
    assert await store.count_dead_letters() == 2

    async def found(status: str | None, after: str, limit: int) -> list[int]:
        return [one.place.offset for one in await store.dead_letters(status, limit, after)]

    assert await found(None, "", 2) == [9, 7]
    assert await found(None, "changes/0/7", 2) == [8]
    assert await found("open", "changes/0/9", 2) == [8]
    assert await found("open", "changes/0/7", 2) == [8]  # it has been discarded since it ended a page
    assert await found("discarded", "", 9) == [7]
    assert await found("open", "changes/0/8", 9) == []
    cut = attrs.evolve(letter(9)[0], key=None, value=None, headers=())
    assert await store.dead_letters("open", 1) == [cut]


async def test_dead_letters_are_numbered_in_the_order_in_which_they_were_stored(store: Store) -> None:
    assert (await store.last_letter(), await store.letters_after(0, 9)) == (0, [])
    await store.fold(batch(dead_letters=[letter(9), letter(7)]))
    await discard(store, "changes/0/9")
    await store.fold(batch(dead_letters=[letter(7), letter(8)]))

    async def found(number: int, limit: int) -> list[tuple[int, int, str]]:
        return [(place, one.place.offset, one.status) for place, one in await store.letters_after(number, limit)]

    assert await found(0, 2) == [(1, 9, "discarded"), (2, 7, "open")]
    assert await found(2, 2) == [(3, 8, "open")]
    assert (await store.last_letter(), await found(3, 2)) == (3, [])
    ((_, cut),) = await store.letters_after(2, 1)
    assert (cut.key, cut.value, cut.headers) == (None, None, ())


async def test_one_dead_letter_is_read_whole(store: Store) -> None:
    await store.fold(batch(dead_letters=[letter(7), letter(8)]))
    await discard(store, "changes/0/8")
    assert await store.dead_letter("changes/0/7") == letter(7)[0]
    assert await store.dead_letter("changes/0/8") == attrs.evolve(letter(8)[0], status="discarded")
    assert await store.dead_letter("changes/0/9") is None


async def test_dead_letters_are_found_by_the_end_of_their_id(store: Store) -> None:
    await store.fold(batch(dead_letters=[letter(7), letter(17), letter(7, "more_changes")]))
    assert sorted(await store.letter_ids_with_suffix("/0/7", 9)) == ["changes/0/7", "more_changes/0/7"]
    assert await store.letter_ids_with_suffix("/17", 9) == ["changes/0/17"]
    assert len(await store.letter_ids_with_suffix("7", 2)) == 2
    assert await store.letter_ids_with_suffix("_/0/7", 9) == await store.letter_ids_with_suffix("%", 9) == []


async def test_a_letter_of_a_hostile_topic_is_kept(store: Store) -> None:
    for name in HOSTILE:
        await store.fold(batch(dead_letters=[letter(7, name)], positions={Partition(name, 0): 8}))
        assert await discard(store, f"{name}/0/7"), name
    assert [one.place.topic for one in await store.dead_letters("discarded")] == HOSTILE
    assert await store.positions() == {Partition(name, 0): 8 for name in HOSTILE}


# ----------------------------------------------------------------------------------------------------------------- due


async def test_due_documents_are_ordered_by_lane_and_then_by_time(store: Store) -> None:
    for key, lane, at_us in [("a", 4, 1), ("b", 1, 30), ("c", 1, 20), ("e", 3, 5), ("f", 0, 40), ("g", 2, 999)]:
        await store.fold(batch(key, lane=Lane(lane), at_us=at_us))
    assert [one.key for one in await store.due(100, 10)] == ["f", "c", "b", "e", "a"]
    assert await store.due(100, 2) == [Due("f", Lane.OPERATOR, 40), Due("c", Lane.EVENT, 20)]
    assert await store.due(0, 10) == []
    assert await store.next_due_us() == 1
    assert [[one.key for one in await store.due(at_us, 10)] for at_us in (4, 5)] == [["a"], ["e", "a"]]


async def test_a_document_without_a_due_time_is_never_due(store: Store) -> None:
    await placed(store, Status.HELD, due_us=None)
    assert await store.due(10**18, 10) == []
    assert await store.next_due_us() is None


LONGEST_US = {status: 1000 * number for number, status in enumerate(Status, 1)}


@pytest.mark.parametrize("status", list(Status))
async def test_documents_that_wait_longer_than_their_status_allows_are_brought_forward(
    store: Store, status: Status
) -> None:
    now_us, most_us = 10_000, LONGEST_US[status]
    keys = ["as long as may be", "too long", "for years", "not at all", "for nothing"]
    await store.fold(batch(*keys))
    dues_us = [now_us + most_us, now_us + most_us + 1, now_us + 10**14, now_us - 1, None]
    for key, due_us in zip(keys, dues_us, strict=True):
        await settle(store, settlement(key, status=status, due_us=due_us, lane=Lane.RETRY))
    assert await store.count_ahead(now_us, LONGEST_US) == 2
    assert await store.bring_forward(now_us, LONGEST_US) == 2
    rows = await store.documents(keys)
    assert [rows[key].due_us for key in keys if "too" not in key and "years" not in key] == [dues_us[0], *dues_us[3:]]
    brought = [rows[key].due_us for key in ("too long", "for years")]
    assert all(due_us is not None and now_us <= due_us <= now_us + most_us for due_us in brought)
    assert await store.count_ahead(now_us, LONGEST_US) == await store.bring_forward(now_us, LONGEST_US) == 0


async def test_documents_brought_forward_do_not_all_come_due_at_one_moment(store: Store) -> None:
    keys = [f"d{number}" for number in range(100)]
    await store.fold(batch(*keys))
    for key in keys:
        await settle(store, settlement(key, due_us=10**15))
    longest_us = dict.fromkeys(Status, 3_600_000_000)
    assert await store.bring_forward(0, longest_us) == 100
    assert len({row.due_us for row in (await store.documents(keys)).values()}) == 100


async def test_documents_pending_since_a_time_to_come_are_pending_since_now(store: Store) -> None:
    await store.fold(batch("d", at_us=10**15))
    await store.fold(batch("e", at_us=500))
    await store.bring_forward(1000, dict.fromkeys(Status, 100))
    assert [(await row(store, key)).pending_since_us for key in "de"] == [1000, 500]


async def test_the_last_audit_record_is_the_one_that_was_stored_last_whatever_its_time(store: Store) -> None:
    assert await store.last_audited_us() is None
    await store.fold(batch("d"))
    for at_us in (5000, 10**15, 7000):
        await settle(store, settlement(audit=(record(at_us=at_us),)))
    assert await store.last_audited_us() == 7000


async def test_requeueing_makes_documents_due_and_returns_how_many(store: Store) -> None:
    await store.fold(batch("a", "b", "c"))
    await settle(store, settlement("a", status=Status.HELD, due_us=None))
    await settle(store, settlement("b", status=Status.CONTENDED, due_us=9000))
    assert await store.requeue(["a", "b", "b", "unknown"], Lane.OPERATOR, 3000) == 2
    assert await store.due(3000, 10) == [
        *(Due("a", Lane.OPERATOR, 3000), Due("b", Lane.OPERATOR, 3000)),
        Due("c", Lane.EVENT, 1000),
    ]
    assert (await row(store, "a")).status is Status.HELD
    assert await store.requeue([], Lane.OPERATOR, 3000) == 0


# --------------------------------------------------------------------------------------------------------- settlements


async def test_a_settlement_sets_the_documents_status(store: Store) -> None:
    await store.fold(batch("d", at_us=1000))
    await settle(store, settlement(conflicts=1, attempts=2))
    assert await row(store) == Document(
        "d", wish(), 1, AGREEMENT, Status.SYNCED, "all agreed", Lane.RESYNC, 9000, None, conflicts=1, attempts=2
    )


async def test_a_settlement_of_an_older_revision_leaves_the_document_due(store: Store) -> None:
    await store.fold(batch("d", at_us=1000))
    await store.fold(batch(rows={"d": wish("X")}, at_us=1500))
    await settle(store, settlement(revision=1, conflicts=1, attempts=1, audit=(record(),)))
    found = await row(store)
    assert (found.status, found.reason, found.lane, found.due_us) == (Status.PENDING, "", Lane.EVENT, 1000)
    assert (found.pending_since_us, found.agreement, found.conflicts, found.attempts) == (1000, AGREEMENT, 1, 1)
    assert len(await store.audit("d")) == 1


@pytest.mark.parametrize("status", [Status.PENDING, *COOLING, *OTHERS])
async def test_a_document_that_is_not_done_with_stays_pending_since_the_same_time(store: Store, status: Status) -> None:
    await placed(store, status)
    since_us = None if status in (Status.SYNCED, Status.HELD, Status.OBSERVED) else 1000
    assert (await row(store)).pending_since_us == since_us
    assert await store.oldest_pending_us() == (None if status in SET_ASIDE else since_us)


async def test_conflicts_and_attempts_add_up(store: Store) -> None:
    await store.fold(batch("d"))
    await settle(store, settlement(conflicts=1, attempts=2))
    await settle(store, settlement(conflicts=3, attempts=4))
    found = await row(store)
    assert (found.conflicts, found.attempts) == (4, 6)


async def test_an_intent_is_stored_and_changes_nothing_else(store: Store) -> None:
    await store.fold(batch("d"))
    before = await row(store)
    intended = structs.replace(AGREEMENT, intent=Intent({"status": "R"}, Token('"1"'), 1234))
    assert await intend(store, "d", intended)
    assert await row(store) == structs.replace(before, agreement=intended)


@pytest.mark.parametrize("act", ["intend", "settle"])
async def test_settling_an_unknown_document_is_an_error(store: Store, act: str) -> None:
    with pytest.raises(StoreError, match="no such document"):
        await (intend(store, "d", AGREEMENT) if act == "intend" else settle(store, settlement(audit=(record(),))))
    assert await store.documents(["d"]) == {}
    assert await store.audit() == []


async def test_a_settlement_is_all_or_nothing_with_its_trail(store: Store) -> None:
    await store.fold(batch("d"))
    outcome = Outgoing("outcomes", b"d", b'{"a":1}', (("ce_id", b"1"),))
    await settle(store, settlement(audit=(record(),), outcomes=(outcome,), opened=(conflict(),)))
    assert [unordered(one) for one in await store.audit()] == [structs.replace(record(), id=1)]
    assert [message.record for message in await store.waiting(10)] == [outcome]
    assert await store.conflicts() == [ConflictRow("d", conflict(), None)]


async def test_a_group_of_settlements_is_committed_for_all_callers(store: Store) -> None:
    keys = [f"d{n:03}" for n in range(200)]
    await store.fold(batch(*keys))
    outcomes = {key: Outgoing("outcomes", key.encode(), b"{}") for key in keys}
    await store.hold(keys)
    await asyncio.gather(
        *(store.settle(settlement(key, audit=(record(key),), outcomes=(outcomes[key],))) for key in keys)
    )
    assert (await store.counts())[Status.SYNCED] == 200
    assert {one.document for one in await store.audit()} == set(keys)
    assert {message.record.key for message in await store.waiting(1000)} == {key.encode() for key in keys}


async def test_a_callers_cancellation_tears_nothing(store: Store) -> None:
    keys = [f"d{n:03}" for n in range(200)]
    await store.fold(batch(*keys))
    await store.hold(keys)
    tasks = [asyncio.create_task(store.settle(settlement(key, audit=(record(key),)))) for key in keys]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    done = {key for key, result in zip(keys, results, strict=True) if result is None}
    assert done >= {key for n, key in enumerate(keys) if n % 3}
    # Whatever became of a cancelled one, its row and its trail agree.
    await settle(store, settlement(keys[1]))
    settled = {found.key for found in await store.list_documents(Status.SYNCED, "", 1000)}
    assert settled >= done
    assert {one.document for one in await store.audit()} == settled


async def test_changes_of_one_document_keep_their_order(store: Store) -> None:
    await store.fold(batch("d", "e"))
    await store.hold(["d", "e"])
    agreements = [structs.replace(AGREEMENT, failures=number) for number in range(20)]
    await asyncio.gather(
        *(store.intend("d", agreement) for agreement in agreements),
        store.settle(settlement("d", agreement=NO_AGREEMENT, attempts=1, audit=(record(),))),
        *(store.intend("e", agreement) for agreement in agreements),
    )
    found = await row(store)
    assert (found.status, found.attempts, found.agreement) == (Status.SYNCED, 1, NO_AGREEMENT)
    assert (await row(store, "e")).agreement == agreements[-1]


# ----------------------------------------------------------------------------------------------- conflicts, hot spots


async def test_open_conflicts_are_listed_oldest_first(store: Store) -> None:
    await store.fold(batch("d", "e"))
    await settle(store, settlement("d", opened=(conflict("c2", opened_at_us=20), conflict("c1", opened_at_us=30))))
    await settle(store, settlement("e", opened=(conflict("c3", opened_at_us=10),)))
    assert [(found.document, found.conflict.id) for found in await store.conflicts()] == [
        *(("e", "c3"), ("d", "c2"), ("d", "c1"))
    ]
    assert [found.conflict.id for found in await store.conflicts(limit=1)] == ["c3"]


async def test_conflicts_are_listed_page_by_page(store: Store) -> None:
    await store.fold(batch("d"))
    opened = [conflict("c2", opened_at_us=10), conflict("c1", opened_at_us=20), conflict("c3", opened_at_us=20)]
    await settle(store, settlement(opened=tuple(opened)))
    await settle(store, settlement(closed=("c1",)))
    for closed, rest in ((True, ["c1", "c3"]), (False, ["c3"])):
        found = await store.conflicts(closed=closed, after=(10, "c2"))
        assert [row.conflict.id for row in found] == rest
    assert [row.conflict.id for row in await store.conflicts(closed=True, after=(20, "c1"))] == ["c3"]
    assert await store.conflicts(closed=True, after=(20, "c3")) == []


async def test_conflicts_are_found_by_the_beginning_of_their_id(store: Store) -> None:
    await store.fold(batch("d"))
    await settle(store, settlement(opened=tuple(conflict(name) for name in ("a1", "a2", "a%", "b1", "a\U0010fffe"))))
    await settle(store, settlement(closed=("a2",), at_us=3000))

    async def found(prefix: str, limit: int = 9, *, closed: bool = False) -> list[str]:
        rows = await store.conflicts_with_prefix(prefix, closed=closed, limit=limit)
        return [row.conflict.id for row in rows]

    assert await found("a") == ["a%", "a1", "a\U0010fffe"]
    assert await found("a", closed=True) == ["a%", "a1", "a2", "a\U0010fffe"]
    assert await found("a", 2) == ["a%", "a1"]
    assert await found("a%") == ["a%"]
    assert await found("a1") == ["a1"]
    assert await found("c") == []
    (row,) = await store.conflicts_with_prefix("a2", closed=True, limit=2)
    assert row == ConflictRow("d", conflict("a2"), 3000)


async def test_a_closed_conflict_is_read_by_its_id_and_listed_and_counted_only_when_asked_for(store: Store) -> None:
    await store.fold(batch("d"))
    await settle(store, settlement(opened=(conflict("c1"), conflict("c2"))))
    await settle(store, settlement(closed=("c1", "unknown"), at_us=3000))
    assert await store.conflict("c1") == ConflictRow("d", conflict("c1"), 3000)
    assert await store.conflict("c2") == ConflictRow("d", conflict("c2"), None)
    assert await store.conflict("c") is None
    assert [found.conflict.id for found in await store.conflicts()] == ["c2"]
    closed = [(found.conflict.id, found.closed_at_us) for found in await store.conflicts(closed=True)]
    assert closed == [("c1", 3000), ("c2", None)]
    assert await store.count_conflicts() == 1


async def test_closing_twice_keeps_the_first_time(store: Store) -> None:
    await store.fold(batch("d"))
    await settle(store, settlement(opened=(conflict(),)))
    await settle(store, settlement(closed=("c1",), at_us=3000))
    await settle(store, settlement(closed=("c1",), at_us=4000))
    assert [found.closed_at_us for found in await store.conflicts(closed=True)] == [3000]


async def test_a_conflict_that_comes_back_opens_again_under_its_id(store: Store) -> None:
    await store.fold(batch("d"))
    await settle(store, settlement(opened=(conflict(),)))
    await settle(store, settlement(closed=("c1",)))
    again = conflict(opened_at_us=7000)
    await settle(store, settlement(opened=(again,)))
    assert await store.conflicts(closed=True) == [ConflictRow("d", again, None)]


async def test_a_conflict_found_again_keeps_when_it_was_opened(store: Store) -> None:
    await store.fold(batch("d"))
    await settle(store, settlement(opened=(conflict(),)))
    await settle(store, settlement(opened=(conflict(opened_at_us=7000),)))
    assert await store.conflicts() == [ConflictRow("d", conflict(), None)]


async def test_closing_and_opening_in_one_settlement_leaves_it_open(store: Store) -> None:
    await store.fold(batch("d"))
    await settle(store, settlement(opened=(conflict(),)))
    await settle(store, settlement(closed=("c1",), opened=(conflict(opened_at_us=7000),)))
    assert [found.closed_at_us for found in await store.conflicts()] == [None]


async def test_hot_spots_are_documents_and_fields_with_the_highest_rate_of_the_last_day_first(store: Store) -> None:
    await store.fold(batch("a", "b", "calm"))
    await settle(store, settlement("a", conflicts=2, attempts=9, contention=(Contention("owner", 1, 3),)))
    await settle(store, settlement("b", conflicts=5, attempts=7, contention=(Contention("owner", 3, 3),)))
    await settle(store, settlement("calm", attempts=1, contention=(Contention("status", 0, 8),)))
    b = HotSpot("document", "b", 5, 7, 5, 7, hours=((0, 5),))
    owner, a = (
        HotSpot("field", "owner", 4, 6, 4, 6, hours=((0, 4),)),
        HotSpot("document", "a", 2, 9, 2, 9, hours=((0, 2),)),
    )
    assert await store.hotspots(3000) == [b, owner, a]
    assert await store.hotspots(3000, 1) == [b]


async def test_contention_adds_up_across_one_group(store: Store) -> None:
    keys = [f"d{n}" for n in range(50)]
    await store.fold(batch(*keys))
    await store.hold(keys)
    await asyncio.gather(*(store.settle(settlement(key, contention=(Contention("f", 1, 2),))) for key in keys))
    assert await store.hotspots(3000) == [HotSpot("field", "f", 50, 100, 50, 100, hours=((0, 50),))]


async def test_conflicts_of_the_last_day_and_of_the_day_before_are_counted_apart_to_the_hour(store: Store) -> None:
    await store.fold(batch("d"))
    now_us = 100 * HOUR_US
    for ago, conflicts in ((48, 32), (47, 16), (24, 8), (23, 4), (1, 2), (0, 1)):
        end = settlement(at_us=now_us - ago * HOUR_US, conflicts=conflicts, attempts=conflicts + 1)
        await settle(store, structs.replace(end, contention=(Contention("f", conflicts, conflicts + 1),)))
    for spot in await store.hotspots(now_us + HOUR_US - 1):
        assert (spot.conflicts, spot.attempts) == (63, 69)
        assert (spot.day_conflicts, spot.day_attempts) == (7, 10)
        assert (spot.before_conflicts, spot.before_attempts) == (24, 26)
        assert spot.hours == ((0, 1), (1, 2), (23, 4), (24, 8), (47, 16))
    (spot, _) = await store.hotspots(now_us + 200 * HOUR_US)
    assert (spot.conflicts, spot.day_conflicts, spot.before_conflicts, spot.hours) == (63, 0, 0, ())


async def test_hourly_counts_are_deleted_after_a_week(store: Store) -> None:
    """Looked at from its own time: a look from a later one would not show it in any case."""
    await store.fold(batch("d"))
    for hour in (0, 1, 2):
        end = settlement(at_us=hour * HOUR_US, conflicts=1, attempts=1, contention=(Contention("f", 1, 1),))
        await settle(store, end)
    week_us = 7 * 24 * HOUR_US
    await settle(store, settlement(at_us=week_us - 1))
    for spot in await store.hotspots(2 * HOUR_US):
        assert spot.hours == ((0, 1), (1, 1), (2, 1))
    await settle(store, settlement(at_us=week_us + HOUR_US))
    for spot in await store.hotspots(2 * HOUR_US):
        assert (spot.hours, spot.conflicts) == (((0, 1),), 3)


async def test_present_hot_spots_come_before_former_ones(store: Store) -> None:
    await store.fold(batch("once", "now", "rare"))
    now_us = 100 * HOUR_US
    await settle(store, settlement("once", at_us=HOUR_US, conflicts=90, attempts=100))
    await settle(store, settlement("now", at_us=now_us, conflicts=40, attempts=100))
    await settle(store, settlement("rare", at_us=now_us, conflicts=1, attempts=1))
    assert [spot.name for spot in await store.hotspots(now_us)] == ["now", "rare", "once"]
    assert [spot.name for spot in await store.hotspots(now_us, 1)] == ["now"]


async def test_a_document_without_a_version_conflict_is_never_counted_by_the_hour(store: Store) -> None:
    await store.fold(batch("d"))
    await settle(store, settlement(attempts=3))
    await settle(store, settlement(conflicts=1, attempts=1))
    (spot,) = await store.hotspots(3000)
    assert (spot.attempts, spot.day_attempts) == (4, 1)


# ------------------------------------------------------------------------------------------------- policies and rebase


async def test_signing_is_noted_for_good_and_announced(store: Store) -> None:
    for number, noted in enumerate((Noted((), "k1"), Noted((("é", 0, 7), ("é", 1, 0)), "k2")), start=1):
        await store.note_signing(noted, Outgoing("t", b"k", b"{}"))
        assert await store.signing() == noted
        assert len(await store.waiting(10)) == number
    assert noted.places == {Partition("é", 0): 7, Partition("é", 1): 0}


async def test_by_what_the_log_is_read_is_noted(store: Store) -> None:
    assert await store.reading() == b""
    for said in (b'{"topics":{"t":[{"name":"\xc3\xa9"}]}}', b"{}"):
        await store.note_reading(said)
        assert await store.reading() == said


async def test_rebase_takes_later_agreements_and_makes_their_documents_due(store: Store) -> None:
    keys = ["less", "as much", "more", "intends", "none"]
    await store.fold(batch(*keys))
    for key, told in {"less": 2, "as much": 3, "more": 4}.items():
        await settle(store, settlement(key, agreement=structs.replace(AGREEMENT, told=told), due_us=9000))
    await intend(store, "intends", AGREEMENT)
    before = await store.documents(keys)
    recovered = Agreement(stable=5, told=3)
    await store.rebase(dict.fromkeys(keys, recovered), {P1: 40}, 5000)
    for key in ("less", "intends", "none"):
        old = before[key]
        before[key] = structs.replace(
            old,
            agreement=recovered,
            revision=2,
            status=Status.PENDING,
            reason="",
            lane=Lane.RESYNC if key == "less" else Lane.EVENT,
            due_us=5000 if key == "less" else 1000,
            pending_since_us=5000 if key == "less" else 1000,
        )
    assert await store.documents(keys) == before
    assert await store.positions() == {P1: 40}


async def test_the_latest_agreement_wins_whatever_the_order_of_recovery(store: Store) -> None:
    told = [structs.replace(AGREEMENT, told=number) for number in range(12)]
    for number in (3, 0, 11, 7, 11, 2):
        await store.rebase({"d": told[number]}, {}, 1)
    assert (await row(store)).agreement == told[11]


async def test_rebase_makes_rows_for_documents_that_only_an_outcome_log_knows(store: Store) -> None:
    await store.rebase({"d": AGREEMENT}, {}, 1)
    await store.rebase({"d": Agreement(stable=5)}, {}, 1)
    found = await row(store)
    assert found == Document("d", NOTHING_DESIRED, 0, AGREEMENT, Status.SYNCED, lane=found.lane)
    assert await store.due(10**18, 10) == []
    assert await desired(store, ["d"]) == {}
    assert [item async for item in store.export_projection()] == []


async def test_a_rebased_document_is_folded_like_a_new_one(store: Store) -> None:
    await store.rebase({"d": AGREEMENT}, {}, 1)
    await store.fold(batch("d", at_us=1000, lane=Lane.EVENT))
    assert await row(store) == Document(
        "d", wish(), 1, AGREEMENT, Status.PENDING, "", Lane.EVENT, due_us=1000, pending_since_us=1000
    )


async def test_positions_can_be_set_again_for_each_topic(store: Store) -> None:
    other = Partition("other", 0)
    await store.fold(batch("d", positions={P0: 5, P1: 6, other: 7}))
    await store.reposition({P0: 2})
    assert await store.positions() == {P0: 2, other: 7}


# -------------------------------------------------------------------------------------------------------------- outbox


async def test_messages_wait_in_the_order_they_were_written_until_published(store: Store) -> None:
    await store.fold(batch("d", dead_letters=[letter(7)]))
    outcomes = [Outgoing("o", None, None), Outgoing("o", b"\0\xff", b"\xfe" * 1000, (("h", b""), ("h", b"\0")))]
    await settle(store, settlement(outcomes=tuple(outcomes)))
    waiting = await store.waiting(10)
    assert [message.record for message in waiting] == [letter(7)[1], *outcomes]
    assert await store.waiting(2) == waiting[:2]
    await store.published([waiting[0].number, waiting[2].number], {P0: 7})
    assert await store.waiting(10) == await store.waiting(1) == [waiting[1]]
    await settle(store, settlement(at_us=5000))  # the next transaction
    assert await store.waiting(10) == [waiting[1]]
    assert await store.positions() == {P0: 7}
    await store.published([], {})
    assert await store.positions() == {P0: 7}


async def test_a_number_is_never_given_twice(store: Store) -> None:
    await store.fold(batch(dead_letters=[letter(7)]))
    (first,) = await store.waiting(10)
    await store.published([first.number], {})
    await store.fold(batch(dead_letters=[letter(8)]))
    (second,) = await store.waiting(10)
    assert isinstance(second, OutboxMessage)
    assert second.number > first.number


# --------------------------------------------------------------------------------------------------------------- views


async def test_counts_name_every_status(store: Store) -> None:
    others = list(Status)[1:]
    keys = [f"d{n}" for n in range(3 * len(others) + 6)]
    await store.fold(batch(*keys))
    for n, key in enumerate(keys[:-6]):
        await settle(store, settlement(key, status=others[n % len(others)]))
    assert await store.counts() == {status: 6 if status is Status.PENDING else 3 for status in Status}


async def test_documents_are_listed_page_by_page_in_key_order(store: Store) -> None:
    await store.fold(batch("b", "a", "é", "Z", "🧾"))
    await settle(store, settlement("a"))
    await settle(store, settlement("Z", status=Status.HELD))
    assert [found.key for found in await store.list_documents(None, "", 3)] == ["Z", "a", "b"]
    assert [found.key for found in await store.list_documents(None, "b", 3)] == ["é", "🧾"]
    assert [found.key for found in await store.list_documents(Status.PENDING, "", 2)] == ["b", "é"]
    assert [found.key for found in await store.list_documents(Status.PENDING, "é", 2)] == ["🧾"]
    assert [found.key for found in await store.list_documents(Status.SYNCED, "", 9)] == ["a"]
    assert await store.list_documents(Status.HELD, "Z", 9) == []
    assert await store.list_documents(Status.HELD, "", 9) == [await row(store, "Z")]


async def test_pending_documents_are_listed_longest_first_page_by_page(store: Store) -> None:
    for at_us, key in enumerate(("z", "b", "a", "held", "y"), start=1000):
        await store.fold(batch(key, at_us=at_us))
    for key in ("z", "b", "a"):
        await settle(store, settlement(key, status=Status.PARKED))
    await settle(store, settlement("held", status=Status.HELD))
    await store.rebase({"recovered": AGREEMENT}, {}, 1)
    parked = await store.list_waiting(Status.PARKED, (-1, ""), 9)
    assert [(found.pending_since_us, found.key) for found in parked] == [(1000, "z"), (1001, "b"), (1002, "a")]
    assert await store.list_waiting(Status.PARKED, (-1, ""), 2) == parked[:2]
    assert await store.list_waiting(Status.PARKED, (1000, "z"), 9) == parked[1:]
    assert [found.key for found in await store.list_waiting(Status.PENDING, (1003, "zz"), 9)] == ["y"]
    assert await store.list_waiting(Status.HELD, (-1, ""), 9) == []


async def test_documents_put_aside_are_listed_by_time_page_by_page(store: Store) -> None:
    await store.fold(batch("a", "b", "c", "x", "y"))
    for key, status, aside_us in (
        *(("a", Status.PARKED, 30), ("b", Status.PARKED, 20), ("c", Status.PARKED, 30), ("x", Status.CONTENDED, 25)),
        ("y", Status.PARKED, None),
    ):
        await settle(store, settlement(key, status=status, agreement=structs.replace(AGREEMENT, aside_us=aside_us)))
    parked = await store.list_aside(Status.PARKED, (-1, ""), 9)
    assert [(found.agreement.aside_us, found.key) for found in parked] == [(20, "b"), (30, "a"), (30, "c")]
    assert await store.list_aside(Status.PARKED, (-1, ""), 2) == parked[:2]
    assert await store.list_aside(Status.PARKED, (30, "a"), 9) == parked[2:]
    assert [found.key for found in await store.list_aside(Status.CONTENDED, (25, ""), 9)] == ["x"]
    await settle(store, settlement("x"))
    assert await store.list_aside(Status.CONTENDED, (-1, ""), 9) == []


async def test_the_audit_trail_is_read_newest_first_by_document_and_time(store: Store) -> None:
    await store.fold(batch("d", "e"))
    for at_us in (10, 20, 20, 30):
        await settle(store, settlement("d", audit=(record("d", at_us),)))
    await settle(store, settlement("e", audit=(record("e", 25, message="nul \0 é"),)))

    async def found(*args: object, **options: object) -> list[tuple[int, int]]:
        return [(one.id, one.at_us) for one in await store.audit(*args, **options)]

    assert await found() == [(4, 30), (5, 25), (3, 20), (2, 20), (1, 10)]
    assert await found("d") == [(4, 30), (3, 20), (2, 20), (1, 10)]
    assert await found("d", since_us=20, until_us=30) == [(3, 20), (2, 20)]
    assert await found(since_us=25) == [(4, 30), (5, 25)]
    assert await found(until_us=10) == []
    assert await found(limit=2) == [(4, 30), (5, 25)]
    assert await found(before=(25, 5)) == [(3, 20), (2, 20), (1, 10)]
    assert await found("d", before=(20, 3)) == [(2, 20), (1, 10)]
    assert await found("d", until_us=20, before=(30, 4)) == [(1, 10)]
    assert await found(before=(20, 3), limit=1) == [(2, 20)]
    (of_e,) = await store.audit("e")
    assert unordered(of_e) == structs.replace(record("e", 25, message="nul \0 é"), id=5)


# --------------------------------------------------------------------------------------------------------- audit chain


def unordered(one: Recorded) -> Recorded:
    """A record without its ordinal, which only stores of several chains give."""
    return structs.replace(one, ordinal=UNSET)


async def trailed(store: Store, *records: AuditRecord) -> None:
    """Settle one attempt for each record, in order."""
    await store.fold(batch("d", "e"))
    for one in records:
        await settle(store, settlement(one.document, audit=(one,)))


async def test_a_trail_without_records_has_no_head(store: Store) -> None:
    await store.fold(batch("d"))
    await settle(store, settlement())
    assert [head.records for head in await store.audit_heads() if head.records] == []
    assert [entry async for entry in store.audit_chain()] == []


async def test_records_are_chained_in_the_order_they_were_settled(store: Store) -> None:
    told = [record(at_us=at_us, message=f"{at_us}") for at_us in (30, 10, 20)]
    await trailed(store, *told)
    await check_chain(store, {1, 2, 3})
    assert [entry.record async for entry in store.audit_chain()] == [codec.encode_record(one) for one in told]


async def test_a_whole_group_is_chained(store: Store) -> None:
    keys = [f"d{number:03}" for number in range(300)]
    await store.fold(batch(*keys))
    await store.hold(keys)
    await asyncio.gather(
        *(store.settle(settlement(key, audit=(record(key), record(key, message="again")))) for key in keys)
    )
    await check_chain(store, set(range(1, 601)))


async def test_one_callers_fault_is_not_its_neighbours_and_the_chain_goes_on_after_it(store: Store) -> None:
    await trailed(store, record())
    acts = [settlement(key, audit=(record(key),)) for key in ("d", "nowhere", "e")]
    await store.hold(["d", "e"])
    results = await asyncio.gather(*map(store.settle, acts), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), StoreError, type(None)]
    assert (await store.counts())[Status.SYNCED] == 2
    await settle(store, settlement(audit=(record(),)))
    await check_chain(store, {1, 2, 3, 4})


async def test_a_documents_records_come_with_the_links_before_them(store: Store) -> None:
    await trailed(store, record("d", 10), record("e", 20), record("d", 30), record("d", 40))
    every = {entry.number: entry async for entry in store.audit_chain()}
    of_d = [entry async for entry in store.audit_chain("d")]
    assert [(entry.number, entry.previous) for entry in of_d] == [(1, None), (3, every[2].link), (4, every[3].link)]
    assert of_d == [every[1], every[3], every[4]]
    assert [entry.number async for entry in store.audit_chain("d", 30, 40)] == [3]


async def test_a_span_of_the_chain_has_no_gaps(store: Store) -> None:
    await trailed(store, *(record("d", at_us) for at_us in (10, 30, 20, 31, 99)))
    assert [entry.number async for entry in store.audit_chain(None, 30, 40)] == [2, 3, 4]
    assert [entry.number async for entry in store.audit_chain(None, 99)] == [5]
    assert [entry.number async for entry in store.audit_chain(None, 0, 20)] == [1]
    assert [entry.number async for entry in store.audit_chain(None, 50, 60)] == []


async def test_one_record_is_read_as_it_is_stored(store: Store) -> None:
    await trailed(store, record("d", 10), record("e", 20))
    assert [await store.audit_entry(2)] == [entry async for entry in store.audit_chain("e")]
    assert [await store.audit_entry(number) for number in (-1, 0, 3, 2**63 - 1)] == [None] * 4


async def test_a_long_chain_is_read_to_its_end(store: Store) -> None:
    await store.fold(batch("d"))
    await settle(store, settlement(audit=tuple(record(at_us=at_us) for at_us in range(1, 1002))))
    await check_chain(store, set(range(1, 1002)))
    assert len([entry async for entry in store.audit_chain("d")]) == 1001
    assert len([entry async for entry in store.audit_chain(None, 2)]) == 1000


async def test_policies_are_kept_once_under_their_digests_and_read_as_they_are_kept(store: Store) -> None:
    policy = Policy((Rule(("*",), Strategy.EXTERNAL, name="é"),))
    digest = codec.policy_digest(policy)
    for name, one in ((digest, policy), ("p2", Policy()), (digest, Policy())):
        await store.keep_policy(name, one)
    texts = await store.policy_texts()
    assert texts == {digest: codec.encode(policy), "p2": codec.encode(Policy())}
    assert codec.readable_policies(texts)[digest].rules == policy.rules
    assert codec.digest_of(codec.encode(policy)) == digest


async def test_the_projection_is_exported_in_key_order(store: Store) -> None:
    keys = [f"{n * 7919 % 1201:04}" for n in range(1201)]
    await store.fold(batch(rows={key: wish(key) for key in keys}))
    exported = [item async for item in store.export_projection()]
    assert exported == [(key, wish(key)) for key in sorted(keys)]


# ------------------------------------------------------------------------------------------------------- hostile input


@pytest.mark.parametrize("key", HOSTILE, ids=range(len(HOSTILE)))
async def test_any_text_is_a_key(store: Store, key: str) -> None:
    await store.fold(batch(key, "other", urgent=frozenset({key})))
    assert await desired(store, [key, "other"]) == {key: wish(), "other": wish()}
    assert [one.key for one in await store.due(10**9, 1)] == [key]
    clash = structs.replace(conflict(key), field=key)
    end = settlement(
        key,
        status=Status.HELD,
        reason=key,
        conflicts=1,
        audit=(record(key),),
        opened=(clash,),
        contention=(Contention(key, 9, 9),),
    )
    assert await intend(store, key, AGREEMENT)
    await settle(store, end)
    found = (await store.documents([key]))[key]
    assert (found.key, found.reason, found.agreement) == (key, key, AGREEMENT)
    assert await store.list_documents(Status.HELD, "", 9) == [found]
    assert [one.document for one in await store.audit(key)] == [key]
    assert await store.conflicts() == [ConflictRow(key, clash, None)]
    assert [spot.name for spot in await store.hotspots(3000)] == [key, key]
    assert await store.requeue([key], Lane.OPERATOR, 1) == 1
    await settle(store, settlement(key, closed=(key,)))
    assert await store.conflicts() == []
    await store.rebase({key + key: AGREEMENT}, {Partition(key, 0): 3}, 1)
    assert (await store.positions())[Partition(key, 0)] == 3
    assert set(await store.documents([key + key])) == {key + key}


async def test_keys_that_differ_by_what_follows_a_nul_are_different(store: Store) -> None:
    await store.fold(batch(rows={"a\0b": wish(1), "a\0c": wish(2), "a": wish(3)}))
    assert await desired(store, ["a\0b", "a\0c", "a"]) == {"a\0b": wish(1), "a\0c": wish(2), "a": wish(3)}


async def test_the_greatest_times_come_back(store: Store) -> None:
    far_us = 2**63 - 1
    await store.fold(batch("d", at_us=far_us))
    assert await store.next_due_us() == far_us
    assert await store.due(far_us, 1) == [Due("d", Lane.EVENT, far_us)]


async def test_thousands_of_keys_are_read_at_once(store: Store) -> None:
    keys = [f"d{n:05}" for n in range(12_000)]
    await store.fold(batch(*keys))
    assert len(await desired(store, keys)) == 12_000


async def test_closing_finishes_calls_under_way_and_may_be_repeated(store: Store) -> None:
    keys = [f"d{n}" for n in range(50)]
    await store.fold(batch(*keys))
    await store.hold(keys)
    settling = asyncio.gather(*(store.settle(settlement(key)) for key in keys))
    await asyncio.sleep(0)
    await store.close()
    assert await settling == [None] * 50
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.due(1, 1)
    with pytest.raises(StoreError, match="closed"):
        await settle(store, settlement("d1"))
