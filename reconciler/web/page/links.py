"""Addresses of pages, and command lines that do the same as a button."""

import re
import shlex
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote, urlencode

PROGRAM: Final = "reconciler"
_KEYS: Final = re.compile("[\x00-\x1f\x7f-\x9f]")


def command(*words: str, of: str | None = None) -> str:
    """Return a command line; `of` is its argument, which may look like an option."""
    about = [] if of is None else ["--", of] if of.startswith("-") else [of]
    if about[:1] == ["--"]:
        return _typed((PROGRAM, *words, *about))
    # The argument follows the words of the command; options come last.
    options = next((number for number, word in enumerate(words) if word.startswith("-")), len(words))
    return _typed((PROGRAM, *words[:options], *about, *words[options:]))


def _typed(words: Iterable[str]) -> str:
    """Return words quoted for a shell; control characters are escaped, since a terminal would act on them."""
    return " ".join(_spelled(word) if _KEYS.search(word) else shlex.quote(word) for word in words)


def _spelled(word: str) -> str:
    quoted = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _KEYS.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted) + "'"


def document(key: str) -> str:
    """Return the address of a document's page; keys of dots alone have none, since browsers shorten them."""
    return f"/documents?q={quote(key)}" if key in (".", "..") else f"/documents/{quote(key, safe='')}"


def conflict(id: str) -> str:
    """Return the address of a conflict's page."""
    return f"/conflicts/{quote(id, safe='')}"


def letter(id: str) -> str:
    """Return the address of a dead letter's page."""
    return f"/dead-letters/{quote(id, safe='')}"


def address(path: str, **query: object) -> str:
    """Return an address with the parameters that are not empty."""
    said = {name: str(value) for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(said)}" if said else path


def pages(path: str, next_cursor: str | None, **query: object) -> dict[str, Any]:
    """Return the addresses of the first and of the next page of a list, for its template."""
    following = next_cursor and address(path, **query, after=next_cursor)
    return {"first": address(path, **query), "next": following}
