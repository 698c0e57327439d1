"""
Whole logs, read once from beginning to end, and folded into a store.

For replay, rebuild and refold, for `plan` before there is a store, for exports and `doctor`.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from reconciler.adapters.clock import SystemClock
from reconciler.cli import output, projections
from reconciler.cli.projections import Projection
from reconciler.config import Config
from reconciler.core.events import decode
from reconciler.core.events.signing import Required
from reconciler.errors import UsageError
from reconciler.flows import projection, reading, recovery, sealing
from reconciler.flows import replay as replaying
from reconciler.flows.ingest import Ingest
from reconciler.flows.recovery import Bases, Belief
from reconciler.flows.replay import Archives, Replayed
from reconciler.model.document import Lane
from reconciler.model.event import Outgoing, Record
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition
from reconciler.ports import EventLog, Store

KAFKA = "kafka"
_FOREVER = "9999-12-31T23:59:59.999999Z"  # no event is later, so nothing is left out, and positions stay as they are


async def required(config: Config, store: Store) -> Required | None:
    """Return what has to be signed in the configured logs, according to the store or else the outcome log."""
    from reconciler import factory

    clock, keys = SystemClock(), factory.signing_keys(config)
    if keys is None:
        return None
    return await sealing.required(store, factory.make_outcome_log(config, clock), keys, clock, lambda: False)


@asynccontextmanager
async def owned(config: Config, url: str = "") -> AsyncIterator[Store]:
    """Open the configured store, or the one of another URL, as its owner."""
    from reconciler import factory

    if url:
        config = attrs.evolve(config, store=attrs.evolve(config.store, url=url))
    store = await factory.open_store(config, owner=True)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def aside(config: Config) -> AsyncIterator[Store]:
    """Open an empty store that is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="reconciler-") as folder:
        async with owned(config, f"sqlite:///{folder}/aside.db") as store:
            yield store


def require_brokers(config: Config, origins: Sequence[str]) -> None:
    """Raise UsageError if Kafka is to be read but only a file is configured."""
    if KAFKA in origins and config.log.kind == "file" and config.log.brokers == Config().log.brokers:
        raise UsageError(f"the configured log is a file; use --from {config.log.path}")


def configured(config: Config) -> tuple[str, ...]:
    """Return what a store is rebuilt from: the configured log, after the projection archive if there is one."""
    log = KAFKA if config.log.kind == "kafka" else config.log.path
    return (config.retention.projection, log) if config.retention.projection else (log,)


async def fold_all(
    config: Config,
    origins: Sequence[str],
    until: str | None,
    store: Store,
    *,
    with_outcomes: bool,
    accept_truncation: bool = False,
) -> Replayed:
    """
    Fold logs, each to its end, into a store that we own; `until` leaves out later events and outcomes.

    Projection archives come first, the configured log is then read from their positions. Files come next: they may have
    what Kafka has deleted. Raises LogTruncatedError if none of the logs has the beginning of one, ArchiveError if
    an archive was changed.
    """
    options = decode_options(config, config)
    archives = _projections(config, options, origins, until)
    logs = [origin for origin in origins if origin not in archives]
    await reading.begin(store, options, await store.positions())
    total = Replayed(0, 0, 0)
    signed = await required(config, store)
    folding = _Folding(config, store, until, with_outcomes, Archives(accept_truncation), signed, bool(archives))
    for archive in archives.values():
        total = attrs.evolve(total, changed=total.changed + await folding.begin_with(archive))
    await folding.recall(logs)
    for origin in sorted(logs, key=lambda name: name == KAFKA):
        for done in await folding.fold(origin):
            total = Replayed(total.records + done.records, total.changed + done.changed, total.rebased + done.rebased)
    return total


def _projections(
    config: Config, options: decode.Options, origins: Sequence[str], until: str | None
) -> dict[str, Projection]:
    """Return the projection archives among the origins, by name; raises ReconcilerError if one can't be used."""
    found = {origin: projections.opened(Path(origin)) for origin in origins if origin != KAFKA}
    archives = {origin: archive for origin, archive in found.items() if archive is not None}
    for origin, archive in archives.items():
        if until is not None:
            raise UsageError(f"--until can't be used with {origin}: it has what the log said at {archive.header.made}")
        archive.require_usable(config, options)
        archive.require_whole()
    return archives


