"""
Replicas: how they share what there is only one of, and which of them is taken for dead.

Rules.
1. The shares of all members add up to `in_flight_max`. A replica shrinks to its share as soon as it sees a new member,
   and grows only when every member has shrunk: the beat of each carries the number of the membership that it obeys, and
   it obeys one when its own requests in flight fit its share. So at no time are more in flight than allowed, however
   late each learns of the others (`tests/core/test_replicas.py` tries every order). A share may be 0 if there are more
   replicas than requests; such a replica takes up no documents.
2. A duty that only one may do falls to the member that a hash picks (rendezvous hashing), so duties spread, and few
   move when a member comes or goes.
3. A member is taken for dead if its beat has stood still for some of *our* monotonic time. Clocks of machines are never
   compared. The count starts again if we ourselves have not looked for more than two beats, or after an outage of the
   store everyone would evict everyone.
4. A generation ends when the store proves to be another database than before, or in an earlier state. What was agreed
   meanwhile is in the outcome log alone, so nobody takes part in the next one before a replica has recovered that.
"""

import enum
import hashlib

import msgspec


class Stage(enum.IntEnum):
    """How far a generation is: it begins with the first, and the others follow in this order."""

    RECOVERING = 0  # the store may not have what was agreed
    FOLDING = 1  # it has, but not all events yet
    OPEN = 2


class Member(msgspec.Struct, frozen=True):
    """
    A replica, by the slot that it holds.

    `obeys` is the number of the membership that its last beat carried. One that was evicted (`leaving`) stays a member
    until its requests can't be in flight any more.
    """

    slot: int
    epoch: int
    beat: int
    obeys: int
    leaving: bool = False


class Membership(msgspec.Struct, frozen=True):
    """
    The replicas of a store; `number` grows with each that comes or goes.

    `policy` is the number of the policy in force (`ports.Shared`). `alarms` counts the breakers that have opened,
    `cuts` how often overload has lowered the limit on requests (`limiter.Limiter`).
    `generation` counts the times that the store has become another one; the first is 1. It began at `began_us` by the
    store's clock, None: it is the first.
    """

    number: int
    members: tuple[Member, ...]
    policy: int = 0
    alarms: int = 0
    cuts: int = 0
    generation: int = 1
    stage: Stage = Stage.OPEN
    began_us: int | None = None

    def share(self, slot: int, in_flight_max: int) -> int:
        """Return how many requests a member may have in flight."""
        slots = sorted(member.slot for member in self.members)
        return in_flight_max // len(slots) + (slots.index(slot) < in_flight_max % len(slots))

    def chosen(self, duty: str) -> int:
        """Return the slot that a duty falls to."""
        return max((member.slot for member in self.members if not member.leaving), key=lambda slot: _weight(slot, duty))


class Share(msgspec.Struct, frozen=True):
    """What a replica may have in flight, and the number of the membership that it obeys; its next beat carries that."""

    limit: int
    obeys: int


NOTHING_YET = Share(0, 0)


def after_beat(share: Share, seen: Membership, slot: int, in_flight: int, in_flight_max: int) -> Share:
    """Return our share after a beat has shown the membership; `in_flight` are our own requests at this moment."""
    mine = seen.share(slot, in_flight_max)
    obeys = seen.number if in_flight <= mine else share.obeys
    alike = obeys == seen.number and all(one.obeys == seen.number for one in seen.members if one.slot != slot)
    return Share(mine if alike or mine < share.limit else share.limit, obeys)


class Deathwatch:
    """
    Tells who is to be evicted: members whose beat stands still for `evict_s`, and then, since the requests of such a
    member may still be in flight, for `requests_s` more. Times are monotonic seconds of this replica.
    """

    def __init__(self, evict_s: float, requests_s: float, beat_s: float) -> None:
        self._still_s_max = {False: evict_s, True: requests_s}  # by whether it is leaving
        self._apart_s_max = 2 * beat_s
        self._looked_s: float | None = None
        self._since_s: dict[Member, float] = {}  # when we first saw it like that

    def dead(self, seen: Membership, slot: int, now_s: float) -> list[Member]:
        """Return the other members that have not changed for too long."""
        if self._looked_s is None or now_s - self._looked_s > self._apart_s_max:
            self._since_s = {}
        self._looked_s = now_s
        others = [member for member in seen.members if member.slot != slot]
        self._since_s = {member: self._since_s.get(member, now_s) for member in others}
        return [one for one in others if now_s - self._since_s[one] >= self._still_s_max[one.leaving]]


def _weight(slot: int, duty: str) -> bytes:
    return hashlib.blake2b(f"{slot} {duty}".encode(), digest_size=8).digest()
