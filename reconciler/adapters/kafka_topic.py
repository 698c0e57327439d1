"""What a broker is told of a topic: what it keeps, and whose clock stamps records. Only asked, never set."""

from collections.abc import Mapping

import attrs
import structlog
from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from reconciler.adapters import kafka_client
from reconciler.adapters.kafka_client import KafkaOptions
from reconciler.errors import LogError

_log = structlog.get_logger()

_FOR_EVER = -1
_DAY_MS = 86_400_000
APPEND_TIME = "LogAppendTime"


@attrs.frozen
class Retention:
    """What is kept of a topic; -1 means everything."""

    policy: str  # delete, compact, or both
    time_ms: int
    size_bytes: int

    @property
    def losses(self) -> list[str]:
        """What will be lost, in words; empty if nothing is."""
        said = []
        if "compact" in self.policy:
            said.append("it is compacted (cleanup.policy), and a newer event does not stand for an older one")
        if "delete" in self.policy and self.time_ms != _FOR_EVER:
            said.append(f"it keeps {self.time_ms / _DAY_MS:g} days (retention.ms)")
        if "delete" in self.policy and self.size_bytes != _FOR_EVER:
            said.append(f"it keeps {self.size_bytes} bytes a partition (retention.bytes)")
        return said


@attrs.frozen
class Timestamps:
    """Whose clock a record's timestamp is of, and how far it may be ahead of the broker's."""

    kind: str  # CreateTime or LogAppendTime
    ahead_ms_max: int  # of CreateTime only

    @property
    def by_broker(self) -> bool:
        """Whether the broker stamps each record when it is appended."""
        return self.kind == APPEND_TIME


@attrs.frozen
class Settings:
    """What a broker tells of a topic's settings; `None` for what it does not tell."""

    retention: Retention | None = None
    timestamps: Timestamps | None = None


async def settings(options: KafkaOptions, topic: str) -> Settings:
    """Return what the broker tells of a topic."""
    admin = AIOKafkaAdminClient(**kafka_client.connection(options))
    try:
        await admin.start()
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    except (errors.KafkaError, ValueError):
        return Settings()
    finally:
        await admin.close()
    (resource,) = answer.resources
    found = {entry[0]: entry[1] for entry in resource[-1]}
    return Settings(_retention(found), _timestamps(found))


async def require_append_time(options: KafkaOptions, topic: str) -> None:
    """
    Raise LogError unless the broker stamps what is appended to a topic: `[log] order = "log"` ranks by that.

    A broker that does not tell its settings is believed, with a warning.
    """
    told = (await settings(options, topic)).timestamps
    if told is None:
        _log.warning(
            "the broker does not tell whose clock stamps records; see that it is the broker's",
            topic=topic,
            command=setting(options, topic, f"message.timestamp.type={APPEND_TIME}"),
        )
    elif not told.by_broker:
        raise LogError(
            f'[log] order = "log" ranks claims by when the broker appends them, but {topic} keeps the'
            f" producers' own timestamps: {setting(options, topic, f'message.timestamp.type={APPEND_TIME}')}"
        )


def setting(options: KafkaOptions, topic: str, assignment: str) -> str:
    """Return the command that changes a setting of a topic."""
    servers = ",".join(options.brokers)
    return (
        f"kafka-configs --bootstrap-server {servers} --alter --entity-type topics --entity-name {topic}"
        f" --add-config {assignment}"
    )


def _retention(found: Mapping[str, str]) -> Retention | None:
    try:
        return Retention(found["cleanup.policy"], int(found["retention.ms"]), int(found["retention.bytes"]))
    except (KeyError, ValueError):  # not allowed to know, or a broker that knows no such settings
        return None


def _timestamps(found: Mapping[str, str]) -> Timestamps | None:
    # Before Kafka 3.6 one setting bounded both directions.
    ahead_ms = found.get("message.timestamp.after.max.ms") or found.get("message.timestamp.difference.max.ms")
    try:
        return Timestamps(found["message.timestamp.type"], int(ahead_ms or ""))
    except (KeyError, ValueError):
        return None
