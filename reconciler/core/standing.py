"""
Standing: how a document's fields stand after the newest record of its trail, and what that means from now on.

Who has won, and until when; what waits, for whom, and the command that would settle it.
"""

import functools
import shlex
from collections.abc import Iterable, Mapping, Sequence

import attrs

from reconciler.core import conflicts, fold, wording
from reconciler.core import plan as planning
from reconciler.model.act import Act
from reconciler.model.audit import AuditRecord, Verdict
from reconciler.model.base import Base
from reconciler.model.desired import Desired, Element, Field, Register
from reconciler.model.document import Document, Status
from reconciler.model.plan import Decision, Patch
from reconciler.model.policy import ListMode, Policy
from reconciler.model.stamp import Stamp
from reconciler.model.story import Reference, Sentence
from reconciler.model.value import canonical, same

_STANDS = {
    "external": "If somebody changes it in Windchill, it is set back.",
    "hold": "If somebody changes it in Windchill, a person is asked.",
    "fill": "Whatever somebody changes it to in Windchill stays.",
}
_STANDS_USUALLY = "If somebody changes it in Windchill, their edit stands until a newer event."
_STOPPED = (
    Status.PARKED,
    Status.CONTENDED,
    Status.LOCKED,
    Status.PAUSED,
    Status.COLLECTING,
)  # why is told before anything else
_CONFLICTS = Reference("command", "reconciler conflicts list")


def sentences(
    document: str,
    records: Sequence[AuditRecord],
    policies: Mapping[str, Policy],
    now_us: int,
    *,
    only: str | None = None,
    row: Document | None = None,
    released: Act | None = None,
) -> tuple[Sentence, ...]:
    """Return how all fields stand, or `only` one; see `story.tell`."""
    ending = _Ending(
        document=document, records=records, policies=policies, now_us=now_us, only=only, row=row, released=released
    )
    return tuple(ending.sentences())


