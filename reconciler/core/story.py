"""
Story: audit records → what happened to a document, as sentences with references.

Rules of this file:
1. The trail is enough: desired state, base, snapshot and answer of each attempt stand in its record. What the
   projection knows besides (`row`) only adds where the document stands, and claims not decided on yet. Acts of people
   are told between the attempts if no event says them; one that appended events is told with these.
2. A claim is told once, at the first decision that knew it. Attempts that came to the very same are told once, with
   how often. For a single field, attempts in which nothing happened to it are left out.
3. What is not known is not told: a conflict is named only if the recorded policy gives the very same one again.

Theory of operation: a chapter for each act, and for each attempt (or for several that were alike), oldest first: who
asked for what, what Windchill showed, what was decided, how it ended. Then, from the newest record, how each field
stands now.
"""

import itertools
import shlex
from collections.abc import Container, Iterable, Mapping, Sequence

from reconciler.core import standing, wording
from reconciler.model.act import CLI, Act, Deed
from reconciler.model.audit import AuditRecord
from reconciler.model.desired import Field
from reconciler.model.document import Document, Status
from reconciler.model.policy import OPERATORS, Policy
from reconciler.model.stamp import Stamp
from reconciler.model.story import Chapter, Reference, Sentence, Story

_STOPS = {
    Status.PARKED: "The document is parked: nothing is written to it",
    Status.CONTENDED: "The document cools down, because others keep writing it",
    Status.LOCKED: "The document waits until whoever has it locked or checked out lets go of it",
}
_GOES_ON = "It is tried again by itself, more and more slowly, or now by a command."
_DID: dict[str, str] = {
    Deed.RETRY: "had it looked at before all others",
    Deed.PAUSE: "paused it",
    Deed.RESUME: "resumed it",
    Deed.COMPARE: "had it compared again",
    Deed.REFOLD: "had it folded again from the log",
}
_TOLD_UNCHANGED = ("agreed", "neither", "adopted: both sides agree")


def tell(
    document: str,
    records: Sequence[AuditRecord],
    policies: Mapping[str, Policy],
    now_us: int,
    *,
    only: str | None = None,
    row: Document | None = None,
    paused: Act | None = None,
    released: Act | None = None,
    acts: Iterable[Act] = (),
    chapters_max: int = 1000,
) -> Story:
    """
    Return the story of a document, or of `only` one field of it.

    `records` are its audit records, oldest first. `policies` are those known by digest, `row` is how it stands in the
    store, if that is known; `paused` and `released` are the acts by which it is so, if it is. `acts` are those on it.
    """
    teller = _Teller(now_us, only, _repeats(records, row))
    done = [act for act in acts if act.result == "done" and only is None]
    steps: list[list[AuditRecord] | Act] = [*_alike(teller.concerning(records), only), *done]
    steps.sort(key=lambda step: step.at_us if isinstance(step, Act) else step[0].at_us)
    told = [_acted(one, now_us) if isinstance(one, Act) else teller.chapter(one) for one in steps[-chapters_max:]]
    now = standing.sentences(document, records, policies, now_us, only=only, row=row, released=released)
    if paused is not None:
        now = (_pause(document, paused, now_us), *now)
    elif row is not None and row.status in _STOPS:
        now = (_stop(row), *now)
    elif row is not None and row.status is Status.COLLECTING:
        now = (_collecting(row), *now)
    return Story(document, now, tuple(told), len(steps) - len(told))


def _pause(document: str, paused: Act, now_us: int) -> Sentence:
    reason = paused.details.get("reason")
    why = f" ({wording.quoted(reason)})" if isinstance(reason, str) else ""
    text = (
        f"The document is paused: since {wording.moment(paused.at_us, now_us)} {wording.safe(paused.who)} wants it"
        f" neither read nor written{why}, until somebody resumes it. What the log says meanwhile is kept."
    )
    command = f"reconciler docs resume {shlex.quote(document)}"
    return Sentence("waits", text, None, (Reference("act", str(paused.id)), Reference("command", command)))


def _stop(row: Document) -> Sentence:
    text = f"{_STOPS[row.status]} (as the last attempt found: {wording.quoted(row.reason)}). {_GOES_ON}"
    command = f"reconciler docs retry {shlex.quote(row.key)}"
    return Sentence("waits", text, None, (Reference("command", command),))


def _collecting(row: Document) -> Sentence:
    text = f"The reconciler {row.reason}, so that all make one iteration. A command writes what is due now."
    return Sentence("waits", text, None, (Reference("command", f"reconciler docs retry {shlex.quote(row.key)}"),))


def _acted(act: Act, now_us: int) -> Chapter:
    who, reason = wording.safe(act.who), act.details.get("reason")
    did = f"{who} {_DID.get(act.kind, wording.safe(act.kind))}"
    why = f" ({wording.quoted(reason)})" if isinstance(reason, str) and reason.strip() else ""
    text = f"{did}, {'by command' if act.role == CLI else f'as {act.role}'}{why}."
    title = f"{wording.moment(act.at_us, now_us)}: {did}"
    said = Sentence("acted", text, None, (Reference("act", str(act.id)),))
    return Chapter(title, (), act.at_us, act.at_us, act.result, (said,))


