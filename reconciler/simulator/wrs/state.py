"""What the dialect `wrs` keeps beside the documents: switches, iterations, sessions, check-outs, and who saw what."""

from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import Literal

from attrs import evolve, frozen

from reconciler.simulator.documents import Documents
from reconciler.simulator.wrs.iterations import Iterations
from reconciler.simulator.wrs.options import Wrs
from reconciler.simulator.wrs.sessions import Nonces, Sessions
from reconciler.simulator.wrs.types import Types, types

Event = Literal["CheckOut", "CheckIn", "UndoCheckOut"]
_STEPS_MAX = 100_000


@frozen
class Step:
    """One step in the life of a working copy, as the control API shows it."""

    sequence: int
    time: datetime
    document: str
    event: Event
    user: str
    holder: str
    """Whose working copy it is; differs from the user where an administrator undoes it."""
    working_copy: int
    iteration: int
    """What it was made from, or what became of it."""
    note: str | None = None
    kept: bool = False
    """Whether a check-in kept the document checked out."""


class WrsState:
    """
    One simulation, as far as this dialect is concerned.

    `refusals` counts by cause what happens here without a reply of its own.
    """

    def __init__(
        self, seed: int, switches: Wrs, documents: Documents, clock: Callable[[], datetime], refusals: Counter[str]
    ) -> None:
        self._switches = switches
        self.documents = documents
        self.clock = clock
        self.refusals = refusals
        self.iterations = Iterations(documents)
        self.nonces = Nonces(seed)
        self.sessions = Sessions(seed)
        self.steps: deque[Step] = deque(maxlen=_STEPS_MAX)
        """Of all check-outs; the oldest are forgotten first."""
        self._steps_made = 0
        self._seen: dict[tuple[str, str], str] = {}

    @property
    def switches(self) -> Wrs:
        return self._switches

    @switches.setter
    def switches(self, switches: Wrs) -> None:
        self._switches = switches
        self.__dict__.pop("types", None)

    @cached_property
    def types(self) -> Types:
        return types(self._switches)

    def record(self, step: Step) -> None:
        """Append a step, and number it."""
        self._steps_made += 1
        self.steps.append(evolve(step, sequence=self._steps_made))

    def showed(self, user: str, key: str, token: str) -> None:
        """Remember that `user` was shown the document's version with this token."""
        self._seen[user, key] = token

    def seen(self, user: str, key: str) -> str | None:
        """The token last shown to `user`; None: nothing yet."""
        return self._seen.get((user, key))
