"""A document's story: sentences with what they rest on, so that a terminal or a page can show them."""

from typing import NamedTuple

import attrs


class Reference(NamedTuple):
    """What a sentence rests on: an event, a record's place, a rule, a token, an audit record, a conflict, a command."""

    kind: str
    value: str


@attrs.frozen
class Sentence:
    """One thing that is told. `kind` is asked, acted, shown, decided, answered, again, stands, waits or clashes."""

    kind: str
    text: str
    field: str | None = None
    references: tuple[Reference, ...] = ()


@attrs.frozen
class Chapter:
    """One attempt, or several that came to the same; or an act of a person, which has no records."""

    title: str
    records: tuple[int, ...]
    at_us: int
    until_us: int
    result: str
    sentences: tuple[Sentence, ...]


@attrs.frozen
class Story:
    """How a document's fields stand, and the chapters that led there, oldest first."""

    document: str
    now: tuple[Sentence, ...]
    chapters: tuple[Chapter, ...]
    left_out: int  # earlier chapters that are not told
