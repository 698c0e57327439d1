"""
Plan: desired, base, snapshot, policy → a decision for each field, and the one patch that carries them out.

Rules of this file:
1. `draft` is a pure function of its four arguments; recomputing it from an audit record must give the same patch.
2. Only managed fields are decided; no other field can get into a patch.
3. `draft` decides; `agree` returns the base once the decision has gone through. Nothing else makes a base.

Theory of operation: each managed field is compared under its rule and decided by `merge` (whole values) or `elements`
(sets). Fields without a base are adopted at the same time: where the event is later than the last modification by
others, the live value becomes the base without a stamp, and that base is stored before anything is sent.
"""

import shlex
from collections.abc import Collection, Iterable

from msgspec import structs

from reconciler.core.folding import accepting, fold, normalise
from reconciler.core.planning import contest, elements, merge, retrying
from reconciler.core.planning.retrying import UNTIMED, Moment
from reconciler.model import codec
from reconciler.model.base import Agreed, Base, RefusedField, Wrote
from reconciler.model.desired import Desired, Field
from reconciler.model.plan import Decision, Held, Hold, InSync, Patch, Plan, Reason, ReasonCode, Verb
from reconciler.model.policy import OPERATORS, Normaliser, Policy, Rule, Strategy
from reconciler.model.snapshot import Snapshot
from reconciler.model.value import MISSING, Json, Missing, canonical, or_null


def draft(desired: Desired, base: Base, snapshot: Snapshot, policy: Policy) -> Plan:
    """
    Decide every managed field of one document, in order of name.

    A patch holds one portion of the fields to write: those that the server takes together. The next attempt decides the
    next portion again.
    """
    questions = _questions(desired, base, snapshot, policy)
    below = _below(question.name for question in questions if fold.is_managed(question.field))
    decisions = tuple(_decide(q, snapshot, below.get(q.name)) for q in questions)
    known = _adopted(questions, decisions, base)
    writes = {d.field: d.target for d in decisions if d.verb is Verb.WRITE and d.target is not MISSING}
    if writes:
        first = min(map(snapshot.portion, writes))
        portion = {name: value for name, value in writes.items() if snapshot.portion(name) == first}
        return Patch(_put_off(decisions, portion), known, portion, snapshot.token)
    return Held(decisions, known) if any(d.waits for d in decisions) else InSync(decisions, known)


def agree(plan: Plan, before: Snapshot, after: Snapshot, policy: Policy, at: Moment = UNTIMED) -> Base:
    """
    Return the base once `plan` has gone through and the document shows `after` (`before` if nothing was sent).

    A written field agrees on the value that the server now shows; if the server altered it, the field is held. Kept and
    yielded fields agree on the value that was decided on; held ones stay as they were. A list with held elements agrees
    on those that were kept or yielded, even if nothing of it is written.
    """
    fields: dict[str, Agreed] = {}
    refused: dict[str, RefusedField] = {}
    portion = min(map(before.portion, plan.fields)) if isinstance(plan, Patch) else 0
    for decision in plan.decisions:
        name = decision.field
        old = plan.base.fields.get(name)
        steps = _steps(policy.rule(name, before.type), name, before)
        if decision.verb is Verb.HOLD or decision.later:
            if old is not None:
                fields[name] = _agreed_in_part(decision, old, steps, at) if decision.held_elements else old
            # The server may accept a refused field once a later portion is written: a state that allows it, for one.
            if name in plan.base.refused and before.portion(name) >= portion:
                refused[name] = plan.base.refused[name]
            continue
        shown = after.value(name) if decision.verb is Verb.WRITE else decision.live
        fields[name] = _agreed(decision, old, shown, steps)._replace(
            writes=contest.counted(decision, old, shown, steps, at)
        )
        known = plan.base.refused.get(name)
        if decision.verb is Verb.WRITE and not _equal(decision, shown, decision.target, steps):
            fields[name] = elements.unsettled(fields[name], decision.target, steps)
            listed = bool(decision.elements or decision.held_elements)
            turned = contest.Turned(decision.stamp, decision.target, shown, steps, listed, decision.live)
            refused[name] = contest.altered(known, turned, at)
        elif known is not None and (decision.hold is Hold.CONTESTED or contest.on_trial(known, fields[name], at)):
            refused[name] = known
    wrote = plan.base.wrote
    if isinstance(plan, Patch):
        wrote = Wrote(after.token, modified_by_others(plan.base, before))
    return Base(fields, refused, wrote)


