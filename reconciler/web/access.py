"""
Access: who asks, and whether they may.

Without tokens everybody who reaches us is on this machine and may do everything; what is to be kept out then are pages
on the web that reach us through a browser here. With tokens everybody has to show one.
"""

import ipaddress
import re

from starlette.requests import Request

from reconciler.errors import ConfigError
from reconciler.web.answers import Refused
from reconciler.web.principal import ANYBODY, LOCAL, Principal, Role
from reconciler.web.tokens import Keyring

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?", re.IGNORECASE)
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]{1,512})", re.IGNORECASE | re.ASCII)  # RFC 6750 section 2.1
_SAFE = ("GET", "HEAD")


class Door:
    """Lets in whoever may come in."""

    def __init__(self, keyring: Keyring | None) -> None:
        self._keyring = keyring

    def admit(self, request: Request, role: Role | None) -> Principal:
        """Return who asks; raises Refused unless they have this role. `None`: anybody may."""
        if role is None:
            return ANYBODY
        if request.method not in _SAFE and request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Refused(403, "another site may not ask for this through your browser")
        if self._keyring is None:
            _require_loopback(request.headers.getlist("host"))
            return LOCAL
        who = _known(self._keyring, request.headers.getlist("authorization"))
        if who.role < role:
            raise Refused(403, f"this needs the role {role.name.lower()}; {who.name} is {who.role.name.lower()}")
        return who


def _known(keyring: Keyring, given: list[str]) -> Principal:
    if not given:
        raise _unknown("this needs a token: Authorization: Bearer TOKEN", 'Bearer realm="reconciler"')
    found = _BEARER.fullmatch(given[0].strip()) if len(given) == 1 else None
    try:
        who = keyring.find(found[1]) if found else None
    except ConfigError as error:  # what it says is for the log: whoever asks has shown nothing yet
        raise Refused(503, "the tokens can't be read; the log says why") from error
    if who is None:
        challenge = 'Bearer realm="reconciler", error="invalid_token"'
        raise _unknown("this token is not known", challenge)
    return who


def _unknown(detail: str, challenge: str) -> Refused:
    return Refused(401, detail, headers={"WWW-Authenticate": challenge})


def _require_loopback(hosts: list[str]) -> None:
    """
    Refuse a request that names another host than this machine.

    A page on the web can have its own name resolve to 127.0.0.1 and so reach us through a browser here (DNS rebinding);
    the name in `Host` is the one thing that it can't change.
    """
    found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    name = found[1].strip("[]").lower() if found else ""
    if name == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(name).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise Refused(421, "without admin.tokens_file only this machine is answered, under localhost or 127.0.0.1")
