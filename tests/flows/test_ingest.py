"""Ingest: rows and positions together, each record once, and nothing dropped without a trace."""

import asyncio
import contextlib
import gc
import json
from collections.abc import Sequence

import pytest

from reconciler.core.events import outcomes
from reconciler.errors import StoreError
from reconciler.flows import ingest, replay
from reconciler.flows.recovery import Bases
from reconciler.model.document import Lane, Status
from reconciler.model.event import Outgoing, Record
from reconciler.model.stamp import Partition
from reconciler.ports import Changed, FoldBatch
from tests.fakes.memory_log import MemoryLog
from tests.flows.conftest import MakeWorld
from tests.flows.world import KEY, LETTERS, OPERATORS, TOPIC, World

PLACE = Partition(TOPIC, 0)
STRUCTURED = ("content-type", b"application/cloudevents+json")


def poison(*headers: tuple[str, bytes | None]) -> Outgoing:
    return Outgoing(TOPIC, b"k\xff", b"not json \xff", (STRUCTURED, ("x-own", b"\x00\xff"), *headers))


async def test_rows_and_positions_advance_together_or_not_at_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(batch: object) -> None:
        raise StoreError("the disk is full")

    world.append(world.event({"title": "Cover"}))
    with monkeypatch.context() as broken:
        broken.setattr(world.store, "fold", fails)
        with pytest.raises(StoreError):
            await world.fold()
    assert (world.store.rows, world.store.offsets, world.offered) == ({}, {}, [])
    await world.fold()
    assert world.document().revision == 1
    assert world.store.offsets == {PLACE: 1}
    assert [due.key for due in world.offered] == [KEY]


async def test_a_record_met_again_changes_nothing_and_wakes_no_one(world: World) -> None:
    given = await world.emit({"title": "Cover"})
    await world.settle()
    world.offered.clear()
    world.append(given | {"time": "2026-11-22T09:00:00.000000Z"})
    world.store.offsets.clear()  # as when an archive overlaps with what was folded
    await world.fold()
    assert (world.document().revision, world.document().status, world.offered) == (1, Status.SYNCED, [])


async def test_events_of_one_batch_fold_into_one_row_change(world: World) -> None:
    for number in range(20):
        await world.clock.advance(1)
        world.append(world.event({"title": f"title {number}"}))
    await world.fold()
    await world.settle()
    assert (world.document().revision, world.windchill.writes) == (1, 1)
    assert world.live()["title"] == "title 19"


async def test_an_operators_event_is_urgent_and_others_are_not(world: World) -> None:
    await world.emit({"title": "Cover"})
    await world.emit({"title": "Lid"}, source=OPERATORS, actor="boss")
    assert [due.lane for due in world.offered] == [Lane.EVENT, Lane.OPERATOR]
    assert world.document().lane is Lane.OPERATOR


async def test_what_can_not_be_used_is_a_dead_letter_once_and_the_rest_is_folded(world: World) -> None:
    world.broker.put(poison())
    await world.emit({"title": "Cover"})
    world.store.offsets.clear()
    await world.fold()
    (letter,) = world.store.letters.values()
    assert (letter.key, letter.value, letter.headers[1]) == (b"k\xff", b"not json \xff", ("x-own", b"\x00\xff"))
    (announced,) = [record for record in world.store.outbox.values() if record.topic == LETTERS]
    assert dict(announced.headers)["__reconciler.errors.offset"] == b"0"
    assert world.woken.is_set()
    assert world.document().revision == 1


async def test_someone_elses_events_are_skipped_and_counted(world: World) -> None:
    world.append(world.event() | {"type": "com.example.part.created", "data": None})
    await world.fold()
    assert (world.store.rows, world.store.letters, world.store.offsets) == ({}, {}, {PLACE: 1})
    assert world.telemetry.total("events_total", result="foreign") == 1


async def test_a_letter_that_comes_round_again_is_marked_as_replayed(world: World) -> None:
    world.broker.put(poison())
    await world.fold()
    given = json.dumps(world.event({"title": "mended"})).encode()
    header = (outcomes.REPLAY_OF, f"{TOPIC}/0/0".encode())
    world.broker.put(Outgoing(TOPIC, KEY.encode(), given, (STRUCTURED, header)))
    await world.fold()
    assert [letter.status for letter in await world.store.dead_letters(None)] == ["replayed"]
    assert world.document().revision == 1


@pytest.mark.parametrize("value", [b"\xff\xfe", None, b""])
async def test_no_header_ends_the_fold(world: World, value: bytes | None) -> None:
    world.broker.put(poison((outcomes.REPLAY_OF, value), ("ce_id", None)))
    await world.emit({"title": "Cover"})
    assert world.document().revision == 1
    (letter,) = world.store.letters.values()
    assert letter.headers[2:] == ((outcomes.REPLAY_OF, value), ("ce_id", None))


async def test_until_leaves_out_what_is_later_and_keeps_no_position(make_world: MakeWorld) -> None:
    world = make_world()
    await world.clock.advance(1)
    early = world.event({"title": "early"})
    await world.clock.advance(1)
    world.append(early)
    world.append(world.event({"title": "late"}))
    world.ingest = world.make_ingest(until=early["time"])
    await world.log.open({})
    await world.ingest.take(await world.log.fetch(100, 0))
    register = world.document().desired.fields["title"].register
    assert register is not None
    assert (register.value, world.store.offsets) == ("early", {})


