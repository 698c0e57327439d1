"""`reconciler conflicts`: fields that wait for a person, and the events that decide them."""

from typing import Any

import click

from reconciler.cli import commands, events, looking, options, output, resolution, running
from reconciler.config import Config
from reconciler.errors import ReconcilerError
from reconciler.model.document import Document
from reconciler.ports import ConflictRow, Store

conflicts = commands.family("conflicts", "List what waits for a person to decide, show it, and decide it.")

_COLUMNS = (
    output.Column("id", "id", whole=True),
    output.Column("document", "document", whole=True),
    output.Column("field", "field", whole=True),
    output.Column("base", "base", output.of_json),
    output.Column("desired", "desired", output.of_json),
    output.Column("live", "live", output.of_json),
    output.Column("opened_at", "opened", output.when),
)


@conflicts.command("list", epilog=commands.example("reconciler conflicts list -c reconciler.toml"))
@click.option("--closed", is_flag=True, help="Also those that are closed.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="How many, at most.")
@options.reporting
@options.configured(store=True)
def list_(config: Config, closed: bool, limit: int, form: str) -> None:
    """List fields that wait for a person, oldest first."""
    rows = [_row(found) for found in running.run(_list(config, closed, limit))]
    if form == "json":
        output.as_json(rows)
        return
    columns = (*_COLUMNS, output.Column("closed_at", "closed", output.when)) if closed else _COLUMNS
    output.report(form, rows, columns, "No open conflicts.")
    if any(row["closed_at"] is None for row in rows):
        print()
        output.line("Decide one: reconciler conflicts resolve ID --take desired|live|VALUE")


@conflicts.command("show", epilog=commands.example("reconciler conflicts show 3f2a -c reconciler.toml"))
@click.argument("id")
@options.reporting
@options.configured(store=True)
def show(config: Config, id: str, form: str) -> None:
    """Show one conflict; its ID may be shortened as long as only one begins so."""
    found, _ = running.run(_one(config, id))
    row = _row(found)
    if form == "json":
        output.as_json(row)
        return
    base = output.of_json(row["base"]) if row["has_base"] else "none: the document was seen for the first time"
    closed = [("closed", output.when(row["closed_at"]))] if row["closed_at"] else []
    output.facts(
        [
            ("conflict", row["id"]),
            ("document", row["document"]),
            ("field", row["field"]),
            ("desired", [output.of_json(row["desired"]), f"event {row['event']} of {row['source']}"]),
            ("live", [output.of_json(row["live"]), "what Windchill had when this was opened"]),
            ("base", [base, "what both sides last agreed on"]),
            ("why", row["reason"]),
            ("opened", output.when(row["opened_at"])),
            *closed,
        ]
    )
    if not closed:
        print()
        output.line(f"Decide it: reconciler conflicts resolve {row['id']} --take desired|live|VALUE")


@conflicts.command(
    "resolve",
    epilog=commands.example(
        "reconciler conflicts resolve 3f2a --take live --reason 'asked jdoe'",
        "reconciler conflicts resolve 3f2a --take '\"4711\"' -c reconciler.toml",
        "reconciler conflicts resolve 3f2a --take value:live -c reconciler.toml",
    ),
)
@click.argument("id")
@click.option("--take", required=True, metavar="desired|live|VALUE", help="Which value the field gets.")
@click.option("--actor", default=None, help="Who decides.  [default: you]")
@click.option("--reason", default="", help="Why; shown wherever the value is explained.")
@options.reporting
@options.configured(store=True)
def resolve(config: Config, id: str, take: str, *, actor: str | None, reason: str, form: str) -> None:
    """
    Decide a conflict, by appending an event that says so.

    A VALUE is JSON if it reads as JSON, else text; what stands after value: is always taken as VALUE, for fields that
    are to be the word "live" or "desired". If somebody has changed the field since the conflict was opened, the event
    decides nothing and the conflict opens anew.
    """
    row, said = running.run(_resolve(config, id, take, events.user() if actor is None else actor, reason))
    if form == "json":
        output.as_json(said)
        return
    conflict = row.conflict
    output.line(f"{row.document} {conflict.field}: {_decision(conflict, said)}.")
    ids = " and ".join(event["id"] for event in said)
    output.line(f"Appended {ids} to {events.log_name(config)}; the reconciler applies it when it reads it.")


async def _list(config: Config, closed: bool, limit: int) -> list[ConflictRow]:
    async with looking.store_of(config) as store:
        return await store.conflicts(closed=closed, limit=limit)


async def _one(config: Config, id: str) -> tuple[ConflictRow, Document]:
    async with looking.store_of(config) as store:
        row = await _find(store, id)
        return row, await looking.document_of(store, row.document)


async def _find(store: Store, id: str) -> ConflictRow:
    """Return the conflict of an id or of the only one that begins so; open ones go first."""
    rows = await store.conflicts(closed=True, limit=looking.EVERY)
    found = [row for row in rows if row.conflict.id.startswith(id) and row.closed_at_us is None]
    found = found or [row for row in rows if row.conflict.id.startswith(id)]
    exact = [row for row in found if row.conflict.id == id]
    if len(exact or found) != 1:
        what = f"{len(found)} conflicts have an id that begins with" if found else "there is no conflict"
        raise ReconcilerError(f"{what} {id!r}; see `reconciler conflicts list`")
    return (exact or found)[0]


async def _resolve(
    config: Config, id: str, take: str, actor: str, reason: str
) -> tuple[ConflictRow, list[dict[str, Any]]]:
    row, document = await _one(config, id)
    if row.closed_at_us is not None:
        closed = output.when(looking.at(row.closed_at_us))
        raise ReconcilerError(f"conflict {row.conflict.id} is closed since {closed}; nothing is left to decide")
    said = resolution.events_for(config, document, row.conflict, take, actor=actor, reason=reason)
    records = [events.record(event, config.log.topic) for event in said]
    events.require_usable(records, events.rules(config))
    await events.append(config, records)
    return row, said


def _decision(conflict: Any, said: list[dict[str, Any]]) -> str:
    value = said[0]["data"]["set"][conflict.field]
    return f"{output.of_json(value)} is wanted, knowing of {output.of_json(conflict.live)} in Windchill"


def _row(found: ConflictRow) -> dict[str, Any]:
    conflict = found.conflict
    return {
        "id": conflict.id,
        "document": found.document,
        "field": conflict.field,
        "base": conflict.base,
        "has_base": conflict.has_base,
        "desired": conflict.desired,
        "live": conflict.live,
        "opened_at": looking.at(conflict.opened_at_us),
        "closed_at": looking.at(found.closed_at_us),
        "reason": conflict.reason,
        "event": conflict.stamp.id,
        "source": conflict.stamp.source,
    }
