"""
Refolding: what is left of an agreement once its document's row was folded again from the log.

By the rules of today an earlier claim may not count any more. What was agreed on it keeps its value and loses its
stamp: otherwise no claim that is left, and none that is still to come, would be newer than it.
"""

import attrs

from reconciler.core.folding import fold
from reconciler.model.base import Agreed
from reconciler.model.desired import Desired
from reconciler.model.document import Agreement
from reconciler.model.stamp import LEAST, Stamp


def standing(agreement: Agreement, desired: Desired) -> Agreement:
    """Return an agreement without the stamps that are later than every claim of a row that was folded again."""
    fields = {
        name: _standing(agreed, fold.newest_stamp(desired.fields[name])) if name in desired.fields else agreed
        for name, agreed in agreement.base.fields.items()
    }
    return attrs.evolve(agreement, base=attrs.evolve(agreement.base, fields=fields))


def before(agreement: Agreement, latest: str) -> Agreement:
    """Return an agreement without the stamps of claims from after `latest`: none of those can count."""
    fields = {
        name: agreed._replace(stamp=None) if agreed.stamp is not None and agreed.stamp.time > latest else agreed
        for name, agreed in agreement.base.fields.items()
    }
    return attrs.evolve(agreement, base=attrs.evolve(agreement.base, fields=fields))


def _standing(agreed: Agreed, newest: Stamp) -> Agreed:
    elements = {text: LEAST if stamp.level > newest.level else stamp for text, stamp in agreed.elements.items()}
    void = agreed.stamp is not None and agreed.stamp.level > newest.level
    return Agreed(agreed.value, None if void else agreed.stamp, elements)
