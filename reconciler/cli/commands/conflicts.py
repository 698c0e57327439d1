"""`reconciler conflicts`: fields that wait for a person's decision, and the events that decide them."""

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from reconciler.flows.actions import OperatorActions

_LISTED = "see `reconciler conflicts list`"

conflicts = framework.family("conflicts", "Fields that wait for a decision: list, show or resolve them.")

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
    """Give a command what it needs to decide one conflict, or all of a field or a rule."""
    limits = click.IntRange(1, RESOLVED_MAX)
    for option in reversed(
        (
            click.argument("id", required=False),
            click.option("--field", default=None, help="Instead of ID: all open conflicts on this field."),
            click.option("--rule", default=None, help="Instead of ID: all under this rule (see `policy show`)."),
            click.option("--limit", type=limits, default=RESOLVED_DEFAULT, show_default=True, help="At most so many."),
            actions.with_actor_and_reason,
            options.on_store,
        )
    ):
        command = option(command)
    return command


@conflicts.subcommand("list", "reconciler conflicts list -c reconciler.toml")
@click.option("--closed", is_flag=True, help="Closed conflicts too.")
@options.limit(1000)
@options.on_store
def list_(config: Config, closed: bool, limit: int, form: str) -> None:
    """List fields that wait for a decision, oldest first."""
    rows = [
        views.open_items.conflict(found)
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
    """Show one conflict. The first characters of its ID are enough if no other ID begins with them."""
    found, document = runtime.run(_one(config, id))
    row = views.open_items.conflict(found)
    if form == "json":
        output.as_json(row)
        return
    base = output.of_json(row.base) if row.has_base else "none: the document was compared for the first time"
    closed = [("closed", output.when(row.closed_at))] if row.closed_at else []
    output.facts(
        [
            ("conflict", row.id),
            ("document", row.document),
            ("field", row.field),
            ("desired", [output.of_json(row.desired), f"event {row.event} of {row.source}"]),
            ("live", [output.of_json(row.live), "Windchill's value when the conflict was opened"]),
            ("base", [base, "the value both sides last agreed on"]),
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
@click.option("--take", metavar="desired|live", help="Whose value to keep; ours and theirs mean the same.")
@click.option("--value", metavar="JSON", help="Instead of --take: another value.")
@_deciding
def resolve(config: Config, id: str | None, take: str | None, value: str | None, **said: Any) -> None:
    """
    Decide a conflict. The decision is appended to the log as an event.

    --take desired (or ours) writes the log's value; --take live (or theirs) keeps Windchill's. --value takes JSON: put
    text in double quotes; null clears the field. If someone has changed the field since the conflict was opened, the
    decision does not apply and the conflict opens again.
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
    Treat the value that Windchill stores as equal to the one we write.

    For a contested value: Windchill takes it and then stores something else. Nothing is written. The log keeps the
    pair, so it also holds for later events with the same value, and after a rebuild. To give our value up instead:
    conflicts resolve ID --take live.
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
    Write a contested or refused value again now, and count its attempts from zero.

    Unlike `docs retry`, which tries once and then waits longer, this is a decision: it is recorded in the log.
    """
    _decide(config, id, Side.RETRY, **said)


def _decide(config: Config, id: str | None, take: Take, **said: Any) -> None:
    many = said["field"] is not None or said["rule"] is not None
    if (id is None) is not many or (said["field"] is not None and said["rule"] is not None):
        raise UsageError("give the ID of a conflict, or --field, or --rule")
    who, form = said["actor"], said["form"]
    if many:
        if not isinstance(take, Side):
            raise UsageError("--value decides one conflict; for several use --take desired or --take live")
        found = actions.run(
            config,
            lambda operator: operator.resolve_many(
                who, take, said["reason"], field=said["field"], rule=said["rule"], limit=said["limit"]
            ),
        )
        _say_many(form, take, found)
        return
    one = actions.run(config, lambda operator: _resolve(operator, id or "", take, who, said["reason"]))
    if form == "json":
        output.as_json(views.actions.resolved(one))
        return
    output.line(f"{one.document} {one.field}: {_decision(one, take)}.")
    ids = " and ".join(str(event["id"]) for event in one.events)
    output.line(f"Appended {ids} to {events.decisions_log(config)}; it takes effect when the reconciler reads it.")


async def _one(config: Config, id: str) -> tuple[ConflictRow, Document]:
    async with store_access.opened(config) as store:
        row = await _find(store, id)
        return row, await store_access.find_document(store, row.document)


async def _find(store: Store, id: str) -> ConflictRow:
    """Return the conflict with an id, or the only one whose id begins so; open ones come first."""
    if (exact := await store.conflict(id)) is not None:
        return exact
    for closed in (False, True):
        found = await store.conflicts_with_prefix(id, closed=closed, limit=2)
        if len(found) == 1:
            return found[0]
        if found:
            raise ReconcilerError(f"several conflicts have an id that begins with {id!r}; {_LISTED}")
    raise ReconcilerError(f"there is no conflict {id!r}; {_LISTED}")


async def _resolve(operator: "OperatorActions", id: str, take: Take, who: str, reason: str) -> Resolved:
    row = await _find(operator.store, id)
    found: Resolved = actions.require_done(await operator.resolve(who, row.conflict.id, take, reason))
    return found


def _chosen(take: str | None, value: str | None) -> Take:
    if (take is None) is (value is None):
        raise UsageError("give either --take desired|live or --value JSON")
    if take is None:
        return Other(resolution.value(value or "", lambda text: f"--value {shlex.quote(text)}"))
    if take not in SIDES:
        raise UsageError(f"--take {take!r}: must be one of {', '.join(SIDES)}; for another value use --value JSON")
    return SIDES[take]


def _next_try(found: ConflictRow, document: Document) -> list[tuple[str, str]]:
    known = document.agreement.base.refused.get(found.conflict.field)
    if known is None or known.due_us is None or found.closed_at_us is not None:
        return []
    return [("next attempt", output.when(views.shape.at(known.due_us)))]


def _say_many(form: str, take: Side, found: ResolvedMany) -> None:
    if form == "json":
        output.as_json(views.actions.resolved_many(found))
        return
    for one in found.decided:
        output.line(f"{one.document} {one.field}: {_decision(one, take)}.")
    for conflict_id, why in found.left.items():
        output.line(f"Not decided: {conflict_id}: {why}.")
    print(f"{output.counted(len(found.decided), 'conflict')} decided, {len(found.left)} not.")
    if found.more:
        print("There are more. Run this again once the reconciler has read these decisions.")


def _decision(found: Resolved, take: Take) -> str:
    if take is Side.ACCEPT:
        return f"Windchill's {output.of_json(found.live)} counts as equal to {output.of_json(found.wanted)} from now on"
    if found.wanted == found.live:
        return f"Windchill keeps {output.of_json(found.live)}"
    return f"{output.of_json(found.wanted)} replaces {output.of_json(found.live)} in Windchill"
