"""
Notified: where the store keeps how far each receiver of notifications was told, and since when it has been broken.

They are positions of a topic whose name no Kafka topic can have. The webhook's has no name, as it was the first.
"""

from collections.abc import Mapping
from typing import Final

from reconciler.model.stamp import Partition

WEBHOOK: Final = "webhook"
"""The name of the receiver that `notify.webhook_url` names."""

_TOPIC: Final = "(notified)"


def floor(name: str) -> Partition:
    """Return the place of the time before which a receiver was told of everything."""
    return Partition(_topic(name), 0)


def letter(name: str) -> Partition:
    """Return the place of the number of the last dead letter that it was told of."""
    return Partition(_topic(name), 1)


def broken(name: str) -> Partition:
    """Return the place of the time since which it has accepted nothing; 0: it works."""
    return Partition(_topic(name), 2)


def of_logs(stored: Mapping[Partition, int]) -> dict[Partition, int]:
    """Return the store's positions without these."""
    return {place: offset for place, offset in stored.items() if not place.topic.startswith(_TOPIC)}


def failing(stored: Mapping[Partition, int]) -> dict[str, int]:
    """Return the names of broken receivers, each with the time since which it is."""
    return {
        place.topic.removeprefix(_TOPIC).strip() or WEBHOOK: since_us
        for place, since_us in sorted(stored.items())
        if since_us and place.partition == broken(WEBHOOK).partition and place.topic.startswith(_TOPIC)
    }


def _topic(name: str) -> str:
    return _TOPIC if name == WEBHOOK else f"{_TOPIC} {name}"
