"""
HTTP replies as values, and what every dialect needs to know about them. No sockets, no dialect.

Statuses say what happened; texts are for people. Where a text decides, because servers use one status for several
things, `refusals` reads it.
"""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from reconciler.model.answer import Broken, Failed, NotSent, Throttled, Trouble, Unauthorised
from reconciler.model.snapshot import Token
from reconciler.model.value import DEPTH_MAX, Json, is_deep

MESSAGE_CHARACTERS_MAX = 300
_TEXT_BYTES_MAX = 64 * 1024  # what is looked at of a page; enough for any title
_JSON_TYPE = re.compile(rb"application/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)
_DELAY_SECONDS = re.compile(r"\d{1,9}")
# Bounded, and never across a tag: on a page of thousands of titles the time taken must not be the square of its length.
_TITLE = re.compile(r"<title[^<>]{0,200}>([^<]*)", re.IGNORECASE)
_LOGIN = re.compile(
    r"""type\s*=\s*["']?password|<title[^<>]{0,200}>[^<]*(?:sign[ -]?[io]n|log[ -]?[io]n|\bsso\b)""", re.IGNORECASE
)
_TEXTS = ("error", "code", "title", "message", "detail", "error_description")


class Reply(msgspec.Struct, frozen=True):
    """One HTTP reply with its whole body; a refusal's body may break off."""

    status: int
    headers: Mapping[bytes, bytes]  # names in lower case; of repeated headers the first
    body: bytes = b""
    whole: bool = True  # False only for a refusal whose text broke off
    cookies: tuple[bytes, ...] = ()  # every `Set-Cookie` as it came


class Lost(msgspec.Struct, frozen=True):
    """The request may have been sent, and no whole reply came back."""

    message: str


class Unusable(msgspec.Struct, frozen=True):
    """A reply that can't be read: too large, or compressed in an unknown way."""

    message: str


# Failed, Unauthorised, Throttled and NotSent: the request surely was not carried out, because there was no connection,
# no credentials, or no right to send it.
Exchange = Reply | Lost | Unusable | Failed | Unauthorised | Throttled | NotSent


def no_reply(exchange: Lost | Unusable | Failed | Unauthorised | Throttled | NotSent) -> Trouble:
    """Return what it means for a read that no reply came."""
    match exchange:
        case Lost(message):
            return Failed(message)
        case Unusable(message):
            return Broken(message)
    return exchange


def text(reply: Reply, name: bytes) -> str | None:
    """Return a header as text, None if there is none."""
    value = reply.headers.get(name)
    return None if value is None else value.decode("latin-1")


def token(reply: Reply) -> Token | None:
    """
    Return the ETag byte for byte, None if there is none that could guard a write.

    `*` would match everything (RFC 9110 section 13.1.1). Bytes that are no UTF-8 (`obs-text`, section 5.5) can't be
    sent back unchanged by our HTTP library, and a changed token guards nothing.
    """
    try:
        tag = reply.headers.get(b"etag", b"").decode()
    except UnicodeDecodeError:
        return None
    return Token(tag) if tag.strip() not in ("", "*") else None  # `strip`: Python knows more white space than HTTP


def last_modified(reply: Reply) -> str | None:
    """
    Return `Last-Modified` as it came, None if it can't tell versions apart.

    It counts whole seconds, so a second edit within the same second would never be noticed. RFC 9110 section 8.8.2.2
    calls it a strong validator only if the reply's `Date` is at least one second later.
    """
    modified, sent = text(reply, b"last-modified"), text(reply, b"date")
    if modified is None or token(reply) is not None:  # with a token, nothing is ever asked by date
        return modified
    modified_s, sent_s = _epoch_s(modified), _epoch_s(sent or "")
    return modified if modified_s is not None and sent_s is not None and sent_s - modified_s >= 1 else None


def retry_after_s(reply: Reply, now_us: int) -> float | None:
    """Return for how long the server asks us to wait: seconds or an HTTP date (RFC 9110 section 10.2.3)."""
    value = (text(reply, b"retry-after") or "").strip()
    if _DELAY_SECONDS.fullmatch(value):
        return float(value)
    moment_s = _epoch_s(value)
    return None if moment_s is None else max(0.0, moment_s - now_us / 1_000_000)


def is_json(reply: Reply) -> bool:
    """Whether the reply says that it is JSON."""
    return _JSON_TYPE.match(reply.headers.get(b"content-type", b"").strip()) is not None


def json_object(reply: Reply) -> dict[str, Json] | None:
    """Return the body if it is a JSON object. Integers of any length stay exact: a PUT sends them back."""
    try:
        value = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # Few braces mean that a body can't be nested too deep to be stored and compared.
    flat = reply.body.count(b"{") + reply.body.count(b"[") <= DEPTH_MAX
    return value if isinstance(value, dict) and (flat or not is_deep(value)) else None


def message(reply: Reply) -> str:
    """Return the reply's text for people, in one line, uncut. Never empty."""
    return said(reply) or f"status {reply.status} without a message"


def said(reply: Reply) -> str:
    """Return the server's own words, in one line, uncut; empty if it has none."""
    body = json_object(reply)
    if body is not None:
        words = ": ".join(dict.fromkeys(_texts(body)))
    elif is_html(reply):
        title = _TITLE.search(_decoded(reply))
        page = "an HTML login page" if _LOGIN.search(_decoded(reply)) else "an HTML page"
        words = f"{page} titled {_line(title[1])!r}" if title else page
    else:
        words = _decoded(reply)
    return _line(words)


def cut(words: str) -> str:
    """Return a message short enough to be stored."""
    return words if len(words) <= MESSAGE_CHARACTERS_MAX else words[: MESSAGE_CHARACTERS_MAX - 1] + "…"


def redirect(reply: Reply) -> str:
    """Return where a redirect leads, without the query, which can carry secrets."""
    return (text(reply, b"location") or "nowhere").partition("?")[0].partition("#")[0]


def is_html(reply: Reply) -> bool:
    """Whether the reply is an HTML page, whatever its content type."""
    kind = reply.headers.get(b"content-type", b"").lower()
    return b"html" in kind or reply.body[:200].lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _texts(body: Mapping[str, object]) -> list[str]:
    found: list[str] = []
    for name in _TEXTS:
        value = body.get(name)
        if isinstance(value, str) and value.strip():
            found.append(value)
        elif isinstance(value, dict):  # OData: {"error": {"code": …, "message": …}}
            found += _texts(value)
    return found


def _decoded(reply: Reply) -> str:
    return reply.body[:_TEXT_BYTES_MAX].decode("utf-8", "replace")


def _line(words: str) -> str:
    return " ".join(words.split())


def _epoch_s(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
        # RFC 9110 section 5.6.7: HTTP dates are in GMT, whatever they say or leave out.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
