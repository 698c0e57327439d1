"""
Cookies: what a browser keeps for us, in a form that only we can have made.

A sealed text is `v1.BODY.MAC`, body and MAC in base64url without padding. The MAC is HMAC-SHA256 over `v1.BODY` with a
key made for one purpose, so that what is sealed for one can't be shown for another. Whoever has it can read what is in
it: it holds no secret.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable

import attrs
from starlette.requests import Request

_VERSION = "v1"
_SEALED_MAX = 4096  # what a browser keeps at most
_SEALED = re.compile(rf"({_VERSION}\.[A-Za-z0-9_-]*)\.([A-Za-z0-9_-]{{43}})")


class Seal:
    """Seals texts for one purpose."""

    def __init__(self, key: bytes, purpose: str) -> None:
        self._key = hmac.digest(key, purpose.encode(), hashlib.sha256)

    def seal(self, body: bytes) -> str:
        """Return a text that `unseal` takes back."""
        content = f"{_VERSION}.{_encoded(body)}"
        return f"{content}.{self.mark(content)}"

    def unseal(self, text: str) -> bytes | None:
        """Return what was sealed; `None` for anything that `seal` has not made with this key."""
        found = _SEALED.fullmatch(text) if len(text) <= _SEALED_MAX else None
        if found is None or not hmac.compare_digest(self.mark(found[1]), found[2]):
            return None
        body = found[1].removeprefix(f"{_VERSION}.")
        try:
            return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        except binascii.Error:  # nothing that we have sealed, but a MAC proves only that the key was there
            return None

    def mark(self, text: str) -> str:
        """Return 43 letters that follow from a text, and that nobody knows who has not the key."""
        return _encoded(hmac.digest(self._key, text.encode(), hashlib.sha256))


@attrs.frozen
class Cookie:
    """
    A cookie of ours: for the whole host, out of reach of scripts.

    `secure` says that browsers reach us by https: then the name has the prefix that keeps other hosts of our domain,
    and plain http, from setting one.
    """

    name: str
    secure: bool
    same_site: str

    @property
    def full_name(self) -> str:
        """The name as browsers have it."""
        return f"__Host-{self.name}" if self.secure else self.name

    def given(self, request: Request) -> str | None:
        """
        Return what a browser sends under this name, if it sends exactly one.

        Without the prefix, another program on another port of the same host can set a second one under the same name;
        which of the two is ours can't be told.
        """
        found = list(_values(request.headers.getlist("cookie"), self.full_name))
        return found[0] if len(found) == 1 else None

    def set(self, text: str, seconds: int) -> str:
        """Return the value of `Set-Cookie` that makes a browser keep a text."""
        secure = "; Secure" if self.secure else ""
        return f"{self.full_name}={text}; Path=/; Max-Age={seconds}; HttpOnly; SameSite={self.same_site}{secure}"

    def dropped(self) -> str:
        """Return the value of `Set-Cookie` that makes a browser forget it."""
        return self.set("", 0)


def _values(headers: Iterable[str], name: str) -> Iterable[str]:
    for header in headers:
        for pair in header.split(";"):
            given, _, text = pair.strip().partition("=")
            if given == name:
                yield text


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
