"""
How long to wait: after a failure, after too many of them, and between two comparisons.

Every wait is jittered, because documents that failed together would otherwise come back together. The amount depends on
the purpose; see each function. Jitter only shortens a wait that has a maximum. Chance comes in as a number in [0, 1);
all times are seconds.
"""

from typing import Final

STRETCH_MAX: Final = 8
"""The factor by which the interval of a stable document may grow; 10 min become 80."""

RETRY_AFTER_S_MAX: Final = 3600.0
"""The longest that a server can make a document wait: a proxy's "tomorrow" must not put it off for a day."""

INTERVAL_JITTER_MAX: Final = 1.1
"""The factor by which jitter may lengthen the interval between two comparisons."""

ABSENCE_S: Final = (60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
"""The waits for a document that is not there: an event is often a minute ahead of it, and rarely a day."""

_DOUBLINGS_MAX = 64  # more would only overflow: 2⁶⁴ times anything is beyond every maximum


def doubled_s(times: int, base_s: float, max_s: float) -> float:
    """Return `base_s` for the first time (`times` = 1), then twice as long each time, `max_s` at most; no jitter."""
    assert times >= 1, "counted from 1"
    return min(max_s, base_s * 2.0 ** min(times - 1, _DOUBLINGS_MAX))


def delay_s(attempt: int, base_s: float, max_s: float, chance: float) -> float:
    """
    Return how long to wait after the failed `attempt` (from 1): between half and the whole of `base_s`, doubled with
    each attempt, `max_s` at most.

    With `base_s` = 1: at most 1, 2, 4, 8 s. This is "equal jitter" in Marc Brooker, "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015. There "full jitter" (from zero) wins, for many clients that contend for one row. Our
    attempts on one document never run side by side: the rival is a person or a program in the middle of an edit, and
    after a wait near zero we would meet the same edit again.
    """
    return doubled_s(attempt, base_s, max_s) * (0.5 + 0.5 * chance)


def cooldown_s(times: int, base_s: float, max_s: float, chance: float) -> float:
    """
    Return how long to leave a document alone that has used up its tries for the `times`-th time in a row (from 1).

    Doubles from `base_s` (60 s for a contended document) to `max_s` (15 min). Jitter takes off a fifth at most: that
    scatters a batch well enough.
    """
    return doubled_s(times, base_s, max_s) * (0.8 + 0.2 * chance)


def absence_s(times: int) -> float:
    """Return how long to wait after not finding a document for the `times`-th time in a row (from 1); no jitter."""
    assert times >= 1, "counted from 1"
    return ABSENCE_S[min(times, len(ABSENCE_S)) - 1]


def interval_s(stable: int, base_s: float, chance: float, stretch_max: float = STRETCH_MAX) -> float | None:
    """
    Return when to compare a document with Windchill again, after `stable` comparisons in a row without drift.

    `base_s` (600 s; 0 = off, returns None), doubled for each up to `stretch_max` times, ± 10 %. So documents without
    edits cost an eighth of the reads, and one that drifted (and is likely to again) starts over at `base_s`. Doubling
    once more would save a sixteenth of the reads and leave drift unnoticed twice as long.
    """
    assert stable >= 0, "comparisons are counted"
    if base_s <= 0:
        return None
    return doubled_s(stable + 1, base_s, base_s * stretch_max) * (0.9 + 0.2 * chance)
