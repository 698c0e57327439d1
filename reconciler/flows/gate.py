"""
The gate: every request to Windchill passes here, so that together they never ask more of it than it bears.

It puts the limiter (how many at once), the breaker (whether at all) and the retry quota (how often again) around the
port, and reports to all three what came of each request. Waiting is done here and nowhere else.

Nothing is sent on what was known before a pause or a cool-down: they can last a quarter of an hour, in which the log
may have asked for something else. Whoever waited through one gets a HeldUpError, and begins again from the row.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from reconciler.core.breaker import Breaker, Pass, State, Verdict
from reconciler.core.limiter import Limiter, Load, Permit, RetryQuota
from reconciler.model.answer import (
    Broken,
    Failed,
    ReadAnswer,
    ReleaseAnswer,
    Throttled,
    Trouble,
    Unauthorised,
    Unknown,
    WriteAnswer,
)
from reconciler.model.snapshot import Sighting, Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import ChangeList, Clock, Journal, Windchill

_A = TypeVar("_A")
_WAIT_S_MIN = 0.001  # less can be too little for a clock to move at all, and then nobody would ever get through


class HeldUpError(Exception):
    """Windchill is not to be asked now, so the request was not sent: what it rests on may be out of date."""


class Gate:
    """The only way of flows to Windchill."""

    def __init__(
        self,
        windchill: Windchill,
        clock: Clock,
        *,
        limiter: Limiter,
        breaker: Breaker,
        quota: RetryQuota,
    ) -> None:
        self._windchill = windchill
        self._clock = clock
        self._limiter = limiter
        self._breaker = breaker
        self._quota = quota
        self._waiting: deque[asyncio.Event] = deque()
        self._closed = False

    def close(self) -> None:
        """Let nobody wait for the end of a pause or cool-down any more; what waits for others only is still sent."""
        self._closed = True
        self._wake_all()

    async def read(self, key: str, known: Snapshot | None = None) -> ReadAnswer:
        """Read one document when it is our turn; raises HeldUpError."""
        return await self._through(lambda: self._windchill.read(key, known))

    @property
    def locks(self) -> bool:
        """Whether a write may leave a lock of ours behind."""
        return self._windchill.locks

    async def release(self, key: str, lock: str | None) -> ReleaseAnswer:
        """Give up a lock that a write of ours has perhaps left behind, when it is our turn; raises HeldUpError."""
        return await self._through(lambda: self._windchill.release(key, lock))

    async def write(
        self, snapshot: Snapshot, fields: Mapping[str, Json], *, token: Token, journal: Journal
    ) -> WriteAnswer:
        """Write a document's fields, guarded by `token`, when it is our turn; raises HeldUpError."""
        return await self._through(lambda: self._windchill.write(snapshot, fields, token=token, journal=journal))

    async def changed(self, changes: ChangeList, since_us: int) -> Sequence[Sighting] | Trouble:
        """Ask for the list of changes when it is our turn; raises HeldUpError."""
        return await self._through(lambda: changes.changed(since_us))

    def retry_wait_s(self) -> float:
        """Spend one retry and return 0, or return how many seconds from now one can be paid for."""
        now_s = self._clock.monotonic_s()
        return 0.0 if self._quota.try_retry(now_s) else max(self._quota.wait_s(now_s), 0.1)

    async def _through(self, request: Callable[[], Awaitable[_A]]) -> _A:
        passed = await self._enter()
        answer: _A | None = None
        try:
            answer = await request()
        finally:
            self._leave(passed, answer)
        return answer

    async def _enter(self) -> tuple[Permit, Pass]:
        held_up = False
        while True:
            now_s = self._clock.monotonic_s()
            blocked = self._blocked(now_s)
            if held_up and (self._closed or not blocked):
                self._wake()  # the turn that we may have been given goes on to the next
                raise HeldUpError
            permit = self._limiter.try_acquire(now_s)
            if permit is not None:
                leave = self._breaker.try_pass(now_s)
                if leave is not None:
                    return permit, leave
                self._limiter.released(permit, Load.UNKNOWN, now_s)
            held_up = held_up or blocked
            if not (held_up and self._closed):
                await self._turn(now_s)

    def _blocked(self, now_s: float) -> bool:
        """Whether nobody is to ask now: a pause, a cool-down, or a probe under way."""
        cooling = self._breaker.state is State.OPEN and self._breaker.open_until_s > now_s
        return self._limiter.paused_until_s > now_s or cooling or self._breaker.state is State.HALF_OPEN

    async def _turn(self, now_s: float) -> None:
        """Wait until something may have changed: a permit was given back, a pause or a cool-down is over."""
        until_s = max(self._limiter.paused_until_s, self._breaker.open_until_s)
        turn = asyncio.Event()
        self._waiting.append(turn)
        try:
            await self._clock.wait(turn, max(until_s - now_s, _WAIT_S_MIN) if until_s > now_s else 60.0)
        except BaseException:
            if turn.is_set():
                self._wake()  # we are cancelled: the turn goes on to the next. Else nobody may pass one on, or they
            raise  # would wake each other round and round while nothing is free
        finally:
            if not turn.is_set():
                self._waiting.remove(turn)

    def _wake(self) -> None:
        free = max(1, int(self._limiter.limit) - self._limiter.in_flight)
        while self._waiting and free > 0:
            self._waiting.popleft().set()
            free -= 1

    def _wake_all(self) -> None:
        while self._waiting:
            self._waiting.popleft().set()

    def _leave(self, passed: tuple[Permit, Pass], answer: object) -> None:
        permit, leave = passed
        now_s = self._clock.monotonic_s()
        load, verdict, retry_after_s = _meaning(answer)
        before, paused_until_s = self._breaker.state, self._limiter.paused_until_s
        self._limiter.released(permit, load, now_s, retry_after_s)
        self._breaker.report(leave, verdict, now_s, self._clock.chance())
        if verdict is Verdict.SUCCESS:
            self._quota.succeeded(now_s)
        if self._breaker.state is not before or self._limiter.paused_until_s != paused_until_s:
            self._wake_all()  # everybody looks anew: the way is free, or there is a new time to wait for
        self._wake()


def _meaning(answer: object) -> tuple[Load, Verdict, float | None]:
    """Return what an answer says about the server's load and health; `None` stands for a call that was cut short."""
    match answer:
        case None:
            return Load.UNKNOWN, Verdict.ABANDONED, None
        case Throttled():
            # The limiter deals with it, by pause and cut; the breaker is for servers that do not even say so.
            return Load.OVERLOAD, Verdict.SUCCESS, answer.retry_after_s
        case Unknown():
            return Load.OVERLOAD, Verdict.FAILURE, None
        case Failed() | Broken() | Unauthorised():
            return Load.UNKNOWN, Verdict.FAILURE, None
        case _:
            return Load.NORMAL, Verdict.SUCCESS, None
