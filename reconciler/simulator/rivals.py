"""
Rival users: people who edit documents in the GUI while the reconciler works.

The sequence of documents, fields and values follows from the seed alone: each edit draws the same number of times from
its own random source, whatever the documents contain.
"""

from random import Random
from typing import Any

from reconciler.simulator import fields, seeds
from reconciler.simulator.documents import Documents
from reconciler.simulator.history import Entry, Writer
from reconciler.simulator.settings import Rivals

_RARE = 0.1
"""How often a drawn `status` is kept; else another field is taken. Lifecycle states change rarely."""
_BURST_MAX = 1000
"""Edits in one step at most: a machine that was suspended must not make up for the hours."""


class RivalUsers:
    """The people who edit, and what they edit next."""

    def __init__(self, seed: int, settings: Rivals) -> None:
        self.settings = settings
        self._chance = Random(f"rivals {seed}")
        self._owed = 0.0
        self._edits = 0

    def step(self, documents: Documents, elapsed_s: float) -> int:
        """Make the edits that are due after `elapsed_s` more seconds; return how many."""
        self._owed = min(self._owed + self.settings.per_second * elapsed_s, _BURST_MAX)
        due = int(self._owed)
        self._owed -= due
        for _ in range(due):
            self.edit(documents)
        return due

    def edit(self, documents: Documents, key: str | None = None) -> Entry | None:
        """One edit of `key`, or of some document; None when it is gone or checked out by someone else."""
        draws = [self._chance.random() for _ in range(5)]
        keys = self.settings.documents or documents.keys()
        if key is None:
            key = _pick(draws[0], keys) if keys else ""
        user = _pick(draws[1], self.settings.users)
        current = documents.get(key)
        if current is None or documents.holder(key, user) is not None:
            return None
        self._edits += 1
        path = self._field(draws[2], draws[3])
        value = _value(path, fields.at(current.fields, path), draws[4], self._edits)
        return documents.edit(key, {path: value}, Writer(user, "rival"))

    def _field(self, draw: float, again: float) -> str:
        path = _pick(draw, self.settings.fields)
        if path != "status" or again < _RARE:
            return path
        others = [other for other in self.settings.fields if other != "status"]
        return _pick((again - _RARE) / (1 - _RARE), others) if others else path


def _pick(draw: float, choices: "tuple[str, ...] | list[str]") -> str:
    return choices[int(draw * len(choices))]


def _value(path: str, current: Any, draw: float, number: int) -> Any:
    """A plausible value that differs from the current one."""
    match path.rpartition(".")[2]:
        case "owner":
            return _pick(draw, [person for person in seeds.PEOPLE if person != current])
        case "status":
            return _pick(draw, [state for state in seeds.STATES if state != current])
        case "Keywords":
            # Add or remove one keyword, as people do.
            word = _pick(draw, seeds.KEYWORDS)
            words = current if isinstance(current, list) else []
            return [other for other in words if other != word] if word in words else [*words, word]
        case "Weight":
            return round(draw * 80, 2) + number
        case "title":
            return f"{str(current or '').partition(' (')[0]} (rev. {number})"
        case _:
            return f"edited by hand, {number}"
