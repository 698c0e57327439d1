"""One attempt, one behaviour: what becomes of a document, whatever Windchill answers (ARCHITECTURE.md)."""

import json
from collections.abc import Callable

import attrs
import pytest
from msgspec import structs

from reconciler.core.events import outcomes
from reconciler.flows.gate import Gate, HeldUpError
from reconciler.model.answer import (
    Broken,
    Failed,
    Locked,
    NotAvailable,
    Refused,
    Throttled,
    Unauthorised,
    Unguarded,
    Unknown,
    VersionConflict,
    WriteAnswer,
    Written,
)
from reconciler.model.document import Agreement, Lane, Status
from reconciler.model.policy import ListMode, Rule, Strategy
from tests import defaults
from tests.fakes.memory_windchill import Fault
from tests.flows.conftest import MakeWorld
from tests.flows.world import KEY, OPERATORS, World, policy

WEEK_S = 604_800

MISMATCH = VersionConflict(412, "modified by another user")


async def known(world: World, **fields: str) -> None:
    """Make the document known: one event, one settled attempt."""
    await world.emit_and_settle(fields or {"title": "known"})
    world.windchill.reads = world.windchill.writes = 0


# ------------------------------------------------------------------------------------------------- the common case


async def test_the_first_attempt_reads_once_and_writes_once(world: World) -> None:
    assert (await world.emit_and_attempt({"title": "Cover"})).status is Status.SYNCED
    assert (world.windchill.reads, world.windchill.writes) == (1, 1)
    assert world.live()["title"] == "Cover"


async def test_a_known_document_is_written_without_a_read(world: World) -> None:
    await known(world)
    assert (await world.emit_and_attempt({"title": "Cover", "attributes.CostCenter": "4711"})).status is Status.SYNCED
    assert (world.windchill.reads, world.windchill.writes) == (0, 1)


async def test_only_what_differs_is_written(world: World) -> None:
    await world.emit_and_attempt({"title": "Cover", "status": "INWORK"})
    assert [dict(entry.fields) for entry in world.windchill.history] == [{"title": "Cover"}]


async def test_an_attempt_without_differences_writes_nothing_and_says_that_the_event_is_satisfied(world: World) -> None:
    given = await world.emit({"title": "Bracket"})
    assert (await world.attempt()).status is Status.SYNCED
    assert world.windchill.writes == 0
    assert [outcome["data"]["events"] for outcome in world.outcomes("reconciled")] == [[given["id"]]]


async def test_what_a_cached_read_shows_is_not_believed_where_no_guard_would_find_it_stale(world: World) -> None:
    """Nothing is sent when the event asks for what the cache shows, so no token says that the cache is old."""
    await known(world, title="Cover")
    await world.edit({"title": "scribbled over"})
    await world.emit_and_attempt({"title": "Cover"})
    assert world.held() == ["title"]


async def test_a_status_that_moved_unseen_is_put_right_by_an_event_that_repeats_it(world: World) -> None:
    await known(world, status="RELEASED")
    await world.edit({"status": "INWORK"})
    await world.emit_and_settle({"status": "RELEASED"})
    assert world.live()["status"] == "RELEASED"


# ------------------------------------------------------------------------------------------------ version conflicts


async def test_a_write_that_someone_has_followed_is_read_again_before_it_is_called_synced(
    make_world: MakeWorld,
) -> None:
    world = make_world(policy(Rule(("title",), Strategy.PRESERVE)))
    await known(world)
    await world.emit({"title": "Cover"})
    world.windchill.edit(KEY, {"title": "Cover"}, who="integration")
    world.windchill.edit(KEY, {"title": "Theirs"})
    world.windchill.script_writes(Written(None, None, "title changed by jdoe right after our write"))
    attempted = await world.attempt()
    assert (attempted.status, attempted.reason) == (Status.PENDING, "title changed by jdoe right after our write")
    assert attempted.due_us == world.clock.now_us()
    await world.settle()
    assert world.live()["title"] == "Theirs"
    assert world.windchill.writes == 1
    assert world.document().status is Status.SYNCED


async def test_a_version_conflict_ends_the_attempt_and_the_next_one_reads_first(world: World) -> None:
    await known(world)
    await world.edit({"owner": "jdoe"})
    assert (await world.emit_and_attempt({"title": "Cover"})).status is Status.PENDING
    assert world.windchill.reads == 0
    await world.settle()
    assert world.windchill.reads == 1
    assert (world.live()["title"], world.live()["owner"]) == ("Cover", "jdoe")


async def test_conflicts_in_a_row_wait_1_2_4_8_seconds_with_jitter_and_then_cool_down(world: World) -> None:
    world.windchill.script_writes(*[MISMATCH] * 10)
    await world.emit({"title": "Cover"})
    waits = []
    for _ in range(5):
        await world.attempt()
        waits.append(await world.wait())
    for wait_s, most_s in zip(waits, (1, 2, 4, 8), strict=False):
        assert most_s / 2 <= wait_s <= most_s
    assert 48 <= waits[4] <= 60
    assert [outcome["data"]["status"] for outcome in world.outcomes("parked")] == ["contended"]
    assert world.document().status is Status.CONTENDED


async def test_a_contended_document_cools_down_twice_as_long_each_time_and_is_never_dropped(
    make_world: MakeWorld,
) -> None:
    world = make_world(pace=defaults.pace(conflict_attempts_max=1))
    world.windchill.script_writes(*[MISMATCH] * 8)
    await world.emit({"title": "Cover"})
    for most_s in (60, 120, 240, 480, 900, 900, 900, 900):
        await world.attempt()
        assert world.document().status is Status.CONTENDED
        assert 0.8 * most_s <= await world.wait() <= most_s
    assert (await world.settle()).status is Status.SYNCED
    assert world.live()["title"] == "Cover"
    assert world.document().agreement.cooldowns == 0
    (spot,) = [spot for spot in await world.store.hotspots(world.clock.now_us()) if spot.kind == "document"]
    assert spot.conflicts == 8


