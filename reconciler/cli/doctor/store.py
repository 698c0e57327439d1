"""What `reconciler doctor` checks of the state store."""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from reconciler.adapters import file_log, files
from reconciler.adapters.clock import SystemClock
from reconciler.cli import output, store_access
from reconciler.cli.doctor.check import FAILED, OK, WARNING, Check
from reconciler.cli.doctor.database import server_checks
from reconciler.config import Config
from reconciler.errors import StoreError
from reconciler.flows import due_feeder, reading
from reconciler.model import signing as model
from reconciler.model.document import Status
from reconciler.model.signing import Noted
from reconciler.model.standing import Replica
from reconciler.ports import Store, StoreAdmin


async def checks(config: Config, *, deep: bool) -> AsyncIterator[Check]:
    """Yield what is found of the store and its files; `deep` reads all of it."""
    try:
        admin = store_access.admin(config)
        if not await admin.exists():
            await admin.require_place()
            yield Check("store", WARNING, f"{admin.name} does not exist yet; `reconciler run` creates it")
            return
    except StoreError as error:
        yield Check("store", FAILED, str(error))
        return
    try:
        async with store_access.opened(config) as store:
            documents = sum((await store.counts()).values())
            size = await admin.size() / 1_000_000
            yield Check("store", OK, f"{admin.name}, {documents} documents, {size:.1f} MB")
            yield _signatures(config, await store.signing())
            yield await _reading(config, store)
            if (replicas := await admin.replicas()) is not None:
                yield _replicas(config, replicas)
            if (durability := await admin.durability()) is not None:
                for check in server_checks(durability):
                    yield check
            async for check in _times(config, store):
                yield check
    except (StoreError, OSError) as error:
        yield Check("store", FAILED, str(error))
    yield await _soundness(admin, deep=deep)
    yield _privacy(config, admin)
    for check in _disks(config):
        yield check


def _disks(config: Config) -> Iterator[Check]:
    from reconciler import factory

    for space in factory.spaces(config):
        said = f"{space.free / 1e9:.1f} of {space.size / 1e9:.1f} GB are free"
        low = "; when it is full, the reconciler stops: see docs/retention.md" if space.is_low else ""
        yield Check(f"disk of the {space.of}", WARNING if space.is_low else OK, said + low)


def _replicas(config: Config, found: Sequence[Replica]) -> Check:
    """Name who uses the store, and who of them gives no sign of life."""
    if not found:
        return Check("replicas", OK, "none uses the store now")
    limit_s = config.store.evict_s / 2
    said = [
        f"slot {one.slot}: {one.name or 'without a name'}"
        + (", taken for dead" if one.evicted else f", silent for {one.silent_s:.0f} s" * (one.silent_s > limit_s))
        for one in found
    ]
    troubled = any(one.evicted or one.silent_s > limit_s for one in found)
    return Check("replicas", WARNING if troubled else OK, output.plain("; ".join(said)))


async def _reading(config: Config, store: Store) -> Check:
    """Check whether the log is still read as it was."""
    from reconciler import factory

    found = reading.changes(await store.reading(), factory.decoding(config), await store.positions())
    if found:
        return Check(
            "reading", FAILED, f"the next start will refuse: {output.plain('; '.join(found))}; {reading.DECIDE}"
        )
    return Check("reading", OK, "the log is read as it was")


async def first_document(config: Config) -> str | None:
    """Return the key of the store's first document, if there is one that can be read."""
    try:
        if not await store_access.admin(config).exists():
            return None
        async with store_access.opened(config) as store:
            found = await store.list_documents(None, "", 1)
    except (StoreError, OSError):  # told by `checks`
        return None
    return found[0].key if found else None


async def _soundness(admin: StoreAdmin, *, deep: bool) -> Check:
    """Check the store for damage: quickly, as at a start, or all of it."""
    try:
        if not deep:
            return Check("store's file", OK, await admin.inspect(None))
        with output.progress("reading rows", None) as tell:
            return Check("store's file", OK, await admin.inspect(tell))
    except (StoreError, OSError) as error:
        return Check("store's file", FAILED, str(error))


def _privacy(config: Config, admin: StoreAdmin) -> Check:
    """Check whether others than the owner may read the files of store and log."""
    paths = [*admin.files]
    if config.log.kind == "file":
        log = Path(config.log.path)
        paths += [
            log,
            file_log.decisions_of(log),
            *(file_log.beside(log, what) for what in (file_log.OUTCOMES, file_log.DEAD_LETTERS)),
        ]
    if found := files.exposed(paths):
        shown = f"others may read {', '.join(found)}; to prevent that: chmod 600"
        return Check("files", WARNING, shown)
    return Check("files", OK, "only their owner may read store and file logs")


def _signatures(config: Config, noted: Noted | None) -> Check:
    """Check whether decisions and outcomes are signed, and since where; `noted` is what the store has stored of it."""
    log, keys = config.log, model.keys(config.log.signing_key, config.log.signing_key_previous)
    if keys is not None and noted is None:
        return Check("signatures", OK, f"on from the next start of `reconciler run`, with key {keys.id}")
    where = ", ".join(f"{topic}/{partition} at {since}" for topic, partition, since in noted.since) if noted else ""
    if keys is not None:
        return Check("signatures", OK, output.plain(f"on, with key {keys.id}, since {where or 'the first record'}"))
    if noted is not None:
        return Check(
            "signatures",
            WARNING,
            f"off, but they were on since {where or 'the first record'}: decisions and outcomes of now will be refused"
            " once log.signing_key is set again",
        )
    writes = f"append to {log.path}" if log.kind == "file" else "write to the topics"
    return Check(
        "signatures",
        OK,
        f"off: anyone who can {writes} can decide as an operator; see log.signing_key",
    )


async def _times(config: Config, store: Store) -> AsyncIterator[Check]:
    """Yield signs in the store that this host's clock is wrong, or was."""
    from reconciler import factory

    pace, now_us = factory.attempt_options(config).pace, SystemClock().now_us()
    longest_us = {status: pace.longest_us(status) for status in Status}
    if count := await store.count_ahead(now_us, longest_us):
        said = f"{output.counted(count, 'document')} would wait too long: this host's clock was ahead"
        yield Check("waits", WARNING, f"{said} when the waits began; `reconciler run` shortens them when it starts")
    if fault := due_feeder.contradiction(await store.last_audited_us(), now_us):
        yield Check("host's clock", WARNING, fault)
