"""Maintenance windows: whether Windchill may be asked now, by the calendar and by what operators said last."""

from collections.abc import Iterable

import attrs


@attrs.frozen
class Period:
    """A maintenance window: `begins_us` is in it, `ends_us` is not."""

    begins_us: int
    ends_us: int


@attrs.frozen
class Override:
    """What operators said last: until a moment there is a window, or there is none, whatever the calendar says."""

    closed: bool  # no request may begin
    until_us: int
    who: str
    reason: str


NO_OVERRIDE = Override(closed=False, until_us=0, who="", reason="")


def until_us(now_us: int, periods: Iterable[Period], said: Override = NO_OVERRIDE) -> int | None:
    """Return until when no request may begin, None if they may. Windows that touch are one."""
    if now_us < said.until_us:
        return said.until_us if said.closed else None
    end_us = now_us
    for period in sorted(periods, key=lambda one: one.begins_us):
        if period.begins_us <= end_us < period.ends_us:
            end_us = period.ends_us
    return end_us if end_us > now_us else None
