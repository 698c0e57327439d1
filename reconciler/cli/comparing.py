"""`reconciler docs compare`: have documents compared with Windchill before their time."""

import click

from reconciler import views
from reconciler.cli import acting, commands, options, output, running
from reconciler.cli.docs import docs
from reconciler.config import Config
from reconciler.errors import UsageError

__all__ = ["docs"]


@docs.command(
    "compare",
    epilog=commands.example(
        "reconciler docs compare --all -c reconciler.toml", "reconciler docs compare 0000012345 -c reconciler.toml"
    ),
)
@click.argument("document", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="Every document.")
@click.option("--actor", default=None, help="Who does it.  [default: you]")
@options.reporting
@options.configured(store=True)
def compare(config: Config, document: tuple[str, ...], all_: bool, actor: str | None, form: str) -> None:
    """
    Have documents compared with Windchill again, after whatever is more urgent.

    Those that are synced, held or parked: what waits after trouble goes on waiting. What such a comparison writes
    counts towards resync.writes_max_per_window, unlike what `docs retry` asks for.
    """
    if bool(document) is all_:
        raise UsageError("give either the keys of documents or --all")
    count = running.run(_compare(config, acting.actor(actor), document or None))
    if form == "json":
        output.as_json(views.acts.Compared(documents=count))
        return
    are = "document is" if count == 1 else "documents are"
    output.line(f"{count} {are} due for a comparison. A running reconciler notices within half a minute.")
    output.line("How many are left: reconciler status")


async def _compare(config: Config, who: str, keys: tuple[str, ...] | None) -> int:
    async with acting.bench(config) as bench:
        return await bench.acts.compare(who, keys)
