"""Folding: logs into a store, the configured one or one aside that is gone afterwards."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from reconciler.adapters.clock import SystemClock
from reconciler.cli import output, sources
from reconciler.config import Config
from reconciler.flows import replay as replaying
from reconciler.flows.ingest import Ingest
from reconciler.flows.replay import Replayed
from reconciler.model.document import Lane
from reconciler.ports import Store

KAFKA = "kafka"
_FOREVER = "9999-12-31T23:59:59.999999Z"  # no event is later, so nothing is left out, and positions stay as they are


@asynccontextmanager
async def aside(config: Config) -> AsyncIterator[Store]:
    """Open an empty store that is gone afterwards."""
    from reconciler import app

    with tempfile.TemporaryDirectory(prefix="reconciler-") as folder:
        elsewhere = attrs.evolve(config, store=attrs.evolve(config.store, url=f"sqlite:///{folder}/aside.db"))
        store = await app.open_store(elsewhere, owner=True)
        try:
            yield store
        finally:
            await store.close()


async def fold_all(
    config: Config, origins: Sequence[str], until: str | None, store: Store, *, with_outcomes: bool
) -> Replayed:
    """Fold logs, each to its end, into a store that we own; `until` leaves out later events."""
    total = Replayed(0, 0, 0)
    for origin in origins:
        if origin != KAFKA:
            logs = [sources.in_file(config, Path(origin))]
        else:
            logs = [sources.in_kafka(config)]
            if with_outcomes and until is None:  # what was agreed later says nothing about a time before
                logs.append(sources.outcomes(logs[0]))
        for log in logs:
            done = await _fold(config, log, until, store)
            total = Replayed(total.records + done.records, total.changed + done.changed, total.rebased + done.rebased)
    return total


async def _fold(config: Config, log: Config, until: str | None, store: Store) -> Replayed:
    from reconciler import app
    from reconciler.adapters.counters import Counters

    name = log.log.path if log.log.kind == "file" else log.log.topic
    with output.progress(f"folding {name}", None) as tell:
        source = sources.Source(log, tell)
        ingest = Ingest(
            source,
            store,
            SystemClock(),
            Counters(),
            rules=app.decoding(log),
            dead_letter_topic=log.log.dead_letter_topic,
            batch_max=replaying.BATCH,
            offer=lambda _: None,
            wake=asyncio.Event(),
            # Where the reconciler goes on is kept for its own log only.
            until=until or (None if _is_the_log(config, log) else _FOREVER),
        )
        ingest.lane = Lane.REPLAY
        try:
            return await replaying.replay(source, ingest, store, lambda _: None)
        finally:
            await source.close()


def _is_the_log(config: Config, log: Config) -> bool:
    if config.log.kind != log.log.kind:
        return False
    if log.log.kind == "file":
        return Path(config.log.path).resolve() == Path(log.log.path).resolve()
    return config.log.topic == log.log.topic
