"""`reconciler revert`: undo what a source has changed in a period."""

import click

from reconciler.adapters.clock import SystemClock
from reconciler.cli import actions, amending, framework, options, output, runtime
from reconciler.config import Config
from reconciler.core.planning.amendments import Amended, Batch
from reconciler.errors import UsageError
from reconciler.model import instant
from reconciler.model.action import ActionKind, Unusable
from reconciler.model.value import Json


@framework.command(
    "reconciler revert --source //erp/prod --since 2h -c reconciler.toml",
    "reconciler revert --source '//erp/*' --since 2026-11-22 --apply",
)
@click.option("--source", required=True, metavar="GLOB", help="The source, or a glob over sources.")
@click.option(
    "--since", "since_us", type=options.Moment(), required=True, help="Events from this time on: a time, or 2h."
)
@click.option(
    "--until", "until_us", type=options.Moment(), default=None, help="Events before this time.  [default: now]"
)
@amending.applying
@actions.with_actor_and_reason
@options.on_store
def revert(
    config: Config,
    *,
    source: str,
    since_us: int,
    until_us: int | None,
    apply: bool,
    per_minute: float,
    actor: str,
    reason: str,
    form: str,
) -> None:
    """
    Set back what a source has changed in a period, by the times of its events.

    A field gets the value that Windchill had before the first of these events was written to it, as the audit trail
    has it. A field that was not written yet keeps its value. What another source, or a person, has changed since stays,
    and a field whose former value is not known is named and left. Without --apply this is only shown.

    With --apply it appends events to the log of decisions. Each replaces exactly the value that is shown here: if
    someone edits the field meanwhile, that edit is decided by your policy. Stop the source first, or it does it again.
    """
    batch = Batch(source, since_us, until_us or SystemClock().now_us())
    if batch.until_us <= batch.since_us:
        raise UsageError("--until must be after --since")
    rows, appended = runtime.run(_revert(config, batch, apply=apply, per_minute=per_minute, who=actor, reason=reason))
    amending.report(form, rows, appended, nothing="Nothing of these events holds any more.")


async def _revert(
    config: Config, batch: Batch, *, apply: bool, per_minute: float, who: str, reason: str
) -> tuple[list[Amended], int | None]:
    rows: list[Amended] = []
    ready = []
    period = instant.from_us(batch.since_us), instant.from_us(batch.until_us)
    details: dict[str, Json] = {"source": batch.source, "since": period[0], "until": period[1], "reason": reason}
    async with amending.opened(config) as amends:
        async for one in amends.revert(who, batch, reason or f"undo {batch.source} since {period[0][:19]}Z"):
            if isinstance(one, Unusable):
                runtime.note(f"left: {one.reason}")
                continue
            rows += one.amendment.rows
            ready.append(one)
        if not apply:
            return rows, None
        with output.progress("appending", len(ready)) as tell:
            count = await amends.append(
                who, ActionKind.REVERT, ready, details, per_minute=per_minute, done=lambda n: tell(n, None)
            )
    return rows, count
