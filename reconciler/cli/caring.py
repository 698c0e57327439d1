"""Caring: `reconciler snapshot` and `restore`, and what they share with others that look after a store."""

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from reconciler.adapters import file_log, private_file
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.sqlite import care, locks
from reconciler.cli import commands, options, output
from reconciler.cli.topics import OK, WARNING, Check
from reconciler.config import Config
from reconciler.errors import UsageError
from reconciler.flows import resync
from reconciler.model import signing as model
from reconciler.model.document import Status
from reconciler.model.signing import Noted
from reconciler.model.stamp import Partition
from reconciler.ports import Store


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
    files = [care.beside(locks.real(config.store.path), suffix) for suffix in ("", "-wal", "-shm", ".owner", ".writer")]
    if config.log.kind == "file":
        log = Path(config.log.path)
        files += [
            log,
            file_log.decisions_of(log),
            *(file_log.beside(log, what) for what in (file_log.OUTCOMES, file_log.DEAD_LETTERS)),
        ]
    if found := private_file.exposed(files):
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
@options.reporting
@options.configured(store=True)
def snapshot(config: Config, to: Path, force: bool, form: str) -> None:
    """
    Copy the state store, also while a reconciler runs on it.

    The copy is the store at one moment, in one file, and checked; the file appears under its name when it is complete.
    Nobody waits for it. It is itself a store: `--store sqlite:///FILE` looks into it, `restore` puts it back.
    """
    from reconciler.adapters.clock import SystemClock
    from reconciler.adapters.sqlite import care

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
@options.reporting
@options.configured(store=True)
def restore(config: Config, origin: Path, form: str) -> None:
    """
    Put a snapshot, or a store that was built aside, in the place of the state store.

    Refused while a reconciler runs on the store, and if the snapshot is damaged or not ours. What was there is set
    aside as NAME.replaced-TIME, never deleted. An older snapshot is as good as a new one, as long as the logs still
    hold what came after it.
    """
    from reconciler.adapters.sqlite import care
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
