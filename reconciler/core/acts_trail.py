"""
The record of acts: whether its records are the ones that were written. The rules are those of `core/trail.py`.

An act is no decision, so nothing is recomputed.
"""

from collections.abc import Iterable

import msgspec

from reconciler.core.trail import Fault, Places, Scope
from reconciler.model import chain, codec
from reconciler.model.chain import Entry, Head


class ActsVerifier:
    """Takes acts in the order in which they stand, and says what is wrong with each; `heads` were kept elsewhere."""

    def __init__(self, scope: Scope, heads: Iterable[Head] = ()) -> None:
        self.places = Places(scope, heads, chain.ACTS_TAG)

    def faults(self, entry: Entry) -> list[Fault]:
        """Return what is wrong with the next entry."""
        texts = self.places.texts(entry)
        document = None
        try:
            act = codec.decode_act(entry.record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            texts.append(f"it is no record of an act: {error}")
        else:
            document = act.document or None
            texts += self.places.columns(entry, act.document, act.at_us)
        return [Fault(entry.number, document, f"act: {text}") for text in texts]

    def missing(self) -> list[Fault]:
        """Return, at the end, what should have come and did not."""
        return [Fault(number, None, f"act: {text}") for number, text in self.places.missing()]
