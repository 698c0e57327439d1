"""
Plots as SVG without scripts, each with its numbers as a table.

A step without a measurement is a gap in the line, never a zero. The scale runs from zero to a round number.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from reconciler import views
from reconciler.model.standing import DAY_H
from reconciler.web.page import formatting

WIDTH: Final = 420
HEIGHT: Final = 150
BAR_STEP: Final = 3
STRIP_HEIGHT: Final = 22
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 22
_ROWS_MAX: Final = 24
_TONES: Final = ("one", "two")
_NOTHING: Final = 1e-9
_STEPS: Final = (1, 2, 2.5, 5, 10)

Say = Callable[[float], str]


@attrs.frozen
class Line:
    """One line: `path` for connected steps, `dots` for single ones between gaps."""

    name: str
    tone: str
    path: str
    dots: tuple[tuple[float, float], ...]
    latest: str


@attrs.frozen
class Plot:
    """A plot with its scales, and a table of averages."""

    id: str
    title: str
    about: str
    lines: tuple[Line, ...]
    heights: tuple[tuple[float, str], ...]
    times: tuple[tuple[float, str, str], ...]  # x, label, text anchor
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    is_empty: bool


@attrs.frozen
class Strip:
    """A bar per hour on its own scale; no bar for zero."""

    about: str
    bars: tuple[tuple[int, float, float, str], ...]  # x, y, height, CSS class


@attrs.frozen
class _Subject:
    """The subject of a plot: how its numbers are formatted, and the member of the points for each line."""

    id: str
    title: str
    say: Say
    lines: Mapping[str, str]


def of(points: Sequence[views.service.SeriesPoint]) -> list[Plot]:
    """Return the plots of the overview."""
    return [_plot(subject, points) for subject in _SUBJECTS]


def strip(hours: Sequence[int]) -> Strip:
    """Return the version conflicts of two days, one bar per hour, oldest first."""
    most = max(hours)
    if not most:
        return Strip("No version conflict in the last 48 hours.", ())
    bars = []
    for number, count in enumerate(hours):
        if count:
            height = max(1.0, round(STRIP_HEIGHT * count / most, 1))  # small counts must be visible beside large ones
            tone = "before" if number < DAY_H else "day"
            bars.append((BAR_STEP * number, round(STRIP_HEIGHT - height, 1), height, tone))
    ago = len(hours) - 1 - max(number for number, count in enumerate(hours) if count == most)
    before, day = sum(hours[:DAY_H]), sum(hours[DAY_H:])
    return Strip(
        f"Version conflicts by the hour: {before:,} in the 24 hours before, {day:,} in the last 24. "
        f"The most in one hour: {most:,}, {f'{ago} h ago' if ago else 'in the present one'}.",
        tuple(bars),
    )


def _plot(subject: _Subject, points: Sequence[views.service.SeriesPoint]) -> Plot:
    say = subject.say
    values = [[getattr(point, member) for point in points] for member in subject.lines.values()]
    known = [value for line in values for value in line if value is not None]
    top = _round_up(max(known, default=0.0), 1.0 if say is _share else math.inf)
    lines = tuple(
        _line(name, tone, line, top, say) for name, tone, line in zip(subject.lines, _TONES, values, strict=False)
    )
    return Plot(
        subject.id,
        subject.title,
        _about(subject.title, points, lines),
        lines,
        tuple((_y(top * part, top), say(top * part)) for part in (0.0, 0.5, 1.0)),
        _times(points),
        tuple(_rows(points, values, say)),
        not known,
    )


def _line(name: str, tone: str, values: Sequence[float | None], top: float, say: Say) -> Line:
    path, dots = [], []
    number = 0
    for is_gap, run in itertools.groupby(values, key=lambda value: value is None):
        steps = list(run)
        places = [(_x(number + i, len(values)), _y(value, top)) for i, value in enumerate(steps) if value is not None]
        number += len(steps)
        if is_gap:
            continue
        if len(places) == 1:
            dots += places
        else:
            path.append("M" + "L".join(f"{x} {y}" for x, y in places))
    latest = next((value for value in reversed(values) if value is not None), None)
    return Line(name, tone, "".join(path), tuple(dots), "nothing measured" if latest is None else say(latest))


def _about(title: str, points: Sequence[views.service.SeriesPoint], lines: Sequence[Line]) -> str:
    if not points:
        return f"{title}: nothing measured yet."
    newest = "; ".join(f"{line.name} {line.latest}" for line in lines)
    return f"{title} from {formatting.clock(points[0].at)} to {formatting.clock(points[-1].at)}. Newest: {newest}."


def _x(number: int, count: int) -> float:
    return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (number / max(1, count - 1)), 1)


def _y(value: float, top: float) -> float:
    return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (min(value, top) / top), 1)


def _round_up(value: float, most: float) -> float:
    """Return the next round number; 1 for a value near zero."""
    if value < _NOTHING or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return min(most, next(step * power for step in _STEPS if step * power >= value * 0.999))


def _times(points: Sequence[views.service.SeriesPoint]) -> tuple[tuple[float, str, str], ...]:
    if not points:
        return ()
    last = len(points) - 1
    marks = [(0, "start"), (last // 2, "middle"), (last, "end")]
    return tuple((_x(number, len(points)), points[number].at[11:16], anchor) for number, anchor in marks)


def _rows(
    points: Sequence[views.service.SeriesPoint], values: Sequence[Sequence[float | None]], say: Say
) -> list[tuple[str, tuple[str, ...]]]:
    """Return averages of equal periods, newest first."""
    size = max(1, math.ceil(len(points) / _ROWS_MAX))
    rows = []
    for begin in range(0, len(points), size):
        cells = []
        for line in values:
            known = [value for value in line[begin : begin + size] if value is not None]
            cells.append(say(sum(known) / len(known)) if known else "–")
        rows.append((formatting.clock(points[min(begin + size, len(points)) - 1].at), tuple(cells)))
    return rows[::-1]


def _span(value: float) -> str:
    return formatting.span(value) if value else "0"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _share(value: float) -> str:
    return f"{value * 100:.3g} %"


_SUBJECTS: Final = (
    _Subject(
        "convergence",
        "Convergence time",
        _span,
        {"half within": "convergence_p50_s", "95 % within": "convergence_p95_s"},
    ),
    _Subject("throughput", "Events and writes a second", _number, {"events": "events_per_s", "writes": "writes_per_s"}),
    _Subject("clashes", "Version conflicts among writes", _share, {"version conflicts": "version_conflict_rate"}),
)
