"""Fields that Windchill does not take: held, and tried again, rarer and rarer, until it does (ARCHITECTURE.md)."""

import json
from collections.abc import Mapping

import attrs
import pytest
from msgspec import structs

from reconciler import config
from reconciler.core.events import outcomes
from reconciler.model.answer import Failed, Locked, Refused, Unknown, VersionConflict, WriteAnswer
from reconciler.model.document import Lane, Status
from reconciler.model.policy import ListMode, Rule, Strategy
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import Journal
from tests import defaults
from tests.fakes.memory_windchill import ME, MemoryWindchill
from tests.flows.conftest import MakeWorld
from tests.flows.world import BODY, KEY, World, policy

DAY_S = 86_400
NO = Refused(409, "the lifecycle state does not allow it", ("title",))
NO_COMPARISONS = defaults.pace(interval_s=0)


async def test_a_refused_field_is_tried_again_rarer_and_rarer_up_to_once_a_day(make_world: MakeWorld) -> None:
    world = make_world(pace=NO_COMPARISONS)
    world.windchill.script_writes(*[NO] * 16)
    await world.emit_and_attempt({"title": "Cover"})
    for number in range(15):
        most_s = min(60 * 2**number, DAY_S)
        assert 0.8 * most_s - 1 <= await world.next_attempt() <= most_s
        assert world.document().status is Status.HELD
    assert world.windchill.writes == 16


async def test_a_refusal_that_has_passed_settles_by_itself(make_world: MakeWorld) -> None:
    world = make_world(pace=NO_COMPARISONS)
    world.windchill.script_writes(NO, NO)
    await world.emit_and_attempt({"title": "Cover"})
    await world.next_attempt()
    await world.next_attempt()
    assert (world.document().status, world.held(), world.live()["title"]) == (Status.SYNCED, [], "Cover")
    assert world.document().agreement.base.refused == {}
    assert len(world.outcomes("conflict.opened")) == len(world.outcomes("conflict.closed")) == 1


async def test_a_comparison_does_not_bring_the_next_try_forward(world: World) -> None:
    world.windchill.script_writes(NO, NO, NO, NO)
    await world.emit_and_attempt({"title": "Cover"})
    for _ in range(5):
        await world.resync()
    assert world.windchill.writes == 1


async def test_an_operators_retry_tries_now_and_the_next_wait_is_longer(make_world: MakeWorld) -> None:
    world = make_world(pace=NO_COMPARISONS)
    world.windchill.script_writes(NO, NO)
    await world.emit_and_attempt({"title": "Cover"})
    await world.attempt(Lane.ASKED)
    assert world.windchill.writes == 2
    assert 0.8 * 120 <= await world.wait() <= 120


async def test_a_newer_value_is_tried_now_and_waits_from_the_beginning(make_world: MakeWorld) -> None:
    world = make_world(pace=NO_COMPARISONS)
    world.windchill.script_writes(*[NO] * 4)
    await world.emit_and_attempt({"title": "Cover"})
    await world.next_attempt()
    await world.emit_and_attempt({"title": "Lid"})
    assert world.windchill.writes == 3
    assert 0.8 * 60 <= await world.wait() <= 60


async def test_a_field_that_moves_at_every_look_is_not_tried_at_every_look(make_world: MakeWorld) -> None:
    """Some fields are computed: they have another value each time, and are never taken."""
    world = make_world(policy(Rule(("title",), Strategy.EXTERNAL)))
    world.windchill.script_writes(*[NO] * 30)
    await world.emit_and_attempt({"title": "Cover"})
    for number in range(20):
        world.windchill.edit(KEY, {"title": f"seen {number} times"})
        await world.resync()
    assert world.windchill.writes <= 4


