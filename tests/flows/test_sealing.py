"""Signed decisions and outcomes: what outsiders write is not believed, whatever became of the store."""

import json
from typing import Any

import pytest

from reconciler import config
from reconciler.core.events import outcomes, signing
from reconciler.core.events.outcomes import Outcome, OutcomeType
from reconciler.model import notified
from reconciler.model import signing as model
from reconciler.model.document import Lane
from reconciler.model.event import Outgoing
from reconciler.model.policy import OPERATORS, Rule, Strategy
from reconciler.model.stamp import Partition, Place
from tests.fakes.memory_store import MemoryStore
from tests.flows.conftest import MakeWorld
from tests.flows.test_notify import Bench
from tests.flows.test_recovery import run, said, said_and_run
from tests.flows.world import DECISIONS, KEY, OUTCOMES, TOPIC, World, policy

ONE, TWO = "a" * 43, "b" * 43
KEYS = model.keys(ONE)
assert KEYS is not None


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(policy(Rule(("owner",), Strategy.PRESERVE, name="owner")))


async def run_signed(world: World, key: str = ONE, previous: str = "") -> int:
    """Run the daemon with a key until everything is settled and told; return how many writes that took."""
    world.signing = {"signing_key": key, "signing_key_previous": previous}
    return await run(world)


def told(world: World) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in world.broker.records(OUTCOMES)]


def forged_base(world: World, number: int) -> bytes:
    """The last outcome of the document as someone would write it who wants the log's owner to win again."""
    last = [one for one in told(world) if one["type"] == "windchill.document.reconciled.v1"][-1]
    last.pop("signature", None)
    for agreed in last["data"]["base"].values():
        agreed |= {"value": "jdoe", "stamp": None}
    return json.dumps(last | {"id": "forged", "sequence": f"{number:010}"}).encode()


async def a_user_edits(world: World) -> None:
    await world.edit({"owner": "jdoe"})
    await world.store.requeue([KEY], Lane.OPERATOR, world.clock.now_us())


async def test_from_the_first_start_with_a_key_on_everything_is_signed(world: World) -> None:
    await said_and_run(world, owner="akim")
    before = len(world.broker.records(OUTCOMES))
    assert all("signature" not in one for one in told(world))
    await said(world, title="Cover")
    world.store.offsets[notified.floor(notified.WEBHOOK)] = 1  # which is no place in a log
    await run_signed(world)
    fresh = world.broker.records(OUTCOMES)[before:]
    assert len(fresh) > 1
    assert all(signing.fault(record.value or b"", KEYS) is None for record in fresh)
    began = [one for one in told(world) if one["type"] == "windchill.signing.began.v1"]
    assert len(began) == 1
    assert world.store.noted is not None
    assert world.store.noted.places == {
        Partition(TOPIC, 0): 2, Partition(DECISIONS, 0): 0, Partition(OUTCOMES, 0): before,
    }  # fmt: skip
    await run_signed(world)
    assert len(world.broker.records(OUTCOMES)) == before + len(fresh), "it is announced once"


async def test_a_forged_agreement_changes_nothing_and_is_shown(world: World) -> None:
    await said(world, owner="akim")
    await run_signed(world)
    await a_user_edits(world)
    await run_signed(world)
    assert world.live()["owner"] == "jdoe"
    world.broker.put(Outgoing(OUTCOMES, KEY.encode(), forged_base(world, 99)))
    for store in (world.store, MemoryStore()):  # what is there, and a lost one
        world.store = store
        world.log = world.make_log()
        assert await run_signed(world) == 0
        assert world.live()["owner"] == "jdoe"
        [letter] = world.store.letters.values()
        assert (letter.stage, letter.place.topic) == ("signature", OUTCOMES)
        assert "this outcome is not accepted: it is not signed" in letter.reason


async def test_no_one_is_told_of_what_an_outsider_writes(world: World) -> None:
    await said(world, owner="akim")
    await run_signed(world)
    bench = Bench(world)
    members = "conflict", "field", "reason", "desired", "live", "event", "source"
    forged: dict[str, Any] = dict.fromkeys(members, "x")
    async with world.running(webhook=bench.webhook, notify=config.Notify(audit_s=0)) as running:
        await running.pass_until(running.daemon._writable.is_set, "it reads the log")
        outcome = Outcome("o", OutcomeType.CONFLICT_OPENED, "doc", world.clock.now_us(), forged)
        world.broker.put(outcomes.record(outcome, OUTCOMES, "//reconciler/test"))
        await bench.pass_time(600)
    assert bench.webhook.tried == []


