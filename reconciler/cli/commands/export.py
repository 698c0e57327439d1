"""`reconciler export`: writes logs, or the folded state, to files."""

from collections.abc import Mapping
from pathlib import Path

import attrs
import click

from reconciler.adapters.clock import SystemClock
from reconciler.cli import (
    archive_lines,
    events,
    files,
    framework,
    log_replay,
    options,
    output,
    runtime,
    store_access,
)
from reconciler.config import Config
from reconciler.core.events.part import ALL
from reconciler.core.folding import projection_file
from reconciler.flows import projection as archives
from reconciler.model.stamp import Partition

export = framework.family("export", "Write logs, or the folded state, to files.")

_to = click.option("--to", required=True, type=options.TARGET, metavar="FILE", help=files.HELP)


@export.subcommand("log", "reconciler export log --to 2026-11.jsonl.zst -c reconciler.toml")
@_to
@options.configured()
def log(config: Config, to: Path) -> int:
    """
    Write the change log as JSON lines.

    One event a line, with its record's place and time, so that replaying the file gives the same state. Records that
    are not events are left out and counted on stderr; the exit code is then 3.
    """
    return _export(config, to)


@export.subcommand("outcomes", "reconciler export outcomes --to outcomes.jsonl")
@_to
@options.configured()
def outcomes(config: Config, to: Path) -> int:
    """
    Write the outcome log as JSON lines.

    Replaying the file recovers what was agreed with Windchill.
    """
    from reconciler import factory

    return _export(factory.outcome_log(config), to)


@export.subcommand(
    "projection",
    "reconciler export projection --to state.jsonl",
    "reconciler export projection --with-positions --to state.jsonl.zst -c r.toml",
)
@_to
@click.option("--with-positions", is_flag=True, help="Make it an archive that `replay` and `rebuild` can begin with.")
@options.configured(store=True)
def projection(config: Config, to: Path, with_positions: bool) -> None:
    """
    Write the folded state as JSON lines, in order of the documents' keys.

    The same events give the same bytes, whatever their order was.

    With positions, it is an archive of the projection: it also says up to where the log was read, has the dead letters,
    and ends with a digest. `replay --from FILE --then kafka` builds a store from it and from what the log has after
    these positions, so the change topic may lose what is before them. The reconciler may run meanwhile.
    """
    count = runtime.run(_archive(config, to) if with_positions else _projection(config, to))
    runtime.note(f"Wrote {output.counted(count, 'document')} to {files.name(to)}.")


@attrs.define
class _Count:
    """The result of an export."""

    written: int = 0
    skipped: int = 0
    unusable: int = 0
    begins: Mapping[Partition, int] = attrs.field(factory=dict)  # of partitions whose beginning is lost


def _export(config: Config, to: Path) -> int:
    count = runtime.run(_records(config, to))
    runtime.note(f"Wrote {output.counted(count.written, 'record')} to {files.name(to)}.")
    if count.skipped:
        runtime.warn(f"{count.skipped} left out, being no events; see `reconciler dead-letters list --status all`")
    if count.unusable:
        runtime.warn(
            f"{output.counted(count.unusable, 'record')} would be refused in a replay: too large with its place added"
            " (raise log.record_bytes_max), or written to a topic that its source may not use"
        )
    for place, begin in sorted(count.begins.items()):
        runtime.warn(
            f"{place.topic}/{place.partition} begins at offset {begin}: the log has lost what was before; keep the"
            " archive that has it"
        )
    return runtime.UNSETTLED if count.skipped or count.unusable or count.begins else runtime.DONE


async def _records(config: Config, to: Path) -> _Count:
    decode_options = attrs.evolve(events.decode_options(config), part=ALL)  # an archive has all of a log
    count = _Count()
    with output.progress("exporting", None) as tell:
        source = log_replay.Source(config, tell)
        try:
            with files.writing(to) as write:
                async for record in source.records():
                    line = archive_lines.of(record, decode_options)
                    if line is None:
                        count.skipped += 1
                        continue
                    write(line.text)
                    count.written += 1
                    count.unusable += not line.usable
            count.begins = source.begins
        finally:
            await source.close()
    return count


async def _projection(config: Config, to: Path) -> int:
    count = 0
    async with store_access.opened(config) as store:
        with files.writing(to) as write:
            async for key, desired in store.export_projection():
                write(projection_file.row(key, desired))
                count += 1
    return count


async def _archive(config: Config, to: Path) -> int:
    count = 0
    async with store_access.opened(config) as store:
        with files.writing(to) as write:
            async for line in archives.archived(store, SystemClock(), config.log.order):
                write(line)
                count += projection_file.is_row(line)
    return count
