"""Topics: what `doctor` finds of Kafka's topics: how long they keep records, and whose clock stamps these."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import attrs

from reconciler.config import Config

if TYPE_CHECKING:
    from reconciler.adapters.kafka_client import KafkaOptions
    from reconciler.adapters.kafka_topic import Timestamps

OK, FAILED, WARNING = "ok", "failed", "warning"


@attrs.frozen
class Check:
    """One thing that was looked at."""

    check: str
    result: str
    message: str


async def look(name: str, config: Config, *, stamped: bool) -> AsyncIterator[Check]:
    """Look whether a topic keeps what a lost store is rebuilt from and, of a `stamped` one, whose clock does that."""
    from reconciler import parts
    from reconciler.adapters import kafka_topic

    known = parts.kafka_options(config)
    topic, check = config.log.topic, f"retention of the {name}"
    told = await kafka_topic.settings(known, topic)
    if told.retention is None:
        said = f"{topic}: the broker does not tell what it keeps; see that it keeps everything"
        yield Check(check, WARNING, said)
    elif told.retention.losses:
        said = f"{topic}: {' and '.join(told.retention.losses)}; keep everything, or archive it in time with"
        yield Check(check, WARNING, f"{said} `reconciler export`")
    else:
        yield Check(check, OK, f"{topic}: everything is kept")
    if stamped:
        yield _timestamps(name, config, known, told.timestamps)


def _timestamps(name: str, config: Config, known: "KafkaOptions", told: "Timestamps | None") -> Check:
    """Look whether a producer whose clock runs ahead can make its records look as if they were written later."""
    from reconciler.adapters import kafka_topic

    topic, check, skew_s = config.log.topic, f"timestamps of the {name}", config.log.max_clock_skew_s
    by_broker = f"message.timestamp.type={kafka_topic.APPEND_TIME}"
    if told is None:
        said = f"{topic}: the broker does not tell whose clock stamps records; see that it is its own"
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
