"""A plan of twenty kills on the broker at hand, and known mistakes that as few must find. `make crash` does more."""

import pytest

from tests import brokers
from tests.crash import plan, runner, strikes
from tests.crash.launch import COUNT_COPIES

pytestmark = [pytest.mark.kafka, pytest.mark.e2e, pytest.mark.slow]

KILLS = 10
# mutant: where a kill makes it show
MISTAKES = {
    "offsets-first": ("before store.fold", "after store.fold"),
    "intend-later": ("after windchill.write", "before store.settle"),
    "drop-outbox": ("before log.append", "after store.settle"),
    COUNT_COPIES: ("after store.fold", "after store.settle"),
}


async def test_a_daemon_killed_twenty_times_loses_nothing_and_repeats_nothing(broker: brokers.Server) -> None:
    tally = await runner.run(runner.Options(seed=1, kills=20), broker)
    assert not tally.violations, f"{tally.violations[:5]}; look into {tally.folder}"
    assert tally.kills.total() == 20
    assert tally.counts["writes of ours"] > 50
    assert tally.counts["writes told of"] > 50


@pytest.mark.parametrize("mutant", MISTAKES)
async def test_a_known_mistake_is_found_within_ten_kills(broker: brokers.Server, mutant: str) -> None:
    options = runner.Options(seed=1, kills=KILLS, mutant=mutant, kinds=MISTAKES[mutant])
    tally = await runner.run(options, broker)
    assert tally.violations, f"{mutant} survived {KILLS} kills"
    assert tally.folder is not None
    runner.remove(tally.folder)


def test_a_seed_is_the_same_plan_again_and_every_point_gets_its_turn() -> None:
    def planned(seed: int) -> list[plan.Life]:
        lives = plan.lives(seed)
        return [next(lives) for _ in range(60)]

    assert planned(3) == planned(3) != planned(4)
    assert {life.kind for life in planned(3)} >= {*strikes.points(), *plan.FROM_OUTSIDE}
