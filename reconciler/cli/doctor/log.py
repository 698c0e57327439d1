"""What `reconciler doctor` checks of the log: access, retention, clocks of records, and who may write as whom."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.adapters.clock import SystemClock
from reconciler.cli import log_replay
from reconciler.cli.doctor import retention
from reconciler.cli.doctor.check import FAILED, OK, WARNING, Check
from reconciler.cli.projections import Projection
from reconciler.config import Config
from reconciler.core.events import mapping
from reconciler.errors import ConfigError, LogError
from reconciler.model.policy import OPERATORS, Rule
from reconciler.model.stamp import Partition

if TYPE_CHECKING:
    from reconciler.adapters.kafka_client import KafkaOptions
    from reconciler.adapters.kafka_topic import Timestamps

_LOG_S_MAX = 20.0  # for one topic; more than the log itself needs to say why it can't be reached


async def checks(config: Config) -> AsyncIterator[Check]:
    """Yield what is found of the log and its topics, and of the archive of the projection, if there is one."""
    archive, of_archive = retention.archive_of(config, log_replay.decode_options(config, config))
    async for check in _topics_of(config, archive):
        yield check
    if of_archive is not None:
        yield of_archive
    for told in (_decisions(config), _topics(config), _rules(config)):
        yield told
    for source in config.sources:
        yield _source(source)
    async for told in _schemas(config):
        yield told


async def _topics_of(config: Config, archive: Projection | None) -> AsyncIterator[Check]:
    if config.log.kind == "file":
        check, _ = await _topic("log", config, config.log.path)
        yield check
        return
    from reconciler import factory

    log = config.log
    changes = {"log" if len(log.change_topics) == 1 else f"log {topic}": topic for topic in log.change_topics}
    ranked = {**changes, "decisions": log.decisions_topic}
    beside = {"outcomes": log.outcomes_topic, "dead letters": log.dead_letter_topic}
    known = {name: factory.alone(config, topic, order=log.order) for name, topic in ranked.items()} | {
        name: factory.alone(config, topic) for name, topic in beside.items()
    }
    stamped = ranked if log.order == "log" else changes  # elsewhere decisions rank by our own clock
    for check, begins in await asyncio.gather(*(_topic(name, one, one.log.topic) for name, one in known.items())):
        yield check
        name = check.check
        if check.result == OK and name != "dead letters":
            has = archive if name in ranked else None
            async for told in _settings(name, known[name], begins, has, stamped=name in stamped):
                yield told


async def _topic(name: str, config: Config, what: str) -> tuple[Check, Mapping[Partition, int]]:
    """Return what is found of a topic, and where its partitions begin."""
    source = log_replay.Source(config, lambda _done, _total: None)
    try:
        async with asyncio.timeout(_LOG_S_MAX):
            await source.open({}, accept_truncation=True)  # only its beginning and end are asked for
            begins, ends = await source.positions(), await source.ends()
    except TimeoutError:
        where = ", ".join(config.log.brokers) if config.log.kind == "kafka" else "it"
        return Check(name, FAILED, f"{what}: no answer from {where} within {_LOG_S_MAX:g} s"), {}
    except (ConfigError, LogError) as error:
        return Check(name, FAILED, str(error)), {}
    finally:
        await source.close()
    shown = ", ".join(f"{place.partition} at {end}" for place, end in sorted(ends.items()))
    return Check(name, OK, f"{what}, end of partition {shown}"), begins


async def _settings(
    name: str, config: Config, begins: Mapping[Partition, int], archive: Projection | None, *, stamped: bool
) -> AsyncIterator[Check]:
    """Check whether a topic keeps all records, for a rebuild, and, if it is `stamped`, whose clock stamps them."""
    from reconciler import factory
    from reconciler.adapters import kafka_topic

    known = factory.kafka_options(config)
    told = await kafka_topic.settings(known, config.log.topic)
    topic = retention.Topic(config.log.topic, begins, told.retention)
    yield retention.check(name, topic, archive, SystemClock().now_us())
    if stamped:
        yield _timestamps(name, config, known, told.timestamps)


def _timestamps(name: str, config: Config, known: "KafkaOptions", told: "Timestamps | None") -> Check:
    """Check whether a producer with a fast clock can make its records look newer than they are."""
    from reconciler.adapters import kafka_topic

    topic, check, skew_s = config.log.topic, f"timestamps of the {name}", config.log.max_clock_skew_s
    by_broker = f"message.timestamp.type={kafka_topic.APPEND_TIME}"
    if told is None:
        said = f"{topic}: the broker does not say whose clock stamps records; make sure that it is the broker's"
        return Check(check, WARNING, f"{said}: {kafka_topic.setting(known, topic, by_broker)}")
    if told.by_broker:
        return Check(check, OK, f"{topic}: the broker stamps each record")
    said = f"{topic}: producers stamp their records themselves"
    command = kafka_topic.setting(known, topic, by_broker)
    if config.log.order == "log":
        return Check(check, FAILED, f'{said}, and [log] order = "log" ranks by these timestamps: {command}')
    if told.ahead_ms_max <= skew_s * 1000:
        return Check(check, OK, f"{said}, at most {told.ahead_ms_max / 1000:g} s ahead of the broker")
    return Check(
        check,
        WARNING,
        f"{said}, so a clock that runs ahead is noticed by this host's clock alone. Let the broker stamp them:"
        f" {command}; or bound them with message.timestamp.after.max.ms={skew_s * 1000:.0f}",
    )


# Protections: what `doctor` says of who may speak as whom; of one that is off, also what turns it on.


def _decisions(config: Config) -> Check:
    from reconciler.adapters import file_log

    if config.log.kind == "kafka":
        topic = config.log.decisions_topic
        said = f"decisions of {OPERATORS} are taken from {topic} only; only operators should be able to write there"
        return Check("who decides", OK, said)
    path = file_log.decisions_of(Path(config.log.path))
    open_to_all = [one for one in (path, path.parent) if one.exists() and one.stat().st_mode & 0o022]
    if open_to_all:
        shown = " and ".join(map(str, open_to_all))
        return Check(
            "who decides",
            WARNING,
            f"others may write to {shown} and decide as operators; to prevent that: chmod go-w",
        )
    return Check("who decides", OK, f"decisions of {OPERATORS} are taken from {path} only, which others can't write to")


def _topics(config: Config) -> Check:
    bound = ", ".join(f"{one.name} ({' '.join(one.sources)})" for one in config.log.topics)
    if bound:
        return Check(
            "topics by source",
            OK,
            f"on: {bound}; each system should be able to write to its own topic only",
        )
    where = config.log.path if config.log.kind == "file" else config.log.topic
    said = f"off: anyone who can write to {where} can send events in the name of any system"
    return Check("topics by source", OK, said if config.log.kind == "file" else f"{said}; see [[log.topics]]")


def _rules(config: Config) -> Check:
    limited = [rule for rule in config.policy.rules if rule.sources]
    if not limited:
        said = "off: any source may set every field and release every document; see `sources` of [[policy]]"
        return Check("rules by source", OK, said)
    shown = "; ".join(f"{rule.name} ({', '.join(rule.fields)}): {', '.join(rule.sources)}" for rule in limited)
    return Check("rules by source", OK, f"on: {shown}{_tombstones(config, limited)}")


def _source(source: mapping.Source) -> Check:
    name = f"source {source.name}"
    if source.time is None:
        return Check(name, WARNING, f"{source.source} {mapping.UNPROTECTED}")
    tables = ", ".join(f"{table} ({len(entries)})" for table, entries in source.tables.items()) or "none"
    return Check(name, OK, f"{source.source}, mapping {source.mark}, tables: {tables}")


async def _schemas(config: Config) -> AsyncIterator[Check]:
    from reconciler import factory
    from reconciler.adapters.clock import SystemClock

    try:
        registry = factory.make_registry(config, SystemClock())
    except ConfigError as error:
        yield Check("schemas", FAILED, str(error))
        return
    if registry is not None:
        fault, known = await registry.fault(), config.schemas
        where = " and ".join(filter(None, (known.dir, known.registry_url)))
        yield Check("schemas", OK if fault is None else FAILED, fault or f"to be had from {where}")


def _tombstones(config: Config, limited: list[Rule]) -> str:
    if config.log.kind == "file":
        return ""
    refused = [name for name in config.log.change_topics if not all(rule.admits(f"//kafka/{name}") for rule in limited)]
    if not refused:
        return ""
    return f"; tombstones in {', '.join(refused)} release nothing, because these rules don't name //kafka/{refused[0]}"
