"""The queue against a model that keeps a plain dictionary and looks through all of it every time."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reconciler.core.scheduling.queue import Queue
from reconciler.model.document import Due, Lane

SECOND_US = 1_000_000
KEYS = st.sampled_from([f"doc-{number}" for number in range(12)])
LANES = st.sampled_from(Lane)


def due(key: str, lane: Lane = Lane.EVENT, due_us: int = 0) -> Due:
    return Due(key, lane, due_us)


def merged(one: Due | None, other: Due) -> Due:
    return other if one is None else Due(one.key, min(one.lane, other.lane), min(one.due_us, other.due_us))


@attrs.define
class Waiting:
    """One waiting document of the model."""

    due: Due
    ready_us: int | None = None


class QueueAgainstModel(RuleBasedStateMachine):
    """Every operation in any order; after each, the queue and the model must say the same."""

    @initialize(capacity=st.integers(1, 8), ageing_s=st.sampled_from([0, 1, 3]))
    def start(self, capacity: int, ageing_s: int) -> None:
        self.queue = Queue(capacity, ageing_s)
        self.capacity = capacity
        self.ageing_us = ageing_s * SECOND_US
        self.now_us = 1_000 * SECOND_US
        self.waiting: dict[str, Waiting] = {}
        self.running: dict[str, Due | None] = {}
        self.store: set[str] = set()  # what the queue left out: still to be looked at, known to the store only

    def claim(self, due: Due) -> int:
        return due.due_us + due.lane * self.ageing_us

    def rank(self, entry: Waiting) -> tuple[int, int]:
        assert entry.ready_us is not None
        return entry.ready_us + entry.due.lane * self.ageing_us, entry.due.due_us

    def offered(self, due: Due) -> bool:
        """What the model makes of an offer; what was displaced is found by comparing with the queue."""
        if due.key in self.running:
            self.running[due.key] = merged(self.running[due.key], due)
        elif due.key in self.waiting:
            self.waiting[due.key].due = merged(self.waiting[due.key].due, due)
        elif len(self.waiting) < self.capacity:
            self.waiting[due.key] = Waiting(due)
        else:
            greatest = max(self.claim(entry.due) for entry in self.waiting.values())
            if greatest <= self.claim(due):
                self.store.add(due.key)
                return False
            (left_out,) = set(self.waiting) - set(self.queue._waiting)
            assert self.claim(self.waiting.pop(left_out).due) == greatest
            self.store.add(left_out)
            self.waiting[due.key] = Waiting(due)
        self.store.discard(due.key)
        return True

    @rule(key=KEYS, lane=LANES, in_s=st.integers(-5, 5))
    def offer(self, key: str, lane: Lane, in_s: int) -> None:
        offer = Due(key, lane, self.now_us + in_s * SECOND_US)
        self.queue.spilled = False
        accepted = self.queue.offer(offer)
        left_out = len(self.store - {key})
        assert self.offered(offer) == accepted
        assert self.queue.spilled == (not accepted or len(self.store - {key}) > left_out)

    @rule(limit=st.integers(0, 5))
    def take(self, limit: int) -> None:
        for entry in self.waiting.values():
            if entry.ready_us is None and entry.due.due_us <= self.now_us:
                entry.ready_us = self.now_us
        ready = sorted(self.rank(entry) for entry in self.waiting.values() if entry.ready_us is not None)
        taken = self.queue.take(self.now_us, limit)
        assert [self.rank(self.waiting[one.key]) for one in taken] == ready[:limit]
        assert not {one.key for one in taken} & set(self.running), "one attempt at a time"
        for one in taken:
            assert self.waiting.pop(one.key).due == one
            self.running[one.key] = None

    @precondition(lambda self: self.running)
    @rule(data=st.data(), lane=LANES, in_s=st.none() | st.integers(-1, 8))
    def done(self, data: st.DataObject, lane: Lane, in_s: int | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        requeue = None if in_s is None else Due(key, lane, self.now_us + in_s * SECOND_US)
        self.queue.spilled = False
        self.queue.done(key, requeue)
        offered = self.running.pop(key)
        if requeue is not None:
            offered = merged(offered, requeue)
        left_out = len(self.store)
        if offered is not None:
            self.offered(offered)
        assert self.queue.spilled == (len(self.store) > left_out)

    @rule(seconds=st.integers(0, 4))
    def pass_time(self, seconds: int) -> None:
        self.now_us += seconds * SECOND_US

    @rule()
    def wait_for_the_next(self) -> None:
        next_us = self.queue.next_due_us()
        assert (next_us is None) == (not self.waiting)
        if next_us is None:
            return
        if next_us > self.now_us:
            assert self.queue.take(next_us - 1, 1) == []
            self.now_us = next_us
        self.take(1)

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert {key: entry.due for key, entry in self.queue._waiting.items()} == {
            key: entry.due for key, entry in self.waiting.items()
        }
        assert set(self.queue.running) == set(self.running)
        assert len(self.queue) == len(self.waiting) <= self.capacity
        assert self.queue.room == self.capacity - len(self.waiting)
        lanes = [entry.due.lane for entry in self.waiting.values()]
        assert self.queue.depth() == {lane: lanes.count(lane) for lane in Lane}


TestQueueAgainstModel = QueueAgainstModel.TestCase


# ------------------------------------------------------------------------------------------------------- no starvation


@given(
    lane=st.sampled_from([Lane.RETRY, Lane.RESYNC, Lane.REPLAY]),
    ageing_s=st.integers(1, 5),
    per_take=st.integers(1, 4),
    excess=st.integers(0, 4),
)
def test_in_an_endless_stream_of_events_only_those_go_first_that_come_within_the_ageing_of_its_lane(
    lane: Lane, ageing_s: int, per_take: int, excess: int
) -> None:
    queue = Queue(10_000, ageing_s)
    queue.offer(due("patient", lane))
    served: list[str] = []
    second = 0
    while "patient" not in served:  # every second there come at least as many events as can be served
        for number in range(per_take + excess):
            queue.offer(due(f"event-{second}-{number}", Lane.EVENT, second * SECOND_US))
        for one in queue.take(second * SECOND_US, per_take):
            served.append(one.key)
            queue.done(one.key)
        second += 1
    assert served.index("patient") == (lane - Lane.EVENT) * ageing_s * (per_take + excess)


def test_the_most_urgent_lane_goes_first_and_the_longest_due_within_a_lane() -> None:
    queue = Queue(100)
    for number, lane in enumerate([Lane.REPLAY, Lane.EVENT, Lane.RESYNC, Lane.OPERATOR, Lane.EVENT, Lane.RETRY]):
        queue.offer(due(str(number), lane, due_us=-number))
    assert [one.key for one in queue.take(0, 10)] == ["3", "4", "1", "5", "2", "0"]


def test_after_an_outage_an_operator_does_not_queue_up_behind_what_has_been_due_for_hours() -> None:
    queue = Queue(100, ageing_s=30)
    for number in range(50):
        queue.offer(due(str(number), Lane.RESYNC, due_us=0))
    hours_us = 8 * 3600 * SECOND_US
    queue.offer(due("operator's", Lane.OPERATOR, hours_us))
    assert queue.take(hours_us, 1) == [due("operator's", Lane.OPERATOR, hours_us)]


# ----------------------------------------------------------------------------------------------- one entry, one attempt


def test_a_hundred_offers_are_one_attempt() -> None:
    queue = Queue(10)
    for number in range(100):
        assert queue.offer(due("a", Lane.REPLAY if number % 2 else Lane.RETRY, 100 - number))
    assert queue.take(100, 10) == [due("a", Lane.RETRY, 1)]
    assert queue.take(100, 10) == []


def test_what_is_offered_during_an_attempt_comes_back_as_soon_as_it_is_done() -> None:
    queue = Queue(10)
    queue.offer(due("a"))
    queue.take(0, 1)
    assert queue.offer(due("a", Lane.EVENT, 5))
    assert queue.take(10, 1) == []
    queue.done("a", due("a", Lane.RETRY, 60 * SECOND_US))
    assert queue.take(10, 1) == [due("a", Lane.EVENT, 5)]


def test_a_document_that_is_done_and_not_offered_again_is_gone() -> None:
    queue = Queue(10)
    queue.offer(due("a"))
    queue.take(0, 1)
    queue.done("a")
    assert (len(queue), list(queue.running), queue.next_due_us()) == (0, [], None)


def test_an_entry_that_grows_more_urgent_keeps_its_age() -> None:
    queue = Queue(10, ageing_s=10)
    queue.offer(due("old", Lane.RESYNC))
    queue.take(0, 0)
    queue.offer(due("new", Lane.EVENT, 5 * SECOND_US))
    queue.take(5 * SECOND_US, 0)
    queue.offer(due("old", Lane.EVENT, 6 * SECOND_US))
    assert [one.key for one in queue.take(6 * SECOND_US, 2)] == ["old", "new"]


@pytest.mark.parametrize("key", ["never offered", "waiting"])
def test_only_what_was_taken_can_be_done(key: str) -> None:
    queue = Queue(10)
    queue.offer(due("waiting"))
    with pytest.raises(AssertionError):
        queue.done(key)


# ------------------------------------------------------------------------------------------------------ full, and cheap


def test_a_full_queue_leaves_the_new_one_to_the_store_and_says_so() -> None:
    queue = Queue(2)
    assert queue.offer(due("a"))
    assert queue.offer(due("b"))
    assert not queue.spilled
    assert not queue.offer(due("c"))
    assert queue.spilled
    assert queue.offer(due("a", Lane.OPERATOR)), "what already waits needs no room"


def test_resyncs_of_later_do_not_shut_out_an_event_of_now() -> None:
    queue = Queue(100)
    for number in range(100):
        queue.offer(due(str(number), Lane.RESYNC, (600 + number) * SECOND_US))
    assert queue.offer(due("event", Lane.EVENT, 0))
    assert queue.spilled, "the resync it displaced is in the store only"
    assert queue.depth()[Lane.RESYNC] == 99
    assert [one.key for one in queue.take(0, 10)] == ["event"]


def test_what_the_heaps_hold_is_bounded_by_what_waits() -> None:
    queue = Queue(100)
    for number in range(10_000):
        queue.offer(due(str(number % 150), Lane((number // 150) % 5), 10_000 - number))
        if number % 7 == 0:
            for one in queue.take(10_000 - number, 3):
                queue.done(one.key, due(one.key, Lane.RESYNC, 20_000))
        for heap in (queue._later, queue._ready, queue._least):
            assert len(heap._items) <= 2 * 100 + 66


def test_a_take_touches_nothing_that_is_not_yet_due(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(20_000)
    for number in range(10_000):
        queue.offer(due(str(number), Lane.RESYNC, (1 + number) * SECOND_US))
    looks = 0
    is_waiting = queue._is_waiting

    def counted(entry: object) -> bool:
        nonlocal looks
        looks += 1
        return is_waiting(entry)

    for heap in (queue._later, queue._ready, queue._least):
        monkeypatch.setattr(heap, "_alive", counted)
    assert queue.take(0, 100) == []
    assert len(queue.take(10 * SECOND_US, 100)) == 10
    assert looks < 50


def test_after_a_clock_has_come_back_what_stood_ready_goes_before_what_is_new() -> None:
    queue, years_us = Queue(10), 10**14
    for key in "ab":
        queue.offer(Due(key, Lane.EVENT, years_us))
    assert [due.key for due in queue.take(years_us, 1)] == ["a"]
    assert queue.take(4, 0) == []
    queue.offer(Due("new", Lane.EVENT, 5))
    assert [due.key for due in queue.take(5, 1)] == ["b"]


def test_a_sample_is_spread_over_all_that_stands_ready() -> None:
    queue = Queue(1000)
    for number in range(100):
        queue.offer(Due(f"{number:02d}", Lane.EVENT, number))
    queue.offer(Due("not yet", Lane.EVENT, 10**9))
    sample = [int(due.key) for due in queue.sample(1000, 5, 0.5)]
    assert sample == [10, 30, 50, 70, 90]
    assert {"10", "90"} <= queue.running
    assert len(queue.sample(1000, 500, 0.0)) == 95
