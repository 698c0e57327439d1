"""Projection archives: a store that begins with one is the store that has folded everything (`flows/projection.py`)."""

import asyncio
import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.events import decode
from reconciler.core.folding.projection_file import Archived
from reconciler.errors import ArchiveError, LogTruncatedError
from reconciler.flows import projection, reading, replay
from reconciler.flows.ingest import Ingest
from reconciler.flows.recovery import Bases
from reconciler.flows.replay import Archives
from reconciler.model import codec, instant
from reconciler.model.event import DeadLetter, Outgoing
from reconciler.model.stamp import Partition
from reconciler.ports import Store
from tests.core.strategies import TIMES, envelope
from tests.fakes.memory_store import MemoryStore
from tests.flows.world import DECISIONS, OPERATORS, TOPIC, TOPICS, World

OPTIONS = decode.Options(topics=TOPICS)
PLACE = Partition(TOPIC, 0)

_SAID: list[dict[str, Any]] = [
    {"data": {"set": {"status": "RELEASED", "owner": None}}},
    {"data": {"set": {"status": "INWORK"}, "expect": {"status": "RELEASED"}, "reason": "ECN-1"}, "actor": "jdoe"},
    {"data": {"set": {"attributes.Keywords": ["a", "b"]}}},
    {"data": {"add": {"attributes.Keywords": ["c"]}}},
    {"data": {"remove": {"attributes.Keywords": ["a", "é"]}}},
    {"data": {"release": ["status", "attributes.Keywords"]}},
    {"data": {"set": {"group.x": 1.0, "group.y": {"z": 1}}}, "sequence": "2"},
    {"data": {"set": {"status": "x"}, "accept": {"status": "X"}}, "source": OPERATORS},
    {"type": decode.RELEASED, "data": {"reason": "obsolete"}},
    {"time": "2099-01-01T00:00:00Z"},  # refused
    {"data": {"set": {"status": "RELEASED"}, "surplus": 1}},  # refused
]


def _records() -> list[Outgoing]:
    """Everything that a log can hold: equal ones are copies, and equal times and sequences are decided by places."""
    found: list[Outgoing] = []
    for key, time, said in itertools.product("ab", TIMES[:2], _SAID):
        event = envelope(**{"subject": key, "time": time, **said})
        event["id"] = codec.digest(event)
        topic = DECISIONS if event["source"] == OPERATORS else TOPIC
        found.append(Outgoing(topic, key.encode(), codec.encode(event)))
    return [*found, Outgoing(TOPIC, b"a", None), Outgoing(TOPIC, b"a", b"not JSON"), EARLY]


AHEAD_US = 4_070_908_800_000_000  # 2099, by the clock of a producer
EARLY = Outgoing(TOPIC, b"a", codec.encode(envelope(subject="a", time=instant.from_us(AHEAD_US))))
RECORDS = _records()


class Histories:
    """A log in memory, folded into one store or another."""

    def __init__(self) -> None:
        self.world = World()

    def append(self, records: Iterable[Outgoing]) -> None:
        for record in records:
            self.world.broker.put(record, made_us=AHEAD_US if record is EARLY else None)

    async def fold(self, store: Store, archives: Archives | None = None) -> None:
        """Fold the log to its end, after projection archives if there are some."""
        await reading.begin(store, OPTIONS, {})
        ingest = Ingest(
            log := self.world.make_log(),
            store,
            self.world.clock,
            self.world.telemetry,
            options=OPTIONS,
            dead_letter_topic="dead-letters",
            batch_max=100,
            offer=lambda _: None,
            wake=asyncio.Event(),
        )
        bases = Bases(store, self.world.clock)
        await self.world.run(replay.replay(log, ingest, bases, archives, follows=archives is not None))

    async def archived(self, store: Store) -> list[bytes]:
        return [line async for line in projection.archived(store, self.world.clock, "time")]

    async def begin(self, lines: Sequence[bytes], store: Store) -> Archives:
        """Take an archive over, and return what is then in archives."""
        archive = opened(lines)
        await projection.begin_with(archive.header, archive.pieces(), store, self.world.clock)
        archives = Archives()
        archives.begin_with(archive.header)
        return archives

    def forget_what_is_archived(self, archives: Archives) -> None:
        for place, offset in archives.reached().items():
            self.world.broker.forget_before(place, offset)


def opened(lines: Sequence[bytes]) -> Archived:
    return Archived("p.jsonl", [line.removesuffix(b"\n") for line in lines])


def _reason(letter: DeadLetter) -> str:
    return "" if letter.stage == decode.CLOCK else letter.reason  # it says when it was refused


