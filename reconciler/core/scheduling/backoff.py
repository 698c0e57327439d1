"""
How long to wait: after a failure, after too many of them, and before looking at a document again though nothing failed.

Every wait is jittered, because whatever made two documents fail together would make them come back together. How much,
differs by purpose and is said at each function. Jitter only ever shortens a wait that has a maximum, so that a
configured maximum is one. Chance comes in as a number in [0, 1); all times are seconds.
"""

from typing import Final

STRETCH_MAX: Final = 8
"""How many times its base the interval of a stable document may grow; 10 min become 80."""

RETRY_AFTER_S_MAX: Final = 3600.0
"""How long a document waits at most because the server has said so: a proxy's "tomorrow" must not be the end of it."""

INTERVAL_JITTER_MAX: Final = 1.1
"""How many times longer than it is on average the interval between two comparisons may come out."""

_DOUBLINGS_MAX = 64  # more would only overflow: 2⁶⁴ times anything is beyond every maximum


def doubled_s(times: int, base_s: float, max_s: float) -> float:
    """Return `base_s` for the first time (`times` = 1), then twice as long each time, `max_s` at most; no jitter."""
    assert times >= 1, "counted from 1"
    return min(max_s, base_s * 2.0 ** min(times - 1, _DOUBLINGS_MAX))


def delay_s(attempt: int, base_s: float, max_s: float, chance: float) -> float:
    """
    Return how long to wait after the failed `attempt` (from 1) before the next one: between half and the whole of
    `base_s`, doubled with each attempt, `max_s` at most.

    With `base_s` = 1: at most 1, 2, 4, 8 s. This is "equal jitter" in Marc Brooker, "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015. He simulates many clients that contend for one row under optimistic locking, and there
    "full jitter" (from zero to the whole) wins. Our case differs in one point: attempts on one document are never made
    side by side, so the rival is a person or a program in the middle of an edit, and a wait near zero would meet the
    same edit again and burn one of a few attempts. The random half is enough to scatter documents that failed together.
    """
    return doubled_s(attempt, base_s, max_s) * (0.5 + 0.5 * chance)


def cooldown_s(times: int, base_s: float, max_s: float, chance: float) -> float:
    """
    Return how long to leave alone what has now failed through and through for the `times`-th time in a row (from 1).

    Doubles from `base_s` (60 s for a contended document) to `max_s` (15 min). Jitter takes off a fifth at most: quiet
    is the purpose here, and a fifth of a minute scatters a batch well enough.
    """
    return doubled_s(times, base_s, max_s) * (0.8 + 0.2 * chance)


def interval_s(stable: int, base_s: float, chance: float, stretch_max: float = STRETCH_MAX) -> float | None:
    """
    Return when to compare a document with Windchill again, after `stable` comparisons in a row without drift.

    `base_s` (600 s; 0 = off, returns None), doubled for each up to `stretch_max` times, ± 10 %. So documents that
    nobody touches cost an eighth of the reads, and one that drifted (and is likely to again) starts over at `base_s`.
    Beyond an eighth it stops paying: doubling once more would save a sixteenth of the reads and let drift stand twice
    as long. The jitter goes both ways, because the interval is an average without a maximum.
    """
    assert stable >= 0, "comparisons are counted"
    if base_s <= 0:
        return None
    return doubled_s(stable + 1, base_s, base_s * stretch_max) * (0.9 + 0.2 * chance)
