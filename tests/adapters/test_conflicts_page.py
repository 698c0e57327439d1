"""docs/conflicts-409.md: the program takes each answer of its table as the page says."""

import re
from pathlib import Path

import msgspec
import pytest

from reconciler.adapters import refusals
from reconciler.adapters.replies import Reply
from reconciler.model.answer import Refused, Throttled, Unguarded, VersionConflict

PAGE = (Path(__file__).parents[2] / "docs" / "conflicts-409.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d{3}) `([^`]+)` \|", PAGE, re.MULTILINE)
FIELDS = ("status", "attributes.CostCenter")


def meant(status: str, message: str) -> object:
    body = msgspec.json.encode({"error": {"message": message}})
    reply = Reply(int(status), {b"content-type": b"application/json"}, body)
    if status == "409" and refusals.is_lock(message):
        return refusals.holder(reply)
    return refusals.of_write(reply, FIELDS, message, None)


def test_each_answer_means_what_the_page_says() -> None:
    found = [meant(*row) for row in ROWS]
    conflict, refused = VersionConflict, Refused
    said = [one if isinstance(one, str) else type(one) for one in found]
    assert said == [conflict, conflict, conflict, "jdoe", refused, refused, Unguarded, Throttled]
    assert found[4].perhaps_stale, "it is read once more, to be sure"
    assert found[5].fields == ("attributes.CostCenter",), "the field that is named is held"


@pytest.mark.parametrize("word", ["412", "428", "fresh ETag", "checked out by", "current state"])
def test_the_page_has_the_words_that_people_search_for(word: str) -> None:
    assert word in PAGE
