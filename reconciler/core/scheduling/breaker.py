"""
The circuit breaker: stops requests to a Windchill that is in trouble as a whole, and finds out when it is back.

    closed ──(several documents in trouble)──▶ half-open ──(every probe fails)──▶ open
       ▲                                        │     ▲                            │
       └────────────(a proper answer)───────────┘     └─────(cool-down over)───────┘

After Michael Nygard, "Release It!", chapter 5. Differences, and details that are easy to get wrong:

- *One document's trouble is its own.* A document may hang, fail or be throttled for years while all others are well. So
  trouble counts by document, and only until the next proper answer. Even several documents prove nothing: they raise a
  doubt, and a round of *probes* on other documents decides. The breaker opens if every probe fails.
- *Trouble* is no answer, a 5xx, a 429 or 503, or an answer that breaks the protocol. Any other answer is proper, even a
  version conflict or a 404: the server works.
- *Known trouble says nothing.* While closed, a document that was in trouble before is no evidence.
- *Other replicas.* One whose breaker has opened tells the others. To them that is a doubt too, and no more: its trouble
  may be its own network's.
- *Late answers.* A request sent before a change of state must not fail the probes. Every change begins a new era, a
  pass names its era, and a failure of another era changes nothing. A proper answer ends a doubt whenever its request
  was sent, because it arrives now; only an open breaker waits for its own probes.
"""

import enum
from typing import Final

import msgspec

from reconciler.core.scheduling import backoff

_PROBES = 8  # of a round: if one document of eight is well, this finds it in two rounds of three
_ROUNDS = 3  # with that many probes; after these, one probe at a time is enough


class State(enum.Enum):
    """The state of the breaker."""

    CLOSED = "closed"  # requests pass
    OPEN = "open"  # none passes
    HALF_OPEN = "half-open"  # in doubt: a few pass, as probes


class RequestResult(enum.Enum):
    """How a request ended."""

    SUCCESS = "success"  # a proper answer, whatever it says
    FAILURE = "failure"  # no answer, 5xx, 429, or an answer that breaks the protocol
    ABANDONED = "abandoned"  # cancelled or never sent: says nothing


class Signal(enum.Enum):
    """An input of the breaker."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    FAILED_WIDELY = "failed for several documents"
    ABANDONED = "abandoned"
    COOLED = "cooled"


TRANSITIONS: Final[dict[State, dict[Signal, State]]] = {
    State.CLOSED: {
        Signal.SUCCEEDED: State.CLOSED,
        Signal.FAILED: State.CLOSED,
        Signal.FAILED_WIDELY: State.HALF_OPEN,
        Signal.ABANDONED: State.CLOSED,
    },
    # No request passes while open, so none is reported on: reports on earlier passes are of another era.
    State.OPEN: {
        Signal.COOLED: State.HALF_OPEN,
    },
    State.HALF_OPEN: {
        Signal.SUCCEEDED: State.CLOSED,
        Signal.FAILED: State.HALF_OPEN,
        Signal.FAILED_WIDELY: State.OPEN,
        Signal.ABANDONED: State.HALF_OPEN,  # the next to ask is a probe in its place
    },
}
"""All changes of state; a missing pair can't happen."""


class Pass(msgspec.Struct, frozen=True):
    """Permission to send one request; report on it once, with `Breaker.report`. It counts as `weight` probes."""

    era: int
    weight: int


class What(msgspec.Struct, frozen=True):
    """What a request that failed was about. `known`: its document was in trouble before."""

    document: str
    known: bool = False
    retry_after_s: float = 0.0


