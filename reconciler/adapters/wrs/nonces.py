"""
The nonce that every write carries, which proves to Windchill that the write does not come from a page in a browser.

Theory of operation. A write that is refused for its nonce was not carried out, but leaves an entry in the server's
security audit log. So a nonce is renewed before it ends; and whenever its end is likely, one write is sent alone, so
that only one is refused. Writes that are already under way when a nonce ends are refused all the same.

Rules
- A nonce is requested again when nine tenths of its life are over, when its HTTP session was replaced, or when it was
  refused. If the server gives the same one again, it is requested once more at its end.
- While no write has gone through since the last pause, one write tries the nonce and the others wait.
- A refused write is sent again with a new nonce. If a new nonce is refused right after another one, nothing is sent for
  a minute, except requests that undo a check-out of ours (one for each check-out, and no new ones are made meanwhile).
- If two nonces in a row were accepted and then refused within a minute, the server's nonces are good for few writes.
  Writes are then sent one at a time, each with its own nonce, for an hour; then one nonce is tried for several writes,
  ever more rarely.
- A turn is one finished attempt to get a nonce. A refusal of an older turn is ignored.
- A plain OData service has no nonces: none is requested.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import attrs
import structlog

from reconciler.adapters import replies
from reconciler.adapters.credentials import Headers
from reconciler.adapters.replies import Exchange, Lost, Reply, Unusable
from reconciler.adapters.wrs import cookies
from reconciler.adapters.wrs.cookies import Cookies
from reconciler.model.answer import Failed, NotSent, Throttled, Trouble, Unauthorised
from reconciler.ports import Clock

_log = structlog.get_logger(__name__)

QUIET_S = 60.0  # without writes after a new nonce was refused: spares the audit log, and a restart may be over
YOUNG_S = 60.0  # a good nonce that is refused before this age was used up, or the server was restarted
ALONE_S, ALONE_S_MAX = 3600.0, 86_400.0  # of writes one at a time, before a nonce is tried for several again
_AHEAD_S_MAX = 5.0  # for the write that goes ahead, so that a slow server does not stop all others
_OLD = 0.9  # of its life
_SECRETS_MAX = 4  # nonces that later replies may quote
_TRIES = 3  # of one write: others may use up its nonce, and the next; then it gets its own

Unsent = Failed | Unauthorised | Throttled | NotSent  # why there is no nonce, so the write was not sent


@attrs.frozen
class Nonce:
    """A nonce as a header, its turn, when the server first gave its value, and in which session."""

    headers: Headers = attrs.field(repr=False)
    turn: int = 0
    given_s: float = 0.0
    session: tuple[bytes, ...] = attrs.field(default=(), repr=False)


class Nonces:
    """
    Keeps the nonce of one server, and sends writes with it. `ask` fetches a nonce; None: the service has none.

    `refuses` tells whether an answer refuses a write for its nonce; a nonce is good for `life_s`, 0 means for ever.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[Exchange]] | None,
        explain: Callable[[Reply], Trouble],
        refuses: Callable[[Exchange], bool],
        cookies: Cookies,
        clock: Clock,
        *,
        life_s: float,
    ) -> None:
        self._ask = ask
        self._explain = explain
        self._refuses = refuses
        self._cookies = cookies
        self._clock = clock
        self._life_s = life_s or float("inf")
        self._asking = asyncio.Lock()
        self._ahead = asyncio.Lock()
        self._nonce: Nonce | None = None
        self._trouble: Unsent | None = None  # why the last request for a nonce failed
        self._secrets: deque[str] = deque(maxlen=_SECRETS_MAX)
        self._turn = 0
        self._troubles = 0
        self._good_turn = 0  # of the last nonce with which a write went through
        self._present = 0  # writes under way or waiting
        self._proven = False  # whether one of these has gone through
        self._renew_at_s = float("inf")
        self._refused = 0  # nonces in a row without a write that went through
        self._short = 0  # nonces in a row that were accepted and then used up
        self._alone_s = 0.0  # for how long writes are sent one at a time now; 0: they are not
        self._alone_until_s = 0.0
        self._quiet_until_s = 0.0
        self._refusal = Failed("")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not be shown."""
        return tuple(self._secrets)

    async def send(self, request: Callable[[Nonce], Awaitable[Exchange]], *, urgent: bool = False) -> Exchange:
        """
        Send a write with a nonce, again if it is refused for the nonce; return its answer.

        `urgent`: send it even while nothing else is sent.
        """
        if self._ask is None:
            return await request(Nonce(()))
        self._present += 1
        try:
            for _ in range(_TRIES):
                troubles = self._troubles
                async with cookies.passed(self._ahead, self._is_doubtful, None if self._short else _AHEAD_S_MAX):
                    nonce = await self._current(troubles, urgent=urgent)
                    if not isinstance(nonce, Nonce):
                        return nonce
                    exchange = await request(nonce)
                    if not isinstance(exchange, Reply) or not self._refuses(exchange):
                        if isinstance(exchange, Reply) and exchange.status != 401:
                            self._went_through(nonce)
                        return exchange
                    refusal = self._note_refusal(nonce, self._explain(exchange).message)
                    if refusal is not None:
                        return refusal
            return Failed(f"refused {_TRIES} times for its nonce, which other writes had used up each time", 400)
        finally:
            self._present -= 1
            self._proven = self._proven and self._present > 0

    # ---------------------------------------------------------------------------------------------------------- inside

    def _is_doubtful(self) -> bool:
        return bool(self._short) or not self._proven or self._nonce is None or self._is_over(self._nonce)

    def _is_over(self, nonce: Nonce) -> bool:
        now_s = self._clock.monotonic_s()
        used_up = now_s < self._alone_until_s and nonce.turn <= self._good_turn
        return used_up or now_s >= self._renew_at_s or nonce.session != self._cookies.session

    async def _current(self, troubles: int, *, urgent: bool) -> Nonce | Unsent:
        """Return the nonce to send, or why there is none; a failure since `troubles` is not repeated."""
        if not urgent and self._clock.monotonic_s() < self._quiet_until_s:
            return self._refusal
        if self._nonce is not None and not self._is_over(self._nonce):
            return self._nonce
        async with self._asking:
            if self._nonce is not None and not self._is_over(self._nonce):
                return self._nonce
            if troubles != self._troubles and self._trouble is not None:
                return self._trouble
            return await self._renewed()

    async def _renewed(self) -> Nonce | Unsent:
        former, now_s = self._nonce, self._clock.monotonic_s()
        session = self._cookies.session
        headers = await self._asked()
        if session not in ((), self._cookies.session):  # it was replaced meanwhile, and the nonce may be of either
            headers = await self._asked()
        if isinstance(headers, Unsent):
            self._trouble = headers
            self._troubles += 1
            self._renew_at_s = now_s + QUIET_S
            # An old one is better than none.
            return former if former is not None and not self._is_over(former) else headers
        goes_on = former is not None and former.headers == headers and now_s < former.given_s + self._life_s
        given_s = former.given_s if former is not None and goes_on else now_s
        self._trouble = None
        self._turn += 1
        self._renew_at_s = given_s + self._life_s * (1.0 if goes_on else _OLD)
        self._secrets += [value.decode() for _, value in headers]
        self._nonce = Nonce(headers, self._turn, given_s, self._cookies.session)
        return self._nonce

    async def _asked(self) -> Headers | Unsent:
        assert self._ask is not None, "a service without nonces gets no such request"
        match await self._ask():
            case Reply(status=200) as reply if replies.is_json(reply) and (headers := _read(reply)) is not None:
                return headers
            case Reply() as reply:
                trouble = self._explain(reply)
                # Not there, forbidden, a login page: nothing of it is about the document that is written.
                return trouble if isinstance(trouble, Unsent) else Failed(replies.cut(f"no nonce: {trouble.message}"))
            case Lost(message) | Unusable(message):
                return Failed(f"no nonce: {message}")
            case trouble:
                return trouble

    def _went_through(self, nonce: Nonce) -> None:
        now_s = self._clock.monotonic_s()
        self._proven, self._refused = True, 0
        if now_s >= nonce.given_s + YOUNG_S and now_s >= self._alone_until_s:
            self._short, self._alone_s = 0, 0.0
        self._good_turn = max(self._good_turn, nonce.turn)

    def _note_refusal(self, nonce: Nonce, said: str) -> Failed | None:
        """Note that a write was refused for its nonce; return why it is not sent again, None if it is."""
        if self._nonce is None or nonce.turn != self._turn:
            return None  # another write with this nonce was refused before
        now_s, good = self._clock.monotonic_s(), nonce.turn <= self._good_turn
        self._nonce, self._proven = None, False
        self._refused += 1
        if good:
            used_up = self._alone_s > 0 or now_s < nonce.given_s + YOUNG_S
            self._short = self._short + 1 if used_up else 0
            if self._short > 1:
                self._alone_s = min(self._alone_s * 2 or ALONE_S, ALONE_S_MAX)
                self._alone_until_s = now_s + self._alone_s
                _log.warning(
                    "the server's nonces are good for few writes, so writes are sent one at a time", for_s=self._alone_s
                )
        elif self._refused > 1:
            self._cookies.forget()  # perhaps the session is the reason
            self._refusal = Failed(replies.cut(f"the server refuses a nonce that it has just given: {said}"), 400)
            self._quiet_until_s = now_s + QUIET_S
            return self._refusal
        return None


def _read(reply: Reply) -> Headers | None:
    body = replies.json_object(reply) or {}
    name, value = body.get("NonceKey"), body.get("NonceValue")
    if not isinstance(name, str) or not isinstance(value, str) or not value.isascii() or not value.isprintable():
        return None
    # Only the usual name is accepted: a header of the server's choice could replace any of ours.
    return ((b"CSRF_NONCE", value.encode()),) if name == "CSRF_NONCE" and value.strip() else None
