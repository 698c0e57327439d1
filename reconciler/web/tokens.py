"""
Tokens: who may come in, from a file that holds no secret.

A line is `NAME ROLE SHA256 [SOURCE …]`, the hash being that of the token in 64 hexadecimal digits; # begins a comment.
With sources (globs) its holder may append events of these alone. A token is
made of 256 random bits, so its plain hash can be kept where others may read it: nobody finds a token that fits.
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
PREFIX = "rec_"  # so that whoever finds one somewhere, a scanner for instance, knows what it is
_BYTES = 32
_HASH = re.compile(r"[0-9a-f]{64}")
_SOURCE = re.compile(r"[^\s#]+")
_SOURCES_CHARS_MAX = 1000  # they are kept in cookies


@attrs.frozen
class Token:
    """One line: somebody, and what a token of theirs hashes to."""

    who: Principal
    digest: str = attrs.field(repr=False)


def fresh() -> str:
    """Return a new token."""
    return PREFIX + secrets.token_urlsafe(_BYTES)


def line(who: Principal, token: str) -> str:
    """Return the line that lets in whoever shows this token."""
    sources = () if who.sources == ANY else who.sources
    return " ".join((who.name, who.role.name.lower(), _digest(token), *sources))


def parse(text: str, where: str) -> tuple[Token, ...]:
    """Return what a file says; raises ConfigError naming the line. Nothing is quoted: it may be a token itself."""
    found: dict[str, Token] = {}
    for number, content in enumerate(text.splitlines(), 1):
        words = content.partition("#")[0].split()
        if not words:
            continue
        fault = _fault(words)
        if not fault and words[2].lower() in found:
            fault = "the same token stands in an earlier line"
        if fault:
            raise ConfigError(f"{where}:{number}: {fault}; `reconciler token NAME --role viewer` makes such a line")
        name, role, digest, *sources = words
        who = Principal(name, Role[role.upper()], sources=tuple(sources) or usual_sources(Role[role.upper()]))
        found[digest.lower()] = Token(who, digest.lower())
    if not found:
        raise ConfigError(f"{where}: holds no token, so nobody could come in; make one by `reconciler token`")
    return tuple(found.values())


def _fault(words: list[str]) -> str:
    if len(words) < 3:
        return f"must be NAME ROLE SHA256 and perhaps sources, not {len(words)} words"
    if not re.fullmatch(NAME, words[0]):
        return "NAME has at most 64 letters, digits and . _ @ + -"
    if words[1].upper() not in Role.__members__:
        return f"ROLE is one of {', '.join(_roles())}"
    if not _HASH.fullmatch(words[2].lower()):
        return "SHA256 must have 64 hexadecimal digits: the token's hash, not the token"
    return sources_fault(Role[words[1].upper()], words[3:])


def sources_fault(role: Role, sources: Sequence[str]) -> str:
    """Return what is wrong with the sources of a token; empty: nothing."""
    if role is Role.PRODUCER and not sources:
        return "a producer needs the sources whose events it may append, such as //erp/*"
    if role is Role.VIEWER and sources:
        return "a viewer appends no events, so it has no sources"
    if sum(map(len, sources)) > _SOURCES_CHARS_MAX or not all(map(_SOURCE.fullmatch, sources)):
        return f"sources are without blanks and #, and have at most {_SOURCES_CHARS_MAX} characters together"
    return ""


def _roles() -> Iterator[str]:
    return (role.lower() for role in Role.__members__)


class Keyring:
    """The tokens of a file, as it is now: `read` returns its text, and is asked each time. Raises ConfigError."""

    def __init__(self, read: Callable[[], str], where: str) -> None:
        self._read = read
        self._where = where
        self._text: str | None = None
        self._tokens: tuple[Token, ...] = ()
        self._fault = ""  # that was logged

    def tokens(self) -> tuple[Token, ...]:
        """
        Return the tokens in force; raises ConfigError.

        A file that can't be used lets nobody in, not even those whom it let in before: it may have been changed
        because of one of them.
        """
        try:
            text = self._read()
            if text != self._text:
                self._tokens = parse(text, self._where)
                self._text = text
                _log.info("tokens taken up", file=self._where, tokens=len(self._tokens))
        except ConfigError as error:
            if self._fault != str(error):
                self._fault = str(error)
                _log.error("nobody can come in", reason=str(error))
            raise
        self._fault = ""
        return self._tokens

    def find(self, given: str) -> Principal | None:
        """Return whose token this is, `None` if nobody's."""
        token = self.token(given)
        return None if token is None else token.who

    def token(self, given: str) -> Token | None:
        """Return the line that a token has, `None` if it has none."""
        return self.with_digest(_digest(given))

    def with_digest(self, digest: str) -> Token | None:
        """Return the line with a digest. However many there are, it takes the same time whether and where one fits."""
        found = None
        for token in self.tokens():
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()
