"""Snapshots: one read of a document, and the opaque token it was read at."""

from collections.abc import Iterable
from typing import NewType

import msgspec
from msgspec import structs

from reconciler.model.policy import Normaliser
from reconciler.model.value import MISSING, Json, Missing

# Opaque: replayed byte for byte with its quotes and `W/`, never parsed, never ordered (RFC 9110 section 8.8.3).
Token = NewType("Token", str)


class Snapshot(msgspec.Struct, frozen=True):
    """What Windchill showed at one moment: the body as read, the token, when and by whom it was last modified."""

    key: str
    body: dict[str, Json]
    token: Token | None
    modified_at: str | None = None  # canonical instant
    modified_by: str | None = None
    type: str | None = None
    last_modified: str | None = None  # the `Last-Modified` header as it came, for `If-Modified-Since`
    unreadable: frozenset[str] = frozenset()  # fields the server hides: never compared, never written
    read_only: tuple[str, ...] = ()  # identity, and fields that the server itself sets: no write may name them
    assumed: tuple[str, ...] = ()  # fields of a write of ours that the server answered with a token alone: not yet seen
    later_portions: tuple[tuple[str, ...], ...] = ()  # groups of fields, each written alone after the ordinary fields
    iterates: bool = False  # a write of its ordinary fields makes a new version, which people see
    locked_by_us: bool = False  # by our account: a write of ours was cut short, or a person uses the account
    type_normalisers: dict[str, tuple[Normaliser, ...]] = {}  # by field: as its type compares

    def value(self, field: str) -> Json | Missing:
        """
        Return the value at a dotted path, `MISSING` when there is none.

        A member whose own name contains the dots is found first: `{"a.b": 1}` answers to `a.b`.
        """
        return _find(self.body, field)

    def portion(self, field: str) -> int:
        """Return the number of the portion that a field is written in: 0 for ordinary fields, then `later_portions`."""
        for place, group in enumerate(self.later_portions, 1):
            if field in group:
                return place
        return 0

    def locked_for(self, fields: Iterable[str]) -> bool:
        """Whether a write of these fields, all of one portion, locks the document and makes a new version."""
        return self.iterates and not any(map(self.portion, fields))

    def in_the_way(self, field: str) -> str | None:
        """Return the part of a dotted path that holds a value other than an object, so that nothing fits within it."""
        return _in_the_way(self.body, field)

    def with_fields(self, fields: dict[str, Json], token: Token | None) -> "Snapshot":
        """
        Return this snapshot as it is after a write of `fields` that the server answered with `token` alone.

        By what name we are known there is not said.
        """
        body = self.body
        for field, value in fields.items():
            body = _replaced(body, field, value)
        assumed = tuple(sorted({*self.assumed, *fields}))
        return structs.replace(self, body=body, token=token, modified_by=None, last_modified=None, assumed=assumed)


class Sighting(msgspec.Struct, frozen=True):
    """A document in a list of changes: enough to tell whether it has moved since it was last read."""

    key: str
    token: Token


def _find(body: dict[str, Json], path: str) -> Json | Missing:
    if path in body:
        return body[path]
    head, dot, rest = path.partition(".")
    inner = body.get(head) if dot else None
    return _find(inner, rest) if isinstance(inner, dict) else MISSING  # type: ignore[arg-type]  # Json is not recursive


def _in_the_way(body: dict[str, Json], path: str) -> str | None:
    head, dot, rest = path.partition(".")
    inner = body.get(head)
    if path in body or not dot or inner is None:
        return None
    if not isinstance(inner, dict):
        return head
    deeper = _in_the_way(inner, rest)  # type: ignore[arg-type]  # Json is not recursive
    return None if deeper is None else f"{head}.{deeper}"


def _replaced(body: dict[str, Json], path: str, value: Json) -> dict[str, Json]:
    head, dot, rest = path.partition(".")
    if path in body or not dot:
        return {**body, path: value}
    inner = body.get(head)
    return {**body, head: _replaced(inner if isinstance(inner, dict) else {}, rest, value)}  # type: ignore[arg-type,dict-item]  # Json is not recursive
