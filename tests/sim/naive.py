"""
The log folded a second time, as simply as possible: all records sorted by stamp and carried out one after the other.

It shares nothing with `core.fold`, which is a join and never sorts. The stamps are put together here too, from what the
producers of this world know of the records they have written.
"""

from collections.abc import Iterable
from typing import Any

import attrs

from reconciler.model.desired import Desired
from reconciler.model.stamp import Stamp
from reconciler.model.value import canonical

# time, sequence, topic, partition, offset, source, id
Rank = tuple[str, str, str, int, int, str, str]
# time, sequence, source, id: what makes an event this one and no other, wherever its record stands
Identity = tuple[str, str, str, str]


@attrs.frozen
class Fact:
    """One record of the change log, as its producer knows it."""

    key: str
    rank: Rank
    set: dict[str, Any] = attrs.field(factory=dict)
    add: dict[str, list[str]] = attrs.field(factory=dict)
    remove: dict[str, list[str]] = attrs.field(factory=dict)
    release: tuple[str, ...] = ()
    expect: dict[str, Any] = attrs.field(factory=dict)
    released: bool = False

    @property
    def identity(self) -> Identity:
        return event_of(self.rank)

    @property
    def order(self) -> tuple[str, str]:
        """All that ranks two events but for where their records stand."""
        return self.rank[:2]

    @property
    def names(self) -> frozenset[str]:
        """The fields that it asks something of."""
        return frozenset((*self.set, *self.add, *self.remove))


@attrs.frozen
class Claim:
    """The last `set` or `release` of a field."""

    rank: Rank
    value: Any
    managed: bool
    expect: tuple[Any, ...]


@attrs.define
class Claims:
    """Everything that stands about one field."""

    whole: Claim | None = None
    elements: dict[str, tuple[Rank, bool]] = attrs.field(factory=dict)

    @property
    def managed(self) -> bool:
        return bool(self.elements) or (self.whole is not None and self.whole.managed)

    @property
    def newest(self) -> Rank:
        ranks = [rank for rank, _ in self.elements.values()]
        return max(ranks + ([self.whole.rank] if self.whole else []))


@attrs.define
class Row:
    """What the log says of one document."""

    fields: dict[str, Claims] = attrs.field(factory=dict)
    released: Rank | None = None

    def managed(self) -> dict[str, Claims]:
        return {name: claims for name, claims in sorted(self.fields.items()) if claims.managed}

    def plain(self) -> str:
        """A canonical text, to compare with."""
        fields = {
            name: [attrs.astuple(claims.whole) if claims.whole else None, claims.elements]
            for name, claims in self.fields.items()
        }
        return canonical([fields, self.released])


def follows(rank: Rank, agreed: Rank) -> bool:
    """Whether a claim is newer than an agreed one, and another event's."""
    return rank > agreed and event_of(rank) != event_of(agreed)


def project(facts: Iterable[Fact]) -> dict[str, Row]:
    """Carry out events in the order of their stamps, each once: where its record, or a copy of it, first stood."""
    rows: dict[str, Row] = {}
    events: dict[tuple[str, Identity], Fact] = {}
    for fact in sorted(facts, key=lambda fact: fact.rank):
        events.setdefault((fact.key, fact.identity), fact)
    for fact in events.values():
        row = rows.setdefault(fact.key, Row())
        if fact.released:
            row.fields, row.released = {}, fact.rank
        for name, value in fact.set.items():
            expect = (fact.expect[name],) if name in fact.expect else ()
            row.fields[name] = Claims(Claim(fact.rank, value, True, expect))
        for name in fact.release:
            row.fields[name] = Claims(Claim(fact.rank, None, False, ()))
        for present, changes in ((True, fact.add), (False, fact.remove)):
            for name, values in changes.items():
                for value in values:
                    claims = row.fields.setdefault(name, Claims())
                    claims.elements[canonical(value)] = (fact.rank, present)
    return rows


def plain(desired: Desired) -> str:
    """The store's row in the words of `Row.plain`."""
    fields = {
        name: [
            None
            if field.register is None
            else (
                _rank(field.register.stamp),
                field.register.value,
                field.register.managed,
                field.register.expect,
            ),
            {text: (_rank(element.stamp), element.present) for text, element in field.elements.items()},
        ]
        for name, field in desired.fields.items()
    }
    return canonical([fields, None if desired.released is None else _rank(desired.released)])


def event_of(rank: Rank) -> Identity:
    """Which event has this rank."""
    time, sequence, _, _, _, source, name = rank
    return time, sequence, source, name


def _rank(stamp: Stamp) -> Rank:
    _, *rest = stamp
    return tuple(rest)  # type: ignore[return-value]  # everything but the lead
