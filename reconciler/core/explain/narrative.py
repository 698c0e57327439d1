"""
Narrative: what happened to a document, told from its audit records as sentences with references.

Rules of this file:
1. The trail is enough: the record of an attempt holds desired state, base, snapshot and answer. The store's `row` only
   adds the document's status and claims that are not decided yet. An operator's action is told between the attempts;
   if it appended events, they tell of it.
2. A claim is told once, at the first decision that knew it. Attempts in a row with the same result are told once, with
   their number. For a single field, attempts that did not touch it are left out.
3. No guesses: a conflict is named only if the recorded policy gives the very same one again.

Theory of operation: a chapter for each action, and for each attempt or run of equal attempts, oldest first: who
requested which value, what Windchill had, what was decided, how it ended. Then the newest record tells the present
state of each field.
"""

import functools
import itertools
import shlex
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

import attrs

from reconciler.core.explain import phrases
from reconciler.core.folding import fold
from reconciler.core.planning import conflicts, reasons
from reconciler.core.planning import plan as planning
from reconciler.model import chain
from reconciler.model.action import CLI, ActionKind, OperatorAction
from reconciler.model.audit import AttemptResult, AuditRecord, Verdict
from reconciler.model.base import Base
from reconciler.model.desired import Desired, Field
from reconciler.model.document import Document, Status
from reconciler.model.plan import Decision, Patch, ReasonCode
from reconciler.model.policy import OPERATORS, ListMode, Policy
from reconciler.model.stamp import Stamp
from reconciler.model.value import canonical, same


class Reference(NamedTuple):
    """Evidence for a sentence: an event, a record's place, a rule, a token, an audit record, a conflict, a command."""

    kind: str
    value: str


@attrs.frozen
class Sentence:
    """One sentence. `kind` is asked, acted, shown, decided, answered, again, stands, waits or clashes."""

    kind: str
    text: str
    field: str | None = None
    references: tuple[Reference, ...] = ()


@attrs.frozen
class Chapter:
    """One attempt, or several in a row with the same result; or an operator's action, which has no records."""

    title: str
    records: tuple[int, ...]
    at_us: int
    until_us: int
    result: str
    sentences: tuple[Sentence, ...]


@attrs.frozen
class Story:
    """The present state of a document's fields, and the chapters that led there, oldest first."""

    document: str
    now: tuple[Sentence, ...]
    chapters: tuple[Chapter, ...]
    left_out: int  # earlier chapters that are not told
    older: bool  # decisions exist from before the given records


_STOPS = {
    Status.ABSENT: "The document is not in Windchill yet, and the reconciler waits until it is",
    Status.PARKED: "The document is parked: the reconciler writes nothing to it",
    Status.CONTENDED: "The reconciler leaves the document alone for a while, because others keep changing it",
    Status.LOCKED: "The document is locked or checked out in Windchill, and the reconciler waits until that ends",
}
_GOES_ON = "The reconciler tries again by itself, less and less often; a command makes it try now."
_DID: dict[str, str] = {
    ActionKind.RETRY: "asked for a retry now",
    ActionKind.PAUSE: "paused the document",
    ActionKind.RESUME: "resumed the document",
    ActionKind.COMPARE: "asked for a new comparison",
    ActionKind.REFOLD: "asked to fold the document again from the log",
}
_TOLD_UNCHANGED = (ReasonCode.AGREED, ReasonCode.NEITHER, ReasonCode.ADOPTED_AGREED)
_ADOPTED = (
    ReasonCode.ADOPTED_AGREED,
    ReasonCode.ADOPTED_OURS,
    ReasonCode.ADOPTED_MODIFIED_SINCE,
    ReasonCode.ADOPTED_UNTIMED,
)


