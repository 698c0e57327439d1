"""
The nonce that every write carries, so that Windchill takes it for ours and not for some page's in our user's browser.

Theory of operation. A write that is refused for its nonce was not carried out, and leaves an entry in the server's
security audit log. So a nonce is renewed before its end, and whatever makes its end likely lets one write go ahead
alone: its refusal is then the only one. What is in flight already when a nonce ends can't be helped.

Rules
- A nonce is asked for again when nine tenths of its life are over, when the HTTP session that it was given in has been
  replaced, or when it was refused. A server may give the same one until it ends: then it is asked once more at its end.
- A nonce is tried by one write where others wait to be sent and none has gone through since the last pause.
- A refused write is sent again with a new nonce. Where a new nonce is refused right after another one, nothing is sent
  for a while, but for what frees somebody's document. (There is one such request for each check-out, and no new
  check-out meanwhile.)
- Two nonces in a row that were good and then refused within a minute are used up by use. From then on writes go one by
  one, each with a nonce of its own, for an hour; then one nonce is tried for several writes, ever more rarely.
- A turn is one finished attempt to get a nonce. A refusal of an older turn than the present one is no news.
- A plain OData service knows no nonce: nothing is asked for.
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
from reconciler.model.answer import Failed, Throttled, Trouble, Unauthorised
from reconciler.ports import Clock

_log = structlog.get_logger(__name__)

QUIET_S = 60.0  # after a new nonce was refused: long enough for an audit log, short enough for a restarted server
YOUNG_S = 60.0  # a nonce that was good and is refused before that was used up, or the server was restarted
ALONE_S, ALONE_S_MAX = 3600.0, 86_400.0  # of writes one by one, before a nonce is tried for several again
_AHEAD_S_MAX = 5.0  # for the write that goes ahead: a server that is slow is not to be made slower
_OLD = 0.9  # of its life
_SECRETS_MAX = 4  # nonces that may be quoted by replies that are still to come
_TRIES = 3  # of one write: its nonce was used up by others, then a new one was, then it has one of its own

Unsent = Failed | Unauthorised | Throttled  # why there is no nonce; the write was not sent


@attrs.frozen
class Nonce:
    """What says the nonce, the turn it is of, when its value was first given, and in which session."""

    headers: Headers = attrs.field(repr=False)
    turn: int = 0
    given_s: float = 0.0
    session: tuple[bytes, ...] = attrs.field(default=(), repr=False)


class Nonces:
    """
    Keeps the nonce of one server, and lets writes pass. `ask` fetches a nonce; None: the service knows none.

    `refuses` tells whether an answer refuses a write for its nonce; `life_s` is how long a nonce is good, 0 for ever.
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
        self._trouble: Unsent | None = None  # why there was no nonce when it was last asked for
        self._secrets: deque[str] = deque(maxlen=_SECRETS_MAX)
        self._turn = 0
        self._troubles = 0
        self._good_turn = 0  # of the last nonce that a write went through with
        self._present = 0  # writes that are on their way, or wait for it
        self._proven = False  # whether one of these has gone through
        self._renew_at_s = float("inf")
        self._refused = 0  # nonces in a row, without a write that went through
        self._short = 0  # nonces in a row that were good and then used up
        self._alone_s = 0.0  # for how long writes go one by one this time; 0: they don't
        self._alone_until_s = 0.0
        self._quiet_until_s = 0.0
        self._refusal = Failed("")

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        return tuple(self._secrets)

    async def send(self, request: Callable[[Nonce], Awaitable[Exchange]], *, urgent: bool = False) -> Exchange:
        """
        Send a write with a nonce, and once more where it is refused for that; return what came of it.

        `urgent`: even if nothing is to be sent for a while.
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
            return Failed(f"refused for its nonce {_TRIES} times, each of which others had used up", 400)
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
        """Return the nonce to send, or why there is none; a trouble since then need not be met again."""
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
        if session not in ((), self._cookies.session):  # it ended meanwhile: of which one the nonce is, nobody can tell
            headers = await self._asked()
        if isinstance(headers, Unsent):
            self._trouble = headers
            self._troubles += 1
            self._renew_at_s = now_s + QUIET_S
            # One that is merely old is better than none.
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
        assert self._ask is not None, "a service without nonces is asked for none"
        match await self._ask():
            case Reply(status=200) as reply if replies.is_json(reply) and (headers := _read(reply)) is not None:
                return headers
            case Reply() as reply:
                trouble = self._explain(reply)
                # Not there, forbidden, a login page: none of it is about the document that was to be written.
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
        """Take note that a write was refused for its nonce; return why it is not sent again, None where it is."""
        if self._nonce is None or nonce.turn != self._turn:
            return None  # of those in flight together the first has told
        now_s, good = self._clock.monotonic_s(), nonce.turn <= self._good_turn
        self._nonce, self._proven = None, False
        self._refused += 1
        if good:
            used_up = self._alone_s > 0 or now_s < nonce.given_s + YOUNG_S
            self._short = self._short + 1 if used_up else 0
            if self._short > 1:
                self._alone_s = min(self._alone_s * 2 or ALONE_S, ALONE_S_MAX)
                self._alone_until_s = now_s + self._alone_s
                _log.warning("the server's nonces are soon used up, so writes go one by one", for_s=self._alone_s)
        elif self._refused > 1:
            self._cookies.forget()  # perhaps it is the session that is no good
            self._refusal = Failed(replies.cut(f"the server refuses a nonce that it has just given us: {said}"), 400)
            self._quiet_until_s = now_s + QUIET_S
            return self._refusal
        return None


def _read(reply: Reply) -> Headers | None:
    body = replies.json_object(reply) or {}
    name, value = body.get("NonceKey"), body.get("NonceValue")
    if not isinstance(name, str) or not isinstance(value, str) or not value.isascii() or not value.isprintable():
        return None
    # Of the name only the usual one is taken: a header of the server's choice could be any of ours.
    return ((b"CSRF_NONCE", value.encode()),) if name == "CSRF_NONCE" and value.strip() else None