def alterations_seen(
    base: Base,
    expected: Snapshot | None,
    read: Snapshot,
    policy: Policy,
    *,
    desired: Desired,
    at: Moment = UNTIMED,
) -> Base:
    """
    Return the base with the server's alterations to our last write, at the first read of the version that it left.

    Needed where the answer to a write was a token alone. No one else can have changed that version, so the server
    altered a written field that shows another value: it is no edit to yield to, and must not be written over and over.
    """
    if expected is None or not expected.assumed or expected.token is None or read.token != expected.token:
        return base
    fields, refused = dict(base.fields), dict(base.refused)
    for name in expected.assumed:
        agreed, meant, shown = base.fields.get(name), expected.value(name), read.value(name)
        if agreed is None or agreed.stamp is None or not normalise.equal(elements.known(agreed), meant, ()):
            continue  # not managed any more, or a list with held elements, whose base is another value
        steps = _steps(policy.rule(name, read.type), name, read)
        same = elements.equal(shown, meant, steps) if agreed.elements else normalise.equal(shown, meant, steps)
        if not same and not accepting.counts_as(meant, shown, accepting.pairs(desired, name), steps):
            fields[name] = elements.unsettled(agreed._replace(value=or_null(shown)), meant, steps)
            turned = contest.Turned(agreed.stamp, meant, shown, steps, bool(agreed.elements))
            refused[name] = contest.altered(refused.get(name), turned, at)
    return structs.replace(base, fields=fields, refused=refused)


def confirmed_in_part(old: Agreed, meant: Agreed, name: str, read: Snapshot, policy: Policy) -> Agreed:
    """Return what is agreed on a field that does not show the value of a write in doubt: elements of it may do so."""
    return elements.confirmed(old, meant, read.value(name), _steps(policy.rule(name, read.type), name, read))


def agreed_if_written(plan: Patch, before: Snapshot, policy: Policy, at: Moment = UNTIMED) -> dict[str, Agreed]:
    """Return what each written field of a patch agrees on if the server applies it unaltered."""
    base = agree(plan, before, before.with_fields(plan.fields, None), policy, at)
    return {name: base.fields[name] for name in plan.fields}


def refuse(base: Base, plan: Patch, fields: Iterable[str], message: str, at: Moment = UNTIMED) -> Base:
    """
    Return the base with a refusal for each of `fields` that `plan` wrote: they are held, and tried again later.

    If the server named none of them, the fields that it refused before are to blame, or else all fields.
    """
    named = plan.fields.keys() & set(fields)
    blamed = named or plan.fields.keys() & base.refused.keys() or plan.fields.keys()
    refusals = {
        decision.field: retrying.refusal(
            base.refused.get(decision.field),
            decision.stamp,
            or_null(decision.live),
            message,
            at,
            place=0 if named else place,
        )
        for place, decision in enumerate(d for d in plan.decisions if d.field in blamed)
    }
    return structs.replace(base, refused={**base.refused, **refusals})


def own_write_recognised(base: Base, expected: Snapshot | None, read: Snapshot) -> Base:
    """
    Return the base with the token of our own last write, if a read shows exactly the content that it left.

    Needed where the answer to a write carried no token: otherwise our own write would look like a user's edit. The
    expected snapshot has no token then; one that has a token was read, and may be a user's edit itself.
    """
    if base.wrote is None or base.wrote.token is not None or expected is None or read.token is None:
        return base
    if expected.token is not None:
        return base
    if not same_content(expected, read):
        return base
    return structs.replace(base, wrote=structs.replace(base.wrote, token=read.token))


def same_content(left: Snapshot, right: Snapshot) -> bool:
    """Whether two reads show the same document, apart from when and by whom it was modified."""
    return canonical(_content(left)) == canonical(_content(right))


def modified_by_others(base: Base, snapshot: Snapshot) -> str | None:
    """Return when others last modified the document, `None` if the server does not say."""
    wrote = base.wrote
    if wrote is not None and wrote.token is not None and wrote.token == snapshot.token:
        return wrote.modified_before
    return snapshot.modified_at


def _questions(desired: Desired, base: Base, snapshot: Snapshot, policy: Policy) -> list[elements.Question]:
    modified_at = modified_by_others(base, snapshot)
    questions = []
    for name, field in sorted({**fold.managed(desired), **_released_groups(desired)}.items()):
        rule = policy.rule(name, snapshot.type)
        if rule.strategy is not Strategy.IGNORE:
            live, types = snapshot.value(name), snapshot.type_normalisers.get(name, ())
            agreed, refused = _recalled(base.fields.get(name), live), base.refused.get(name)
            pairs = accepting.pairs(desired, name)
            questions.append(elements.Question(name, field, agreed, live, rule, modified_at, types, refused, pairs))
    return questions


