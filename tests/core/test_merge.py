"""Merge: the decision table of README.md, "Policy: who wins", cell by cell, said a second time."""

import itertools

import pytest
from msgspec import structs

from reconciler.core.planning import merge
from reconciler.model.plan import Verb
from reconciler.model.policy import Adopt, Rule, Strategy

EARLIER, LATER = "2026-11-22T10:00:00.000000Z", "2026-11-22T10:00:01.000000Z"
COLUMNS = ["external", "preserve", "merge", "newest", "hold", "fill"]
# As printed in the contract. "?" stands for what the next tests say: overlap, newest, blank.
TABLE = """
    agreed   keep   keep   keep   keep   keep   keep
    ours     write  write  write  write  write  ?
    theirs   write  yield  yield  yield  hold   keep
    both     write  yield  ?      ?      hold   ?
    neither  write  keep   keep   keep   keep   keep
"""
FACTS = {"agreed": (True, True, True), "ours": (False, True, False), "theirs": (False, False, True)} | {
    "both": (False, True, True),
    "neither": (False, False, False),
}
CELLS = [
    (row, column, verb)
    for row, *verbs in map(str.split, TABLE.strip().splitlines())
    for column, verb in zip(COLUMNS, verbs, strict=True)
    if verb != "?"
]


def rule(strategy: str, on_overlap: str = "hold", on_adopt: Adopt | None = None) -> Rule:
    return Rule(("*",), Strategy(strategy), Strategy(on_overlap), on_adopt)


def moves(row: str, *, blank: bool = False, claimed_at: str = LATER, modified_at: str | None = EARLIER) -> merge.Moves:
    agreed, ours, theirs = FACTS[row]
    return merge.Moves(agreed, ours, theirs, blank, claimed_at, modified_at)


@pytest.mark.parametrize(("row", "column", "verb"), CELLS)
def test_each_cell_of_the_table(row, column, verb):
    for blank, modified_at in itertools.product((False, True), (None, EARLIER, LATER)):
        ruling = merge.decide(moves(row, blank=blank, modified_at=modified_at), rule(column))
        assert ruling.verb == verb


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize(("ours", "theirs"), list(itertools.product((False, True), repeat=2)))
def test_where_both_sides_agree_nothing_else_counts(column, ours, theirs):
    agreed = structs.replace(moves("agreed"), ours=ours, theirs=theirs)
    assert merge.decide(agreed, rule(column)).verb is Verb.KEEP
    assert merge.adopt(agreed, rule(column, on_adopt=Adopt.WRITE)).verb is Verb.KEEP


@pytest.mark.parametrize("row", ["ours", "both"])
def test_fill_writes_where_nothing_is_and_keeps_what_is_there(row):
    assert merge.decide(moves(row, blank=True), rule("fill")).verb is Verb.WRITE
    assert merge.decide(moves(row, blank=False), rule("fill")).verb is Verb.KEEP


@pytest.mark.parametrize(("on_overlap", "verb"), [("hold", "hold"), ("external", "write"), ("preserve", "yield")])
def test_on_overlap_decides_where_both_moved_under_merge(on_overlap, verb):
    ruling = merge.decide(moves("both"), rule("merge", on_overlap))
    assert ruling.verb == verb
    assert ruling.reason.overlap == on_overlap


@pytest.mark.parametrize("newest", [rule("newest"), rule("merge", "newest")])
def test_newest_takes_the_later_and_asks_where_no_time_is_known(newest):
    assert merge.decide(moves("both", claimed_at=LATER, modified_at=EARLIER), newest).verb is Verb.WRITE
    assert merge.decide(moves("both", claimed_at=EARLIER, modified_at=LATER), newest).verb is Verb.YIELD
    assert merge.decide(moves("both", claimed_at=LATER, modified_at=LATER), newest).verb is Verb.YIELD
    assert merge.decide(moves("both", modified_at=None), newest).verb is Verb.HOLD


@pytest.mark.parametrize(
    ("claimed", "modified", "verb"),
    [
        ("10:00:00.500000Z", "10:00:00.499999Z", "write"),
        ("10:00:00.500000Z", "10:00:00.500000Z", "yield"),
        ("10:00:00.500000Z", "10:00:00.500001Z", "yield"),
        ("10:00:00.999999Z", "10:00:00.000000Z", "yield"),  # shown to the second: it may be from 10:00:00.9999999
        ("10:00:01.000000Z", "10:00:00.000000Z", "write"),
        ("10:00:00.000000Z", "10:00:00.000000Z", "yield"),
    ],
)
def test_a_modification_without_a_fraction_may_be_from_anywhere_in_its_second(claimed, modified, verb):
    both = moves("both", claimed_at=f"2026-11-22T{claimed}", modified_at=f"2026-11-22T{modified}")
    assert merge.decide(both, rule("newest")).verb == verb
    assert merge.adopt(both, rule("merge")).verb == verb


@pytest.mark.parametrize("column", [name for name in COLUMNS if name != "merge"])
def test_on_overlap_means_nothing_to_other_strategies(column):
    for row, on_overlap in itertools.product(FACTS, ["external", "preserve", "newest"]):
        assert merge.decide(moves(row), rule(column, on_overlap)) == merge.decide(moves(row), rule(column))


AMBIGUOUS = {"external": "write", "preserve": "yield", "merge": "yield", "newest": "yield", "hold": "hold"}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("on_adopt", [None, *Adopt])
def test_a_document_untouched_since_the_event_is_adopted_as_ours(column, on_adopt):
    for first_sight in (moves("both"), moves("ours", modified_at=LATER), moves("ours", modified_at=None)):
        ruling = merge.adopt(first_sight, rule(column, on_adopt=on_adopt))
        assert ruling.verb == ("keep" if column == "fill" else "write")
        assert ruling.reason.code.startswith("adopted")


@pytest.mark.parametrize("modified_at", [LATER, "2026-11-22T10:00:02.000000Z", None])
def test_a_document_modified_since_the_event_or_at_an_unknown_time_is_adopted_with_care(modified_at):
    first_sight = moves("both", modified_at=modified_at)
    for column, verb in AMBIGUOUS.items():
        assert merge.adopt(first_sight, rule(column)).verb == verb
        for on_adopt in Adopt:
            assert merge.adopt(first_sight, rule(column, on_adopt=on_adopt)).verb == on_adopt.value
    assert merge.adopt(first_sight, rule("fill")).verb is Verb.KEEP
    assert merge.adopt(structs.replace(first_sight, blank=True), rule("fill")).verb is Verb.WRITE
