"""Refold: one document's row made again from all of the log, beside a fold that is under way."""

from typing import Any

import pytest

from reconciler.adapters.counters import Counters
from reconciler.core.events import decode
from reconciler.flows.refold import Origin, Refold, Result
from reconciler.ports import Changed, FoldBatch
from tests.fakes.memory_log import MemoryLog
from tests.flows.test_clocks import PLACE, ahead, title
from tests.flows.world import KEY, LETTERS, TOPIC, World

LENIENT = decode.Options(clock_skew_us_max=10**15)


async def refold(world: World, options: decode.Options = decode.Options()) -> Result:  # noqa: B008  frozen
    log = MemoryLog(world.broker, TOPIC)
    made = Refold(
        store=world.store,
        log=Origin(log, options),
        archives=(),
        clock=world.clock,
        telemetry=Counters(),
        dead_letter_topic=LETTERS,
        role="cli",
    )
    result = await world.run(made.document(KEY, "jdoe", "a clock ahead"))
    assert result is not None
    return result


async def with_a_claim_from_the_future(world: World) -> None:
    """As an earlier version has folded it."""
    world.ingest.decode_by(LENIENT)
    ahead(world, 10**9, {"title": "from the future"})
    await world.fold()
    world.ingest.decode_by(decode.Options())
    await world.emit({"title": "Cover"})
    assert title(world) == "from the future"


async def test_the_row_is_what_the_log_says_today_and_the_next_claim_is_ours(world: World) -> None:
    await with_a_claim_from_the_future(world)
    await world.settle()
    assert world.live()["title"] == "from the future"
    result = await refold(world)
    assert (result.changed, [letter.stage for letter in result.refused]) == (["title"], ["clock"])
    await world.settle()
    assert world.live()["title"] == "Cover"
    await world.emit_and_settle({"title": "Lid"})
    assert world.live()["title"] == "Lid"


async def test_a_batch_that_was_gathered_before_is_joined_with_the_new_row(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_a_claim_from_the_future(world)
    fold, done = world.store.fold, list[object]()

    async def folded(batch: FoldBatch) -> Changed:
        if not done:
            done.append(await refold(world))
        return await fold(batch)

    monkeypatch.setattr(world.store, "fold", folded)
    world.append(world.event({"owner": "akim"}))
    await world.fold()
    assert done
    assert title(world) == "Cover", "the row of before is not stored again"
    assert "owner" in world.document().desired.fields
    assert world.store.offsets[PLACE] == len(world.broker.records(TOPIC))


async def test_what_the_daemon_has_read_meanwhile_is_read_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its position is then further than ours, and nothing is replaced before we have come there."""
    await with_a_claim_from_the_future(world)
    really, tries = world.store.refold, list[bool]()

    async def refolds(*given: Any) -> bool:
        if not tries:
            await world.emit({"owner": "akim"})
        tries.append(await really(*given))
        return tries[-1]

    monkeypatch.setattr(world.store, "refold", refolds)
    result = await refold(world)
    assert tries == [False, True]
    assert {"title", "owner"} <= result.after.fields.keys()
