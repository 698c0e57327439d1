"""`reconciler dead-letters`: events that could not be used, kept to be replayed, corrected or discarded."""

import base64
from collections.abc import Sequence
from typing import Any, BinaryIO

import click
import msgspec

from reconciler import views
from reconciler.cli import actions, events, framework, options, output, runtime, store_access
from reconciler.config import Config
from reconciler.errors import LogError, ReconcilerError, UsageError
from reconciler.model import limits
from reconciler.model.action import ActionKind, Appended, OperatorAction
from reconciler.model.event import DeadLetter
from reconciler.model.limits import EVENT_BYTES_MAX
from reconciler.ports import Store, authorship

dead_letters = framework.family(
    "dead-letters", "Events that could not be used: list, show, replay, correct or discard them."
)

_SETTLED = {ActionKind.DISCARD: "discarded", ActionKind.REPLAY: "replayed", ActionKind.RESEND: "corrected"}
_STATUSES = ("open", "replayed", "discarded", "all")
_COLUMNS = (
    output.Column("id", "id", whole=True),
    output.Column("refused_at", "refused", output.when),
    output.Column("reason", "reason"),
)
_all = click.option("--all", "every", is_flag=True, help="All open dead letters.")


@dead_letters.subcommand("list", "reconciler dead-letters list -c reconciler.toml")
@click.option("--status", type=click.Choice(_STATUSES), default="open", show_default=True, help="Only this status.")
@options.limit(1000)
@options.on_store
def list_(config: Config, status: str, limit: int, form: str) -> None:
    """List events that could not be used, oldest first."""
    among = None if status == "all" else status
    found = store_access.ask(config, lambda store: store.dead_letters(among, limit))
    columns = (*_COLUMNS, output.Column("status", "status", whole=True)) if status == "all" else _COLUMNS
    output.report(form, [views.open_items.dead_letter_row(letter) for letter in found], columns, "No dead letters.")


@dead_letters.subcommand("show", "reconciler dead-letters show windchill.document.changes/0/17")
@click.argument("id")
@options.on_store
def show(config: Config, id: str, form: str) -> None:
    """Show one dead letter with its original bytes. The end of an ID is enough, such as 0/17."""
    letter, closed = runtime.run(_one(config, id))
    row, by = views.open_items.dead_letter_row(letter), views.actions.by(closed)
    if form == "json":
        output.as_json({**msgspec.structs.asdict(row), "closed": by, **_original(letter)})
        return
    output.facts(
        [
            ("id", letter.id),
            ("status", letter.status),
            *([(_SETTLED[ActionKind(by.kind)], actions.attribution(by))] if by else []),
            ("reason", f"{letter.reason} ({letter.stage})"),
            ("refused", output.when(row.refused_at)),
            ("recorded", output.when(row.recorded_at)),
            ("key", _shown(letter.key)),
            *[("header", f"{name}: {_shown(value)}") for name, value in letter.headers],
        ]
    )
    print()
    output.line(_shown(letter.value))


@dead_letters.subcommand(
    "replay", "reconciler dead-letters replay 0/17 -c reconciler.toml", "reconciler dead-letters replay --all"
)
@click.argument("id", nargs=-1)
@_all
@actions.with_actor_and_reason
@options.on_store
def replay(config: Config, id: tuple[str, ...], *, every: bool, actor: str, reason: str, form: str) -> None:
    """
    Append dead letters again, unchanged, to the topic they came from.

    Do this once the cause is fixed: a rule now allows the source, a setting has changed, or this program is newer. An
    event that still can't be used becomes a dead letter again.
    """
    ids = runtime.run(_replay(config, id, every, actor, reason))
    log = events.log_name(config, map(_topic, ids))
    _report(form, ids, f"Appended {output.counted(len(ids), 'dead letter')} to {log} again.")


@dead_letters.subcommand("discard", "reconciler dead-letters discard 0/17 --reason 'a test' -c reconciler.toml")
@click.argument("id", nargs=-1)
@_all
@actions.with_actor
@click.option("--reason", required=True, help="Why they are not needed; recorded.")
@options.on_store
def discard(config: Config, id: tuple[str, ...], *, every: bool, actor: str, reason: str, form: str) -> None:
    """Close dead letters without using them. They stay listed as discarded."""
    ids = runtime.run(_discard(config, id, every, actor, reason))
    _report(form, ids, f"Discarded {output.counted(len(ids), 'dead letter')}: {reason}")


