"""
How much to ask of Windchill at once, and how often to ask it again.

`Limiter` bounds the requests in flight by additive increase and multiplicative decrease, the rule by which TCP shares a
line whose width nobody knows (Chiu and Jain, 1989; RFC 5681 section 3.1). `RetryQuota` bounds the share of requests
that are retries, so that a server in trouble is not buried by the attempts to get through to it. `WriteBudget` bounds
the documents that are written without anyone asking for it now.

All change synchronously and never wait. Times are monotonic seconds.
"""

import enum

import attrs

from reconciler.model.document import Lane

_HICCUP = 3  # failures in a row that may be no more than that


class Load(enum.Enum):
    """What the end of a request says about the server's load."""

    NORMAL = "normal"  # it answered, whatever the answer: a 404 or a version conflict is no sign of load
    OVERLOAD = "overload"  # 429, 503, or no answer in time
    UNKNOWN = "unknown"  # it ended on our side: cancelled, never sent, refused before reaching the server


@attrs.frozen
class Permit:
    """Leave to send one request; given back with `Limiter.released`."""

    round: int


class Limiter:
    """
    A limit on requests in flight that finds out what the server bears.

    It starts at `limit_max`, which an operator has allowed, and stays between `limit_min` and `limit_max` (requests).

    - A normal answer raises the limit by 1/limit, so by one for each limit-full of answers; but only while at least
      half of the limit is in use, because answers to a trickle prove nothing about a flood (for TCP: RFC 7661).
    - Overload halves it, once a *round*: requests sent before the cut were sent under the old limit, and their answers,
      good or bad, say nothing about the new one. (TCP: one reduction per window of data, RFC 6582.)

    It never stops anything: a server that bears nothing at all is the breaker's matter.
    """

    def __init__(self, limit_max: int, limit_min: int = 1) -> None:
        assert 1 <= limit_min <= limit_max, "a limit below 1 never sends anything, so it never learns"
        self._limit_max = limit_max
        self._limit_min = limit_min
        self._limit = float(limit_max)
        self._in_flight = 0
        self._round = 0

    @property
    def in_flight(self) -> int:
        """Permits given out and not yet given back."""
        return self._in_flight

    @property
    def limit(self) -> float:
        """The present limit, in requests; its whole part counts, the fraction is what has been earned of the next."""
        return self._limit

    def try_acquire(self) -> Permit | None:
        """Give leave to send one request, or None; the caller then tries again when a permit was given back."""
        if self._in_flight >= int(self._limit):
            return None
        self._in_flight += 1
        return Permit(self._round)

    def released(self, permit: Permit, load: Load) -> None:
        """Take a permit back, once, with what its request has shown."""
        assert self._in_flight > 0, "each permit is given back once"
        used = self._in_flight
        self._in_flight -= 1
        if permit.round != self._round:
            return
        if load is Load.NORMAL and 2 * used >= self._limit:
            self._limit = min(float(self._limit_max), self._limit + 1 / self._limit)
        elif load is Load.OVERLOAD:
            self._round += 1
            self._limit = max(float(self._limit_min), self._limit / 2)


class RetryQuota:
    """
    A budget for retries that successes pay into: a retry costs 1, a success brings `deposit`, a second `per_s`.

    So in the long run retries are at most a tenth of the successes, plus one a second. The shape is the retry quota of
    the AWS SDKs (500 tokens, a retry costs 5, a success pays 1) with the reserve over time of Finagle's `RetryBudget`
    (20 %, and 10 a second): without it, a budget spent down while *only* retries are left to do would never fill again.

    `balance_max`: the most that can be saved up, in retries, and what it starts with: a hiccup of a whole limit-full of
    requests is retried at once. Half of it is kept for documents that have failed a few times only: those that fail for
    days spend the other half, and whatever they spend, a hiccup is retried at once.
    """

    def __init__(self, balance_max: float = 100.0, deposit: float = 0.1, per_s: float = 1.0) -> None:
        assert balance_max >= 1, "a retry costs 1"
        assert deposit >= 0, "a success doesn't cost"
        assert per_s > 0, "without income over time a spent budget may stay spent"
        self._balance_max = balance_max
        self._deposit = deposit
        self._per_s = per_s
        self._balance = balance_max
        self._counted_s: float | None = None  # up to when income over time is in the balance

    def succeeded(self, now_s: float) -> None:
        """Pay in for a success."""
        self._balance = min(self._balance_max, self.balance(now_s) + self._deposit)

    def try_retry(self, now_s: float, failures: int = 1) -> bool:
        """
        Spend one retry of a document that has failed so many times in a row.

        False when the budget doesn't reach for it: come back later, see `wait_s`.
        """
        balance = self.balance(now_s)
        if balance < self._needed(failures):
            return False
        self._balance = balance - 1
        return True

    def wait_s(self, now_s: float, failures: int = 1) -> float:
        """Return how many seconds from now until a retry can be paid for without any success; 0 when it can now."""
        return max(0.0, (self._needed(failures) - self.balance(now_s)) / self._per_s)

    def _needed(self, failures: int) -> float:
        return 1.0 if failures <= _HICCUP else max(1.0, self._balance_max / 2)

    def balance(self, now_s: float) -> float:
        """Return how many retries the budget would pay for now."""
        since_s = now_s if self._counted_s is None else self._counted_s
        self._counted_s = max(since_s, now_s)
        self._balance = min(self._balance_max, self._balance + (self._counted_s - since_s) * self._per_s)
        return self._balance


# -------------------------------------------------------------------------------------------------------------- budget
# The write budget: how many documents may be written on nobody's fresh request.
#
# Resync and replay write because a comparison says so, perhaps because of a wrong policy, a restored database or a lost
# base. A threshold stops a mass overwrite before the offending write, and an operator is asked. It counts documents,
# not writes: a mass overwrite is many documents, and one that is written again and again must not use up the others'
# room.

_COUNTED = (Lane.RESYNC, Lane.REPLAY)


class WriteBudget:
    """
    At most `documents_max` documents written from resync and replay in any `window_s` seconds; 0: no threshold.

    Memory: one key for each document in the window. Times are monotonic seconds.
    """

    def __init__(self, documents_max: int, window_s: float) -> None:
        self._documents_max = documents_max
        self._window_s = window_s
        self._counted: dict[str, float] = {}  # by document, since when; oldest first

    def wait_s(self, lane: Lane, key: str, now_s: float) -> float:
        """Count a document that is to be written, and return 0; or return in how many seconds there is room for it."""
        if not self._documents_max or lane not in _COUNTED:
            return 0.0
        while self._counted and (oldest := next(iter(self._counted.items())))[1] <= now_s - self._window_s:
            del self._counted[oldest[0]]
        if key in self._counted:
            return 0.0
        if len(self._counted) >= self._documents_max:
            return next(iter(self._counted.values())) + self._window_s - now_s
        self._counted[key] = now_s
        return 0.0
