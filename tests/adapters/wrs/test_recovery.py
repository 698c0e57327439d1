"""
Writes that are cut short at every step: afterwards no lock is stranded, no iteration made twice, and the fields right.

Whatever cuts them short, the store says what is needed: the next process has nothing else.
"""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from reconciler.flows.gate import HeldUpError
from reconciler.model.answer import Locked, Released
from reconciler.model.document import Status
from tests import brokers
from tests.adapters.wrs.conftest import MakeWorld
from tests.adapters.wrs.world import ME, Fault, Person, WrsWorld
from tests.checks import expect
from tests.flows.world import KEY

STEPS = ("CheckOut", "GET copy", "PATCH", "CheckIn", "GET new")
MARK = "rec-test-1"
LOST = (Fault.REQUEST_LOST, Fault.REPLY_LOST)
DEAD = (Fault.DIED_BEFORE, Fault.DIED_AFTER)
STATES = ("INREVIEW", "INWORK")
SEEDS = 40 if brokers.must_be_apache() else 15
SERVERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "terse": {"checkout_reply": "id", "checkin_reply": "id", "checkin_id": "fresh", "patch_reply": "entity"},
    "administrator": {"administrators": [ME], "working_copies_listed": True},
}


@pytest.fixture(params=SERVERS)
async def ready(request: pytest.FixtureRequest, make_world: MakeWorld) -> WrsWorld:
    """A world whose document was written once, so that the next write begins with its check-out."""
    world = (await make_world()).switch(**SERVERS[request.param])
    await begin(world)
    return world


async def begin(world: WrsWorld) -> None:
    """Write the document once, and ask for more."""
    await world.reconcile({"Owner": "lchen"})
    await world.emit({"Owner": "akim", "CostCenter": "4711"})
    world.wire.asked.clear()


async def check_once_and_for_all(world: WrsWorld) -> None:
    """The document shows what was wanted, in one iteration of ours, and no one holds it."""
    await world.settle()
    shown = world.live()
    assert (shown["owner"], shown["attributes"]["CostCenter"]) == ("akim", "4711")
    assert world.holder() is None, "a lock is stranded"
    assert world.cycles().count("CheckIn") == 2, "the document got more than one iteration, or none"
    assert world.document().status is Status.SYNCED
    assert world.document().agreement.intent is None


