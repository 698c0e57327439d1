"""Many events, few iterations: documents whose writes wait for each other."""

from typing import Any

import pytest
from msgspec import structs

from reconciler.model.answer import Locked
from reconciler.model.document import Lane, Status
from reconciler.model.policy import Adopt, Rule, Strategy
from tests import defaults
from tests.fakes.memory_windchill import ME, Fault
from tests.flows.conftest import MakeWorld
from tests.flows.world import KEY, World, policy

PACE = defaults.pace(quiet_s=10, checkin_interval_s=300)
APART = (("title",), ("status",))


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(pace=PACE, locks=True, later_portions=APART)


def iterations(world: World) -> list[dict[str, Any]]:
    """The fields of each write of ours."""
    return [dict(one.fields) for one in world.windchill.history if one.who == ME]


async def test_a_burst_of_events_makes_one_iteration(world: World) -> None:
    for number in range(10):
        await world.emit_and_attempt({"owner": f"user{number}"})
        await world.clock.advance(1)
        assert world.document().status is Status.COLLECTING
    assert world.windchill.lockings == 0
    assert world.windchill.reads == 1, "a document that waits is asked about"
    assert (await world.settle()).status is Status.SYNCED
    assert iterations(world) == [{"owner": "user9"}]
    assert len(world.store.trail) == 1, "each wait is a record of the trail"


async def test_check_ins_keep_their_distance_and_only_real_ones_count(world: World) -> None:
    await world.emit_and_settle({"owner": "akim"})
    first_us = world.clock.now_us()
    assert world.document().agreement.checked_in_us == first_us
    await world.emit_and_settle({"title": "Lid"})
    assert world.clock.now_us() < first_us + 5e6, "what makes no iteration waits"
    assert world.document().agreement.checked_in_us == first_us
    await world.emit_and_settle({"owner": "lchen"})
    assert first_us + 300e6 <= world.clock.now_us() < first_us + 301e6
    assert iterations(world) == [{"owner": "akim"}, {"title": "Lid"}, {"owner": "lchen"}]


async def test_a_state_takes_the_attributes_along_that_wait(world: World) -> None:
    await world.emit_and_attempt({"owner": "akim"})
    await world.emit({"status": "RELEASED"})
    began_us = world.clock.now_us()
    document = world.document()
    assert document.due_us == began_us, "a wait for further changes keeps a state from going out"
    await world.settle()
    assert world.clock.now_us() - began_us < 1e6
    assert iterations(world) == [{"owner": "akim"}, {"status": "RELEASED"}]


async def test_an_operator_ends_the_wait(world: World) -> None:
    await world.emit_and_attempt({"owner": "akim"})
    await world.attempt(Lane.ASKED)
    assert iterations(world) == [{"owner": "akim"}]


async def test_the_wait_is_stored_and_shown(world: World) -> None:
    await world.emit({"owner": "akim"})
    settlement = await world.attempt()
    document = world.document()
    assert document.due_us == world.clock.now_us() + 10_000_000
    assert document.reason.startswith("waits for further changes until ")
    assert document.lane is Lane.EVENT
    assert document.attempts == 0, "nothing was tried"
    assert settlement.result == "collecting", "which is what traces call it"
    assert not settlement.outcomes


async def test_a_check_in_whose_reply_was_lost_counts_once_it_is_found(world: World) -> None:
    world.windchill.script_writes(Fault.LOST_REPLY)
    await world.emit_and_settle({"owner": "akim"})
    sent_us = world.document().agreement.checked_in_us
    assert sent_us is not None
    await world.emit_and_settle({"owner": "lchen"})
    assert world.clock.now_us() >= sent_us + 300e6


async def test_a_server_without_iterations_is_written_at_once(make_world: MakeWorld) -> None:
    world = make_world(pace=PACE)
    await world.emit({"owner": "akim"})
    began_us = world.clock.now_us()
    await world.settle()
    assert world.clock.now_us() == began_us


@pytest.mark.parametrize("once", [False, True])
async def test_a_daemon_waits_and_a_single_pass_does_not(world: World, once: bool) -> None:
    """`--once` is told by its configuration (`app.daemon`), which also cuts short the waits of before."""
    await world.emit_and_attempt({"owner": "akim"})
    pace = structs.replace(PACE, quiet_s=0.0, checkin_interval_s=0.0) if once else PACE
    windchill = {"quiet_s": pace.quiet_s, "checkin_interval_s": pace.checkin_interval_s}
    from reconciler.config.groups import Windchill

    began_us = world.clock.now_us()
    async with world.running(windchill=Windchill(**windchill)) as running:
        await running.settled(KEY, Status.SYNCED)
    took_s = (world.clock.now_us() - began_us) / 1e6
    assert (took_s < 5) is once
    assert iterations(world) == [{"owner": "akim"}]


@pytest.mark.parametrize("held_up", ["collecting", "locked", "edited"])
async def test_a_blank_is_still_filled_after_a_wait(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, held_up: str
) -> None:
    """The blank that was adopted and the blank that is there now are decided alike."""
    pace = PACE if held_up == "collecting" else defaults.pace()
    rule = Rule(("owner",), Strategy.FILL)
    world = make_world(policy(rule), pace=pace, locks=True, later_portions=APART)
    await world.emit({"owner": "akim"})
    await world.edit({"owner": None, "attributes.Note": "edited after the event"})
    if held_up == "locked":
        world.windchill.script_writes(Locked(423, "checked out"))
    if held_up == "edited":
        lock = world.windchill.write

        async def edited(*given: Any, **more: Any) -> Any:
            monkeypatch.setattr(world.windchill, "write", lock)
            world.windchill.edit(KEY, {"attributes.Note": "and here"})
            return await lock(*given, **more)

        monkeypatch.setattr(world.windchill, "write", edited)
    await world.attempt()
    assert (await world.settle()).status is Status.SYNCED
    assert world.live()["owner"] == "akim"
    await world.edit({"owner": "sgarcia"})
    await world.emit_and_settle({"owner": "lchen"})
    assert world.live()["owner"] == "sgarcia", "it is blank no more"


@pytest.mark.parametrize(
    ("overlap", "owner", "status"),
    [
        (Strategy.NEWEST, "mrossi", Status.SYNCED),
        (Strategy.HOLD, "mrossi", Status.HELD),
        (Strategy.EXTERNAL, "akim", Status.SYNCED),
    ],
)
async def test_what_a_person_edits_while_the_first_write_waits_is_their_edit(
    make_world: MakeWorld, overlap: Strategy, owner: str, status: Status
) -> None:
    """The value that was read before it is the base: were that forgotten, `on_adopt` would write over the edit."""
    rule = Rule(("owner",), Strategy.MERGE, on_overlap=overlap, on_adopt=Adopt.WRITE)
    world = make_world(policy(rule), pace=PACE, locks=True, later_portions=APART)
    await world.emit_and_attempt({"owner": "akim"})
    await world.clock.advance(1)
    await world.edit({"owner": "mrossi"})
    assert (await world.settle()).status is status
    assert world.live()["owner"] == owner
