"""
What `reconciler doctor` says of a topic that loses records.

Of a change topic, an archive of the projection may have what is lost (`retention.projection`).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from reconciler.cli import projections
from reconciler.cli.doctor.check import FAILED, OK, WARNING, Check
from reconciler.cli.projections import Projection
from reconciler.config import Config
from reconciler.core.events import decode
from reconciler.errors import ReconcilerError
from reconciler.model import instant
from reconciler.model.stamp import Partition

if TYPE_CHECKING:
    from reconciler.adapters.kafka_topic import Retention

_MAKE = "`reconciler export projection --with-positions`"


@attrs.frozen
class Topic:
    """A topic, and where each of its partitions begins now."""

    name: str
    begins: Mapping[Partition, int]
    retention: "Retention | None"


def archive_of(config: Config, options: decode.Options) -> tuple[Projection | None, Check | None]:
    """Read the configured archive of the projection; return it if it can be used, and what is found of it."""
    name = config.retention.projection
    if not name:
        return None, None
    try:
        found = projections.opened(Path(name))
        if found is None:
            return None, Check("projection archive", FAILED, f"{name} is none; make one: {_MAKE}")
        found.require_usable(config, options)
        found.require_whole()
    except ReconcilerError as error:
        return None, Check("projection archive", FAILED, str(error))
    return found, Check("projection archive", OK, f"{name}, made at {found.header.made}, is whole")


def check(name: str, topic: Topic, archive: Projection | None, now_us: int) -> Check:
    """Say whether everything that a rebuild needs is kept, by the topic or by the archive of the projection."""
    title, kept = f"retention of the {name}", topic.retention
    if kept is None:
        said = "the broker does not say how long it keeps records; make sure that it keeps all"
        return Check(title, WARNING, f"{topic.name}: {said}")
    if not kept.losses:
        return Check(title, OK, f"{topic.name}: everything is kept")
    losses = f"{topic.name}: {' and '.join(kept.losses)}"
    if archive is None or kept.compacts:
        said = "let it keep everything, or archive it in time with `reconciler export`"
        return Check(title, WARNING, f"{losses}; {said}")
    if lost := ", ".join(_lost(topic, archive)):
        said = f"{lost} are neither in the topic nor in {archive.path}: make a new one while the store has them, by"
        return Check(title, FAILED, f"{losses}; {said} {_MAKE}")
    age_ms = now_us // 1000 - instant.to_us(archive.header.made) // 1000
    if kept.expires and age_ms > kept.time_ms / 2:
        said = f"{archive.path} has what was before {archive.header.made}; make a new one soon, by {_MAKE}"
        return Check(title, WARNING, f"{losses}; {said}")
    return Check(title, OK, f"{losses}; {archive.path} has what was before {archive.header.made}")


def _lost(topic: Topic, archive: Projection) -> Iterator[str]:
    for place, begin in sorted(topic.begins.items()):
        reached = archive.header.places.get(place, 0)
        if reached < begin:
            yield f"offsets {reached} to {begin - 1} of {place.topic}/{place.partition}"
