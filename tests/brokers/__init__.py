"""
Brokers that tests start themselves: Apache Kafka where it can be had, else the embedded broker. No Docker.

What lives here: starting, stopping, choosing. What never does: anything about the reconciler.
"""

import os
import shutil
from typing import Protocol

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient

from reconciler.model.stamp import Partition
from reconciler.simulator import broker as embedded
from tests.brokers import apache


class Server(Protocol):
    """A broker that tests can start. `brokers` is what a client bootstraps from, while it runs."""

    @property
    def name(self) -> str: ...
    @property
    def brokers(self) -> list[str]: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    async def create_topic(self, name: str, partitions: int) -> None: ...


class Embedded(embedded.Broker):
    """The embedded broker with a name, and with topics made the way other brokers make them."""

    name = "the embedded broker (librdkafka's mock cluster)"

    async def create_topic(self, name: str, partitions: int) -> None:
        self.make_topic(name, partitions)


def must_be_apache() -> bool:
    """In CI a quiet fall back would hide for months that nothing is tested against the real one any more."""
    return os.environ.get("CI", "").lower() in {"1", "true"}


def choose() -> Server:
    """
    The broker that tests should run against, not yet started.

    The first call on a machine downloads Apache Kafka's jars, some 45 MB. Raises `apache.Unavailable` in CI if there is
    no Apache Kafka; elsewhere that means the embedded broker.
    """
    try:
        apache.jars()
        if shutil.which("java") is None:
            raise apache.Unavailable("no java on PATH")
    except apache.Unavailable:
        if must_be_apache():
            raise
        return Embedded()
    return apache.Apache()


def describe() -> str:
    """Which broker tests will run against, for the head of a report. Downloads and starts nothing."""
    absent = apache.missing()
    if absent is None:
        return f"Apache Kafka {apache.version()}"
    return f"{Embedded.name}, because there is {absent}" + (", which CI needs" if must_be_apache() else "")


async def group_offsets(server: Server, group: str) -> dict[Partition, int]:
    """What tools that watch the lag of a consumer group see."""
    admin = AIOKafkaAdminClient(bootstrap_servers=server.brokers)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
    except errors.GroupCoordinatorNotAvailableError:  # the broker makes the topic of its groups for the first of them
        return {}
    finally:
        await admin.close()
    return {Partition(*place): told.offset for place, told in found.items()}
