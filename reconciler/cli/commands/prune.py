"""`reconciler prune`: archives what is old, and deletes it from the store."""

from collections import Counter
from pathlib import Path
from typing import Any

import click

from reconciler.adapters.clock import SystemClock
from reconciler.cli import actions, archives, framework, options, output, runtime, store_access
from reconciler.config import Config
from reconciler.errors import UsageError
from reconciler.model import chain
from reconciler.model.action import CLI

_COLUMNS = (
    output.Column("kind", "what", whole=True),
    output.Column("count", "rows", whole=True, right=True),
    output.Column("file", "archive", whole=True),
)


@framework.command(
    "reconciler prune --older-than 30d --archive /archive --dry-run",
    "reconciler prune --older-than 30d --archive /archive -c reconciler.toml",
)
@click.option("--older-than", "until_us", type=options.Moment(), required=True, help="An age, such as 30d, or a time.")
@click.option("--archive", type=options.FOLDER, metavar="DIR", help="Where archives go.  [default: retention.archive]")
@click.option("--dry-run", is_flag=True, help="Only say what would be archived and deleted.")
@actions.with_actor_and_reason
@options.on_store
def prune(config: Config, until_us: int, archive: Path | None, dry_run: bool, **said: Any) -> None:
    """
    Archive what is old, and delete it from the store, even while a reconciler runs on it.

    Of the audit trail, closed conflicts and settled dead letters, whatever is older goes to files in DIR, piece by
    piece: a file is read back and checked before its piece is deleted. The newest record of a chain stays, and so does
    all that is open. If it is interrupted, nothing is lost: do it again.

    `audit verify` goes on from where the trail was cut, and with --archive DIR verifies the archives as well.
    """
    if archive is None and not config.retention.archive:
        raise UsageError("give --archive DIR, or set retention.archive")
    archive = archive or Path(config.retention.archive)
    archives.require_folder(archive)
    if dry_run:
        rows = [{"kind": kind, "count": count} for kind, count in runtime.run(_old(config, until_us)).items()]
        output.report(said["form"], rows, _COLUMNS[:2], "Nothing is that old.")
    else:
        rows = runtime.run(_prune(config, until_us, archive, said["actor"], said["reason"]))
        output.report(said["form"], rows, _COLUMNS, "Nothing is that old.")


async def _old(config: Config, until_us: int) -> Counter[str]:
    from reconciler.flows import retention

    count: Counter[str] = Counter()
    async with store_access.opened(config) as store:
        for head in await store.audit_heads():
            begin = await retention.beginning(store, head.chain)
            name = "checkpoints" if head.chain == chain.CHECKPOINTS else "audit"
            async for _ in retention.old_entries(store, begin, head, until_us):
                count[name] += 1
        async for _ in retention.old_conflicts(store, until_us, None):
            count["conflicts"] += 1
        async for _ in retention.old_letters(store, until_us):
            count["dead_letters"] += 1
    return count


async def _prune(config: Config, until_us: int, folder: Path, who: str, reason: str) -> list[dict[str, Any]]:
    from reconciler.adapters.archive import FileArchive
    from reconciler.flows import retention

    rows: list[dict[str, Any]] = []
    count = 0
    with output.progress("archiving", None) as tell:
        async with store_access.opened(config) as store:
            known: dict[str, Any] = {"archive": FileArchive(folder), "clock": SystemClock(), "who": who, "role": CLI}
            pruner = retention.Pruner(store=store, reason=reason, **known)
            async for piece in pruner.run(retention.Limits(until_us, until_us, until_us)):
                rows.append({"kind": piece.kind, "count": piece.count, "file": piece.file})
                count += piece.count
                tell(count, None)
    return rows
