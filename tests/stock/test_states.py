"""State and Name on a stock server: what goes out by actions, and what is said when a person was there too."""

from typing import Any

import pytest

from reconciler.model.document import Status
from reconciler.model.policy import Rule, Strategy
from tests.flows.world import KEY, policy
from tests.stock.conftest import MakeWorld
from tests.stock.world import PERSON, StockWorld

GIVE_WAY = policy(Rule(("State", "Name"), Strategy.MERGE, on_overlap=Strategy.PRESERVE))


@pytest.mark.parametrize("shape", ["Items", "value"])
async def test_a_state_goes_out_whichever_shape_the_transitions_have(world: StockWorld, shape: Any) -> None:
    world.stock.transitions = shape
    await world.emit({"State": "UNDERREVIEW"})
    assert (await world.settle()).status is Status.SYNCED
    assert (world.live()["State"], world.ours()) == ("UNDERREVIEW", ["SetState"])


async def test_transitions_that_cannot_be_read_are_not_taken_for_none(world: StockWorld) -> None:
    world.stock.transitions = "nonsense"
    await world.emit({"State": "UNDERREVIEW"})
    await world.attempt()
    assert world.ours() == []
    assert world.document().status is not Status.SYNCED
    said = repr(world.document())
    assert "understood" in said or "unreadable" in said
    assert "allows" not in said, "an answer that can't be read was taken for a refusal by the life cycle"
    world.stock.transitions = "Items"
    for _ in range(20):
        if world.document().status is not Status.SYNCED:
            await world.wait()
            await world.attempt()
    assert world.live()["State"] == "UNDERREVIEW"


async def test_a_state_that_the_life_cycle_does_not_allow_is_held_with_those_that_it_does(world: StockWorld) -> None:
    await world.emit({"State": "RELEASED"})
    assert (await world.settle()).status is Status.HELD
    (held,) = world.document().agreement.held
    assert "UNDERREVIEW" in str(held.reasons)
    assert world.ours() == []


async def test_a_state_that_a_person_changes_after_the_transitions_were_read_is_seen_before_ours_is_sent(
    make_world: MakeWorld,
) -> None:
    world = await (await make_world(GIVE_WAY)).known()
    await world.emit({"State": "UNDERREVIEW"})
    world.stock.at("GetValidStateTransitions", "after", lambda: world.vault.set_state(PERSON, KEY, "CANCELLED"))
    await world.settle()
    assert world.live()["State"] == "CANCELLED", "the person's move was overwritten"
    assert "SetState" not in world.ours()


@pytest.mark.parametrize(
    ("action", "ours", "theirs"),
    [("SetState", {"State": "UNDERREVIEW"}, {"State": "RELEASED"}),
     ("UpdateCommonProperties", {"Name": "Lid"}, {"Name": "Cover"})],
)  # fmt: skip
@pytest.mark.parametrize("touches", [True, False], ids=["shown in ModifiedBy", "not shown"])
async def test_what_a_person_makes_of_it_right_after_us_is_never_called_synced(
    make_world: MakeWorld, action: str, ours: dict[str, str], theirs: dict[str, str], touches: bool
) -> None:
    world = await (await make_world(GIVE_WAY)).known()
    world.vault.actions_touch = touches
    ((field, value),) = theirs.items()

    def person() -> None:
        if field == "State":
            world.vault.set_state(PERSON, KEY, value)
        else:
            world.vault.update_common(PERSON, KEY, **theirs)

    await world.emit(ours)
    world.stock.at(action, "after", person)
    await world.attempt()
    assert world.live()[field] == value
    row = world.document()
    if row.status is Status.SYNCED:  # then as the person has it, and not as we do
        assert row.agreement.base.fields[field].value == value
    await world.resync()
    await world.settle()
    assert world.live()[field] == value, "the person's edit was overwritten"


async def test_the_transitions_are_asked_for_before_the_last_read(world: StockWorld) -> None:
    await world.known()
    await world.emit({"State": "UNDERREVIEW"})
    await world.settle()
    steps = world.stock.steps(KEY)
    before = steps[: steps.index("SetState")]
    assert before.index("GetValidStateTransitions") < len(before) - 1
    assert before[-1] == "GET one"
