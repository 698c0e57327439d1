"""
Tokens: who may sign in, from a file without secrets.

A line is `NAME ROLE SHA256 [SOURCE ...]`; the hash is that of the token in 64 hexadecimal digits, and # starts a
comment. With sources (globs), the holder may append only their events. A token has 256 random bits, so its plain hash
need not be kept secret.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterator, Sequence

import attrs
import structlog

from reconciler.errors import ConfigError
from reconciler.web.principal import ANY, Principal, Role, usual_sources

_log = structlog.get_logger(__name__)

NAME = r"[A-Za-z0-9._@+-]{1,64}"
PREFIX = "rec_"  # lets people and secret scanners recognise a token
_BYTES = 32
_HASH = re.compile(r"[0-9a-f]{64}")
_SOURCE = re.compile(r"[^\s#]+")
_SOURCES_CHARS_MAX = 1000  # they are kept in cookies


@attrs.frozen
class Token:
    """One line of the file: a principal and the hash of their token."""

    who: Principal
    digest: str = attrs.field(repr=False)


def fresh() -> str:
    """Return a new token."""
    return PREFIX + secrets.token_urlsafe(_BYTES)


def line(who: Principal, token: str) -> str:
    """Return the line for a token."""
    sources = () if who.sources == ANY else who.sources
    return " ".join((who.name, who.role.name.lower(), _digest(token), *sources))


def parse(text: str, where: str) -> tuple[Token, ...]:
    """Return the tokens of a file; raises ConfigError naming the line, without quoting it: it may be a token."""
    found: dict[str, Token] = {}
    for number, content in enumerate(text.splitlines(), 1):
        words = content.partition("#")[0].split()
        if not words:
            continue
        fault = _fault(words)
        if not fault and words[2].lower() in found:
            fault = "duplicate of the token in an earlier line"
        if fault:
            raise ConfigError(
                f"{where}:{number}: {fault}; create such a line with `reconciler token NAME --role viewer`"
            )
        name, role, digest, *sources = words
        who = Principal(name, Role[role.upper()], sources=tuple(sources) or usual_sources(Role[role.upper()]))
        found[digest.lower()] = Token(who, digest.lower())
    if not found:
        raise ConfigError(f"{where}: contains no token, so no one could sign in; create one with `reconciler token`")
    return tuple(found.values())


def _fault(words: list[str]) -> str:
    if len(words) < 3:
        return f"must be NAME ROLE SHA256 [SOURCE ...], not {len(words)} words"
    if not re.fullmatch(NAME, words[0]):
        return "NAME must have at most 64 letters, digits and . _ @ + -"
    if words[1].upper() not in Role.__members__:
        return f"ROLE must be one of {', '.join(_roles())}"
    if not _HASH.fullmatch(words[2].lower()):
        return "SHA256 must have 64 hexadecimal digits: the token's hash, not the token"
    return sources_fault(Role[words[1].upper()], words[3:])


def sources_fault(role: Role, sources: Sequence[str]) -> str:
    """Return what is wrong with the sources of a token; empty if they are fine."""
    if role is Role.PRODUCER and not sources:
        return "a producer needs the sources that it may append events for, such as //erp/*"
    if role is Role.VIEWER and sources:
        return "a viewer can't append events, so it can't have sources"
    if sum(map(len, sources)) > _SOURCES_CHARS_MAX or not all(map(_SOURCE.fullmatch, sources)):
        return f"sources must have no blanks and no #, and at most {_SOURCES_CHARS_MAX} characters together"
    return ""


def _roles() -> Iterator[str]:
    return (role.lower() for role in Role.__members__)


class TokenFile:
    """The current tokens of a file, which is read with `read` at each use."""

    def __init__(self, read: Callable[[], str], where: str) -> None:
        self._read = read
        self._where = where
        self._text: str | None = None
        self._tokens: tuple[Token, ...] = ()
        self._fault = ""  # that was logged

    def tokens(self) -> tuple[Token, ...]:
        """
        Return the tokens in force; raises ConfigError.

        While the file can't be used, no token works, not even a former one: the change may have revoked it.
        """
        try:
            text = self._read()
            if text != self._text:
                self._tokens = parse(text, self._where)
                self._text = text
                _log.info("tokens loaded", file=self._where, tokens=len(self._tokens))
        except ConfigError as error:
            if self._fault != str(error):
                self._fault = str(error)
                _log.error("no one can sign in", reason=str(error))
            raise
        self._fault = ""
        return self._tokens

    def find(self, given: str) -> Principal | None:
        """Return the owner of a token, `None` if it is unknown."""
        token = self.token(given)
        return None if token is None else token.who

    def token(self, given: str) -> Token | None:
        """Return the line of a token, `None` if it is unknown."""
        return self.with_digest(_digest(given))

    def with_digest(self, digest: str) -> Token | None:
        """Return the line with a digest, in a time that does not depend on which line matches."""
        found = None
        for token in self.tokens():
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()