def on_servers(*cases: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Join each case of one kind with each of another, on one server: each case of either kind meets each server."""
    joined = (first + second for first, second in itertools.product(*cases))
    return [(server, *case) for server, case in zip(itertools.cycle(SERVERS), joined, strict=False)]


CUTS = [*itertools.product(LOST, (False, True)), *((one, False) for one in (*DEAD, Fault.CANCELLED))]


@pytest.mark.parametrize(
    ("ready", "step", "fault", "restarted"), on_servers([(step,) for step in STEPS], CUTS), indirect=["ready"]
)
async def test_whatever_cuts_an_attempt_short_at_any_step_leaves_neither_lock_nor_second_iteration(
    ready: WrsWorld, step: str, fault: Fault, restarted: bool
) -> None:
    wire = ready.wire
    wire.faults[step] = fault
    await ready.cut_short(restarted=restarted)
    assert restarted or not wire.faults, "the fault was not met"
    assert (ready.wire is not wire) == (restarted or fault in DEAD), "a new process has begun"
    await check_once_and_for_all(ready)


@pytest.mark.parametrize("step", STEPS)
async def test_a_request_that_outlasts_its_deadline_and_is_carried_out_later_does_no_harm(
    world: WrsWorld, step: str
) -> None:
    await begin(world)
    await world.adapter.close()
    world.connect(timeout_s=0.5)
    await world.adapter.read(KEY)
    method, path, before = {
        "CheckOut": ("POST", "CheckOut", 0),
        "GET copy": ("GET", "('", 0),
        "PATCH": ("PATCH", "", 0),
        "CheckIn": ("POST", "CheckIn", 0),
        "GET new": ("GET", "('", 1),
    }[step]
    world.simulated.faults(slow=0.0, slow_ms=900)
    world.simulated.script(method, *["ok"] * before, "slow", document=KEY, path=path)
    await world.settle()
    assert world._control.get("/stats").json()["faults"]["slow"] == 1
    await asyncio.sleep(1)  # until what was slow has been carried out; nothing is asserted of the time
    await world.resync()
    await check_once_and_for_all(world)


@pytest.mark.parametrize("commit", [1, 2, 3], ids=["the intent", "the lock", "the new decision"])
@pytest.mark.parametrize("when", ["dies_before", "dies_after"])
async def test_a_death_around_any_commit_leaves_neither_lock_nor_second_iteration(
    ready: WrsWorld, commit: int, when: str
) -> None:
    ready.store.commits = 0
    setattr(ready.store, when, commit)
    wire = ready.wire
    await ready.cut_short(restarted=False)
    assert ready.wire is not wire, "it did not die"
    await check_once_and_for_all(ready)


@pytest.mark.parametrize(
    ("ready", "step", "goes_on"), on_servers([(step,) for step in STEPS], [("we",), ("another",)]), indirect=["ready"]
)
async def test_nothing_more_of_a_write_is_sent_once_another_replica_may_have_our_place(
    ready: WrsWorld, step: str, goes_on: str
) -> None:
    wire, before = ready.wire, ready.iterations()
    wire.faults[step] = Fault.OUTLIVED
    ready.simulated.forget_requests()
    await ready.cut_short()
    sent = sum(count for by_status in ready.simulated.requests().values() for count in by_status.values())
    assert sent == wire.asked.index(step)
    assert ready.iterations() == before + (step == "GET new")
    assert ready.holder() == (ME if step in ("GET copy", "PATCH", "CheckIn") else None)
    if goes_on == "we":
        wire.outlived = False
    else:
        await ready.adapter.close()
        ready.connect()
    await check_once_and_for_all(ready)


async def test_a_release_that_was_not_sent_is_made_later(ready: WrsWorld) -> None:
    ready.wire.faults["PATCH"] = Fault.OUTLIVED
    await ready.cut_short()
    asked = [*ready.wire.asked]
    with pytest.raises(HeldUpError):
        await ready.attempt()
    assert ready.wire.asked == [*asked, "GET one"], "it begins with the release, and ends there"
    assert ready.holder() == ME
    ready.wire.outlived = False
    await check_once_and_for_all(ready)


RELEASES = [
    *(("PATCH", Fault.DIED_BEFORE, step) for step in ("GET one", "UndoCheckOut")),
    *(("CheckOut", Fault.REPLY_LOST, step) for step in ("GET list", "GET one", "CheckOut", "UndoCheckOut")),
]


@pytest.mark.parametrize(
    ("ready", "lost", "how", "step", "fault"),
    on_servers(RELEASES, [(fault,) for fault in (*LOST, *DEAD)]),
    indirect=["ready"],
)
async def test_a_release_of_a_lock_or_a_search_for_one_that_is_cut_short_is_made_again(
    ready: WrsWorld, lost: str, how: Fault, step: str, fault: Fault
) -> None:
    ready.wire.faults[lost] = how
    await ready.cut_short(restarted=True)
    ready.wire.faults[step] = fault
    await ready.cut_short(restarted=False)
    await check_once_and_for_all(ready)


async def test_a_check_out_that_comes_late_is_found_by_the_search_for_it(ready: WrsWorld) -> None:
    ready.wire.faults["CheckOut"] = Fault.LATE
    await ready.attempt()
    await ready.wire.arrive()
    assert ready.holder() == ME
    await check_once_and_for_all(ready)


async def test_a_check_out_that_comes_after_the_search_for_it_is_taken_over_by_the_next_write(ready: WrsWorld) -> None:
    ready.wire.faults["CheckOut"] = Fault.LATE
    await ready.attempt()
    ready.wire.before["CheckOut"] = ready.wire.arrive
    await check_once_and_for_all(ready)


async def test_a_check_out_that_comes_after_everything_is_given_up_at_the_next_look(ready: WrsWorld) -> None:
    ready.switch(stale_checkout="latest")
    ready.wire.faults["CheckOut"] = Fault.LATE
    await ready.attempt()
    await check_once_and_for_all(ready)
    await ready.wire.arrive()
    assert ready.holder() == ME
    await ready.resync()
    await check_once_and_for_all(ready)


async def test_a_change_that_comes_late_finds_no_working_copy(ready: WrsWorld) -> None:
    ready.wire.faults["PATCH"] = Fault.LATE
    await ready.attempt()
    assert ready.holder() is None
    await ready.emit({"Owner": "mrossi"})
    await ready.wire.arrive()
    await ready.settle()
    assert ready.live()["owner"] == "mrossi"
    assert ready.cycles().count("CheckIn") == 2


@pytest.mark.parametrize("moment", ["GET new", "UndoCheckOut"])
async def test_a_check_in_that_comes_late_is_what_the_release_finds(ready: WrsWorld, moment: str) -> None:
    ready.wire.faults["CheckIn"] = Fault.LATE
    await ready.attempt()
    ready.wire.before[moment] = ready.wire.arrive
    await check_once_and_for_all(ready)
    assert not ready.wire.before, "that moment did not come"


async def test_a_check_in_that_comes_after_the_release_changes_nothing(ready: WrsWorld) -> None:
    ready.wire.faults["CheckIn"] = Fault.LATE
    await ready.attempt()
    ready.wire.before["CheckOut"] = ready.wire.arrive
    await check_once_and_for_all(ready)


@pytest.mark.parametrize("account", ["", "Integration, Reconciler"])
@pytest.mark.parametrize("lock", [True, False], ids=["journalled", "not journalled"])
async def test_a_persons_check_out_is_not_touched_where_the_server_would_let_us(
    make_world: MakeWorld, account: str, lock: bool
) -> None:
    world = (await make_world(account=account)).switch(administrators=[ME], working_copies_listed=True)
    world.wire.faults["PATCH" if lock else "CheckOut"] = Fault.DIED_BEFORE
    await world.emit({"Owner": "lchen"})
    await world.cut_short()
    if lock:
        Person(world.simulated, ME).does("undo")  # whoever has undone ours
    world.person.does("checkout", "edit", set={"title": "Theirs"})
    theirs = world.where()["working_copy"]
    for _ in range(3):
        await world.wait()
        await world.attempt()
        assert world.document().status is Status.LOCKED
        assert world.where()["working_copy"] == theirs
    world.person.does("checkin")
    await world.settle()
    assert (world.live()["owner"], world.live()["title"]) == ("lchen", "Theirs")
    assert world.cycles("jdoe") == ["CheckOut", "CheckIn"]


@pytest.mark.parametrize("shown", [True, False], ids=["holder shown", "holder not shown"])
async def test_what_is_not_provably_ours_is_left_to_a_person_with_a_message(make_world: MakeWorld, shown: bool) -> None:
    world = (await make_world(account="")).switch(administrators=[ME], working_copies_listed=True, holder_shown=shown)
    world.person.does("checkout")
    answer = expect(Locked, await world.adapter.release(KEY, None, MARK))
    assert answer.holder == ("jdoe" if shown else None)
    assert world.holder() == "jdoe"


async def test_a_working_copy_of_someone_else_is_not_given_up_though_the_journal_named_it(
    make_world: MakeWorld,
) -> None:
    world = (await make_world()).switch(administrators=[ME])
    world.person.does("checkout")
    theirs = world.where()["working_copy"]
    answer = expect(Locked, await world.adapter.release(KEY, theirs, MARK))
    assert answer.holder == "jdoe"
    assert world.where()["working_copy"] == theirs


@pytest.mark.parametrize("action", ["undo", "checkin"])
async def test_a_lock_that_someone_else_gives_up_at_that_very_moment_is_given_up(world: WrsWorld, action: str) -> None:
    us = Person(world.simulated, ME)
    us.does("checkout")
    copy = world.where()["working_copy"]
    world.wire.before["UndoCheckOut"] = lambda: us.does(action)
    assert await world.adapter.release(KEY, copy, MARK) == Released()
    assert not world.wire.before


async def test_a_working_copy_that_shows_nothing_of_itself_is_undone_by_its_id(world: WrsWorld) -> None:
    await world.emit({"Owner": "lchen"})
    world.wire.faults["PATCH"] = Fault.REQUEST_LOST
    copy = {"status": 200, "body": {"ID": "OR:wt.doc.WTDocument:1", "Number": KEY}}
    world.simulated.script("GET", "ok", copy, copy, document=KEY, path="('")
    await world.attempt()
    assert world.cycles() == ["CheckOut", "UndoCheckOut"]
    await world.settle()
    assert (world.live()["owner"], world.holder()) == ("lchen", None)


async def test_where_a_second_check_out_is_refused_the_lock_is_left_to_a_person(make_world: MakeWorld) -> None:
    world = (await make_world()).switch(checkout_again=400)
    world.wire.faults["CheckOut"] = Fault.REPLY_LOST
    await world.try_once({"Owner": "lchen"})
    await world.wait()
    await world.attempt()
    assert world.document().status is Status.LOCKED
    assert "by hand" in world.document().reason
    Person(world.simulated, ME).does("undo")
    await world.settle()
    assert world.live()["owner"] == "lchen"


async def test_a_release_without_a_lock_asks_twice_and_changes_nothing(world: WrsWorld) -> None:
    await world.adapter.read(KEY)
    world.wire.asked.clear()
    assert await world.adapter.release(KEY, None, MARK) == Released()
    assert world.wire.asked == ["GET list", "GET one"]


async def suffer(
    world: WrsWorld, chance: random.Random, steps: Sequence[str], someone: Callable[[], None] | None = None
) -> None:
    """Make some attempts under faults, and with someone at work at the same time; then settle without."""
    for _ in range(chance.randrange(1, 5)):
        if world.document().status is Status.SYNCED:
            break
        if someone is not None:
            world.wire.before[chance.choice(steps)] = someone
        world.wire.faults[chance.choice(steps)] = chance.choice([*LOST, *DEAD])
        await world.wait()
        await world.cut_short(restarted=chance.random() < 0.3)
    world.wire.faults.clear()
    world.wire.before.clear()
    await world.settle()
    assert world.holder() is None


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_any_run_of_faults_ends_with_one_iteration_a_value(make_world: MakeWorld, seed: int) -> None:
    chance = random.Random(seed)
    world = await make_world()
    world.switch(
        checkin_id=chance.choice(["fresh", "working_copy"]),
        checkout_reply=chance.choice(["id", "entity"]),
        administrators=chance.choice([[], [ME]]),
        working_copies_listed=chance.choice([True, False]),
    )
    for number in range(3):
        await world.emit({"Owner": f"user{number}", "Title": f"Title {number}"})
        await suffer(world, chance, (*STEPS, "UndoCheckOut"))
        assert (world.live()["owner"], world.live()["title"]) == (f"user{number}", f"Title {number}")
        assert world.cycles().count("CheckIn") == number + 1


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_any_run_of_faults_and_people_loses_nothing_of_anyone(make_world: MakeWorld, seed: int) -> None:
    chance = random.Random(seed)
    world = await make_world()
    world.switch(
        checkin_id=chance.choice(["fresh", "working_copy"]),
        administrators=chance.choice([[], [ME]]),
        checkout_conflict=chance.choice(["same", 400, 423, 500]),
        stale_checkout=chance.choice([400, 404, "latest"]),
    )
    titles = ["Bracket"]

    def someone() -> None:
        if chance.random() < 0.3:  # an administrator comes first and undoes whatever check-out there is
            world.simulated.unlock(KEY)
        title = f"Title {len(titles)}"
        if world.person.may_edit(title=title):
            titles.append(title)

    for number in range(4):
        await world.emit({"Owner": f"user{number}", "State": STATES[number % 2]})
        await suffer(world, chance, (*STEPS, "SetState", "UndoCheckOut"), someone)
        shown = world.live()
        assert (shown["owner"], shown["status"]) == (f"user{number}", STATES[number % 2])
        assert shown["title"] == titles[-1]
