"""Change events to measure with: the same ones every time, shaped like those of a real integration."""

import hashlib
import random
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

EVENTS = 200_000
DOCUMENTS = 20_000
PARTITIONS = 4

_BEGINNING = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
_SOURCES = ("//erp/prod", "//workflow/prod", "//mes/plant-2")
_ACTORS = ("jdoe", "akim", "mrossi", "lchen", "pnovak")
_STATES = ("INWORK", "INREVIEW", "RELEASED", "OBSOLETE")
_CHANGES: dict[str, Callable[[random.Random], object]] = {
    "status": lambda chance: chance.choice(_STATES),
    "owner": lambda chance: chance.choice(_ACTORS),
    "title": lambda chance: f"Bracket {chance.randrange(1000, 9999)}, drawing",
    "attributes.CostCenter": lambda chance: str(chance.randrange(4000, 5000)),
    "attributes.Project": lambda chance: f"P-{chance.randrange(100, 130)}",
    "attributes.Weight": lambda chance: round(chance.uniform(0.05, 80.0), 2),
    "attributes.Note": lambda chance: chance.choice((None, "checked", "see ECN", "to be reviewed by quality")),
}
"""The fields that events set, and what they set them to."""

FIELDS = tuple(_CHANGES)
"""Their names."""


def key(number: int) -> str:
    """Return the key of a document, as the simulated Windchill numbers them from 1."""
    return f"{number:010d}"


def generated(count: int = EVENTS, documents: int = DOCUMENTS, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Yield subject and structured event, about 330 bytes each; the same arguments give the same events."""
    chance = random.Random(f"events {seed}")
    moment = _BEGINNING
    for _ in range(count):
        moment += timedelta(microseconds=chance.randrange(1, 40_000))
        subject = key(chance.randrange(1, documents + 1))
        fields = chance.sample(FIELDS, chance.choices((1, 2, 3), weights=(5, 3, 2))[0])
        data: dict[str, object] = {"set": {name: _CHANGES[name](chance) for name in fields}}
        event: dict[str, object] = {
            "specversion": "1.0",
            "id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            "source": chance.choice(_SOURCES),
            "type": "windchill.document.changed.v1",
            "subject": subject,
            "time": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "datacontenttype": "application/json",
        }
        if chance.random() < 0.4:
            event["traceparent"] = f"00-{chance.getrandbits(128):032x}-{chance.getrandbits(64):016x}-01"
        if chance.random() < 0.3:
            event["actor"] = chance.choice(_ACTORS)
        if chance.random() < 0.2:
            data["reason"] = f"ECN-{chance.randrange(1000, 9999)} approved"
        yield subject, orjson.dumps(event | {"data": data})


def write_file(path: Path, count: int = EVENTS, documents: int = DOCUMENTS, seed: int = 1) -> int:
    """Write events as a log in a file; return its size in bytes."""
    with path.open("wb") as file:
        for _, event in generated(count, documents, seed):
            file.write(event + b"\n")
        return file.tell()


def fold(fields: dict[str, list[Any]], event: Mapping[str, Any]) -> bool:
    """
    Keep what an event says about fields, as `[value, stamp]`, unless a newer event spoke; true if anything changed.

    This is all that a peer does with an event.
    """
    stamp = [event["time"], event["source"], event["id"]]
    changed = False
    for name, value in event["data"]["set"].items():
        known = fields.get(name)
        if known is None or known[1] < stamp:
            fields[name] = [value, stamp]
            changed = True
    return changed


def values(fields: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Return the values of what `fold` keeps."""
    return {name: value for name, (value, _) in fields.items()}


def digest(documents: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """Return a digest of all documents' values, whatever the order in which they come."""
    lines = sorted(orjson.dumps([key, fields], option=orjson.OPT_SORT_KEYS) for key, fields in documents)
    return hashlib.sha256(b"\n".join(lines)).hexdigest()