def _recalled(agreed: Agreed | None, live: Json | Missing) -> Agreed | None:
    """Return what was agreed; if only a digest of its value is known and the live value has it, with that value."""
    if agreed is None or not agreed.digest or agreed.digest != codec.digest(or_null(live)):
        return agreed
    return agreed._replace(value=or_null(live), digest="")


def _steps(rule: Rule, name: str, snapshot: Snapshot) -> tuple[Normaliser, ...]:
    return rule.normalise + snapshot.type_normalisers.get(name, ())


def _put_off(decisions: tuple[Decision, ...], portion: Collection[str]) -> tuple[Decision, ...]:
    """Mark the fields to write that are not in this patch."""
    return tuple(
        structs.replace(d, later=True) if d.verb is Verb.WRITE and d.field not in portion else d for d in decisions
    )


def _content(snapshot: Snapshot) -> dict[str, Json]:
    return {name: value for name, value in snapshot.body.items() if name not in ("modifiedBy", "modifiedOn")}


def _decide(question: elements.Question, snapshot: Snapshot, below: str | None) -> Decision:
    decision = elements.decide(question) if elements.applies(question) else _decide_whole(question)
    obstacle, hold = _not_a_field(question, snapshot, below) or _obstacle(decision, snapshot), Hold.DECIDE
    if obstacle is None:
        hold, obstacle = _setback(decision, question)
    if obstacle is None:
        return decision
    return structs.replace(decision, verb=Verb.HOLD, reasons=(obstacle,), target=MISSING, held_elements=(), hold=hold)


def _decide_whole(question: elements.Question) -> Decision:
    agreed, live, rule, steps = question.agreed, question.live, question.rule, question.steps
    desired = elements.whole(question.field, steps)
    stamp = fold.newest_stamp(question.field)
    ours = agreed is None or agreed.stamp is None or stamp.follows(agreed.stamp)
    moved = agreed is None or bool(agreed.digest) or not normalise.equal(live, agreed.value, steps)
    moves = merge.Moves(
        agreed=accepting.counts_as(desired, live, question.accepted, steps),
        ours=ours,
        theirs=moved and not (ours and question.expected),  # once agreed, going back to that value is an edit again
        blank=normalise.blank(normalise.comparable(live, steps)),
        claimed_at=stamp.time,
        modified_at=question.modified_at,
    )
    ruling = merge.adopt(moves, rule) if agreed is None else merge.decide(moves, rule)
    return Decision(
        field=question.name,
        verb=ruling.verb,
        reasons=(ruling.reason,),
        rule=rule.name,
        strategy=rule.strategy,
        desired=desired,
        base=elements.known(agreed),
        live=live,
        stamp=stamp,
        target=normalise.outgoing(desired, steps) if ruling.verb is Verb.WRITE else MISSING,
        ours=moves.ours,
        theirs=moves.theirs,
        by_person=retrying.decided_by_person(question.field),
        accepted=question.accepted,
    )


def _obstacle(decision: Decision, snapshot: Snapshot) -> Reason | None:
    """Return why a field can't be decided or written whatever its rule says, `None` if it can."""
    name = decision.field
    if any(_within(name, hidden) or _within(hidden, name) for hidden in snapshot.unreadable):
        return Reason(ReasonCode.HIDDEN)
    if decision.verb is not Verb.KEEP and any(_within(name, fixed) for fixed in snapshot.read_only):
        return Reason(ReasonCode.READ_ONLY)
    if decision.verb is Verb.WRITE and (outer := snapshot.in_the_way(name)) is not None:
        return Reason(ReasonCode.NOT_AN_OBJECT, about=outer)
    return None


def _setback(decision: Decision, question: elements.Question) -> tuple[Hold, Reason | None]:
    """Return why a field is not written now because of earlier tries, `None` if it is."""
    known, steps = question.refused, question.steps
    if known is None or (decision.verb is Verb.KEEP and _equal(decision, decision.live, decision.desired, steps)):
        return Hold.DECIDE, None
    if retrying.bars(known, decision):
        return Hold.REFUSED, Reason(ReasonCode.REFUSED, message=known.message)
    whole = decision.verb in (Verb.WRITE, Verb.KEEP) and not known.elements
    same = normalise.digest(decision.desired, steps) == known.wanted
    if whole and same and retrying.waits(known, decision.by_person):
        return Hold.CONTESTED, Reason(ReasonCode.CONTESTED, message=known.message)
    return Hold.DECIDE, None


