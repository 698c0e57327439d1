"""`reconciler conflicts`: fields that wait for a person, and the events that decide them."""

import shlex
from collections.abc import Callable
from typing import Any

import click

from reconciler import views
from reconciler.cli import actions, events, framework, options, output, runtime, store_access
from reconciler.config import Config
from reconciler.core.planning import resolution
from reconciler.core.planning.conflicts import settling
from reconciler.errors import ReconcilerError, UsageError
from reconciler.model.action import RESOLVED_DEFAULT, RESOLVED_MAX, SIDES, Other, Resolved, ResolvedMany, Side, Take
from reconciler.model.document import ConflictRow, Document
from reconciler.ports import Store

conflicts = framework.family("conflicts", "List what waits for a person to decide, show it, and decide it.")

_COLUMNS = (
    output.Column("id", "id", whole=True),
    output.Column("document", "document", whole=True),
    output.Column("field", "field", whole=True),
    output.Column("base", "base", output.of_json),
    output.Column("desired", "desired", output.of_json),
    output.Column("live", "live", output.of_json),
    output.Column("opened_at", "opened", output.when),
)


def _deciding(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command decide one conflict, or all of a field or a rule, and say who does it."""
    limits = click.IntRange(1, RESOLVED_MAX)
    for option in reversed(
        (
            click.argument("id", required=False),
            click.option("--field", default=None, help="In place of ID: all open conflicts on this field."),
            click.option("--rule", default=None, help="In place of ID: all of this rule, as `policy show` names it."),
            click.option(
                "--limit", type=limits, default=RESOLVED_DEFAULT, show_default=True, help="How many at once, at most."
            ),
            actions.with_actor_and_reason,
            options.on_store,
        )
    ):
        command = option(command)
    return command


@conflicts.subcommand("list", "reconciler conflicts list -c reconciler.toml")
@click.option("--closed", is_flag=True, help="Also those that are closed.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="How many, at most.")
@options.on_store
def list_(config: Config, closed: bool, limit: int, form: str) -> None:
    """List fields that wait for a person, oldest first."""
    rows = [
        views.waiting.conflict(found)
        for found in store_access.ask(config, lambda store: store.conflicts(closed=closed, limit=limit))
    ]
    columns = (*_COLUMNS, output.Column("closed_at", "closed", output.when)) if closed else _COLUMNS
    output.report(form, rows, columns, "No open conflicts.")
    if form != "json" and any(row.closed_at is None for row in rows):
        print()
        output.line("Decide one: reconciler conflicts resolve ID --take desired|live")


@conflicts.subcommand("show", "reconciler conflicts show 3f2a -c reconciler.toml")
@click.argument("id")
@options.on_store
def show(config: Config, id: str, form: str) -> None:
    """Show one conflict; its ID may be shortened as long as only one begins so."""
    found, document = runtime.run(_one(config, id))
    row = views.waiting.conflict(found)
    if form == "json":
        output.as_json(row)
        return
    base = output.of_json(row.base) if row.has_base else "none: the document was seen for the first time"
    closed = [("closed", output.when(row.closed_at))] if row.closed_at else []
    output.facts(
        [
            ("conflict", row.id),
            ("document", row.document),
            ("field", row.field),
            ("desired", [output.of_json(row.desired), f"event {row.event} of {row.source}"]),
            ("live", [output.of_json(row.live), "what Windchill had when this was opened"]),
            ("base", [base, "what both sides last agreed on"]),
            ("why", row.reason),
            *_next_try(found, document),
            ("opened", output.when(row.opened_at)),
            *closed,
        ]
    )
    if not closed:
        print()
        output.line(f"Decide it: {', or '.join(settling(row.id, found.conflict.hold))}")


@conflicts.subcommand(
    "resolve",
    "reconciler conflicts resolve 3f2a --take live --reason 'asked jdoe'",
    "reconciler conflicts resolve 3f2a --value '\"4711\"' -c reconciler.toml",
    "reconciler conflicts resolve --field owner --take live --reason 'ECN-7'",
)
@click.option("--take", metavar="desired|live", help="Whose value the field gets: ours or theirs are the same words.")
@click.option("--value", metavar="JSON", help="In place of --take: a value that is neither side's.")
@_deciding
def resolve(config: Config, id: str | None, take: str | None, value: str | None, **said: Any) -> None:
    """
    Decide a conflict, by appending an event that says so.

    --take desired (or ours) writes what the log asks for, --take live (or theirs) keeps what Windchill has. --value
    takes JSON: text stands in double quotes, and null clears the field. If someone has changed the field since the
    conflict was opened, the event decides nothing and the conflict opens again.
    """
    _decide(config, id, _chosen(take, value), **said)


@conflicts.subcommand(
    "accept",
    "reconciler conflicts accept 3f2a --reason 'names are in capitals'",
    "reconciler conflicts accept --field owner -c reconciler.toml",
)
@_deciding
def accept(config: Config, id: str | None, **said: Any) -> None:
    """
    Let what Windchill stores of a contested value count as that value.

    Nothing is written. From now on the two are equal: the log keeps the pair, so that it holds for later events that
    ask for the same value, and after a rebuild. To give the value up instead: conflicts resolve ID --take live.
    """
    _decide(config, id, Side.ACCEPT, **said)


@conflicts.subcommand(
    "retry",
    "reconciler conflicts retry 3f2a --reason 'the job that set it back is off'",
    "reconciler conflicts retry --field owner -c reconciler.toml",
)
@_deciding
def retry(config: Config, id: str | None, **said: Any) -> None:
    """
    Write a contested or refused value again now, and count its tries from zero.

    Unlike docs retry, which tries now and then waits longer, this is a decision for the value and stands in the log.
    """
    _decide(config, id, Side.RETRY, **said)


def _decide(config: Config, id: str | None, take: Take, **said: Any) -> None:
    many = said["field"] is not None or said["rule"] is not None
    if (id is None) is not many or (said["field"] is not None and said["rule"] is not None):
        raise UsageError("give either the ID of a conflict, or --field, or --rule")
    who, form = said["actor"], said["form"]
    if many:
        if not isinstance(take, Side):
            raise UsageError("several conflicts are decided with --take desired or --take live; --value is for one")
        _say_many(form, take, runtime.run(_resolve_many(config, take, who, **said)))
        return
    found = runtime.run(_resolve(config, id or "", take, who, said["reason"]))
    if form == "json":
        output.as_json(views.actions.resolved(found))
        return
    output.line(f"{found.document} {found.field}: {_decision(found, take)}.")
    ids = " and ".join(str(event["id"]) for event in found.events)
    output.line(f"Appended {ids} to {events.decisions_log(config)}; the reconciler applies it when it reads it.")


async def _one(config: Config, id: str) -> tuple[ConflictRow, Document]:
    async with store_access.opened(config) as store:
        row = await _find(store, id)
        return row, await store_access.find_document(store, row.document)


async def _find(store: Store, id: str) -> ConflictRow:
    """Return the conflict of an id or of the only one that begins so; open ones go first."""
    rows = await store.conflicts(closed=True, limit=store_access.EVERY)
    found = [row for row in rows if row.conflict.id.startswith(id) and row.closed_at_us is None]
    found = found or [row for row in rows if row.conflict.id.startswith(id)]
    exact = [row for row in found if row.conflict.id == id]
    if len(exact or found) != 1:
        what = f"{len(found)} conflicts have an id that begins with" if found else "there is no conflict"
        raise ReconcilerError(f"{what} {id!r}; see `reconciler conflicts list`")
    return (exact or found)[0]


async def _resolve(config: Config, id: str, take: Take, who: str, reason: str) -> Resolved:
    async with actions.session(config) as session:
        row = await _find(session.store, id)
        found: Resolved = actions.require_done(await session.actions.resolve(who, row.conflict.id, take, reason))
        return found


async def _resolve_many(config: Config, take: Side, who: str, **said: Any) -> ResolvedMany:
    async with actions.session(config) as session:
        return await session.actions.resolve_many(
            who, take, said["reason"], field=said["field"], rule=said["rule"], limit=said["limit"]
        )


def _chosen(take: str | None, value: str | None) -> Take:
    if (take is None) is (value is None):
        raise UsageError("give either --take desired|live or --value JSON")
    if take is None:
        return Other(resolution.value(value or "", lambda text: f"--value {shlex.quote(text)}"))
    if take not in SIDES:
        raise UsageError(f"--take {take}: it is one of {', '.join(SIDES)}; for another value use --value JSON")
    return SIDES[take]


def _next_try(found: ConflictRow, document: Document) -> list[tuple[str, str]]:
    known = document.agreement.base.refused.get(found.conflict.field)
    if known is None or known.due_us is None or found.closed_at_us is not None:
        return []
    return [("tried again", output.when(views.shape.at(known.due_us)))]


def _say_many(form: str, take: Side, found: ResolvedMany) -> None:
    if form == "json":
        output.as_json(views.actions.settled(found))
        return
    for one in found.decided:
        output.line(f"{one.document} {one.field}: {_decision(one, take)}.")
    for conflict_id, why in found.left.items():
        output.line(f"Left {conflict_id}: {why}.")
    print(f"{output.counted(len(found.decided), 'conflict')} decided, {len(found.left)} left.")
    if found.more:
        print("There are more; run this again for the next once the reconciler has read these.")


def _decision(found: Resolved, take: Take) -> str:
    if take is Side.ACCEPT:
        return f"{output.of_json(found.live)} in Windchill counts as {output.of_json(found.wanted)} from now on"
    return f"{output.of_json(found.wanted)} is wanted, knowing of {output.of_json(found.live)} in Windchill"
