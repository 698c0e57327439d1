"""What `on_adopt` says of a field at first sight holds until its first write has come to an end."""

from typing import Any

import pytest

from reconciler.model.answer import Throttled, VersionConflict
from reconciler.model.document import Status
from reconciler.model.policy import Adopt, Rule, Strategy
from tests.flows.conftest import MakeWorld
from tests.flows.world import policy

STRATEGIES = [Strategy.PRESERVE, Strategy.MERGE, Strategy.NEWEST, Strategy.HOLD]  # the others take no `on_adopt`
ANSWERS = {"version conflict": VersionConflict(412, "changed"), "throttled": Throttled(429, "slow down")}


class Died(BaseException):
    """The program ends here."""


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("held_up", [*ANSWERS, "dead"])
async def test_a_first_write_goes_out_whatever_held_it_up(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, strategy: Strategy, held_up: str
) -> None:
    world = make_world(policy(Rule(("owner",), strategy, on_adopt=Adopt.WRITE)))
    await world.emit({"owner": "akim"})
    await world.edit({"attributes.Note": "someone was here after the event"})
    if held_up == "dead":
        store = world.store.intend

        async def intend(*given: Any) -> bool:
            monkeypatch.setattr(world.store, "intend", store)
            await store(*given)
            raise Died

        monkeypatch.setattr(world.store, "intend", intend)
        with pytest.raises(Died):
            await world.attempt()
    else:
        world.windchill.script_writes(ANSWERS[held_up])
        await world.attempt()
    assert world.live()["owner"] != "akim"
    assert (await world.settle()).status is Status.SYNCED
    assert world.live()["owner"] == "akim"
