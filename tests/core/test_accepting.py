"""Acceptances read the same, in whichever order their words came."""

from reconciler.core.folding import accepting
from reconciler.model.desired import Accepted, Desired
from reconciler.model.stamp import Stamp

STAMP = Stamp("", "2026-11-22T10:00:00.000000Z", "", "decisions", 0, 1, "//reconciler/operators", "1")
ONE, OTHER = Accepted(STAMP, "x", "jdoe"), Accepted(STAMP, None, "jdoe")


def test_pairs_come_in_one_order_whichever_word_came_first() -> None:
    first = Desired({}, None, accepted={"owner": {'"a"': ONE, "null": OTHER}})
    second = Desired({}, None, accepted={"owner": {"null": OTHER, '"a"': ONE}})
    assert accepting.pairs(first, "owner") == accepting.pairs(second, "owner")
