"""
What replicas share. The shares of requests in flight are tried in every order of beats, requests, arrivals and
departures in a small world.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.scheduling import replicas
from reconciler.core.scheduling.replicas import NOTHING_YET, Deathwatch, Member, Membership, Share

IN_FLIGHT_MAX, REPLICAS, MEMBERSHIPS_MAX = 4, 3, 4

AfterBeat = Callable[[Share, Membership, int, int, int], Share]


# -------------------------------------------------------------------------------------------------------------- shares


class Replica(NamedTuple):
    """`told`: the number that its last beat carried, as the store has it; None: not a member."""

    told: int | None = None
    share: Share = NOTHING_YET
    in_flight: int = 0


class World(NamedTuple):
    number: int
    replicas: tuple[Replica, ...]

    @property
    def membership(self) -> Membership:
        there = [(slot, one.told) for slot, one in enumerate(self.replicas) if one.told is not None]
        return Membership(self.number, tuple(Member(slot, 1, 0, told) for slot, told in there))

    @property
    def in_flight(self) -> int:
        return sum(one.in_flight for one in self.replicas)

    def put(self, slot: int, replica: Replica, *, changed: bool = False) -> "World":
        return World(self.number + changed, (*self.replicas[:slot], replica, *self.replicas[slot + 1 :]))

    def beat(self, slot: int, after_beat: AfterBeat) -> "World":
        one = self.replicas[slot]
        fresh = after_beat(one.share, self.membership, slot, one.in_flight, IN_FLIGHT_MAX)
        return self.put(slot, Replica(fresh.obeys, fresh, one.in_flight))


START = World(1, (Replica(1, Share(2, 1)), Replica(1, Share(2, 1)), Replica()))


def steps(world: World, after_beat: AfterBeat) -> Iterator[World]:
    changes_left = world.number < MEMBERSHIPS_MAX
    for slot, one in enumerate(world.replicas):
        if one.told is None:
            if changes_left:
                yield world.put(slot, Replica(0), changed=True)
            continue
        if changes_left and not one.in_flight and len(world.membership.members) > 1:
            yield world.put(slot, Replica(), changed=True)
        yield world.beat(slot, after_beat)
        if one.in_flight < one.share.limit:
            yield world.put(slot, one._replace(in_flight=one.in_flight + 1))
        if one.in_flight:
            yield world.put(slot, one._replace(in_flight=one.in_flight - 1))


def reached(after_beat: AfterBeat) -> set[World]:
    """Every world that any order of steps leads to."""
    seen, to_do = {START}, [START]
    while to_do:
        fresh = {*steps(to_do.pop(), after_beat)} - seen
        seen |= fresh
        to_do += fresh
    return seen


def before_it_has_shrunk(share: Share, seen: Membership, slot: int, _: int, in_flight_max: int) -> Share:
    """A mistake: it says that it obeys while more is in flight than its share."""
    return replicas.after_beat(share, seen, slot, 0, in_flight_max)


def before_the_others(_: Share, seen: Membership, slot: int, _in_flight: int, in_flight_max: int) -> Share:
    """A mistake: it grows before the others have shrunk."""
    return Share(seen.share(slot, in_flight_max), seen.number)


def test_more_is_never_in_flight_than_allowed() -> None:
    worlds = reached(replicas.after_beat)
    assert len(worlds) > 1_000
    assert max(world.in_flight for world in worlds) == IN_FLIGHT_MAX


@pytest.mark.parametrize("mistake", [before_it_has_shrunk, before_the_others])
def test_each_part_of_the_rule_is_needed(mistake: AfterBeat) -> None:
    assert max(world.in_flight for world in reached(mistake)) > IN_FLIGHT_MAX


def test_when_all_have_shrunk_nothing_is_left_unused() -> None:
    for world in reached(replicas.after_beat):
        quiet = World(world.number, tuple(one._replace(in_flight=0) for one in world.replicas))
        there = [member.slot for member in quiet.membership.members]
        for slot in there * 2:
            quiet = quiet.beat(slot, replicas.after_beat)
        assert sum(quiet.replicas[slot].share.limit for slot in there) == IN_FLIGHT_MAX


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_shares_add_up_to_the_whole(count: int) -> None:
    seen = of_slots(range(0, 3 * count, 3))
    assert sum(seen.share(member.slot, IN_FLIGHT_MAX) for member in seen.members) == IN_FLIGHT_MAX


# -------------------------------------------------------------------------------------------------------------- duties


def of_slots(slots: range | list[int], *, leaving: frozenset[int] = frozenset()) -> Membership:
    return Membership(9, tuple(Member(slot, 1, 0, 9, leaving=slot in leaving) for slot in slots))


@given(st.sets(st.integers(0, 15), min_size=2), st.data())
def test_only_the_duties_of_a_member_that_left_move(slots: set[int], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(sorted(slots)))
    before, after = of_slots(sorted(slots)), of_slots(sorted(slots), leaving=frozenset({gone}))
    for number in range(16):
        was, now = before.chosen(f"outbox {number}"), after.chosen(f"outbox {number}")
        assert now != gone
        assert was in {now, gone}


def test_duties_spread() -> None:
    found = Counter(of_slots(range(4)).chosen(f"outbox {number}") for number in range(400))
    assert min(found.values()) > 60


# --------------------------------------------------------------------------------------------------------------- death


def at(beat: int, *, epoch: int = 1) -> Membership:
    return Membership(9, (Member(0, 1, 100, 9), Member(1, epoch, beat, 9)))


def looked(watch: Deathwatch, seen: Membership, *times_s: float) -> list[list[int]]:
    return [[member.slot for member in watch.dead(seen, 0, now_s)] for now_s in times_s]


def test_a_beat_that_stands_still_is_a_death_and_our_own_is_none() -> None:
    watch = Deathwatch(evict_s=15.0, requests_s=30.0, beat_s=2.0)
    assert looked(watch, at(7), *range(0, 16, 3)) == [[], [], [], [], [], [1]]


def test_a_beat_or_a_new_owner_of_the_slot_is_life() -> None:
    watch = Deathwatch(evict_s=15.0, requests_s=30.0, beat_s=2.0)
    assert looked(watch, at(7), *range(0, 15, 3)) == [[]] * 5
    assert looked(watch, at(8), *range(15, 30, 3)) == [[]] * 5
    assert looked(watch, at(8, epoch=2), *range(30, 45, 3)) == [[]] * 5
    assert looked(watch, at(8, epoch=2), 45) == [[1]]


def test_who_did_not_look_for_a_while_counts_from_the_beginning() -> None:
    """Else, after an outage of the store, everyone would evict everyone."""
    watch = Deathwatch(evict_s=15.0, requests_s=30.0, beat_s=2.0)
    assert looked(watch, at(7), *range(0, 13, 3)) == [[]] * 5
    assert looked(watch, at(7), 60, 63, 66) == [[]] * 3
    assert looked(watch, at(7), *range(69, 78, 3)) == [[], [], [1]]


def test_the_share_of_an_evicted_member_is_free_when_its_requests_have_ended() -> None:
    watch = Deathwatch(evict_s=15.0, requests_s=30.0, beat_s=2.0)
    leaving = Membership(9, (Member(0, 1, 100, 9), Member(1, 2, 7, 9, leaving=True)))
    assert looked(watch, at(7), *range(0, 16, 3))[-1] == [1]
    assert looked(watch, leaving, *range(18, 51, 3)) == [*[[]] * 10, [1]]
