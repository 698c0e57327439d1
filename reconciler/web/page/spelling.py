"""Spelling: addresses of pages, and the command lines that do what a button does."""

import re
import shlex
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, urlencode

PROGRAM: Final = "reconciler"
_KEYS: Final = re.compile("[\x00-\x1f\x7f-\x9f]")


def command(*words: str, of: str | None = None) -> str:
    """Return a command line; `of` is what it is about, which may look like an option and is none."""
    about = [] if of is None else ["--", of] if of.startswith("-") else [of]
    if about[:1] == ["--"]:
        return _typed((PROGRAM, *words, *about))
    # What it is about stands right behind the words of the command, and options follow.
    options = next((number for number, word in enumerate(words) if word.startswith("-")), len(words))
    return _typed((PROGRAM, *words[:options], *about, *words[options:]))


def _typed(words: Iterable[str]) -> str:
    """Return words as a shell takes them; what a terminal would take for a key is spelled out, even within quotes."""
    return " ".join(_spelled(word) if _KEYS.search(word) else shlex.quote(word) for word in words)


def _spelled(word: str) -> str:
    quoted = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _KEYS.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted) + "'"


def call(origin: str, path: str, body: str, *, with_token: bool) -> str:
    """Return the command line of an API call, for what no command of ours does."""
    token = ' --header "Authorization: Bearer $TOKEN"' if with_token else ""
    given = shlex.join(("--json", body, origin + path))
    return f"curl{token} {given}"


def document(key: str) -> str:
    """Return the address of a document's page; a key of dots alone can't have one, as browsers tidy it away."""
    return f"/documents?q={quote(key)}" if key in (".", "..") else f"/documents/{quote(key, safe='')}"


def conflict(id: str) -> str:
    """Return the address of a conflict's page."""
    return f"/conflicts/{quote(id, safe='')}"


def letter(id: str) -> str:
    """Return the address of a dead letter's page."""
    return f"/dead-letters/{quote(id, safe='')}"


def address(path: str, **query: object) -> str:
    """Return an address with those parameters that say something."""
    said = {name: str(value) for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(said)}" if said else path
