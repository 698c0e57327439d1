"""`reconciler docs` and `reconciler hotspots`: the documents, where they stand, and where people collide with us."""

import shlex
from typing import Any

import click

from reconciler.cli import acts, commands, looking, options, output, running
from reconciler.config import Config
from reconciler.core import fold
from reconciler.core import hotspots as rates
from reconciler.model.act import Act
from reconciler.model.document import Document, Status
from reconciler.ports import authorship

docs = commands.family("docs", "List documents, show one, or say what is to become of some.")

STATUS = click.Choice([status.value for status in Status])
_LIST_COLUMNS = (
    output.Column("document", "document", whole=True),
    output.Column("status", "status", whole=True),
    output.Column("due_at", "next look", output.when, whole=True),
    output.Column("reason", "reason", lambda reason: output.plain(reason or "")),
)
_FIELD_COLUMNS = (
    output.Column("field", "field", whole=True),
    output.Column("desired", "desired", output.of_json),
    output.Column("live", "live", output.of_json),
    output.Column("base", "base", output.of_json),
)
_HOT_COLUMNS = (
    output.Column("kind", "kind", whole=True),
    output.Column("name", "name", whole=True),
    output.Column("conflicts", "conflicts", right=True),
    output.Column("attempts", "attempts", right=True),
    output.Column("rate", "rate", lambda rate: f"{rate:.0%}", right=True),
    output.Column("day", "last 24 h", lambda day: f"{day['conflicts']} of {day['attempts']}", right=True),
    output.Column("day_before", "24 h before", lambda day: f"{day['conflicts']} of {day['attempts']}", right=True),
    output.Column("trend", "trend"),
)


@docs.command("list", epilog=commands.example("reconciler docs list --status held -c reconciler.toml"))
@click.option("--status", type=STATUS, default=None, help="Only documents that stand there.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many, at most.")
@click.option("--after", default="", metavar="KEY", help="Go on after this key.")
@options.reporting
@options.configured(store=True)
def list_(config: Config, status: str | None, limit: int, after: str, form: str) -> None:
    """List documents in order of their keys."""
    found = running.run(_list(config, Status(status) if status else None, after, limit))
    output.report(form, [_row(document) for document in found], _LIST_COLUMNS, "No documents.")
    if len(found) == limit and form != "json":
        output.line(f"There may be more: --after {found[-1].key}")


@docs.command("show", epilog=commands.example("reconciler docs show 0000012345 -c reconciler.toml"))
@click.argument("document")
@options.reporting
@options.configured(store=True)
def show(config: Config, document: str, form: str) -> None:
    """Show one document: where it stands, and its managed fields."""
    found, paused = running.run(_one(config, document))
    row = _row(found) | {"paused": acts.by(paused)}
    fields = _fields(found)
    if form == "json":
        output.as_json(row | {"fields": fields})
        return
    output.facts(
        [
            ("document", found.key),
            ("status", found.status.value + (f": {found.reason}" if found.reason and not paused else "")),
            *([("paused", acts.told(paused))] if paused else []),
            ("next look", f"{output.when(row['due_at'])}, as {row['lane']}" if row["due_at"] else _no_look(found)),
            ("pending since", output.when(row["pending_since"]) if row["pending_since"] else "not pending"),
            ("attempts", f"{found.attempts}, {found.conflicts} with a version conflict"),
            ("token", output.words(row["token"])),
            ("modified", _modified(row)),
        ]
    )
    print()
    if fields:
        output.table(fields, _FIELD_COLUMNS)
        print()
        output.line(f"Where a value comes from: reconciler explain {found.key}")
    else:
        print("No managed fields.")


@commands.command("reconciler hotspots -c reconciler.toml")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many, at most.")
@options.reporting
@options.configured(store=True)
def hotspots(config: Config, limit: int, form: str) -> None:
    """List where version conflicts happen most."""
    rows = running.run(_hotspots(config, limit))
    if form == "json":
        output.as_json(
            [
                {row["kind"]: row["name"]} | {name: row[name] for name in row if name not in ("kind", "name")}
                for row in rows
            ]
        )
        return
    output.report(form, rows, _HOT_COLUMNS, "No version conflicts so far.")


async def _list(config: Config, status: Status | None, after: str, limit: int) -> list[Document]:
    async with looking.store_of(config) as store:
        return await store.list_documents(status, after, limit)


async def _one(config: Config, key: str) -> tuple[Document, Act | None]:
    async with looking.store_of(config) as store:
        found = await looking.document_of(store, key)
        return found, await authorship.paused(store, found)


async def _hotspots(config: Config, limit: int) -> list[dict[str, Any]]:
    from reconciler.adapters.clock import SystemClock

    async with looking.store_of(config) as store:
        return [
            {
                "kind": spot.kind,
                "name": spot.name,
                "conflicts": spot.conflicts,
                "attempts": spot.attempts,
                "rate": rates.rate(spot.conflicts, spot.attempts),
                "day": _period(spot.day_conflicts, spot.day_attempts),
                "day_before": _period(spot.before_conflicts, spot.before_attempts),
                "hours": rates.by_hour(spot),
                "trend": rates.trend(spot),
            }
            for spot in await store.hotspots(SystemClock().now_us(), limit)
        ]


def _period(conflicts: int, attempts: int) -> dict[str, Any]:
    return {"conflicts": conflicts, "attempts": attempts, "rate": rates.rate(conflicts, attempts)}


def _row(document: Document) -> dict[str, Any]:
    snapshot = document.agreement.snapshot
    return {
        "document": document.key,
        "status": document.status.value,
        "reason": document.reason or None,
        "lane": document.lane.name.lower(),
        "due_at": looking.at(document.due_us),
        "pending_since": looking.at(document.pending_since_us),
        "attempts": document.attempts,
        "conflicts": document.conflicts,
        "token": None if snapshot is None else snapshot.token,
        "modified_at": None if snapshot is None else snapshot.modified_at,
        "modified_by": None if snapshot is None else snapshot.modified_by,
    }


def _no_look(document: Document) -> str:
    if document.status is Status.PAUSED:
        return f"none before it is resumed: reconciler docs resume {shlex.quote(document.key)}"
    return "when it changes"


def _modified(row: dict[str, Any]) -> str:
    if row["modified_at"] is None and row["modified_by"] is None:
        return "not known"
    return f"{output.when(row['modified_at'])} by {row['modified_by'] or 'somebody'}, as last read"


def _fields(document: Document) -> list[dict[str, Any]]:
    return [looking.shown(document, name) for name in sorted(fold.managed(document.desired))]
