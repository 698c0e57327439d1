"""
Fold: events → desired state, as a join.

Rules of this file:
1. `join` is commutative, associative and idempotent, and `steps(d, events)` equals joining `d` with each
   `lift(event)`. So any order, any duplicates and any split of a set of records give the same rows, the same bytes.
   `gathering.py` does it for many documents.
2. A copy of a record changes nothing, wherever it is: records that agree in time, sequence, source and id are one
   event, and each event counts at the least of its places.
3. Claims that are covered for good are dropped: those of an earlier level (lead, time, sequence) than their register,
   or than the document's release. Dropping commutes with joining, because an older claim that arrives later is dropped
   as well.
4. The forms of a value that a person has accepted (`accepting.py`) are joined beside the fields.
5. If nothing changes, the very same object comes back, so that callers can tell by `is`.

Theory of operation: a field's value is a last-writer-wins register with element registers on top (docs/explanation.md).
The greatest stamp wins. Two events of one level rank by their places, and a copy can still lower a place. So the losers
of that level are kept beside the winner, as rivals, until a later level covers them all. Nearly always there is one
event and no rival, and claims of different levels are compared by one look at their stamps.

If two different records have one stamp (a topic made again under its old name), the greater canonical text wins, so
that even this has one outcome. More than `EVENTS_MAX` events of one level on one value are too many to rank: those with
the greatest source and id are kept, whatever the order, and `crowded` tells of it. A row keeps at most `FIELDS_MAX`
fields: beyond that the oldest levels are cut off, again as a join (`Desired.cut`).
"""

import functools
from collections.abc import Iterable, Mapping
from typing import TypeVar

from reconciler.core.folding import accepting
from reconciler.model.desired import NO_ELEMENTS, NOTHING_DESIRED, Desired, Element, Field, Register, Rival
from reconciler.model.document import Superseded
from reconciler.model.event import NO_MORE, Event
from reconciler.model.stamp import Level, Stamp
from reconciler.model.value import canonical

EVENTS_MAX = 64  # of one time and sequence on one value; a stopped clock must not make a row grow for ever
FIELDS_MAX = 4_096  # of a row, whatever the log names: folding one more event into it stays cheap

_T = TypeVar("_T")
# By element (`None`: the whole value), then by event. All claims on one element are of one level.
_Claims = dict[str | None, dict[tuple[str, ...], Register]]


def step(desired: Desired, event: Event) -> Desired:
    """Fold one event into a document's row."""
    return join(desired, lift(event))


def steps(desired: Desired, events: Iterable[Event]) -> Desired:
    """Fold several events of one document into its row."""
    return functools.reduce(join, map(lift, events), desired)


def lift(event: Event) -> Desired:
    """Return the row with the claims of one event."""
    stamp, actor, reason, more = event.stamp, event.actor, event.reason, event.more or NO_MORE
    if more.released:
        return Desired({}, stamp)
    fields = {
        name: Field(Register(stamp, value, True, (more.expect[name],) if name in more.expect else (), actor, reason))
        for name, value in event.set.items()
    }
    for name in more.release:
        fields[name] = Field(Register(stamp, None, False, (), actor, reason))
    for name, elements in more.elements.items():
        fields[name] = Field(None, {text: Element(stamp, there, actor, reason) for text, there in elements.items()})
    return Desired(fields, accepted=accepting.said(event))


def join(left: Desired, right: Desired) -> Desired:
    """Return the join of two rows."""
    row = _joined(left, right)
    if not left.accepted and not right.accepted:
        return row
    accepted = accepting.joined(left.accepted, right.accepted, row.released, row.cut)
    return left if row is left and accepted == left.accepted else row._replace(accepted=accepted)


def _joined(left: Desired, right: Desired) -> Desired:
    """Return the join of two rows without their acceptances, or `left` itself if nothing changes."""
    if left.released is None and right.released is None and left.cut is None and right.cut is None:
        fields = _merged(left.fields, right.fields)
        if fields is left.fields:
            return left
        row = Desired(fields)
    else:
        row = _join_covered(left, right)
    return _narrowed(row) if len(row.fields) + len(row.covered) > FIELDS_MAX else row


def managed(desired: Desired) -> dict[str, Field]:
    """Return the managed fields."""
    return {name: field for name, field in desired.fields.items() if is_managed(field)}


def is_managed(field: Field) -> bool:
    """Whether a field is managed: by its register, or by claims on elements."""
    return bool(field.elements) or (field.register is not None and field.register.managed)


