"""
Limits on requests to Windchill: how many at once, how many retries, how many unrequested writes.

`Limiter` bounds the requests in flight by additive increase and multiplicative decrease, the rule by which TCP shares a
line of unknown width (Chiu and Jain, 1989; RFC 5681 section 3.1). `RetryQuota` bounds the share of retries, so that
they do not bury a server in trouble. `WriteBudget` bounds the documents that comparisons write.

All change synchronously and never wait. Times are monotonic seconds.
"""

import enum

import msgspec

from reconciler.model.document import Lane

_HICCUP = 3  # failures in a row that may pass by themselves


class Load(enum.Enum):
    """The server's load, as the end of a request shows it."""

    NORMAL = "normal"  # any answer: a 404 or a version conflict is no sign of load
    OVERLOAD = "overload"  # 429, 503, or no answer in time
    UNKNOWN = "unknown"  # it ended on our side: cancelled, never sent, refused before reaching the server


class Permit(msgspec.Struct, frozen=True):
    """Permission to send one request; given back with `Limiter.released`."""

    round: int


class Limiter:
    """
    A limit on requests in flight that adapts to the server.

    It starts at `limit_max`, which an operator has allowed, and stays between `limit_min` and `limit_max` (requests).

    - A normal answer raises the limit by 1/limit, so by one for each limit-full of answers; but only while at least
      half of the limit is in use, because answers to a trickle prove nothing about a flood (for TCP: RFC 7661).
    - Overload halves it, once a *round*: requests sent before the cut were sent under the old limit, and their answers
      say nothing about the new one. (TCP: one reduction per window of data, RFC 6582.)

    It never stops all requests, unless `limit_max` becomes 0: that is for the breaker.

    *Replicas* share one server, so they slow down together. `cuts` counts how often the limit was lowered, and whoever
    learns that another one has counted further lowers its own as often; cuts that two make before they hear of each
    other count once. And together they grow as fast as one would alone (as the flows of RFC 6356, section 3).
    """

    def __init__(self, limit_max: int, limit_min: int = 1) -> None:
        assert 1 <= limit_min <= limit_max, "a limit below 1 never sends anything, so it never learns"
        self._limit_max = limit_max
        self._limit_min = limit_min
        self._limit = float(limit_max)
        self._in_flight = 0
        self._round = 0
        self._replicas = 1
        self.cuts = 0
        self.given_up = 0  # requests that we did not wait for to the end: they may be in flight still

    @property
    def in_flight(self) -> int:
        """The permits that are out."""
        return self._in_flight

    @property
    def limit(self) -> float:
        """The present limit, in requests; its whole part counts, the fraction is earned towards the next."""
        return self._limit

    def allow(self, limit_max: int, replicas: int = 1) -> None:
        """Take another `limit_max` from here on: the share of one of so many replicas, which may be 0."""
        unhindered = self._limit >= self._limit_max
        self._limit_max, self._replicas = limit_max, replicas
        self._limit = float(limit_max) if unhindered else min(self._limit, limit_max)

    def try_acquire(self) -> Permit | None:
        """Return permission to send one request, or None; the caller tries again when a permit was given back."""
        if self._in_flight >= int(self._limit):
            return None
        self._in_flight += 1
        return Permit(self._round)

    def released(self, permit: Permit, load: Load) -> None:
        """Take a permit back, once, with the load that its request has shown."""
        assert self._in_flight > 0, "each permit is given back once"
        used = self._in_flight
        self._in_flight -= 1
        if permit.round != self._round:
            return
        if load is Load.NORMAL and 2 * used >= self._limit:
            more = 1 / (self._replicas * max(1.0, self._limit))
            self._limit = min(float(self._limit_max), self._limit + more)
        elif load is Load.OVERLOAD:
            before = self._limit
            self._cut()
            self.cuts += int(self._limit) < int(before)  # or one at its lowest would slow down the others for ever

    def cut_to(self, cuts: int) -> bool:
        """Make the cuts that other replicas have counted and we have not; return whether there were any."""
        behind = cuts > self.cuts
        for _ in range(cuts - self.cuts):
            self._cut()
        self.cuts = max(self.cuts, cuts)
        return behind

    def _cut(self) -> None:
        self._round += 1
        self._limit = min(float(self._limit_max), max(float(self._limit_min), self._limit / 2))


