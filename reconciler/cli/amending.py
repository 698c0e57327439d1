"""What commands share that change many claims at once: they show first, and append only with `--apply`."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import click

from reconciler.cli import actions, output
from reconciler.config import Config
from reconciler.core.planning.amendments import Amended
from reconciler.model.action import CLI

if TYPE_CHECKING:
    from reconciler.flows.amending import Amending

COLUMNS = (
    output.Column("document", "document", whole=True),
    output.Column("field", "field", whole=True),
    output.Column("before", "now", output.of_json),
    output.Column("after", "then", output.of_json),
    output.Column("left", "left, because", lambda said: output.plain(said or "")),
)


def applying(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--apply` and `--per-minute`."""
    rate = click.option(
        "--per-minute",
        type=click.FloatRange(min=1),
        default=600.0,
        show_default=True,
        metavar="DOCUMENTS",
        help="With --apply: so many documents a minute, at most.",
    )
    return click.option("--apply", is_flag=True, help="Append the events; without it they are only shown.")(
        rate(function)
    )


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator["Amending"]:
    """Open the configured store and log."""
    from reconciler.flows.amending import Amending

    async with actions.opened(config) as operator:
        known = operator.store, operator.log, operator.clock, operator.decoding
        yield Amending(store=known[0], log=known[1], clock=known[2], decoding=known[3], role=CLI)


def report(form: str, rows: Sequence[Amended], appended: int | None, *, nothing: str) -> None:
    """Print what would be changed, or was; `appended` is for how many documents, None without `--apply`."""
    shown = [attrs.asdict(row) for row in rows]
    if form == "json":
        output.as_json({"applied": appended is not None, "documents": appended or 0, "fields": shown})
        return
    output.report(form, shown, COLUMNS, nothing)
    left = sum(1 for row in rows if row.left)
    print()
    if appended is not None:
        output.line(
            f"Appended events for {output.counted(appended, 'document')}; {output.counted(left, 'field')} left."
        )
    elif rows:
        output.line(
            f"{output.counted(len(rows) - left, 'field')} to change, {left} left. Nothing is done without --apply."
        )
