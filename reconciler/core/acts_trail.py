"""
The record of acts: whether its records are the ones that were written. The rules are those of `core/trail.py`.

An act is no decision, so nothing is recomputed.
"""

from collections.abc import Iterable, Iterator

import msgspec

from reconciler.core.trail import Fault
from reconciler.model import chain, codec
from reconciler.model.chain import Entry, Head


class ActsVerifier:
    """Takes the entries in the order of their numbers, from the first on, and says what is wrong with each."""

    def __init__(self, heads: Iterable[Head] = ()) -> None:
        self.head: Head | None = None  # of the last entry, as it is stored
        self._kept = set(heads)

    def faults(self, entry: Entry) -> list[Fault]:
        """Return what is wrong with the next entry."""
        last = self.head or chain.BEGIN
        texts = list(self._texts(entry, last))
        document = None
        try:
            act = codec.decode_act(entry.record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            texts.append(f"it is no record of an act: {error}")
        else:
            document = act.document or None
            if entry.columns != (act.document.encode(), str(act.at_us).encode()):
                texts.append(f"it is filed under another document or time than its own ({act.document}, {act.at_us})")
        self.head = Head(entry.number, entry.link)
        return [Fault(entry.number, document, f"act: {text}") for text in texts]

    def missing(self) -> list[Fault]:
        """Return, at the end, what should have come and did not."""
        return [
            Fault(head.number, None, f"act: it was kept as the head {head}, and there is no such record")
            for head in sorted(self._kept)
        ]

    def _texts(self, entry: Entry, last: Head) -> Iterator[str]:
        if entry.number < 1:
            yield "no record has such a number"
            return
        adjoins = entry.number == last.number + 1
        if not adjoins:
            before = entry.number <= last.number
            yield f"it stands after record {last.number}" if before else "records before it are missing"
        previous = last.link if adjoins else entry.previous
        if previous is not None and chain.link(previous, entry.number, entry.record, chain.ACTS_TAG) != entry.link:
            yield "its link is not that of its content after the record before"
        kept = {head for head in self._kept if head.number == entry.number}
        self._kept -= kept
        for head in sorted(kept - {Head(entry.number, entry.link)}):
            yield f"it was kept as the head {head}, and its link is now {entry.link.hex()}"
