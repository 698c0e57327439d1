"""What `reconciler snapshot`, `restore` and `rebuild` say of a store's file."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from reconciler.adapters.clock import SystemClock
from reconciler.cli import output
from reconciler.model.stamp import Partition
from reconciler.ports.store_admin import Contents


def now() -> str:
    """Return the moment, in UTC, as names of files have it."""
    return datetime.fromtimestamp(SystemClock().now_us() / 1_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")


def shown(contents: Contents) -> str:
    """Return in words how much a store holds."""
    return f"{output.counted(contents.documents, 'document')}, {contents.bytes / 1_000_000:.1f} MB"


def positions(contents: Contents) -> str:
    """Return in words where each log goes on."""
    found = (f"{place.topic}/{place.partition} at {offset}" for place, offset in contents.positions.items())
    return output.plain(", ".join(found)) or "no log has been read yet"


def as_json(contents: Contents) -> dict[str, Any]:
    """Return what a store holds, for programs."""
    return {
        "documents": contents.documents,
        "bytes": contents.bytes,
        "positions": [
            {"topic": place.topic, "partition": place.partition, "offset": offset}
            for place, offset in contents.positions.items()
        ],
    }


def behind(places: Mapping[Partition, tuple[int, int]]) -> list[dict[str, Any]]:
    """Return which positions went back, for programs."""
    return [
        {"topic": place.topic, "partition": place.partition, "offset": here, "was": there}
        for place, (here, there) in places.items()
    ]


def lines(texts: Iterable[str]) -> None:
    """Print sentences, a line each."""
    for text in texts:
        print(output.plain(text))
