"""`reconciler restore`: puts a snapshot in the place of the state store."""

from pathlib import Path

import click

from reconciler.adapters.sqlite import backup
from reconciler.cli import framework, options, output, store_files
from reconciler.config import Config
from reconciler.errors import StoreDamagedError, StoreError

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
    store = config.store.path
    if origin.exists() and store.exists() and origin.samefile(store):
        raise StoreError(f"{origin} is the state store itself; give a snapshot")
    with backup.replacing(store) as replacement, backup.unowned(origin):
        before = backup.unchecked(store)
        try:
            with output.progress("copying pages", None) as tell:
                backup.copy(origin, replacement.fresh, tell)
            contents = backup.examine(replacement.fresh)
        except StoreDamagedError as error:
            raise StoreError(f"{origin} is damaged ({error}); use another snapshot, or `reconciler rebuild`") from error
        aside = replacement.put("replaced", store_files.now())
    lost = contents.behind(before) if before else {}
    if form == "json":
        output.as_json(
            {
                "store": str(store),
                "set_aside": str(aside) if aside else None,
                "behind": store_files.behind(lost),
                **store_files.as_json(contents),
            }
        )
        return
    told = [f"{store} now holds {origin}: {store_files.shown(contents)}. Logs: {store_files.positions(contents)}."]
    if aside:
        told.append(f"The old store is kept as {aside}.")
    if lost:
        places = ", ".join(f"{at.topic}/{at.partition} from {here} to {there}" for at, (here, there) in lost.items())
        told.append(f"The new store is older: {places} will be read again.")
    elif aside and not before:
        told.append("The old store can't be read, so it is unknown which of the two is newer.")
    store_files.lines((*told, _NEXT))
