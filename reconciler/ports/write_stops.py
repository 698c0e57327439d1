"""The stop of all writes, which operators call and end, and which every owner of a store obeys."""

from collections.abc import Sequence
from typing import Protocol

from reconciler.model.standing import Replica, WriteStop


class WriteStops(Protocol):
    """
    Whether writes are stopped, and who obeys that.

    Operators stop and resume writes by `Store.record_actions`. From then on `Ledger.intend` refuses each write that
    would begin; those that have begun go on. An owner obeys once none of these is under way any more.
    """

    async def write_stop(self) -> WriteStop | None:
        """Return the stop in force; None: writes go on."""

    async def obey_stop(self, number: int) -> None:
        """Say, as an owner, that no write is under way here that began before the stop with this number."""

    async def replicas(self) -> Sequence[Replica]:
        """Return who uses the store as one of its owners now."""
