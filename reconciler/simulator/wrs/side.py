"""The part of a world that only this dialect has: switches, iterations, nonces, check-outs, and what users saw."""

from functools import cached_property

from reconciler.simulator.documents import Documents
from reconciler.simulator.history import Entry
from reconciler.simulator.wrs.checkout import Cycles
from reconciler.simulator.wrs.nonces import Nonces, Sessions
from reconciler.simulator.wrs.options import Wrs
from reconciler.simulator.wrs.shelf import Shelf
from reconciler.simulator.wrs.types import Types, types


class Side:
    """Everything of one world that the dialect adds."""

    def __init__(self, seed: int, switches: Wrs, documents: Documents) -> None:
        self._switches = switches
        self.shelf = Shelf(documents)
        self.nonces = Nonces(seed)
        self.sessions = Sessions(seed)
        self.cycles = Cycles()
        self._seen: dict[tuple[str, str], str] = {}

    @property
    def switches(self) -> Wrs:
        """The switches in force."""
        return self._switches

    @switches.setter
    def switches(self, switches: Wrs) -> None:
        self._switches = switches
        self.__dict__.pop("types", None)

    @cached_property
    def types(self) -> Types:
        """The types under these switches."""
        return types(self._switches)

    def note(self, entry: Entry) -> None:
        """Follow an accepted write."""
        self.shelf.note(entry)

    def showed(self, user: str, key: str, token: str) -> None:
        """Remember that `user` was shown the document's version with this token."""
        self._seen[user, key] = token

    def seen(self, user: str, key: str) -> str | None:
        """The token last shown to `user`; None: nothing yet."""
        return self._seen.get((user, key))
