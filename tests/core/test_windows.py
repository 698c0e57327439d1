"""Maintenance windows: by the calendar, across changes of clocks, and by operators' word."""

import pytest

from reconciler.config import windows as calendar
from reconciler.core.scheduling import windows
from reconciler.core.scheduling.windows import Override, Period
from reconciler.model import instant


def us(text: str) -> int:
    return instant.to_us(instant.canonical(text))


def until(text: str, now: str) -> str | None:
    now_us = us(now)
    found = windows.until_us(now_us, calendar.around([calendar.parse(text)], now_us))
    return None if found is None else instant.from_us(found)[:19]


SATURDAYS = "0 22 * * SAT for 4h in Europe/Berlin"


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ("2026-11-28T20:59:59Z", None),
        ("2026-11-28T21:00:00Z", "2026-11-29T01:00:00"),
        ("2026-11-29T00:59:59Z", "2026-11-29T01:00:00"),
        ("2026-11-29T01:00:00Z", None),
        ("2026-07-04T20:00:00Z", "2026-07-05T00:00:00"),  # summer time
        ("2026-10-24T20:00:00Z", "2026-10-25T00:00:00"),  # the night in which clocks go back
    ],
)
def test_a_window_begins_by_the_clocks_of_its_zone_and_lasts_as_long_as_it_says(now: str, end: str | None) -> None:
    assert until(SATURDAYS, now) == end


def test_windows_longer_than_the_time_between_two_are_one() -> None:
    assert until("*/30 * * * * for 45m in UTC", "2026-11-28T20:15:00Z") == "2026-11-28T21:15:00"
    assert until("0 2 * * * for 60m in UTC", "2026-11-28T02:59:59.999999Z") == "2026-11-28T03:00:00"


def test_what_operators_said_goes_before_the_calendar_until_it_ends() -> None:
    always = [Period(0, 100)]
    assert windows.until_us(50, always, Override(False, 60, "jdoe", "")) is None
    assert windows.until_us(60, always, Override(False, 60, "jdoe", "")) == 100
    assert windows.until_us(50, [], Override(True, 60, "jdoe", "")) == 60
    assert windows.until_us(60, [], Override(True, 60, "jdoe", "")) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 22 * * SAT", "must be CRON for"),
        ("61 22 * * SAT for 4h in UTC", "not a cron expression"),
        ("0 0 30 2 * for 4h in UTC", "not a cron expression"),
        ("0 22 * * SAT for 4h in Europe/Atlantis", "not a time zone"),
        ("0 22 * * SAT for 169h in UTC", "7 days at most"),
    ],
)
def test_what_is_no_window_is_refused_with_what_is_wrong(text: str, said: str) -> None:
    assert said in (calendar.fault(text) or "")
