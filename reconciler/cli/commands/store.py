"""`reconciler store`: brings the schema of a store on PostgreSQL up to date, and moves a store into one."""

import uuid

import attrs
import click

from reconciler.cli import framework, options, output, runtime, store_access
from reconciler.config import Config
from reconciler.errors import StoreError
from reconciler.ports import StoreAdmin
from reconciler.ports.store_admin import Tell

store = framework.family("store", "The state store as a whole: bring its schema up to date, or move it.")


@store.subcommand("migrate", "reconciler store migrate -c reconciler.toml")
@options.on_store
def migrate(config: Config, form: str) -> None:
    """
    Bring the schema of a store on PostgreSQL up to date, and make it if there is none.

    `reconciler run` refuses a store whose schema is not the one that it knows. The database must exist, and its user
    must be allowed to make tables. Nothing happens if the schema is current, so a deployment may always begin with it.
    """
    admin = store_access.admin(config)
    done = list(runtime.run(admin.migrate()))
    if form == "json":
        output.as_json({"store": admin.name, "migrations": done})
        return
    output.line(f"{admin.name}: {', '.join(done) if done else 'the schema is current'}.")


@store.subcommand(
    "move",
    "reconciler store migrate --store postgresql://db/rec -c reconciler.toml",
    "reconciler store move --from sqlite:///state.db --to postgresql://db/rec",
)
@click.option("--from", "origin", required=True, metavar="URL", help="The store in a file.")
@click.option("--to", "target", required=True, metavar="URL", help="The empty store on PostgreSQL.")
@options.reporting
@options.configured()
def move(config: Config, origin: str, target: str, form: str) -> None:
    """
    Move a store from a file into PostgreSQL, with everything in it.

    No reconciler may be running on either. The database must be empty, but for `reconciler store migrate`. How to reach
    it (password, TLS) comes from `[store]`. All of it arrives or nothing: it is read back and compared before it
    counts, and whatever interrupts this leaves the file as it was. Afterwards the file refuses to be used, and
    names the new place. Numbers and links of the audit trail stay the same.
    """
    leaves, arrives = (
        store_access.admin(attrs.evolve(config, store=attrs.evolve(config.store, url=url))) for url in (origin, target)
    )
    with output.progress("moving and reading back", None) as tell:
        documents = runtime.run(_move(leaves, arrives, tell))
    if form == "json":
        output.as_json({"from": leaves.name, "to": arrives.name, "documents": documents})
        return
    moved = "was moved already" if documents is None else f"moved with {output.counted(documents, 'document')}"
    output.line(f"{leaves.name} {moved}. Now set store.url to {arrives.name}, with the user, and start the reconciler.")


async def _move(leaves: StoreAdmin, arrives: StoreAdmin, tell: Tell) -> int | None:
    """Move a store; None if an earlier try has done that, and was interrupted before it could say so."""
    with leaves.leaving() as cargo:
        documents = None
        place, try_ = cargo.leaving or (arrives.name, "")
        if place != arrives.name:
            raise StoreError(f"{leaves.name} was about to be moved to {place}; finish that first, with the same --to")
        if not try_ or not await arrives.has_received(try_):
            try_ = str(uuid.uuid4())
            documents = await arrives.receive(cargo, try_, tell)
        cargo.left(arrives.name, try_)
        return documents
