"""
Iterations and working copies, and their numbers.

Theory. `Documents` keeps the current version of each document. `Iterations` follows each accepted write through its
history entry: an action outside check-out (`Entry.in_place`) changes what the latest iteration says, every other write
makes a new iteration and leaves the former one readable. So a write through any dialect, a rival's or a tester's, is
seen here.

A check-out is a lock on the document (`Documents.locks`, which all dialects respect) and a working copy: a document
that only its holder sees until it is checked in.

A new revision has the document's key. The old one is kept beside it, under a key of its own (`KEY (A)`), with its
iterations and their IDs. It can be checked out and written as before, and such writes show in its own history.
"""

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs
from attrs import frozen

from reconciler.simulator import fields
from reconciler.simulator.documents import Documents, Version
from reconciler.simulator.history import Entry

FORMER_MAX = 20_000
"""Old iterations to keep; the oldest are purged first, as administrators do."""
_EAGER_MAX = 20_000
"""Worlds of up to so many documents are numbered at once; larger ones when the dialect is first used."""
_FIRST = 48_000_000


@frozen
class Iteration:
    """One iteration of a document."""

    number: int
    """Of its object: `OR:wt.doc.WTDocument:number`."""
    key: str
    ordinal: int
    """1 onwards in each document: `Version` shows it as `A.1`."""
    version: Version


@attrs.define
class WorkingCopy:
    """A working copy, made by a check-out."""

    number: int
    key: str
    holder: str
    origin: Iteration
    """What it was made from."""
    document: dict[str, Any]
    """As `Version.fields`. Replaced, never changed in place."""
    modified: datetime
    edits: int = 0
    note: str | None = None
    """Of the check-out."""
    read: bool = False
    """Whether its holder has read it."""
    guard: str | None = None
    """The token that the holder had last seen when making the first change."""


