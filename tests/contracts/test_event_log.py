"""
What every `EventLog` promises: Kafka, files plain and compressed, and the fake that other tests use.

Each log has a topic of changes and one of decisions beside it, and reads them as one.
"""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import orjson
import pytest
import zstandard

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.file_log import FileLog
from reconciler.adapters.kafka import KafkaLog
from reconciler.adapters.kafka_client import KafkaOptions
from reconciler.core.events import anchoring
from reconciler.errors import LogError, LogTruncatedError
from reconciler.model.event import Outgoing, Record
from reconciler.model.stamp import Partition
from reconciler.ports import EventLog
from tests import brokers
from tests.fakes.memory_log import MemoryBroker, MemoryLog
from tests.patience import HANG_S


class World(Protocol):
    """A log that exists, whatever it is made of, and clients of it: one after another, as processes are."""

    topic: str  # of changes
    places: list[Partition]  # of that topic, and then the one of decisions
    appends: bool
    keeps_all: bool  # keys, headers and null values; a file has structured events only

    async def put(self, values: Sequence[bytes], place: int = 0) -> None: ...
    def client(self) -> EventLog: ...


class KafkaWorld:
    appends, keeps_all = True, True

    def __init__(self, server: brokers.Server, topic: str, decisions: str) -> None:
        self.topic = topic
        self.places = [*(Partition(topic, number) for number in range(3)), Partition(decisions, 0)]
        self._options = KafkaOptions(brokers=tuple(server.brokers), topics=(topic, decisions), fetch_wait_s=0.1)

    async def put(self, values: Sequence[bytes], place: int = 0) -> None:
        # A key that the default partitioner of Kafka's clients sends there.
        key = (b"f", b"a", b"b", b"any")[place]
        log = self.client()
        await log.append([Outgoing(self.places[place].topic, key, value) for value in values])
        await log.close()

    def client(self) -> EventLog:
        return KafkaLog(self._options, SystemClock())


class FileWorld:
    keeps_all = False

    def __init__(self, path: Path) -> None:
        self.topic, self.appends = path.name, path.suffix == ".jsonl"
        beside = f"events.jsonl.decisions{'' if self.appends else path.suffix}"
        self._files = {path: b"", path.with_name(beside): b""}
        self.places = [Partition(file.name, 0) for file in self._files]
        for file in self._files:
            self._keep(file)

    async def put(self, values: Sequence[bytes], place: int = 0) -> None:
        file = list(self._files)[place]
        self._files[file] += b"".join(value + b"\n" for value in values)
        self._keep(file)

    def client(self) -> EventLog:
        return FileLog(next(iter(self._files)), SystemClock())

    def _keep(self, file: Path) -> None:
        pack = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
        file.write_bytes(pack.get(file.suffix, bytes)(self._files[file]))


class MemoryWorld:
    appends, keeps_all = True, True

    def __init__(self) -> None:
        self.topic = "changes"
        self._broker = MemoryBroker(SystemClock(), changes=3)
        self.places = [*self._broker.partitions(self.topic), Partition("decisions", 0)]

    async def put(self, values: Sequence[bytes], place: int = 0) -> None:
        topic, partition = self.places[place]
        for value in values:
            self._broker.put(Outgoing(topic, b"key", value), partition)

    def client(self) -> EventLog:
        return MemoryLog(self._broker, self.topic, "decisions")


@pytest.fixture(params=[pytest.param("kafka", marks=pytest.mark.kafka), "jsonl", "jsonl.gz", "jsonl.zst", "memory"])
def make_world(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Awaitable[World]]:
    """Not a coroutine: a broker that starts now runs an event loop of its own meanwhile."""
    server, make_topic = None, None
    if request.param == "kafka":
        server, make_topic = request.getfixturevalue("broker"), request.getfixturevalue("topic")

    async def make() -> World:
        if server is not None and make_topic is not None:
            changes, decisions = await make_topic(partitions=3, name="changes"), await make_topic(name="decisions")
            return KafkaWorld(server, changes, decisions)
        return MemoryWorld() if request.param == "memory" else FileWorld(tmp_path / f"events.{request.param}")

    return make


@pytest.fixture
async def world(make_world: Callable[[], Awaitable[World]]) -> World:
    return await make_world()


@pytest.fixture
async def log(world: World) -> AsyncIterator[EventLog]:
    client = world.client()
    yield client
    await client.close()


def events(count: int, name: str = "event") -> list[bytes]:
    return [orjson.dumps({"specversion": "1.0", "id": f"{name}-{number}"}) for number in range(count)]


