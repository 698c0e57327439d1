from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.simulator.wrs import query
from reconciler.simulator.wrs.query import Comparison, Malformed

ROW = {
    "Number": "O'Brien",
    "Title": "Bracket 12, drawing",
    "Weight": 2.5,
    "Sheets": 3,
    "Latest": True,
    "Note": None,
    "State/Value": "INWORK",
    "LastModified": datetime(2026, 1, 5, 8, tzinfo=UTC),
}


# `and` binds more tightly than `or`, `not` more tightly than both.
MATCHING = [
    *("Number eq 'O''Brien'", "State/Value eq 'INWORK'", "Weight ge 2.5", "Weight lt 1e1 and Sheets le 3"),
    *("Sheets eq 4 or Sheets eq 3", "Latest", "Note eq null", "Note ne 'x'", "Title ne null"),
    *("startswith(Title,'Bracket')", "endswith(Title, 'drawing')", "contains(Title,'12,') eq true"),
    *("not contains(Title,'x') and not (Sheets eq 4)", "LastModified ge 2026-01-05T10:00:00+02:00"),
    *("Number in ('a','O''Brien')", "Sheets eq 3 or Sheets eq 4 and Latest eq false", "not Latest or Sheets eq 3"),
]
OTHERS = [
    *("Number ne 'O''Brien'", "Weight gt 2.5", "not Latest", "Latest eq false", "Note ne null", "Note lt 'x'"),
    *("startswith(Title,'bracket')", "contains(Title,'12,') eq false", "contains(Note,'x')"),
    *("LastModified gt 2026-01-05T08:00:00Z", "Number in ('a')"),
    "(Sheets eq 3 or Sheets eq 4) and Latest eq false",
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
        *("Number eq 'x')", "Number eq 'x' Title eq 'y'", "Number in ()", "Number in 'x'", "null"),
        *("startswith(Title)", "startswith(Title,3)", "startswith(Title,'x') eq 'y'"),
        *("LastModified ge 2026-13-05T08:00:00Z", "LastModified ge 2026-01-05T10:00:00 02:00"),
        "(" * 100 + "Latest" + ")" * 100,
    ],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        query.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Number eq 'a'", {"a"}),
        ("Number eq 'a' or Number eq 'b'", {"a", "b"}),
        ("Latest eq true and (Number eq 'a' or Number in ('b','c'))", {"a", "b", "c"}),
        ("Number eq 'a' and Number eq 'b'", set()),
        ("Number eq 'a' or Latest eq true", None),
        ("not (Number eq 'a')", None),
        ("Number ne 'a'", None),
        ("Latest eq true", None),
    ],
)
def test_the_documents_that_a_filter_can_find_are_known_beforehand(text: str, expected: set[Any] | None) -> None:
    assert query.bound(query.parse(text), "Number") == expected


def test_each_comparison_of_a_filter_can_be_changed() -> None:
    tree = query.parse("Latest eq true and not (Latest eq true or startswith(Title,'x'))")
    changed = query.adjusted(tree, lambda found: Comparison("Latest", "eq", True))
    assert changed == query.parse("Latest eq true and not (Latest eq true or Latest eq true)")