class Iterations:
    """Finds iterations and working copies by number and by document."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._latest: dict[str, Iteration] = {}
        self._by_number: dict[int, Iteration] = {}
        self._former: deque[Iteration] = deque()
        self._former_of: dict[str, list[Iteration]] = {}
        self._masters: dict[str, int] = {}
        self._branches: dict[str, int] = {}
        self._by_branch: dict[int, str] = {}
        self._revised: dict[str, list[str]] = {}
        """Document → the keys of its old revisions, in their order; and `_revision_of` the way back."""
        self._revision_of: dict[str, str] = {}
        self._copies: dict[str, WorkingCopy] = {}
        self._copies_by_number: dict[int, WorkingCopy] = {}
        self._by_name: dict[str, str] = {}
        """Each Number that was ever shown → the document's key."""
        self._reserved: dict[str, int] = {}
        self._last = _FIRST
        self._opened = False
        if len(documents) <= _EAGER_MAX:
            self._open()

    def note(self, entry: Entry) -> None:
        """Follow an accepted write, in the same step."""
        if not self._opened:
            return
        key, old = entry.document, self._latest.get(entry.document)
        new = self._documents.get(key)
        if new is None:
            self._forget(key)
        elif old is None:
            self._add(key, new)
        elif entry.way == "Revise":
            self._revise(old, new)
        elif entry.in_place:
            self._replace(attrs.evolve(old, version=new))
            self._carry_over(old, entry)
        else:
            self._iterate(old, new)

    def latest(self, key: str) -> Iteration | None:
        """The latest iteration of a document; None where there is no such document."""
        self._open()
        return self._latest.get(key)

    def all_of(self, key: str) -> list[Iteration]:
        """A document's iterations that are still kept, the latest one last."""
        latest = self.latest(key)
        return [] if latest is None else [*self._former_of.get(key, ()), latest]

    def find(self, number: int) -> Iteration | WorkingCopy | None:
        """The iteration or working copy with this number."""
        self._open()
        return self._copies_by_number.get(number) or self._by_number.get(number)

    def on_branch(self, number: int) -> Iteration | None:
        """The latest iteration of the branch with this number."""
        self._open()
        key = self._by_branch.get(number)
        return None if key is None else self._latest.get(key)

    def key_of(self, number: str) -> str | None:
        """The key of the document that shows this as its Number."""
        self._open()
        key = self._by_name.get(number, number)
        current = self._latest.get(key)
        return key if current is not None and shown_number(current.key, current.version.fields) == number else None

    def revisions(self, key: str) -> list[str]:
        return [*self._revised.get(key, ()), key]

    def shared(self, key: str, document: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """The key of the document of which `key` is a revision, and what that shows; `document`: what `key` does."""
        newest = self._latest.get(self._revision_of.get(key, ""))
        return (key, document) if newest is None else (newest.key, newest.version.fields)

    def master(self, key: str) -> int:
        return self._masters[key]

    def check_out(self, iteration: Iteration, holder: str, now: datetime) -> WorkingCopy:
        key = iteration.key
        made = WorkingCopy(self._next(), key, holder, iteration, iteration.version.fields, now)
        self._documents.locks[key] = holder
        self._copies[key] = self._copies_by_number[made.number] = made
        return made

    def copy_of(self, key: str) -> WorkingCopy | None:
        """The document's working copy, if there is one."""
        return self._copies.get(key)

    def copies(self) -> list[WorkingCopy]:
        return list(self._copies.values())

    def release(self, key: str, *, keep_number: bool = False) -> None:
        """Unlock the document and drop its working copy; `keep_number`: the next iteration gets its number."""
        self._documents.locks.pop(key, None)
        copy = self._copies.pop(key, None)
        if copy is not None:
            del self._copies_by_number[copy.number]
            if keep_number:
                self._reserved[key] = copy.number

    def _open(self) -> None:
        if self._opened:
            return
        self._opened = True
        keys = self._documents.keys()
        for key in keys:
            version = self._documents.get(key)
            assert version is not None
            self._add(key, version)

    def _add(self, key: str, version: Version) -> None:
        if key not in self._masters:
            self._masters[key] = self._next()
            self._branch_off(key)
        self._replace(Iteration(self._next(), key, version.iteration, version))

    def branch(self, key: str) -> int:
        """The number of the branch: each revision has one."""
        return self._branches[key]

    def _branch_off(self, key: str) -> None:
        self._branches[key] = self._next()
        self._by_branch[self._branches[key]] = key

    def _iterate(self, old: Iteration, new: Version) -> None:
        self._former.append(old)
        self._former_of.setdefault(old.key, []).append(old)
        if len(self._former) > FORMER_MAX:
            purged = self._former.popleft()
            if self._by_number.pop(purged.number, None) is not None:
                self._former_of[purged.key].remove(purged)
        number = self._reserved.pop(old.key, None) or self._next()
        self._replace(Iteration(number, old.key, old.ordinal + 1, new))

    def _revise(self, old: Iteration, new: Version) -> None:
        """Keep the old revision under a key of its own, and begin the next one."""
        key = old.key
        aside = f"{key} ({revision_of(old.version.fields)})"
        moved = {one.number: attrs.evolve(one, key=aside) for one in self.all_of(key)}
        self._by_number |= moved
        self._former = deque(moved.get(one.number, one) for one in self._former)
        *self._former_of[aside], self._latest[aside] = moved.values()
        self._former_of.pop(key, None)
        self._revised.setdefault(key, []).append(aside)
        self._revision_of[aside] = key
        self._masters[aside], self._branches[aside] = self._masters[key], self._branches[key]
        self._by_branch[self._branches[aside]] = aside
        self._documents.keep(aside, old.version)
        self._branch_off(key)
        self._replace(Iteration(self._next(), key, 1, new))

    def _replace(self, iteration: Iteration) -> None:
        self._latest[iteration.key] = self._by_number[iteration.number] = iteration
        if iteration.key not in self._revision_of:
            self._by_name[shown_number(iteration.key, iteration.version.fields)] = iteration.key

    def _carry_over(self, old: Iteration, entry: Entry) -> None:
        """Repeat on a working copy what was changed in place; else its check-in would undo that unseen."""
        copy = self._copies.get(old.key)
        if copy is None:
            return
        copy.document = fields.merge(
            copy.document, fields.nested({path: pair[1] for path, pair in entry.changes.items()})
        )
        if copy.origin is old:
            copy.origin = self._latest[old.key]
        if copy.guard == entry.before:
            copy.guard = entry.after

    def _forget(self, key: str) -> None:
        """A deleted document's iterations are deleted with it."""
        for iteration in (*self._former_of.pop(key, ()), self._latest.pop(key)):
            del self._by_number[iteration.number]
        newest = self._revision_of.pop(key, None)
        if newest is not None:
            self._revised[newest].remove(key)
            self._documents.former.discard(key)
        self.release(key)

    def _next(self) -> int:
        self._last += 1
        return self._last


def revision_of(document: Mapping[str, Any]) -> str:
    """A document's revision: A, until it is revised."""
    revision = document.get("revision")
    return revision if isinstance(revision, str) else "A"


def shown_number(key: str, document: Mapping[str, Any]) -> str:
    """A document's Number: its key, until it is given another one."""
    number = document.get("number")
    return number if isinstance(number, str) else key


def identity(number: int) -> str:
    """The ID of an iteration or a working copy."""
    return f"OR:wt.doc.WTDocument:{number}"
