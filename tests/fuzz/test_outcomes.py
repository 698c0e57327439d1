"""Recovery under fire: whatever lies on the outcome log, a base comes of it that can be kept, or nothing."""

import asyncio
import json
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.events import outcomes
from reconciler.flows.recovery import Bases
from reconciler.model import codec
from reconciler.model.base import Base
from tests.core.strategies import structured
from tests.fakes.memory_store import MemoryStore
from tests.fakes.virtual_clock import VirtualClock
from tests.fuzz import mutating

OUTCOMES = mutating.seeds("outcome/*/*.json", "outcomes/*")
WRITTEN = json.loads((mutating.SCHEMAS / "outcome/valid/reconciled-written.json").read_bytes())
MEMBERS = [*WRITTEN, "sequence", "kafkatopic", "kafkapartition", "kafkaoffset"]


async def recovered(text: bytes) -> None:
    """A start reads every record, and must not fail over one."""
    bases = Bases(MemoryStore(), VirtualClock())
    bases.see(structured(text))
    await bases.store({})


def check(text: bytes) -> None:
    """Everything that holds for every record of an outcome log."""
    with mutating.bounded():
        asyncio.run(recovered(text))
        try:
            told = outcomes.told(text)
        except ValueError:
            return
    if told is not None:
        assert told.key
        stored = codec.encode(told.base)
        assert codec.encode(msgspec.json.decode(stored, type=Base)) == stored


@given(mutating.mutated(OUTCOMES))
def test_no_damage_to_the_bytes_of_an_outcome_gets_past(text):
    check(text)


@given(st.integers(0, 2**64 - 1))
def test_no_outcome_made_of_hostile_values_gets_past(number):
    chance = random.Random(number)
    outcome = mutating.changed(chance, WRITTEN, MEMBERS)
    if chance.random() < 0.7:
        outcome["data"] = mutating.changed(chance, WRITTEN["data"], [*WRITTEN["data"], "base", "refused", "wrote"])
    base = outcome["data"].get("base") if isinstance(outcome.get("data"), dict) else None
    if isinstance(base, dict) and chance.random() < 0.7:
        field = chance.choice([*base, "x"])
        base = {**base, field: mutating.changed(chance, {"value": 1, "stamp": None}, ["value", "stamp", "elements"])}
        outcome["data"] = {**outcome["data"], "base": base}
    check(mutating.as_json(outcome, chance))


@pytest.mark.parametrize("depth", [150, 900, 5000])
def test_an_outcome_nested_too_deeply_is_no_outcome(depth):
    value = b"[" * depth + b"]" * depth
    text = json.dumps({**WRITTEN, "data": {"base": {"status": {"value": 0, "stamp": None}}}}).encode()
    text = text.replace(b'"value": 0', b'"value": ' + value)
    with pytest.raises(ValueError, match="too deeply"):
        outcomes.told(text)
    check(text)


@pytest.mark.parametrize("broken", [b"\xff", b"\xed\xa0\x80"])
def test_an_outcome_that_is_no_text_is_no_outcome(broken):
    check(json.dumps(WRITTEN).encode().replace(b"0000012345", b"00000" + broken))
