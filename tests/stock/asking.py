"""`$filter` as an OData service reads it: comparisons, `and`, `or`, `not`, brackets. A predicate comes of it."""

import operator
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

ZONE = timezone(timedelta(hours=2))  # of the server
Row = Mapping[str, Any]
Test = Callable[[Row], bool]

_WORDS = re.compile(r"\s*([()]|'(?:[^']|'')*'|[^\s()']+)")
_COMPARED = {name: getattr(operator, name) for name in ("eq", "ne", "gt", "lt", "ge", "le")}


class Unreadable(Exception):
    """No filter of ours; the message says where."""


def predicate(said: str, *, by_time: bool) -> Test:
    """The test that a filter is. Times count by their date alone, in the server's zone, unless `by_time`."""
    words = _WORDS.findall(said)
    if "".join(words) != re.sub(r"\s+(?=(?:[^']*'[^']*')*[^']*$)", "", said):
        raise Unreadable(said)
    test, rest = _either(words, by_time)
    if rest:
        raise Unreadable(rest[0])
    return test


def _either(words: list[str], by_time: bool) -> tuple[Test, list[str]]:
    tests, words = _chain(words, by_time, "or", _both)
    return (lambda row: any(test(row) for test in tests)), words


def _both(words: list[str], by_time: bool) -> tuple[Test, list[str]]:
    tests, words = _chain(words, by_time, "and", _one)
    return (lambda row: all(test(row) for test in tests)), words


def _chain(
    words: list[str], by_time: bool, link: str, part: Callable[[list[str], bool], tuple[Test, list[str]]]
) -> tuple[list[Test], list[str]]:
    test, words = part(words, by_time)
    tests = [test]
    while words[:1] == [link]:
        test, words = part(words[1:], by_time)
        tests.append(test)
    return tests, words


def _one(words: list[str], by_time: bool) -> tuple[Test, list[str]]:
    if words[:1] == ["not"]:
        inner, rest = _one(words[1:], by_time)
        return (lambda row: not inner(row)), rest
    if words[:1] == ["("]:
        inner, rest = _either(words[1:], by_time)
        if rest[:1] != [")"]:
            raise Unreadable("no closing bracket")
        return inner, rest[1:]
    if len(words) < 3 or words[1] not in _COMPARED:
        raise Unreadable(" ".join(words))
    name, compared, wanted = words[0], _COMPARED[words[1]], _literal(words[2], by_time)
    return (lambda row: bool(compared(_seen(row.get(name), by_time), wanted))), words[3:]


def _literal(word: str, by_time: bool) -> Any:
    if word.startswith("'"):
        return word[1:-1].replace("''", "'")
    if word in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[word]
    try:
        return _moment(datetime.fromisoformat(word), by_time)
    except ValueError:
        raise Unreadable(word) from None


def _seen(value: Any, by_time: bool) -> Any:
    return _moment(value, by_time) if isinstance(value, datetime) else value


def _moment(value: datetime, by_time: bool) -> Any:
    return value if by_time else value.astimezone(ZONE).date()
