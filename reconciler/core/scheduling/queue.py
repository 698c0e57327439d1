"""
The queue: which document has the next attempt.

Rules
-----
1. One entry a document. An offer for a waiting document keeps the more urgent lane and the earlier time of the two.
2. One attempt a document. A document that was taken is not given out again before it is `done`; an offer meanwhile is
   remembered, and waits from then on. So each change has an attempt that began *after* it.
3. The most urgent lane goes first, and nothing starves: an entry that has been ready for k × `ageing_s` is served as if
   it were k lanes more urgent.
4. The store is the truth, the queue a window on it. Callers offer only documents that are due in the store, so a full
   queue may leave an entry out. `spilled` then says so, and the caller reads the store again.
5. A full queue keeps the most urgent entries. If it served in the order of offers, ten thousand resyncs of the next ten
   minutes would shut out an event of now.
6. The queue never waits, reads no clock, and calls no one.

Theory of operation
-------------------
A document is *absent*, *waiting* or *running*. A waiting one is *later* (its time has not come) or *ready*.

    offer ──▶ later ──(take: due_us ≤ now)──▶ ready ──(take)──▶ running ──(done)──▶ absent, or later again

**Ageing at no cost.** All ready entries grow older at one speed, so the order between two of them never changes. It is
enough to compute once, when an entry becomes ready, its *rank* = `ready_us + lane × ageing_us`: the moment at which it
has aged to the top lane. The smallest rank goes first. A resync (lane 3) is thus passed by events (lane 1) that become
ready within 2 × `ageing_s` of it, and by none that come later.

The age counts from being ready *here*, not from `due_us`: after an outage all documents have been due for hours, and an
operator's "now" would wait behind all of them.

**Full.** The entry with the greatest *claim* = `due_us + lane × ageing_us` is left out, whether it waits or is new.

**Cost.** Three heaps, `later` by time, `ready` by rank and `least` by claim, over one dictionary of entries. A changed
entry is replaced in the dictionary. Its old copies in the heaps are dead: they are skipped at the top, and swept out
before the dead outnumber the living. Every operation is O(log n) amortised, and a `take` touches only entries that are
due. Memory: `capacity` + running.

**Refilling.** When `spilled`: clear it, *then* read the store (an offer refused meanwhile sets it again). Read
`capacity` + the number running, because the store's answer repeats documents that wait or run here. Skip those in
`running`: the store shows them as due until their attempt is settled.

A wall clock that jumps ahead disturbs the order until it is back, and loses nothing: ready entries are then as old as
now, and waiting ones are offered again with an earlier time once the store has corrected that.
"""

import heapq
from collections.abc import Callable, KeysView, Sequence
from typing import TypeVar

import msgspec

from reconciler.model.document import Due, Lane

_T = TypeVar("_T")
_DEAD_MIN = 64  # below this many, the dead are not worth a sweep


