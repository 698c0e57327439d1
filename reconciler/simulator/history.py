"""
The history of every accepted write, and what it proves about lost updates.

Rules: an entry is made in the same step that makes the new version, so history and documents can't disagree. Nothing
is judged while recording; the functions below judge, and they are pure, so that a test can run them over a history that
it fetched from another machine.

Theory. The tokens of one document form a chain: each entry leads from its token before to its token after. A writer who
sends a guard says "I have seen the chain up to here". If the write is accepted although the chain has gone on, then
everything between the guard and the write happened unseen, and a field changed in there by someone else, which the
write changes again, is a lost update: someone's edit is gone and nobody decided that it should be.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Literal

from attrs import frozen

from reconciler.simulator.fields import Changes

Kind = Literal["rest", "rival", "control"]
ANY = "*"
"""The guard of `If-Match: *`, which matches every version and so guards nothing."""


@frozen
class Writer:
    """Who is writing, through which door, and the guard token sent, if any."""

    who: str
    kind: Kind
    guard: str | None = None


@frozen
class Entry:
    """One accepted write."""

    sequence: int
    """1 onwards over all documents, without gaps."""
    time: datetime
    """UTC."""
    document: str
    who: str
    kind: Kind
    guard: str | None
    """The token sent in `If-Match`, without its quotes and dress; None when none was sent."""
    before: str | None
    """The token that the write found; None for a new document."""
    after: str | None
    """The token that it left; None for a deletion."""
    changes: Changes
    """Dotted path → (old, new); empty when the write changed nothing."""

    @property
    def unguarded(self) -> bool:
        """Whether nothing bound this write to a version."""
        return self.guard is None or self.guard == ANY


@frozen
class LostUpdate:
    """Somebody's edit, and the write that undid it without having seen it."""

    field: str
    lost: Entry
    by: Entry


class History:
    """A bounded log of entries; the oldest are forgotten first."""

    def __init__(self, entries_max: int) -> None:
        self._entries: deque[Entry] = deque(maxlen=entries_max)
        self.last = 0

    def record(
        self, time: datetime, document: str, writer: Writer, tokens: tuple[str | None, str | None], changes: Changes
    ) -> Entry:
        """Append one accepted write; `tokens` are those before and after."""
        self.last += 1
        entry = Entry(self.last, time, document, writer.who, writer.kind, writer.guard, *tokens, changes)
        self._entries.append(entry)
        return entry

    @property
    def newest(self) -> Entry:
        """The entry recorded last; IndexError while there is none."""
        return self._entries[-1]

    @property
    def forgotten(self) -> int:
        """How many entries the bound has pushed out."""
        return self.last - len(self._entries)

    def after(self, sequence: int, document: str | None = None, limit: int | None = None) -> list[Entry]:
        """Entries with a greater sequence number, oldest first, of one document or of all."""
        start = max(0, sequence - self.forgotten)
        found = (entry for entry in islice(self._entries, start, None) if document in (None, entry.document))
        return list(islice(found, limit))


def as_json(entry: Entry) -> dict[str, Any]:
    """The entry as the control API shows it."""
    return {
        "sequence": entry.sequence,
        "time": entry.time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "document": entry.document,
        "who": entry.who,
        "kind": entry.kind,
        "guard": entry.guard,
        "before": entry.before,
        "after": entry.after,
        "changes": {path: list(pair) for path, pair in entry.changes.items()},
        "changed_nothing": not entry.changes,
    }


def from_json(shown: Mapping[str, Any]) -> Entry:
    """The entry that `as_json` showed."""
    changes = {path: (old, new) for path, (old, new) in shown["changes"].items()}
    given = {name: shown[name] for name in ("sequence", "document", "who", "kind", "guard", "before", "after")}
    return Entry(time=datetime.fromisoformat(shown["time"]), **given, changes=changes)


def unguarded(history: Iterable[Entry]) -> list[Entry]:
    """REST writes accepted without a guard: no `If-Match`, or `If-Match: *`."""
    return [entry for entry in history if entry.kind == "rest" and entry.unguarded]


def stale_writes(history: Iterable[Entry], writer: str) -> list[Entry]:
    """Writes by `writer` that were accepted with a guard other than the token they found: the guard wasn't enforced."""
    return [entry for entry in history if entry.who == writer and not entry.unguarded and entry.guard != entry.before]


def lost_updates(history: Iterable[Entry], writer: str) -> list[LostUpdate]:
    """
    The updates that writes by `writer` lost, one for each field and each edit lost.

    A write by `writer` loses an update when
    - it was accepted with a guard older than the document's token before it (the guard wasn't enforced, or absent), and
    - it changes a field that someone else changed between the guarded token and the write.

    A guard stands for the version with that token. A write without a guard (or with `*`) proves nothing about what
    its writer had seen; it is taken to rest on the writer's own last write to the document, or on the document's first
    known version. The same holds for a guard that the history doesn't know. So for unguarded writes this is an upper
    bound: the writer may have read later without the history knowing. Pass whole histories: edits that were forgotten
    can't be found lost.
    """
    chains: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in history:
        chains[entry.document].append(entry)
    return [lost for chain in chains.values() for lost in _lost_in(chain, writer)]


def _lost_in(chain: Sequence[Entry], writer: str) -> list[LostUpdate]:
    """`chain` is all entries of one document, oldest first."""
    found: list[LostUpdate] = []
    made_at = {chain[0].before: 0} | {entry.after: index + 1 for index, entry in enumerate(chain)}
    own_last = 0
    for index, entry in enumerate(chain):
        if entry.who != writer:
            continue
        seen = own_last if entry.unguarded else _seen(entry, made_at, index, own_last)
        found += [
            LostUpdate(field, other, entry)
            for other in chain[seen:index]
            if other.who != writer
            for field in sorted(other.changes.keys() & entry.changes.keys())
        ]
        own_last = index + 1
    return found


def _seen(entry: Entry, made_at: Mapping[str | None, int], index: int, own_last: int) -> int:
    """How many entries of the chain the guard proves to have been seen."""
    if entry.guard == entry.before:
        return index
    return made_at.get(entry.guard, own_last)
