"""What pages compute from views, without a browser: needs attention, plots, trends, sides."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import views
from reconciler.model import instant
from reconciler.model.limits import GIB
from reconciler.model.standing import Space
from reconciler.web import read_api
from reconciler.web.page import diff, overview, plots
from tests.page.stage import DRAWING, furnish
from tests.web.conftest import Daemon

ROOT = Path(__file__).parents[2]
CLASS = re.compile(r"^class ([A-Z][a-z]+[A-Z]\w+)", re.MULTILINE)  # of two words: one alone may be a label
NOW_US = instant.to_us("2026-11-22T10:00:00.000000Z")


async def status(daemon: Daemon, **changed: Any) -> views.service.Status:
    found = await read_api.standing(daemon.services)
    return msgspec.structs.replace(found, **changed)


# ----------------------------------------------------------------------------------------------------------- attention


async def test_the_headline_reports_the_worst_problem(daemon: Daemon) -> None:
    await furnish(daemon, calm=1)
    calm = {"documents": {"synced": 3}, "conflicts": 0, "dead_letters": 0}
    said = {
        "Windchill agrees with the log.": calm,
        "2 of 3 documents agree with the log.": calm | {"documents": {"synced": 2, "pending": 1}},
        "Windchill is unreachable.": calm | {"windchill": "down"},
        "The change log is unreachable.": calm | {"log_reachable": False, "windchill": "down"},
        "The reconciler is recovering.": calm | {"phase": "recovering", "log_reachable": False},
        "No documents yet.": calm | {"documents": {"synced": 0}},
    }
    for text, changed in said.items():
        assert overview.headline(await status(daemon, **changed), {}).text == text
    waiting = overview.headline(await status(daemon, **calm | {"conflicts": 1}), {})
    assert (waiting.tone, waiting.more) == ("warn", "1 item needs attention.")
    stuck = overview.headline(await status(daemon, **calm), {"reconcile": 400.0})
    assert (stuck.tone, stuck.text) == ("bad", "The reconciler is stuck.")
    slow = overview.headline(await status(daemon, **calm | {"oldest_pending_seconds": 3600.0}), {})
    assert (slow.tone, "Nothing needs attention" in slow.more) == ("warn", False)


async def test_own_problems_come_first_then_entries_oldest_first(daemon: Daemon) -> None:
    world = await furnish(daemon, calm=1)
    conflicts = [views.open_items.conflict(row) for row in await world.store.conflicts()]
    letters = [views.open_items.dead_letter_row(one) for one in await world.store.dead_letters()]
    documents = [views.documents.row(row) for row in world.store.rows.values() if row.status.value != "synced"]
    told = {"conflicts": conflicts, "letters": letters, "documents": documents, "late": {"reconcile": 400.0}}
    daemon.spaces = (Space("store", "/s", 10**9, 10**11), Space("log", "/l", 6 * GIB, 10**12))
    found = overview.attention_list(await status(daemon, windchill="down"), now_us=world.clock.now_us(), **told)
    assert [need.kind for need in found[:3]] == ["stuck", "disk", "down"]
    assert found[1].why == "1.0 of 100.0 GB are free. When it is full, the reconciler stops."
    times = [need.since for need in found[3:] if need.since]
    assert times == sorted(times)
    assert {"held", "parked", "contended", "dead letter"} <= {need.kind for need in found}


async def test_many_conflicts_on_one_field_are_one_thing_to_decide(daemon: Daemon) -> None:
    world = await furnish(daemon, calm=0)
    rows = [views.open_items.conflict(row) for row in await world.store.conflicts()]
    note = next(row for row in rows if row.field == "attributes.Note")
    many = [msgspec.structs.replace(note, id=f"{number}", document=f"{number}") for number in range(5)]
    found = overview.attention_list(
        await status(daemon), now_us=world.clock.now_us(), late={}, conflicts=[*rows, *many], letters=[], documents=[]
    )
    assert [(need.action, need.address) for need in found if "Note" in need.what] == [
        ("Resolve together", "/conflicts?field=attributes.Note")
    ]
    assert sum(need.action == "Resolve" for need in found) == len(rows) - 1


async def test_a_document_that_has_just_become_pending_needs_no_attention(daemon: Daemon) -> None:
    await daemon.world.emit({"title": "x"})
    rows = [views.documents.row(row) for row in daemon.world.store.rows.values()]
    now = await status(daemon)
    quick = overview.attention_list(
        now, now_us=daemon.clock.now_us(), late={}, conflicts=[], letters=[], documents=rows
    )
    late_us = daemon.clock.now_us() + 3_600_000_000
    slow = overview.attention_list(now, now_us=late_us, late={}, conflicts=[], letters=[], documents=rows)
    assert ([need.kind for need in quick], [need.kind for need in slow]) == ([], ["stuck"])


# --------------------------------------------------------------------------------------------------------------- plots

NUMBERS = st.none() | st.floats(0, 1e9)


def point(number: int, value: float | None) -> views.service.SeriesPoint:
    named = ("writes_per_s", "convergence_p50_s", "convergence_p95_s", "version_conflict_rate")
    at = instant.from_us(NOW_US + number * 60_000_000)
    return views.service.SeriesPoint(at=at, events_per_s=value, pending=None, lag=None, **dict.fromkeys(named, None))


@given(st.lists(NUMBERS, max_size=400))
def test_a_plot_stays_within_its_frame_and_a_gap_is_a_gap(values: list[float | None]) -> None:
    plot = next(one for one in plots.of([point(*pair) for pair in enumerate(values)]) if one.id == "throughput")
    line = plot.lines[0]
    places = [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", line.path)] + list(line.dots)
    assert len(places) == sum(value is not None for value in values)
    assert all(0 <= x <= plots.WIDTH and 0 <= y <= plots.HEIGHT for x, y in places)
    runs = re.sub("x+", "x", "".join("x" if value is not None else "." for value in values)).count("x")
    assert line.path.count("M") + len(line.dots) == runs
    assert len(plot.rows) <= 24
    assert plot.is_empty is (not places)


def test_a_plot_is_described_in_words() -> None:
    plot = plots.of([point(0, 1.0), point(1, 3.0)])[1]
    assert plot.about == (
        "Events and writes a second from 2026-11-22 10:00:00 UTC to 2026-11-22 10:01:00 UTC. "
        "Newest: events 3; writes nothing measured."
    )
    assert [label for _, label in plot.heights] == ["0", "2.5", "5"]
    assert plot.rows == (("2026-11-22 10:01:00 UTC", ("3", "–")), ("2026-11-22 10:00:00 UTC", ("1", "–")))


@given(st.lists(st.integers(0, 10**9), min_size=48, max_size=48))
def test_a_strip_has_a_bar_for_each_hour_in_which_there_was_something(hours: list[int]) -> None:
    strip = plots.strip(hours)
    assert len(strip.bars) == sum(count > 0 for count in hours)
    assert all(y >= 0 and y + height <= plots.STRIP_HEIGHT + 0.01 for _, y, height, _ in strip.bars)
    assert f"{sum(hours[24:]):,} in the last 24" in strip.about or not any(hours)


def test_a_strip_is_described_in_words() -> None:
    strip = plots.strip([*[0] * 22, 3, 0, 0, 5, *[0] * 21, 1])
    assert strip.about == (
        "Version conflicts by the hour: 3 in the 24 hours before, 6 in the last 24. The most in one hour: 5, 22 h ago."
    )
    assert [(x, tone) for x, _, _, tone in strip.bars] == [(66, "before"), (75, "day"), (141, "day")]
    assert plots.strip([0] * 48).bars == ()


# -------------------------------------------------------------------------------------------------- sides


async def test_fields_that_need_attention_come_first_and_each_has_a_state(daemon: Daemon) -> None:
    world = await furnish(daemon, calm=1)
    trail = await world.store.audit(DRAWING)
    found = diff.fields(views.documents.whole(world.document(DRAWING), trail, world.policy))
    assert [(one.field.field, one.state) for one in found] == [
        *((field, "held") for field in ("attributes.CostCenter", "attributes.Keywords")),
        *(("owner", "Windchill's value kept"), ("title", "Windchill's value kept"), ("status", "in sync")),
    ]


# ----------------------------------------------------------------------------------------------------------- packaging


@pytest.mark.slow
def test_no_template_shows_a_name_of_our_code() -> None:
    classes = {
        found for file in (ROOT / "reconciler").rglob("*.py") for found in CLASS.findall(file.read_text("utf-8"))
    }
    for file in (ROOT / "reconciler" / "web" / "page" / "templates").iterdir():
        assert not classes & set(re.findall(r"\w+", file.read_text("utf-8"))), file.name


def test_the_installed_package_has_templates_and_static_files(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    wanted = {
        path.relative_to(ROOT).as_posix()
        for folder in ("templates", "static")
        for path in (ROOT / "reconciler/web/page" / folder).iterdir()
    }
    assert len(wanted) > 15
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        assert wanted <= set(wheel.namelist())
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as source:
        assert wanted <= {name.partition("/")[2] for name in source.getnames()}