async def test_a_document_that_stays_contended_is_told_once_and_again_once_it_has_settled(world: World) -> None:
    def told() -> list[str]:
        return [outcome["data"]["status"] for outcome in world.outcomes("parked")]

    for title, so_far in (("Cover", ["contended"]), ("Lid", ["contended", "contended"])):
        world.windchill.script_writes(*[MISMATCH] * 12)
        await world.emit({"title": title})
        for _ in range(12):
            await world.attempt_and_wait()
        assert told() == so_far
        assert (await world.settle()).status is Status.SYNCED


async def test_the_holder_of_a_lock_is_named_and_a_refused_field_waits_for_a_comparison(world: World) -> None:
    world.windchill.script_writes(Locked(423, "it is checked out", "jdoe"))
    await world.emit_and_attempt({"title": "Cover"})
    assert world.document().reason == "locked by jdoe: it is checked out"
    await world.wait()
    world.windchill.script_writes(Refused(422, "too long", ("title",)))
    await world.attempt()
    assert (world.document().status, world.document().lane) == (Status.HELD, Lane.RESYNC)


@pytest.mark.parametrize(
    ("holder", "kind", "said"),
    [
        (None, "", "locked: it is taken"),
        ("jdoe", "", "locked by jdoe: it is taken"),
        ("jdoe", "checked out to a project", "checked out to a project: it is taken"),
    ],
)
async def test_a_lock_is_called_what_is_known_of_it(world: World, holder: str | None, kind: str, said: str) -> None:
    world.windchill.script_writes(Locked(423, "it is taken", holder, kind=kind))
    await world.emit_and_attempt({"title": "Cover"})
    assert world.document().reason == said


async def test_a_document_that_was_locked_and_is_contended_then_is_told_as_both(world: World) -> None:
    world.windchill.script_writes(Locked(423, "checked out", "jdoe"), *[MISMATCH] * 5)
    await world.emit({"title": "Cover"})
    for _ in range(6):
        await world.attempt_and_wait()
    assert [outcome["data"]["status"] for outcome in world.outcomes("parked")] == ["locked", "contended"]


async def test_a_document_that_was_parked_until_an_event_came_and_is_contended_then_is_told_as_both(
    world: World,
) -> None:
    world.windchill.script_writes(NotAvailable(403, "not yours"), *[MISMATCH] * 5)
    await world.emit_and_attempt({"title": "Cover"})
    await world.emit({"title": "Lid"})
    for _ in range(5):
        await world.attempt_and_wait()
    assert [outcome["data"]["status"] for outcome in world.outcomes("parked")] == ["parked", "contended"]


async def test_a_document_that_is_contended_again_after_a_pause_is_told_again(world: World) -> None:
    world.windchill.script_writes(*[MISMATCH] * 10)
    await world.emit({"title": "Cover"})
    for number in range(10):
        await world.attempt_and_wait()
        if number == 4:
            world.store.rows[KEY] = structs.replace(world.store.rows[KEY], status=Status.PAUSED)
            await world.attempt()
            world.store.rows[KEY] = structs.replace(world.store.rows[KEY], status=Status.PENDING)
    assert [outcome["data"]["status"] for outcome in world.outcomes("parked")] == ["contended"] * 2


async def test_version_conflicts_are_counted_from_the_start_after_a_write_that_came_through(world: World) -> None:
    for title in ("Cover", "Lid"):
        world.windchill.script_writes(*[MISMATCH] * 4)
        await world.emit({"title": title})
        for number in range(1, 5):
            await world.attempt()
            assert world.document().reason.startswith(f"version conflict {number} of 5")
            await world.wait()
        assert (await world.settle()).status is Status.SYNCED
    assert not world.outcomes("parked")


async def test_version_conflicts_are_counted_from_the_start_after_a_refusal(world: World) -> None:
    await known(world)
    world.windchill.script_writes(*[MISMATCH] * 3, Refused(400, "no such owner", ("owner",)), MISMATCH)
    assert (await world.emit_and_settle({"owner": "akim"})).status is Status.HELD
    await world.emit_and_attempt({"title": "Cover"})
    assert world.document().reason.startswith("version conflict 1 of 5")
    await world.settle()


async def test_a_contended_document_has_all_its_tries_again_after_it_has_cooled_down(world: World) -> None:
    world.windchill.script_writes(*[MISMATCH] * 9)
    await world.emit({"title": "Cover"})
    found = []
    for _ in range(9):
        await world.attempt()
        found.append(world.document().status)
        await world.wait()
    assert found == [*[Status.PENDING] * 4, Status.CONTENDED, *[Status.PENDING] * 4]
    await world.settle()


async def test_the_field_that_a_rival_moves_is_a_hot_spot(world: World) -> None:
    await known(world)
    await world.emit({"title": "Cover", "owner": "akim"})
    await world.edit({"owner": "jdoe"})
    await world.settle()
    spots = {
        spot.name: spot.conflicts for spot in await world.store.hotspots(world.clock.now_us()) if spot.kind == "field"
    }
    assert spots == {"owner": 1}


# --------------------------------------------------------------------------------------------------- unknown results


