"""The slots of a store: which replicas use it, and that what one of them does after its death does not count."""

from typing import Protocol

from reconciler.core.scheduling.replicas import Member, Membership, Stage
from reconciler.model.chain import Head
from reconciler.model.event import Outgoing


class Slots(Protocol):
    """
    The slot that this replica took when it opened the store, among those of the others.

    Each method is one durable transaction, and raises EvictedError if the slot has another epoch than the one that we
    took it with (ReplacedError if the store has another generation), StoreError if the store does not answer in time (a
    beat: within a fifth of the eviction time).
    """

    @property
    def slot(self) -> int:
        """The number of our slot."""

    async def beat(self, obeys: int, *, alarm: bool = False, cuts: int = 0) -> Membership:
        """
        Say that we are alive, with the number of the membership that we obey; return who is there.

        `alarm`: our breaker has opened. `cuts`: how often overload has lowered our limit. The next beats of all others
        show both.
        """

    async def take_duties(self, wanted: frozenset[str]) -> frozenset[str]:
        """
        Take those of the duties that nobody alive has, give up all others of ours, and return what we have now.

        What the store is in the middle of for us (messages that are being published) it gives up by a later call.
        """

    async def evict(self, member: Member) -> bool:
        """
        Take a member for dead, if epoch and beat are still those of `member`; return whether that was done.

        Its slot gets a new epoch, its documents and duties are free, and it is `leaving`. A member that is leaving
        already is removed, and its slot may be taken again.
        """

    async def add_checkpoint(self, head: Head, record: bytes, announcement: Outgoing) -> bool:
        """
        Append a checkpoint, whose head this is, and queue the record that announces it; return whether that was done.

        Nothing happens if another one was appended meanwhile.
        """

    async def reach(self, stage: Stage) -> None:
        """Say that the generation is so far, unless it is further."""

    def hurry(self) -> None:
        """Wait for a store that can't be reached no longer than some seconds from now on, because we are stopping."""

    async def leave(self, *, in_flight: bool = False) -> None:
        """
        Give back our documents, duties and slot.

        With requests `in_flight` that we have given up we are `leaving`, as if evicted, until they must be over.
        """