class RetryQuota:
    """
    A budget for retries that successes pay into: a retry costs 1, a success brings `deposit`, a second `per_s`.

    So in the long run retries are at most a tenth of the successes, plus one a second. The shape is the retry quota of
    the AWS SDKs (500 tokens, a retry costs 5, a success pays 1) with the reserve over time of Finagle's `RetryBudget`
    (20 %, and 10 a second): without it, a budget would never fill again while *only* retries are left to do.

    `balance_max`: the most that can be saved up, in retries; it starts with that, so that a hiccup of a whole
    limit-full of requests is retried at once. Half of it is reserved for documents that have failed a few times only,
    whatever those spend that fail for days.
    """

    def __init__(self, balance_max: float = 100.0, deposit: float = 0.1, per_s: float = 1.0) -> None:
        assert balance_max >= 1, "a retry costs 1"
        assert deposit >= 0, "a success doesn't cost"
        assert per_s > 0, "without income over time a spent budget may stay spent"
        self._of_all = balance_max, per_s
        self._balance_max = balance_max
        self._deposit = deposit
        self._per_s = per_s
        self._balance = balance_max
        self._counted_s: float | None = None  # income over time is in the balance up to then

    def divide(self, replicas: int) -> None:
        """From here on be the budget of one of so many replicas. What successes pay in is divided already."""
        balance_max, per_s = self._of_all
        self._balance_max, self._per_s = max(1.0, balance_max / replicas), per_s / replicas
        self._balance = min(self._balance, self._balance_max)

    def succeeded(self, now_s: float) -> None:
        """Pay in for a success."""
        self._balance = min(self._balance_max, self.balance(now_s) + self._deposit)

    def try_retry(self, now_s: float, failures: int = 1) -> bool:
        """Spend one retry of a document that failed so often in a row; False if the budget is too low (`wait_s`)."""
        balance = self.balance(now_s)
        if balance < self._needed(failures):
            return False
        self._balance = balance - 1
        return True

    def wait_s(self, now_s: float, failures: int = 1) -> float:
        """Return the seconds until the budget allows a retry without any success; 0 if it does now."""
        return max(0.0, (self._needed(failures) - self.balance(now_s)) / self._per_s)

    def _needed(self, failures: int) -> float:
        return 1.0 if failures <= _HICCUP else max(1.0, self._balance_max / 2)

    def balance(self, now_s: float) -> float:
        """Return how many retries the budget allows now."""
        since_s = now_s if self._counted_s is None else self._counted_s
        self._counted_s = max(since_s, now_s)
        self._balance = min(self._balance_max, self._balance + (self._counted_s - since_s) * self._per_s)
        return self._balance


COUNTED = (Lane.RESYNC, Lane.REPLAY)  # the lanes whose writes a budget counts: nobody has just asked for them


class WriteBudget:
    """
    At most `documents_max` documents written in any `window_s` seconds; 0: no threshold.

    Comparisons write without a new event, perhaps because of a wrong policy, a restored database or a lost base. The
    threshold stops a mass overwrite before the write that exceeds it. It counts documents, so that one document that is
    written again and again does not use up the room of others. Memory: one key for each document in the window.
    """

    def __init__(self, documents_max: int, window_s: float) -> None:
        self._documents_max = documents_max
        self._window_s = window_s
        self._counted: dict[str, float] = {}  # by document, since when; oldest first

    def wait_s(self, key: str, now_s: float) -> float:
        """Count a document that is about to be written, and return 0; or return the seconds until there is room."""
        if not self._documents_max:
            return 0.0
        while self._counted and (oldest := next(iter(self._counted.items())))[1] <= now_s - self._window_s:
            del self._counted[oldest[0]]
        if key in self._counted:
            return 0.0
        if len(self._counted) >= self._documents_max:
            return next(iter(self._counted.values())) + self._window_s - now_s
        self._counted[key] = now_s
        return 0.0
