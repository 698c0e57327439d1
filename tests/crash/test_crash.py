"""A plan of twenty kills on the broker at hand, and known mistakes that as few must find. `make crash` does more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash import plan, runner, strikes

if TYPE_CHECKING:
    from tests import brokers

pytestmark = [pytest.mark.kafka, pytest.mark.e2e, pytest.mark.slow]

SEED = 24  # of a plan whose first kills strike where the mistakes show
# mutant: within how many kills it must be caught
KILLS = {"offsets-first": 10, "intend-later": 10, "drop-outbox": 10}


async def test_a_daemon_killed_twenty_times_loses_nothing_and_repeats_nothing(broker: brokers.Server) -> None:
    tally = await runner.run(runner.Options(seed=1, kills=20), broker)
    assert not tally.violations, f"{tally.violations[:5]}; look into {tally.folder}"
    assert tally.kills.total() == 20
    assert tally.counts["writes of ours"] > 50
    assert tally.counts["writes told of"] > 50


@pytest.mark.parametrize("mutant", KILLS)
async def test_a_known_mistake_is_found_within_its_number_of_kills(broker: brokers.Server, mutant: str) -> None:
    tally = await runner.run(runner.Options(seed=SEED, kills=KILLS[mutant], mutant=mutant), broker)
    assert tally.violations, f"{mutant} survived {KILLS[mutant]} kills"
    assert tally.folder is not None
    runner.remove(tally.folder)


def test_a_seed_is_the_same_plan_again_and_every_point_gets_its_turn() -> None:
    def planned(seed: int) -> list[plan.Life]:
        lives = plan.lives(seed)
        return [next(lives) for _ in range(60)]

    assert planned(3) == planned(3) != planned(4)
    assert {life.kind for life in planned(3)} >= {*strikes.points(), *plan.FROM_OUTSIDE}
