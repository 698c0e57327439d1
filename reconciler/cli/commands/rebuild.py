"""`reconciler rebuild`: makes a new state store from the logs, in the place of one that is damaged or lost."""

from typing import TYPE_CHECKING

from reconciler.adapters.clock import SystemClock
from reconciler.cli import framework, log_replay, options, output, runtime, store_access, store_files
from reconciler.config import Config
from reconciler.ports.store_admin import Replaced

if TYPE_CHECKING:
    from reconciler.flows.replay import Replayed

_NOT_IN_LOGS = (
    "the audit trail, closed conflicts, and counts of attempts and hot spots",
    "which dead letters were discarded or replayed: all are open again, and are announced again",
    "unpublished outcomes, and writes whose result was unknown: these documents are compared again",
)
_NEXT = "Next: start the reconciler. It compares every document with Windchill and writes only what is not agreed."


@framework.command(
    "reconciler rebuild -c reconciler.toml",
    "reconciler rebuild --from 2025.jsonl.zst --from kafka -c reconciler.toml",
)
@options.origins(required=False, default="the configured log, after `retention.projection`")
@options.accept_truncation
@options.reporting
@options.configured()
def rebuild(config: Config, origins: tuple[str, ...], accept_truncation: bool, form: str) -> None:
    """
    Rebuild a damaged or lost state store from the logs.

    The reconciler must not run on the store. Once the new store is complete, the old one is kept as NAME.damaged-TIME;
    an interrupted rebuild changes nothing and can be repeated. What was agreed with Windchill is recovered from the
    outcome log. --from takes the same logs as `replay`.
    """
    store, clock = store_access.admin(config), SystemClock()
    began_s = clock.monotonic_s()
    log_replay.require_brokers(config, origins)
    logs = origins or log_replay.configured(config)
    with store.rebuilding(store_files.now()) as fresh:
        done = runtime.run(_build(config, fresh.url, logs, accept_truncation))
        now = fresh.put()
    contents = now.contents
    seconds = clock.monotonic_s() - began_s
    if form == "json":
        output.as_json(
            {
                "store": store.name,
                "set_aside": now.aside,
                "audit_records_aside": now.audited,
                "records": done.records,
                "rebased": done.rebased,
                "seconds": seconds,
                **store_files.as_json(contents),
            }
        )
        return
    records, agreements = output.counted(done.records, "record"), output.counted(done.rebased, "agreement")
    held = f"{store_files.shown(contents)}, {agreements}"
    store_files.lines(
        (
            f"{store.name} was rebuilt: {held}, from {records} in {seconds:.1f} s.",
            f"Logs: {store_files.positions(contents)}.",
            *_of_aside(now),
            *(("Not in any log, and therefore lost:", *(f"  - {one}" for one in _NOT_IN_LOGS)) if now.aside else ()),
            _NEXT,
        )
    )


async def _build(config: Config, fresh: str, origins: tuple[str, ...], accept_truncation: bool) -> "Replayed":
    async with log_replay.owned(config, fresh) as store:
        return await log_replay.fold_all(
            config, origins, None, store, with_outcomes=True, accept_truncation=accept_truncation
        )


def _of_aside(now: Replaced) -> tuple[str, ...]:
    if now.aside is None:
        return ()
    kept = f"The old store is kept as {now.aside}."
    if now.audited is None:
        return (kept, "Its audit trail can't be read in full.")
    where = f"`reconciler audit list --store {now.aside_url}`"
    return (kept, f"Its audit trail can still be read ({output.counted(now.audited, 'record')}): {where}.")