async def test_fields_refused_without_a_name_are_tried_one_by_one(make_world: MakeWorld) -> None:
    """Only one of them is to blame, and the other must not wait for it."""
    world = make_world(pace=NO_COMPARISONS)
    world.windchill.script_writes(Refused(422, "no"))
    await world.emit_and_attempt({"title": "Cover", "owner": "jdoe"})
    assert world.held() == ["owner", "title"]
    await world.next_attempt()
    assert (world.live()["owner"], world.live()["title"]) == ("jdoe", "Bracket")
    world.windchill.script_writes(Refused(422, "no"))
    await world.next_attempt()
    assert world.held() == ["title"]


async def test_what_was_refused_before_is_to_blame_for_a_refusal_without_a_name(make_world: MakeWorld) -> None:
    world = make_world(pace=NO_COMPARISONS)
    world.windchill.script_writes(Refused(422, "no"))
    await world.emit_and_attempt({"title": "Cover"})
    world.windchill.script_writes(Refused(422, "no"))
    await world.emit({"owner": "jdoe"})
    await world.attempt(Lane.ASKED)
    await world.settle()
    assert (world.held(), world.live()["owner"]) == (["title"], "jdoe")


@pytest.mark.parametrize("strategy", [Strategy.EXTERNAL, Strategy.MERGE, Strategy.PRESERVE])
async def test_what_a_server_altered_is_written_again_later_under_any_rule(
    make_world: MakeWorld, strategy: Strategy
) -> None:
    world = make_world(policy(Rule(("title",), strategy)), pace=NO_COMPARISONS, shows_document=False)
    await world.emit_and_attempt({"title": "Cover"})
    alter(world, title="COVER")
    await world.resync()
    assert (world.windchill.writes, world.held()) == (1, ["title"])
    await world.next_attempt()
    assert (world.windchill.writes, world.live()["title"]) == (2, "Cover")


async def test_an_element_that_a_server_did_not_take_out_is_taken_out_later(make_world: MakeWorld) -> None:
    world = make_world(
        policy(Rule(("attributes.Keywords",), Strategy.MERGE, list=ListMode.SET)),
        pace=NO_COMPARISONS,
        shows_document=False,
    )
    await world.emit_and_attempt({"attributes.Keywords": ["draft", "sheet-metal", "bracket"]})
    await world.emit_and_attempt({"attributes.Keywords": ["sheet-metal", "bracket"]})
    alter(world, attributes=world.live()["attributes"] | {"Keywords": ["draft", "sheet-metal", "bracket"]})
    await world.resync()
    assert world.held() == ["attributes.Keywords"]
    await world.next_attempt()
    assert sorted(world.live()["attributes"]["Keywords"]) == ["bracket", "sheet-metal"]


async def test_how_often_it_was_tried_and_when_it_is_due_survive_a_rebuild(world: World) -> None:
    world.windchill.script_writes(NO, NO)
    await world.emit_and_attempt({"title": "Cover"})
    await world.attempt(Lane.ASKED)
    told = outcomes.told(json.dumps(world.outcomes("reconciled")[-1]).encode())
    assert told is not None
    refused = told.base.refused["title"]
    assert refused == world.document().agreement.base.refused["title"]
    assert (refused.tries, refused.due_us) == (2, world.document().due_us)


async def test_a_wait_from_a_clock_that_has_been_put_back_is_over(world: World) -> None:
    world.windchill.script_writes(NO)
    await world.emit_and_attempt({"title": "Cover"})
    row = world.document()
    year_us = 366 * DAY_S * 1_000_000
    refused = row.agreement.base.refused["title"]
    ahead = refused._replace(at_us=refused.at_us + year_us, due_us=(refused.due_us or 0) + year_us)
    base = structs.replace(row.agreement.base, refused={"title": ahead})
    world.store.rows[KEY] = structs.replace(row, agreement=structs.replace(row.agreement, base=base))
    await world.resync()
    assert world.live()["title"] == "Cover"


# ------------------------------------------------------------------------------------------------------ write budget


