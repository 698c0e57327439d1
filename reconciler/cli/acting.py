"""Acting: what commands do is done by `flows.acts`, as the API and the page do it, and recorded with who did it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from reconciler.cli import events, looking, output, running
from reconciler.config import Config
from reconciler.errors import ReconcilerError, UsageError
from reconciler.model.act import Done, Gone, Unusable
from reconciler.ports import Store

if TYPE_CHECKING:
    from reconciler.flows.acts import Acts

T = TypeVar("T")


@attrs.frozen
class Bench:
    """A store to look into and what can be done with it."""

    store: Store
    acts: "Acts"


@asynccontextmanager
async def bench(config: Config) -> AsyncIterator[Bench]:
    """Open the configured store beside whoever owns it; the log is reached only by what appends to it."""
    from reconciler import parts
    from reconciler.adapters.clock import SystemClock

    clock = SystemClock()
    async with looking.store_of(config) as store:
        log = parts.make_log(config, clock)
        try:
            yield Bench(store, parts.acts(config, store, log, clock))
        finally:
            await log.close()


def actor(given: str | None) -> str:
    """Return who acts: whoever is named, else whoever runs the command."""
    return given or events.user() or "somebody"


by = click.option(
    "--actor", default=None, callback=lambda _, __, given: actor(given), help="Who does it.  [default: you]"
)


def by_whom(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--actor` and `--reason`."""
    return by(click.option("--reason", default="", help="Why; kept with the record of it.")(function))


def do(config: Config, act: Callable[[Bench], Awaitable[T]]) -> T:
    """Do one thing with the configured store, and return what came of it."""

    async def done() -> T:
        async with bench(config) as opened:
            return await act(opened)

    return running.run(done())


def require(found: Any) -> Any:
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