def tell(
    document: str,
    records: Sequence[AuditRecord],
    policies: Mapping[str, Policy],
    now_us: int,
    *,
    only: str | None = None,
    row: Document | None = None,
    paused: OperatorAction | None = None,
    released: OperatorAction | None = None,
    actions: Iterable[OperatorAction] = (),
    chapters_max: int = 1000,
    older: bool = False,
) -> Story:
    """
    Return the story of a document, or of `only` one field of it.

    `records` are its newest audit records; `older` says that others come before them. `policies` are by digest. `row`
    is its row in the store, if that is known. `paused` and `released` are the actions that paused or released it, if it
    is so now. Chapters are in the order in which the store recorded them, because clocks may go back.
    """
    records = sorted(records, key=chain.place)
    since = chain.place(records[0]) if older else 0
    narrator = _Narrator(now_us, only, _repeats(records, row))
    done = [action for action in actions if action.result == "done" and chain.place(action) >= since and only is None]
    steps: list[list[AuditRecord] | OperatorAction] = [*_alike(narrator.concerning(records), only), *done]
    steps.sort(key=lambda step: chain.place(step if isinstance(step, OperatorAction) else step[0]))
    told = [
        _of_action(one, now_us) if isinstance(one, OperatorAction) else narrator.chapter(one)
        for one in steps[-chapters_max:]
    ]
    ending = _Ending(
        document=document, records=records, policies=policies, now_us=now_us, only=only, row=row, released=released
    )
    now = tuple(ending.sentences())
    if paused is not None:
        now = (_pause(document, paused, now_us), *now)
    elif row is not None and row.status in _STOPS:
        now = (_stop(row), *now)
    elif row is not None and row.status is Status.COLLECTING:
        now = (_collecting(row), *now)
    return Story(document, now, tuple(told), len(steps) - len(told), older)


def _pause(document: str, paused: OperatorAction, now_us: int) -> Sentence:
    reason = paused.details.get("reason")
    why = f" ({phrases.quoted(reason)})" if isinstance(reason, str) else ""
    text = (
        f"{phrases.safe(paused.who)} paused the document at {phrases.moment(paused.at_us, now_us)}{why}: until someone"
        " resumes it, the reconciler neither reads nor writes it. New events are kept."
    )
    command = f"reconciler docs resume {shlex.quote(document)}"
    return Sentence("waits", text, None, (Reference("act", str(paused.id)), Reference("command", command)))


def _stop(row: Document) -> Sentence:
    text = f"{_STOPS[row.status]} (last attempt: {phrases.quoted(row.reason)}). {_GOES_ON}"
    command = f"reconciler docs retry {shlex.quote(row.key)}"
    return Sentence("waits", text, None, (Reference("command", command),))


def _collecting(row: Document) -> Sentence:
    text = f"The reconciler {row.reason}, to write them all in one iteration. A command makes it write now."
    return Sentence("waits", text, None, (Reference("command", f"reconciler docs retry {shlex.quote(row.key)}"),))


def _of_action(action: OperatorAction, now_us: int) -> Chapter:
    who, reason = phrases.safe(action.who), action.details.get("reason")
    did = f"{who} {_DID.get(action.kind, phrases.safe(action.kind))}"
    why = f" ({phrases.quoted(reason)})" if isinstance(reason, str) and reason.strip() else ""
    text = f"{did}, {'by command' if action.role == CLI else f'as {action.role}'}{why}."
    title = f"{phrases.moment(action.at_us, now_us)}: {did}"
    said = Sentence("acted", text, None, (Reference("act", str(action.id)),))
    return Chapter(title, (), action.at_us, action.at_us, action.result, (said,))


