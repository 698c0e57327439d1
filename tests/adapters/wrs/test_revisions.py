"""A document that is revised while we write to it: the old revision, whose IDs we know, is left as it is."""

import pytest

from reconciler.model.document import Status
from reconciler.model.policy import Rule, Strategy
from tests.adapters.wrs.conftest import MakeWorld
from tests.adapters.wrs.world import ME, WrsWorld
from tests.flows.world import KEY, policy

OLD = f"{KEY} (A)"
LATEST = pytest.mark.parametrize("latest_of", ["revision", "document"])


@pytest.fixture
async def world(make_world: MakeWorld) -> WrsWorld:
    """A world whose document was written once, so that we know its ID."""
    return await (await make_world(policy(Rule(("State", "Name"), Strategy.EXTERNAL)))).known()


def revise(world: WrsWorld, step: str = "") -> None:
    """Let a person revise the document: now, or right before the next request that is named so."""
    if step:
        world.wire.before[step] = lambda: world.person.does("revise")
    else:
        world.person.does("revise")


def written_beside(world: WrsWorld) -> list[str]:
    """What we have done to the old revision, but for writes from before it was one."""
    revised = max(entry.sequence for entry in world.simulated.history(KEY) if entry.way == "Revise")
    old = [entry for entry in world.simulated.history(OLD) if entry.who == ME]
    assert all(entry.sequence > revised for entry in old)
    return [str(entry.way) for entry in old]


@LATEST
@pytest.mark.parametrize("step", ["", "GET one", "CheckOut"])
async def test_attributes_go_into_the_new_revision_whenever_a_person_makes_it(
    world: WrsWorld, step: str, latest_of: str
) -> None:
    world.switch(latest_of=latest_of)
    revise(world, step)
    await world.reconcile({"Owner": "akim", "CostCenter": "4711"})
    assert written_beside(world) == []
    assert {*world.cycles(document=OLD)} <= {"CheckOut", "UndoCheckOut"}
    assert world.cycles() == ["CheckOut", "CheckIn"] * 2
    assert (world.where()["version"], world.live()["owner"]) == ("B.2", "akim")
    assert (world.holder(), world.where(OLD)["locked_by"]) == (None, None)
    assert world.document().status is Status.SYNCED


async def test_a_check_out_of_what_has_become_the_old_revision_is_given_up(world: WrsWorld) -> None:
    revise(world, "CheckOut")
    await world.reconcile({"Owner": "akim"})
    assert world.cycles(document=OLD) == ["CheckOut", "UndoCheckOut"]
    assert world.wire.asked.count("PATCH") == 1


@LATEST
@pytest.mark.parametrize(("field", "path"), [("State", "status"), ("Name", "name")])
@pytest.mark.parametrize("step", ["", "GET list"])
async def test_what_takes_an_action_goes_to_the_new_revision(
    world: WrsWorld, field: str, path: str, step: str, latest_of: str
) -> None:
    world.switch(latest_of=latest_of)
    revise(world, step)
    await world.reconcile({field: "INREVIEW"})
    assert written_beside(world) == []
    assert world.live()[path] == "INREVIEW"
    assert world.document().status is Status.SYNCED


@LATEST
@pytest.mark.parametrize("step", ["GetValidStateTransitions", "GET one", "SetState"])
async def test_a_state_that_has_gone_to_the_old_revision_all_the_same_is_set_on_the_new_one_too(
    world: WrsWorld, step: str, latest_of: str
) -> None:
    world.switch(latest_of=latest_of)
    revise(world, step)
    await world.reconcile({"State": "INREVIEW"})
    assert written_beside(world) in ([], ["SetState"])  # no lock keeps it from that
    assert world.document().status is Status.SYNCED
    assert world.live()["status"] == "INREVIEW"
