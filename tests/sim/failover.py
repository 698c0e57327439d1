"""
The database fails over while all processes are at work: a standby is promoted that has not got the last commits.

The store goes back to the state that it had when the standby stalled, and is another database from then on. Nothing of
the processes of before counts any more, and none of them knows until it asks. Someone has to recover, from the outcome
log, what was agreed in the commits that are lost. Nobody writes until then, except for what leases of before allow.
What can't come back is what an older copy of a store lacks, too (`losses.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from reconciler.core.scheduling.replicas import Stage
from tests.fakes.memory_log import MemoryBroker
from tests.fakes.shared_store import SharedMemory
from tests.sim.logs import OUTCOMES
from tests.sim.losses import conflicts_in
from tests.sim.operators import Operators
from tests.sim.sharing import Ledger
from tests.sim.stores import Durable
from tests.sim.witness import Witness


@attrs.frozen
class _Standby:
    """What a standby has, and what it must show."""

    state: dict[str, Any]
    kept: dict[str, Any]
    folded: tuple[Any, Any]
    known: Any
    actions: tuple[Any, Any]
    spent: dict[str, float]
    commits: int


class Failovers:
    """Lets the store of one world fail over, and tells those who remember what it knew."""

    def __init__(
        self, broker: MemoryBroker, durable: Durable, witness: Witness, people: Operators, ledger: Ledger
    ) -> None:
        self._world = ledger.world
        self._broker = broker
        self._durable = durable
        self._witness = witness
        self._operators = people
        self._ledger = ledger
        self._stalled = False
        self.may_stay_open: set[tuple[str, str]] = set()  # conflicts of which the outcome log tells what is lost

    def strike(self, after_s: float) -> None:
        """The standby stalls, and is promoted some time later."""
        if self._stalled:
            return
        self._stalled = True
        standby = _Standby(
            self._memory.state(),
            self._durable.promises.copy(),
            self._witness.folding.copy(),
            self._witness.copy(),
            self._operators.copy(),
            dict(self._ledger.spent),
            self._ledger.commits,
        )
        self._world.note("the standby stalls")
        self._world.later(after_s, self._promote, standby)

    @property
    def _memory(self) -> SharedMemory:
        memory = self._durable.memory
        assert isinstance(memory, SharedMemory)
        return memory

    def _promote(self, standby: _Standby) -> None:
        self._stalled = False
        world, memory = self._world, self._memory
        if not world.faulty:
            return
        told = [record.value or b"" for record in self._broker.records(OUTCOMES)]
        # Who has them in hand may publish them for as long as it holds its lease.
        in_hand = [record.value or b"" for record in memory.outbox.values() if record.topic == OUTCOMES]
        had = [life for life in world.lives if life.is_current() or life.may_end()]
        memory.go_back(standby.state)
        world.failovers += 1
        lost = self._ledger.commits - standby.commits
        world.faults["commits_lost"] += lost
        world.note(f"the standby is promoted: {lost} commits are lost")
        for life in world.lives:
            life.may_end = self._grace(life in had)
            # Its connections lead to a machine that is gone, until it finds that out.
            life.away_s = world.loop.time() + world.rng("failover").choice((0.0, 5.0, 20.0))
        self._operators.starts_over(*standby.actions)
        self._durable.promises.starts_over(standby.kept, told, in_hand)
        self._witness.folding.starts_over(*standby.folded)
        self._witness.starts_over(standby.known, told, in_hand)
        self._ledger.spent = dict(standby.spent)
        self._ledger.unread = {place: self._broker.at(place).end for place in self._broker.partitions(OUTCOMES)}
        self.may_stay_open |= conflicts_in((*told, *in_hand))

    def _grace(self, had_slot: bool) -> Callable[[], bool]:
        """Who had a slot may send what its lease still allows, until somebody has recovered what was agreed."""
        owners, database = self._memory.owners, self._memory.owners.database

        def may_end() -> bool:
            recovers = owners.began_on != database or owners.stage is Stage.RECOVERING
            return had_slot and owners.database == database and recovers

        return may_end
