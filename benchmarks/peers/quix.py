"""
Quix Streams: the best known stream processor for Python, with its state in RocksDB.

It runs as its documentation shows, with its own defaults: one state for each document, at-least-once, a commit every
five seconds. RocksDB's log is not synced at a commit, so after a power cut the state comes from the changelog topic,
or, without one, not at all. We sync each transaction.
"""

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import orjson

from benchmarks import events, measure
from benchmarks.measure import Sample

PYTHON = Path(sys.prefix) / "bench/bin/python"
"""Where `make bench` installs it: it needs an older confluent-kafka than we have."""

_SEPARATOR = b"|"  # in RocksDB, between a message's key and the name of a state
_NAME = "fields"


def changelog(brokers: str, topic: str, folder: str, count: str) -> Sample:
    """Fold the topic, with every change of state in a changelog topic too: what Quix does by default."""
    return _folded(brokers, topic, Path(folder), int(count), use_changelog=True)


def local(brokers: str, topic: str, folder: str, count: str) -> Sample:
    """Fold the topic with the state in RocksDB only."""
    return _folded(brokers, topic, Path(folder), int(count), use_changelog=False)


def filled(brokers: str, topic: str, folder: str, before: str, count: str) -> Sample:
    """Fold the last events of a topic of one partition, after so many that fill the state and do not count."""
    return _folded(brokers, topic, Path(folder), int(count), use_changelog=False, before=int(before))


def _folded(brokers: str, topic: str, folder: Path, count: int, *, use_changelog: bool, before: int = 0) -> Sample:
    from quixstreams import Application  # noqa: PLC0415  only a process in its own environment has it

    state_folder = folder / "quix"
    application = Application(
        broker_address=brokers,
        consumer_group=f"bench-{uuid.uuid4().hex}",
        auto_offset_reset="earliest",
        state_dir=state_folder,
        use_changelog_topics=use_changelog,
        loglevel="WARNING",
    )
    began: list[Callable[[int], Sample]] = []
    left = before + count

    def fold(event: dict[str, Any], state: Any) -> None:
        nonlocal left
        if not began and left <= count:  # joining its group took seconds, which say nothing about folding
            began.append(measure.started())
        fields = state.get(_NAME, default={})
        if events.fold(fields, event):
            state.set(_NAME, fields)
        left -= 1
        if not left:
            application.stop()

    stream = application.dataframe(application.topic(topic, value_deserializer="json"))
    stream.update(fold, stateful=True)
    measure.settle_memory()
    application.run()  # until the last event is folded; it commits before it returns
    sample = began[0](count)
    more = {"rss_mib": measure.peak_mib(), "disk_mb": measure.disk_mb(state_folder)}
    return attrs.evolve(sample, more=more if before else more | {"digest": _digest(state_folder)})


def _digest(folder: Path) -> str:
    return events.digest(item for store in folder.rglob("CURRENT") for item in _stored(store.parent))


def _stored(database: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    from rocksdict import AccessType, Options, Rdict  # noqa: PLC0415  see above

    opened = Rdict(str(database), Options(raw_mode=True), access_type=AccessType.read_only())
    for key, value in opened.items():
        document, _, name = key.partition(_SEPARATOR)
        if name == orjson.dumps(_NAME):
            yield document.decode(), events.values(orjson.loads(value))
    opened.close()