@attrs.frozen(kw_only=True, slots=False)
class _Ending:
    """What is known at the end."""

    document: str
    records: Sequence[AuditRecord]
    policies: Mapping[str, Policy]
    now_us: int
    only: str | None
    row: Document | None
    released: Act | None

    @property
    def desired(self) -> Desired | None:
        return None if self.row is None else self.row.desired

    @functools.cached_property
    def last(self) -> AuditRecord | None:
        return self.records[-1] if self.records else None

    @functools.cached_property
    def waiting(self) -> dict[str, Decision]:
        """What waits for a person, as far as the recorded policy tells."""
        policy = None if self.last is None else self.policies.get(self.last.policy)
        return {} if self.last is None or policy is None else _waiting(self.last, policy)

    @functools.cached_property
    def since(self) -> dict[str, Field]:
        """What the log has asked for since the newest record."""
        if self.desired is None:
            return {}
        decided = {} if self.last is None else self.last.desired.fields
        known = {(name, claim.stamp) for name, field in decided.items() for claim in claims_of(field)}
        return unknown({n: f for n, f in chosen(self.desired, self.only).items() if fold.is_managed(f)}, known)

    def sentences(self) -> Iterable[Sentence]:
        if self.last is not None:
            for name in sorted({verdict.field for verdict in self.last.decisions}):
                if self.only in (None, name) and not self._released(name):
                    yield from self._field(self.last, name)
        yield from self._left_alone()
        yield from self._undecided()
        clashes = [r for r in self.records if r.result == "version_conflict" and self._touches(r)]
        if clashes:
            count = "once" if len(clashes) == 1 else f"{len(clashes)} times"
            text = f"On the way Windchill refused our writes {count}, because somebody else had written in between."
            yield Sentence("clashes", text, self.only, tuple(Reference("audit", str(r.id)) for r in clashes))

    def _touches(self, record: AuditRecord) -> bool:
        return self.only is None or self.only in (record.patch or {})

    def _field(self, record: AuditRecord, name: str) -> Iterable[Sentence]:
        verdict = verdict_of(record, name)
        assert verdict is not None
        patch, field = record.patch or {}, wording.safe(name)
        written = record.result == "written" and name in patch
        if record.result == "refused" and name in patch:
            yield self._refused(record, name, patch)
        elif verdict.verb == "hold":
            yield self._held(verdict)
        elif verdict.verb == "write" and not written:
            more = "in a write of its own" if record.result == "written" else f"it is tried again ({_why(record)})"
            text = f"{field} is still to be written ({wording.value(verdict.desired)}): {more}."
            yield Sentence("waits", text, name)
        elif written or verdict.reason in ("agreed", "adopted: both sides agree"):
            shown = wording.value(patch[name] if written else verdict.live)
            then = f"{self._as_asked(name, verdict)}. {_STANDS.get(verdict.strategy, _STANDS_USUALLY)}"
            text = f"{field} is {shown}{', as asked for before.' if name in self.since else then}"
            yield Sentence("stands", text, name, grounds(verdict))
        elif verdict.strategy == "fill":
            text = f"{field} stays {wording.value(verdict.live)}: the rule writes only where there is nothing."
            yield Sentence("stands", text, name, grounds(verdict))
        else:
            yield self._theirs(record, verdict)
        if name in self.waiting and self.waiting[name].held_elements and verdict.verb != "hold":
            held = ", ".join(wording.safe(text) for text in self.waiting[name].held_elements)
            yield Sentence("waits", f"Of {field}, these elements wait for a person: {held}.", name, (_CONFLICTS,))

    def _as_asked(self, name: str, verdict: Verdict) -> str:
        """Return how far a value is what was asked for: of a set, elements that nobody asked for stay beside it."""
        assert self.last is not None
        word = self.last.desired.accepted.get(name, {}).get(canonical(verdict.desired))
        if verdict.verb == "keep" and word is not None and same(word.stored, verdict.live):
            by = wording.who(word.stamp.source, word.actor)
            when = wording.moment(word.stamp.time, self.now_us)
            return f", which counts as {wording.value(verdict.desired)}: {by} accepted that at {when}"
        policy = self.policies.get(self.last.policy)
        if policy is None or policy.rule(name, self.last.snapshot.type).list is not ListMode.SET:
            return ", as asked for"
        if name in self.waiting:
            return ""  # what waits is told behind it
        return ": what was asked for of it is so, and other elements are left alone"

    def _theirs(self, record: AuditRecord, verdict: Verdict) -> Sentence:
        by = last_editor(record)
        whose = f" (the document was last modified by {by})" if by else ""
        name = wording.safe(verdict.field)
        what = "What Windchill has" if verdict.reason.startswith("adopted") else "The edit in Windchill"
        text = (
            f"{what} stands: {name} is {wording.value(verdict.live)} there{whose} until a newer event"
            f" asks for another value. {wording.value(verdict.desired)}, which was asked for, is not written. A new"
            " event would bring it back."
        )
        if isinstance(verdict.desired, list):  # one element may be meant: there are too many ways to say so
            return Sentence("stands", text, verdict.field, grounds(verdict))
        emit = f"reconciler emit {shlex.quote(self.document)} --set {shlex.quote(f'{verdict.field}=VALUE')}"
        return Sentence("stands", text, verdict.field, (*grounds(verdict), Reference("command", emit)))

    def _held(self, verdict: Verdict) -> Sentence:
        live, desired = wording.value(verdict.live), wording.value(verdict.desired)
        why = wording.obstacle(verdict.reason)
        text = (
            f"{wording.safe(verdict.field)} waits for a person: Windchill has {live}, {desired} is asked for."
            f"{f' {why}.' if why else ''} It is settled by a command, or by itself as soon as both sides agree."
        )
        return Sentence("waits", text, verdict.field, self._settling(self.waiting.get(verdict.field)))

    def _refused(self, record: AuditRecord, name: str, patch: Mapping[str, object]) -> Sentence:
        said = wording.quoted(record.message) if record.message.strip() else "without a word"
        alone = len(patch) == 1
        what = "it" if alone else "what it did not like"
        why = f"since Windchill did not accept the write ({said})"
        text = f"{wording.safe(name)} was not written, {why}: {what} waits for its next try, a person or a newer event."
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
            act = self.released
            by = wording.who(desired.released.source, act.who if act else "")
            when = wording.moment(desired.released.time, self.now_us)
            reason = act.details.get("reason") if act else None
            why = f" ({wording.quoted(reason)})" if isinstance(reason, str) and reason.strip() else ""
            text = f"{by} released the document at {when}{why}: nobody manages it, and whatever Windchill has stays."
            yield Sentence("stands", text, None, origin(desired.released))
        for name, field in sorted(chosen(desired, self.only).items()):
            if not fold.is_managed(field):
                text = f"{wording.safe(name)} was released: nobody manages it, and whatever Windchill has stays."
                yield Sentence("stands", text, name, origin(fold.newest_stamp(field)))

    def _undecided(self) -> Iterable[Sentence]:
        """Yield what the log has asked for since the newest record, and that it is still to come."""
        status = None if self.row is None else self.row.status
        how = "" if status in _STOPPED else "; it is done by `reconciler run`"
        collects = status is Status.COLLECTING
        for asking in wording.askings(self.since):
            still = "It is not written yet." if collects else f"Nothing has been decided on that yet{how}."
            text = f"{asking.text(self.now_us)} {still}"
            yield Sentence("waits", text, self.only, origin(asking.stamp))


