"""
`reconciler docs`: documents and their status, and what an operator can do with them.

First the commands that read, then those that change something, then `docs refold`.
"""

import shlex
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from reconciler import views
from reconciler.adapters.clock import SystemClock
from reconciler.cli import (
    actions,
    amending,
    events,
    framework,
    log_replay,
    options,
    output,
    projections,
    runtime,
    store_access,
)
from reconciler.config import Config
from reconciler.errors import ReconcilerError, UsageError
from reconciler.model.action import CLI, UNKNOWN_DOCUMENT, ActionKind, Appended, Done
from reconciler.model.document import Status
from reconciler.model.value import Json
from reconciler.ports import authorship

if TYPE_CHECKING:
    from reconciler.core.events.signing import Required
    from reconciler.core.planning.amendments import Amended
    from reconciler.flows.actions import OperatorActions
    from reconciler.flows.refold import Origin, Result

docs = framework.family("docs", "Documents: list, show, compare, retry, pause, resume, release, rename or refold.")

_STATUS = click.Choice([status.value for status in Status])
_LIST_COLUMNS = (
    output.Column("document", "document", whole=True),
    output.Column("status", "status", whole=True),
    output.Column("due_at", "next attempt", output.when, whole=True),
    output.Column("reason", "reason", lambda reason: output.plain(reason or "")),
)
_FIELD_COLUMNS = (
    output.Column("field", "field", whole=True),
    output.Column("desired", "desired", output.of_json),
    output.Column("live", "live", output.of_json),
    output.Column("base", "base", output.of_json),
)


@docs.subcommand("list", "reconciler docs list --status held -c reconciler.toml")
@click.option(
    "--status", type=_STATUS, metavar="STATUS", default=None, help="Only documents with this status, such as held."
)
@options.limit(50)
@click.option("--after", default="", metavar="KEY", help="Start after this key.")
@options.on_store
def list_(config: Config, status: str | None, limit: int, after: str, form: str) -> None:
    """List documents in order of their keys."""
    among = Status(status) if status else None
    found = store_access.ask(config, lambda store: store.list_documents(among, after, limit))
    output.report(form, [views.documents.row(document) for document in found], _LIST_COLUMNS, "No documents.")
    if len(found) == limit and form != "json":
        output.line(f"There may be more: --after {found[-1].key}")


