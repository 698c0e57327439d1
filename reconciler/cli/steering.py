"""`reconciler docs retry|pause|resume|release`: what can be done with documents."""

from collections.abc import Callable, Coroutine
from typing import Any

import click

from reconciler import views
from reconciler.cli import acting, commands, events, looking, options, output, running
from reconciler.cli.acting import Bench
from reconciler.cli.docs import STATUS
from reconciler.config import Config
from reconciler.errors import UsageError
from reconciler.model.act import Appended, Done
from reconciler.model.document import Status

_SOON = "A running reconciler notices within half a minute."

_Call = Callable[[Bench, list[str]], Coroutine[Any, Any, Done]]


@commands.command("reconciler docs retry 0000012345 -c reconciler.toml", "reconciler docs retry --status parked")
@click.argument("document", nargs=-1)
@click.option("--status", type=STATUS, default=None, help="All documents that stand there.")
@click.option("--actor", default=None, help="Who does it.  [default: you]")
@options.reporting
@options.configured(store=True)
def retry(config: Config, document: tuple[str, ...], *, status: str | None, actor: str | None, form: str) -> None:
    """Have documents looked at now, before all others; paused ones are left."""
    who = acting.actor(actor)
    done = running.run(_steered(config, document, status, lambda bench, keys: bench.acts.retry(who, keys)))
    acting.report(form, done, "due now", _SOON)
    if form != "json" and not done.done and not done.left:
        output.line(f"No document is {status}.")


@commands.command(
    "reconciler docs pause 0000012345 --reason 'under audit' -c reconciler.toml",
    "reconciler docs list --status paused -c reconciler.toml",
)
@click.argument("document", nargs=-1)
@click.option("--status", type=STATUS, default=None, help="All documents that stand there.")
@acting.by_whom
@options.reporting
@options.configured(store=True)
def pause(
    config: Config, document: tuple[str, ...], *, status: str | None, actor: str | None, reason: str, form: str
) -> None:
    """
    Neither read nor write documents in Windchill until they are resumed.

    What the log says of them is folded all the same, and what is under way is ended first. The store alone knows of a
    pause: one that is lost and rebuilt has forgotten it.
    """
    who = acting.actor(actor)
    done = running.run(_steered(config, document, status, lambda bench, keys: bench.acts.pause(who, keys, reason)))
    acting.report(form, done, "paused", "End it with `reconciler docs resume`.")


@commands.command("reconciler docs resume 0000012345 -c reconciler.toml", "reconciler docs resume --status paused")
@click.argument("document", nargs=-1)
@click.option("--status", type=click.Choice([Status.PAUSED.value]), default=None, help="All that are paused.")
@click.option("--actor", default=None, help="Who does it.  [default: you]")
@options.reporting
@options.configured(store=True)
def resume(config: Config, document: tuple[str, ...], *, status: str | None, actor: str | None, form: str) -> None:
    """End the pause of documents: they are looked at now, before all others."""
    who = acting.actor(actor)
    done = running.run(_steered(config, document, status, lambda bench, keys: bench.acts.resume(who, keys)))
    acting.report(form, done, "due now", _SOON)


@commands.command(
    "reconciler docs release 0000012345 --reason 'moved to SAP'",
    "reconciler docs release 0000012345 --field owner -c reconciler.toml",
)
@click.argument("document", nargs=-1, required=True)
@click.option("--field", "fields", multiple=True, metavar="FIELD", help="Only this field. May be repeated.")
@acting.by_whom
@options.reporting
@options.configured(store=True)
def release(
    config: Config, document: tuple[str, ...], *, fields: tuple[str, ...], actor: str | None, reason: str, form: str
) -> None:
    """
    Stop managing documents, or fields of them, by an event that says so; Windchill keeps what it has.

    A newer event that sets a field manages it again.
    """
    who = acting.actor(actor)
    released = running.run(_released(config, document, fields, who, reason))
    if form == "json":
        output.as_json([views.acts.appended(one) for one in released])
        return
    what = f"{', '.join(fields)} of " if fields else ""
    for one in released:
        output.line(f"Released {what}{one.document}: appended {one.events[0]} to {events.decisions_log(config)}.")


async def _steered(config: Config, document: tuple[str, ...], status: str | None, call: _Call) -> Done:
    if bool(document) is bool(status):
        raise UsageError("give either the keys of documents or --status")
    async with acting.bench(config) as bench:
        keys = [*document] if status is None else [key async for key in looking.keys_of(bench.store, Status(status))]
        return await call(bench, keys)


async def _released(
    config: Config, keys: tuple[str, ...], fields: tuple[str, ...], who: str, reason: str
) -> list[Appended]:
    async with acting.bench(config) as bench:
        return [acting.require(await bench.acts.release(who, key, reason, fields)) for key in dict.fromkeys(keys)]


COMMANDS = (retry, pause, resume, release)