class _Narrator:
    """Tells chapter after chapter, and remembers which claims have been told."""

    def __init__(self, now_us: int, only: str | None, repeats: Mapping[int, int]) -> None:
        self._now_us = now_us
        self._only = only
        self._repeats = repeats
        self._known: set[tuple[str, Stamp]] = set()

    def concerning(self, records: Iterable[AuditRecord]) -> list[AuditRecord]:
        """Return the records that matter to the story: all, or those in which something happened to the one field."""
        found: list[AuditRecord] = []
        before: tuple[object, ...] | None = None
        for record in records:
            if self._only is None:
                found.append(record)
                continue
            verdict, field = verdict_of(record, self._only), record.desired.fields.get(self._only)
            if verdict is None and field is None:
                continue
            seen = None if verdict is None else verdict.live
            quiet = verdict is None or _is_unchanged(verdict)
            if not (quiet and before == (seen, field)):
                found.append(record)
            patch = record.patch or {}
            if record.result is AttemptResult.WRITTEN and self._only in patch:
                seen = patch[self._only]  # a later attempt must see this, unless someone changes it
            before = seen, field
        return found

    def chapter(self, group: Sequence[AuditRecord]) -> Chapter:
        record, last = group[0], group[-1]
        new = unknown(chosen(record.desired, self._only), self._known)
        sentences = [*self._asked(new), *self._shown(record), *self._decided(record, new)]
        tokens = dict.fromkeys(one.snapshot.token for one in group if one.snapshot.token is not None)
        references = (Reference("audit", str(last.id)), *(Reference("token", token) for token in tokens))
        sentences.append(Sentence("answered", phrases.answered(record), None, references))
        more = sum(1 + self._repeats.get(one.id, 0) for one in group) - 1
        if more:
            attempts = "One more attempt" if more == 1 else f"{more} more attempts"
            when = "" if last.id in self._repeats else f", the last one at {phrases.moment(last.at_us, self._now_us)}"
            sentences.append(Sentence("again", f"{attempts} ended the same way{when}."))
        claims = [claim for field in new.values() for claim in field.claims]
        by_person = record.cause == "operator" and any(claim.stamp.source == OPERATORS for claim in claims)
        cause = "a person decided" if by_person else phrases.CAUSES.get(record.cause, record.cause)
        return Chapter(
            title=f"{phrases.moment(record.at_us, self._now_us)}: {cause}",
            records=tuple(one.id for one in group),
            at_us=record.at_us,
            until_us=last.at_us,
            result=record.result,
            sentences=tuple(sentences),
        )

    def _asked(self, new: Mapping[str, Field]) -> Iterable[Sentence]:
        for asking in phrases.askings(new):
            yield Sentence("asked", asking.text(self._now_us), self._only, origin(asking.stamp))
        for name, field in new.items():
            self._known.update((name, claim.stamp) for claim in field.claims)

    def _shown(self, record: AuditRecord) -> Iterable[Sentence]:
        snapshot = record.snapshot
        by, at = last_editor(record), snapshot.modified_at
        if by or at:
            when = f" at {phrases.moment(at, self._now_us)}" if at else ""
            yield Sentence("shown", f"In Windchill the document was last modified{when}{f' by {by}' if by else ''}.")

    def _decided(self, record: AuditRecord, new: Container[str]) -> Iterable[Sentence]:
        unchanged = []
        for verdict in record.decisions:
            if self._only not in (None, verdict.field):
                continue
            quiet = verdict.verb == "keep" and _is_unchanged(verdict) and verdict.field not in new
            if self._only is None and quiet:
                unchanged.append(verdict.field)
                continue
            patch = record.patch or {}
            written = patch.get(verdict.field, verdict.desired)
            field = record.desired.fields.get(verdict.field)
            base = record.base.fields.get(verdict.field)
            agreed = base is None or base.stamp is not None or bool(base.elements)
            text = phrases.decided(verdict, field, written, in_patch=verdict.field in patch, agreed=agreed)
            yield Sentence("decided", text, verdict.field, grounds(verdict))
        if unchanged:
            yield Sentence("decided", f"{phrases.names(unchanged)}: nothing to do, as decided before.")


def _is_unchanged(verdict: Verdict) -> bool:
    return all(reason.code in _TOLD_UNCHANGED for reason in verdict.reasons)


def _repeats(records: Sequence[AuditRecord], row: Document | None) -> dict[int, int]:
    """Return by record how many equal attempts followed without a record: the next record says it, or the row."""
    found = {one.id: following.repeats for one, following in itertools.pairwise(records) if following.repeats}
    repeating = None if row is None else row.agreement.repeating
    if records and repeating is not None and repeating.times:
        found[records[-1].id] = repeating.times
    return found


def _alike(records: Iterable[AuditRecord], only: str | None) -> list[list[AuditRecord]]:
    """Group attempts in a row with the same result; tokens and times may differ."""
    groups: list[list[AuditRecord]] = []
    before: tuple[object, ...] | None = None
    for record in records:
        verdicts = tuple((v.field, v.verb, v.reasons, v.live) for v in record.decisions if only in (None, v.field))
        came_to = (record.result, record.status, record.message, record.desired, verdicts, record.patch)
        if before == came_to:
            groups[-1].append(record)
        else:
            groups.append([record])
        before = came_to
    return groups


