"""
Tokens of the dialect `wrs`: which iteration was read, and its state then. Only this package parses them.

A token is the iteration's ID and either its ETag, byte for byte, or a digest of what it showed:
`OR:wt.doc.WTDocument:48796553 W/"5"`, `OR:wt.doc.WTDocument:48796553#9f86d081884c7d65`. The ID is percent-encoded, so
it contains neither a space nor `#`.
"""

import hashlib
from collections.abc import Mapping
from urllib.parse import quote, unquote

import attrs

from reconciler.model.snapshot import Token
from reconciler.model.value import canonical

_DIGEST_CHARACTERS = 32  # 128 bits: no two readings of one document will be equal


@attrs.frozen
class Place:
    """The parts of a token: the iteration that was read, and its ETag if the server gave one."""

    id: str
    etag: Token | None = None


def guarded(id: str, etag: Token) -> Token:
    """Return the token of an iteration with an ETag."""
    return Token(f"{_said(id)} {etag}")


def seen(id: str, shown: Mapping[str, object]) -> Token:
    """Return the token of an iteration that is recognised by what it showed."""
    digest = hashlib.sha256(canonical(shown).encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return Token(f"{_said(id)}#{digest}")


def place(token: Token) -> Place | None:
    """Return the parts of a token, None if it is of another dialect (one that was configured before)."""
    said, space, etag = token.partition(" ")
    if not space:
        said, mark, _ = token.partition("#")
        if not mark:
            return None
    try:
        named = unquote(said, errors="strict")
    except UnicodeDecodeError:
        return None
    return Place(named, Token(etag) if space else None) if named and _said(named) == said else None


def _said(id: str) -> str:
    return quote(id, safe=":")
