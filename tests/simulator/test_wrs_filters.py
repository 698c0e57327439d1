from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.simulator.wrs import query
from reconciler.simulator.wrs.query import Comparison, Malformed

ROW = {
    "Number": "O'Brien",
    "Title": "Bracket 12, drawing",
    "Latest": True,
    "Note": None,
    "State/Value": "INWORK",
    "LastModified": datetime(2026, 1, 5, 8, tzinfo=UTC),
}


# `and` binds more tightly than `or`.
MATCHING = [
    *("Number eq 'O''Brien'", "State/Value eq 'INWORK'", "Number ge 'O' and Number lt 'P'", "Latest", "Note ne 'x'"),
    *("Number eq 'a' or Number eq 'O''Brien'", "LastModified ge 2026-01-05T10:00:00+02:00"),
    "Number gt 'A' or Number eq 'a' and Latest eq false",
]
OTHERS = [
    *("Number ne 'O''Brien'", "Latest eq false", "Note lt 'x'", "Note eq 'x'", "LastModified gt 2026-01-05T08:00:00Z"),
    "(Number gt 'A' or Number eq 'a') and Latest eq false",
]


@pytest.mark.parametrize(
    ("text", "expected"), [*((text, True) for text in MATCHING), *((text, False) for text in OTHERS)]
)
def test_a_row_matches_as_the_filter_says(text: str, expected: bool) -> None:
    assert query.matcher(query.parse(text))(ROW.__getitem__) is expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "Number eq", "Number eq 'x", "Number eq 'x' and", "Number == 'x'", "'x' eq Number", "(Number eq 'x'"),
        *("Number eq 'x')", "Number eq 'x' Title eq 'y'", "Number in ('x')", "true"),
        *("not Latest", "startswith(Title,'x')"),
        *("LastModified ge 2026-13-05T08:00:00Z", "LastModified ge 2026-01-05T10:00:00 02:00"),
        "(" * 100 + "Latest" + ")" * 100,
    ],
)
def test_malformed_filters_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        query.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Number eq 'a'", {"a"}),
        ("Number eq 'a' or Number eq 'b'", {"a", "b"}),
        ("Latest eq true and (Number eq 'a' or Number eq 'b')", {"a", "b"}),
        ("Number eq 'a' and Number eq 'b'", set()),
        ("Number eq 'a' or Latest eq true", None),
        ("Number ne 'a'", None),
        ("Latest eq true", None),
    ],
)
def test_the_documents_that_a_filter_can_find_are_known_beforehand(text: str, expected: set[Any] | None) -> None:
    assert query.bound(query.parse(text), "Number") == expected


def test_each_comparison_of_a_filter_can_be_changed() -> None:
    tree = query.parse("Latest eq true and (Latest eq false or Title ne 'x')")
    changed = query.adjusted(tree, lambda found: Comparison("Latest", "eq", True))
    assert changed == query.parse("Latest eq true and (Latest eq true or Latest eq true)")
