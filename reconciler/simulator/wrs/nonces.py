"""Nonces against forged requests, and the security audit log in which a wrong one ends up."""

from collections import deque
from datetime import datetime
from random import Random
from typing import Any

import attrs

from reconciler.simulator.messages import Request
from reconciler.simulator.wrs.options import Wrs

_AUDITED_MAX = 10_000


@attrs.define
class _Nonce:
    value: str
    expires_s: float
    uses_left: float


class Nonces:
    """One nonce a user at a time. Time is given, never asked."""

    def __init__(self, seed: int) -> None:
        self._chance = Random(f"nonces {seed}")
        self._current: dict[str, _Nonce] = {}
        self.audited: deque[dict[str, Any]] = deque(maxlen=_AUDITED_MAX)
        """Each request that came with a wrong nonce or none, oldest first."""
        self.issued = 0

    def give(self, user: str, switches: Wrs, now_s: float) -> str:
        """The user's nonce, a new one where the former has expired."""
        current = self._current.get(user)
        if current is None or not _good(current, now_s):
            lifetime_s = switches.nonce_lifetime_s or float("inf")
            value = f"{self._chance.getrandbits(96):024x}="
            current = _Nonce(value, now_s + lifetime_s, switches.nonce_uses or float("inf"))
            self._current[user] = current
            self.issued += 1
        return current.value

    def accepts(self, request: Request, user: str, switches: Wrs, now: datetime) -> bool:
        """Whether the request may change something; one that may not is audited."""
        bearer = request.headers.get(b"authorization", b"")[:7].lower() == b"bearer "
        if not switches.nonce_required or (bearer and not switches.nonce_for_bearer):
            return True
        given = request.headers.get(b"csrf_nonce", b"").decode("latin-1")
        current = self._current.get(user)
        if current is not None and current.value == given and _good(current, now.timestamp()):
            current.uses_left -= 1
            return True
        self.audited.append({
            "time": now.isoformat(), "user": user, "method": request.method, "path": request.path, "given": bool(given)
        })  # fmt: skip
        return False

    def expire(self) -> None:
        """Every nonce is void from now on."""
        self._current.clear()


def _good(nonce: _Nonce, now_s: float) -> bool:
    return nonce.uses_left > 0 and now_s < nonce.expires_s
