"""A few rounds of misfortune for three replicas, on a real PostgreSQL and Apache Kafka. `make replicas` does more."""

import os

import pytest

from tests import absences, postgres
from tests.brokers import apache

pytestmark = [pytest.mark.kafka, pytest.mark.e2e, pytest.mark.slow]


async def test_three_replicas_lose_nothing_and_overwrite_nobody_whatever_befalls_them(
    request: pytest.FixtureRequest,
) -> None:
    if absent := postgres.missing() or apache.missing():
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs PostgreSQL and Apache Kafka, and there is {absent}", pytrace=False)
        absences.note(request.config, f"several replicas ({absent}) were not tested")
        pytest.skip(f"there is {absent}")
    from tests.replicas import crowd

    tally = await crowd.run(crowd.Options(seed=1, rounds=len(crowd.KINDS)))
    assert not tally.violations, f"{tally.violations[:5]}; look into {tally.folder}"
    assert set(tally.kills) == set(crowd.KINDS)
    assert tally.counts["taken for dead"] >= 1, "it was stopped for longer than a dead one is waited for"
    assert tally.counts["writes of ours"] > 50
