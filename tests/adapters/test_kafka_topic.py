"""What is said of a topic that does not keep everything."""

import pytest

from reconciler.adapters.kafka_topic import Retention


@pytest.mark.parametrize(
    ("retention", "said"),
    [
        (Retention("delete", -1, -1), []),
        (Retention("delete", 86_400_000, -1), ["it keeps 1 days (retention.ms)"]),
        (Retention("delete", -1, 64 * 1024**2), ["it keeps 64 MiB a partition (retention.bytes)"]),
        (
            Retention("compact", 1, 1),
            ["it is compacted (cleanup.policy), and a newer event does not replace an older"],
        ),
        (Retention("compact,delete", 43_200_000, -1), ["it is compacted", "it keeps 0.5 days (retention.ms)"]),
    ],
)
def test_every_way_of_losing_records_is_named(retention: Retention, said: list[str]) -> None:
    assert [found[: len(begin)] for found, begin in zip(retention.losses, said, strict=True)] == said
