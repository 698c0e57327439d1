"""Sessions, nonces against forged requests, and the security audit log in which a wrong nonce ends up."""

import re
from collections import OrderedDict, deque
from datetime import datetime
from random import Random
from typing import Any

import attrs

from reconciler.simulator.messages import Request
from reconciler.simulator.wrs.options import Wrs

_AUDITED_MAX = 10_000
_SESSIONS_MAX = 10_000
_SESSION = re.compile(r"(?:^|;\s*)JSESSIONID=([0-9A-F]+)")


@attrs.define
class _Nonce:
    value: str
    uses_left: float


class Sessions:
    """HTTP sessions by cookie. Time is given, never asked."""

    def __init__(self, seed: int) -> None:
        self._chance = Random(f"sessions {seed}")
        self._open: OrderedDict[str, float] = OrderedDict()
        """Cookie → when it was last sent."""
        self.opened = 0

    def of(self, request: Request) -> str:
        """The session that a request names; empty where it names none."""
        found = _SESSION.search(request.headers.get(b"cookie", b"").decode("latin-1"))
        return found[1] if found is not None else ""

    def goes_on(self, session: str, switches: Wrs, now_s: float) -> bool:
        """Whether a session is open, from now on for as long again."""
        last_s = self._open.pop(session, None)
        if last_s is None or (switches.session_s and now_s > last_s + switches.session_s):
            return False
        self._open[session] = now_s
        return True

    def begin(self, now_s: float) -> str:
        session = f"{self._chance.getrandbits(96):024X}"
        self._open[session] = now_s
        if len(self._open) > _SESSIONS_MAX:
            self._open.popitem(last=False)
        self.opened += 1
        return session

    def end(self) -> None:
        """All sessions are over, as after a restart."""
        self._open.clear()


class Nonces:
    """One nonce at a time for each user, or each session."""

    def __init__(self, seed: int) -> None:
        self._chance = Random(f"nonces {seed}")
        self._current: dict[str, _Nonce] = {}
        self.audited: deque[dict[str, Any]] = deque(maxlen=_AUDITED_MAX)
        """Each request that came with a wrong nonce or none, oldest first."""
        self.issued = 0

    def give(self, whose: str, switches: Wrs) -> str:
        """The nonce, a new one where the former is used up."""
        current = self._current.get(whose)
        if current is None or current.uses_left <= 0:
            current = _Nonce(f"{self._chance.getrandbits(96):024x}=", switches.nonce_uses or float("inf"))
            self._current[whose] = current
            self.issued += 1
        return current.value

    def accepts(self, request: Request, user: str, whose: str, switches: Wrs, now: datetime) -> bool:
        """Whether the request may change something, with the nonce that is `whose`; one that may not is audited."""
        bearer = request.headers.get(b"authorization", b"")[:7].lower() == b"bearer "
        if not switches.nonce_required or (bearer and not switches.nonce_for_bearer):
            return True
        given = request.headers.get(b"csrf_nonce", b"").decode("latin-1")
        current = self._current.get(whose)
        if current is not None and current.value == given and current.uses_left > 0:
            current.uses_left -= 1
            return True
        self.audited.append({
            "time": now.isoformat(), "user": user, "method": request.method, "path": request.path, "given": bool(given)
        })  # fmt: skip
        return False

    def expire(self) -> None:
        """Every nonce is void from now on."""
        self._current.clear()
