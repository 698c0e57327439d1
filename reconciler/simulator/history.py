"""
The history of every accepted write, and what it proves about lost updates.

Rules: the step that makes a new version also makes its entry, so history and documents can't disagree. Recording
judges nothing. The functions below do, and they are pure, so that a test can run them over a history from another
machine.

Theory. The tokens of one document form a chain: each entry leads from its token before to its token after. A writer who
sends a guard says "I have seen the chain up to here". If the write is accepted although the chain has gone on, then
everything between the guard and the write happened unseen, and a field changed in there by someone else, which the
write changes again, is a lost update: someone's edit is gone although no one decided that.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Literal

from attrs import asdict, frozen

from reconciler.simulator.fields import Changes

Kind = Literal["rest", "rival", "control"]
Way = Literal["CheckIn", "patch", "SetState", "UpdateCommonProperties", "Revise"]
OUTSIDE: frozenset[str | None] = frozenset(("SetState", "UpdateCommonProperties"))
"""Ways that no check-out guards."""
ANY = "*"
"""The guard of `If-Match: *`, which matches every version and so guards nothing."""


@frozen
class Writer:
    """Who is writing, in which way, and the guard token sent, if any."""

    who: str
    kind: Kind
    guard: str | None = None
    way: Way | None = None
    seen: str | None = None


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
    """
    The version that the write is bound to, None for none: the bare token sent in `If-Match`; or, for the check-in of a
    working copy, the token of the last version that its holder had read when changing it. A holder who has read the
    working copy has read the version that it was made from.
    """
    before: str | None
    """The token that the write found; None for a new document."""
    after: str | None
    """The token that it left; None for a deletion."""
    changes: Changes
    """Dotted path → (old, new); empty when the write changed nothing."""
    way: Way | None = None
    """How it was made, in the dialect `wrs`: under a check-out, by a PATCH without one, or by an action outside it."""
    seen: str | None = None
    """The token last shown to the writer, for a write without a guard; None: unknown."""

    @property
    def unguarded(self) -> bool:
        """Whether nothing bound this write to a version."""
        return self.guard is None or self.guard == ANY

    @property
    def outside(self) -> bool:
        """Whether this is an action that no check-out can guard, sent without any other guard."""
        return self.way in OUTSIDE and self.unguarded

    @property
    def in_place(self) -> bool:
        """Whether it changed the iteration in place, as only the dialect `wrs` does."""
        return self.way not in (None, "CheckIn", "Revise")


@frozen
class LostUpdate:
    """An edit, and the write that undid it unseen."""

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
        told = (writer.way, writer.seen)
        entry = Entry(self.last, time, document, writer.who, writer.kind, writer.guard, *tokens, changes, *told)
        self._entries.append(entry)
        return entry

    @property
    def newest(self) -> Entry:
        """The entry recorded last; IndexError while there is none."""
        return self._entries[-1]

    @property
    def forgotten(self) -> int:
        """How many entries were dropped to stay within the limit."""
        return self.last - len(self._entries)

    def after(self, sequence: int, document: str | None = None, limit: int | None = None) -> list[Entry]:
        """Entries with a greater sequence number, oldest first, of one document or of all."""
        start = max(0, sequence - self.forgotten)
        found = (entry for entry in islice(self._entries, start, None) if document in (None, entry.document))
        return list(islice(found, limit))


def as_json(entry: Entry) -> dict[str, Any]:
    """The entry as the control API shows it."""
    shown = asdict(entry, recurse=False)
    shown["time"] = entry.time.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return shown | {"changed_nothing": not entry.changes}


def from_json(shown: Mapping[str, Any]) -> Entry:
    """The entry that `as_json` showed."""
    members = {name: value for name, value in shown.items() if name != "changed_nothing"}
    members["time"] = datetime.fromisoformat(shown["time"])
    members["changes"] = {path: (old, new) for path, (old, new) in shown["changes"].items()}
    return Entry(**members)


def unguarded(history: Iterable[Entry]) -> list[Entry]:
    """
    REST writes accepted without a guard: no `If-Match` or `If-Match: *`, and no check-out that was looked into.

    Not among them are actions that can't have one; `outside` has those.
    """
    return [entry for entry in history if entry.kind == "rest" and entry.unguarded and not entry.outside]


def outside(history: Iterable[Entry]) -> list[Entry]:
    """REST writes by actions that no check-out guards: a race remains, which `lost_updates` judges by what was seen."""
    return [entry for entry in history if entry.kind == "rest" and entry.outside]


def stale_writes(history: Iterable[Entry], writer: str) -> list[Entry]:
    """Writes by `writer` that were accepted with a guard other than the token they found: the guard wasn't enforced."""
    return [entry for entry in history if entry.who == writer and not entry.unguarded and entry.guard != entry.before]


def lost_updates(history: Iterable[Entry], writer: str) -> list[LostUpdate]:
    """
    The updates that writes by `writer` lost, one for each field and each edit lost.

    A write by `writer` loses an update when
    - it was accepted with a guard older than the document's token before it (the guard wasn't enforced, or absent), and
    - it changes a field that someone else changed between the guarded token and the write.

    A guard means the version with that token. A write without a guard (or with `*`), or with an unknown one, does not
    show what its writer had seen. If the history knows (`seen`), that counts; else the writer's own last write to the
    document, or its first known version. So for unguarded writes this is an upper bound: the writer may have read more.
    Pass whole histories: edits that were dropped can't be found lost.
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
        seen = _seen(entry.seen if entry.unguarded else entry.guard, entry, made_at, index, own_last)
        found += [
            LostUpdate(field, other, entry)
            for other in chain[seen:index]
            if other.who != writer
            for field in sorted(other.changes.keys() & entry.changes.keys())
        ]
        own_last = index + 1
    return found


def _seen(proof: str | None, entry: Entry, made_at: Mapping[str | None, int], index: int, own_last: int) -> int:
    """How many entries of the chain were seen, by this proof."""
    if proof is None:
        return own_last
    if proof == entry.before:
        return index
    return made_at.get(proof, own_last)
