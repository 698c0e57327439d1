"""
Pacing: how long a write that makes an iteration waits for further events, so that many events make few iterations.

Rules of this file:
1. Only a write that makes an iteration waits, because people see iterations in a document's history: ordinary fields
   where the server checks documents out (`Snapshot.iterates`). Fields before a state or a name do not wait, because the
   new state may forbid them.
2. A write waits until no event has come for `quiet_s`, and until `checkin_interval_s` after our last check-in. A stream
   that never pauses goes out `STREAM_S` after its first event.
3. Operators do not wait. Neither does a try after a version conflict: it has waited already, and a longer wait only
   lets the next edit in.

Theory of operation: an event for a waiting document makes it *pending*, and here it starts the quiet time again. A
document that is taken up as *collecting* has had its quiet time. So the due time in the store is all that is needed.
"""

from typing import Final

from reconciler.core.settling.cases import Case
from reconciler.model import instant
from reconciler.model.document import Lane, Status
from reconciler.model.plan import Patch
from reconciler.model.policy import OPERATORS

STREAM_S: Final = 900.0
"""The longest that an event waits for others: a quarter of an hour, as the longest cool-down at the defaults."""


def until_us(case: Case) -> int | None:
    """Return when the write of a case ends its wait for further changes, `None` if it goes out now."""
    pace, now_us = case.options.pace, case.now_us
    if not makes_an_iteration(case) or _is_pressing(case):
        return None
    begun_us = min(case.document.pending_since_us or now_us, now_us)
    waits = [instant.after_us(now_us, pace.quiet_s)] if _is_news(case) else []
    checked_in_us = case.document.agreement.checked_in_us
    if checked_in_us is not None and checked_in_us <= now_us:  # a later one is from a wrong clock
        waits.append(instant.after_us(checked_in_us, pace.checkin_interval_s))
        begun_us = max(begun_us, checked_in_us)
    found_us = min(max(waits, default=now_us), instant.after_us(begun_us, STREAM_S))
    return found_us if found_us > now_us else None


def makes_an_iteration(case: Case) -> bool:
    """Whether writing the plan of a case makes an iteration."""
    return case.snapshot is not None and isinstance(case.plan, Patch) and case.snapshot.locked_for(case.plan.fields)


def _is_pressing(case: Case) -> bool:
    """Whether an operator asked for it, a state or a name is to follow it, or there were version conflicts."""
    assert case.plan is not None
    by_operators = any(decision.stamp.source == OPERATORS and decision.ours for decision in case.plan.decisions)
    after_it = any(decision.later for decision in case.plan.decisions)
    return case.lane in (Lane.ASKED, Lane.OPERATOR) or by_operators or after_it or case.document.agreement.clashes > 0


def _is_news(case: Case) -> bool:
    """Whether an event brought the document here; a retry has had its quiet time."""
    fresh = case.document.status is Status.PENDING and not case.document.agreement.failures
    return fresh and case.lane in (Lane.EVENT, Lane.REPLAY)
