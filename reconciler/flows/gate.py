"""
The gate: every request to Windchill passes here, so that together they never ask more of it than it bears.

It puts the limiter (how many at once), the breaker (whether at all) and the retry quota (how often again) around the
port, and reports to all three what came of each request.

When the breaker has a doubt, only probes pass. The best probe is a document that was well a moment ago: the gate reads
one of these itself. Only where it knows of none (after a start, or when they have all come into trouble), probes are
the documents that its caller has named with `let_probe`. Everything else gets a HeldUpError at once and begins again
later from the row: nothing is sent on what was known before a pause, since the log may have asked for something else.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from reconciler.core.scheduling import backoff
from reconciler.core.scheduling.breaker import Breaker, Pass, RequestResult, State, What
from reconciler.core.scheduling.limiter import Limiter, Load, Permit, RetryQuota
from reconciler.model.answer import (
    Broken,
    Failed,
    ReadAnswer,
    ReleaseAnswer,
    Throttled,
    Trouble,
    Unauthorised,
    Unchanged,
    Unknown,
    WriteAnswer,
    Written,
)
from reconciler.model.snapshot import Sighting, Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import ChangeList, Clock, Journal, Windchill

_A = TypeVar("_A")
_TURN_S = 60.0  # who waits for a permit is woken when one is given back; this only bounds a wait nobody ends
_WELL_MAX = 8  # documents known to be well; two in trouble are enough to doubt the rest
_WELL_WEIGHT = 4  # probes: a document that was well a moment ago tells as much as so many that nobody knows
_RETRIES_SHARE = 4  # of the limit, one part may go to documents in trouble: each may hold its permit until its deadline
_RETRY_S_MAX = 60.0  # until a document that has failed before asks for its share again
_CHANGES = ""  # the list of changes, where documents are named; no document has an empty key


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
        self._well: dict[str, None] = {}  # latest last
        self._probes: set[str] = set()

    @property
    def locks(self) -> bool:
        """Whether a write may leave a lock of ours behind."""
        return self._windchill.locks

    @property
    def in_doubt(self) -> bool:
        """Whether only probes may pass now."""
        return self._breaker.state is not State.CLOSED

    @property
    def held_s(self) -> float:
        """In how many seconds the next probe may pass; 0 when one may now, or when there is no doubt."""
        if self._breaker.state is State.OPEN:
            return max(0.0, self._breaker.open_until_s - self._clock.monotonic_s())
        return 0.0

    @property
    def probes_wanted(self) -> int:
        """How many documents are to be named with `let_probe` now."""
        left = self._breaker.probes(self._clock.monotonic_s())
        return -(-left // _WELL_WEIGHT) if self._well else left

    def let_probe(self, keys: Iterable[str]) -> None:
        """Let these documents pass while there is a doubt, and no others."""
        self._probes = set(keys)

    async def read(self, key: str, known: Snapshot | None = None, *, failures: int = 0) -> ReadAnswer:
        """Read a document that has failed so often in a row, when it is our turn; raises HeldUpError."""
        return await self._through(key, failures, lambda: self._windchill.read(key, known))

    async def release(self, key: str, lock: str | None, mark: str, *, failures: int = 0) -> ReleaseAnswer:
        """Give up a lock that a write of ours has perhaps left behind, when it is our turn; raises HeldUpError."""
        return await self._through(key, failures, lambda: self._windchill.release(key, lock, mark))

    async def write(
        self, snapshot: Snapshot, fields: Mapping[str, Json], *, token: Token, journal: Journal, failures: int = 0
    ) -> WriteAnswer:
        """Write a document's fields, guarded by `token`, when it is our turn; raises HeldUpError."""
        return await self._through(
            snapshot.key, failures, lambda: self._windchill.write(snapshot, fields, token=token, journal=journal)
        )

    async def changed(self, changes: ChangeList, since_us: int) -> Sequence[Sighting] | Trouble:
        """Ask for the list of changes when it is our turn; raises HeldUpError."""
        return await self._through(_CHANGES, 0, lambda: changes.changed(since_us))

    def retry_wait_s(self, failures: int, retrying: int) -> float:
        """
        Spend a retry of a document that has failed so often, and return 0; or return in how many seconds to ask again.

        `retrying`: how many documents that have failed before are being tried now.
        """
        now_s = self._clock.monotonic_s()
        if retrying >= max(1, int(self._limiter.limit) // _RETRIES_SHARE):
            return backoff.delay_s(failures, 1.0, _RETRY_S_MAX, self._clock.chance())
        return 0.0 if self._quota.try_retry(now_s, failures) else max(self._quota.wait_s(now_s, failures), 0.1)

    async def _through(self, key: str, failures: int, request: Callable[[], Awaitable[_A]]) -> _A:
        passed = await self._enter(key)
        answer: _A | None = None
        try:
            answer = await request()
        finally:
            self._leave(passed, answer, key, known=failures > 0)
        return answer

    async def _enter(self, key: str) -> tuple[Permit, Pass]:
        probe = key == _CHANGES or key in self._probes
        self._probes.discard(key)
        while probe or not self.in_doubt:
            permit = self._limiter.try_acquire()
            if permit is None:
                await self._turn()
                continue
            well = [*self._well][-1:] if self.in_doubt else []
            leave = self._breaker.try_pass(self._clock.monotonic_s(), _WELL_WEIGHT if well else 1)
            if leave is None:
                self._limiter.released(permit, Load.UNKNOWN)
                break
            if not well:
                return permit, leave
            await self._ask_well((permit, leave), *well)
            break
        self._wake()  # the turn that we may have been given goes on to the next
        raise HeldUpError

    async def _ask_well(self, passed: tuple[Permit, Pass], key: str) -> None:
        """Read a document that was well a moment ago: if it is now, it is not Windchill that is in trouble."""
        del self._well[key]
        answer: ReadAnswer | None = None
        try:
            answer = await self._windchill.read(key)
        finally:
            self._leave(passed, answer, key, known=False)

    async def _turn(self) -> None:
        """Wait until something may have changed: a permit was given back, or there is a doubt."""
        turn = asyncio.Event()
        self._waiting.append(turn)
        try:
            await self._clock.wait(turn, _TURN_S)
        except BaseException:
            if turn.is_set():
                self._wake()  # we are cancelled: the turn goes on to the next. Else nobody may pass one on, or they
            raise  # would wake each other round and round while nothing is free
        finally:
            if not turn.is_set():
                self._waiting.remove(turn)

    def _wake(self) -> None:
        free = max(1, int(self._limiter.limit) - self._limiter.in_flight)
        while self._waiting and (free > 0 or self.in_doubt):  # in a doubt nobody has anything to wait for
            self._waiting.popleft().set()
            free -= 1

    def _leave(self, passed: tuple[Permit, Pass], answer: object, key: str, *, known: bool) -> None:
        permit, leave = passed
        load, result, retry_after_s = _meaning(answer)
        self._limiter.released(permit, Load.UNKNOWN if known and load is Load.OVERLOAD else load)
        now_s = self._clock.monotonic_s()
        self._breaker.report(leave, result, now_s, self._clock.chance(), What(key, known, retry_after_s or 0.0))
        if result is RequestResult.SUCCESS:
            self._quota.succeeded(now_s)
            self._remember(key, answer)
        self._wake()

    def _remember(self, key: str, answer: object) -> None:
        if isinstance(answer, Snapshot | Unchanged | Written):
            self._well.pop(key, None)
            self._well[key] = None
            while len(self._well) > _WELL_MAX:
                del self._well[next(iter(self._well))]


def _meaning(answer: object) -> tuple[Load, RequestResult, float | None]:
    """Return what an answer says about the server's load and health; `None` stands for a call that was cut short."""
    match answer:
        case None:
            return Load.UNKNOWN, RequestResult.ABANDONED, None
        case Throttled():
            return Load.OVERLOAD, RequestResult.FAILURE, answer.retry_after_s
        case Unknown():
            return Load.OVERLOAD, RequestResult.FAILURE, None
        case Failed() | Broken() | Unauthorised():
            return Load.UNKNOWN, RequestResult.FAILURE, None
        case _:
            return Load.NORMAL, RequestResult.SUCCESS, None
