"""
The trail: verifies that its records are those that were written, and computes their decisions again.

Rules of this file:
1. No stored link is trusted: each is compared with the one computed here.
2. A fault is reported at its record, and the next record is judged by the stored link: one change does not make all
   later records look changed.
3. A missing record is a fault only if the given records prove it: the newest ones may be missing unless a head that was
   kept elsewhere shows that they exist.
4. Each chain is verified by itself.
5. What was archived is not missing: the next record must follow its link, and an action must tell of each piece.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import attrs

from reconciler.core.planning import plan as planning
from reconciler.model import chain, codec, instant
from reconciler.model.action import OperatorAction
from reconciler.model.audit import AuditRecord
from reconciler.model.chain import Cut, Entry, Head, Recorded
from reconciler.model.plan import Patch, Plan
from reconciler.model.policy import Policy
from reconciler.model.value import canonical


class Fault(NamedTuple):
    """
    A fault at one record; number and document are None if they can't be read.

    `gone`: it says no more than that records are lost which a checkpoint has told of.
    """

    number: int | None
    document: str | None
    text: str
    gone: bool = False


class Loss(NamedTuple):
    """A checkpoint's word that the store went back: which chains to which record, and which heads were announced."""

    at_us: int
    left: Mapping[int, int]  # by chain
    lost: tuple[Head, ...]

    def covers(self, head: Head) -> bool:
        """Whether a head is of a record that was lost."""
        return head.number >= self._first(head)

    def spans(self) -> list[tuple[int, int]]:
        """Return the first and the last record of each chain that are known to be lost."""
        return [(self._first(head), head.number) for head in self.lost]

    def _first(self, head: Head) -> int:
        return self.left.get(head.chain, chain.begin(head.chain).number) + 1


@attrs.frozen
class Scope:
    """
    The selection of entries: a piece of each chain (`document` None), or all records of one document.

    `whole`: a piece begins with its chain. A piece has no gaps; between the records of one document there are others.
    """

    document: str | None = None
    whole: bool = True


