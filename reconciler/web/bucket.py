"""Bucket: how often something may happen."""

import math


class Bucket:
    """A token bucket: `burst` at once, then one each `period_s`."""

    def __init__(self, burst: int, period_s: float) -> None:
        self._burst = burst
        self._period_s = period_s
        self._level = float(burst)
        self._at_s = -math.inf

    def wait_s(self, now_s: float) -> float:
        """Take a token and return 0, or return in how many seconds there is one."""
        self._level = min(self._burst, self._level + (now_s - self._at_s) / self._period_s)
        self._at_s = now_s
        if self._level < 1:
            return (1 - self._level) * self._period_s
        self._level -= 1
        return 0.0
