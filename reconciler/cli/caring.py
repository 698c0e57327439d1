"""Caring: `reconciler snapshot`, `restore` and `rebuild`, and what `doctor` asks of a store."""

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from reconciler.adapters import file_log, files
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.sqlite import care, locks
from reconciler.cli import commands, exits, folding, options, output
from reconciler.cli.topics import OK, WARNING, Check
from reconciler.config import Config
from reconciler.errors import UsageError
from reconciler.flows import resync
from reconciler.model import signing as model
from reconciler.model.document import Status
from reconciler.model.signing import Noted
from reconciler.model.stamp import Partition
from reconciler.ports import Store

if TYPE_CHECKING:
    from reconciler.flows.replay import Replayed


def now() -> str:
    """Return the moment, in UTC, as names of files have it."""
    return datetime.fromtimestamp(SystemClock().now_us() / 1_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")


def shown(contents: care.Contents) -> str:
    """Return in words how much a store holds."""
    return f"{output.counted(contents.documents, 'document')}, {contents.bytes / 1_000_000:.1f} MB"


def positions(contents: care.Contents) -> str:
    """Return in words where each log goes on."""
    found = (f"{place.topic}/{place.partition} at {offset}" for place, offset in contents.positions.items())
    return output.plain(", ".join(found)) or "no log has been read yet"


def as_json(contents: care.Contents) -> dict[str, Any]:
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


def privacy(config: Config) -> Check:
    """Look whether others than their owner may read the files of store and log."""
    paths = [care.beside(locks.real(config.store.path), suffix) for suffix in ("", "-wal", "-shm", ".owner", ".writer")]
    if config.log.kind == "file":
        log = Path(config.log.path)
        paths += [
            log,
            file_log.decisions_of(log),
            *(file_log.beside(log, what) for what in (file_log.OUTCOMES, file_log.DEAD_LETTERS)),
        ]
    if found := files.exposed(paths):
        shown = f"others may read {', '.join(found)}; if nobody needs that: chmod 600"
        return Check("files", WARNING, shown)
    return Check("files", OK, "store and file logs are for their owner alone")


def signatures(config: Config, noted: Noted | None) -> Check:
    """Say whether decisions and outcomes are signed, and from where on; `noted` is what the store knows of it."""
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
            f"off, though they were on since {where or 'the first record'}: what is decided and agreed now is refused"
            " once log.signing_key is set again",
        )
    writes = f"append to {log.path}" if log.kind == "file" else "write to the topics"
    return Check("signatures", OK, f"off: whoever can {writes} can decide as an operator; see log.signing_key")


async def times(config: Config, store: Store) -> AsyncIterator[Check]:
    """Yield what in the store can only come of a clock that is wrong, or was."""
    from reconciler import parts

    pace, now_us = parts.rulebook(config).pace, SystemClock().now_us()
    longest_us = {status: pace.longest_us(status) for status in Status}
    if count := await store.count_ahead(now_us, longest_us):
        said = f"{output.counted(count, 'document')} would wait longer than anything does: this host's clock was ahead"
        yield Check("waits", WARNING, f"{said} when these waits began; `reconciler run` cuts them short when it starts")
    if fault := resync.contradiction(await store.last_audited_us(), now_us):
        yield Check("host's clock", WARNING, fault)


def lines(texts: Iterable[str]) -> None:
    """Print sentences, a line each."""
    for text in texts:
        print(output.plain(text))


# ------------------------------------------------------------------------------------------------------------ snapshot
# `reconciler snapshot`: a copy of the state store while it is in use.