async def test_a_lost_reply_is_read_and_confirmed_and_never_sent_again(world: World) -> None:
    world.windchill.script_writes(Fault.LOST_REPLY)
    given = await world.emit({"title": "Cover"})
    assert (await world.attempt()).status is Status.PENDING
    assert world.document().agreement.intent is not None
    await world.settle()
    assert world.windchill.writes == 1
    assert world.document().agreement.intent is None
    (outcome,) = world.outcomes("reconciled")
    assert outcome["data"]["written"] == {"title": "Cover"}
    assert outcome["data"]["events"] == [given["id"]]


async def test_a_write_that_never_arrived_is_decided_again(world: World) -> None:
    world.windchill.script_writes(Unknown("the connection broke"))
    await world.emit_and_settle({"title": "Cover"})
    assert (world.windchill.writes, world.live()["title"]) == (2, "Cover")


async def test_a_write_is_confirmed_in_the_trail_even_if_another_field_is_held(world: World) -> None:
    world.windchill.script_writes(Refused(400, "no", ("attributes.CostCenter",)), Fault.LOST_REPLY)
    await world.emit_and_settle({"title": "Cover", "attributes.CostCenter": "9999"})
    results = [record.result for record in await world.store.audit()]
    assert sorted(results) == ["confirmed", "refused", "unknown"]


async def test_a_user_who_edits_after_a_lost_reply_is_not_overwritten(world: World) -> None:
    world.windchill.script_writes(Fault.LOST_REPLY)
    await world.emit_and_attempt({"title": "Cover"})
    await world.edit({"title": "better cover"})
    await world.settle()
    assert world.live()["title"] == "better cover"


async def test_a_confirmed_write_is_told_before_anything_more_is_written(world: World) -> None:
    """Else its confirmation would share the fate of the next write, which may be lost in its turn."""
    world.windchill.script_writes(Fault.LOST_REPLY, Fault.NONE)
    first = await world.emit({"title": "Cover"})
    await world.attempt()
    second = await world.emit({"title": "Lid"})
    await world.settle()
    told = [(one["data"]["written"], one["data"]["events"]) for one in world.outcomes("reconciled")]
    assert told == [({"title": "Cover"}, [first["id"]]), ({"title": "Lid"}, [second["id"]])]
    assert [one["data"]["attempts"] for one in world.outcomes("reconciled")] == [1, 1]
    assert sorted(record.result for record in await world.store.audit()) == ["confirmed", "unknown", "written"]


async def test_a_write_in_doubt_stays_so_while_the_document_stands_where_it_stood(world: World) -> None:
    """There is nothing to write any more; when the write comes after all, it is ours and no edit to yield to."""
    await known(world, owner="sgarcia")
    world.windchill.script_writes(Unknown("no answer in time"))
    await world.emit_and_attempt({"owner": "akim"})
    await world.emit_and_settle({"owner": "sgarcia"})
    world.windchill.edit(KEY, {"owner": "akim"}, "integration")
    await world.resync()
    await world.settle()
    assert world.live()["owner"] == "sgarcia"


async def test_our_own_value_after_a_lost_reply_is_no_conflict_with_a_newer_event(world: World) -> None:
    """The next event is there before the lost reply is looked into: what it finds there is ours, not a user's edit."""
    world.windchill.script_writes(Fault.LOST_REPLY)
    await world.emit_and_attempt({"title": "Cover"})
    await world.emit_and_settle({"title": "Lid"})
    assert world.live()["title"] == "Lid"
    assert world.document().status is Status.SYNCED


