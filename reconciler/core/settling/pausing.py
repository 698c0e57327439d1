"""
Pausing: what is still done for a document that an operator has paused.

It is neither read nor written. But where writes take locks, none of ours may stay for the length of a pause: what the
pause found under way may have left one, and a request that was given up long ago may yet take one.
"""

import attrs

from reconciler.core.scheduling import backoff
from reconciler.core.settling.cases import Case
from reconciler.model.audit import Settlement
from reconciler.model.document import Agreement, Intent, Lane, Status

_SECOND_US = 1_000_000
_STABLEST = 100  # comparisons without drift: the longest interval there is


def left(case: Case) -> Settlement:
    """Nothing of ours can be there: leave the document alone until it is resumed."""
    return _settlement(case, case.document.agreement, None)


def looked_at(case: Case, doubt: Intent | None) -> Settlement:
    """No lock of ours is there (any more). What the write in doubt has come to is for whoever resumes the document."""
    pace, agreement = case.options.pace, attrs.evolve(case.document.agreement, intent=doubt, cooldowns=0)
    return _settlement(
        case, agreement, backoff.interval_s(_STABLEST, pace.interval_s, case.chance, pace.interval_factor_max)
    )


def to_be_looked_at(case: Case) -> Settlement:
    """It could not be seen to that no lock of ours is there: again, after a wait that grows."""
    pace, times = case.options.pace, case.document.agreement.cooldowns + 1
    agreement = attrs.evolve(case.document.agreement, cooldowns=times)
    return _settlement(
        case, agreement, backoff.cooldown_s(times, pace.cooldown_base_s, pace.cooldown_max_s, case.chance)
    )


def _settlement(case: Case, agreement: Agreement, wait_s: float | None) -> Settlement:
    document = case.document
    return Settlement(
        key=document.key,
        revision=document.revision,
        agreement=attrs.evolve(agreement, aside=None, aside_us=None),
        status=Status.PAUSED,
        reason=document.reason,
        lane=Lane.RETRY,
        due_us=None if wait_s is None else case.now_us + round(wait_s * _SECOND_US),
        at_us=case.now_us,
    )