class Breaker:
    """
    A circuit breaker for one server. Times are monotonic seconds.

    `documents_max`: so many documents in trouble, with no proper answer in between, raise a doubt (at least 1). The
    cool-down doubles from `cooldown_base_s` to `cooldown_max_s` with each round of probes that fails, jittered as
    `backoff.cooldown_s` says. It is longer if the server told all documents in trouble to wait longer, but never longer
    than the maximum. A proper answer sets it back. 5 s bridges a restart of a web server; a minute is the longest that
    a recovery may go unnoticed.
    """

    def __init__(self, documents_max: int = 5, *, cooldown_base_s: float = 5.0, cooldown_max_s: float = 60.0) -> None:
        assert documents_max >= 1, "it takes a failure to open"
        self._documents_max = documents_max
        self._cooldown_base_s = min(cooldown_base_s, cooldown_max_s)
        self._cooldown_max_s = cooldown_max_s
        self._state = State.CLOSED
        self._era = 0
        self._troubles: dict[str, float] = {}  # by document since the last proper answer: the wait that it was told
        self._left = 0  # probes of this round that were not sent yet
        self._failed = 0  # probes of this round that failed
        self._openings = 0  # in a row; sets the cool-down
        self._open_until_s = 0.0

    @property
    def state(self) -> State:
        """The state. It goes from open to half-open when a caller asks to pass, not by itself."""
        return self._state

    @property
    def away(self) -> bool:
        """Whether Windchill counts as down: from the first opening to the next proper answer."""
        return self._openings > 0

    @property
    def open_until_s(self) -> float:
        """While open: the monotonic time at which probes may pass again."""
        return self._open_until_s

    def probes(self, now_s: float) -> int:
        """While not closed: the number of probes that may be sent now."""
        if self._state is State.OPEN:
            return self._round() if now_s >= self._open_until_s else 0
        return self._left

    def try_pass(self, now_s: float, weight: int = 1) -> Pass | None:
        """
        Return permission to send one request, or None.

        After None the caller tries again at `open_until_s` (open) or after a probe was reported on (half-open). The
        caller must report on a pass whatever happens: all others wait for the result of a probe. A probe of a greater
        `weight` counts as so many of its round.
        """
        if self._state is State.OPEN and now_s >= self._open_until_s:
            self._move(Signal.COOLED)
        if self._state is State.CLOSED:
            return Pass(self._era, weight)
        if self._state is State.OPEN or not self._left:
            return None
        weight = min(weight, self._left)
        self._left -= weight
        return Pass(self._era, weight)

    def doubt(self) -> None:
        """Let probes decide, because the breaker of another replica has opened."""
        if self._state is State.CLOSED:
            self._move(Signal.FAILED_WIDELY)

    def report(
        self, leave: Pass, result: RequestResult, now_s: float, chance: float, about: What | None = None
    ) -> None:
        """
        Take in how a request ended, and for a failure, what it was `about`.

        `chance` in [0, 1) jitters a cool-down that begins.
        """
        if result is RequestResult.SUCCESS and self._state is not State.OPEN:
            self._openings = 0
            self._troubles.clear()
            self._move(Signal.SUCCEEDED)
        elif leave.era != self._era:
            return
        elif result is RequestResult.ABANDONED:
            self._left += leave.weight
            self._move(Signal.ABANDONED)
        elif result is RequestResult.FAILURE:
            assert about is not None, "a failure is about a document"
            self._fail(leave, about, now_s, chance)

    def _fail(self, leave: Pass, about: What, now_s: float, chance: float) -> None:
        if self._state is State.CLOSED:
            if not about.known:
                self._troubles[about.document] = about.retry_after_s
            widely = len(self._troubles) >= self._documents_max
        else:
            self._troubles[about.document] = about.retry_after_s
            self._failed += leave.weight
            widely = self._failed >= self._round()
        if widely and self._state is State.HALF_OPEN:
            told_s = min(self._troubles.values())
            self._openings += 1
            waits_s = backoff.cooldown_s(self._openings, self._cooldown_base_s, self._cooldown_max_s, chance)
            self._open_until_s = now_s + min(max(waits_s, told_s), self._cooldown_max_s)
        self._move(Signal.FAILED_WIDELY if widely else Signal.FAILED)

    def _round(self) -> int:
        return _PROBES if self._openings < _ROUNDS else 1

    def _move(self, signal: Signal) -> None:
        target = TRANSITIONS[self._state][signal]
        if target is self._state:
            return
        self._state = target
        self._era += 1
        if target is State.HALF_OPEN:
            self._left, self._failed = self._round(), 0
            if signal is Signal.COOLED:  # the next cool-down depends on the waits that these probes are told
                self._troubles.clear()
