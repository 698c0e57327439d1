"""`reconciler docs` and `reconciler hotspots`: the documents, where they stand, and where people collide with us."""

import shlex

import click

from reconciler import views
from reconciler.cli import commands, looking, options, output, running
from reconciler.config import Config
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


def _share(period: views.waiting.Period) -> str:
    return f"{period.conflicts} of {period.attempts}"


_HOT_COLUMNS = (
    output.Column("document", "document", whole=True),
    output.Column("field", "field", whole=True),
    output.Column("conflicts", "conflicts", right=True),
    output.Column("attempts", "attempts", right=True),
    output.Column("rate", "rate", lambda rate: f"{rate:.0%}", right=True),
    output.Column("day", "last 24 h", _share, right=True),
    output.Column("day_before", "24 h before", _share, right=True),
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
    output.report(form, [views.documents.row(document) for document in found], _LIST_COLUMNS, "No documents.")
    if len(found) == limit and form != "json":
        output.line(f"There may be more: --after {found[-1].key}")


@docs.command("show", epilog=commands.example("reconciler docs show 0000012345 -c reconciler.toml"))
@click.argument("document")
@options.reporting
@options.configured(store=True)
def show(config: Config, document: str, form: str) -> None:
    """Show one document: where it stands, and its managed fields."""
    row = running.run(_one(config, document))
    if form == "json":
        output.as_json(row)
        return
    fields = [field for field in row.fields if field.managed]
    output.facts(
        [
            ("document", row.document),
            ("status", row.status + (f": {row.reason}" if row.reason and not row.paused else "")),
            *([("paused", looking.told(row.paused))] if row.paused else []),
            ("next look", f"{output.when(row.due_at)}, as {row.lane}" if row.due_at else _no_look(row)),
            ("pending since", output.when(row.pending_since) if row.pending_since else "not pending"),
            ("attempts", f"{row.attempts}, {row.conflicts} with a version conflict"),
            ("token", output.words(row.token)),
            ("modified", _modified(row)),
        ]
    )
    print()
    if fields:
        output.table(fields, _FIELD_COLUMNS)
        print()
        output.line(f"Where a value comes from: reconciler explain {row.document}")
    else:
        print("No managed fields.")


@commands.command("reconciler hotspots -c reconciler.toml")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many, at most.")
@options.reporting
@options.configured(store=True)
def hotspots(config: Config, limit: int, form: str) -> None:
    """List where version conflicts happen most."""
    output.report(form, running.run(_hotspots(config, limit)), _HOT_COLUMNS, "No version conflicts so far.")


async def _list(config: Config, status: Status | None, after: str, limit: int) -> list[Document]:
    async with looking.store_of(config) as store:
        return await store.list_documents(status, after, limit)


async def _one(config: Config, key: str) -> views.documents.Document:
    async with looking.store_of(config) as store:
        found = await looking.document_of(store, key)
        trail = await store.audit(key, limit=views.documents.DECIDED_IN)
        return views.documents.whole(found, trail, config.policy, await authorship.paused(store, found))


async def _hotspots(config: Config, limit: int) -> list[views.waiting.HotSpot]:
    from reconciler.adapters.clock import SystemClock

    async with looking.store_of(config) as store:
        return [views.waiting.hot_spot(spot) for spot in await store.hotspots(SystemClock().now_us(), limit)]


def _no_look(row: views.documents.Document) -> str:
    if row.paused:
        return f"none before it is resumed: reconciler docs resume {shlex.quote(row.document)}"
    return "when it changes"


def _modified(row: views.documents.Document) -> str:
    if row.modified_at is None and row.modified_by is None:
        return "not known"
    return f"{output.when(row.modified_at)} by {row.modified_by or 'somebody'}, as last read"
