"""`reconciler restore`: puts a snapshot in the place of the state store."""

from pathlib import Path

import click

from reconciler.adapters.sqlite import backup
from reconciler.cli import framework, options, output, store_files
from reconciler.config import Config
from reconciler.errors import StoreDamagedError, StoreError

_NEXT = (
    "Next: start the reconciler. Before it writes anything it folds the log from where this store stands, and takes"
    " what was agreed since from the outcome log."
)


@framework.command(
    "reconciler restore --from state-2026-11-22.db -c reconciler.toml",
    "reconciler restore --from shadow.db -c reconciler.toml",
)
@click.option("--from", "origin", type=options.FILE, required=True, metavar="FILE", help="A snapshot, or a store.")
@options.on_store
def restore(config: Config, origin: Path, form: str) -> None:
    """
    Put a snapshot, or a store that was built aside, in the place of the state store.

    Refused while a reconciler runs on the store, and if the snapshot is damaged or not ours. What was there is set
    aside as NAME.replaced-TIME, never deleted. An older snapshot is as good as a new one, as long as the logs still
    hold what came after it.
    """
    store = config.store.path
    if origin.exists() and store.exists() and origin.samefile(store):
        raise StoreError(f"{origin} is the store itself; name a snapshot")
    with backup.replacing(store) as replacement, backup.unowned(origin):
        before = backup.unchecked(store)
        try:
            with output.progress("copying pages", None) as tell:
                backup.copy(origin, replacement.fresh, tell)
            contents = backup.examine(replacement.fresh)
        except StoreDamagedError as error:
            raise StoreError(
                f"{origin} is damaged ({error}); take another snapshot, or `reconciler rebuild`"
            ) from error
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
    told = [f"{store} is {origin} now: {store_files.shown(contents)}. Logs: {store_files.positions(contents)}."]
    if aside:
        told.append(f"What was there is kept as {aside}.")
    if lost:
        places = ", ".join(f"{at.topic}/{at.partition} from {here} to {there}" for at, (here, there) in lost.items())
        told.append(f"It is older than what was there: {places} will be read again.")
    elif aside and not before:
        told.append("What was there can't be read, so nobody can say whether this is older.")
    store_files.lines((*told, _NEXT))
