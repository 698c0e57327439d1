"""SIGKILL on the real program at each step of a write: no check-out of ours stays, and no one else's is touched."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.stock.server import ACCOUNT, Stock
from tests.stock.world import PERSON, Real

OURS, THEIRS, BY_HAND = "N-1", "N-2", "N-3"
MOMENTS = list(itertools.product(("CheckOut", "GET copy", "PATCH", "CheckIn"), ("before", "after")))
pytestmark = pytest.mark.e2e


@pytest.fixture
def program(stock: Stock, tmp_path: Path) -> Real:
    """A document that is free, one that a person has checked out, and one that a person has by our account."""
    for number in (OURS, THEIRS, BY_HAND):
        stock.vault.make(number, CostCenter="4000", Owner="sgarcia")
    for number, who in ((THEIRS, PERSON), (BY_HAND, ACCOUNT)):
        stock.vault.check_out(who, number, "by hand")
        stock.vault.change(who, number, Owner="lchen")
    return Real(tmp_path, stock, real=False)


def check_theirs(stock: Stock) -> None:
    """What people have checked out is as they left it."""
    held = stock.vault.checked_out()
    assert (held.get(THEIRS), held.get(BY_HAND)) == (PERSON, ACCOUNT)
    for number in (THEIRS, BY_HAND):
        copy = stock.vault.master(number).copy
        assert copy is not None
        assert (copy.fields["Owner"], copy.fields["CostCenter"]) == ("lchen", "4000")


CASES = [
    (holder, note, step, when)
    for holder in ("shown", "hidden")
    for note in ("shown", "hidden")
    for step, when in MOMENTS
    if (note, step, when) != ("hidden", "CheckOut", "after")  # nothing is left that could prove it: a test of its own
]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_killed_program_leaves_no_check_out_behind(stock: Stock, program: Real, case: tuple[Any, ...]) -> None:
    stock.holder, stock.note, step, when = case
    program.sets(OURS, CostCenter="4711")
    program.killed_at(step, when)
    for number in (THEIRS, BY_HAND):
        program.sets(number, CostCenter="4711")
    program.pass_once()
    check_theirs(stock)
    assert OURS not in stock.vault.checked_out(), "a check-out of ours is left behind"
    assert stock.vault.current(OURS)["CostCenter"] == "4711"
    assert len(stock.vault.made_by(ACCOUNT, OURS)) == 1, "one edit made more than one iteration, or none"
    program.say("audit", "verify")


@pytest.mark.parametrize("holder", ["shown", "hidden"])
def test_a_check_out_that_nothing_proves_ours_is_shown_and_waits_for_a_person(
    stock: Stock, program: Real, holder: Any
) -> None:
    stock.holder, stock.note = holder, "hidden"
    program.sets(OURS, CostCenter="4711")
    program.killed_at("CheckOut", "after")
    program.pass_once()
    assert stock.vault.checked_out()[OURS] == ACCOUNT
    shown = program.json("docs", "show", OURS)
    assert shown["status"] == "locked"
    assert "our own account" in json.dumps(shown), "it does not say whose check-out it may be"
    assert "by hand" in json.dumps(shown), "it does not say what to do"
    stock.vault.undo(ACCOUNT, OURS)
    program.say("docs", "retry", OURS)
    program.pass_once()
    assert stock.vault.current(OURS)["CostCenter"] == "4711"
    check_theirs(stock)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("step", "fields"), [("SetState", {"State": "UNDERREVIEW"}), ("UpdateCommonProperties", {"Name": "Lid"})]
)
def test_a_program_killed_at_an_action_says_it_once(
    stock: Stock, program: Real, step: str, fields: dict[str, str], when: Any
) -> None:
    program.sets(OURS, **fields)
    program.killed_at(step, when)
    program.pass_once()
    assert {name: stock.vault.current(OURS)[name] for name in fields} == fields
    assert stock.vault.done(OURS, ACCOUNT) == [step]
    check_theirs(stock)