# -------------------------------------------------------------------------------------------------- the present state


_IF_EDITED = {
    "external": "If someone changes it in Windchill, the reconciler sets it back.",
    "hold": "If someone changes it in Windchill, the reconciler asks for a decision.",
    "fill": "If someone changes it in Windchill, their value stays.",
}
_IF_EDITED_USUALLY = "If someone changes it in Windchill, their edit stays until a newer event."
# The story opens with the reason.
_STOPPED = (Status.ABSENT, Status.PARKED, Status.CONTENDED, Status.LOCKED, Status.PAUSED, Status.COLLECTING)
_CONFLICTS = Reference("command", "reconciler conflicts list")
_UNMANAGED = "The reconciler does not manage it any more, and leaves it as it is in Windchill."


@attrs.frozen(kw_only=True, slots=False)
class _Ending:
    """Tells the present state of each field."""

    document: str
    records: Sequence[AuditRecord]
    policies: Mapping[str, Policy]
    now_us: int
    only: str | None
    row: Document | None
    released: OperatorAction | None

    @property
    def desired(self) -> Desired | None:
        return None if self.row is None else self.row.desired

    @functools.cached_property
    def last(self) -> AuditRecord | None:
        return self.records[-1] if self.records else None

    @functools.cached_property
    def waiting(self) -> dict[str, Decision]:
        """The decisions that are open, as far as the recorded policy tells."""
        policy = None if self.last is None else self.policies.get(self.last.policy)
        return {} if self.last is None or policy is None else _waiting(self.last, policy)

    @functools.cached_property
    def since(self) -> dict[str, Field]:
        """The claims that came after the newest record."""
        if self.desired is None:
            return {}
        decided = {} if self.last is None else self.last.desired.fields
        known = {(name, claim.stamp) for name, field in decided.items() for claim in field.claims}
        return unknown({n: f for n, f in chosen(self.desired, self.only).items() if fold.is_managed(f)}, known)

    def sentences(self) -> Iterable[Sentence]:
        if self.last is not None:
            for name in sorted({verdict.field for verdict in self.last.decisions}):
                if self.only in (None, name) and not self._released(name):
                    yield from self._field(self.last, name)
        yield from self._left_alone()
        yield from self._undecided()
        clashes = [r for r in self.records if r.result is AttemptResult.VERSION_CONFLICT and self._touches(r)]
        if clashes:
            times = "one write" if len(clashes) == 1 else f"{len(clashes)} writes"
            text = f"On the way, Windchill refused {times} because someone else had changed the document first."
            yield Sentence("clashes", text, self.only, tuple(Reference("audit", str(r.id)) for r in clashes))

    def _touches(self, record: AuditRecord) -> bool:
        return self.only is None or self.only in (record.patch or {})

    def _field(self, record: AuditRecord, name: str) -> Iterable[Sentence]:
        verdict = verdict_of(record, name)
        assert verdict is not None
        patch, field = record.patch or {}, phrases.safe(name)
        written = record.result is AttemptResult.WRITTEN and name in patch
        if record.result is AttemptResult.REFUSED and name in patch:
            yield self._refused(record, name, patch)
        elif verdict.verb == "hold":
            yield self._held(verdict)
        elif verdict.verb == "write" and not written:
            text = f"{field} is still to be written ({phrases.value(verdict.desired)}): {_why_not_yet(record)}."
            yield Sentence("waits", text, name)
        elif written or phrases.is_agreed(verdict):
            shown = phrases.value(patch[name] if written else verdict.live)
            then = f"{self._as_requested(name, verdict)}. {_IF_EDITED.get(verdict.strategy, _IF_EDITED_USUALLY)}"
            text = f"{field} is {shown}{', as requested before.' if name in self.since else then}"
            yield Sentence("stands", text, name, grounds(verdict))
        elif verdict.strategy == "fill":
            text = f"{field} stays {phrases.value(verdict.live)}: the rule writes only blank fields."
            yield Sentence("stands", text, name, grounds(verdict))
        else:
            yield self._theirs(record, verdict)
        if name in self.waiting and self.waiting[name].held_elements and verdict.verb != "hold":
            held = ", ".join(phrases.safe(text) for text in self.waiting[name].held_elements)
            yield Sentence("waits", f"{field}: these elements wait for a decision: {held}.", name, (_CONFLICTS,))

    def _as_requested(self, name: str, verdict: Verdict) -> str:
        """Return how far a value is the requested one: a set may hold other elements beside the requested ones."""
        assert self.last is not None
        accepted = self.last.desired.accepted.get(name, {}).get(canonical(verdict.desired))
        if verdict.verb == "keep" and accepted is not None and same(accepted.stored, verdict.live):
            by = phrases.who(accepted.stamp.source, accepted.actor)
            when = phrases.moment(accepted.stamp.time, self.now_us)
            return f", which counts as {phrases.value(verdict.desired)}: {by} accepted that at {when}"
        policy = self.policies.get(self.last.policy)
        if policy is None or policy.rule(name, self.last.snapshot.type).list is not ListMode.SET:
            return ", as requested"
        if name in self.waiting:
            return ""  # the next sentence names the open elements
        return ", with all requested changes; its other elements are left alone"

    def _theirs(self, record: AuditRecord, verdict: Verdict) -> Sentence:
        by = last_editor(record)
        whose = f" (the document was last modified by {by})" if by else ""
        whole = "Windchill's value" if verdict.reasons[0].code in _ADOPTED else "the edit in Windchill"
        text = (
            f"{phrases.safe(verdict.field)} is {phrases.value(verdict.live)}: {whole} stays until a newer event{whose}."
            f" The requested {phrases.value(verdict.desired)} is not written; a new event would set it."
        )
        if isinstance(verdict.desired, list):  # one element may be meant: there are too many ways to say so
            return Sentence("stands", text, verdict.field, grounds(verdict))
        emit = f"reconciler emit {shlex.quote(self.document)} --set {shlex.quote(f'{verdict.field}=VALUE')}"
        return Sentence("stands", text, verdict.field, (*grounds(verdict), Reference("command", emit)))

    def _held(self, verdict: Verdict) -> Sentence:
        live, desired = phrases.value(verdict.live), phrases.value(verdict.desired)
        why = phrases.obstacle(verdict.reasons)
        text = (
            f"{phrases.safe(verdict.field)} waits for a decision: Windchill has {live}, events request {desired}."
            f"{f' {why}.' if why else ''} Decide with a command; the conflict ends by itself if both sides agree."
        )
        return Sentence("waits", text, verdict.field, self._settling(self.waiting.get(verdict.field)))

    def _refused(self, record: AuditRecord, name: str, patch: Mapping[str, object]) -> Sentence:
        said = phrases.quoted(record.message) if record.message.strip() else "no reason given"
        alone = len(patch) == 1
        waits = "It waits for a retry" if alone else "Each refused field waits for a retry"
        text = (
            f"{phrases.safe(name)} was not written, because Windchill refused the write ({said})."
            f" {waits}, a decision or a newer event."
        )
        return Sentence("waits", text, name, self._settling(self.waiting.get(name) if alone else None))

    def _settling(self, decision: Decision | None) -> tuple[Reference, ...]:
        if decision is None:
            return (_CONFLICTS,)
        found = conflicts.of(self.document, decision, 0)
        commands = conflicts.settling(found.id, decision.hold)
        return Reference("conflict", found.id), *(Reference("command", command) for command in commands)

    def _released(self, name: str) -> bool:
        field = None if self.desired is None else self.desired.fields.get(name)
        if self.desired is None or self.last is None:
            return False
        return field is None or not fold.is_managed(field)

    def _left_alone(self) -> Iterable[Sentence]:
        desired = self.desired if self.desired is not None else self.last.desired if self.last else None
        if desired is None:
            return
        if desired.released is not None and not fold.managed(desired):
            action = self.released
            by = phrases.who(desired.released.source, action.who if action else "")
            when = phrases.moment(desired.released.time, self.now_us)
            reason = action.details.get("reason") if action else None
            why = f" ({phrases.quoted(reason)})" if isinstance(reason, str) and reason.strip() else ""
            text = f"{by} released the document at {when}{why}. {_UNMANAGED}"
            yield Sentence("stands", text, None, origin(desired.released))
        for name, field in sorted(chosen(desired, self.only).items()):
            if not fold.is_managed(field):
                text = f"{phrases.safe(name)} was released. {_UNMANAGED}"
                yield Sentence("stands", text, name, origin(fold.newest_stamp(field)))

    def _undecided(self) -> Iterable[Sentence]:
        """Tell of each event after the newest record, and that it is not decided yet."""
        status = None if self.row is None else self.row.status
        how = "" if status in _STOPPED else "; `reconciler run` does"
        still = (
            "It is not written yet."
            if status is Status.COLLECTING
            else f"The reconciler has not decided this yet{how}."
        )
        for asking in phrases.askings(self.since):
            text = f"{asking.text(self.now_us)} {still}"
            yield Sentence("waits", text, self.only, origin(asking.stamp))