def _why(record: AuditRecord) -> str:
    said = f": {wording.quoted(record.message)}" if record.message.strip() else ""
    if record.result in ("version_conflict", "confirmed"):
        said = ""
    why = {
        "version_conflict": "somebody else had written in between",
        "unknown": "the answer was lost, so Windchill is read first",
        "locked": "it waits for whoever has the document checked out",
        "throttled": "Windchill asked us to come back later",
        "not_available": "Windchill does not give access to the document",
        "no_token": "Windchill gives no token to guard the write",
        "threshold": "comparisons have written to as many documents as is allowed for now",
        "confirmed": "an earlier write was confirmed first",
    }.get(record.result, "the last attempt failed")
    return why + said


def _waiting(record: AuditRecord, policy: Policy) -> dict[str, Decision]:
    """Return what waits for a person after a record, as the recorded policy decides it again."""
    base: Base = record.base
    plan = planning.draft(record.desired, base, record.snapshot, policy)
    if isinstance(plan, Patch) and record.result == "refused":
        base = planning.refuse(plan.base, plan, plan.fields, record.message)
        plan = planning.draft(record.desired, base, record.snapshot, policy)
    return {d.field: d for d in plan.decisions if d.verb == "hold" or d.held_elements}


def verdict_of(record: AuditRecord, name: str) -> Verdict | None:
    """Return what was decided on a field."""
    return next((verdict for verdict in record.decisions if verdict.field == name), None)


def chosen(desired: Desired, only: str | None) -> dict[str, Field]:
    """Return the fields that are told of."""
    return {name: field for name, field in desired.fields.items() if only in (None, name)}


def claims_of(field: Field) -> list[Register | Element]:
    """Return all claims on a field."""
    return [claim for claim in (field.register, *field.elements.values()) if claim is not None]


def unknown(fields: Mapping[str, Field], known: set[tuple[str, Stamp]]) -> dict[str, Field]:
    """Return fields cut down to the claims that are not known."""
    new: dict[str, Field] = {}
    for name, field in fields.items():
        register = field.register if field.register and (name, field.register.stamp) not in known else None
        elements = {text: claim for text, claim in field.elements.items() if (name, claim.stamp) not in known}
        if register is not None or elements:
            new[name] = Field(register, elements)
    return new


def last_editor(record: AuditRecord) -> str:
    """Return who last modified the document, nothing if that is not known."""
    wrote, snapshot = record.base.wrote, record.snapshot
    ours = wrote is not None and wrote.token is not None and wrote.token == snapshot.token
    if ours:
        return "the reconciler itself"
    return wording.safe(snapshot.modified_by or "")


def origin(stamp: Stamp) -> tuple[Reference, ...]:
    """Return where a claim is to be found."""
    place = f"{stamp.topic}/{stamp.partition}/{stamp.offset}"
    return Reference("event", stamp.id), Reference("record", place)


def grounds(verdict: Verdict) -> tuple[Reference, ...]:
    """Return by what a field was decided, in the words of the trail."""
    return Reference("rule", verdict.rule), Reference("decision", f"{verdict.verb}: {verdict.reason}")