@docs.subcommand("show", "reconciler docs show 0000012345 -c reconciler.toml")
@click.argument("document")
@options.on_store
def show(config: Config, document: str, form: str) -> None:
    """Show one document: its status and its managed fields."""
    row = runtime.run(_one(config, document))
    if form == "json":
        output.as_json(row)
        return
    fields = [field for field in row.fields if field.managed]
    output.facts(
        [
            ("document", row.document),
            ("status", row.status + (f": {row.reason}" if row.reason and not row.paused else "")),
            *([("paused", actions.attribution(row.paused))] if row.paused else []),
            ("next attempt", f"{output.when(row.due_at)} ({row.lane})" if row.due_at else _no_look(row)),
            ("pending since", output.when(row.pending_since) if row.pending_since else "not pending"),
            ("attempts", f"{row.attempts}, of which {row.conflicts} ended in a version conflict"),
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


async def _one(config: Config, key: str) -> views.documents.Document:
    async with store_access.opened(config) as store:
        found = await store_access.find_document(store, key)
        trail = await store.audit(key, limit=views.documents.DECIDED_IN)
        return views.documents.whole(found, trail, config.policy, await authorship.paused(store, found))


def _no_look(row: views.documents.Document) -> str:
    if row.paused:
        return f"none until it is resumed: reconciler docs resume {shlex.quote(row.document)}"
    return "when it changes"


def _modified(row: views.documents.Document) -> str:
    if row.modified_at is None and row.modified_by is None:
        return "unknown"
    return f"{output.when(row.modified_at)} by {row.modified_by or 'unknown'}, when last read"


# --------------------------------------------------------------------------------------------------------------- change

_SOON = "A running reconciler picks this up within 30 s."
_STATUS_HELP = "All documents with this status, such as parked."

_Action = Callable[["OperatorActions", list[str]], Awaitable[Done]]


@docs.subcommand(
    "compare",
    "reconciler docs compare --all -c reconciler.toml",
    "reconciler docs compare 0000012345 -c reconciler.toml",
)
@click.argument("document", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="Every document.")
@actions.with_actor
@options.on_store
def compare(config: Config, document: tuple[str, ...], all_: bool, actor: str, form: str) -> None:
    """
    Compare documents with Windchill again, after all more urgent work.

    This covers synced, held and parked documents; those waiting to be retried keep waiting. Writes that result count
    towards resync.writes_max_per_window; those of `docs retry` do not.
    """
    if bool(document) is all_:
        raise UsageError("give either the keys of documents or --all")
    count = actions.run(config, lambda operator: operator.compare(actor, document or None))
    if form == "json":
        output.as_json(views.actions.Compared(documents=count))
        return
    if not count:
        output.line("Nothing to do: all documents that can be compared are due already.")
        return
    output.line(f"{output.counted(count, 'document')} will be compared. {_SOON}")
    output.line("To see how many are left: reconciler status")


@docs.subcommand(
    "retry", "reconciler docs retry 0000012345 -c reconciler.toml", "reconciler docs retry --status parked"
)
@click.argument("document", nargs=-1)
@click.option("--status", type=_STATUS, metavar="STATUS", default=None, help=_STATUS_HELP)
@actions.with_actor
@options.on_store
def retry(config: Config, document: tuple[str, ...], *, status: str | None, actor: str, form: str) -> None:
    """Attempt documents now, before all others. Paused ones are left alone."""
    done = _change(config, document, status, lambda operator, keys: operator.retry(actor, keys))
    actions.report(form, done, "due now", _SOON)


@docs.subcommand(
    "pause",
    "reconciler docs pause 0000012345 --reason 'under audit' -c reconciler.toml",
    "reconciler docs list --status paused -c reconciler.toml",
)
@click.argument("document", nargs=-1)
@click.option("--status", type=_STATUS, metavar="STATUS", default=None, help=_STATUS_HELP)
@actions.with_actor_and_reason
@options.on_store
def pause(config: Config, document: tuple[str, ...], *, status: str | None, actor: str, reason: str, form: str) -> None:
    """
    Stop reading and writing documents in Windchill until they are resumed.

    Their events are still folded. An attempt that is under way ends first. A pause is kept in the state store only: a
    rebuilt store has none.
    """
    done = _change(config, document, status, lambda operator, keys: operator.pause(actor, keys, reason))
    actions.report(form, done, "paused", "To end this: `reconciler docs resume`.")


@docs.subcommand(
    "resume", "reconciler docs resume 0000012345 -c reconciler.toml", "reconciler docs resume --status paused"
)
@click.argument("document", nargs=-1)
@click.option("--status", type=click.Choice([Status.PAUSED.value]), default=None, help="All paused documents.")
@actions.with_actor
@options.on_store
def resume(config: Config, document: tuple[str, ...], *, status: str | None, actor: str, form: str) -> None:
    """End the pause of documents; they are attempted now, before all others."""
    done = _change(config, document, status, lambda operator, keys: operator.resume(actor, keys))
    actions.report(form, done, "due now", _SOON)


@docs.subcommand(
    "release",
    "reconciler docs release 0000012345 --reason 'moved to SAP'",
    "reconciler docs release 0000012345 --field owner -c reconciler.toml",
)
@click.argument("document", nargs=-1, required=True)
@click.option("--field", "fields", multiple=True, metavar="FIELD", help="Only this field. May be repeated.")
@actions.with_actor_and_reason
@options.on_store
def release(
    config: Config, document: tuple[str, ...], *, fields: tuple[str, ...], actor: str, reason: str, form: str
) -> None:
    """
    Stop managing documents, or some of their fields. Windchill keeps its values.

    This appends an event. A newer event that sets a field makes it managed again.
    """
    released = actions.run(config, lambda operator: _released(operator, document, fields, actor, reason))
    if form == "json":
        output.as_json([views.actions.appended(one) for one in released])
        return
    what = f"{', '.join(fields)} of " if fields else ""
    for one in released:
        output.line(f"Released {what}{one.document}: appended {one.events[0]} to {events.decisions_log(config)}.")


@docs.subcommand(
    "rename",
    "reconciler docs rename ERP-4711 0000012345 -c reconciler.toml",
    "reconciler docs rename ERP-4711 0000012345 --apply",
)
@click.argument("old")
@click.argument("new")
@click.option("--apply", is_flag=True, help="Append the events; without it they are only shown.")
@actions.with_actor_and_reason
@options.on_store
def rename(config: Config, *, old: str, new: str, apply: bool, actor: str, reason: str, form: str) -> None:
    """
    Move what is desired of document OLD to NEW, for a document that got another number than its events say.

    Everything that is claimed of OLD is claimed of NEW from now on, and OLD is released. Without --apply this is only
    shown. If NEW is claimed too, both are joined, unless a field of both has different values. Later events that
    name OLD are about OLD again: let its sources use the new number.
    """
    rows, appended = runtime.run(_rename(config, old, new, apply=apply, who=actor, reason=reason))
    amending.report(form, rows, appended, nothing="Nothing to move.")


async def _rename(
    config: Config, old: str, new: str, *, apply: bool, who: str, reason: str
) -> tuple[list["Amended"], int | None]:
    async with amending.opened(config) as amends:
        both = actions.require_done(await amends.rename(who, old, new, reason))
        rows = [row for one in both for row in one.amendment.rows]
        if not apply:
            return rows, None
        details: dict[str, Json] = {"from": old, "to": new, "reason": reason}
        return rows, await amends.append(who, ActionKind.RENAME, both, details, per_minute=float("inf"))


def _change(config: Config, keys: tuple[str, ...], status: str | None, change: _Action) -> Done:
    """Change the documents that are given, or all of a status."""
    if bool(keys) is bool(status):
        raise UsageError("give either the keys of documents or --status")

    async def changed(operator: "OperatorActions") -> Done:
        if status is None:
            return await change(operator, [*keys])
        return await change(operator, [key async for key in store_access.keys(operator.store, Status(status))])

    return actions.run(config, changed)


async def _released(
    operator: "OperatorActions", keys: tuple[str, ...], fields: tuple[str, ...], actor: str, reason: str
) -> list[Appended]:
    return [actions.require_done(await operator.release(actor, key, reason, fields)) for key in dict.fromkeys(keys)]


# --------------------------------------------------------------------------------------------------------------- refold


@docs.subcommand(
    "refold",
    "reconciler docs refold 0000012345 --reason 'a clock from 2099'",
    "reconciler docs refold 0000012345 --from 2025.jsonl.zst -c r.toml",
)
@click.argument("document")
@click.option("--from", "archives", multiple=True, metavar="FILE", help="Archives of older events.")
@click.option(
    "--accept-truncation",
    is_flag=True,
    help="Go on without events that the log has lost.",
)
@actions.with_actor_and_reason
@options.reporting
@options.configured()
def refold(config: Config, document: str, form: str, **given: Any) -> None:
    """
    Fold one document again from the whole log, under the present rules, and replace its row.

    This repairs a document after an event from a clock that ran ahead. Such events, and events whose source may not set
    their field under the present rules, are left out and become dead letters. Values agreed with Windchill stay; the
    next attempt decides on what is then desired. The reconciler may keep running; it continues with the new row.
    """
    result = runtime.run(_refold(config, document, **given))
    letters = [letter.id for letter in result.refused]
    if form == "json":
        output.as_json({"document": document, "changed": result.changed, "refused": letters})
        return
    changed = f"Desired values changed: {', '.join(result.changed)}." if result.changed else "Nothing changed."
    output.line(f"Folded document {document} again. {changed}")
    for letter in result.refused:
        output.line(f"Left out: {letter.id}: {letter.reason}")


async def _refold(
    config: Config, document: str, *, archives: tuple[str, ...], accept_truncation: bool, actor: str, reason: str
) -> "Result":
    from reconciler.adapters.counters import Counters
    from reconciler.flows.refold import Refold

    projections.require_none(archives)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(store_access.opened(config))
        signed = await log_replay.required(config, store)
        refold = Refold(
            store=store,
            log=_origin(stack, config, config, signed),
            archives=[_origin(stack, config, log_replay.in_file(config, Path(one)), signed) for one in archives],
            clock=SystemClock(),
            telemetry=Counters(),
            dead_letter_topic=config.log.dead_letter_topic,
            role=CLI,
            accept_truncation=accept_truncation,
        )
        result = await refold.document(document, actor, reason)
    if result is None:
        raise ReconcilerError(UNKNOWN_DOCUMENT)
    return result


def _origin(stack: AsyncExitStack, config: Config, log: Config, signed: "Required | None") -> "Origin":
    from reconciler.flows.refold import Origin

    source = log_replay.Source(log, lambda _done, _total: None)
    stack.push_async_callback(source.close)
    return Origin(source, attrs.evolve(log_replay.decode_options(config, log), signed=signed))