async def test_one_document_does_not_use_up_the_room_of_all(world: World) -> None:
    other = "0000000002"
    world.windchill.put(other, BODY | {"id": other})
    async with world.running(resync=config.Resync(interval_s=60, writes_max_per_window=2, window_s=36_000)) as running:
        for key in (KEY, other):
            world.append(world.event({"status": "RELEASED"}, key=key))
            await running.settled(key)
        for value in "ab":
            world.windchill.edit(KEY, {"status": value})
            await running.pass_until(lambda: world.live()["status"] == "RELEASED", "it is set back")
        world.windchill.edit(other, {"status": "INWORK"})
        await running.pass_until(lambda: world.live(other)["status"] == "RELEASED", "the other is set back too")


async def test_what_the_threshold_stopped_is_written_once_there_is_room(world: World) -> None:
    keys = [f"d{number}" for number in range(4)]
    world.put(*keys)
    async with world.running(resync=config.Resync(interval_s=60, writes_max_per_window=1, window_s=600)) as running:
        for key in keys:
            world.append(world.event({"status": "RELEASED"}, key=key))
            await running.settled(key)
        for key in keys:
            world.windchill.edit(key, {"status": "INWORK"})
        for key in keys:
            await running.pass_until(
                lambda key=key: world.live(key)["status"] == "RELEASED", f"{key} had its turn", 9000
            )
    assert len(world.outcomes("parked")) >= 1


def alter(world: World, **fields: object) -> None:
    """Let the server show something else under the version that our last write has left."""
    stored = world.windchill._versions[KEY]
    world.windchill._versions[KEY] = attrs.evolve(stored, body=stored.body | fields)


# ---------------------------------------------------------------------------------- some of a write, under the lock


class Choosy(MemoryWindchill):
    """Locks a document, refuses one of the fields and writes the rest, unless it is to answer something else."""

    answer: WriteAnswer | None = None

    async def write(
        self, snapshot: Snapshot, fields: Mapping[str, Json], *, token: Token, journal: Journal
    ) -> WriteAnswer:
        self.lockings += 1
        await journal.locked(f"lock {self.lockings}")
        version = self._versions[snapshot.key]
        drafted = await journal.redraft(self._shown(snapshot.key, version))
        if "owner" in drafted:
            await journal.refused([Refused(400, "no such user", ("owner",))])
        rest = {name: value for name, value in drafted.items() if name != "owner"}
        return self.answer or self._written(snapshot.key, rest, version.token)


@pytest.mark.parametrize(
    "answer", [None, VersionConflict(412, "moved"), Locked(423, "a workflow has it"), Failed("500")]
)
async def test_what_is_refused_under_the_lock_is_held_and_the_rest_is_written_as_it_was_decided(
    make_world: MakeWorld, answer: WriteAnswer | None
) -> None:
    world = make_world(locks=True)
    world.windchill.__class__ = Choosy
    assert isinstance(world.windchill, Choosy)
    world.windchill.answer = answer
    await world.emit_and_attempt({"owner": "akim", "title": "Lid", "status": "RELEASED"})
    assert world.document().agreement.base.refused.keys() == {"owner"}
    await world.check()
    world.windchill.answer = None
    assert (await world.settle()).status is Status.HELD
    assert world.held() == ["owner"]
    assert (world.live()["title"], world.live()["status"]) == ("Lid", "RELEASED")
    assert world.live()["owner"] != "akim"
    (ours,) = [one for one in world.windchill.history if one.who == ME]
    assert sorted(ours.fields) == ["status", "title"]


async def test_what_is_in_doubt_after_a_refusal_under_the_lock_is_the_rest_alone(make_world: MakeWorld) -> None:
    world = make_world(locks=True)
    world.windchill.__class__ = Choosy
    assert isinstance(world.windchill, Choosy)
    world.windchill.answer = Unknown("the connection broke")
    await world.emit_and_attempt({"owner": "akim", "title": "Lid"})
    intent = world.intent()
    assert (intent.fields, intent.lock) == ({"title": "Lid"}, "lock 1")
    assert world.document().agreement.base.refused.keys() == {"owner"}