class _Teller:
    """Tells chapter after chapter, and remembers what has been told."""

    def __init__(self, now_us: int, only: str | None, repeats: Mapping[int, int]) -> None:
        self._now_us = now_us
        self._only = only
        self._repeats = repeats
        self._known: set[tuple[str, Stamp]] = set()

    def concerning(self, records: Iterable[AuditRecord]) -> list[AuditRecord]:
        """Return the records in which something happened to what is told of."""
        found: list[AuditRecord] = []
        before: tuple[object, ...] | None = None
        for record in records:
            if self._only is None:
                found.append(record)
                continue
            verdict, field = standing.verdict_of(record, self._only), record.desired.fields.get(self._only)
            if verdict is None and field is None:
                continue
            seen = None if verdict is None else verdict.live
            quiet = verdict is None or verdict.reason in _TOLD_UNCHANGED
            if not (quiet and before == (seen, field)):
                found.append(record)
            patch = record.patch or {}
            if record.result == "written" and self._only in patch:
                seen = patch[self._only]  # what a later look must show, if nobody does anything
            before = seen, field
        return found

    def chapter(self, group: Sequence[AuditRecord]) -> Chapter:
        record, last = group[0], group[-1]
        new = standing.unknown(standing.chosen(record.desired, self._only), self._known)
        sentences = [*self._asked(new), *self._shown(record), *self._decided(record, new)]
        tokens = dict.fromkeys(one.snapshot.token for one in group if one.snapshot.token is not None)
        references = (Reference("audit", str(last.id)), *(Reference("token", token) for token in tokens))
        sentences.append(Sentence("answered", wording.answered(record), None, references))
        more = sum(1 + self._repeats.get(one.id, 0) for one in group) - 1
        if more:
            times = "once more" if more == 1 else f"{more} more times"
            when = "" if last.id in self._repeats else f", the last time at {wording.moment(last.at_us, self._now_us)}"
            sentences.append(Sentence("again", f"The same came of it {times}{when}."))
        claims = [claim for field in new.values() for claim in standing.claims_of(field)]
        by_person = record.cause == "operator" and any(claim.stamp.source == OPERATORS for claim in claims)
        cause = "a person had decided" if by_person else wording.CAUSES.get(record.cause, record.cause)
        return Chapter(
            title=f"{wording.moment(record.at_us, self._now_us)}: {cause}",
            records=tuple(one.id for one in group),
            at_us=record.at_us,
            until_us=last.at_us,
            result=record.result,
            sentences=tuple(sentences),
        )

    def _asked(self, new: Mapping[str, Field]) -> Iterable[Sentence]:
        for asking in wording.askings(new):
            yield Sentence("asked", asking.text(self._now_us), self._only, standing.origin(asking.stamp))
        for name, field in new.items():
            self._known.update((name, claim.stamp) for claim in standing.claims_of(field))

    def _shown(self, record: AuditRecord) -> Iterable[Sentence]:
        snapshot = record.snapshot
        by, at = standing.last_editor(record), snapshot.modified_at
        if by or at:
            when = f" at {wording.moment(at, self._now_us)}" if at else ""
            yield Sentence("shown", f"In Windchill the document was last modified{when}{f' by {by}' if by else ''}.")

    def _decided(self, record: AuditRecord, new: Container[str]) -> Iterable[Sentence]:
        settled = []
        for verdict in record.decisions:
            if self._only not in (None, verdict.field):
                continue
            quiet = verdict.verb == "keep" and verdict.reason in _TOLD_UNCHANGED and verdict.field not in new
            if self._only is None and quiet:
                settled.append(verdict.field)
                continue
            patch = record.patch or {}
            written = patch.get(verdict.field, verdict.desired)
            field = record.desired.fields.get(verdict.field)
            base = record.base.fields.get(verdict.field)
            agreed = base is None or base.stamp is not None or bool(base.elements)
            text = wording.decided(verdict, field, written, in_patch=verdict.field in patch, agreed=agreed)
            yield Sentence("decided", text, verdict.field, standing.grounds(verdict))
        if settled:
            were = "was" if len(settled) == 1 else "were"
            text = f"There was nothing to do about {wording.names(settled)}, which {were} settled before."
            yield Sentence("decided", text)


def _repeats(records: Sequence[AuditRecord], row: Document | None) -> dict[int, int]:
    """Return by record how often the same came again without a record: the next one says it, or the document."""
    found = {one.id: following.repeats for one, following in itertools.pairwise(records) if following.repeats}
    repeating = None if row is None else row.agreement.repeating
    if records and repeating is not None and repeating.times:
        found[records[-1].id] = repeating.times
    return found


def _alike(records: Iterable[AuditRecord], only: str | None) -> list[list[AuditRecord]]:
    """Put attempts together that follow each other and came to the same; tokens and times may differ."""
    groups: list[list[AuditRecord]] = []
    before: tuple[object, ...] | None = None
    for record in records:
        verdicts = tuple((v.field, v.verb, v.reason, v.live) for v in record.decisions if only in (None, v.field))
        came_to = (record.result, record.status, record.message, record.desired, verdicts, record.patch)
        if before == came_to:
            groups[-1].append(record)
        else:
            groups.append([record])
        before = came_to
    return groups
