"""`reconciler replay`: folds logs into a store, or checks a store against them."""

from pathlib import Path
from typing import Any

import click

from reconciler.adapters.clock import SystemClock
from reconciler.cli import framework, log_replay, options, output, runtime, store_access
from reconciler.config import Config
from reconciler.flows import replay as replaying
from reconciler.flows.replay import Difference, Replayed
from reconciler.model import codec, instant

_COLUMNS = (
    output.Column("document", "document", whole=True),
    output.Column("difference", "difference"),
)


@framework.command(
    "reconciler replay --from kafka -c reconciler.toml",
    "reconciler replay --from 10.jsonl.zst --from 11.jsonl --into sqlite:///n.db",
    "reconciler replay --from kafka --check -c reconciler.toml",
    "reconciler replay --from state.jsonl.zst --then kafka -c reconciler.toml",
)
@options.origins(required=True)
@click.option("--until", "until_us", type=options.Moment(), default=None, help="Skip later events.")
@click.option("--into", "into", metavar="URL", default=None, help="Fold into this store instead of the configured one.")
@click.option("--check", is_flag=True, help="Change nothing; list how the store differs from the logs.")
@options.accept_truncation
@options.reporting
@options.config_file_option
def replay(config_file: Path | None, origins: tuple[str, ...], until_us: int | None, **rest: Any) -> int:
    """
    Fold logs into a store.

    Folding the same events again changes nothing, so logs may overlap and come in any order. "kafka" stands for all
    topics, including the outcomes; name archives of outcomes as well as archives of events, or what was agreed with
    Windchill is not recovered. If Kafka no longer has the beginning of a log, give archives that do, or an archive of
    the projection (`export projection --with-positions`): the configured log is then read from its positions on.

    The reconciler must not run on the store meanwhile, except for --check, which exits with 1 if anything differs. With
    --check beside a running reconciler, new events show as differences: repeat it to see what remains.
    """
    into, check, form, accept = rest["into"], rest["check"], rest["form"], rest["accept_truncation"]
    config = options.load(config_file, into)
    log_replay.require_brokers(config, origins)
    until = None if until_us is None else instant.from_us(until_us)
    began_s = SystemClock().monotonic_s()
    if check:
        done, rows = runtime.run(_check(config, origins, until, accept))
    else:
        done, rows = runtime.run(_into(config, origins, until, accept)), []
    seconds = max(SystemClock().monotonic_s() - began_s, 1e-9)
    if form == "json":
        output.as_json(rows if check else _summary(done, seconds))
        return runtime.FAILED if rows else runtime.DONE
    if check:
        output.report(form, rows, _COLUMNS, f"No difference: {config.store.url} agrees with the log.")
        print()
    changed, rebased = output.counted(done.changed, "row"), output.counted(done.rebased, "agreement")
    what = f"{changed} changed, {rebased} recovered" if not check else "folded aside"
    output.line(
        f"{output.counted(done.records, 'record')} in {seconds:.1f} s ({done.records / seconds:.0f} a second): {what}."
    )
    return runtime.FAILED if rows else runtime.DONE


async def _into(config: Config, origins: tuple[str, ...], until: str | None, accept: bool) -> Replayed:
    async with log_replay.owned(config) as store:
        return await log_replay.fold_all(config, origins, until, store, with_outcomes=True, accept_truncation=accept)


async def _check(
    config: Config, origins: tuple[str, ...], until: str | None, accept: bool
) -> tuple[Replayed, list[dict[str, Any]]]:
    async with store_access.opened(config) as there, log_replay.aside(config) as here:
        done = await log_replay.fold_all(config, origins, until, here, with_outcomes=False, accept_truncation=accept)
        return done, [_row(difference) async for difference in replaying.differences(here, there)]


def _row(difference: Difference) -> dict[str, Any]:
    here = difference.here.fields if difference.here else {}
    there = difference.there.fields if difference.there else {}
    names = here.keys() | there.keys()
    fields = sorted(name for name in names if codec.encode(here.get(name)) != codec.encode(there.get(name)))
    if difference.there is None:
        what, fields = "missing in the store", sorted(here)
    elif difference.here is None:
        what, fields = "not in the log", sorted(there)
    else:
        what = f"fields differ: {', '.join(fields)}" if fields else "released at different times"
    return {"document": difference.key, "difference": what, "fields": fields}


def _summary(done: Replayed, seconds: float) -> dict[str, Any]:
    return {
        "records": done.records,
        "changed": done.changed,
        "rebased": done.rebased,
        "seconds": seconds,
        "records_per_second": done.records / seconds,
    }
