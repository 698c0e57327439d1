"""
Accepting: forms of a wanted value that a person has accepted, and whether a live value is one of them.

Rules of this file:
1. An acceptance is a pair: the wanted value, and the form in which Windchill stores it. It outlives newer events that
   request the same value, and ends with the document's release.
2. `joined` is a join as the fold is: of two acceptances of one wanted value the later one wins, of copies of one event
   the one at the least place. Each field keeps the latest `PAIRS_MAX`.
3. For a list that is merged, a pair covers only the elements in which its two lists differ.
"""

from collections.abc import Collection, Mapping
from operator import itemgetter
from typing import Final

import msgspec

from reconciler.core.folding import normalise
from reconciler.model.desired import Accepted, Desired
from reconciler.model.event import NO_MORE, Event
from reconciler.model.plan import Pair
from reconciler.model.policy import Normaliser
from reconciler.model.stamp import Level, Stamp
from reconciler.model.value import Json, Missing, canonical

PAIRS_MAX: Final = 64
"""The most pairs of one field; each was typed by a person."""

_Acceptances = Mapping[str, Mapping[str, Accepted]]  # by field, then by the canonical text of the wanted value


def said(event: Event) -> dict[str, dict[str, Accepted]]:
    """Return the acceptances of an event."""
    return {
        name: {canonical(event.set[name]): Accepted(event.stamp, stored, event.actor)}
        for name, stored in (event.more or NO_MORE).accept.items()
    }


def joined(
    left: _Acceptances, right: _Acceptances, released: Stamp | None, cut: Level | None
) -> dict[str, dict[str, Accepted]]:
    """Return the acceptances of both, without those from before a release or up to a cut."""
    found: dict[str, dict[str, Accepted]] = {}
    for name in {**left, **right}:
        both = dict(left.get(name, {}))
        for wanted, one in right.get(name, {}).items():
            both[wanted] = _later(both[wanted], one) if wanted in both else one
        kept = {
            wanted: one
            for wanted, one in both.items()
            if (released is None or one.stamp.level >= released.level) and (cut is None or one.stamp.level > cut)
        }
        if len(kept) > PAIRS_MAX:
            kept = dict(sorted(kept.items(), key=lambda item: (item[1].stamp.event, item[0]))[-PAIRS_MAX:])
        found.update({name: kept} if kept else {})
    return found


def pairs(desired: Desired, name: str) -> tuple[Pair, ...]:
    """Return the pairs that were accepted for a field, in an order that does not depend on their arrival."""
    found = sorted(desired.accepted.get(name, {}).items(), key=itemgetter(0))
    return tuple(Pair(msgspec.json.decode(wanted), one.stored) for wanted, one in found)


def counts_as(
    wanted: Json | Missing, shown: Json | Missing, accepted: Collection[Pair], steps: Collection[Normaliser]
) -> bool:
    """Whether a shown value is the wanted one, or was accepted as a form of it."""
    return normalise.equal(shown, wanted, steps) or any(
        normalise.equal(pair.wanted, wanted, steps) and normalise.equal(pair.stored, shown, steps) for pair in accepted
    )


def _later(one: Accepted, other: Accepted) -> Accepted:
    if one.stamp.event != other.stamp.event:
        return max(one, other, key=lambda accepted: accepted.stamp.event)
    if one.stamp != other.stamp:
        return min(one, other, key=lambda accepted: accepted.stamp)
    return max(one, other, key=canonical)
