"""`reconciler status`: where everything stands, at a glance."""

import asyncio
import os
from typing import TYPE_CHECKING, Any

import click
import msgspec

from reconciler import views
from reconciler.cli import framework, options, output, runtime, store_access
from reconciler.config import Config
from reconciler.errors import LogError
from reconciler.model.standing import reaches
from reconciler.ports import standing

if TYPE_CHECKING:
    from reconciler.model.stamp import Partition

_LOG_S_MAX = 5.0  # for reaching the log: whoever asks for the status waits for it

_LOG_COLUMNS = (
    output.Column("topic", "topic", whole=True),
    output.Column("partition", "partition", right=True),
    output.Column("position", "folded up to", right=True),
    output.Column("end", "end", right=True),
    output.Column("lag", "lag", right=True),
)


@framework.command("reconciler status -c reconciler.toml")
@options.on_store
def status(config: Config, form: str) -> None:
    """
    Show where everything stands.

    How many documents are pending, held or parked, what waits for a person, and how far the log is folded.
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
            ("log", found["log_error"] or "reachable"),
        ]
    )
    if found["log"]:
        print()
        output.table(found["log"], _LOG_COLUMNS)


def _names_log() -> bool:
    """Whether anything says which log it is: with `--store` alone, a Kafka that nobody has would be waited for."""
    given = click.get_current_context().params
    if given["store_url"] is None or given["config_file"] is not None:
        return True
    return any(name.startswith("RECONCILER_LOG__") for name in os.environ)


async def _gather(config: Config, *, ask_log: bool) -> dict[str, Any]:
    """Return what the API says of store and log, with which store it is and why the log is not reached."""
    from reconciler.adapters.clock import SystemClock
    from reconciler.flows import watch

    async with store_access.opened(config) as store:
        found = await standing.of(store, SystemClock().now_us())
        positions = watch.of_logs(await store.positions())
    ends, trouble = await _ends(config) if ask_log else (None, "not asked: name it with -c")
    if ends is not None:
        positions = {place: offset for place, offset in positions.items() if place in ends}
    elif ask_log and config.log.kind == "kafka":  # of the outcome log nobody wants to know here
        read = config.log.read_topics
        positions = {place: offset for place, offset in positions.items() if place.topic in read}
    return {
        "store": config.store.url,
        **msgspec.structs.asdict(views.service.standing(found, reaches(positions, ends))),
        "log_reachable": ends is not None if ask_log else None,
        "log_error": trouble,
    }


async def _ends(config: Config) -> "tuple[dict[Partition, int] | None, str | None]":
    from reconciler import factory
    from reconciler.adapters.clock import SystemClock

    log = factory.make_log(config, SystemClock(), grows=False)
    try:
        async with asyncio.timeout(_LOG_S_MAX):
            await log.open({}, accept_truncation=True)  # only its end is asked for
            return dict(await log.ends()), None
    except TimeoutError:
        where = ", ".join(config.log.brokers) if config.log.kind == "kafka" else config.log.path
        return None, f"can't be reached at {where} within {_LOG_S_MAX:g} s, so the lag is not known"
    except LogError as error:
        return None, f"can't be reached, so the lag is not known: {error}"
    finally:
        await log.close()


def _counts(documents: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in documents.items() if count)


def _many(count: int, rest: str) -> str:
    return f"{count} {rest}" if count else "none open"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "nothing is pending"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(seconds, 0):.1f} s"
