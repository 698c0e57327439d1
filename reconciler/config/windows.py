"""Maintenance windows as the configuration writes them: `0 22 * * SAT for 4h in Europe/Berlin`."""

import datetime as dt
import re
import zoneinfo
from collections.abc import Iterable, Iterator

import attrs
import cronsim

from reconciler.core.scheduling.windows import Period

PATTERN = r"\S+( \S+){4} for [1-9][0-9]{0,3}(m|h) in \S+"
SAYS = 'CRON for DURATION in ZONE, such as "0 22 * * SAT for 4h in Europe/Berlin"'
_READ = re.compile(r"(?P<cron>.+) for (?P<count>\d+)(?P<unit>[mh]) in (?P<zone>\S+)")
_UNITS_US = {"m": 60_000_000, "h": 3_600_000_000}
_LONGEST_US = 7 * 24 * _UNITS_US["h"]
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LATER = 8  # beginnings looked at: enough for windows that are longer than the time between two


@attrs.frozen
class Window:
    """A window that recurs; where clocks change, cronsim does as Debian's cron: none is skipped or comes twice."""

    cron: str
    length_us: int
    zone: zoneinfo.ZoneInfo

    def around(self, now_us: int) -> Iterator[Period]:
        """Yield the last windows that have begun, and the next one."""
        now = (_EPOCH + dt.timedelta(microseconds=now_us)).astimezone(self.zone)
        # Backwards from the next minute, because the moment itself is left out.
        backwards = cronsim.CronSim(self.cron, now + dt.timedelta(minutes=1), reverse=True)
        for _ in range(_LATER):
            yield self._from(next(backwards))
        yield self._from(next(cronsim.CronSim(self.cron, now)))

    def _from(self, begin: dt.datetime) -> Period:
        begin_us = (begin - _EPOCH) // dt.timedelta(microseconds=1)
        return Period(begin_us, begin_us + self.length_us)


def parse(text: str) -> Window:
    """Return a window; raises ValueError with what is wrong."""
    found = _READ.fullmatch(text)
    if found is None:
        raise ValueError(f"must be {SAYS}")
    length_us = int(found["count"]) * _UNITS_US[found["unit"]]
    if length_us > _LONGEST_US:
        raise ValueError("a window has 7 days at most")
    try:
        zone = zoneinfo.ZoneInfo(found["zone"])
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(
            f"{found['zone']!r} is not a time zone of this system, such as Europe/Berlin or UTC"
        ) from error
    try:
        next(cronsim.CronSim(found["cron"], _EPOCH.astimezone(zone)))
    except (cronsim.CronSimError, StopIteration) as error:
        raise ValueError(f"{found['cron']!r} is not a cron expression that ever comes true: {error}") from error
    return Window(found["cron"], length_us, zone)


def fault(text: str) -> str | None:
    """Return what is wrong with the text of a window; None: nothing."""
    try:
        parse(text)
    except ValueError as error:
        return str(error)
    return None


def of_source(text: str) -> tuple[str, Window]:
    """Return the glob and the window of a source; raises ValueError with what is wrong."""
    glob, _, window = text.partition(": ")
    return glob, parse(window)


def fault_of_source(text: str) -> str | None:
    """Return what is wrong with the window of a source; None: nothing."""
    return fault(text.partition(": ")[2])


def around(windows: Iterable[Window], now_us: int) -> list[Period]:
    """Return the periods of several windows that matter now."""
    return [period for window in windows for period in window.around(now_us)]
