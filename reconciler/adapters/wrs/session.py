"""
The nonce that every write carries, so that Windchill takes it for ours and not for some page's in our user's browser.

Rules
- It is asked for once a session, and anew when a write is refused for it; by one call alone for all that wait.
- A write that was refused for its nonce was not carried out, and is sent once more with a new one. Each refusal is an
  entry in the server's security audit log: after a second one nothing is sent for a while, but for what frees
  somebody's document. (There is one such request for each check-out, and no new check-out meanwhile.)
- Where the new nonce was refused although it had been good for others, it was not wrong but used up: this server's
  nonces are good for a few requests, or for a moment. From then on writes go one by one for an hour, so that a new
  nonce is first used by whoever asked for it.
- A turn is one finished attempt to get a nonce. Whoever was refused names the turn of its nonce; if the turn has moved
  on since, somebody has renewed already. (`adapters.credentials` works the same way.)
- A nonce may belong to the HTTP session that it was given in: the cookies that came with it go back with each write
  that carries it, and with nothing else. (Reads need no session: credentials are sent with every request.)
- A plain OData service knows no nonce: nothing is asked for.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext

import attrs

from reconciler.adapters import replies
from reconciler.adapters.credentials import Headers
from reconciler.adapters.replies import Exchange, Lost, Reply, Unusable
from reconciler.model.answer import Failed, Throttled, Trouble, Unauthorised
from reconciler.ports import Clock

INVALID = "INVALID_NONCE"
QUIET_S = 60.0  # after a fresh nonce was refused: long enough for an audit log, short enough for a restarted server
ALONE_S = 3600.0  # after nonces were used up by others: it costs nothing but speed, and a restart can look like it

Unsent = Failed | Unauthorised | Throttled  # why there is no nonce; the write was not sent
_SECRET_CHARACTERS_MIN = 8
# RFC 6265 section 4.1.1, without the attributes: what is sent back goes to this server's writes alone, and soon.
_COOKIE = re.compile(
    rb"[\w!#$%&'*+.^`|~-]{1,256}=(?P<value>[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]{1,4096})(?=\s*(;|$))"
)


@attrs.frozen
class Nonce:
    """What says the nonce and its session, and the turn it is of."""

    headers: Headers = attrs.field(repr=False)
    turn: int = 0
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)  # never to be shown


class Session:
    """Keeps the nonce of one server. `ask` fetches one; None: the service knows none."""

    def __init__(
        self, ask: Callable[[], Awaitable[Exchange]] | None, explain: Callable[[Reply], Trouble], clock: Clock
    ) -> None:
        self._ask = ask
        self._explain = explain
        self._clock = clock
        self._lock = asyncio.Lock()
        self._latest: Nonce | Unsent | None = None if ask else Nonce(())
        self._turn = 0
        self._good_turn = -1  # of the last nonce that a write went through with
        self._quiet_until_s = 0.0
        self._alone_until_s = 0.0
        self._one_by_one = asyncio.Lock()
        self._refusal = Failed("")

    def sending(self) -> AbstractAsyncContextManager[None]:
        """Return what a write is to be sent within: nothing, unless this server's nonces are soon used up."""
        return self._one_by_one if self._clock.monotonic_s() < self._alone_until_s else nullcontext()

    async def current(self, *, urgent: bool = False) -> Nonce | Unsent:
        """Return the nonce to send now; `urgent`: even if nothing is to be sent for a while."""
        if not urgent and self._clock.monotonic_s() < self._quiet_until_s:
            return self._refusal
        return self._latest if isinstance(self._latest, Nonce) else await self._renew(self._turn)

    async def renewed(self, refused: Nonce) -> Nonce | Unsent:
        """Return the nonce to send instead of one that was refused."""
        return await self._renew(refused.turn)

    def went_through(self, nonce: Nonce) -> None:
        """Take note that a write was not refused for its nonce."""
        self._good_turn = max(self._good_turn, nonce.turn)

    def refused_again(self, nonce: Nonce, said: str) -> Failed:
        """Take note that a write was refused with a nonce that was new; return what becomes of it and of all others."""
        if nonce.turn <= self._good_turn:
            self._latest = None if nonce.turn == self._turn else self._latest
            self._alone_until_s = self._clock.monotonic_s() + ALONE_S
            return Failed(
                replies.cut(f"the server's nonces are soon used up, so writes go one by one now: {said}"), 400
            )
        self._refusal = Failed(replies.cut(f"the server refuses a nonce that it has just given us: {said}"), 400)
        if nonce.turn == self._turn:
            self._quiet_until_s = self._clock.monotonic_s() + QUIET_S
            self._latest = None
        return self._refusal

    async def _renew(self, turn: int) -> Nonce | Unsent:
        async with self._lock:
            if turn == self._turn or self._latest is None:
                latest = await self._asked()
                self._turn += 1
                self._latest = attrs.evolve(latest, turn=self._turn) if isinstance(latest, Nonce) else latest
            return self._latest

    async def _asked(self) -> Nonce | Unsent:
        if self._ask is None:
            return Nonce(())
        match await self._ask():
            case Reply(status=200) as reply if replies.is_json(reply):
                return _read(reply) or self._none(reply)
            case Reply() as reply:
                return self._none(reply)
            case Lost(message) | Unusable(message):
                return Failed(f"no nonce: {message}")
            case Failed() | Unauthorised() | Throttled() as trouble:
                return trouble

    def _none(self, reply: Reply) -> Unsent:
        trouble = self._explain(reply)
        # Not there, forbidden, a login page: none of it is about the document that was to be written.
        return trouble if isinstance(trouble, Unsent) else Failed(replies.cut(f"no nonce: {trouble.message}"))


def _read(reply: Reply) -> Nonce | None:
    body = replies.json_object(reply) or {}
    name, value = body.get("NonceKey"), body.get("NonceValue")
    if not isinstance(name, str) or not isinstance(value, str) or not value.isascii() or not value.isprintable():
        return None
    # Of the name only the usual one is taken: a header of the server's choice could be any of ours.
    if name != "CSRF_NONCE" or not value.strip():
        return None
    cookies = [pair for cookie in reply.cookies if (pair := _COOKIE.match(cookie))]
    session = ((b"cookie", b"; ".join(pair[0] for pair in cookies)),) if cookies else ()
    # A short one is no secret but the name of a node, and could be a part of any word.
    tickets = (pair["value"].decode() for pair in cookies if len(pair["value"]) >= _SECRET_CHARACTERS_MIN)
    secrets = (value, *tickets)
    return Nonce(((b"CSRF_NONCE", value.encode()), *session), secrets=secrets)
