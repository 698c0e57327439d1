"""The stored form of desired state, read by someone who knows JSON and docs/explanation.md, and none of our code."""

import asyncio
import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.counters import Counters
from reconciler.adapters.sqlite import open_store
from reconciler.core.events.decode import Options
from reconciler.flows.ingest import Ingest
from reconciler.model.event import PlainRecord

FIELDS = ("status", "owner", "attributes.Note")
Kept = dict[str, dict[str, tuple[Any, ...]]]  # by document, then by field: rank, value, actor, reason


def some_events(chance: random.Random) -> list[PlainRecord]:
    """A topic: few documents, few moments, copies of events, elements and releases of fields among plain values."""
    records: list[PlainRecord] = []
    for offset in range(chance.randrange(1, 120)):
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": f"e{offset}",
            "source": chance.choice(("//erp/prod", "//mes")),
            "type": "windchill.document.changed.v1",
            "subject": chance.choice("abc"),
            "time": f"2026-03-02T06:00:{chance.randrange(20):02}.000000Z",
            "data": {
                "set": {name: chance.choice((offset, True, None, "x", [1.0])) for name in chance.sample(FIELDS, 2)}
            },
        }
        if chance.random() < 0.3:
            event |= {"actor": chance.choice(("jdoe", "akim")), "sequence": chance.choice("12")}
        if chance.random() < 0.1:
            event["data"] |= {"add": {"attributes.Keywords": ["a"]}, "release": ["title"], "reason": "ECN-1"}
        text = json.dumps(event).encode()
        if records and chance.random() < 0.2:
            text = chance.choice(records).value or text  # the same event again, in another place
        records.append(PlainRecord("windchill.document.changes", 0, offset, 0, None, text))
    return records


def folded_naively(records: list[PlainRecord]) -> Kept:
    """For each field the greatest time and sequence; among equals the latest place, of copies the first."""
    kept: Kept = {}
    first: dict[tuple[str, ...], int] = {}
    for record in records:
        event = json.loads(record.value or b"")
        level = event["time"], event.get("sequence", "")
        offset = first.setdefault((*level, event["source"], event["id"]), record.offset)
        for name, value in event["data"]["set"].items():
            rank = (*level, offset, event["source"], event["id"])
            said = rank, value, event.get("actor", ""), event["data"].get("reason", "")
            fields = kept.setdefault(event["subject"], {})
            fields[name] = max(fields.get(name, said), said, key=lambda one: one[0])
    return kept


def read_plainly(database: Path) -> Kept:
    """Desired values as they are stored: events with what they still decide, then fields with more than one claim."""
    kept: Kept = {}
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT key, desired FROM document JOIN desired ON desired.document = number")
        for key, text in rows:
            events, (others, *_) = json.loads(text)
            fields = kept.setdefault(key, {})
            stamps = [event[:8] for event in events]
            assert stamps == sorted(stamps)
            for _, time, sequence, _, _, offset, source, name, actor, reason, values in events:
                for field, value in values.items():
                    assert field not in fields
                    fields[field] = (time, sequence, offset, source, name), value, actor, reason
            for field, (register, *_) in others.items():
                if field in FIELDS:
                    (_, time, sequence, _, _, offset, source, name), value, _, _, actor, reason = register
                    fields[field] = (time, sequence, offset, source, name), value, actor, reason
    return kept


async def fold(database: Path, batches: list[list[PlainRecord]]) -> None:
    store = await open_store(database, owner=True)
    for records in batches:
        ingest = Ingest(
            *(None, store, SystemClock(), Counters()),  # no log: records come by `take`
            options=Options(),
            dead_letter_topic="dead",
            batch_max=1000,
            offer=lambda _: None,
            wake=asyncio.Event(),
        )
        await ingest.take(records)
    await store.close()


async def test_what_is_stored_is_what_a_naive_fold_of_the_events_gives(tmp_path: Path) -> None:
    for seed in range(40):
        chance = random.Random(f"desired {seed}")
        records, database = some_events(chance), tmp_path / f"{seed}.db"
        cuts = sorted(chance.randrange(len(records) + 1) for _ in range(3))
        batches = [records[start:end] for start, end in zip([0, *cuts], [*cuts, len(records)], strict=True)]
        await fold(database, [*batches, batches[0]])
        stored, naive = read_plainly(database), folded_naively(records)
        assert json.dumps(stored, sort_keys=True) == json.dumps(naive, sort_keys=True)