async def test_a_write_that_is_applied_long_after_it_was_given_up_is_ours(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes right between the next write's decision and that write, which so meets a version conflict."""
    world.windchill.script_writes(Unknown("no answer in time"))
    await world.emit_and_attempt({"owner": "akim"})
    await world.emit({"owner": "jdoe"})
    intend = world.store.intend

    async def late(key: str, agreement: Agreement, policy: str) -> bool:
        stands = await intend(key, agreement, policy)
        monkeypatch.undo()
        world.windchill.edit(key, {"owner": "akim"}, "integration")
        return stands

    monkeypatch.setattr(world.store, "intend", late)
    await world.settle()
    assert world.live()["owner"] == "jdoe"
    assert world.document().status is Status.SYNCED


@pytest.mark.parametrize(
    "trouble", [NotAvailable(403, "forbidden"), Failed("500"), Throttled(503, "restarting"), Broken("a login page")]
)
async def test_an_intent_in_doubt_outlives_a_read_that_fails(
    world: World, trouble: NotAvailable | Failed | Throttled | Broken
) -> None:
    world.windchill.script_writes(Fault.LOST_REPLY)
    await world.emit_and_attempt({"title": "Cover"})
    world.windchill.script_reads(trouble)
    await world.attempt()
    assert world.document().agreement.intent is not None
    await world.settle()
    assert [outcome["data"]["written"] for outcome in world.outcomes("reconciled")] == [{"title": "Cover"}]
    assert world.windchill.writes == 1


async def test_the_time_of_a_confirmed_write_is_not_taken_for_someone_elses_edit(world: World) -> None:
    """Else a field first seen afterwards, by an event older than our own write, would be yielded to no one."""
    world.windchill.script_writes(Fault.LOST_REPLY)
    late = world.event({"attributes.CostCenter": "4711"}, time="2026-11-22T10:00:00.000000Z")
    await world.emit_and_settle({"title": "Cover"})
    await world.fold(late)
    await world.settle()
    assert world.live()["attributes"]["CostCenter"] == "4711"


async def test_an_unusable_answer_to_a_write_leaves_its_result_in_doubt(world: World) -> None:
    world.windchill.script_writes(Broken("an HTML login page"))
    await world.emit_and_attempt({"title": "Cover"})
    assert world.document().agreement.intent is not None
    await world.settle()


async def test_a_write_of_which_only_a_part_is_there_was_not_applied(world: World) -> None:
    """A user has set one of its fields to the same value. What is there is agreed; nothing is told as written."""
    await known(world)
    world.windchill.script_writes(Unknown("no answer in time"), Fault.NONE)
    await world.emit_and_attempt({"title": "Cover", "owner": "akim"})
    await world.edit({"title": "Cover"})
    await world.settle()
    assert (world.live()["title"], world.live()["owner"]) == ("Cover", "akim")
    assert [one["data"]["written"] for one in world.outcomes("reconciled")][1:] == [{"owner": "akim"}]
    assert "confirmed" not in {record.result for record in await world.store.audit()}


async def test_an_edit_beside_a_write_whose_reply_was_lost_is_no_part_of_it(world: World) -> None:
    """Else the edit would count as ours, and an older event for the field, first seen then, would overwrite it."""
    world.windchill.script_writes(Fault.LOST_REPLY)
    await world.emit({"title": "Cover"})
    late = world.event({"attributes.CostCenter": "4711"})
    await world.attempt()
    await world.edit({"attributes": {"CostCenter": "5000"}})
    await world.settle()
    await world.fold(late)
    await world.settle()
    assert world.live()["attributes"]["CostCenter"] == "5000"


async def in_doubt(world: World, *owners: str) -> None:
    """One write after the other is sent, and no reply comes: each may still be applied."""
    for owner in owners:
        world.windchill.script_writes(Unknown("no answer in time"))
        await world.emit_and_attempt({"owner": owner})


@pytest.mark.parametrize("comes", ["akim", "jdoe", "lchen"])
async def test_any_of_several_writes_in_doubt_is_ours_when_it_comes_late(world: World, comes: str) -> None:
    await known(world)
    await in_doubt(world, "akim", "jdoe", "lchen")
    await world.clock.advance(1)
    world.windchill.edit(KEY, {"owner": comes}, "integration")
    assert (await world.emit_and_settle({"owner": "mroth"})).status is Status.SYNCED
    assert world.live()["owner"] == "mroth"


async def test_a_write_that_is_not_sent_leaves_an_earlier_one_in_doubt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await known(world)
    await in_doubt(world, "akim")
    await world.emit({"owner": "jdoe"})

    async def held_up(*_: object, **__: object) -> WriteAnswer:
        raise HeldUpError

    monkeypatch.setattr(Gate, "write", held_up)
    with pytest.raises(HeldUpError):
        await world.attempt()
    monkeypatch.undo()
    assert world.intent().fields == {"owner": "akim"}
    await world.clock.advance(1)
    world.windchill.edit(KEY, {"owner": "akim"}, "integration")
    assert (await world.settle()).status is Status.SYNCED
    assert world.live()["owner"] == "jdoe"


# --------------------------------------------------------------------------------------------- what can't be had


@pytest.mark.parametrize("status", [403, 404, 410])
@pytest.mark.parametrize("when", ["reading", "writing"])
async def test_what_can_not_be_had_is_parked_with_the_reason_and_tried_again(
    world: World, status: int, when: str
) -> None:
    answer = NotAvailable(status, "not for you")
    (world.windchill.script_reads if when == "reading" else world.windchill.script_writes)(answer, answer)
    await world.emit({"title": "Cover"})
    for most_s in (60, 120):
        await world.attempt()
        assert world.document().status is Status.PARKED
        assert world.document().reason == f"{status}: not for you"
        assert 0.8 * most_s <= await world.wait() <= most_s
    assert (await world.settle()).status is Status.SYNCED
    assert len(world.outcomes("parked")) == 1


ABSENT = NotAvailable(404, "no such document", absent=True)


async def test_a_document_that_is_not_there_yet_is_looked_for_more_and_more_rarely_and_found(world: World) -> None:
    world.windchill.script_reads(*[ABSENT] * 9)
    await world.emit({"title": "Cover"})
    for most_s in (60, 120, 300, 600, 1200, 1800, 3600, 3600):
        await world.attempt()
        assert world.document().status is Status.ABSENT
        assert world.document().reason.startswith("404: no such document; it is looked for until ")
        assert 0.8 * most_s <= await world.wait() <= most_s
    assert await world.store.oldest_pending_us() is None
    assert (await world.settle()).status is Status.SYNCED
    assert world.live()["title"] == "Cover"
    assert not world.outcomes("parked")


async def test_a_document_that_does_not_come_within_a_week_is_parked_told_of_once_and_looked_for_daily(
    world: World,
) -> None:
    world.windchill.script_reads(*[ABSENT] * 400)
    await world.emit({"title": "Cover"})
    await world.attempt()
    began_us = world.clock.now_us()
    while (await world.attempt()).status is Status.ABSENT:
        await world.wait()
    assert WEEK_S <= (world.clock.now_us() - began_us) / 1e6 <= WEEK_S + 7200
    for _ in range(2):
        assert world.document().status is Status.PARKED
        assert 0.8 * 86_400 <= await world.wait() <= 86_400
        await world.attempt()
    assert len(world.outcomes("parked")) == 1
    await world.emit_and_attempt({"title": "Lid"})
    assert world.document().status is Status.ABSENT, "who asks for something new expects it to come"


async def test_a_document_that_was_there_is_gone_and_parked_at_once(world: World) -> None:
    await world.emit_and_settle({"title": "Cover"})
    world.windchill.script_reads(ABSENT)
    await world.emit({"title": "Lid"})
    await world.attempt(Lane.OPERATOR)
    assert world.document().status is Status.PARKED


async def test_an_absent_document_is_parked_at_once_if_none_is_awaited(make_world: MakeWorld) -> None:
    world = make_world(pace=defaults.pace(absent_s=0))
    world.windchill.script_reads(ABSENT)
    await world.emit_and_attempt({"title": "Cover"})
    assert world.document().status is Status.PARKED


async def test_a_document_of_too_many_fields_is_parked_unasked_until_some_are_released(world: World) -> None:
    world.attempts = attrs.evolve(world.attempts, options=structs.replace(world.attempt_options, fields_max=2))
    await world.emit_and_attempt({"title": "Cover", "owner": "akim", "attributes.Note": "n"})
    assert world.document().status is Status.PARKED
    assert "3 managed fields, more than windchill.fields_max = 2" in world.document().reason
    assert world.windchill.reads == world.windchill.writes == 0
    assert (await world.emit_and_settle(release=["attributes.Note"])).status is Status.SYNCED
    assert (world.live()["title"], world.live()["attributes"]["Note"]) == ("Cover", "")


async def test_a_document_that_was_parked_twice_for_one_reason_is_told_of_twice(world: World) -> None:
    for title in ("Cover", "Lid"):
        world.windchill.script_reads(NotAvailable(404, "gone"), NotAvailable(404, "gone"))
        await world.emit({"title": title})
        await world.attempt(Lane.OPERATOR)
        await world.settle()
    told = world.outcomes("parked")
    assert len({outcome["id"] for outcome in told}) == len(told) == 2


async def test_a_server_without_tokens_is_read_but_not_written(make_world: MakeWorld) -> None:
    world = make_world()
    await world.emit({"title": "Cover"})
    shown = await world.snapshot()
    world.windchill.script_reads(structs.replace(shown, token=None))
    await world.attempt()
    assert world.document().status is Status.PARKED
    assert "no ETag" in world.document().reason
    assert world.windchill.writes == 0


async def test_a_lock_is_told_with_its_holder_and_tried_again_slowly(world: World) -> None:
    world.windchill.holders[KEY] = "jdoe"
    await world.emit({"title": "Cover"})
    for most_s in (60, 120):
        await world.attempt()
        assert world.document().status is Status.LOCKED
        assert "by jdoe" in world.document().reason
        assert 0.8 * most_s <= await world.wait() <= most_s
    del world.windchill.holders[KEY]
    assert (await world.settle()).status is Status.SYNCED


async def test_a_missing_guard_is_our_fault_and_raises_an_alarm(world: World) -> None:
    world.windchill.script_writes(Unguarded(428, "send If-Match"))
    await world.emit_and_attempt({"title": "Cover"})
    assert world.document().status is Status.PARKED
    assert "428: send If-Match. This is a bug in the reconciler" in world.document().reason
    assert world.outcomes("parked")


# ---------------------------------------------------------------------------------------------------- refusals


async def test_a_refused_field_is_held_with_the_servers_message_and_the_rest_goes_out(world: World) -> None:
    world.windchill.script_writes(Refused(400, "no such cost center", ("attributes.CostCenter",)))
    assert (await world.emit_and_settle({"title": "Cover", "attributes.CostCenter": "9999"})).status is Status.HELD
    assert world.held() == ["attributes.CostCenter"]
    assert "no such cost center" in world.document().reason
    assert world.live()["title"] == "Cover"
    assert world.windchill.writes == 2


async def test_a_refusal_that_names_no_field_holds_all_that_was_written(world: World) -> None:
    world.windchill.script_writes(Refused(422, "no"))
    assert (await world.emit_and_settle({"title": "Cover", "attributes.CostCenter": "9999"})).status is Status.HELD
    assert world.held() == ["attributes.CostCenter", "title"]
    assert world.windchill.writes == 1


async def test_what_was_refused_is_told_so_that_a_rebuilt_base_does_not_try_it_again(world: World) -> None:
    world.windchill.script_writes(Refused(400, "no such cost center", ("attributes.CostCenter",)))
    await world.emit_and_settle({"attributes.CostCenter": "9999"})
    (told,) = [outcomes.told(json.dumps(outcome).encode()) for outcome in world.outcomes("reconciled")]
    assert told is not None
    assert told.base.refused == world.document().agreement.base.refused != {}


async def test_what_was_adopted_before_a_version_conflict_is_told_even_if_the_field_is_held_then(
    make_world: MakeWorld,
) -> None:
    """Whoever rebuilds the base from the outcomes must not adopt the rival's value instead, and write over it."""
    world = make_world(policy(Rule(("title",), Strategy.HOLD)))
    world.windchill.script_writes(Fault.RIVAL)
    assert (await world.emit_and_settle({"title": "Cover"})).status is Status.HELD
    (told,) = [outcomes.told(json.dumps(outcome).encode()) for outcome in world.outcomes("reconciled")]
    assert told is not None
    assert told.base.fields == world.document().agreement.base.fields != {}


async def test_a_document_of_which_every_field_is_ignored_is_looked_at_again(make_world: MakeWorld) -> None:
    """After a restart the policy may be another one."""
    world = make_world(policy(Rule(("title",), Strategy.IGNORE)))
    assert (await world.emit_and_settle({"title": "Cover"})).due_us is not None


async def test_what_a_server_alters_without_showing_it_is_held_and_not_written_over_and_over(
    make_world: MakeWorld,
) -> None:
    """The answer to the write is a token alone; what became of the value is seen at the next comparison."""
    world = make_world(policy(Rule(("title",), Strategy.EXTERNAL)), shows_document=False)
    await world.emit_and_settle({"title": "Cover"})
    stored = world.windchill._versions[KEY]
    world.windchill._versions[KEY] = attrs.evolve(stored, body=stored.body | {"title": "COVER"})
    for _ in range(3):
        await world.resync()
    assert (world.windchill.writes, world.held()) == (1, ["title"])


async def test_a_refused_field_is_not_tried_again_until_a_side_moves(world: World) -> None:
    world.windchill.script_writes(Refused(400, "no", ("title",)))
    await world.emit_and_settle({"title": "Cover"})
    await world.resync()
    assert world.windchill.writes == 1
    assert (await world.emit_and_settle({"title": "Lid"})).status is Status.SYNCED
    assert world.live()["title"] == "Lid"
    assert len(world.outcomes("conflict.closed")) == 1


async def test_a_refusal_that_is_perhaps_stale_is_a_version_conflict_if_the_document_has_changed(
    world: World,
) -> None:
    await known(world)
    await world.edit({"owner": "jdoe"})
    world.windchill.script_writes(Refused(409, "conflict", perhaps_stale=True))
    await world.emit_and_attempt({"title": "Cover"})
    assert world.document().status is Status.PENDING
    assert world.document().conflicts == 1
    assert (await world.settle()).status is Status.SYNCED


async def test_a_refusal_that_is_perhaps_stale_stands_if_the_document_has_not_changed(world: World) -> None:
    world.windchill.script_writes(Refused(409, "lifecycle transition not allowed", perhaps_stale=True))
    assert (await world.emit_and_settle({"status": "RELEASED"})).status is Status.HELD
    assert "lifecycle transition not allowed" in world.document().reason
    assert world.windchill.reads == 2


async def test_a_refusal_that_is_perhaps_stale_holds_nothing_if_the_document_can_not_be_read(world: World) -> None:
    """No one knows yet whether it was a stale write, and a field held for that would wait for a person for ever."""
    await known(world)
    await world.edit({"owner": "jdoe"})
    world.windchill.script_writes(Refused(409, "conflict", perhaps_stale=True))
    world.windchill.script_reads(Throttled(503, "restarting"))
    await world.emit_and_attempt({"title": "Cover"})
    assert not world.held()
    assert (await world.settle()).status is Status.SYNCED
    assert world.live()["title"] == "Cover"


# ------------------------------------------------------------------------------------------------------- trouble


@pytest.mark.parametrize("when", ["reading", "writing"])
async def test_retry_after_is_kept_by_the_document(world: World, when: str) -> None:
    answer = Throttled(429, "slow down", 30.0)
    (world.windchill.script_reads if when == "reading" else world.windchill.script_writes)(answer)
    await world.emit_and_attempt({"title": "Cover"})
    assert world.document().status is Status.PENDING
    assert not world.gate.in_doubt
    assert await world.wait() >= 30
    assert (await world.settle()).status is Status.SYNCED


async def test_a_refused_write_of_a_document_that_is_gone_parks_it(world: World) -> None:
    await known(world)
    world.windchill.script_writes(NotAvailable(410, "gone", perhaps_stale=True))
    world.windchill.delete(KEY)
    await world.emit_and_attempt({"title": "Cover"})
    assert world.document().status is Status.PARKED
    assert "404" in world.document().reason


async def test_a_throttled_write_is_in_doubt_if_it_may_have_been_applied(world: World) -> None:
    world.windchill.script_writes(Throttled(503, "bad gateway", perhaps_applied=True), Throttled(429, "slow down"))
    await world.emit_and_attempt({"title": "Cover"})
    assert world.document().agreement.intent is not None
    await world.next_attempt()
    await world.settle()
    assert world.document().agreement.intent is None


@pytest.mark.parametrize(
    "trouble", [Failed("502 bad gateway", 502), Broken("an HTML login page"), Unauthorised("who are you?")]
)
async def test_failures_wait_longer_each_time_and_end_by_themselves(
    world: World, trouble: Failed | Broken | Unauthorised
) -> None:
    world.windchill.script_reads(*[trouble] * 8)
    await world.emit({"title": "Cover"})
    for most_s in (1, 2, 4, 8, 16, 32, 60, 60):
        await world.attempt()
        assert world.document().status is Status.PENDING
        assert most_s / 2 <= await world.wait() <= most_s
    assert (await world.settle()).status is Status.SYNCED
    assert world.document().agreement.failures == 0


async def test_a_wait_begins_when_the_answer_came_and_not_when_the_question_was_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = world.windchill.read

    async def slowly(key: str, known: object = None) -> object:
        world.clock._now_us += 30_000_000
        return await read(key)

    world.windchill.script_reads(Failed("no answer within 30 s"))
    monkeypatch.setattr(world.windchill, "read", slowly)
    await world.emit_and_attempt({"title": "Cover"})
    assert await world.wait() >= 0.5


async def test_every_decision_that_was_sent_is_in_the_audit_trail_whatever_came_of_it(world: World) -> None:
    answers = [
        MISMATCH, Throttled(503, "later"), Throttled(429, "later"), Failed("refused"), Unknown("lost"), Broken("?"),
        Unauthorised("who?"), Locked(423, "locked"), NotAvailable(403, "no"), Unguarded(428, "?"), Refused(400, "no"),
    ]  # fmt: skip
    for number, answer in enumerate(answers):
        world.windchill.script_writes(answer)
        await world.emit_and_attempt({"title": f"title {number}"})
    assert world.windchill.writes == len(answers)
    sent = [record for record in await world.store.audit() if record.patch is not None]
    assert len(sent) == len(answers)


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (lambda n: Locked(423, f"checked out for {n} min", "jdoe"), "locked"),
        (lambda n: NotAvailable(403, f"request {n} is forbidden"), "not_available"),
        (lambda n: Throttled(429, f"{n} requests too many"), "throttled"),
        (lambda n: Failed(f"no connection, try {n}"), "failed"),
    ],
)
async def test_the_same_result_is_audited_when_it_begins_and_when_it_ends(
    world: World, answer: Callable[[int], WriteAnswer], result: str
) -> None:
    world.windchill.script_writes(*[answer(number) for number in range(20)])
    await world.emit({"title": "Cover"})
    for _ in range(20):
        await world.attempt()
    await world.settle()
    trail = [(record.result, record.repeats) for record in await world.store.audit()][::-1]
    assert trail == [(result, 0), ("written", 19)]
    assert world.document().attempts == 21
    await world.emit_and_settle({"title": "Lid"})
    assert (await world.store.audit())[0].repeats == 0