async def test_without_a_key_the_same_forgery_is_believed(world: World) -> None:
    """What the key is for: this is the fault."""
    await said_and_run(world, owner="akim")
    await a_user_edits(world)
    await run(world)
    world.broker.put(Outgoing(OUTCOMES, KEY.encode(), forged_base(world, 99)))
    assert await run(world) == 1
    assert world.live()["owner"] == "akim"


async def test_a_forged_decision_is_a_dead_letter_and_a_signed_one_is_folded(world: World) -> None:
    await said(world, owner="akim")
    await run_signed(world)
    await a_user_edits(world)
    await run_signed(world)
    decision = world.event({"owner": "rival"}, expect={"owner": "jdoe"}) | {"source": OPERATORS}
    world.append(decision)
    assert await run_signed(world) == 0
    [letter] = world.store.letters.values()
    assert "this decision of an operator is not accepted: it is not signed" in letter.reason
    assert world.live()["owner"] == "jdoe"
    world.broker.put(Outgoing(DECISIONS, KEY.encode(), signing.signed(json.dumps(decision).encode(), KEYS)))
    assert await run_signed(world) == 1
    assert world.live()["owner"] == "rival"


async def test_what_was_decided_and_agreed_before_there_was_a_key_stays_valid_after_the_loss_of_the_store(
    world: World,
) -> None:
    await said_and_run(world, owner="akim")
    await a_user_edits(world)
    world.append(world.event({"owner": "boss"}, expect={"owner": "jdoe"}) | {"source": OPERATORS})
    assert await run(world) == 1
    await run_signed(world)
    late = world.event({"owner": "rival"}, expect={"owner": "boss"}) | {"source": OPERATORS}
    world.append(late)  # in a lost store's place a new one must not take this as old
    world.store, world.log = MemoryStore(), world.make_log()
    assert await run_signed(world) == 0
    assert world.live()["owner"] == "boss"
    assert [letter.place for letter in world.store.letters.values()] == [Place(DECISIONS, 0, 1)]
    assert world.store.noted is not None
    assert world.store.noted.places[Partition(DECISIONS, 0)] == 1


async def test_another_key_announces_it_again_so_that_the_first_one_can_go(world: World) -> None:
    await said_and_run(world, owner="akim")
    await run_signed(world)
    since = world.store.noted.places if world.store.noted else None
    await said(world, title="Cover")
    await run_signed(world)
    await run_signed(world, TWO, ONE)
    assert world.store.letters == {}, "what the first key has signed is believed"
    began = [record for record in world.broker.records(OUTCOMES) if outcomes.signing_since(record.value or b"")]
    assert len(began) == 2
    world.store, world.log = MemoryStore(), world.make_log()
    await run_signed(world, TWO)  # and what the first one has signed is nothing any more
    assert world.store.noted is not None
    assert world.store.noted.places == since
    assert {letter.place.topic for letter in world.store.letters.values()} == {OUTCOMES}


async def test_what_someone_puts_in_the_place_of_a_log_is_all_new(world: World) -> None:
    for title in ("A", "B", "C"):
        await said(world, title=title)
        world.append(world.event({"status": title}) | {"source": OPERATORS})
        await run(world)
    await run_signed(world)
    last = forged_base(world, 99)
    for topic in (TOPIC, DECISIONS, OUTCOMES):
        world.broker._topics.pop(topic)
    world.append(world.event({"owner": "rival"}) | {"source": OPERATORS})
    world.broker.put(Outgoing(OUTCOMES, KEY.encode(), last))
    world.log = world.make_log()
    world.signing = {"signing_key": ONE}
    assert await run(world, accept_truncation=True) == 0
    assert {letter.stage for letter in world.store.letters.values()} == {"signature"}
    assert {letter.place for letter in world.store.letters.values()} == {Place(DECISIONS, 0, 0), Place(OUTCOMES, 0, 0)}
    assert world.store.noted is not None
    assert set(world.store.noted.places.values()) == {0}


async def test_a_forged_announcement_makes_nothing_valid(world: World) -> None:
    await said(world, owner="akim")
    await run_signed(world)
    noted = world.store.noted
    later = model.noted({Partition(TOPIC, 0): 10**6, Partition(OUTCOMES, 0): 10**6}, "x")
    announcement = outcomes.signing_began(later, world.clock.now_us(), OUTCOMES, "//reconciler/test")
    world.broker.put(announcement)
    world.broker.put(outcomes.signed(announcement, OUTCOMES, model.keys(TWO)))
    world.store, world.log = MemoryStore(), world.make_log()
    await run_signed(world)
    assert world.store.noted == noted
