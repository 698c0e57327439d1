"""The documents to begin with: generated from a seed, or read from a file of JSON lines."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

PEOPLE = ("jdoe", "akim", "mrossi", "lchen", "pnovak", "sgarcia")
STATES = ("INWORK", "INREVIEW", "RELEASED")
KEYWORDS = ("bracket", "casting", "draft", "fastener", "gasket", "housing", "legacy", "sheet-metal", "weldment")
_PARTS = ("Bracket", "Cover", "Housing", "Shaft", "Spacer", "Valve body", "Wiring harness", "Heat shield")
_PAPERS = ("drawing", "specification", "test report", "work instruction", "change note")
_BEGINNING = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
"""Documents were last touched some time after this, which lies before anything a test will send."""


def generated(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """`count` documents, `0000000001` onwards; the same seed gives the same documents."""
    chance = random.Random(f"documents {seed}")
    for number in range(1, count + 1):
        modified = _BEGINNING + timedelta(seconds=chance.randrange(30 * 86400))
        yield {
            "id": f"{number:010d}",
            "status": chance.choices(STATES, weights=(6, 3, 1))[0],
            "owner": chance.choice(PEOPLE),
            "title": f"{chance.choice(_PARTS)} {chance.randrange(1000, 9999)}, {chance.choice(_PAPERS)}",
            "attributes": {
                "CostCenter": str(chance.randrange(4000, 5000)),
                "Note": "",
                "Project": f"P-{chance.randrange(100, 130)}",
                "Weight": round(chance.uniform(0.05, 80.0), 2),
                "Keywords": sorted(chance.sample(KEYWORDS, chance.randrange(0, 4))),
            },
            "modifiedBy": chance.choice(PEOPLE),
            "modifiedOn": modified.isoformat().replace("+00:00", "Z"),
        }


def from_file(path: Path) -> Iterator[dict[str, Any]]:
    """Documents from JSON lines; ValueError names the line that is not an object with an `id`."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                document = orjson.loads(line)
            except orjson.JSONDecodeError as mistake:
                raise ValueError(f"{path}:{number}: not JSON: {mistake}") from mistake
            if not isinstance(document, dict) or "id" not in document:
                raise ValueError(f"{path}:{number}: each line must be an object with an id")
            yield document