async def test_a_result_is_audited_again_when_its_status_or_what_was_decided_has_changed(world: World) -> None:
    world.windchill.script_writes(*[Locked(423, "checked out", "jdoe")] * 2, Locked(409, "checked out", "jdoe"))
    await world.emit({"title": "Cover"})
    for _ in range(3):
        await world.attempt()
    world.windchill.script_writes(*[Locked(409, "checked out", "jdoe")] * 2)
    await world.emit_and_attempt({"title": "Lid"})
    await world.edit({"title": "Mine"})
    await world.attempt(Lane.OPERATOR)
    trail = [(record.status, record.repeats) for record in await world.store.audit()][::-1]
    assert trail == [(423, 0), (409, 1), (409, 0), (None, 0)]


async def test_a_write_whose_answer_was_lost_is_audited_every_time(world: World) -> None:
    world.windchill.script_writes(Unknown("lost"), Unknown("lost"))
    await world.emit_and_attempt({"title": "Cover"})
    await world.attempt()
    assert [record.result for record in await world.store.audit()] == ["unknown", "unknown"]


# ------------------------------------------------------------------------------------------------ fields that are held


async def test_a_held_field_does_not_keep_the_others_from_going_out(world: World) -> None:
    await known(world, title="Cover")
    await world.edit({"title": "my cover"})
    assert (await world.emit_and_settle({"title": "Lid", "attributes.CostCenter": "4711"})).status is Status.HELD
    assert world.held() == ["title"]
    assert world.live()["attributes"]["CostCenter"] == "4711"
    assert world.live()["title"] == "my cover"
    (opened,) = world.outcomes("conflict.opened")
    assert (opened["data"]["base"], opened["data"]["desired"], opened["data"]["live"]) == ("Cover", "Lid", "my cover")


