"""
Reading: by what the log is read, that is, which part of it is ours and what records of another shape mean.

Rules:
1. A record is read once, and keeps what it said then. So a store never mixes two readings of a topic without a word:
   the first start notes by what it reads, in the store, and a later start by anything else is refused.
2. Then a person decides: fold everything again (`rebuild`), or go on from here (`--accept-sources`).
3. Only topics that were read count. New entries of a table change nothing: records that needed one were refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from reconciler.core.events import decode, mapping
from reconciler.errors import ReadingChangedError
from reconciler.model.stamp import Partition
from reconciler.model.value import canonical
from reconciler.ports import Store

DECIDE = (
    "what was read before keeps what it said. Fold everything again (stop the reconciler, `reconciler rebuild -c"
    " FILE`), or go on from here (once: `reconciler run --accept-sources -c FILE`)"
)


async def begin(
    store: Store, options: decode.Options, positions: Mapping[Partition, int], *, accept: bool = False
) -> None:
    """
    Note by what the log is read from now on. Raises ReadingChangedError if topics were read by anything else.

    `accept` is a person's decision to go on all the same.
    """
    noted = await store.reading()
    differences = changes(noted, options, positions)
    if differences and not accept:
        raise ReadingChangedError(f"{'; '.join(differences)}: {DECIDE}")
    fresh = canonical(_described(options, _known(noted))).encode()
    if fresh != noted:
        await store.note_reading(fresh)


def changes(noted: bytes, options: decode.Options, positions: Mapping[Partition, int]) -> list[str]:
    """Return what is different from what a store has noted, and matters to topics that were read."""
    before, now = _known(noted), _described(options, {})
    read = {place.topic for place, offset in positions.items() if offset} & set(options.topics.names)
    found = [
        one
        for topic in sorted(read)
        for one in _of_topic(topic, before.get("topics", {}).get(topic, ()), now["topics"].get(topic, ()))
    ]
    if read:
        names = ("subjects", "sources")
        found += [f"log.{name} has changed" for name in names if list(before.get(name, ())) != list(now[name])]
    return found


def _described(options: decode.Options, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a store notes; topics that are not read any more keep what was noted of them."""
    now = {
        topic: [{"name": one.name, **one.written} for one in options.sources.get(topic, ())]
        for topic in options.topics.names
    }
    part = options.part
    return {"topics": {**before.get("topics", {}), **now}, "subjects": part.subjects, "sources": part.sources}


def _known(noted: bytes) -> dict[str, Any]:
    return msgspec.json.decode(noted, type=dict[str, Any]) if noted else {}


def _of_topic(topic: str, before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    was, names = [one["name"] for one in before], [one["name"] for one in now]
    if was != names:
        yield (f"{topic} was read with {_sources(was)}, and is to be read with {_sources(names)}")
        return
    for one, other in zip(before, now, strict=True):
        change = mapping.changed(one, other)
        if change is not None:
            yield f"[[source]] {other['name']} has changed since {topic} was read: {change}"


def _sources(names: Sequence[str]) -> str:
    return f"[[source]] {', '.join(names)}" if names else "no [[source]]"