def _why_not_yet(record: AuditRecord) -> str:
    """Return why a field that is to be written was not."""
    match record.result:
        case AttemptResult.WRITTEN:
            return "in a separate write"
        case AttemptResult.WOULD_WRITE:
            return "the document is only observed"
    return f"retrying ({_why(record)})"


def _why(record: AuditRecord) -> str:
    said = f": {phrases.quoted(record.message)}" if record.message.strip() else ""
    if record.result in (AttemptResult.VERSION_CONFLICT, AttemptResult.CONFIRMED):
        said = ""
    why = {
        AttemptResult.VERSION_CONFLICT: "someone else had changed the document first",
        AttemptResult.UNKNOWN: "the answer was lost, so the reconciler reads the document first",
        AttemptResult.LOCKED: "the document is locked or checked out",
        AttemptResult.THROTTLED: "Windchill asked us to come back later",
        AttemptResult.NOT_AVAILABLE: "Windchill does not give access to the document",
        AttemptResult.NO_TOKEN: "Windchill gives no token to guard the write",
        AttemptResult.THRESHOLD: "comparisons have written to as many documents as the threshold allows",
        AttemptResult.CONFIRMED: "an earlier write had to be confirmed first",
    }.get(record.result, "the last attempt failed")
    return why + said


def _waiting(record: AuditRecord, policy: Policy) -> dict[str, Decision]:
    """Return the decisions that are open after a record, as the recorded policy decides again."""
    base: Base = record.base
    plan = planning.draft(record.desired, base, record.snapshot, policy)
    if isinstance(plan, Patch) and record.result is AttemptResult.REFUSED:
        base = planning.refuse(plan.base, plan, plan.fields, record.message)
        plan = planning.draft(record.desired, base, record.snapshot, policy)
    return {d.field: d for d in plan.decisions if d.waits}