async def held_title(world: World) -> None:
    """Leave the title held: `my cover` there, `Lid` wanted."""
    await known(world, title="Cover")
    await world.edit({"title": "my cover"})
    assert (await world.emit_and_settle({"title": "Lid"})).status is Status.HELD


async def test_a_held_field_closes_by_itself_when_the_sides_agree(world: World) -> None:
    await held_title(world)
    await world.edit({"title": "Lid"})
    await world.resync()
    assert world.document().status is Status.SYNCED
    assert [outcome["data"]["reason"] for outcome in world.outcomes("conflict.closed")] == ["settled"]


async def test_the_same_clash_found_again_opens_nothing_new(world: World) -> None:
    await held_title(world)
    await world.resync()
    await world.resync()
    assert len(world.outcomes("conflict.opened")) == 1
    assert world.outcomes("conflict.closed") == []


async def test_a_resolution_that_expects_the_live_value_is_written_and_closes_the_conflict(world: World) -> None:
    await held_title(world)
    await world.emit({"title": "agreed"}, expect={"title": "my cover"}, source=OPERATORS, actor="boss")
    assert (await world.settle()).status is Status.SYNCED
    assert world.live()["title"] == "agreed"
    assert len(world.outcomes("conflict.closed")) == 1


async def test_a_resolution_in_favour_of_the_live_value_writes_nothing_and_closes_the_conflict(world: World) -> None:
    await held_title(world)
    writes = world.windchill.writes
    await world.emit({"title": "my cover"}, expect={"title": "my cover"}, source=OPERATORS, actor="boss")
    assert (await world.settle()).status is Status.SYNCED
    assert world.windchill.writes == writes
    assert len(world.outcomes("conflict.closed")) == 1


