"""
Pacing: when a write that makes an iteration goes out, so that many events make few of them.

Rules of this file:
1. Iterations are what people see in a document's history, so only what makes one waits: ordinary fields where the
   server checks documents out (`Snapshot.iterates`). What is written with a state or a name goes out with it, because
   the new state may forbid it.
2. A write waits until no event has come for `quiet_s`, and until `checkin_interval_s` after our last check-in. A stream
   that never pauses goes out `STREAM_S` after its first event.
3. Operators don't wait, nor does a try after a version conflict: its wait is over, and each further one only lets the
   next edit in between.

Theory of operation: an event for a document that waits is decided at once, as any other (its status is then *pending*),
and here it begins the quiet time again. A document that is taken up as *collecting* has had its quiet time. So nothing
has to be remembered but the due time, which the store keeps.
"""

from typing import Final

from reconciler.core.settling.cases import Case
from reconciler.model.document import Lane, Status
from reconciler.model.plan import Patch
from reconciler.model.policy import OPERATORS

STREAM_S: Final = 900.0
"""The longest that an event waits for others: a quarter of an hour, as the longest cool-down at the defaults."""

_SECOND_US = 1_000_000


def until_us(case: Case) -> int | None:
    """Return until when the write of a case waits for further changes, `None` if it goes out now."""
    pace, now_us = case.options.pace, case.now_us
    if not makes_an_iteration(case) or _is_pressing(case):
        return None
    begun_us = min(case.document.pending_since_us or now_us, now_us)
    waits = [_later_us(now_us, pace.quiet_s)] if _is_news(case) else []
    checked_in_us = case.document.agreement.checked_in_us
    if checked_in_us is not None and checked_in_us <= now_us:  # a later one was told by a wrong clock
        waits.append(_later_us(checked_in_us, pace.checkin_interval_s))
        begun_us = max(begun_us, checked_in_us)
    found_us = min(max(waits, default=now_us), _later_us(begun_us, STREAM_S))
    return found_us if found_us > now_us else None


def makes_an_iteration(case: Case) -> bool:
    """Whether writing the plan of a case makes an iteration."""
    return case.snapshot is not None and isinstance(case.plan, Patch) and case.snapshot.locked_for(case.plan.fields)


def _is_pressing(case: Case) -> bool:
    """Whether an operator wants it, or a state or a name is due after it, or others have come in between."""
    assert case.plan is not None
    by_operators = any(decision.stamp.source == OPERATORS and decision.ours for decision in case.plan.decisions)
    after_it = any(decision.later for decision in case.plan.decisions)
    return case.lane in (Lane.ASKED, Lane.OPERATOR) or by_operators or after_it or case.document.agreement.clashes > 0


def _is_news(case: Case) -> bool:
    """Whether it is an event that has brought the document here; a retry has had its quiet time."""
    fresh = case.document.status is Status.PENDING and not case.document.agreement.failures
    return fresh and case.lane in (Lane.EVENT, Lane.REPLAY)


def _later_us(since_us: int, wait_s: float) -> int:
    return since_us + round(wait_s * _SECOND_US)
