"""`reconciler store migrate`: brings the schema of a store on PostgreSQL up to date."""

from reconciler.cli import framework, options, output, runtime, store_access
from reconciler.config import Config

store = framework.family("store", "The state store as a whole: bring its schema up to date.")


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