async def read_to_end(log: EventLog, records_max: int = 1000) -> list[Record]:
    """Everything up to the end as it is now."""
    records: list[Record] = []
    ends = await log.ends()
    async with asyncio.timeout(HANG_S):
        while True:
            positions = await log.positions()
            if all(positions[partition] >= end for partition, end in ends.items()):
                return records
            batch = await log.fetch(records_max, 0.2)
            assert len(batch) <= records_max
            records.extend(batch)


def values(records: Sequence[Record], place: Partition | None = None) -> list[bytes | None]:
    return [record.value for record in records if place in (None, (record.topic, record.partition))]


async def test_without_positions_everything_is_read_once_and_in_order_within_each_partition(
    world: World, log: EventLog
) -> None:
    for number in range(len(world.places)):
        await world.put(events(50, f"of-{number}"), number)
    await log.open({})
    records = await read_to_end(log, records_max=7)
    for number, place in enumerate(world.places):
        own = [record for record in records if (record.topic, record.partition) == place]
        assert values(own) == events(50, f"of-{number}")
        assert [record.offset for record in own] == list(range(50))
    assert {Partition(record.topic, record.partition) for record in records} == set(world.places)


@pytest.mark.parametrize("position", [0, 1, 37, 99, 100])
async def test_reading_resumes_exactly_at_a_stored_position(world: World, log: EventLog, position: int) -> None:
    await world.put(events(100))
    await log.open({Partition(world.topic, 0): position})
    records = await read_to_end(log)
    assert [record.offset for record in records] == list(range(position, 100))
    assert values(records) == events(100)[position:]