async def contents(store: Store) -> dict[str, Any]:
    """Everything that a fold stores."""
    outlines = await store.letters_after(0, 1000)
    letters = [await store.dead_letter(outline.id) for _, outline in outlines]
    return {
        "projection": [(key, codec.encode(desired)) async for key, desired in store.export_projection()],
        "positions": {place: offset for place, offset in (await store.positions()).items() if offset},
        "anchors": dict(await store.anchors()),
        "refused": set(await store.refused()),
        "letters": {one.id: (one.key, one.value, one.stage, _reason(one), one.status) for one in letters if one},
    }


async def check_equal(history: Histories, records: Sequence[Outgoing], split: int, first: Store, second: Store) -> None:
    """Fold a part, archive it, lose it, and fold the rest: into a store that holds what a whole fold holds."""
    history.append(records[:split])
    await history.fold(first)
    lines = await history.archived(first)
    history.append(records[split:])
    whole = MemoryStore()
    await history.fold(whole)
    archives = await history.begin(lines, second)
    history.forget_what_is_archived(archives)
    await history.fold(second, archives)
    assert await contents(second) == await contents(whole)


@settings(max_examples=60)
@given(st.lists(st.sampled_from(RECORDS), max_size=14), st.integers(0, 14))
def test_what_is_folded_after_an_archive_is_what_is_folded_from_everything(records: list[Outgoing], split: int) -> None:
    asyncio.run(check_equal(Histories(), records, split, MemoryStore(), MemoryStore()))


async def test_every_store_makes_and_takes_archives(store: Store) -> None:
    records = random.Random(7).choices(RECORDS, k=150)
    await check_equal(Histories(), records, 80, store, MemoryStore())
    await check_equal(Histories(), records[::-1], 80, MemoryStore(), other := MemoryStore())
    held = await contents(other)
    assert (len(held["letters"]) > 10, len(held["refused"]) > 0) == (True, True)


async def test_every_store_begins_with_an_archive_of_another(store: Store) -> None:
    records = random.Random(8).choices(RECORDS, k=150)
    await check_equal(Histories(), records, 80, MemoryStore(), store)


async def test_an_archive_that_was_interrupted_is_taken_again_and_an_older_one_takes_nothing_back(store: Store) -> None:
    history = Histories()
    history.append(RECORDS[:20])
    await history.fold(made := MemoryStore())
    lines = await history.archived(made)
    with pytest.raises(ArchiveError):
        await history.begin(lines[:-2], store)
    assert await store.positions() == {}, "the log is read from its beginning"
    await history.begin(lines, store)
    history.append(RECORDS[20:])
    await history.fold(store)
    before = await contents(store)
    await history.begin(lines, store)
    assert await contents(store) == before


async def test_what_is_folded_while_an_archive_is_made_does_no_harm() -> None:
    """The rows then know more than the positions say."""

    class Ahead:
        """A store that a daemon folds into, once its positions were read."""

        def __getattr__(self, name: str) -> Any:
            return getattr(later if name in {"export_projection", "letters_after", "dead_letter"} else early, name)

    history, early, later = Histories(), MemoryStore(), MemoryStore()
    history.append(RECORDS[:20])
    await history.fold(early)
    history.append(RECORDS[20:])
    await history.fold(later)
    lines = [line async for line in projection.archived(Ahead(), history.world.clock, "time")]
    archives = await history.begin(lines, store := MemoryStore())
    history.forget_what_is_archived(archives)
    await history.fold(store, archives)
    assert await contents(store) == await contents(later)


async def test_a_log_that_has_lost_what_comes_after_an_archive_is_refused() -> None:
    history = Histories()
    history.append(RECORDS[:10])
    await history.fold(made := MemoryStore())
    archives = await history.begin(await history.archived(made), store := MemoryStore())
    before = await contents(store)
    history.append(RECORDS[10:20])
    history.world.broker.forget_before(PLACE, archives.reached()[PLACE] + 1)
    with pytest.raises(LogTruncatedError):
        await history.fold(store, archives)
    assert await contents(store) == before


async def test_a_log_that_was_replaced_since_an_archive_was_made_is_refused() -> None:
    history = Histories()
    history.append(RECORDS[:10])
    await history.fold(made := MemoryStore())
    lines = await history.archived(made)
    other = Histories()
    other.append(RECORDS[20:40])
    with pytest.raises(LogTruncatedError, match="another log has replaced this one"):
        await other.fold(MemoryStore(), await other.begin(lines, MemoryStore()))


async def test_every_changed_byte_is_noticed_before_anything_is_stored() -> None:
    history = Histories()
    history.append(RECORDS[:3])
    await history.fold(made := MemoryStore())
    text = b"".join(await history.archived(made))
    opened(text.splitlines()).require_whole()
    for place in range(len(text)):
        changed = text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]
        with pytest.raises(ArchiveError):
            opened(changed.removesuffix(b"\n").split(b"\n")).require_whole()
