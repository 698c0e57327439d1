"""
`reconciler docs` and `reconciler hotspots`: the documents, where they stand, and where people collide with us.

Reading first, then what can be done with documents, then folding one again.
"""

import shlex
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from reconciler import views
from reconciler.cli import actions, events, framework, log_replay, options, output, runtime, store_access
from reconciler.cli.actions import Session
from reconciler.config import Config
from reconciler.errors import ReconcilerError, UsageError
from reconciler.model.action import CLI, UNKNOWN_DOCUMENT, Appended, Done
from reconciler.model.document import Status
from reconciler.ports import authorship

if TYPE_CHECKING:
    from reconciler.core.events.signing import Required
    from reconciler.flows.refold import Origin, Result

docs = framework.family("docs", "List documents, show one, or say what is to become of some.")

_STATUS = click.Choice([status.value for status in Status])
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


@docs.subcommand("list", "reconciler docs list --status held -c reconciler.toml")
@click.option("--status", type=_STATUS, default=None, help="Only documents that stand there.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many, at most.")
@click.option("--after", default="", metavar="KEY", help="Go on after this key.")
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
    """Show one document: where it stands, and its managed fields."""
    row = runtime.run(_one(config, document))
    if form == "json":
        output.as_json(row)
        return
    fields = [field for field in row.fields if field.managed]
    output.facts(
        [
            ("document", row.document),
            ("status", row.status + (f": {row.reason}" if row.reason and not row.paused else "")),
            *([("paused", store_access.told(row.paused))] if row.paused else []),
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


async def _one(config: Config, key: str) -> views.documents.Document:
    async with store_access.opened(config) as store:
        found = await store_access.find_document(store, key)
        trail = await store.audit(key, limit=views.documents.DECIDED_IN)
        return views.documents.whole(found, trail, config.policy, await authorship.paused(store, found))


def _no_look(row: views.documents.Document) -> str:
    if row.paused:
        return f"none before it is resumed: reconciler docs resume {shlex.quote(row.document)}"
    return "when it changes"


def _modified(row: views.documents.Document) -> str:
    if row.modified_at is None and row.modified_by is None:
        return "not known"
    return f"{output.when(row.modified_at)} by {row.modified_by or 'somebody'}, as last read"


# ---------------------------------------------------------------------------------------------------------------- doing

_SOON = "A running reconciler notices within half a minute."

_Call = Callable[[Session, list[str]], Coroutine[Any, Any, Done]]


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
    Have documents compared with Windchill again, after whatever is more urgent.

    Those that are synced, held or parked: what waits after trouble goes on waiting. What such a comparison writes
    counts towards resync.writes_max_per_window, unlike what `docs retry` asks for.
    """
    if bool(document) is all_:
        raise UsageError("give either the keys of documents or --all")
    count = actions.do(config, lambda session: session.actions.compare(actor, document or None))
    if form == "json":
        output.as_json(views.actions.Compared(documents=count))
        return
    are = "document is" if count == 1 else "documents are"
    output.line(f"{count} {are} due for a comparison. A running reconciler notices within half a minute.")
    output.line("How many are left: reconciler status")


@docs.subcommand(
    "retry", "reconciler docs retry 0000012345 -c reconciler.toml", "reconciler docs retry --status parked"
)
@click.argument("document", nargs=-1)
@click.option("--status", type=_STATUS, default=None, help="All documents that stand there.")
@actions.with_actor
@options.on_store
def retry(config: Config, document: tuple[str, ...], *, status: str | None, actor: str, form: str) -> None:
    """Have documents looked at now, before all others; paused ones are left."""
    done = runtime.run(_steered(config, document, status, lambda session, keys: session.actions.retry(actor, keys)))
    actions.report(form, done, "due now", _SOON)
    if form != "json" and not done.done and not done.left:
        output.line(f"No document is {status}.")


@docs.subcommand(
    "pause",
    "reconciler docs pause 0000012345 --reason 'under audit' -c reconciler.toml",
    "reconciler docs list --status paused -c reconciler.toml",
)
@click.argument("document", nargs=-1)
@click.option("--status", type=_STATUS, default=None, help="All documents that stand there.")
@actions.with_actor_and_reason
@options.on_store
def pause(config: Config, document: tuple[str, ...], *, status: str | None, actor: str, reason: str, form: str) -> None:
    """
    Neither read nor write documents in Windchill until they are resumed.

    What the log says of them is folded all the same, and what is under way is ended first. The store alone knows of a
    pause: one that is lost and rebuilt has forgotten it.
    """
    done = runtime.run(
        _steered(config, document, status, lambda session, keys: session.actions.pause(actor, keys, reason))
    )
    actions.report(form, done, "paused", "End it with `reconciler docs resume`.")


@docs.subcommand(
    "resume", "reconciler docs resume 0000012345 -c reconciler.toml", "reconciler docs resume --status paused"
)
@click.argument("document", nargs=-1)
@click.option("--status", type=click.Choice([Status.PAUSED.value]), default=None, help="All that are paused.")
@actions.with_actor
@options.on_store
def resume(config: Config, document: tuple[str, ...], *, status: str | None, actor: str, form: str) -> None:
    """End the pause of documents: they are looked at now, before all others."""
    done = runtime.run(_steered(config, document, status, lambda session, keys: session.actions.resume(actor, keys)))
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
    Stop managing documents, or fields of them, by an event that says so; Windchill keeps what it has.

    A newer event that sets a field manages it again.
    """
    released = runtime.run(_released(config, document, fields, actor, reason))
    if form == "json":
        output.as_json([views.actions.appended(one) for one in released])
        return
    what = f"{', '.join(fields)} of " if fields else ""
    for one in released:
        output.line(f"Released {what}{one.document}: appended {one.events[0]} to {events.decisions_log(config)}.")


async def _steered(config: Config, document: tuple[str, ...], status: str | None, call: _Call) -> Done:
    if bool(document) is bool(status):
        raise UsageError("give either the keys of documents or --status")
    async with actions.session(config) as session:
        keys = (
            [*document] if status is None else [key async for key in store_access.keys(session.store, Status(status))]
        )
        return await call(session, keys)


async def _released(
    config: Config, keys: tuple[str, ...], fields: tuple[str, ...], actor: str, reason: str
) -> list[Appended]:
    async with actions.session(config) as session:
        return [
            actions.require_done(await session.actions.release(actor, key, reason, fields))
            for key in dict.fromkeys(keys)
        ]


# -------------------------------------------------------------------------------------------------------- folding again


@docs.subcommand(
    "refold",
    "reconciler docs refold 0000012345 --reason 'a clock from 2099'",
    "reconciler docs refold 0000012345 --from 2025.jsonl.zst -c r.toml",
)
@click.argument("document")
@click.option("--from", "archives", multiple=True, metavar="FILE", help="Archives of what the log no longer holds.")
@click.option("--accept-truncation", is_flag=True, help="Do without events of the document that are in none of them.")
@actions.with_actor_and_reason
@options.reporting
@options.configured()
def refold(config: Config, document: str, form: str, **given: Any) -> None:
    """
    Fold one document again, from all of the log, under today's rules, and replace its row by that.

    It repairs a document that took a claim, or a release, from a clock that ran ahead: such events, and those whose
    source may not set a field today, are left out and become dead letters. What was agreed on them keeps its value, and
    the next attempt decides on what is wanted then. A reconciler may be at work meanwhile; it goes on with the new row.
    """
    result = runtime.run(_refold(config, document, **given))
    letters = [letter.id for letter in result.refused]
    if form == "json":
        output.as_json({"document": document, "changed": result.changed, "refused": letters})
        return
    changed = (
        f"The log now wants other values of {', '.join(result.changed)}." if result.changed else "Nothing changed."
    )
    output.line(f"Folded document {document} again. {changed}")
    for letter in result.refused:
        output.line(f"Left out: {letter.id}: {letter.reason}")


async def _refold(
    config: Config, document: str, *, archives: tuple[str, ...], accept_truncation: bool, actor: str, reason: str
) -> "Result":
    from reconciler.adapters.clock import SystemClock
    from reconciler.adapters.counters import Counters
    from reconciler.flows.refold import Refold

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