class Queue:
    """
    Documents that wait for an attempt, and those with an attempt under way.

    `capacity`: how many may wait (at least 1). `ageing_s`: seconds of being ready that make up for one lane; 0 serves
    in the order of becoming ready. 30 s delays a resync under an endless stream of events by a minute, a tenth of the
    usual interval, and a burst of events still passes whole.

    `spilled` is true if a document was left out; the caller clears it (see *Refilling* above).
    """

    def __init__(self, capacity: int, ageing_s: float = 30.0) -> None:
        assert capacity >= 1, "a queue without room can never serve"
        assert ageing_s >= 0, "entries can't grow younger"
        self.capacity = capacity
        self.spilled = False
        self._ageing_us = round(ageing_s * 1_000_000)
        self._waiting: dict[str, _Entry] = {}
        self._running: dict[str, Due | None] = {}  # with what was offered meanwhile
        self._depth = dict.fromkeys(Lane, 0)
        self._ripened_us = 0  # when entries were last looked at
        self._later = _Heap(self._is_waiting)
        self._ready = _Heap(self._is_waiting)
        self._least = _Heap(self._is_waiting)

    def __len__(self) -> int:
        """The number of waiting documents, ready or not, without those running."""
        return len(self._waiting)

    @property
    def room(self) -> int:
        """The number of documents that may still be added before some are left out."""
        return self.capacity - len(self._waiting)

    @property
    def running(self) -> KeysView[str]:
        """The keys taken and not yet done: a live view, for `in` and `len`."""
        return self._running.keys()

    def depth(self) -> dict[Lane, int]:
        """The number of documents that wait in each lane (for `queue_depth{lane}`)."""
        return dict(self._depth)

    def offer(self, due: Due) -> bool:
        """
        Add a document, or make a waiting one more urgent.

        Return False if the queue is full of documents that are at least as urgent: a new one is then in the store only,
        and `spilled` is set. (`spilled` is also set if the document took the place of another.)
        """
        if due.key in self._running:
            self._running[due.key] = _sooner(self._running[due.key], due)
            return True
        if (known := self._waiting.get(due.key)) is not None:
            merged = _sooner(known.due, due)
            if merged != known.due:
                self._remove(known)
                self._add(_Entry(merged, known.ready_us))
            return True
        if not self.room:
            self.spilled = True
            if not self._displace(due):
                return False
        self._add(_Entry(due))
        return True

    def take(self, now_us: int, limit: int) -> list[Due]:
        """
        Return at most `limit` documents that are due at `now_us` (wall microseconds), most urgent first.

        They are running now: call `done` for each, whatever the attempt came to.
        """
        self._ripen(now_us)
        taken: list[Due] = []
        while len(taken) < limit and (entry := self._ready.top()) is not None:
            self._ready.pop()
            self._remove(entry)
            self._running[entry.due.key] = None
            taken.append(entry.due)
        return taken

    def sample(self, now_us: int, limit: int, chance: float) -> list[Due]:
        """
        Return at most `limit` due documents as `take` does, but spread over all of them, beginning by `chance`.

        It looks at every document that is ready.
        """
        self._ripen(now_us)
        ready = [entry for entry in self._waiting.values() if entry.ready_us is not None]
        ready.sort(key=lambda entry: self._rank(entry, entry.ready_us or 0))
        chosen = spread(ready, limit, chance)
        for entry in chosen:
            self._remove(entry)
            self._running[entry.due.key] = None
        return [entry.due for entry in chosen]

    def done(self, key: str, requeue: Due | None = None) -> None:
        """
        End the attempt on `key`. It waits again if there is a `requeue`, or an offer came meanwhile.

        Of the two, the more urgent lane and the earlier time count; a full queue may leave it out like any other.
        """
        assert key in self._running, "only what was taken can be done"
        assert requeue is None or requeue.key == key, "a requeue is of the same document"
        offered = self._running.pop(key)
        if requeue is not None:
            offered = _sooner(offered, requeue)
        if offered is not None:
            self.offer(offered)

    def next_due_us(self) -> int | None:
        """Return when `take` could next return a document (wall microseconds, perhaps past); None if none waits."""
        soonest = self._ready.top() or self._later.top()
        return None if soonest is None else soonest.due.due_us

    def _ripen(self, now_us: int) -> None:
        """Move entries that are due from `later` to `ready`."""
        if now_us < self._ripened_us:  # entries that became ready in the future would wait behind all new ones
            self._ready = _Heap(self._is_waiting)
            for one in self._waiting.values():
                if one.ready_us is not None:
                    one.ready_us = min(one.ready_us, now_us)
                    self._ready.push(self._rank(one, one.ready_us), one)
        self._ripened_us = now_us
        while (entry := self._later.top()) is not None and entry.due.due_us <= now_us:
            self._later.pop()
            entry.ready_us = now_us
            self._ready.push(self._rank(entry, now_us), entry)

    def _displace(self, due: Due) -> bool:
        """Leave out the waiting document with the greatest claim, if `due` has a smaller one."""
        least = self._least.top()
        assert least is not None, "a full queue has entries"
        if self._claim_us(least.due) <= self._claim_us(due):
            return False
        self._remove(least)
        return True

    def _add(self, entry: "_Entry") -> None:
        self._waiting[entry.due.key] = entry
        self._depth[entry.due.lane] += 1
        if entry.ready_us is None:
            self._later.push((entry.due.due_us, 0), entry)
        else:
            self._ready.push(self._rank(entry, entry.ready_us), entry)
        self._least.push((-self._claim_us(entry.due), 0), entry)

    def _remove(self, entry: "_Entry") -> None:
        """Take an entry out of the dictionary; what the heaps hold of it is dead from here on."""
        del self._waiting[entry.due.key]
        self._depth[entry.due.lane] -= 1
        for heap in (self._later, self._ready, self._least):
            heap.sweep(len(self._waiting))

    def _is_waiting(self, entry: "_Entry") -> bool:
        return self._waiting.get(entry.due.key) is entry

    def _rank(self, entry: "_Entry", ready_us: int) -> tuple[int, int]:
        """Who is served first; of equals, who has been due longest."""
        return (ready_us + entry.due.lane * self._ageing_us, entry.due.due_us)

    def _claim_us(self, due: Due) -> int:
        return due.due_us + due.lane * self._ageing_us


def spread(items: Sequence[_T], count: int, chance: float) -> list[_T]:
    """Return `count` of the items (all if there are fewer) at equal distances; `chance` in [0, 1) moves the first."""
    if count >= len(items):
        return list(items)
    return [items[int((place + chance) * len(items) / count)] for place in range(count)]


def _sooner(one: Due | None, other: Due) -> Due:
    """Join two offers of a document: the more urgent lane, the earlier time."""
    if one is None:
        return other
    return Due(one.key, min(one.lane, other.lane), min(one.due_us, other.due_us))


class _Entry(msgspec.Struct, eq=False):
    """A waiting document. Compared by identity: an entry is alive while the dictionary holds this very one."""

    due: Due
    ready_us: int | None = None  # when it became ready; None: it is not yet


class _Heap:
    """A heap whose entries may die in place; it never returns a dead one."""

    def __init__(self, alive: Callable[[_Entry], bool]) -> None:
        self._alive = alive
        self._items: list[tuple[tuple[int, int], int, _Entry]] = []
        self._pushed = 0  # numbers the pushes: of equals the first pushed comes first, and entries are never compared

    def push(self, order: tuple[int, int], entry: _Entry) -> None:
        """Put an entry in; the smallest `order` comes to the top."""
        self._pushed += 1
        heapq.heappush(self._items, (order, self._pushed, entry))

    def top(self) -> _Entry | None:
        """Return the first living entry and leave it there; None if none lives."""
        while self._items:
            entry = self._items[0][2]
            if self._alive(entry):
                return entry
            heapq.heappop(self._items)
        return None

    def pop(self) -> None:
        """Take out the entry that `top` has just returned."""
        heapq.heappop(self._items)

    def sweep(self, living: int) -> None:
        """Clear out the dead, if they may outnumber `living`: a sweep costs no more than the deaths since the last."""
        if len(self._items) > 2 * living + _DEAD_MIN:
            self._items = [item for item in self._items if self._alive(item[2])]
            heapq.heapify(self._items)
