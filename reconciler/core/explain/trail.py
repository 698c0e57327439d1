"""
The trail: whether its records are the ones that were written, and whether their decisions come out again.

Rules of this file:
1. Nothing that is stored is believed before it has been compared. A link is only compared with the one computed here.
2. A fault is reported at the record where it shows, and the next record is judged from what is stored there: one
   change does not make everything after it look changed.
3. What can't be told from what is given is not called a fault: the newest records may be missing unless a head that
   was kept elsewhere says otherwise.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import attrs

from reconciler.core.planning import plan as planning
from reconciler.model import chain, codec
from reconciler.model.audit import AuditRecord
from reconciler.model.chain import Entry, Head, Recorded
from reconciler.model.plan import Patch, Plan
from reconciler.model.policy import Policy
from reconciler.model.value import canonical


class Fault(NamedTuple):
    """What is wrong at one record; number and document are None where they can't be read."""

    number: int | None
    document: str | None
    text: str


@attrs.frozen
class Scope:
    """
    What the entries claim to be: a piece of the chain (`document` None), or all records of one document.

    `whole`: the piece begins with record 1. A piece has no gaps; between the records of one document there are others.
    """

    document: str | None = None
    whole: bool = True


class Verifier:
    """
    Takes entries in the order in which they stand, and says what is wrong with each.

    `heads` were kept elsewhere: their records must come by with those links. `policies` are as they are stored, by
    digest; what is wrong with one is reported at the first record that was decided under it.
    """

    def __init__(self, scope: Scope, policies: Mapping[str, bytes], heads: Iterable[Head] = ()) -> None:
        self.scope = scope
        self.first: Head | None = None
        self.head: Head | None = None  # of the last entry, as it is stored
        self.actions = 0
        self.recomputed = 0
        self.differing = 0  # of those recomputed
        self._kept = set(heads)
        self._policies = policies
        self._checked: dict[str, Policy | None] = {}  # by digest; None: unusable, which has been reported

    def faults(self, entry: Entry) -> list[Fault]:
        """Return what is wrong with the next entry."""
        gaps = list(self._placed(entry))
        texts = [*gaps, *self._linked(entry, bool(gaps)), *self._as_kept(entry)]
        if entry.number > 0:
            self.head = Head(entry.number, entry.link)
            self.first = self.first or self.head
        try:
            record = codec.decode_record(entry.record)
        except codec.UNREADABLE as error:
            return [Fault(entry.number, None, text) for text in (*texts, f"it is no record of the trail: {error}")]
        texts += self._filed(entry, record)
        if isinstance(record, AuditRecord):
            texts += self._recomputed(record)
        else:
            self.actions += 1
        return [Fault(entry.number, record.document or None, text) for text in texts]

    def missing(self) -> list[Fault]:
        """Return, at the end, what should have come and did not."""
        return [
            Fault(head.number, None, f"it was kept as the head {head}, and there is no such record")
            for head in sorted(self._kept)
        ]

    def _filed(self, entry: Entry, record: Recorded) -> Iterator[str]:
        """Judge what the store finds a record by, and what a selection claims, by what the record says."""
        if entry.columns is not None and entry.columns != chain.columns_of(record):
            yield "it is filed under something else than what it says: document, time, target, actor or kind"
        if self.scope.document not in (None, record.document):
            yield f"it is of another document than {self.scope.document}"

    def _placed(self, entry: Entry) -> Iterator[str]:
        """Judge the number by the one before it."""
        if entry.number < 1:
            yield "no record has such a number"
            return
        last = self.head.number if self.head else 0
        adjoins = self.scope.document is None and (self.scope.whole or self.head is not None)
        if entry.number <= last:
            yield f"it stands after record {last}"
        elif adjoins and entry.number != last + 1:
            absent = str(last + 1) if entry.number == last + 2 else f"{last + 1} to {entry.number - 1}"
            yield f"before it is missing: {absent}"

    def _linked(self, entry: Entry, misplaced: bool) -> Iterator[str]:
        """Judge the link by the record before, where that has come by, else by the link that is told of it."""
        if entry.number < 1:
            return  # said already, and no link can be made of it
        previous = entry.previous
        if entry.number == 1:
            previous = chain.GENESIS
        elif self.head is not None and entry.number == self.head.number + 1:
            previous = self.head.link
        if entry.previous is not None and entry.previous != previous:
            yield "the link told of the record before is not the one that stands there"
        if previous is None:
            if not misplaced:
                yield "the record before it is missing"
        elif chain.link(previous, entry.number, entry.record) != entry.link:
            yield "its link is not that of its content after the record before"

    def _as_kept(self, entry: Entry) -> Iterator[str]:
        kept = {head for head in self._kept if head.number == entry.number}
        self._kept -= kept
        for head in sorted(kept - {Head(entry.number, entry.link)}):
            yield f"it was kept as the head {head}, and its link is now {entry.link.hex()}"

    def _recomputed(self, record: AuditRecord) -> Iterator[str]:
        """Decide again."""
        digest = record.policy
        if digest not in self._checked:
            checked = _checked(digest, self._policies.get(digest))
            self._checked[digest] = None if isinstance(checked, str) else checked
            if isinstance(checked, str):
                yield f"its policy {digest} {checked}; no decision under it can be recomputed"
        policy = self._checked[digest]
        if policy is not None:
            differences = list(_redecided(record, policy))
            self.recomputed += 1
            self.differing += bool(differences)
            yield from differences


def decided_again(record: AuditRecord, policy: Policy) -> Plan | str:
    """Return what a record's inputs give under a policy, or in words why they can't be decided."""
    try:
        return planning.draft(record.desired, record.base, record.snapshot, policy)
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        # The types are right, but no attempt of ours has written these inputs.
        return f"its inputs can't be decided: {error!r}"


def _redecided(record: AuditRecord, policy: Policy) -> Iterator[str]:
    """Yield how a decision differs from what its inputs give now."""
    plan = decided_again(record, policy)
    if isinstance(plan, str):
        yield plan
        return
    patch = dict(plan.fields) if isinstance(plan, Patch) else None
    if canonical(patch) != canonical(record.patch):
        yield f"patch was {canonical(record.patch)}, its inputs give {canonical(patch)}"


def _checked(digest: str, text: bytes | None) -> Policy | str:
    """Return a policy whose content has the digest under which it is kept, or what is wrong with it."""
    if text is None:
        return "is missing"
    if codec.digest_of(text) != digest:
        return "has another content than its name says"
    try:
        return codec.decode_policy(text)
    except codec.UNREADABLE as error:
        return f"can't be read: {error}"
