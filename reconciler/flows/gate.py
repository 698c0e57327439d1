"""
The gate: every request to Windchill passes here, so that Windchill is never asked for more than it can take.

It puts the limiter (how many at once), the breaker (whether at all) and the retry quota (how often again) around the
port, and reports the result of each request to all three.

When the breaker is in doubt, only probes pass. The best probe is a document that was well a moment ago; the gate reads
one itself. If it knows of none (after a start, or when all are in trouble), the caller names probes with `let_probe`.
Every other request raises HeldUpError at once and starts again later from the row, because the log may ask for
something else by then.

Of several replicas, one that may have been evicted sends nothing (`flows/lease.py`). That is looked at right before
each call of the port, and by the HTTP client once more right before each request of a longer write: we may have slept
since anything earlier. What was not sent raises HeldUpError too.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import attrs

from reconciler.core.scheduling import backoff
from reconciler.core.scheduling.breaker import Breaker, Pass, RequestResult, State, What
from reconciler.core.scheduling.limiter import Limiter, Load, Permit, RetryQuota
from reconciler.model.answer import (
    Broken,
    Failed,
    NotSent,
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
_TURN_S = 60.0  # a waiting request is woken when a permit comes back; this only bounds the wait
_WELL_MAX = 8  # documents known to be well; two in trouble are enough to doubt the rest
_WELL_WEIGHT = 4  # a document that was well a moment ago counts as this many probes of unknown ones
_RETRIES_SHARE = 4  # one part in so many of the limit goes to documents in trouble: each may wait for its deadline
_RETRY_S_MAX = 60.0  # until a document that has failed asks for a retry again
_CHANGES = ""  # the key of the list of changes; no document has an empty key


class HeldUpError(Exception):
    """The request was not sent, because Windchill is not to be asked now. Start again from the row."""


@attrs.define(eq=False, slots=False)
class Gate:
    """The only way of flows to Windchill."""

    _windchill: Windchill
    _clock: Clock
    _limiter: Limiter
    _breaker: Breaker
    _quota: RetryQuota
    _may_send: Callable[[], bool] = lambda: True
    _may_write: Callable[[], bool] = lambda: True
    _closed: Callable[[], bool] = lambda: False  # in a maintenance window only our own locks are given up
    _waiting: deque[asyncio.Event] = attrs.field(init=False, factory=deque)
    _well: dict[str, None] = attrs.field(init=False, factory=dict)  # documents, latest last
    _probes: set[str] = attrs.field(init=False, factory=set)

    @property
    def locks(self) -> bool:
        """Whether a write may leave a lock of ours behind."""
        return self._windchill.locks

    @property
    def in_doubt(self) -> bool:
        """Whether only probes may pass now, or nothing at all."""
        return self._breaker.state is not State.CLOSED or self.without_share or not self._may_send()

    @property
    def without_share(self) -> bool:
        """Whether other replicas have all requests that there may be at once."""
        return self._limiter.limit < 1

    @property
    def held_s(self) -> float:
        """In how many seconds the next probe may pass; 0: now, or there is no doubt."""
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
        """Read a document; `failures` is how often it has failed in a row. Raises HeldUpError."""
        return await self._through(key, failures, lambda: self._windchill.read(key, known))

    async def release(self, key: str, lock: str | None, mark: str, *, failures: int = 0) -> ReleaseAnswer:
        """Give up a lock that a write of ours may have left behind. Raises HeldUpError."""
        return await self._through(key, failures, lambda: self._windchill.release(key, lock, mark), always=True)

    async def write(
        self, snapshot: Snapshot, fields: Mapping[str, Json], *, token: Token, journal: Journal, failures: int = 0
    ) -> WriteAnswer:
        """Write a document's fields, guarded by `token`. Raises HeldUpError."""

        async def request() -> WriteAnswer:
            if not self._may_write():  # all writes were stopped while this one waited for its turn
                raise HeldUpError
            return await self._windchill.write(snapshot, fields, token=token, journal=journal)

        return await self._through(snapshot.key, failures, request)

    async def changed(self, changes: ChangeList, since_us: int) -> Sequence[Sighting] | Trouble:
        """Ask for the list of changes. Raises HeldUpError."""
        return await self._through(_CHANGES, 0, lambda: changes.changed(since_us))

    def retry_wait_s(self, failures: int, retrying: int) -> float:
        """
        Take a retry from the quota and return 0, or return in how many seconds to ask again.

        `retrying`: how many documents that have failed before are being tried now.
        """
        now_s = self._clock.monotonic_s()
        if retrying >= max(1, int(self._limiter.limit) // _RETRIES_SHARE):
            return backoff.delay_s(failures, 1.0, _RETRY_S_MAX, self._clock.chance())
        return 0.0 if self._quota.try_retry(now_s, failures) else max(self._quota.wait_s(now_s, failures), 0.1)

    async def _through(
        self, key: str, failures: int, request: Callable[[], Awaitable[_A]], *, always: bool = False
    ) -> _A:
        passed = await self._enter(key)
        answer: _A | None = None
        try:
            answer = await self._sent(request, always=always)
        finally:
            self._leave(passed, answer, key, known=failures > 0)
        if isinstance(answer, NotSent):
            raise HeldUpError
        return answer

    async def _sent(self, request: Callable[[], Awaitable[_A]], *, always: bool = False) -> _A:
        if not self._may_send() or (self._closed() and not always):
            raise HeldUpError
        try:
            return await request()
        except asyncio.CancelledError:
            self._limiter.given_up += 1
            raise

    async def _enter(self, key: str) -> tuple[Permit, Pass]:
        probe = key == _CHANGES or key in self._probes
        self._probes.discard(key)
        while not self.without_share and (probe or not self.in_doubt):
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
        self._wake()  # pass our turn on
        raise HeldUpError

    async def _ask_well(self, passed: tuple[Permit, Pass], key: str) -> None:
        """Read a document that was well a moment ago: if it still is, Windchill is not in trouble."""
        del self._well[key]
        answer: ReadAnswer | None = None
        try:
            answer = await self._sent(lambda: self._windchill.read(key))
        finally:
            self._leave(passed, answer, key, known=False)

    async def _turn(self) -> None:
        """Wait until a permit was given back, or the breaker is in doubt."""
        turn = asyncio.Event()
        self._waiting.append(turn)
        try:
            await self._clock.wait(turn, _TURN_S)
        except BaseException:
            if turn.is_set():
                self._wake()  # we are cancelled, so pass our turn on. Without a turn, waking others would never end
            raise
        finally:
            if not turn.is_set():
                self._waiting.remove(turn)

    def _wake(self) -> None:
        free = max(1, int(self._limiter.limit) - self._limiter.in_flight)
        while self._waiting and (free > 0 or self.in_doubt):  # in doubt, waiting is of no use
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
    """Return what an answer says about the server's load and health; `None`: the request was cancelled."""
    match answer:
        case None | NotSent():
            return Load.UNKNOWN, RequestResult.ABANDONED, None
        case Throttled():
            return Load.OVERLOAD, RequestResult.FAILURE, answer.retry_after_s
        case Unknown():
            return Load.OVERLOAD, RequestResult.FAILURE, None
        case Failed() | Broken() | Unauthorised():
            return Load.UNKNOWN, RequestResult.FAILURE, None
        case _:
            return Load.NORMAL, RequestResult.SUCCESS, None