class Verifier:
    """
    Takes the entries of each chain in order, and returns the faults of each.

    `heads` were kept elsewhere: their records must be there with those links. `policies` are as stored, by digest; a
    fault in one is reported at the first record that was decided under it. `firsts` and `heads` are the first and the
    last entry of each chain, as stored. If the head of a checkpoint was kept, the heads that it names were kept too.
    Checkpoints come before the records of other chains.

    `cuts` are the pieces that were archived. Each chain begins after its own, unless their records come too (`reread`).
    """

    def __init__(
        self,
        scope: Scope,
        policies: Mapping[str, bytes],
        heads: Iterable[Head] = (),
        cuts: Sequence[Cut] = (),
        *,
        reread: bool = False,
    ) -> None:
        self.scope = scope
        self.cuts = cuts
        self.starts = {} if reread or not scope.whole else {cut.chain: cut.end for cut in cuts}
        self._told: set[int] = set()  # numbers of the actions that tell of pieces
        self.firsts: dict[int, Head] = {}
        self.heads: dict[int, Head] = {}
        self.actions = 0
        self.recomputed = 0
        self.differing = 0  # of those recomputed
        self.losses: list[Loss] = []
        self._kept = set(heads)
        self._replaced: set[Head] = set()  # kept heads of records that were lost, and whose numbers others have
        self._policies = policies
        self._checked: dict[str, Policy | None] = {}  # by digest; None: unusable, reported already

    def faults(self, entry: Entry) -> list[Fault]:
        """Return the faults of the next entry."""
        was_kept = Head(entry.number, entry.link) in self._kept
        told = list(self._checkpoint(entry, was_kept=was_kept)) if entry.chain == chain.CHECKPOINTS else []
        gaps = list(self._placed(entry))
        texts = [*gaps, *self._linked(entry, bool(gaps)), *self._as_kept(entry), *told]
        if _is_numbered(entry):
            self.heads[entry.chain] = head = Head(entry.number, entry.link)
            self.firsts.setdefault(entry.chain, head)
        if entry.chain == chain.CHECKPOINTS:
            return [_fault(entry, None, text) for text in texts]
        try:
            record = codec.decode_record(entry.record)
        except codec.UNREADABLE as error:
            return [_fault(entry, None, text) for text in (*texts, f"it is no record of the trail: {error}")]
        texts += self._filed(entry, record)
        if isinstance(record, AuditRecord):
            texts += self._recomputed(record)
        else:
            self.actions += 1
            texts += self._tells(record, entry.number)
        return [_fault(entry, record.document or None, text) for text in texts]

    def resume(self, head: Head) -> None:
        """Go on after a piece whose archive can't be read."""
        self.heads[head.chain] = head

    def missing(self) -> list[Fault]:
        """Return, at the end, the kept heads whose records did not come, and the pieces that no action tells of."""
        faults = [
            self._absent(head) for head in sorted(self._kept | self._replaced) if head != self.starts.get(head.chain)
        ]
        if self.scope.document is None and self.scope.whole:
            for cut in self.cuts:
                start = self.starts.get(cut.act // chain.SPAN)
                if cut.act not in self._told and (start is None or cut.act > start.number):
                    faults.append(_fault(cut.end, None, f"no action tells that the piece up to it is in {cut.file}"))
        return faults

    def _whereabouts(self, head: Head) -> str:
        archived = [cut.file for cut in self.cuts if cut.has(head.number)] if self.starts else []
        return f"is in the archive {archived[0]}: give --archive too" if archived else "there is no such record"

    def _tells(self, action: OperatorAction, number: int) -> Iterator[str]:
        """Compare an action that tells of a piece with what the store says of it."""
        told = {"after", "upto", "sha256"}
        for cut in self.cuts:
            if cut.act == number:
                self._told.add(number)
                said = {name: value for name, value in action.details.items() if name in told}
                if (action.target, said) != (cut.file, {name: getattr(cut, name) for name in told}):
                    yield f"it tells of another piece than the store says that it does ({cut.file})"

    def _absent(self, head: Head) -> Fault:
        loss = next((loss for loss in self.losses if loss.covers(head)), None)
        if loss is None:
            return _fault(head, None, f"it was kept as the head {head}, and {self._whereabouts(head)}")
        went_back = f"it is gone: at {instant.from_us(loss.at_us)} the store was found without it"
        return _fault(head, None, f"it was kept as the head {head}, and {went_back}")._replace(gone=True)

    def _filed(self, entry: Entry, record: Recorded) -> Iterator[str]:
        """Compare the columns and the selection with the record."""
        if entry.columns is not None and entry.columns != chain.columns_of(record):
            yield "its columns differ from the record: document, time, target, actor or kind"
        if self.scope.document not in (None, record.document):
            yield f"it is of another document than {self.scope.document}"

    def _placed(self, entry: Entry) -> Iterator[str]:
        """Compare the number with the one before it."""
        if not _is_numbered(entry):
            yield "no record has such a number"
            return
        head = self._before(entry)
        last = (head or chain.begin(entry.chain)).number
        adjoins = self.scope.document is None and (self.scope.whole or head is not None)
        if entry.number <= last:
            yield f"it comes after record {last}"
        elif adjoins and entry.number != last + 1:
            absent = str(last + 1) if entry.number == last + 2 else f"{last + 1} to {entry.number - 1}"
            yield f"missing before it: {absent}"

    def _linked(self, entry: Entry, misplaced: bool) -> Iterator[str]:
        """Compare the link with the record before, if that has come, else with the stored link of it."""
        if not _is_numbered(entry):
            return  # reported already, and it can have no link
        previous, head = entry.previous, self._before(entry)
        if entry.is_first:
            previous = chain.GENESIS
        elif head is not None and entry.number == head.number + 1:
            previous = head.link
        if entry.previous is not None and entry.previous != previous:
            yield "its copy of the link before differs from that record's own link"
        if previous is None:
            if not misplaced:
                yield "the record before it is missing"
        elif chain.link(previous, entry.number, entry.record) != entry.link:
            yield "its link does not follow from its content and the record before"

    def _before(self, entry: Entry) -> Head | None:
        """Return the head of the entry's chain up to here, as far as it is known."""
        return self.heads.get(entry.chain) or self.starts.get(entry.chain)

    def _as_kept(self, entry: Entry) -> Iterator[str]:
        kept = {head for head in self._kept if head.number == entry.number}
        self._kept -= kept
        others = kept - {Head(entry.number, entry.link)}
        self._replaced |= (gone := {head for head in others if any(loss.covers(head) for loss in self.losses)})
        for head in sorted(others - gone):
            yield f"it was kept as the head {head}, and its link is now {entry.link.hex()}"

    def _checkpoint(self, entry: Entry, *, was_kept: bool) -> Iterator[str]:
        try:
            checkpoint = codec.decode_checkpoint(entry.record)
            heads, lost = (tuple(map(chain.parse_head, some)) for some in (checkpoint.heads, checkpoint.lost))
        except codec.UNREADABLE as error:
            yield f"it is no checkpoint: {error}"
            return
        if was_kept:
            self._kept.update(heads)
        if lost:
            left = {head.chain: head.number for head in heads} | {chain.CHECKPOINTS: entry.number - 1}
            self.losses.append(Loss(checkpoint.at_us, left, lost))

    def _recomputed(self, record: AuditRecord) -> Iterator[str]:
        """Decide again, and compare."""
        digest = record.policy
        if digest not in self._checked:
            found = checked(digest, self._policies.get(digest))
            self._checked[digest] = None if isinstance(found, str) else found
            if isinstance(found, str):
                yield f"its policy {digest} {found}; no decision under it can be recomputed"
        policy = self._checked[digest]
        if policy is not None:
            differences = list(_redecided(record, policy))
            self.recomputed += 1
            self.differing += bool(differences)
            yield from differences


def _is_numbered(entry: Entry) -> bool:
    return entry.number > 0 and entry.number % chain.SPAN > 0


def _fault(at: Entry | Head, document: str | None, text: str) -> Fault:
    """Return a fault; one of another chain than 0 says in which."""
    return Fault(at.number, document, f"chain {at.chain}: {text}" if at.chain > 0 else text)


def decided_again(record: AuditRecord, policy: Policy) -> Plan | str:
    """Return the plan that a record's inputs give under a policy, or why they can't be decided."""
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
        # The types are right, but no attempt of ours can have written these inputs.
        return f"its inputs can't be decided: {error!r}"


def _redecided(record: AuditRecord, policy: Policy) -> Iterator[str]:
    """Yield the difference between a decision and the one that its inputs give now."""
    plan = decided_again(record, policy)
    if isinstance(plan, str):
        yield plan
        return
    patch = dict(plan.fields) if isinstance(plan, Patch) else None
    if canonical(patch) != canonical(record.patch):
        yield f"patch was {canonical(record.patch)}, its inputs give {canonical(patch)}"


def checked(digest: str, text: bytes | None) -> Policy | str:
    """Return a policy whose content has its digest, or what is wrong with it."""
    if text is None:
        return "is missing"
    if codec.digest_of(text) != digest:
        return "does not match its digest"
    try:
        return codec.decode_policy(text)
    except codec.UNREADABLE as error:
        return f"can't be read: {error}"