async def test_a_resolution_that_expects_what_is_no_longer_there_opens_the_conflict_again(world: World) -> None:
    await held_title(world)
    await world.edit({"title": "moved again"})
    await world.emit({"title": "agreed"}, expect={"title": "my cover"}, source=OPERATORS, actor="boss")
    assert (await world.settle()).status is Status.HELD
    assert world.live()["title"] == "moved again"
    assert [outcome["data"]["live"] for outcome in world.outcomes("conflict.opened")] == ["my cover", "moved again"]


async def test_a_conflict_that_comes_back_the_same_is_told_as_a_new_one(make_world: MakeWorld) -> None:
    """Whoever counts outcomes by id would otherwise take the second for a repetition, and believe it closed."""
    world = make_world(policy(Rule(("title",), Strategy.HOLD)))
    await known(world, title="Cover")
    for title in ("mine", "Cover", "mine", "Cover"):
        await world.edit({"title": title})
        await world.resync()
    told = world.outcomes("conflict.")
    assert len({outcome["data"]["conflict"] for outcome in told}) == 1
    assert len({outcome["id"] for outcome in told}) == len(told) == 4


# ----------------------------------------------------------------------------------------- released, adopted, altered


async def test_a_released_document_is_left_alone_and_its_base_forgotten(world: World) -> None:
    await known(world, title="Cover")
    await world.clock.advance(1)
    released = world.event() | {"type": "windchill.document.released.v1", "data": {}}
    await world.fold(released)
    assert (await world.settle()).status is Status.SYNCED
    await world.edit({"title": "mine"})
    assert world.document().due_us is None
    assert world.windchill.writes == 0
    assert world.outcomes("reconciled")[-1]["data"]["base"] == {}