def verdict_of(record: AuditRecord, name: str) -> Verdict | None:
    """Return the decision on a field, if there was one."""
    return next((verdict for verdict in record.decisions if verdict.field == name), None)


def chosen(desired: Desired, only: str | None) -> dict[str, Field]:
    """Return all fields, or `only` one."""
    return {name: field for name, field in desired.fields.items() if only in (None, name)}


def unknown(fields: Mapping[str, Field], known: set[tuple[str, Stamp]]) -> dict[str, Field]:
    """Return the fields with only their claims that are not `known`."""
    new: dict[str, Field] = {}
    for name, field in fields.items():
        register = field.register if field.register and (name, field.register.stamp) not in known else None
        elements = {text: claim for text, claim in field.elements.items() if (name, claim.stamp) not in known}
        if register is not None or elements:
            new[name] = Field(register, elements)
    return new


def last_editor(record: AuditRecord) -> str:
    """Return who last modified the document; empty if that is not known."""
    wrote, snapshot = record.base.wrote, record.snapshot
    ours = wrote is not None and wrote.token is not None and wrote.token == snapshot.token
    if ours:
        return "the reconciler itself"
    return phrases.safe(snapshot.modified_by or "")


def origin(stamp: Stamp) -> tuple[Reference, ...]:
    """Return references to the event of a claim and to its record."""
    place = f"{stamp.topic}/{stamp.partition}/{stamp.offset}"
    return Reference("event", stamp.id), Reference("record", place)


def grounds(verdict: Verdict) -> tuple[Reference, ...]:
    """Return references to the rule and the reason of a decision."""
    return Reference("rule", verdict.rule), Reference(
        "decision", f"{verdict.verb}: {reasons.text(verdict.reasons, later=verdict.later)}"
    )
