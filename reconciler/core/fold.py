"""
Fold: events → desired state, as a join.

Rules of this file:
1. `join` is commutative, associative and idempotent, and `steps(d, events)` equals joining `d` with each
   `lift(event)`; `into` does that for many documents. So any order, any duplicates and any split of a set of records
   give the same rows, the same bytes.
2. What is covered is dropped: elements not newer than their register, and everything not newer than the document's
   release. Dropping commutes with joining, because a later arrival that is older than the cover is dropped as well.
3. When nothing changes the very same object comes back, so that callers can tell by `is`.

Theory of operation: a field's value is a last-writer-wins register with element registers on top (DESIGN section 4).
The greatest stamp wins. Two claims with one stamp can only be one record seen twice, or two that pretend to be (a topic
made anew under its old name); then the greater canonical text wins, so that even this has one outcome.
"""

import functools
from collections.abc import Iterable

from reconciler.model.desired import NO_ELEMENTS, NOTHING_DESIRED, Desired, Element, Field, Register
from reconciler.model.event import Event
from reconciler.model.stamp import Stamp
from reconciler.model.value import canonical

# Building the tuples in C: the generated `__new__` of a named tuple costs twice as much.
_new_field = functools.partial(tuple.__new__, Field)
_new_register = functools.partial(tuple.__new__, Register)


def step(desired: Desired, event: Event) -> Desired:
    """Fold one event into a document's row."""
    return steps(desired, (event,))


def steps(desired: Desired, events: Iterable[Event]) -> Desired:
    """Fold several events of one document into its row."""
    rows: dict[str, Desired] = {}
    into(rows, events)
    for row in rows.values():
        desired = join(desired, row)
    return desired


def into(rows: dict[str, Desired], events: Iterable[Event]) -> None:
    """
    Fold events into the rows that `rows` has for their documents; the hot path of every replay.

    The rows are the caller's own, made by this function: their fields are changed in place. What loses is never built,
    so whoever has a choice folds the newest event first.
    """
    for event in events:
        key, stamp, fields, elements, release, expect, released, actor, reason = event
        row = rows.get(key)
        if row is None:
            rows[key] = lift(event)
        elif released or elements or release or row.released is not None:
            rows[key] = join(row, lift(event))
        else:
            known = row.fields
            for name, value in fields.items():
                old = known.get(name)
                if old is not None and old.register is not None and old.register.stamp > stamp:
                    continue
                expected = (expect[name],) if name in expect else ()
                new = _new_field((_new_register((stamp, value, True, expected, actor, reason)), NO_ELEMENTS))
                known[name] = new if old is None else _join_field(old, new)


def lift(event: Event) -> Desired:
    """Return the row that says exactly what one event says."""
    stamp, actor, reason = event.stamp, event.actor, event.reason
    if event.released:
        return Desired({}, stamp)
    fields: dict[str, Field] = {}
    for name, value in event.set.items():
        expect = (event.expect[name],) if name in event.expect else ()
        fields[name] = _new_field((_new_register((stamp, value, True, expect, actor, reason)), NO_ELEMENTS))
    for name in event.release:
        fields[name] = Field(Register(stamp, None, False, (), actor, reason), NO_ELEMENTS)
    for name, elements in event.elements.items():
        claims = {text: Element(stamp, present, actor, reason) for text, present in elements.items()}
        fields[name] = Field(None, claims)
    return Desired(fields, None)


def join(left: Desired, right: Desired) -> Desired:
    """Return the row that knows what both know."""
    released = _later(left.released, right.released)
    fields = left.fields if released is left.released else _not_covered(left.fields, released)
    merged = dict(fields)
    theirs = right.fields if released is right.released else _not_covered(right.fields, released)
    changed = fields is not left.fields or released is not left.released
    for name, field in theirs.items():
        old = merged.get(name)
        new = field if old is None else _join_field(old, field)
        if new is not old:
            merged[name] = new
            changed = True
    return Desired(merged, released) if changed else left


def managed(desired: Desired) -> dict[str, Field]:
    """Return the fields that somebody still wants managed."""
    return {name: field for name, field in desired.fields.items() if is_managed(field)}


def is_managed(field: Field) -> bool:
    """Whether a field's claims ask for anything: a managed register, or elements."""
    return bool(field.elements) or (field.register is not None and field.register.managed)


def newest_stamp(field: Field) -> Stamp:
    """Return the greatest stamp among a field's claims."""
    stamps = [element.stamp for element in field.elements.values()]
    if field.register is not None:
        stamps.append(field.register.stamp)
    return max(stamps)


def _later(left: Stamp | None, right: Stamp | None) -> Stamp | None:
    if left is None or right is None:
        return left or right
    return max(left, right)


def _join_field(left: Field, right: Field) -> Field:
    register = _greater(left.register, right.register)
    elements = left.elements
    if not elements and not right.elements:
        return left if register is left.register else right
    if right.elements:
        merged = dict(left.elements)
        for text, element in right.elements.items():
            old = merged.get(text)
            merged[text] = element if old is None else _greater_element(old, element)
        elements = merged
    if register is not None and elements:
        elements = _after(elements, register.stamp)
    if register is left.register and elements == left.elements:
        return left
    return Field(register, elements)


def _greater(left: Register | None, right: Register | None) -> Register | None:
    if left is None or right is None:
        return left or right
    if left.stamp != right.stamp:
        return right if right.stamp > left.stamp else left
    return right if canonical(right) > canonical(left) else left


def _greater_element(left: Element, right: Element) -> Element:
    if left.stamp != right.stamp:
        return right if right.stamp > left.stamp else left
    return right if canonical(right) > canonical(left) else left


def _after(elements: dict[str, Element], stamp: Stamp) -> dict[str, Element]:
    return {text: element for text, element in elements.items() if element.stamp > stamp}


def _not_covered(fields: dict[str, Field], released: Stamp | None) -> dict[str, Field]:
    if released is None:
        return fields
    left: dict[str, Field] = {}
    for name, field in fields.items():
        register = field.register if field.register is not None and field.register.stamp > released else None
        elements = _after(field.elements, released) if field.elements else field.elements
        if register is not None or elements:
            left[name] = Field(register, elements)
    return left


__all__ = ["NOTHING_DESIRED", "into", "is_managed", "join", "lift", "managed", "newest_stamp", "step", "steps"]
