"""
Gathering: many events of many documents → rows by event (`Claims`), joined with the stored ones. A replay's hot path.

Rules of this file:
1. `join` of two rows by event is `fold.join` of the same rows by field, down to the bytes, and `Gathered` joins what
   each of its events says. So all laws of the fold hold here.
2. Where one look at two events of a field tells which is the later one, nothing is built and the later event is kept.
   Everything else goes to `fold.join`: events of one level, rows with releases or elements or too many fields.

Theory of operation: a claim on a field is worth no more than the event that made it. So for each field a batch notes
the newest event, and that is the row already; most events lose and cost nothing more.
"""

from collections.abc import Iterable, Iterator, Mapping

import attrs

from reconciler.core.folding import fold
from reconciler.model.desired import NOTHING_DESIRED, Claims, Desired
from reconciler.model.document import Superseded
from reconciler.model.event import Event
from reconciler.model.value import same


@attrs.frozen(eq=False)
class Gathered(Mapping[str, Claims]):
    """
    What a batch of events says about each document, as a row by key.

    `newest` has the newest event of each field, by document. It pays to add the newest events first. What this cannot
    rank is in `joined`.
    """

    newest: dict[str, dict[str, Event]] = attrs.field(factory=dict)
    joined: dict[str, Desired] = attrs.field(factory=dict)

    def add(self, events: Iterable[Event]) -> None:
        """Add what events say."""
        newest = self.newest
        for event in events:
            fields, key, more = event[10:]
            known = newest.get(key)
            if more is not None:
                newest.setdefault(key, {})
                self._join(key, fold.lift(event))
                continue
            if known is None:
                known = newest[key] = dict.fromkeys(fields, event)
            else:
                for name in fields:
                    old = known.setdefault(name, event)
                    if old is not event:
                        if old[1] == event[1] and old[:3] == event[:3]:  # of one level: their places decide
                            self._join(key, fold.lift(event))
                        elif old < event:
                            known[name] = event
            if len(known) > fold.FIELDS_MAX:
                self._join(key, self[key].desired())
                newest[key] = {}

    def __getitem__(self, key: str) -> Claims:
        """Return what the events say about one of the documents."""
        row = Claims(self.newest[key])
        return join(row, Claims.of(self.joined[key])) if key in self.joined else row

    def __iter__(self) -> Iterator[str]:
        return iter(self.newest)

    def __len__(self) -> int:
        return len(self.newest)

    def _join(self, key: str, row: Desired) -> None:
        self.joined[key] = fold.join(self.joined.get(key, NOTHING_DESIRED), row)


def join(left: Claims, right: Claims) -> Claims:
    """Return the join of two rows, or `left` itself if nothing changes."""
    if not (left.plain and right.plain):
        return _joined(left, right)
    newest = left.newest
    for name, event in right.newest.items():
        old = newest.get(name)
        if old is not None and old[1] == event[1] and old[:3] == event[:3]:
            if old[:10] != event[:10] or not same(old.set[name], event.set[name]):
                return _joined(left, right)
        elif old is None or old < event:
            newest = dict(newest) if newest is left.newest else newest
            newest[name] = event
    if len(newest) > fold.FIELDS_MAX:
        return _joined(left, right)
    return left if newest is left.newest else left._replace(newest=newest)


def superseded(old: Claims, said: Claims, new: Claims) -> Superseded | None:
    """Return the events of `said` that left no trace in `new`, its join with `old` (`fold.superseded`)."""
    newest = new.newest
    if said.plain and all(newest.get(name) is event for name, event in said.newest.items()):
        return None
    return fold.superseded(old.desired(), said.desired(), new.desired())


def _joined(left: Claims, right: Claims) -> Claims:
    before = left.desired()
    after = fold.join(before, right.desired())
    return left if after is before else Claims.of(after)
