"""`reconciler restore`: puts a snapshot in the place of the state store."""

from pathlib import Path

import click

from reconciler.cli import framework, options, output, store_access, store_files
from reconciler.config import Config

_NEXT = "Next: start the reconciler. It reads what is newer from the log and the outcome log before it writes anything."


@framework.command(
    "reconciler restore --from state-2026-11-22.db -c reconciler.toml",
    "reconciler restore --from shadow.db -c reconciler.toml",
)
@click.option("--from", "origin", type=options.FILE, required=True, metavar="FILE", help="A snapshot or store.")
@options.on_store
def restore(config: Config, origin: Path, form: str) -> None:
    """
    Replace the state store by a snapshot or another store.

    The reconciler must not run on the store. The old store is kept as NAME.replaced-TIME. A snapshot may be old, as
    long as the logs still have everything that came after it. A damaged snapshot is refused.
    """
    store = store_access.admin(config)
    with output.progress("copying pages", None) as tell:
        done = store.restore(origin, tell, store_files.now())
    contents, aside, before = done.contents, done.aside, done.before
    lost = contents.behind(before) if before else {}
    if form == "json":
        output.as_json(
            {
                "store": store.name,
                "set_aside": aside,
                "behind": store_files.behind(lost),
                **store_files.as_json(contents),
            }
        )
        return
    told = [f"{store.name} now holds {origin}: {store_files.shown(contents)}. Logs: {store_files.positions(contents)}."]
    if aside:
        told.append(f"The old store is kept as {aside}.")
    if lost:
        places = ", ".join(f"{at.topic}/{at.partition} from {here} to {there}" for at, (here, there) in lost.items())
        told.append(f"The new store is older: {places} will be read again.")
    elif aside and not before:
        told.append("The old store can't be read, so it is unknown which of the two is newer.")
    store_files.lines((*told, _NEXT))
