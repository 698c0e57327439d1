"""Operator actions: what commands do to documents and events, through `flows.actions` as the API and the page do it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from reconciler.cli import events, output, runtime, store_access
from reconciler.config import Config
from reconciler.errors import ReconcilerError, UsageError
from reconciler.model.action import Done, Gone, Unusable
from reconciler.ports import Store

if TYPE_CHECKING:
    from reconciler.flows.actions import OperatorActions


T = TypeVar("T")


@attrs.frozen
class Session:
    """A store to look into and what can be done with it."""

    store: Store
    actions: "OperatorActions"


@asynccontextmanager
async def session(config: Config) -> AsyncIterator[Session]:
    """Open the configured store beside whoever owns it; the log is reached only by what appends to it."""
    from reconciler import factory
    from reconciler.adapters.clock import SystemClock

    clock = SystemClock()
    async with store_access.opened(config) as store:
        log = factory.make_log(config, clock)
        try:
            yield Session(store, factory.actions(config, store, log, clock))
        finally:
            await log.close()


def actor(given: str | None) -> str:
    """Return who acts: whoever is named, else whoever runs the command."""
    return given or events.user() or "somebody"


with_actor = click.option(
    "--actor", default=None, callback=lambda _, __, given: actor(given), help="Who does it.  [default: you]"
)


def with_actor_and_reason(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--actor` and `--reason`."""
    return with_actor(click.option("--reason", default="", help="Why; kept with the record of it.")(function))


def do(config: Config, act: Callable[[Session], Awaitable[T]]) -> T:
    """Do one thing with the configured store, and return what came of it."""

    async def done() -> T:
        async with session(config) as opened:
            return await act(opened)

    return runtime.run(done())


def require_done(found: Any) -> Any:
    """Return what was done; raises ReconcilerError where nothing was."""
    if isinstance(found, Gone):
        raise ReconcilerError(found.reason)
    if isinstance(found, Unusable):
        raise UsageError(found.reason)
    return found


def report(form: str, done: Done, verb: str, after: str) -> None:
    """Say what was done with which documents, and what was not, with why; raises ReconcilerError if nothing was."""
    if form == "json":
        output.as_json({"done": list(done.done), "left": done.left})
    elif done.done:
        count = len(done.done)
        output.line(f"{'1 document is' if count == 1 else f'{count} documents are'} {verb}. {after}")
    left = sorted(done.left.items())
    if left and not done.done:
        more = f", and {len(left) - 1} more" if len(left) > 1 else ""
        raise ReconcilerError(f"{left[0][0]}: {left[0][1]}{more}; nothing was done")
    if form != "json":
        for key, why in left:
            output.line(f"Left {key}: {why}.")