async def test_a_released_field_is_left_alone_and_the_others_are_not(world: World) -> None:
    await known(world, title="Cover", status="RELEASED")
    await world.emit_and_settle(release=["title"])
    await world.edit({"title": "mine", "status": "INWORK"})
    await world.resync()
    assert world.live()["title"] == "mine"
    assert world.live()["status"] == "RELEASED"
    assert set(world.document().agreement.base.fields) == {"status"}


async def test_a_release_closes_the_conflicts_of_its_field(world: World) -> None:
    await held_title(world)
    assert (await world.emit_and_settle(release=["title"])).status is Status.SYNCED
    assert len(world.outcomes("conflict.closed")) == 1


async def test_what_is_adopted_is_stored_before_anything_is_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.emit({"title": "Cover"})
    write, stored = world.windchill.write, []

    async def looked_at(*args: object, **named: object) -> object:
        stored.append(world.document().agreement)
        return await write(*args, **named)

    monkeypatch.setattr(world.windchill, "write", looked_at)
    await world.attempt()
    (agreement,) = stored
    assert agreement.base.fields["title"].value == "Bracket"
    assert agreement.base.fields["title"].stamp is None
    intent, snapshot = agreement.intent, agreement.snapshot
    assert intent is not None
    assert snapshot is not None
    assert (intent.fields, intent.token) == ({"title": "Cover"}, snapshot.token)


async def test_an_adoption_survives_a_rival_between_read_and_write(world: World) -> None:
    """The rival moves another field; what was adopted says that no one moved ours."""
    await world.emit({"title": "Cover"})
    world.windchill.script_writes(MISMATCH)
    await world.attempt()
    await world.edit({"owner": "jdoe"})
    await world.settle()
    assert world.live()["title"] == "Cover"


async def test_a_server_that_stores_another_value_is_held_and_not_written_over_and_over(world: World) -> None:
    await world.emit({"status": "RELEASED"})
    shown = await world.snapshot()
    altered = shown.with_fields({"status": "Released!"}, shown.token)
    world.windchill.script_writes(Written(altered, altered.token))
    await world.attempt()
    assert world.document().status is Status.HELD
    assert "another value than was written" in world.document().reason
    world.windchill.put(KEY, altered.body)
    for _ in range(3):
        await world.resync()
    assert world.windchill.writes == 1


async def test_an_element_that_a_user_adds_is_kept_when_ours_is_added(make_world: MakeWorld) -> None:
    world = make_world(policy(Rule(("attributes.Keywords",), Strategy.MERGE, list=ListMode.SET)))
    await world.emit_and_settle(add={"attributes.Keywords": ["bracket"]}, remove={"attributes.Keywords": ["draft"]})
    await world.edit({"attributes.Keywords": ["sheet-metal", "bracket", "mine"]})
    await world.emit_and_settle(add={"attributes.Keywords": ["casting"]})
    assert sorted(world.live()["attributes"]["Keywords"]) == ["bracket", "casting", "mine", "sheet-metal"]


@pytest.mark.parametrize("strategy", [Strategy.MERGE, Strategy.PRESERVE])
async def test_an_element_whose_write_lost_its_reply_may_be_taken_out_by_a_person(
    make_world: MakeWorld, strategy: Strategy
) -> None:
    """The list never shows what was sent, as someone adds to it at once, and the next write comes to nothing."""
    words = "attributes.Keywords"
    world = make_world(policy(Rule((words,), strategy, list=ListMode.SET)))
    await world.emit_and_settle(add={words: ["bracket"]})
    world.windchill.script_writes(Fault.LOST_REPLY)
    await world.emit_and_attempt(add={words: ["steel"]})
    await world.edit({words: [*world.live()["attributes"]["Keywords"], "mine"]})
    world.windchill.script_writes(VersionConflict(412, "moved"))
    await world.emit_and_attempt(add={words: ["casting"]})
    await world.edit({words: [word for word in world.live()["attributes"]["Keywords"] if word != "steel"]})
    await world.settle()
    left = set(world.live()["attributes"]["Keywords"])
    assert {"bracket", "mine", "casting"} <= left
    assert "steel" not in left


async def test_a_path_through_a_text_is_held_and_can_be_explained_from_its_audit_record(make_world: MakeWorld) -> None:
    world = make_world(body={"title": "Bracket", "attributes": "none"})
    await world.emit_and_settle({"attributes.CostCenter": "4711"})
    assert world.live()["attributes"] == "none"
    assert world.held() == ["attributes.CostCenter"]


# ------------------------------------------------------------------------------------------------------ write replies


@pytest.mark.parametrize("shows_document", [True, False])
@pytest.mark.parametrize("shows_token", [True, False])
async def test_two_writes_in_a_row_succeed_whatever_the_reply_shows(
    make_world: MakeWorld, shows_document: bool, shows_token: bool
) -> None:
    world = make_world(shows_document=shows_document, shows_token=shows_token)
    for title in ("Cover", "Lid"):
        assert (await world.emit_and_settle({"title": title, "attributes.Note": title})).status is Status.SYNCED
    assert world.live()["title"] == "Lid"
    assert world.windchill.reads == (1 if shows_token else 2)
    # Our own writes are no one's edits: an event older than them, on a field first seen, is not yielded.
    world.append(world.event({"attributes.CostCenter": "4711"}, time="2026-11-22T10:00:00.000000Z"))
    await world.fold()
    await world.settle()
    assert world.live()["attributes"]["CostCenter"] == "4711"
