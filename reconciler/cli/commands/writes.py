"""`reconciler writes`: stop all writes to Windchill at once, and resume them."""

from typing import TYPE_CHECKING

import click

from reconciler import views
from reconciler.cli import actions, framework, options, output
from reconciler.config import Config
from reconciler.errors import ReconcilerError

if TYPE_CHECKING:
    from reconciler.flows.actions import OperatorActions

writes = framework.family("writes", "Stop all writes to Windchill at once, and resume them.")


@writes.subcommand("stop", "reconciler writes stop --reason 'wrong prices from ERP' -c reconciler.toml")
@click.option(
    "--wait",
    "patience_s",
    type=click.FloatRange(min=0),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for writes under way to end.",
)
@actions.with_actor_and_reason
@options.on_store
def stop(config: Config, *, patience_s: float, actor: str, reason: str, form: str) -> None:
    """
    Stop all writes to Windchill, in all replicas, until they are resumed.

    From the moment that this is stored no write begins any more, also after a restart. Writes under way end as they
    would have: the command waits for that, and says which replica has not confirmed it in time. When it has
    returned without an error, nothing changes Windchill any more. Events are still folded, and no document is lost:
    what they ask for is written after `reconciler writes resume`.
    """

    async def stopped(operator: "OperatorActions") -> views.actions.Writes:
        found = await operator.stop_writes(actor, reason)
        return views.actions.writes(found, await operator.despite_stop(found, patience_s))

    done = actions.run(config, stopped)
    if form == "json":
        output.as_json(done)
    else:
        output.line(f"All writes are {output.stopped(done.write_stop)}. To end this: `reconciler writes resume`.")
    if done.writing:
        raise ReconcilerError(
            f"{', '.join(done.writing)} may still be ending a write: no confirmation came within {patience_s:g} s; the"
            " stop stays in force, and no new write begins"
        )


@writes.subcommand("resume", "reconciler writes resume --reason 'prices are corrected' -c reconciler.toml")
@actions.with_actor_and_reason
@options.on_store
def resume(config: Config, *, actor: str, reason: str, form: str) -> None:
    """Let all replicas write again, after `reconciler writes stop`."""
    if not actions.run(config, lambda operator: operator.resume_writes(actor, reason)):
        raise ReconcilerError("writes are not stopped; nothing was done")
    if form == "json":
        output.as_json(views.actions.writes(None, ()))
    else:
        output.line("All replicas write again, within two seconds.")