def _equal(decision: Decision, shown: Json | Missing, wanted: Json | Missing, steps: Collection[Normaliser]) -> bool:
    if decision.elements:
        return elements.equal(shown, wanted, steps)
    return accepting.counts_as(wanted, shown, decision.accepted, steps)


def _within(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(f"{outer}.")


def group_member(question: elements.Question, below: str | None) -> str | None:
    """
    Return a field of the group that a name turns out to be, `None` for the name of a field (docs/explanation.md).

    It is a group if Windchill shows an object there that is no enumeration, or if a field below it is managed
    (`below`). A claim on a whole group can't be carried out field by field under the fields' own rules.
    """
    if below is not None:
        return below
    shown = normalise.comparable(question.live, question.steps)
    return f"{question.name}.{min(shown, default='…')}" if isinstance(shown, dict) else None


def _not_a_field(question: elements.Question, snapshot: Snapshot, below: str | None) -> Reason | None:
    """Return why the claims on a name are held: too many of one time, or a name of a group. `None` if they are not."""
    if fold.crowded(question.field):
        return Reason(ReasonCode.CROWDED)
    member = group_member(question, below)
    if member is None:
        return None
    drop = shlex.join(["reconciler", "docs", "release", snapshot.key, "--field", question.name])
    return Reason(ReasonCode.GROUP, about=member, message=drop)


def _released_groups(desired: Desired) -> dict[str, Field]:
    """
    Return the names that an event released although they are groups of managed fields.

    If we ignored such a release, fields would stay managed that its producer believes to be free. An operator's release
    drops the claim on the group's own name; a release does not cover later claims.
    """
    released = {
        name: field.register
        for name, field in desired.fields.items()
        if field.register is not None and not fold.is_managed(field) and field.register.stamp.source != OPERATORS
    }
    if not released:
        return {}
    found: dict[str, Field] = {}
    for name, field in fold.managed(desired).items():
        for outer in _outer(name):
            if outer in released and fold.newest_stamp(field) < released[outer].stamp:
                found[outer] = desired.fields[outer]
    return found


def _below(fields: Iterable[str]) -> dict[str, str]:
    """Return the names of groups of these fields, each with the first field in it."""
    found: dict[str, str] = {}
    for name in sorted(fields):
        for outer in _outer(name):
            found.setdefault(outer, name)
    return found


def _outer(name: str) -> Iterable[str]:
    """Yield the names of the groups that a dotted name lies in."""
    return (name[:place] for place, character in enumerate(name) if character == ".")


def _adopted(questions: Iterable[elements.Question], decisions: Iterable[Decision], base: Base) -> Base:
    """
    Return the base cut down to managed fields, plus new fields that are about to be written.

    This is where a release ends a base, unless the field was claimed again before an attempt saw the release.
    """
    fields: dict[str, Agreed] = {}
    refused: dict[str, RefusedField] = {}
    for question, decision in zip(questions, decisions, strict=True):
        name = decision.field
        if question.agreed is not None:
            fields[name] = question.agreed
        elif decision.verb is Verb.WRITE:
            fields[name] = Agreed(or_null(decision.live), None, elements.unwritten(decision, question.steps))
        refusal = base.refused.get(name)
        if refusal is not None and contest.stands(refusal, decision, question.steps):
            refused[name] = refusal
    return Base(fields, refused, base.wrote)


def _agreed(decision: Decision, old: Agreed | None, shown: Json | Missing, steps: Collection[Normaliser]) -> Agreed:
    if not decision.elements and not decision.held_elements:
        return Agreed(or_null(shown), decision.stamp, {})
    held = {} if old is None else elements.held(decision, old, steps)
    return Agreed(elements.agreed_list(decision, shown, steps), decision.stamp, {**decision.elements, **held})


def _agreed_in_part(decision: Decision, old: Agreed, steps: Collection[Normaliser], at: Moment) -> Agreed:
    """Return what is agreed on a list with held elements: decided elements change, all others stay as they were."""
    if decision.later or old.digest:
        return old
    stamps = {**old.elements, **elements.held(decision, old, steps), **decision.elements}
    writes = contest.counted(decision, old, decision.live, steps, at)
    return old._replace(value=elements.agreed_list(decision, decision.live, steps), elements=stamps, writes=writes)