async def test_one_client_goes_on_where_another_stopped_and_nothing_comes_twice(world: World) -> None:
    for number in range(len(world.places)):
        await world.put(events(60, f"of-{number}"), number)
    positions: dict[Partition, int] = {}
    seen: list[Record] = []
    for _ in range(60 * len(world.places) // 20):
        client = world.client()
        await client.open(positions)
        taken = await client.fetch(20, HANG_S)
        seen.extend(taken)
        positions |= {Partition(record.topic, record.partition): record.offset + 1 for record in taken}
        await client.close()
    client = world.client()
    await client.open(positions)
    seen.extend(await read_to_end(client))
    await client.close()
    for number, place in enumerate(world.places):
        assert values(seen, place) == events(60, f"of-{number}")


async def test_positions_of_other_logs_do_not_matter(world: World, log: EventLog) -> None:
    await world.put(events(3))
    await log.open({Partition("another-topic", 0): 1_000_000})
    assert len(await read_to_end(log)) == 3


async def test_at_the_end_a_fetch_is_empty_and_positions_equal_ends(world: World, log: EventLog) -> None:
    await world.put(events(10))
    await log.open({})
    await read_to_end(log)
    assert not await log.fetch(10, 0.05)
    assert await log.positions() == await log.ends()
    assert (await log.ends())[Partition(world.topic, 0)] == 10


async def test_an_empty_log_is_at_its_end_at_once(world: World, log: EventLog) -> None:
    await log.open({})
    assert await log.positions() == await log.ends()
    assert set((await log.ends()).values()) == {0}
    assert set(await log.ends()) == set(world.places)


async def test_a_position_beyond_the_end_is_refused_with_the_offsets_of_the_log(world: World, log: EventLog) -> None:
    await world.put(events(10))
    with pytest.raises(LogTruncatedError, match=r"11 comes next, but .* holds .*10") as caught:
        await log.open({Partition(world.topic, 0): 11})
    assert world.topic in str(caught.value)


async def test_the_record_that_was_read_last_is_recognised_and_another_in_its_place_is_refused(world: World) -> None:
    await world.put(events(10))
    place = Partition(world.topic, 0)
    reader = world.client()
    await reader.open({})
    read = [record for record in await read_to_end(reader) if record.partition == 0]
    await reader.close()
    for record in (read[3], read[9]):
        same, position = anchoring.of(record), record.offset + 1
        again, other, forced = world.client(), world.client(), world.client()
        await again.open({place: position}, anchors={place: same})
        assert values(await read_to_end(again)) == [one.value for one in read[position:]]
        with pytest.raises(LogTruncatedError, match=rf"the record at {record.offset} is not the one that was read"):
            await other.open({place: position}, anchors={place: same._replace(digest="another")})
        await forced.open({place: position}, accept_truncation=True, anchors={place: same._replace(digest="another")})
        assert values(await read_to_end(forced)) == [one.value for one in read]
        for client in (again, other, forced):
            await client.close()


async def test_an_anchor_before_the_last_record_does_not_change_the_position(world: World) -> None:
    """As where the offsets after it hold no record."""
    await world.put(events(10))
    place, first, again = Partition(world.topic, 0), world.client(), world.client()
    await first.open({})
    read = [record for record in await read_to_end(first) if record.partition == 0]
    await again.open({place: 7}, anchors={place: anchoring.of(read[2])})
    assert values(await read_to_end(again)) == [one.value for one in read[7:]]
    await first.close()
    await again.close()


async def test_appended_records_show_in_the_ends_and_come_with_the_next_fetch(world: World, log: EventLog) -> None:
    if not world.appends:
        with pytest.raises(LogError, match="unpack it"):
            await log.append([Outgoing(world.topic, b"key", events(1)[0])])
        return
    await world.put(events(2))
    await log.open({})
    await read_to_end(log)
    before = await log.ends()
    await log.append([Outgoing(world.topic, b"0000012345", value) for value in events(5, "new")])
    after = await log.ends()
    assert sum(after.values()) - sum(before.values()) == 5
    records = await read_to_end(log)
    assert [record.value for record in records] == events(5, "new")
    assert await log.positions() == after


async def test_a_client_that_only_appends_need_not_be_opened(world: World, log: EventLog) -> None:
    if world.appends:
        await log.append([Outgoing(world.topic, b"key", value) for value in events(3)])
        await log.open({})
        assert len(await read_to_end(log)) == 3


async def test_keys_headers_and_null_values_survive(world: World, log: EventLog) -> None:
    if not world.keeps_all:
        pytest.skip("a file has structured events only")
    headers = [("content-type", b"application/cloudevents+json"), ("ce_actor", "Jörg".encode())]
    sent = [
        Outgoing(world.topic, b"0000012345", b"{}", headers),
        Outgoing(world.topic, b"0000012345", None),
        Outgoing(world.topic, None, b"\x00\xff no JSON", [("empty", b"")]),
    ]
    for record in sent:
        await log.append([record])
    await log.open({})
    records = await read_to_end(log)
    found = {(record.key, record.value, tuple(record.headers)) for record in records}
    assert found == {(record.key, record.value, tuple(record.headers)) for record in sent}
    assert all(record.timestamp > 1_600_000_000_000 for record in records)


async def test_records_of_one_key_keep_their_order(world: World, log: EventLog) -> None:
    if not world.keeps_all:
        pytest.skip("a file has structured events only")
    await log.append([Outgoing(world.topic, f"{number % 7}".encode(), b"%d" % number) for number in range(200)])
    await log.open({})
    records = await read_to_end(log, records_max=11)
    for document in range(7):
        own = [int(record.value or b"") for record in records if record.key == f"{document}".encode()]
        assert own == list(range(document, 200, 7))


async def test_a_fetch_that_is_cancelled_loses_nothing(world: World, log: EventLog) -> None:
    await world.put(events(300))
    await log.open({})
    records: list[Record] = []
    for pause_s in (0, 0.001, 0.01, 0.05) * 3:
        fetching = asyncio.ensure_future(log.fetch(20, 0.05))
        await asyncio.sleep(pause_s)
        if not fetching.done():
            fetching.cancel()
        try:
            records.extend(await fetching)
        except asyncio.CancelledError:
            continue
    records.extend(await read_to_end(log))
    assert values(records) == events(300)


async def test_a_position_beyond_the_end_of_decisions_is_refused_too(world: World, log: EventLog) -> None:
    await world.put(events(3), -1)
    decisions = world.places[-1]
    with pytest.raises(LogTruncatedError, match=r"4 comes next, but .* holds .*3") as caught:
        await log.open({decisions: 4})
    assert decisions.topic in str(caught.value)
    again = world.client()
    await again.open({decisions: 4}, accept_truncation=True)
    assert values(await read_to_end(again), decisions) == events(3)
    await again.close()


async def test_decisions_are_appended_and_read_in_their_own_place(world: World, log: EventLog) -> None:
    if not world.appends:
        pytest.skip("a packed file is not appended to")
    decisions = world.places[-1]
    await log.append([Outgoing(world.topic, b"key", events(1)[0]), Outgoing(decisions.topic, b"key", events(2)[1])])
    await log.open({})
    records = await read_to_end(log)
    assert {(record.topic, record.value) for record in records} == {
        (world.topic, events(1)[0]),
        (decisions.topic, events(2)[1]),
    }


async def test_closing_twice_is_harmless(world: World) -> None:
    client = world.client()
    await client.open({})
    await client.close()
    await client.close()
