"""
The write budget: how much may be written on nobody's fresh request.

Resync and replay write because a comparison says so, perhaps because of a wrong policy, a restored database or a lost
base. A threshold on such writes stops a mass overwrite before the offending write, and an operator is asked.
"""

from collections import deque

from reconciler.model.document import Lane

_COUNTED = (Lane.RESYNC, Lane.REPLAY)


class WriteBudget:
    """
    At most `writes_max` writes from resync and replay in any `window_s` seconds; 0 writes: no threshold.

    Memory: one number for each write in the window. Times are monotonic seconds.
    """

    def __init__(self, writes_max: int, window_s: float) -> None:
        self._writes_max = writes_max
        self._window_s = window_s
        self._spent: deque[float] = deque()

    def try_spend(self, lane: Lane, now_s: float) -> bool:
        """Count one write; False when it must not be sent."""
        if not self._writes_max or lane not in _COUNTED:
            return True
        while self._spent and self._spent[0] <= now_s - self._window_s:
            self._spent.popleft()
        if len(self._spent) >= self._writes_max:
            return False
        self._spent.append(now_s)
        return True