def newest_stamp(field: Field) -> Stamp:
    """Return the greatest stamp among a field's claims."""
    return max(claim.stamp for claim in field.claims)


def crowded(field: Field) -> bool:
    """Whether too many events of one time and sequence claim a field, or an element of it, to rank them."""
    if len(field.rivals) < EVENTS_MAX:
        return False
    return any(len(events) > EVENTS_MAX for events in _claims(field).values())


def _join_covered(left: Desired, right: Desired) -> Desired:
    """Join two rows of which at least one was released or cut."""
    releases = _releases(left, right)
    floor = releases[0].level if releases else None
    cut = max((one.cut for one in (left, right) if one.cut is not None), default=None)
    if cut is not None and floor is not None and floor > cut:
        cut = None  # the release covers the claims that were cut
    whole = _merged(left.fields, left.covered)
    kept = _cleared(whole, floor, cut)
    merged = _merged(kept, _cleared(_merged(right.fields, right.covered), floor, cut))
    known = () if left.released is None else (left.released, *left.rivals)
    if merged is whole and releases == known and cut == left.cut:
        return left
    fields: dict[str, Field] = {}
    covered: dict[str, Field] = {}
    for name, field in merged.items():
        standing, under = _parted(field, releases[0]) if releases else (field, None)
        fields.update({} if standing is None else {name: standing})
        covered.update({} if under is None else {name: under})
    return Desired(fields, releases[0] if releases else None, releases[1:], covered, cut)


def _releases(left: Desired, right: Desired) -> tuple[Stamp, ...]:
    """Return the releases of the latest level in two rows, each event at its least place, greatest first."""
    stamps = [stamp for row in (left, right) if row.released is not None for stamp in (row.released, *row.rivals)]
    latest = max((stamp.level for stamp in stamps), default=None)
    events: dict[tuple[str, ...], Stamp] = {}
    for stamp in stamps:
        if stamp.level == latest:
            events[stamp.event] = min(stamp, events.get(stamp.event, stamp))
    return tuple(sorted(_bounded(events).values(), reverse=True))


def _merged(left: dict[str, Field], right: Mapping[str, Field]) -> dict[str, Field]:
    """Return the fields of both; `left` itself if the other brings nothing new."""
    merged = left
    for name, field in right.items():
        old = merged.get(name)
        new = field if old is None else _join_field(old, field)
        if new is not old:
            merged = dict(left) if merged is left else merged
            merged[name] = new
    return merged


def _join_field(left: Field, right: Field) -> Field:
    one, other = left.register, right.register
    if one is not None and other is not None and not (left.elements or right.elements or left.rivals or right.rivals):
        first, second = one.stamp, other.stamp
        if first[1] != second[1] or first[:3] != second[:3]:
            return left if first > second else right
    claims = _claims(left)
    added = [_added(claims, element, claim) for element, claim in _listed(right)]
    return _field(claims) if any(added) else left


def _listed(field: Field) -> Iterable[tuple[str | None, Register]]:
    """Yield every claim of a field with its element; those on the whole value come first."""
    if field.register is not None:
        yield None, field.register
    yield from sorted(field.rivals, key=lambda rival: rival.element is not None)
    for text, element in field.elements.items():
        yield text, Register(element.stamp, element.present, True, (), element.actor, element.reason)


def _claims(field: Field) -> _Claims:
    claims: _Claims = {}
    for element, claim in _listed(field):
        claims.setdefault(element, {})[claim.stamp.event] = claim
    return claims


def _added(claims: _Claims, element: str | None, claim: Register) -> bool:
    """Add a claim to those of a field, unless they cover it; return whether it changed them."""
    whole, known = claims.get(None), claims.get(element)
    level, event = claim.stamp.level, claim.stamp.event
    if whole and level < _level(whole):
        return False
    if not known or level > _level(known):
        claims[element] = {event: claim}
        return True
    if level < _level(known):
        return False
    old = known.get(event)
    if old is not None and not _replaces(claim, old):
        return False
    bounded = _bounded({**known, event: claim})
    claims[element] = bounded
    return event in bounded


def _replaces(claim: Register, old: Register) -> bool:
    """Whether a claim replaces one of the same event: at a lesser place, or at the same with a greater text."""
    if claim.stamp != old.stamp:
        return claim.stamp < old.stamp
    return canonical(claim) > canonical(old)


def _bounded(events: dict[tuple[str, ...], _T]) -> dict[tuple[str, ...], _T]:
    """Return at most one event more than can be ranked; the choice does not depend on their order."""
    if len(events) <= EVENTS_MAX + 1:
        return events
    return {event: events[event] for event in sorted(events)[-EVENTS_MAX - 1 :]}


