"""`reconciler replay`: fold logs into a store, or beside it to see whether it says what the log says."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import attrs
import click

from reconciler.adapters.clock import SystemClock
from reconciler.cli import commands, exits, looking, options, output, running, sources
from reconciler.config import Config
from reconciler.flows import replay as replaying
from reconciler.flows.ingest import Ingest
from reconciler.flows.replay import Difference, Replayed
from reconciler.model import codec, instant
from reconciler.model.document import Lane
from reconciler.ports import Store

_KAFKA = "kafka"
_FOREVER = "9999-12-31T23:59:59.999999Z"  # no event is later, so nothing is left out, and positions stay as they are

_COLUMNS = (
    output.Column("document", "document", whole=True),
    output.Column("difference", "difference"),
)


@commands.command(
    "reconciler replay --from kafka -c reconciler.toml",
    "reconciler replay --from 2026-10.jsonl.zst --from 2026-11.jsonl --into sqlite:///new.db",
    "reconciler replay --from kafka --check -c reconciler.toml",
)
@click.option("--from", "origins", multiple=True, required=True, metavar="FILE|kafka", help="Logs, in any order.")
@click.option("--until", "until_us", type=options.Moment(), default=None, help="Leave out later events.")
@click.option("--into", "into", metavar="URL", default=None, help="Another store than the configuration's.")
@click.option("--check", is_flag=True, help="Change nothing: fold aside, and list how the store differs.")
@options.reporting
@options.config_file_option
def replay(config_file: Path | None, origins: tuple[str, ...], until_us: int | None, **rest: Any) -> int:
    """
    Fold logs into a store.

    Folding again what a store holds changes nothing, so logs may overlap and come in any order. Outcome logs give back
    what was agreed with Windchill: kafka means both topics; of files, name the outcomes as well. Refused while a
    reconciler runs on the store, except with --check, which exits with 1 if anything differs.
    """
    into, check, form = rest["into"], rest["check"], rest["form"]
    config = options.load(config_file, into)
    until = None if until_us is None else instant.from_us(until_us)
    began_s = SystemClock().monotonic_s()
    if check:
        done, rows = running.run(_check(config, origins, until))
    else:
        done, rows = running.run(_into(config, origins, until)), []
    seconds = max(SystemClock().monotonic_s() - began_s, 1e-9)
    if form == "json":
        output.as_json(rows if check else _summary(done, seconds))
        return exits.FAILED if rows else exits.DONE
    if check:
        output.report(form, rows, _COLUMNS, f"No difference: {config.store.url} is what the log says.")
        print()
    what = f"{done.changed} documents changed, {done.rebased} agreements recovered" if not check else "folded aside"
    output.line(f"{done.records} records in {seconds:.1f} s ({done.records / seconds:.0f} a second): {what}.")
    return exits.FAILED if rows else exits.DONE


async def _into(config: Config, origins: tuple[str, ...], until: str | None) -> Replayed:
    from reconciler import app

    store = await app.open_store(config, owner=True)
    try:
        return await _fold_all(config, origins, until, store, with_outcomes=True)
    finally:
        await store.close()


async def _check(config: Config, origins: tuple[str, ...], until: str | None) -> tuple[Replayed, list[dict[str, Any]]]:
    from reconciler import app

    async with looking.store_of(config) as there:
        with tempfile.TemporaryDirectory(prefix="reconciler-check-") as folder:
            aside = attrs.evolve(config, store=attrs.evolve(config.store, url=f"sqlite:///{folder}/aside.db"))
            here = await app.open_store(aside, owner=True)
            try:
                done = await _fold_all(config, origins, until, here, with_outcomes=False)
                rows = [_row(difference) async for difference in replaying.differences(here, there)]
            finally:
                await here.close()
    return done, rows


async def _fold_all(
    config: Config, origins: tuple[str, ...], until: str | None, store: Store, *, with_outcomes: bool
) -> Replayed:
    total = Replayed(0, 0, 0)
    for origin in origins:
        if origin != _KAFKA:
            logs = [sources.in_file(config, Path(origin))]
        else:
            logs = [sources.in_kafka(config)]
            if with_outcomes and until is None:  # what was agreed later says nothing about a time before
                logs.append(sources.outcomes(logs[0]))
        for log in logs:
            done = await _fold(config, log, until, store)
            total = Replayed(total.records + done.records, total.changed + done.changed, total.rebased + done.rebased)
    return total


async def _fold(config: Config, log: Config, until: str | None, store: Store) -> Replayed:
    from reconciler import app
    from reconciler.adapters.counters import Counters

    name = log.log.path if log.log.kind == "file" else log.log.topic
    with output.progress(f"folding {name}", None) as tell:
        source = sources.Source(log, tell)
        ingest = Ingest(
            source,
            store,
            SystemClock(),
            Counters(),
            rules=app.decoding(log),
            dead_letter_topic=log.log.dead_letter_topic,
            batch_max=replaying.BATCH,
            offer=lambda _: None,
            wake=asyncio.Event(),
            # Where the reconciler goes on is kept for its own log only.
            until=until or (None if _is_the_log(config, log) else _FOREVER),
        )
        ingest.lane = Lane.REPLAY
        try:
            return await replaying.replay(source, ingest, store, lambda _: None)
        finally:
            await source.close()


def _is_the_log(config: Config, log: Config) -> bool:
    if config.log.kind != log.log.kind:
        return False
    if log.log.kind == "file":
        return Path(config.log.path).resolve() == Path(log.log.path).resolve()
    return config.log.topic == log.log.topic


def _row(difference: Difference) -> dict[str, Any]:
    here, there = difference.here, difference.there
    if there is None:
        return {
            "document": difference.key,
            "difference": "missing in the store",
            "fields": sorted(here.fields) if here else [],
        }
    if here is None:
        return {"document": difference.key, "difference": "not in the log", "fields": sorted(there.fields)}
    names = here.fields.keys() | there.fields.keys()
    fields = sorted(
        name for name in names if codec.encode(here.fields.get(name)) != codec.encode(there.fields.get(name))
    )
    return {
        "document": difference.key,
        "difference": f"fields differ: {', '.join(fields)}" if fields else "released at different times",
        "fields": fields,
    }


def _summary(done: Replayed, seconds: float) -> dict[str, Any]:
    return {
        "records": done.records,
        "changed": done.changed,
        "rebased": done.rebased,
        "seconds": seconds,
        "records_per_second": done.records / seconds,
    }