@commands.command(
    "reconciler snapshot --to state-2026-11-22.db -c reconciler.toml",
    "reconciler snapshot --to latest.db --force -c reconciler.toml",
)
@click.option("--to", type=options.FILE, required=True, metavar="FILE", help="Where to.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@options.on_store
def snapshot(config: Config, to: Path, force: bool, form: str) -> None:
    """
    Copy the state store, also while a reconciler runs on it.

    The copy is the store at one moment, in one file, and checked; the file appears under its name when it is complete.
    Nobody waits for it. It is itself a store: `--store sqlite:///FILE` looks into it, `restore` puts it back.
    """
    if to.exists() and not force:
        raise UsageError(f"{to} is there already; name another file, or --force")
    if not to.parent.is_dir():
        raise UsageError(f"there is no directory {to.parent}; make it first")
    clock = SystemClock()
    began_s = clock.monotonic_s()
    with output.progress("copying pages", None) as tell:
        contents = care.snapshot(config.store.path, to, tell)
    seconds = clock.monotonic_s() - began_s
    if form == "json":
        output.as_json({"file": str(to), "seconds": seconds, **as_json(contents)})
        return
    lines(
        (
            f"{to}: {shown(contents)}, copied and checked in {seconds:.1f} s.",
            f"Logs: {positions(contents)}.",
        )
    )


# ------------------------------------------------------------------------------------------------------------- restore
# `reconciler restore`: a snapshot in the place of the state store.

_NEXT = (
    "Next: start the reconciler. Before it writes anything it folds the log from where this store stands, and takes"
    " what was agreed since from the outcome log."
)


@commands.command(
    "reconciler restore --from state-2026-11-22.db -c reconciler.toml",
    "reconciler restore --from shadow.db -c reconciler.toml",
)
@click.option("--from", "origin", type=options.FILE, required=True, metavar="FILE", help="A snapshot, or a store.")
@options.on_store
def restore(config: Config, origin: Path, form: str) -> None:
    """
    Put a snapshot, or a store that was built aside, in the place of the state store.

    Refused while a reconciler runs on the store, and if the snapshot is damaged or not ours. What was there is set
    aside as NAME.replaced-TIME, never deleted. An older snapshot is as good as a new one, as long as the logs still
    hold what came after it.
    """
    from reconciler.errors import StoreDamagedError, StoreError

    store = config.store.path
    if origin.exists() and store.exists() and origin.samefile(store):
        raise StoreError(f"{origin} is the store itself; name a snapshot")
    with care.replacing(store) as replacement, care.unowned(origin):
        before = care.glance(store)
        try:
            with output.progress("copying pages", None) as tell:
                care.copy(origin, replacement.fresh, tell)
            contents = care.examine(replacement.fresh)
        except StoreDamagedError as error:
            raise StoreError(
                f"{origin} is damaged ({error}); take another snapshot, or `reconciler rebuild`"
            ) from error
        aside = replacement.put("replaced", now())
    lost = contents.behind(before) if before else {}
    if form == "json":
        output.as_json(
            {
                "store": str(store),
                "set_aside": str(aside) if aside else None,
                "behind": behind(lost),
                **as_json(contents),
            }
        )
        return
    told = [f"{store} is {origin} now: {shown(contents)}. Logs: {positions(contents)}."]
    if aside:
        told.append(f"What was there is kept as {aside}.")
    if lost:
        places = ", ".join(f"{at.topic}/{at.partition} from {here} to {there}" for at, (here, there) in lost.items())
        told.append(f"It is older than what was there: {places} will be read again.")
    elif aside and not before:
        told.append("What was there can't be read, so nobody can say whether this is older.")
    lines((*told, _NEXT))


# -------------------------------------------------------------------------------------------------------------- rebuild
# `reconciler rebuild`: a new state store out of the logs, in the place of one that is damaged or lost.

_NOT_IN_LOGS = (
    "the audit trail, counts of hot spots, attempts and closed conflicts",
    "which dead letters were discarded or replayed: all are open, and announced, again",
    "outcomes that were not yet published, and writes whose result was not yet known: they are compared again",
)
_NEXT_REBUILT = (
    "Next: start the reconciler. It compares every document with Windchill and writes only what is not agreed."
)


@commands.command(
    "reconciler rebuild -c reconciler.toml",
    "reconciler rebuild --from 2025.jsonl.zst --from kafka -c reconciler.toml",
)
@click.option(
    "--from", "origins", multiple=True, metavar="FILE|kafka", help="Logs, in any order.  [default: the configured ones]"
)
@click.option("--accept-truncation", is_flag=True, help="Fold what is left where a log's beginning is in no archive.")
@options.reporting
@options.configured()
def rebuild(config: Config, origins: tuple[str, ...], accept_truncation: bool, form: str) -> None:
    """
    Build the state store anew from the logs: it is damaged, or lost.

    Refused while a reconciler runs on the store. What is there is set aside as NAME.damaged-TIME once the new store is
    complete; until then nothing changes, and a rebuild that was interrupted can simply be repeated. The outcome log
    gives back what was agreed with Windchill. --from takes logs as replay does.
    """
    store, clock = config.store.path, SystemClock()
    began_s = clock.monotonic_s()
    folding.require_brokers(config, origins)
    logs = origins or (folding.KAFKA if config.log.kind == "kafka" else config.log.path,)
    with care.replacing(store) as replacement:
        done = exits.run(_build(config, replacement.fresh, logs, accept_truncation))
        contents = care.examine(replacement.fresh)
        aside = replacement.put("damaged", now())
    audited = care.audit_records(aside) if aside else None
    seconds = clock.monotonic_s() - began_s
    if form == "json":
        output.as_json(
            {
                "store": str(store),
                "set_aside": str(aside) if aside else None,
                "audit_records_aside": audited,
                "records": done.records,
                "rebased": done.rebased,
                "seconds": seconds,
                **as_json(contents),
            }
        )
        return
    records, agreements = output.counted(done.records, "record"), output.counted(done.rebased, "agreement")
    lines(
        (
            f"{store} is built anew: {shown(contents)}, {agreements}, from {records} in {seconds:.1f} s.",
            f"Logs: {positions(contents)}.",
            *_of_aside(aside, audited),
            *(("Not in any log, so not in it:", *(f"  - {one}" for one in _NOT_IN_LOGS)) if aside else ()),
            _NEXT_REBUILT,
        )
    )


async def _build(config: Config, fresh: Path, origins: tuple[str, ...], accept_truncation: bool) -> "Replayed":
    from reconciler import parts

    elsewhere = attrs.evolve(config, store=attrs.evolve(config.store, url=f"sqlite:///{fresh}"))
    store = await parts.open_store(elsewhere, owner=True)
    try:
        return await folding.fold_all(
            config, origins, None, store, with_outcomes=True, accept_truncation=accept_truncation
        )
    finally:
        await store.close()


def _of_aside(aside: Path | None, audited: int | None) -> tuple[str, ...]:
    if aside is None:
        return ()
    kept = f"What was there is kept as {aside}."
    if audited is None:
        return (kept, "Its audit trail can't be read in full.")
    where = f"`reconciler audit list --store sqlite:///{aside}`"
    return (kept, f"Its audit trail can still be read ({output.counted(audited, 'record')}): {where}.")
