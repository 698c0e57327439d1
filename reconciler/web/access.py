"""Access: who asks, and whether they may."""

import ipaddress
import re

from starlette.requests import Request

from reconciler.web.answers import Refused
from reconciler.web.endpoint import LOCAL, Principal, Role

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?", re.IGNORECASE)
_SAFE = ("GET", "HEAD")


class Door:
    """Lets in whoever may come in."""

    def admit(self, request: Request, role: Role | None) -> Principal:
        """Return who asks; raises Refused unless they have this role. `None`: anybody may."""
        if role is None:
            return LOCAL
        _require_loopback(request.headers.get("host", ""))
        if request.method not in _SAFE and request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Refused(403, "another site may not ask for this through your browser")
        return LOCAL


def _require_loopback(host: str) -> None:
    """
    Refuse a request that names another host than this machine.

    A page on the web can have its own name resolve to 127.0.0.1 and so reach us through a browser here (DNS rebinding);
    the name in `Host` is the one thing that it can't change.
    """
    found = _HOST.fullmatch(host)
    name = found[1].strip("[]").lower() if found else ""
    if name == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(name).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise Refused(421, "without admin.tokens_file only this machine is answered, under localhost or 127.0.0.1")
