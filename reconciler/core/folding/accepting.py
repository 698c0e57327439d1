"""
Accepting: what a person has accepted as another form of a wanted value, and when a value counts as such.

Rules of this file:
1. An acceptance is about a pair: the value as it was wanted, and as Windchill stores it. It outlives newer events that
   ask for the same value, and ends with the document's release.
2. `joined` is a join as the fold is: of two words on one wanted value the later one stands, of copies of one event the
   one at the least place. At most `PAIRS_MAX` are kept a field, the latest.
3. Of a list that is merged a pair speaks about the elements in which its two lists differ, and about no other.
"""

from collections.abc import Collection, Mapping
from operator import itemgetter
from typing import Final

import msgspec

from reconciler.core.folding import normalise
from reconciler.model.desired import Accepted, Desired
from reconciler.model.event import Event
from reconciler.model.plan import Pair
from reconciler.model.policy import Normaliser
from reconciler.model.stamp import Level, Stamp
from reconciler.model.value import Json, Missing, canonical

PAIRS_MAX: Final = 64
"""Pairs of one field that are kept; each was typed by a person."""

_Words = Mapping[str, Mapping[str, Accepted]]


def said(event: Event) -> dict[str, dict[str, Accepted]]:
    """Return what an event says was accepted."""
    return {
        name: {canonical(event.set[name]): Accepted(event.stamp, stored, event.actor)}
        for name, stored in event.accept.items()
    }


def joined(left: _Words, right: _Words, released: Stamp | None, cut: Level | None) -> dict[str, dict[str, Accepted]]:
    """Return what both know, but for what is from before a release, or from a level that was let go."""
    found: dict[str, dict[str, Accepted]] = {}
    for name in {**left, **right}:
        words = dict(left.get(name, {}))
        for wanted, word in right.get(name, {}).items():
            words[wanted] = _later(words[wanted], word) if wanted in words else word
        kept = {
            wanted: word
            for wanted, word in words.items()
            if (released is None or word.stamp.level >= released.level) and (cut is None or word.stamp.level > cut)
        }
        if len(kept) > PAIRS_MAX:
            kept = dict(sorted(kept.items(), key=lambda item: (item[1].stamp.event, item[0]))[-PAIRS_MAX:])
        found.update({name: kept} if kept else {})
    return found


def pairs(desired: Desired, name: str) -> tuple[Pair, ...]:
    """Return the pairs that were accepted for a field, in one order, whichever word came first."""
    words = sorted(desired.accepted.get(name, {}).items(), key=itemgetter(0))
    return tuple(Pair(msgspec.json.decode(wanted), word.stored) for wanted, word in words)


def counts_as(
    wanted: Json | Missing, shown: Json | Missing, accepted: Collection[Pair], steps: Collection[Normaliser]
) -> bool:
    """Whether what is shown is what was wanted, or was accepted as such."""
    return normalise.equal(shown, wanted, steps) or any(
        normalise.equal(pair.wanted, wanted, steps) and normalise.equal(pair.stored, shown, steps) for pair in accepted
    )


def _later(one: Accepted, other: Accepted) -> Accepted:
    if one.stamp.event != other.stamp.event:
        return max(one, other, key=lambda word: word.stamp.event)
    if one.stamp != other.stamp:
        return min(one, other, key=lambda word: word.stamp)
    return max(one, other, key=canonical)