async def test_events_that_lose_to_a_later_claim_are_counted_and_known_by_their_document(world: World) -> None:
    first = await world.emit({"title": "Cover", "owner": "akim"})
    early = {"time": "2026-11-22T09:00:00.000000Z"}
    world.append(world.event({"title": "late"}) | early | {"id": "a"})
    await world.fold()
    world.append(world.event({"title": "later", "owner": "jdoe"}) | early | {"id": "b"})
    world.append(world.event({"title": "latest", "status": "RELEASED"}) | early | {"id": "c"})  # of which a part counts
    await world.fold()
    world.append(first)  # a copy
    await world.fold()
    assert world.telemetry.total("events_total", result="superseded") == 2
    assert world.telemetry.total("events_total") == 5
    lost = await world.store.superseded(KEY)
    assert lost is not None
    assert (lost.count, lost.last.id, lost.by.id) == (2, "b", first["id"])


async def test_what_a_release_covers_on_arrival_is_superseded(world: World) -> None:
    await world.emit({"title": "Cover"})
    await world.clock.advance(5)
    released = world.event({}) | {"type": "windchill.document.released.v1", "data": {}}
    await world.fold(released)
    world.append(world.event({"title": "late"}) | {"time": "2026-11-22T09:00:00.000000Z"})
    await world.fold()
    lost = await world.store.superseded(KEY)
    assert lost is not None
    assert (lost.count, lost.by.id) == (1, released["id"])


# ------------------------------------------------------------------------------------------------------- transactions


@pytest.mark.parametrize(("bytes_max", "transactions"), [(ingest._BYTES_MAX, 1), (3_000, 4)])
async def test_a_backlog_is_one_transaction_unless_its_records_are_large(
    world: World, monkeypatch: pytest.MonkeyPatch, bytes_max: int, transactions: int
) -> None:
    folded = []
    fold = world.store.fold

    async def counted(batch: FoldBatch) -> Changed:
        folded.append(len(batch.rows))
        if sum(folded) == 400:
            world.ingest.stop()
        return await fold(batch)

    monkeypatch.setattr(world.store, "fold", counted)
    monkeypatch.setattr(ingest, "_BYTES_MAX", bytes_max)
    for number in range(400):  # four fetches
        world.append(world.event({"title": "Cover"}, key=f"K{number:03}"))
    await world.log.open({})
    await world.run(world.ingest.run())
    assert len(folded) == transactions


@pytest.mark.parametrize("replayed", [False, True])
async def test_a_transaction_is_bounded_by_documents_less_in_a_replay_for_which_no_one_waits(
    world: World, monkeypatch: pytest.MonkeyPatch, replayed: bool
) -> None:
    folded = []
    fold = world.store.fold

    async def counted(batch: FoldBatch) -> Changed:
        folded.append(len(batch.rows))
        if sum(folded) == 400:
            world.ingest.stop()
        return await fold(batch)

    monkeypatch.setattr(world.store, "fold", counted)
    monkeypatch.setattr(ingest, "_ROOM_MIN", 1)
    world.ingest.documents_max = 200
    for number in range(400):
        world.append(world.event({"title": "Cover"}, key=f"K{number:03}"))
    await world.log.open({})
    folding = replay.replay(world.log, world.ingest, Bases(world.store, world.clock)) if replayed else None
    await world.run(folding or world.ingest.run())
    assert folded == ([400] if replayed else [200, 200])


async def test_a_trickle_behind_a_backlog_does_not_delay_it(world: World) -> None:
    class Trickling(MemoryLog):
        async def fetch(self, records_max: int, timeout_s: float) -> Sequence[Record]:
            if not world.store.rows:  # until something is stored, one more event comes each moment
                await world.clock.sleep(0.01)
                world.append(world.event({"title": "Cover"}))
            return await super().fetch(records_max, timeout_s)

    for number in range(200):
        world.append(world.event({"title": "Cover"}, key=f"K{number:03}"))
    world.log = Trickling(world.broker, TOPIC)
    await world.log.open({})
    world.ingest = world.make_ingest()
    folding = asyncio.ensure_future(world.ingest.run())
    await world.clock.advance(10)
    stored = len(world.store.rows)
    world.ingest.stop()
    await world.run(folding)
    assert stored == 201


@pytest.mark.parametrize("fails", [False, True], ids=["stored", "failed"])
async def test_the_collector_is_off_while_a_batch_is_folded_and_on_again_after(
    world: World, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    seen = []
    fold = world.store.fold

    async def looked_at(batch: FoldBatch) -> Changed:
        seen.append(gc.isenabled())
        if fails:
            raise StoreError("the disk is full")
        return await fold(batch)

    monkeypatch.setattr(world.store, "fold", looked_at)
    with contextlib.suppress(StoreError):
        await world.fold(world.event({"title": "Cover"}))
    assert (seen, gc.isenabled()) == ([False], True)
