"""`reconciler status`: documents by status, open conflicts and dead letters, and the lag of the log."""

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from reconciler import views
from reconciler.adapters.clock import SystemClock
from reconciler.cli import framework, options, output, runtime, store_access
from reconciler.config import Config
from reconciler.core.scheduling import windows
from reconciler.errors import LogError
from reconciler.model import instant, notified
from reconciler.model.chain import Cut
from reconciler.model.standing import reaches
from reconciler.ports import standing

if TYPE_CHECKING:
    from reconciler.model.stamp import Partition

_LOG_S_MAX = 5.0  # for reaching the log, while someone waits for the answer

_LOG_COLUMNS = (
    output.Column("topic", "topic", whole=True),
    output.Column("partition", "partition", right=True),
    output.Column("position", "folded up to", right=True),
    output.Column("end", "end", right=True),
    output.Column("lag", "lag", right=True),
)


_REPLICA_COLUMNS = (
    output.Column("slot", "slot", right=True),
    output.Column("name", "replica", whole=True),
    output.Column("sign", "last sign of life", right=True),
    output.Column("in_flight_max", "requests at most", right=True),
    output.Column("state", "state"),
)


@framework.command("reconciler status -c reconciler.toml")
@options.on_store
def status(config: Config, form: str) -> None:
    """
    Show an overview of documents, conflicts, dead letters and log.

    Counts documents by status and what needs a person's decision, and shows how far the log is folded.
    """
    found = runtime.run(_gather(config, ask_log=_names_log()))
    if form == "json":
        output.as_json(found)
        return
    documents = found["documents"]
    total = sum(documents.values())
    output.facts(
        [
            ("store", found["store"]),
            ("documents", f"{total}: {_counts(documents)}" if total else "none yet"),
            ("oldest pending", _age(found["oldest_pending_seconds"])),
            ("conflicts", _many(found["conflicts"], "open; see `reconciler conflicts list`")),
            ("dead letters", _many(found["dead_letters"], "open; see `reconciler dead-letters list`")),
            ("to be compared", _many(found["comparisons_due"], "due now")),
            ("archived", _archived(found["archived"])),
            *((f"disk of the {disk.of}", _free(disk)) for disk in found["disks"]),
            ("log", found["log_error"] or "reachable"),
            *([("part", " ".join(found["part"]))] if found["part"] else []),
            *(("notifications", _failing(one)) for one in found["notifications_failing"]),
            *(
                [("maintenance", f"until {output.when(found['maintenance_until'])}")]
                if found["maintenance_until"]
                else []
            ),
            *([("writes", output.stopped(found["write_stop"]))] if found["write_stop"] else []),
        ]
    )
    if found["replicas"]:
        print()
        output.table([_replica(one, found["write_stop"]) for one in found["replicas"]], _REPLICA_COLUMNS)
    if found["log"]:
        print()
        output.table(found["log"], _LOG_COLUMNS)


def _names_log() -> bool:
    """Whether a log is configured: with `--store` alone, the default broker would be waited for in vain."""
    given = click.get_current_context().params
    if given["store_url"] is None or given["config_file"] is not None:
        return True
    return any(name.startswith("RECONCILER_LOG__") for name in os.environ)


async def _gather(config: Config, *, ask_log: bool) -> dict[str, Any]:
    """Return the API's figures of store and log, the store's URL, and why the log could not be reached."""
    from reconciler import factory
    from reconciler.flows import maintenance

    async with store_access.opened(config) as store:
        found = await standing.of(store, SystemClock().now_us())
        positions = notified.of_logs(await store.positions())
        cuts = await store.cuts()
        word = await maintenance.said(store)
    until_us = windows.until_us(found.at_us, factory.make_windows(config)(found.at_us), word)
    reached, trouble = await ends(config) if ask_log else (None, "not checked; give -c FILE to check it")
    if reached is not None:
        positions = {place: offset for place, offset in positions.items() if place in reached}
    elif ask_log and config.log.kind == "kafka":  # the outcome log is not shown here
        read = config.log.read_topics
        positions = {place: offset for place, offset in positions.items() if place.topic in read}
    return {
        "store": config.store.url,
        **msgspec.to_builtins(
            views.service.standing(found, reaches(positions, reached), config.windchill.in_flight_max)
        ),
        "maintenance_until": views.shape.at(until_us),
        "archived": _last(cuts),
        "disks": views.service.disks(factory.spaces(config)),
        "log_reachable": reached is not None if ask_log else None,
        "log_error": trouble,
        "part": [*config.log.subjects, *config.log.sources],
    }


async def ends(config: Config) -> "tuple[dict[Partition, int] | None, str | None]":
    """Return where each partition of the log ends, or why it can't be reached."""
    from reconciler import factory

    log = factory.make_log(config, SystemClock(), grows=False)
    try:
        async with asyncio.timeout(_LOG_S_MAX):
            await log.open({}, accept_truncation=True)  # only its end is asked for
            return dict(await log.ends()), None
    except TimeoutError:
        where = ", ".join(config.log.brokers) if config.log.kind == "kafka" else config.log.path
        return None, f"can't be reached at {where} within {_LOG_S_MAX:g} s, so the lag is unknown"
    except LogError as error:
        return None, f"can't be reached, so the lag is unknown: {error}"
    finally:
        await log.close()


def _replica(one: dict[str, Any], stop: object) -> dict[str, Any]:
    writing = "writes, or may still" if stop else "works"
    state = "evicted" if one["evicted"] else writing if one["writing"] else "writes nothing"
    return {**one, "sign": f"{one['silent_s']:.1f} s ago", "state": state}


def _failing(one: dict[str, Any]) -> str:
    return f"{one['to']} has accepted nothing since {output.when(one['since'])}; the log says why"


def _last(cuts: Sequence[Cut]) -> dict[str, Any] | None:
    """Return how much of the audit trail is in archives; None: nothing."""
    if not cuts:
        return None
    last = max(cuts, key=lambda cut: cut.until_us)
    return {"archives": len(cuts), "until": instant.from_us(last.until_us), "last": last.file}


def _archived(found: dict[str, Any] | None) -> str:
    if found is None:
        return "nothing; the store has the whole audit trail"
    count = output.counted(found["archives"], "archive")
    return f"the audit trail up to {output.when(found['until'])}, in {count}; see `reconciler audit archives`"


def _free(disk: views.service.Disk) -> str:
    free = f"{disk.free_bytes / 1e9:.1f} of {disk.size_bytes / 1e9:.1f} GB are free"
    return f"nearly full: {free}" if disk.low else free


def _counts(documents: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in documents.items() if count)


def _many(count: int, rest: str) -> str:
    return f"{count} {rest}" if count else "none open"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "none"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(seconds, 0):.1f} s"
