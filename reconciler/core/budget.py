"""
The write budget: how many documents may be written on nobody's fresh request.

Resync and replay write because a comparison says so, perhaps because of a wrong policy, a restored database or a lost
base. A threshold stops a mass overwrite before the offending write, and an operator is asked. It counts documents, not
writes: a mass overwrite is many documents, and one that is written again and again must not use up the others' room.
"""

from reconciler.model.document import Lane

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
