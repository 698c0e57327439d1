"""Operator actions: what commands do to documents and events, through `flows.actions` as the API and the page do it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reconciler import views
from reconciler.adapters.clock import SystemClock
from reconciler.cli import events, output, runtime, store_access
from reconciler.config import Config
from reconciler.errors import ReconcilerError, UsageError
from reconciler.model.action import CLI, Done, Gone, Unusable

if TYPE_CHECKING:
    from reconciler.flows.actions import OperatorActions

T = TypeVar("T")


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator["OperatorActions"]:
    """Open the configured store, beside a daemon that owns it; the log is reached only by what appends to it."""
    from reconciler import factory

    clock = SystemClock()
    async with store_access.opened(config) as store:
        log = factory.make_log(config, clock)
        try:
            yield factory.actions(config, store, log, clock)
        finally:
            await log.close()


def run(config: Config, action: Callable[["OperatorActions"], Awaitable[T]]) -> T:
    """Do one thing with the configured store and log, and return its result."""

    async def done() -> T:
        async with opened(config) as operator:
            return await action(operator)

    return runtime.run(done())


def actor(given: str | None) -> str:
    """Return who acts: the given name, or else the user who runs the command."""
    return given or events.user() or "someone"


with_actor = click.option(
    "--actor", default=None, callback=lambda _, __, given: actor(given), help="Who does it.  [default: you]"
)


def with_actor_and_reason(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--actor` and `--reason`."""
    return with_actor(click.option("--reason", default="", help="Why; recorded in the audit trail.")(function))


def require_done(found: Any) -> Any:
    """Return what was done; raises ReconcilerError if nothing was."""
    if isinstance(found, Gone):
        raise ReconcilerError(found.reason)
    if isinstance(found, Unusable):
        raise UsageError(found.reason)
    return found


def report(form: str, done: Done, verb: str, after: str) -> None:
    """Print which documents were changed, and which were not and why; raises ReconcilerError if none was changed."""
    if form == "json":
        output.as_json({"done": list(done.done), "left": done.left})
    elif not done.done and not done.left:
        output.line("No documents.")
    elif done.done:
        count = len(done.done)
        output.line(f"{output.counted(count, 'document')} {'is' if count == 1 else 'are'} {verb}. {after}")
    left = sorted(done.left.items())
    if left and not done.done:
        more = f", and {len(left) - 1} more" if len(left) > 1 else ""
        raise ReconcilerError(f"{left[0][0]}: {left[0][1]}{more}; nothing was done")
    if form != "json":
        for key, why in left:
            output.line(f"Not changed: {key}: {why}.")


def attribution(by: views.actions.By) -> str:
    """Return in words when something was done, by whom and why."""
    how = " by command" if by.role == CLI else f" as {by.role}"
    how += f" ({by.issuer})" if by.issuer else ""
    return f"{output.when(by.at)} by {by.who}{how}" + (f": {by.reason}" if by.reason else ", without a reason")
