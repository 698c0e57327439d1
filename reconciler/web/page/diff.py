"""
Which parts of two values differ, also within texts and lists, for one value and for the fields of a document.

Values are split into words, elements and members, which are compared in order. The common beginning and end are set
aside first. A middle that would take too long to compare is marked as a whole: because it is long, or because the same
few words repeat, which makes the comparison cubic.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import attrs
import msgspec

from reconciler import views
from reconciler.web.page import formatting

_TOKENS_MAX: Final = 600
_PAIRS_MAX: Final = 20_000  # pairs of equal tokens
_SAME_MAX: Final = 240  # characters of an equal part before its middle is left out
_OTHER_MAX: Final = 2_000
_BETWEEN: Final = ", "  # between elements and members; never a word of a text
_WORD: Final = re.compile(r"\w+|\s+|.", re.DOTALL)


@attrs.frozen
class Part:
    """A piece of a value; `left_out` is the number of characters omitted after it."""

    text: str
    differs: bool
    left_out: int = 0


def parts(value: object, other: object) -> tuple[Part, ...]:
    """Return a value in pieces, marking those that `other` does not have there."""
    if value is msgspec.UNSET:
        return ()
    mine = list(_tokens(value))
    if other is msgspec.UNSET or type(value) is not type(other):
        return tuple(_short([("".join(mine), other is not msgspec.UNSET)]))
    return tuple(_short(_joined(mine, _differing(mine, list(_tokens(other))))))


def _tokens(value: object) -> Iterator[str]:
    match value:
        case str():
            yield from _WORD.findall(formatting.of_json(value[: formatting.OPENED_MAX]))
        case list():
            yield "["
            for number, element in enumerate(value):
                yield from ([_BETWEEN] if number else [])
                yield formatting.of_json(element)
            yield "]"
        case dict():
            yield "{"
            for number, (name, inner) in enumerate(sorted(value.items())):
                yield from ([_BETWEEN] if number else [])
                yield f"{formatting.of_json(name)}: "
                yield from _tokens(inner)
            yield "}"
        case _:
            yield formatting.of_json(value)


def _differing(mine: Sequence[str], others: Sequence[str]) -> list[bool]:
    """Return, for each token, whether the other value lacks it there."""
    shortest = min(len(mine), len(others))
    before = next((i for i in range(shortest) if mine[i] != others[i]), shortest)
    behind = next((i for i in range(shortest - before) if mine[-1 - i] != others[-1 - i]), shortest - before)
    middle, against = mine[before : len(mine) - behind], others[before : len(others) - behind]
    marks = [True] * len(middle)
    if len(middle) <= _TOKENS_MAX and len(against) <= _TOKENS_MAX and _pairs(middle, against) <= _PAIRS_MAX:
        # Separators match nothing, or they would be matched instead of elements.
        alike = difflib.SequenceMatcher(
            None, middle, [None if token == _BETWEEN else token for token in against], autojunk=False
        )
        for block in alike.get_matching_blocks():
            marks[block.a : block.a + block.size] = [False] * block.size
    return [False] * before + marks + [False] * behind


def _pairs(mine: Sequence[str], others: Sequence[str]) -> int:
    counted = Counter(token for token in others if token != _BETWEEN)
    return sum(counted[token] for token in mine)


def _joined(tokens: Sequence[str], marks: Sequence[bool]) -> Iterator[tuple[str, bool]]:
    """Join neighbours of the same kind; a separator between two differing parts differs too."""
    kept: list[str] = []
    kind = False
    for number, (token, differs) in enumerate(zip(tokens, marks, strict=True)):
        both = kind and number + 1 < len(tokens) and marks[number + 1]
        now = both if token == _BETWEEN else differs or (both and not token.strip())
        if now != kind and kept:
            yield "".join(kept), kind
            kept = []
        kind = now
        kept.append(token)
    if kept:
        yield "".join(kept), kind


def _short(pieces: Iterable[tuple[str, bool]]) -> Iterator[Part]:
    """Leave out the middle of long pieces."""
    for text, differs in pieces:
        most = _OTHER_MAX if differs else _SAME_MAX
        if len(text) <= most + 40:  # the note about the omission would be longer
            yield Part(text, differs)
            continue
        edge = most // 2
        yield Part(text[:edge], differs, len(text) - 2 * edge)
        yield Part(text[-edge:], differs)


# ---------------------------------------------------------------------------------------------------------------- sides


_ORDER = ("held", "differs", "Windchill's value kept", "in sync", "unmanaged")


@attrs.frozen
class Sides:
    """
    A field with the marked parts of its three values.

    Desired and live are marked where they differ; the last agreed value, where Windchill has changed it since. `state`
    is one of _ORDER.
    """

    field: views.documents.Field
    state: str
    desired: tuple[Part, ...]
    live: tuple[Part, ...]
    base: tuple[Part, ...]


def fields(document: views.documents.Document) -> list[Sides]:
    """Return the fields of a document, those that need attention first."""
    return sorted((_sides(field) for field in document.fields), key=lambda one: _ORDER.index(one.state))


def _sides(field: views.documents.Field) -> Sides:
    if _by_elements(field):  # claims on elements don't have the shape of Windchill's value
        return Sides(field, _state(field), *(_unmarked(side) for side in (field.desired, field.live, field.base)))
    return Sides(
        field,
        _state(field),
        parts(field.desired, field.live),
        parts(field.live, field.desired),
        parts(field.base, field.live),
    )


def _unmarked(value: object) -> tuple[Part, ...]:
    return parts(value, msgspec.UNSET)


def _by_elements(field: views.documents.Field) -> bool:
    return isinstance(field.desired, dict) and all(claim.kind in ("add", "remove") for claim in field.claims)


def _state(field: views.documents.Field) -> str:
    if field.conflict:
        return "held"
    if not field.managed:
        return "unmanaged"
    if field.live == field.desired:
        return "in sync"
    decided = "" if field.decision is None else field.decision.decision
    if _by_elements(field):
        return "in sync" if decided == "keep" else "differs"
    return "Windchill's value kept" if decided in ("keep", "yield") else "differs"
