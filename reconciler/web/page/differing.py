"""
Differing: which parts of two values are not the same, within texts and lists too.

Values are taken apart into words, elements and members, which are compared in order. What both begin and end with is
set aside first; a middle that can't be compared in good time counts as different as a whole: because it is long, or
because the same few words come again and again, which takes the comparison cubic time.

Sides: the fields of a document as desired, live and last agreed, and what differs between them.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import attrs
import msgspec

from reconciler import views
from reconciler.web.page import looks

_TOKENS_MAX: Final = 600
_PAIRS_MAX: Final = 20_000  # of a token here and the same one there
_SAME_MAX: Final = 240  # characters of what is the same, before its middle is left out
_OTHER_MAX: Final = 2_000
_BETWEEN: Final = ", "  # elements and members; no word of a text is like it
_WORD: Final = re.compile(r"\w+|\s+|.", re.DOTALL)


@attrs.frozen
class Part:
    """A piece of a value as it is shown; `left_out` is how many characters stand between it and the next one."""

    text: str
    differs: bool
    left_out: int = 0


def parts(value: object, other: object) -> tuple[Part, ...]:
    """Return a value in pieces, those marked that `other` does not have there. UNSET is unlike any value."""
    if value is msgspec.UNSET:
        return ()
    mine = list(_tokens(value))
    if other is msgspec.UNSET or type(value) is not type(other):
        return tuple(_short([("".join(mine), other is not msgspec.UNSET)]))
    return tuple(_short(_joined(mine, _differing(mine, list(_tokens(other))))))


def _tokens(value: object) -> Iterator[str]:
    match value:
        case str():
            yield from _WORD.findall(looks.of_json(value[: looks.OPENED_MAX]))
        case list():
            yield "["
            for number, element in enumerate(value):
                yield from ([_BETWEEN] if number else [])
                yield looks.of_json(element)
            yield "]"
        case dict():
            yield "{"
            for number, (name, inner) in enumerate(sorted(value.items())):
                yield from ([_BETWEEN] if number else [])
                yield f"{looks.of_json(name)}: "
                yield from _tokens(inner)
            yield "}"
        case _:
            yield looks.of_json(value)


def _differing(mine: Sequence[str], others: Sequence[str]) -> list[bool]:
    """Return, for each token of mine, whether the others lack it there."""
    shortest = min(len(mine), len(others))
    before = next((i for i in range(shortest) if mine[i] != others[i]), shortest)
    behind = next((i for i in range(shortest - before) if mine[-1 - i] != others[-1 - i]), shortest - before)
    middle, against = mine[before : len(mine) - behind], others[before : len(others) - behind]
    marks = [True] * len(middle)
    if len(middle) <= _TOKENS_MAX and len(against) <= _TOKENS_MAX and _pairs(middle, against) <= _PAIRS_MAX:
        # What stands between elements is like none of the others', or it would be matched instead of an element.
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
    """Join neighbours of the same kind; what only stands between belongs to what differs on both of its sides."""
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
    """Leave out the middle of what is long."""
    for text, differs in pieces:
        most = _OTHER_MAX if differs else _SAME_MAX
        if len(text) <= most + 40:  # a little more is shorter than to say that it is left out
            yield Part(text, differs)
            continue
        edge = most // 2
        yield Part(text[:edge], differs, len(text) - 2 * edge)
        yield Part(text[-edge:], differs)


# ---------------------------------------------------------------------------------------------------------------- sides


_ORDER = ("held", "differs", "theirs stands", "agrees", "unmanaged")


@attrs.frozen
class Sides:
    """
    A field with what is marked on each side.

    Desired and live are marked where they differ from each other; what was last agreed, where Windchill has something
    else since. `standing` is held, differs, agrees or unmanaged.
    """

    field: views.documents.Field
    standing: str
    desired: tuple[Part, ...]
    live: tuple[Part, ...]
    base: tuple[Part, ...]


def fields(document: views.documents.Document) -> list[Sides]:
    """Return the fields of a document, those that want something first."""
    return sorted((_sides(field) for field in document.fields), key=lambda one: _ORDER.index(one.standing))


def _sides(field: views.documents.Field) -> Sides:
    if _by_elements(field):  # what was said of each element is not the shape of what Windchill has
        return Sides(field, _standing(field), *(_unmarked(side) for side in (field.desired, field.live, field.base)))
    return Sides(
        field,
        _standing(field),
        parts(field.desired, field.live),
        parts(field.live, field.desired),
        parts(field.base, field.live),
    )


def _unmarked(value: object) -> tuple[Part, ...]:
    return parts(value, msgspec.UNSET)


def _by_elements(field: views.documents.Field) -> bool:
    return isinstance(field.desired, dict) and all(claim.kind in ("add", "remove") for claim in field.claims)


def _standing(field: views.documents.Field) -> str:
    if field.conflict:
        return "held"
    if not field.managed:
        return "unmanaged"
    if field.live == field.desired:
        return "agrees"
    decided = "" if field.decision is None else field.decision.decision
    if _by_elements(field):
        return "agrees" if decided == "keep" else "differs"
    return "theirs stands" if decided in ("keep", "yield") else "differs"
