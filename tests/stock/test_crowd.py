"""People, a colleague under our account, an administrator and a bad line at once, from a seed; history is the judge."""

import contextlib
import functools
import random
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.model.policy import Rule, Strategy
from tests.flows.world import policy
from tests.stock.conftest import MakeWorld
from tests.stock.server import ACCOUNT, drop
from tests.stock.vault import Refusal
from tests.stock.world import PERSON, StockWorld

NUMBERS = [f"N-{number}" for number in range(4)]
STEPS = ("CheckOut", "GET copy", "GET list", "GET one", "PATCH", "CheckIn", "UndoCheckOut")
ROUNDS = 80
OURS_WINS = policy(Rule(("CostCenter",), Strategy.EXTERNAL))


class Crowd:
    """What anyone may do to a document, as far as Windchill lets them. `owners` are the owners that people have set."""

    def __init__(self, world: StockWorld, seed: int) -> None:
        self.world, self.vault, self.chance = world, world.vault, random.Random(seed)
        self.owners = dict.fromkeys(NUMBERS, "sgarcia")
        self.held: dict[str, str] = {}  # by people: number → under which account

    def act(self, number: str) -> None:
        actions: list[Callable[[str], None]] = [self.edit, self.take, self.give_back, self.revise, self.undo]
        with contextlib.suppress(Refusal):  # it is checked out, and not by them
            self.chance.choice(actions)(number)

    def edit(self, number: str) -> None:
        if number not in self.held:
            owner = f"owner-{self.chance.random():.6f}"
            self.vault.edit(PERSON, number, Owner=owner)
            self.owners[number] = owner

    def take(self, number: str) -> None:
        who = self.chance.choice((PERSON, ACCOUNT))
        if number not in self.held and self.vault.master(number).copy is None:
            self.vault.check_out(who, number, "by hand")
            self.vault.change(who, number, Owner="in work")
            self.held[number] = who

    def give_back(self, number: str) -> None:
        if (who := self.held.pop(number, None)) is not None:
            assert self.vault.checked_out().get(number) == who, "a person's check-out was touched"
            made = self.vault.check_in(who, number, "by hand")
            assert made.fields["Owner"] == "in work"
            self.owners[number] = "in work"

    def revise(self, number: str) -> None:
        self.vault.revise(PERSON, number)

    def undo(self, number: str) -> None:
        if number not in self.held:
            self.vault.undo("admin", number)


@pytest.mark.parametrize("holder", ["shown", "hidden"])
@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_lost_and_nothing_left_behind_in_a_crowd(
    make_world: MakeWorld, seed: int, holder: Any
) -> None:
    world = await make_world(OURS_WINS)
    world.stock.holder = holder
    world.vault.admins.add("admin")
    crowd, wanted = Crowd(world, seed), dict.fromkeys(NUMBERS, "")
    for number in NUMBERS:
        world.vault.make(number, CostCenter="4000", Owner="sgarcia")
    for turn in range(ROUNDS):
        number = crowd.chance.choice(NUMBERS)
        wanted[number] = str(turn)
        await world.emit({"CostCenter": str(turn)}, key=number)
        crowd.act(crowd.chance.choice(NUMBERS))
        step, when = crowd.chance.choice(STEPS), crowd.chance.choice(("before", "after"))
        event = crowd.chance.choice((drop, drop, functools.partial(crowd.act, number), lambda: None))
        world.stock.at(step, when, event)
        await world.attempt(key=number)
        world.stock.forget_traps()
        if crowd.chance.random() < 0.2:
            await world.restarted()
        await world.clock.advance(crowd.chance.choice((1, 60, 400)))
    for number in list(crowd.held):
        crowd.give_back(number)
    for number in [one for one in NUMBERS if wanted[one]]:
        for _ in range(12):
            if world.document(number).due_us is not None and world.live(number)["CostCenter"] != wanted[number]:
                await world.wait(number)
                await world.attempt(key=number)
        await world.resync(number)
    assert world.vault.checked_out() == {}
    assert {number: world.live(number)["Owner"] for number in NUMBERS} == crowd.owners, "a person's edit is lost"
    assert {n: world.live(n)["CostCenter"] for n in NUMBERS if wanted[n]} == {n: w for n, w in wanted.items() if w}