@attrs.frozen
class _Folding:
    """One replay of several logs."""

    config: Config
    store: Store
    until: str | None
    with_outcomes: bool
    archives: Archives
    signed: Required | None
    begun: bool  # with projection archives

    async def begin_with(self, archive: Projection) -> int:
        """Take over a projection archive; return how many rows changed."""
        with output.progress(f"reading {archive.path}", None):
            changed = await projection.begin_with(archive.header, archive.pieces(), self.store, SystemClock())
        self.archives.begin_with(archive.header)
        return changed

    async def recall(self, origins: Sequence[str]) -> None:
        """Take over refusals by our clock, if the configured log is among the logs to be folded."""
        from reconciler import factory

        clock = SystemClock()
        if any(self._is_ours(self._log(origin)) for origin in origins):
            letters = factory.make_letter_log(self.config, clock)
            if letters is not None:
                await recovery.recall(letters, self.store, clock, asyncio.Event())

    async def fold(self, origin: str) -> list[Replayed]:
        """Fold one log, and read the outcomes beside it."""
        log = self._log(origin)
        done = [await self._events(log)]
        if self.with_outcomes and (told := self._outcomes_of(log)) is not None:
            done.append(await self._outcomes(told))
        return done

    async def _events(self, log: Config) -> Replayed:
        from reconciler.adapters.counters import Counters

        clock = SystemClock()
        with output.progress(f"folding {_name(log)}", None) as tell:
            source = Source(log, tell)
            ingest = Ingest(
                source,
                self.store,
                clock,
                Counters(),
                options=attrs.evolve(decode_options(self.config, log), signed=self.signed),
                dead_letter_topic=log.log.dead_letter_topic,
                batch_max=replaying.BATCH,
                offer=lambda _: None,
                wake=asyncio.Event(),
                # Positions are stored for the configured log only.
                until=self.until or (None if self._is_ours(log) else _FOREVER),
            )
            ingest.lane = Lane.REPLAY
            try:
                bases = self._bases(clock, archive=is_archive(self.config, log))
                follows = self.begun and self._is_ours(log)
                return await replaying.replay(source, ingest, bases, self.archives, follows=follows)
            finally:
                await source.close()

    async def _outcomes(self, log: Config) -> Replayed:
        clock = SystemClock()
        with output.progress(f"reading {_name(log)}", None) as tell:
            source = Source(log, tell)
            try:
                return await replaying.outcomes(
                    source, self._bases(clock), clock, self.archives, keep_positions=self.until is None
                )
            finally:
                await source.close()

    def _bases(self, clock: SystemClock, *, archive: bool = False) -> Bases:
        belief = None
        if self.signed is not None:
            belief = Belief(self.signed, self.config.log.dead_letter_topic, vouched=archive)
        return Bases(self.store, clock, until=self.until, belief=belief)

    def _outcomes_of(self, log: Config) -> Config | None:
        """Return the outcome log beside the configured log, if it exists; None for other logs."""
        from reconciler import factory

        if not self._is_ours(log):
            return None
        outcomes = factory.outcome_log(log)
        return None if outcomes.log.kind == "file" and not Path(outcomes.log.path).exists() else outcomes

    def _log(self, origin: str) -> Config:
        return in_kafka(self.config) if origin == KAFKA else in_file(self.config, Path(origin))

    def _is_ours(self, log: Config) -> bool:
        return _are_same(self.config, log)


def decode_options(config: Config, log: Config) -> decode.Options:
    """Return the options that a log is decoded with: a file that is not the configured log is an archive."""
    from reconciler import factory

    return factory.decoding(log, archive=is_archive(config, log))


def is_archive(config: Config, log: Config) -> bool:
    """
    Whether a log is an archive, whose lines are trusted to name their own places.

    An archive is a file that a person gives, unless it is the configured log, or has a file of decisions beside it:
    then it is a log, or a copy of one, into which anyone may have written anything.
    """
    from reconciler.adapters import file_log

    return log.log.kind == "file" and not _are_same(config, log) and not file_log.has_decisions(Path(log.log.path))


def _are_same(config: Config, log: Config) -> bool:
    if config.log.kind != log.log.kind:
        return False
    if log.log.kind == "file":
        return Path(config.log.path).resolve() == Path(log.log.path).resolve()
    return config.log.read_topics == log.log.read_topics


def _name(config: Config) -> str:
    return config.log.path if config.log.kind == "file" else ", ".join(config.log.change_topics)


# -------------------------------------------------------------------------------------------------------------- sources


BATCH = 5_000
_FETCH_S = 1.0

Tell = Callable[[int, int | None], None]


def in_file(config: Config, path: Path) -> Config:
    """Return the configuration with a file as its log."""
    return attrs.evolve(config, log=attrs.evolve(config.log, kind="file", path=str(path)))


def in_kafka(config: Config) -> Config:
    """Return the configuration with Kafka as its log."""
    return attrs.evolve(config, log=attrs.evolve(config.log, kind="kafka"))


class Source:
    """
    The configured log, read to its end once, with progress told to a bar. Satisfies `ports.EventLog`.

    It starts at the present beginning of the log; callers ask `positions` whether that is early enough.
    """

    def __init__(self, config: Config, tell: Tell) -> None:
        from reconciler import factory

        self._log: EventLog = factory.make_log(config, SystemClock(), grows=False)
        self._tell = tell
        self.begins: dict[Partition, int] = {}  # partitions whose beginning is lost, once `records` has started
        self._begins = 0
        self._total: int | None = None
        self._read = 0

    async def open(
        self,
        positions: Mapping[Partition, int],
        *,
        accept_truncation: bool = False,
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        """See `ports.EventLog`."""
        await self._log.open(positions, accept_truncation=accept_truncation, anchors=anchors)
        self._begins = sum((await self._log.positions()).values())

    async def fetch(self, records_max: int, timeout_s: float) -> Sequence[Record]:
        """See `ports.EventLog`."""
        records = await self._log.fetch(records_max, timeout_s)
        self._read += len(records)
        self._tell(self._read, self._total)
        return records

    async def positions(self) -> Mapping[Partition, int]:
        """See `ports.EventLog`."""
        return await self._log.positions()

    async def ends(self) -> Mapping[Partition, int]:
        """See `ports.EventLog`."""
        ends = await self._log.ends()
        self._total = sum(ends.values()) - self._begins
        return ends

    async def append(self, records: Sequence[Outgoing]) -> Mapping[Partition, int]:
        """See `ports.EventLog`."""
        return await self._log.append(records)

    async def close(self) -> None:
        """See `ports.EventLog`."""
        await self._log.close()

    async def records(self) -> AsyncIterator[Record]:
        """Yield every record up to the present end of the log."""
        await self.open({}, accept_truncation=True)
        self.begins = {place: begin for place, begin in (await self.positions()).items() if begin}
        ends = dict(await self.ends())
        while True:
            batch = await self.fetch(BATCH, _FETCH_S)
            for record in batch:
                if record.offset < ends.get(Partition(record.topic, record.partition), 0):
                    yield record
            if not batch:
                reached = await self.positions()  # past gaps that hold no record
                if all(reached.get(place, 0) >= end for place, end in ends.items()):
                    return
