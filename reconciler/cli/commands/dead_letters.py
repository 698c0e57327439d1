"""`reconciler dead-letters`: records that could not be used, kept whole, to be driven again or let go."""

import base64
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
    "dead-letters", "Events that could not be used: list, show, replay, mend or discard them."
)

_SETTLED = {ActionKind.DISCARD: "discarded", ActionKind.REPLAY: "replayed", ActionKind.RESEND: "mended"}
_STATUSES = ("open", "replayed", "discarded", "all")
_COLUMNS = (
    output.Column("id", "id", whole=True),
    output.Column("refused_at", "refused", output.when),
    output.Column("reason", "reason"),
)


@dead_letters.subcommand("list", "reconciler dead-letters list -c reconciler.toml")
@click.option("--status", type=click.Choice(_STATUSES), default="open", show_default=True, help="Which ones.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="How many, at most.")
@options.on_store
def list_(config: Config, status: str, limit: int, form: str) -> None:
    """List events that could not be used, oldest first."""
    among = None if status == "all" else status
    found = store_access.ask(config, lambda store: store.dead_letters(among, limit))
    columns = (*_COLUMNS, output.Column("status", "status", whole=True)) if status == "all" else _COLUMNS
    output.report(form, [views.waiting.dead_letter_row(letter) for letter in found], columns, "No dead letters.")


@dead_letters.subcommand("show", "reconciler dead-letters show windchill.document.changes/0/17")
@click.argument("id")
@options.on_store
def show(config: Config, id: str, form: str) -> None:
    """Show one, with its original bytes; of its ID the end is enough, such as 0/17."""
    letter, settled = runtime.run(_one(config, id))
    row, by = views.waiting.dead_letter_row(letter), views.actions.by(settled)
    if form == "json":
        output.as_json({**msgspec.structs.asdict(row), "settled": by, **_original(letter)})
        return
    output.facts(
        [
            ("id", letter.id),
            ("status", letter.status),
            *([(_SETTLED[ActionKind(by.kind)], store_access.told(by))] if by else []),
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
@click.option("--all", "every", is_flag=True, help="All that are open.")
@actions.with_actor_and_reason
@options.on_store
def replay(config: Config, id: tuple[str, ...], *, every: bool, actor: str, reason: str, form: str) -> None:
    """
    Append them again, as they were, to the topic that they came from.

    Worth it once the reason is gone: a rule that now allows the source, a setting, a newer version of this program. One
    that still can't be used becomes a dead letter again.
    """
    _require_choice(id, every)
    letters = runtime.run(_replay(config, id, every, actor, reason))
    log = events.log_name(config, (letter.place.topic for letter in letters))
    _report(form, letters, f"Appended {_counted(letters)} to {log} again.")


@dead_letters.subcommand("discard", "reconciler dead-letters discard 0/17 --reason 'a test' -c reconciler.toml")
@click.argument("id", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All that are open.")
@actions.with_actor
@click.option("--reason", required=True, help="Why no one will miss them; kept with the record of it.")
@options.on_store
def discard(config: Config, id: tuple[str, ...], *, every: bool, actor: str, reason: str, form: str) -> None:
    """Let them go: they are no longer open, and stay listed as discarded."""
    _require_choice(id, every)
    letters = runtime.run(_discard(config, id, every, actor, reason))
    _report(form, letters, f"Discarded {_counted(letters)}: {reason}")


@dead_letters.subcommand(
    "resend",
    "reconciler dead-letters resend 0/17 --file mended.json -c reconciler.toml",
    "reconciler dead-letters resend 0/17 --reason 'a typo' --file - < m.json",
)
@click.argument("id")
@click.option("--file", "file", type=click.File("rb"), required=True, metavar="FILE", help="The event; - is stdin.")
@actions.with_actor_and_reason
@options.on_store
def resend(config: Config, id: str, *, file: BinaryIO, actor: str, reason: str, form: str) -> None:
    """
    Append a mended event in the place of one that could not be used.

    The event is one JSON object, as `dead-letters show` prints what came; it is checked as `emit` checks it, and its
    actor is whoever resends it. When the reconciler reads it, the dead letter becomes "replayed".
    """
    value = file.read(EVENT_BYTES_MAX + 1)
    if len(value) > EVENT_BYTES_MAX:
        raise UsageError(f"an event has at most {limits.size(EVENT_BYTES_MAX)}")
    letter, found = runtime.run(_resend(config, id, actor, value, reason))
    if form == "json":
        output.as_json(views.actions.appended(found))
        return
    log = events.log_name(config, [letter.place.topic])
    output.line(f"Appended {found.events[0]} (document {found.document}) to {log}.")


async def _one(config: Config, id: str) -> tuple[DeadLetter, OperatorAction | None]:
    async with store_access.opened(config) as store:
        (letter,) = await _find(store, (id,), False)
        return await store.dead_letter(letter.id) or letter, await authorship.settled(store, letter)


async def _replay(config: Config, ids: tuple[str, ...], every: bool, who: str, reason: str) -> list[DeadLetter]:
    async with actions.session(config) as session:
        letters = await _find(session.store, ids, every)
        try:
            await session.actions.replay_letters(who, [letter.id for letter in letters], reason)
        except LogError as error:
            if config.log.kind == "kafka":
                raise
            raise LogError(f"{error}; `dead-letters resend` or `emit --file` a mended one, or discard it") from error
        return letters


async def _discard(config: Config, ids: tuple[str, ...], every: bool, who: str, reason: str) -> list[DeadLetter]:
    async with actions.session(config) as session:
        letters = await _find(session.store, ids, every)
        await session.actions.discard_letters(who, [letter.id for letter in letters], reason)
        return letters


async def _resend(config: Config, id: str, who: str, value: bytes, reason: str) -> tuple[DeadLetter, Appended]:
    async with actions.session(config) as session:
        (letter,) = await _find(session.store, (id,), False)
        return letter, actions.require_done(await session.actions.resend(who, letter.id, value.strip(), reason))


async def _find(store: Store, ids: tuple[str, ...], every: bool) -> list[DeadLetter]:
    """Return the open letters, or those of ids; an id's end is enough where only one ends so."""
    if every:
        return await store.dead_letters("open", store_access.EVERY)
    letters = await store.dead_letters(None, store_access.EVERY)
    found = []
    for given in dict.fromkeys(ids):
        matching = [letter for letter in letters if letter.id == given or letter.id.endswith(f"/{given}")]
        if len(matching) != 1:
            what = f"{len(matching)} dead letters have an id that ends with" if matching else "there is no dead letter"
            raise ReconcilerError(f"{what} {given!r}; see `reconciler dead-letters list --status all`")
        found += matching
    return found


def _require_choice(ids: tuple[str, ...], every: bool) -> None:
    if bool(ids) is every:
        raise UsageError("give either the ids of dead letters or --all")


def _report(form: str, letters: list[DeadLetter], said: str) -> None:
    if form == "json":
        output.as_json(views.actions.Done(done=[letter.id for letter in letters]))
    else:
        output.line(said if letters else "No dead letters are open.")


def _counted(letters: list[DeadLetter]) -> str:
    return "1 dead letter" if len(letters) == 1 else f"{len(letters)} dead letters"


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
