"""`reconciler docs compare`: have documents compared with Windchill before their time."""

import click

from reconciler.cli import commands, options, output, running
from reconciler.cli.docs import docs
from reconciler.config import Config
from reconciler.errors import UsageError

__all__ = ["docs"]

_PAGE = 500


@docs.command(
    "compare",
    epilog=commands.example(
        "reconciler docs compare --all -c reconciler.toml", "reconciler docs compare 0000012345 -c reconciler.toml"
    ),
)
@click.argument("document", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="Every document.")
@options.reporting
@options.configured(store=True)
def compare(config: Config, document: tuple[str, ...], all_: bool, form: str) -> None:
    """
    Have documents compared with Windchill again, after whatever is more urgent.

    Those that are synced, held or parked: what waits after trouble goes on waiting. What such a comparison writes
    counts towards resync.writes_max_per_window, unlike what `docs retry` asks for.
    """
    if bool(document) is all_:
        raise UsageError("give either the keys of documents or --all")
    count = running.run(_compare(config, document))
    if form == "json":
        output.as_json({"compared": count})
        return
    are = "document is" if count == 1 else "documents are"
    output.line(f"{count} {are} due for a comparison. A running reconciler notices within half a minute.")


async def _compare(config: Config, keys: tuple[str, ...]) -> int:
    from reconciler import parts
    from reconciler.adapters.clock import SystemClock
    from reconciler.flows.jobs import SETTLED

    store, clock = await parts.open_store(config, owner=False), SystemClock()
    try:
        if keys:
            return await store.compare_again(keys, SETTLED, clock.now_us())
        count, after = 0, ""
        while page := await store.settled_keys(SETTLED, after, _PAGE):
            count += await store.compare_again(page, SETTLED, clock.now_us())
            after = page[-1]
        return count
    finally:
        await store.close()
