"""What a broker is told to keep of a topic. Only asked, never set."""

import attrs
from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from reconciler.adapters import kafka_client
from reconciler.adapters.kafka_client import KafkaOptions

_FOR_EVER = -1
_DAY_MS = 86_400_000


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


async def retention(options: KafkaOptions) -> Retention | None:
    """Return what the broker keeps of the options' topic, `None` when it does not tell us."""
    connection = kafka_client.connection(options)
    admin = AIOKafkaAdminClient(**connection)
    try:
        await admin.start()
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, options.topic)])
    except (errors.KafkaError, ValueError):
        return None
    finally:
        await admin.close()
    (resource,) = answer.resources
    found = {entry[0]: entry[1] for entry in resource[-1]}
    try:
        return Retention(found["cleanup.policy"], int(found["retention.ms"]), int(found["retention.bytes"]))
    except (KeyError, ValueError):  # not allowed to know, or a broker that knows no such settings
        return None
