"""
The store is lost, or an older copy of it put in its place; the logs must give back the rest.

What comes back: desired state, from the change log; of every document what was agreed last, as far as anyone was told
of it. What can't: agreements whose outcome still waited to be published, writes in doubt, the audit trail since the
copy, and who had been told of conflicts that are open.
"""

import json
from collections.abc import Iterable
from typing import Any

import attrs

from tests.fakes.memory_log import MemoryBroker
from tests.sim.logs import OUTCOMES
from tests.sim.operators import Operators
from tests.sim.stores import Durable
from tests.sim.witness import Witness
from tests.sim.world import World


@attrs.frozen
class _Copy:
    """A copy of the store, and what it must show."""

    content: Any
    kept: dict[str, Any]
    folded: tuple[Any, Any]
    known: Any
    actions: tuple[Any, Any]


class Losses:
    """Loses the store between two lives, and tells those who remember what it knew."""

    def __init__(
        self, world: World, broker: MemoryBroker, durable: Durable, witness: Witness, operators: Operators
    ) -> None:
        self._world = world
        self._broker = broker
        self._durable = durable
        self._witness = witness
        self._operators = operators
        self._copy: _Copy | None = None
        self._restored = False
        self._rng = world.rng("copies")
        self.may_stay_open: set[tuple[str, str]] = set()  # conflicts that no one will close in the outcome log

    def begins(self) -> None:
        """
        A life begins on a store that was found to be right: now and then someone makes a copy.

        Putting one back makes the next start read all of the outcome log, if the command does it; a plain copy does
        not.
        """
        if self._restored and self._rng.random() < 0.5:
            self._durable.forget_outcomes()
        self._restored = False
        if self._world.options.rates["store_restored"] and self._rng.random() < 0.3:
            durable, witness = self._durable, self._witness
            self._copy = _Copy(
                durable.copied(),
                durable.promises.copy(),
                witness.folding.copy(),
                witness.copy(),
                self._operators.copy(),
            )
            self._world.note("the store is copied")

    def strike(self) -> None:
        """Between two lives."""
        moves, self._world.moves = self._world.moves, False
        if moves or self._world.strikes("store_lost"):
            self._world.note("the store is lost")
            self._start_over(_Copy(None, {}, ({}, {}), {}, (set(), set())))
            self._copy = None
        elif self._copy is not None and self._world.strikes("store_restored"):
            self._world.note("the store is replaced by its copy")
            self._start_over(self._copy)
            self._restored = True

    def _start_over(self, copy: _Copy) -> None:
        self._operators.starts_over(*copy.actions)
        records = self._broker.records(OUTCOMES)
        values = [record.value or b"" for record in records]
        self._durable.replace(copy.content)
        self._durable.promises.starts_over(copy.kept, values)
        self._witness.folding.starts_over(*copy.folded)
        self._witness.starts_over(copy.known, values)
        self.may_stay_open |= conflicts_in(values)


def conflicts_in(values: Iterable[bytes]) -> set[tuple[str, str]]:
    """The conflicts that outcomes tell of, with their documents."""
    events = [json.loads(value) for value in values]
    return {(event["subject"], event["data"]["conflict"]) for event in events if "conflict" in event["data"]}