@dead_letters.subcommand(
    "resend",
    "reconciler dead-letters resend 0/17 --file corrected.json -c reconciler.toml",
    "reconciler dead-letters resend 0/17 --reason 'a typo' --file - < c.json",
)
@click.argument("id")
@click.option("--file", "file", type=click.File("rb"), required=True, metavar="FILE", help="The event; - is stdin.")
@actions.with_actor_and_reason
@options.on_store
def resend(config: Config, id: str, *, file: BinaryIO, actor: str, reason: str, form: str) -> None:
    """
    Append a corrected event in place of a dead letter.

    The event is one JSON object, as `dead-letters show` prints it. It is checked as `emit` checks events, and you
    become its actor. When the reconciler reads the event, the dead letter becomes "replayed".
    """
    value = file.read(EVENT_BYTES_MAX + 1)
    if len(value) > EVENT_BYTES_MAX:
        raise UsageError(f"an event has at most {limits.size(EVENT_BYTES_MAX)}")
    topic, found = runtime.run(_resend(config, id, actor, value, reason))
    if form == "json":
        output.as_json(views.actions.appended(found))
        return
    output.line(f"Appended {found.events[0]} (document {found.document}) to {events.log_name(config, [topic])}.")


async def _one(config: Config, id: str) -> tuple[DeadLetter, OperatorAction | None]:
    async with store_access.opened(config) as store:
        letter = await store.dead_letter(await _whole_id(store, id))
        if letter is None:
            raise ReconcilerError(f"dead letter {id} has just been archived and deleted by `reconciler prune`")
        return letter, await authorship.closed(store, letter)


async def _replay(config: Config, ids: tuple[str, ...], every: bool, who: str, reason: str) -> Sequence[str]:
    async with actions.opened(config) as operator:
        found = await _chosen(operator.store, ids, every)
        try:
            return (await operator.replay_letters(who, found, reason)).done
        except LogError as error:
            if config.log.kind == "kafka":
                raise
            raise LogError(f"{error}; correct it with `dead-letters resend` or `emit --file`, or discard it") from error


async def _discard(config: Config, ids: tuple[str, ...], every: bool, who: str, reason: str) -> Sequence[str]:
    async with actions.opened(config) as operator:
        return (await operator.discard_letters(who, await _chosen(operator.store, ids, every), reason)).done


async def _resend(config: Config, id: str, who: str, value: bytes, reason: str) -> tuple[str, Appended]:
    async with actions.opened(config) as operator:
        whole = await _whole_id(operator.store, id)
        return _topic(whole), actions.require_done(await operator.resend(who, whole, value.strip(), reason))


async def _chosen(store: Store, ids: tuple[str, ...], every: bool) -> list[str]:
    """Return the ids of the letters that are given, or of all that are open."""
    if bool(ids) is every:
        raise UsageError("give either the ids of dead letters or --all")
    if not every:
        return [await _whole_id(store, given) for given in dict.fromkeys(ids)]
    found: list[str] = []
    while page := await store.dead_letters("open", store_access.PAGE, found[-1] if found else ""):
        found += [letter.id for letter in page]
    return found


async def _whole_id(store: Store, given: str) -> str:
    """Return the id of a dead letter; its end will do where only one ends so."""
    if await store.dead_letter(given) is not None:
        return given
    matching = await store.letter_ids_with_suffix(f"/{given}", limit=2)
    if len(matching) == 1:
        return matching[0]
    what = "several dead letters have an id that ends with" if matching else "there is no dead letter"
    raise ReconcilerError(f"{what} {given!r}; see `reconciler dead-letters list --status all`")


def _topic(id: str) -> str:
    return id.rsplit("/", 2)[0]


def _report(form: str, ids: Sequence[str], said: str) -> None:
    if form == "json":
        output.as_json(views.actions.Done(done=[*ids]))
    else:
        output.line(said if ids else "No dead letters are open.")


def _original(letter: DeadLetter) -> dict[str, Any]:
    """Return key, value and headers: as text where they are text, and as they are in Base64."""
    return {
        "key": _text(letter.key),
        "key_base64": _base64(letter.key),
        "value": _text(letter.value),
        "value_base64": _base64(letter.value),
        "headers": [{"name": name, "value": _text(value), "base64": _base64(value)} for name, value in letter.headers],
    }


def _shown(content: bytes | None) -> str:
    if content is None:
        return "none"
    return content.decode("utf-8", "backslashreplace")


def _text(content: bytes | None) -> str | None:
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError:
        return None


def _base64(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()
