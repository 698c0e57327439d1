"""Notify: told at least once, under one id, one by one or as a digest, and nothing waits for it."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from msgspec import structs

from reconciler import config
from reconciler.adapters.message_template import Template
from reconciler.core.explain import notices
from reconciler.core.explain.messages import Links, Message
from reconciler.core.explain.notices import Batch, Fault, Notification, Undelivered
from reconciler.core.explain.routing import Quiet, Route
from reconciler.core.scheduling.breaker import Breaker, RequestResult
from reconciler.flows import watch
from reconciler.flows.messages import Messages
from reconciler.flows.notifier import Notifier, Thresholds
from reconciler.flows.notify import Receiver
from reconciler.model import chain, notified
from reconciler.model.answer import Locked, NotAvailable
from reconciler.model.chain import Entry
from reconciler.model.document import NO_AGREEMENT, Conflict, ConflictRow, Document, Status
from reconciler.model.event import DeadLetter
from reconciler.model.plan import Reason, ReasonCode
from reconciler.model.snapshot import Snapshot
from reconciler.model.stamp import Place, Stamp
from reconciler.ports import standing
from tests import defaults
from tests.fakes.outage import opened
from tests.flows.conftest import MakeWorld
from tests.flows.world import KEY, World, policy

REFUSED = Undelivered("status 500")


class FakeWebhook:
    """Takes what it is given, or says what it is told to say."""

    def __init__(self) -> None:
        self.accepted: list[Notification] = []
        self.tried: list[Notification] = []
        self.says: Callable[[], Undelivered | None] = lambda: None

    async def post(self, notification: Notification) -> Undelivered | None:
        self.tried.append(notification)
        said = self.says()
        if said is None:
            self.accepted.append(notification)
        await asyncio.sleep(0)  # on its way back an answer may come too late
        return said

    async def close(self) -> None:
        return

    @property
    def bodies(self) -> list[dict]:
        return [json.loads(one.body) for one in self.accepted]

    @property
    def types(self) -> list[str]:
        return [one.kind.value for one in self.accepted]

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.accepted]


class Bench:
    """A notifier over a world's log and store, that can die and be started again."""

    def __init__(self, world: World, **given: Any) -> None:
        self.world = world
        self.webhook = FakeWebhook()
        self.breaker = Breaker()
        self.options = defaults.notify_options(source="//reconciler/test", **given.pop("options", {"most": 3}))
        self.thresholds = defaults.notify_thresholds(**{"audit_s": 0, **given})
        self.tasks: list[asyncio.Task[None]] = []
        self.mine = True  # whether telling is this replica's duty
        self.others: list[Receiver] = []
        self._notifier: Notifier | None = None

    async def start(self) -> None:
        store, clock = self.world.store, self.world.clock
        receivers = [Receiver("webhook", self.webhook, self.options), *self.others]
        known = {"store": store, "breaker": self.breaker, "clock": clock, "telemetry": self.world.telemetry}
        notifier = Notifier(receivers, **known, thresholds=self.thresholds, mine=lambda: self.mine)
        await notifier.begin(await store.positions())
        self.tasks = [asyncio.ensure_future(loop()) for loop in notifier.loops().values()]
        self._notifier = notifier

    async def pass_time(self, seconds: float) -> None:
        await self.world.clock.advance(seconds)
        for task in self.tasks:
            if task.done():
                task.result()

    def dies(self) -> None:
        """Accept, but kill who tells before it hears of that."""
        self.tasks[0].cancel()

    async def die(self) -> None:
        """As by SIGKILL: nothing more is done."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def stop(self) -> None:
        assert self._notifier is not None
        self._notifier.stop()
        await self.world.clock.advance(1)
        assert all(task.done() for task in self.tasks)
        for task in self.tasks:
            task.result()


@pytest.fixture
async def resting(world: World) -> Any:
    made = Bench(world)
    yield made
    await made.die()


@pytest.fixture
async def bench(resting: Bench) -> Bench:
    await resting.start()
    return resting


def park(world: World, key: str = KEY, reason: str = "404", status: Status = Status.PARKED) -> None:
    """Put a document aside."""
    now_us = world.clock.now_us()
    aside = Document(key, revision=1, agreement=structs.replace(NO_AGREEMENT, aside_us=now_us), status=status)
    world.store.rows[key] = structs.replace(aside, reason=reason, due_us=now_us, pending_since_us=now_us)


def clash(world: World, name: str = "c1", closed_at_us: int | None = None) -> None:
    """Open a conflict."""
    stamp = Stamp("", "2026-11-22T10:00:00.000000Z", "", "t", 0, 0, "//erp", "e1")
    conflict = Conflict(name, "owner", (Reason(ReasonCode.BOTH),), "a", True, "b", "c", stamp, world.clock.now_us())
    world.store.clashes[name] = ConflictRow(name, conflict, closed_at_us)
    if closed_at_us is None:
        held = structs.replace(NO_AGREEMENT, held=(conflict,))
        world.store.rows[name] = Document(name, revision=1, agreement=held, status=Status.HELD)


def refuse(world: World, offset: int, status: str = "open") -> None:
    """Refuse a record."""
    letter = DeadLetter(Place("changes", 0, offset), 0, None, b"x", (), "decode", "not JSON", world.clock.now_us())
    world.store.letters[letter.id] = attrs.evolve(letter, status=status)


async def test_what_has_happened_is_told_at_once_and_once(world: World, bench: Bench) -> None:
    park(world)
    park(world, "other", status=Status.CONTENDED)
    clash(world)
    await bench.pass_time(2)
    assert sorted(bench.webhook.types) == ["conflict.opened", "document.contended", "document.parked"]
    refuse(world, 4)
    await bench.pass_time(70)
    assert bench.webhook.types[3:] == ["dead_letter.received"]
    assert world.telemetry.total("notifications_total", result="delivered") == 4
    await bench.pass_time(1000)
    assert len(bench.webhook.accepted) == 4


async def test_what_was_there_before_the_first_start_is_not_told_and_all_later_is(world: World, resting: Bench) -> None:
    park(world, "old")
    clash(world, "old")
    refuse(world, 1)
    await world.clock.advance(1)
    await resting.start()
    await resting.die()
    await world.clock.advance(1)
    park(world, "new")
    refuse(world, 2)
    await world.clock.advance(1000)
    await resting.start()
    await resting.pass_time(2)
    assert {body["data"].get("document", body["data"].get("dead_letter")) for body in resting.webhook.bodies} == {
        "new",
        "changes/0/2",
    }


async def test_what_has_closed_before_it_could_be_told_is_told_once_as_closed(world: World, bench: Bench) -> None:
    await world.clock.advance(0.5)
    clash(world, closed_at_us=world.clock.now_us())
    refuse(world, 4, "discarded")
    await bench.pass_time(2)
    said = {body["type"]: body["data"] for body in bench.webhook.bodies}
    assert said["conflict.opened"]["closed"].endswith("Z")
    assert said["dead_letter.received"]["status"] == "discarded"
    await bench.pass_time(600)
    assert len(bench.webhook.accepted) == 2


async def test_what_closes_after_it_was_told_is_not_told_again_and_what_opens_again_is(
    world: World, bench: Bench
) -> None:
    clash(world)
    await bench.pass_time(2)
    world.store.clashes["c1"] = structs.replace(world.store.clashes["c1"], closed_at_us=world.clock.now_us())
    del world.store.rows["c1"]
    await bench.pass_time(100)
    assert bench.webhook.types == ["conflict.opened"]
    clash(world)
    await bench.pass_time(2)
    assert bench.webhook.types == ["conflict.opened"] * 2
    assert len(set(bench.webhook.ids)) == 2


async def test_what_was_put_aside_while_an_answer_was_awaited_is_told_however_late_its_commit(
    world: World, bench: Bench
) -> None:
    began_us = world.clock.now_us()
    await bench.pass_time(100)
    park(world)
    row = world.store.rows[KEY]
    world.store.rows[KEY] = structs.replace(row, agreement=structs.replace(row.agreement, aside_us=began_us))
    await bench.pass_time(2)
    assert bench.webhook.types == ["document.parked"]


async def test_a_contended_document_is_told_though_it_is_tried_right_when_the_webhook_comes_back(
    world: World, bench: Bench
) -> None:
    bench.webhook.says = lambda: REFUSED
    park(world, "other")
    await bench.pass_time(1)
    park(world, status=Status.CONTENDED)
    await bench.pass_time(5000)
    world.store.rows[KEY] = structs.replace(world.store.rows[KEY], status=Status.PENDING)
    bench.webhook.says = lambda: None
    while not bench.webhook.accepted:
        await bench.pass_time(5)
    await bench.pass_time(62)
    world.store.rows[KEY] = structs.replace(world.store.rows[KEY], status=Status.CONTENDED)
    await bench.pass_time(2)
    assert bench.webhook.types == ["document.parked", "document.contended"]


async def test_of_two_replicas_the_one_whose_duty_it_is_tells_and_the_next_goes_on_from_there(
    world: World, bench: Bench
) -> None:
    other = Bench(world)
    other.mine = False
    await other.start()
    clash(world, "c1")
    await bench.pass_time(600)
    bench.mine = False
    clash(world, "c2")
    await bench.pass_time(600)
    assert (len(bench.webhook.ids), len(other.webhook.ids)) == (1, 0)
    other.mine = True
    await bench.pass_time(600)
    other.mine, bench.mine = False, True
    clash(world, "c3")
    await bench.pass_time(600)
    assert (len(bench.webhook.ids), len(other.webhook.ids)) == (2, 1)
    assert len({*bench.webhook.ids, *other.webhook.ids}) == 3
    await other.stop()


async def test_a_crash_repeats_minutes_under_the_same_ids_and_a_stop_in_order_nothing(
    world: World, bench: Bench
) -> None:
    park(world, "early")
    clash(world)
    refuse(world, 1)
    await bench.pass_time(1000)
    early = set(bench.webhook.ids)
    park(world, "late")
    await bench.pass_time(100)
    await bench.die()
    await bench.start()
    await bench.pass_time(100)
    assert [bench.webhook.ids.count(one) for one in (*sorted(early), bench.webhook.ids[-1])] == [1, 1, 1, 2]
    await bench.stop()
    count = len(bench.webhook.ids)
    await bench.start()
    await bench.pass_time(1000)
    assert len(bench.webhook.ids) == count


async def test_a_clock_that_was_ahead_hides_nothing(world: World, bench: Bench) -> None:
    world.store.offsets[notified.floor("webhook")] = world.clock.now_us() + 86_400_000_000
    await bench.die()
    await bench.start()
    await bench.pass_time(1)
    park(world)
    await bench.pass_time(2)
    assert bench.webhook.types == ["document.parked"]


async def test_a_clock_that_is_set_back_hides_nothing(world: World, bench: Bench) -> None:
    await world.clock.advance(600)
    park(world, "first")
    await bench.pass_time(2)
    world.clock.ahead_us = -3_600_000_000
    park(world, "second")
    await bench.pass_time(30)
    assert bench.webhook.types == ["document.parked"], "the next batch waits for its time"
    await bench.pass_time(60)
    assert [body["data"]["document"] for body in bench.webhook.bodies][-1] == "second"


async def test_a_death_before_the_acceptance_is_known_tells_again_under_the_same_id(world: World, bench: Bench) -> None:
    park(world)
    bench.webhook.says = bench.dies
    await world.clock.advance(2)
    await bench.die()
    bench.webhook.says = lambda: None
    await bench.start()
    await bench.pass_time(2)
    first, second = bench.webhook.accepted
    assert first == second


async def test_a_flood_is_one_notification_and_then_one_a_window(world: World, bench: Bench) -> None:
    park(world, "first")
    await bench.pass_time(2)
    for number in range(50):
        park(world, f"d{number}")
        await bench.pass_time(0.5)
    assert bench.webhook.types == ["document.parked"]
    await bench.pass_time(60)
    assert bench.webhook.types == ["document.parked", "digest"]
    assert bench.webhook.bodies[1]["data"]["total"] == 50


async def test_while_the_webhook_is_away_the_same_is_tried_again_and_the_rest_waits_in_the_store(
    world: World, bench: Bench
) -> None:
    bench.webhook.says = lambda: REFUSED
    park(world, "first")
    times = []
    for _ in range(60):
        tried = len(bench.webhook.tried)
        await bench.pass_time(5)
        if len(bench.webhook.tried) > tried:
            times.append(world.clock.monotonic_s())
        park(world, f"d{len(times)}")
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert len({one.id for one in bench.webhook.tried}) == 1
    assert waits[0] < 10
    assert waits[-1] > 60
    bench.webhook.says = lambda: None
    await bench.pass_time(500)
    assert bench.webhook.types == ["document.parked", "digest"]
    assert len({one.id for one in bench.webhook.accepted}) == 2


async def test_a_receiver_that_asks_for_time_gets_it(world: World, bench: Bench) -> None:
    bench.webhook.says = lambda: Undelivered("status 429", Fault.ENDPOINT, 300.0)
    park(world)
    await bench.pass_time(290)
    assert len(bench.webhook.tried) == 1
    bench.webhook.says = lambda: None
    await bench.pass_time(20)
    assert len(bench.webhook.accepted) == 1


async def test_one_that_is_never_taken_does_not_keep_later_ones_from_being_told(world: World, bench: Bench) -> None:
    bench.webhook.says = lambda: (
        Undelivered("status 400", Fault.CONTENT) if b"poison" in bench.webhook.tried[-1].body else None
    )
    park(world, "poison")
    park(world, "good")
    await bench.pass_time(2000)
    assert [body["data"]["document"] for body in bench.webhook.bodies] == ["good"]
    assert len(bench.webhook.tried) == 11


async def test_once_no_one_listens_any_more_nothing_is_posted_until_a_restart(world: World, bench: Bench) -> None:
    bench.webhook.says = lambda: Undelivered("status 410", Fault.GONE)
    park(world)
    await bench.pass_time(1000)
    assert len(bench.webhook.tried) == 1
    await bench.stop()
    bench.webhook.says = lambda: None
    await bench.start()
    await bench.pass_time(2)
    assert len(bench.webhook.accepted) == 1


async def test_a_stop_tells_what_is_left_and_tries_it_once(world: World, bench: Bench) -> None:
    park(world, "one")
    await bench.pass_time(2)
    park(world, "two")
    await bench.stop()
    assert len(bench.webhook.accepted) == 2
    await bench.start()
    bench.webhook.says = lambda: REFUSED
    park(world, "three")
    await bench.stop()
    assert len(bench.webhook.tried) == 3
    bench.webhook.says = lambda: None
    await bench.start()
    await bench.pass_time(2)
    assert [body["data"]["document"] for body in bench.webhook.bodies] == ["one", "two", "three"]


async def test_a_flood_beyond_what_is_kept_is_counted_and_told_once(
    world: World, resting: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "BATCH_MAX", 20)
    monkeypatch.setattr(watch, "BATCH_MAX", 20)
    await resting.start()
    for number in range(150):  # more than a page
        park(world, f"d{number}")
    await resting.pass_time(300)
    assert [body["data"]["total"] for body in resting.webhook.bodies] == [150]


async def test_windchill_is_told_to_be_down_only_if_it_stays_so_and_then_to_be_back(world: World, bench: Bench) -> None:

    def answers() -> None:
        leave = bench.breaker.try_pass(world.clock.monotonic_s())
        assert leave is not None
        bench.breaker.report(leave, RequestResult.SUCCESS, world.clock.monotonic_s(), 0.5)

    opened(bench.breaker, world.clock.monotonic_s())
    await bench.pass_time(20)
    answers()
    await bench.pass_time(120)
    assert bench.webhook.types == []
    opened(bench.breaker, world.clock.monotonic_s())
    await bench.pass_time(20)
    opened(bench.breaker, world.clock.monotonic_s())
    await bench.pass_time(20)
    assert bench.webhook.types == ["breaker.opened"]
    await bench.pass_time(200)
    answers()
    await bench.pass_time(2)
    assert bench.webhook.types == ["breaker.opened", "breaker.closed"]
    assert len({body["data"]["since"] for body in bench.webhook.bodies}) == 1


async def test_a_lock_is_told_once_when_it_has_lasted_and_under_the_same_id_after_a_restart(
    world: World, resting: Bench
) -> None:
    world.windchill.script_writes(*[Locked(423, "checked out", "bmiller")] * 100)
    await world.emit_and_attempt({"title": "Cover"})
    assert world.document().status is Status.LOCKED
    resting.thresholds = Thresholds(locked_s=300, audit_s=0)
    await resting.start()
    await resting.pass_time(250)
    assert resting.webhook.types == []
    await resting.pass_time(300)
    assert resting.webhook.types == ["document.locked"]
    (body,) = resting.webhook.bodies
    assert body["data"]["document"] == KEY
    assert "bmiller" in body["data"]["reason"]
    await resting.die()
    await resting.start()
    await resting.pass_time(100)
    assert len(resting.webhook.ids) == 2
    assert len(set(resting.webhook.ids)) == 1


async def test_among_many_locks_those_that_last_are_told(
    world: World, resting: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_LOCKED_MAX", 100)
    park(world, "z", status=Status.LOCKED)
    await world.clock.advance(3600)
    for number in range(200):
        park(world, f"d{number}", status=Status.LOCKED)
    await resting.start()
    await resting.pass_time(120)
    assert [body["data"]["document"] for body in resting.webhook.bodies] == ["z"]


async def test_a_trail_that_someone_has_changed_is_told(make_world: MakeWorld) -> None:
    world = make_world()
    bench = Bench(world, audit_s=300)
    for number in range(3):
        await world.emit_and_settle({"title": f"t{number}"})
    await bench.start()
    await bench.pass_time(100)
    assert bench.webhook.types == []
    entry, whole = world.store.chain[1], list(world.store.chain)
    world.store.chain[1] = structs.replace(entry, record=entry.record.replace(b"t1", b"tX"))
    await bench.pass_time(300)
    assert bench.webhook.types == ["audit.broken"]
    assert bench.webhook.bodies[0]["data"]["record"] == 2
    world.store.chain[:] = whole
    await bench.die()


async def test_each_chain_of_a_trail_is_walked_by_itself(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    bench = Bench(world, audit_s=300)
    entries = []
    for number in (0, 3):
        head = chain.begin(number)
        for text in (b"{}", b"[]"):
            head = chain.extend(head, text)
            entries.append(Entry(head.number, None, head.link, text))

    async def audit_chain() -> AsyncIterator[Entry]:
        for entry in entries:
            yield entry

    monkeypatch.setattr(world.store, "audit_chain", audit_chain)
    await bench.start()
    await bench.pass_time(100)
    assert bench.webhook.types == []
    entries[2] = structs.replace(entries[2], record=b"{ }")
    await bench.pass_time(300)
    assert bench.webhook.bodies[0]["data"]["record"] == 3 * chain.SPAN + 1
    entries.clear()
    await bench.die()


def ruled(bench: Bench, name: str, webhook: FakeWebhook, **route: Any) -> None:
    """Add a rule to a bench."""
    options = attrs.evolve(bench.options, most=1)
    bench.others.append(Receiver(name, webhook, options, Route(**route)))


async def test_a_broken_receiver_keeps_no_other_waiting_and_hears_of_all_later_even_after_a_restart(
    world: World, resting: Bench
) -> None:
    broken = FakeWebhook()
    broken.says = lambda: REFUSED
    ruled(resting, "plm/slack", broken)
    await resting.start()
    park(world, "one")
    await resting.pass_time(100)
    park(world, "two")
    await resting.pass_time(100)
    assert resting.webhook.types == ["document.parked"] * 2
    assert broken.accepted == []
    found = await standing.of(world.store, world.clock.now_us())
    assert list(found.not_notified) == ["plm/slack"]
    assert found.not_notified["plm/slack"] <= world.clock.now_us() - 100_000_000
    await resting.die()
    await resting.start()
    broken.says = lambda: None
    await resting.pass_time(1000)
    assert len({one.id for one in resting.webhook.accepted}) == 2
    (told,) = broken.accepted
    assert [notice.document for notice in told.notices] == ["one", "two"]
    assert (await standing.of(world.store, world.clock.now_us())).not_notified == {}
    assert world.telemetry.total("notifications_total", to="plm/slack", result="failed") > 3


async def test_a_rule_that_is_gone_is_not_said_to_be_broken_for_ever(world: World, resting: Bench) -> None:
    broken = FakeWebhook()
    broken.says = lambda: REFUSED
    ruled(resting, "plm/slack", broken)
    await resting.start()
    park(world)
    await resting.pass_time(100)
    await resting.die()
    resting.others.clear()
    await resting.start()
    assert (await standing.of(world.store, world.clock.now_us())).not_notified == {}


async def test_in_quiet_hours_nothing_is_told_and_then_what_is_still_open_in_one_message(
    world: World, resting: Bench
) -> None:
    people = FakeWebhook()
    now = datetime.fromtimestamp(world.clock.now_us() / 1e6, UTC)
    minute = now.hour * 60 + now.minute
    ruled(resting, "plm/mail", people, quiet=Quiet(since_min=minute, until_min=(minute + 60) % 1440))
    await resting.start()
    park(world, "one")
    clash(world, "c1")
    await resting.pass_time(600)
    park(world, "two")
    world.store.rows["one"] = structs.replace(world.store.rows["one"], status=Status.SYNCED)
    await resting.pass_time(600)
    assert people.tried == []
    await resting.pass_time(3600)
    (told,) = people.accepted
    assert sorted(notice.document for notice in told.notices) == ["c1", "two"]
    await resting.pass_time(600)
    assert len(people.accepted) == 1


async def test_each_rule_tells_what_it_covers_and_nothing_that_is_over(world: World, resting: Bench) -> None:
    owners, others, parked = FakeWebhook(), FakeWebhook(), FakeWebhook()
    ruled(resting, "owners/mail", owners, fields=("owner",), modified_by=("mrossi",))
    ruled(resting, "others/mail", others, modified_by=("akim",))
    ruled(resting, "parked/mail", parked, kinds=("document.parked",))
    await resting.start()
    clash(world, "c1")
    seen = Snapshot("c1", {}, None, modified_by="mrossi")
    row = world.store.rows["c1"]
    world.store.rows["c1"] = structs.replace(row, agreement=structs.replace(row.agreement, snapshot=seen))
    clash(world, "c2", closed_at_us=world.clock.now_us())
    park(world, "p")
    await resting.pass_time(100)
    told = [[one.document for sent in hook.accepted for one in sent.notices] for hook in (owners, others, parked)]
    assert told == [["c1"], [], ["p"]]


async def test_people_read_who_changed_a_document_last_by_the_time_of_the_message(world: World) -> None:
    sent: list[Message] = []

    class Channel:
        async def send(self, message: Message) -> Undelivered | None:
            sent.append(message)
            return None

        async def close(self) -> None:
            return

    clash(world, "c1")
    row = world.store.rows["c1"]
    seen = Snapshot("c1", {}, None, modified_by="akim", modified_at="2026-11-22T10:00:00.000000Z", type="Part")
    world.store.rows["c1"] = structs.replace(row, agreement=structs.replace(row.agreement, snapshot=seen))
    links = Links(lambda notice: f"https://r/{notice.document}")
    people = Messages(world.store, world.clock, Channel(), Template().render, links)
    batch = Batch("//reconciler/test", 1, 20)
    batch.add(notices.of_conflict("c1", world.store.clashes["c1"].conflict))
    (told,) = batch.notifications()
    assert await people.post(told) is None
    (message,) = sent
    assert message.title == "Conflict on owner of c1"
    assert "akim" in message.text
    assert "https://r/c1" in message.text
    poor = Messages(world.store, world.clock, Channel(), lambda _: Template().render({}), links)
    said = await poor.post(told)
    assert said is not None
    assert said.fault is Fault.CONTENT


async def test_the_daemon_tells_what_it_has_done_and_waits_for_no_webhook(make_world: MakeWorld) -> None:
    from reconciler.model.policy import Rule, Strategy

    world = make_world(policy(Rule(("owner",), Strategy.HOLD)))
    bench = Bench(world)
    bench.webhook.says = lambda: REFUSED
    world.windchill.put("gone", {"id": "gone"})
    world.windchill.refusals["gone"] = NotAvailable(404, "there is no such document")
    async with world.running(webhook=bench.webhook, notify=config.Notify(audit_s=0)) as running:
        world.append(world.event({"title": "Cover"}, key="gone"))
        world.append({**world.event({"title": "x"}), "data": {}})
        await running.settled("gone", Status.PARKED)
        await running.pass_until(lambda: len(bench.webhook.tried) >= 2, "both are tried")
        world.append(world.event({"title": "Cover"}))
        await running.settled()
        assert bench.webhook.types == []
        bench.webhook.says = lambda: None
        await running.pass_until(lambda: len(bench.webhook.accepted) == 2, "both are told")
    assert sorted(bench.webhook.types) == ["dead_letter.received", "document.parked"]


async def test_what_the_webhook_does_not_take_is_counted_and_timed_while_it_waits(world: World) -> None:
    bench = Bench(world)
    bench.webhook.says = lambda: Undelivered("410", Fault.GONE)  # which is not tried again, so that nothing else tells
    async with world.running(webhook=bench.webhook, notify=config.Notify(audit_s=0)) as running:

        async def waiting() -> tuple[float, float]:
            await running.daemon._gauges.refresh()
            gauges, to = running.daemon.telemetry.gauges, (("to", "webhook"),)
            return gauges["notifications_waiting", to], gauges["notifications_oldest_seconds", to]

        assert await waiting() == (0, 0)
        world.append({**world.event({"title": "x"}), "data": {}})
        world.append({**world.event({"title": "y"}), "data": {}})
        await running.pass_until(lambda: bool(bench.webhook.tried), "the first is tried")
        await world.clock.advance(600)
        count, oldest_s = await waiting()
        assert count == 2
        assert 590 < oldest_s < 610


async def test_a_webhook_that_is_set_later_hears_of_nothing_that_was_before(world: World) -> None:
    bench = Bench(world)
    world.windchill.refusals[KEY] = NotAvailable(404, "there is no such document")
    async with world.running() as running:
        world.append(world.event({"title": "Cover"}))
        world.append({**world.event({"title": "x"}), "data": {}})
        await running.settled(KEY, Status.PARKED)
        await running.pass_until(lambda: not world.store.outbox, "both are published")
    world.windchill.put("other", {"id": "other"})
    world.windchill.refusals["other"] = NotAvailable(404, "there is no such document")
    async with world.running(webhook=bench.webhook, notify=config.Notify(audit_s=0)) as running:
        await running.pass_until(lambda: world.clock.monotonic_s() > 30, "what there was could have been told")
        assert bench.webhook.tried == []
        world.append(world.event({"title": "Cover"}, key="other"))
        await running.pass_until(lambda: bench.webhook.accepted, "what is new is told")
    assert [body["data"]["document"] for body in bench.webhook.bodies] == ["other"]
