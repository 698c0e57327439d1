"""
The circuit breaker: stop asking a Windchill that is down, and find out cheaply when it is back.

    closed ──(failures in a row)──▶ open ──(cool-down over)──▶ half-open ──(probe succeeds)──▶ closed
                                      ▲                            │
                                      └───────(probe fails)────────┘

After Michael Nygard, "Release It!", chapter 5. Two things that are easily got wrong:

- *What counts as a failure*: no answer, a 5xx, an answer that is not what the protocol promises. Any proper answer is a
  success, be it a version conflict or another 4xx: the server is there and works.
- *Late answers*. A request sent before the breaker opened may be answered while the probe is under way, and must not
  decide for it. Every change of state begins a new era, a pass names the era it was given in, and a report on a pass of
  another era changes nothing.
"""

import enum
from typing import Final

import attrs

from reconciler.core import backoff


class State(enum.Enum):
    """Where the breaker stands."""

    CLOSED = "closed"  # requests pass
    OPEN = "open"  # none passes
    HALF_OPEN = "half-open"  # one is under way to see whether the server is back


class Verdict(enum.Enum):
    """How a request ended."""

    SUCCESS = "success"  # a proper answer, whatever it says
    FAILURE = "failure"  # no answer, 5xx, or not what the protocol promises
    ABANDONED = "abandoned"  # cancelled or never sent: says nothing


class Signal(enum.Enum):
    """What can happen to the breaker."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    FAILED_ONCE_TOO_OFTEN = "failed once too often"
    ABANDONED = "abandoned"
    COOLED = "cooled"


TRANSITIONS: Final[dict[State, dict[Signal, State]]] = {
    State.CLOSED: {
        Signal.SUCCEEDED: State.CLOSED,
        Signal.FAILED: State.CLOSED,
        Signal.FAILED_ONCE_TOO_OFTEN: State.OPEN,
        Signal.ABANDONED: State.CLOSED,
    },
    # Nothing passes while open, so there is nothing to report on: reports on earlier passes are of another era.
    State.OPEN: {
        Signal.COOLED: State.HALF_OPEN,
    },
    # The failures that opened it still count, so any failure of a probe is once too often.
    State.HALF_OPEN: {
        Signal.SUCCEEDED: State.CLOSED,
        Signal.FAILED_ONCE_TOO_OFTEN: State.OPEN,
        Signal.ABANDONED: State.OPEN,  # the next to ask is the probe; there is no cool-down to wait for
    },
}
"""Every change of state that there is; a pair that is missing can't happen."""


@attrs.frozen
class Pass:
    """Leave to send one request; reported on with `Breaker.report`, once."""

    era: int


class Breaker:
    """
    A circuit breaker for one server. Times are monotonic seconds.

    `failures_max`: failures in a row that open it (at least 1). The cool-down doubles from `cooldown_base_s` to
    `cooldown_max_s` with each probe that fails, jittered as `backoff.cooldown_s` says, so that replicas don't probe in
    step; a probe that succeeds sets it back. 5 s bridges a restart of a web server; two minutes are the longest that a
    recovery may go unnoticed.
    """

    def __init__(self, failures_max: int = 5, *, cooldown_base_s: float = 5.0, cooldown_max_s: float = 120.0) -> None:
        assert failures_max >= 1, "it takes a failure to open"
        self._failures_max = failures_max
        self._cooldown_base_s = cooldown_base_s
        self._cooldown_max_s = cooldown_max_s
        self._state = State.CLOSED
        self._era = 0
        self._failures = 0  # in a row, probes included
        self._openings = 0  # likewise; sets the cool-down
        self._open_until_s = 0.0

    @property
    def state(self) -> State:
        """Where it stands. It goes from open to half-open when somebody asks to pass, not by itself."""
        return self._state

    @property
    def open_until_s(self) -> float:
        """While open: the monotonic time from which on a probe may pass."""
        return self._open_until_s

    def try_pass(self, now_s: float) -> Pass | None:
        """
        Give leave to send one request, or None.

        After None the caller tries again at `open_until_s` (open) or after the probe was reported on (half-open). Who
        gets a pass must report on it whatever happens, or a probe that nobody hears of keeps everybody waiting.
        """
        if self._state is State.OPEN and now_s >= self._open_until_s:
            self._move(Signal.COOLED)
            return Pass(self._era)
        return Pass(self._era) if self._state is State.CLOSED else None

    def report(self, leave: Pass, verdict: Verdict, now_s: float, chance: float) -> None:
        """Say how a request ended; `chance` in [0, 1) jitters the cool-down, should it come to one."""
        if leave.era != self._era:
            return
        match verdict:
            case Verdict.SUCCESS:
                self._failures = self._openings = 0
                self._move(Signal.SUCCEEDED)
            case Verdict.FAILURE:
                self._fail(now_s, chance)
            case Verdict.ABANDONED:
                self._move(Signal.ABANDONED)

    def _fail(self, now_s: float, chance: float) -> None:
        self._failures += 1
        self._move(Signal.FAILED if self._failures < self._failures_max else Signal.FAILED_ONCE_TOO_OFTEN)
        if self._state is State.OPEN:
            self._openings += 1
            cooldown_s = backoff.cooldown_s(self._openings, self._cooldown_base_s, self._cooldown_max_s, chance)
            self._open_until_s = now_s + cooldown_s

    def _move(self, signal: Signal) -> None:
        target = TRANSITIONS[self._state][signal]
        if target is not self._state:
            self._state = target
            self._era += 1