def _level(events: Mapping[tuple[str, ...], Register]) -> Level:
    return next(iter(events.values())).stamp.level


def _field(claims: _Claims) -> Field:
    """Rank the claims on a field: its register, the elements on top of it, and those that lose by their place alone."""
    whole = sorted(claims.get(None, {}).values(), key=_stamp, reverse=True)
    register = whole[0] if whole else None
    elements: dict[str, Element] = {}
    rivals = [Rival(None, claim) for claim in whole[1:]]
    for text, events in claims.items():
        if text is None or (register is not None and _level(events) < register.stamp.level):
            continue
        ranked = sorted(events.values(), key=_stamp, reverse=True)
        first = ranked[0]
        if register is None or first.stamp > register.stamp:
            elements[text] = Element(first.stamp, first.value is True, first.actor, first.reason)
            del ranked[0]
        rivals += [Rival(text, claim) for claim in ranked]
    rivals.sort(key=lambda rival: (rival.element or "", rival.claim.stamp))
    return Field(register, elements or NO_ELEMENTS, tuple(rivals))


def _stamp(claim: Register) -> Stamp:
    return claim.stamp


def _parted(field: Field, released: Stamp) -> tuple[Field | None, Field | None]:
    """Return the claims after a release, and those of its level that it covers by its place alone, each as a field."""
    standing = [(element, claim) for element, claim in _listed(field) if claim.stamp > released]
    under = [(element, claim) for element, claim in _listed(field) if claim.stamp <= released]
    return (_built(standing), _built(under)) if under else (field, None)


def _built(listed: Iterable[tuple[str | None, Register]]) -> Field | None:
    claims: _Claims = {}
    for element, claim in listed:
        claims.setdefault(element, {})[claim.stamp.event] = claim
    return _field(claims) if claims else None


def _cleared(fields: dict[str, Field], floor: Level | None, cut: Level | None) -> dict[str, Field]:
    """Return fields without claims before a release's level or up to a cut; the same object if nothing changes."""
    cleared: dict[str, Field] = {}
    for name, field in fields.items():
        listed = list(_listed(field))
        kept = [
            (element, claim)
            for element, claim in listed
            if (floor is None or claim.stamp.level >= floor) and (cut is None or claim.stamp.level > cut)
        ]
        left = field if len(kept) == len(listed) else _built(kept)
        cleared.update({} if left is None else {name: left})
    unchanged = len(cleared) == len(fields) and all(cleared[name] is field for name, field in fields.items())
    return fields if unchanged else cleared


def _narrowed(row: Desired) -> Desired:
    """
    Return a row of more than `FIELDS_MAX` fields without its oldest levels.

    A field counts by its newest level, which later arrivals can only raise, unless a release covers it. So the levels
    that are cut here would be cut later too, whatever comes in whatever order.
    """
    fields = _merged(row.fields, row.covered)
    newest = sorted((max(claim.stamp.level for _, claim in _listed(field)) for field in fields.values()), reverse=True)
    if len(newest) <= FIELDS_MAX:
        return row
    return _join_covered(row._replace(cut=newest[FIELDS_MAX]), NOTHING_DESIRED)


def superseded(old: Desired, said: Desired, new: Desired) -> Superseded | None:
    """
    Return the events of `said` that left no trace in `new`, its join with `old`; copies do not count.

    Such an event is no error, but after a clock ran ahead, good events lose one after the other. `said` is the fold of
    a batch, so events of one batch that lose to each other do not count.
    """
    known, joined = old.fields, new.fields
    lost_fields = [name for name in said.fields if joined.get(name) == known.get(name)]
    if not lost_fields and said.released is None:
        return None
    won = {newest_stamp(field).event for name, field in said.fields.items() if name not in lost_fields}
    lost: dict[tuple[str, ...], tuple[Stamp, Stamp]] = {}
    for name in lost_fields:
        winner = _winner(known.get(name), new)
        if winner is not None:
            stamp = newest_stamp(said.fields[name])
            lost[stamp.event] = stamp, winner
    if said.released is not None and new.released is not None and said.released.event != new.released.event:
        lost[said.released.event] = said.released, new.released
    pairs = [pair for event, pair in lost.items() if event not in won and event != pair[1].event]
    if not pairs:
        return None
    last, by = max(pairs, key=lambda pair: pair[0].place)
    return Superseded(len(pairs), last, by)


def _winner(field: Field | None, row: Desired) -> Stamp | None:
    return row.released if field is None else newest_stamp(field)
