"""Metrics: counters, gauges, and their export."""

import ast
import asyncio
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from reconciler.adapters import counters, metrics
from reconciler.adapters.counters import Counters
from reconciler.adapters.metrics import CATALOG, PREFIX, Exposition
from reconciler.config import Windchill
from reconciler.errors import LogError
from reconciler.model import instant
from reconciler.model.answer import VersionConflict
from reconciler.model.document import Status
from tests.flows.world import KEY, World
from tests.web.conftest import held_up

ROOT = Path(__file__).parent.parent.parent
DOCUMENTED = (ROOT / "docs/observing.md").read_text(encoding="utf-8")
KINDS = {"add": "counter", "gauge": "gauge", "observe": "histogram"}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def nothing() -> None:
    """No gauges to look at."""


async def told(kept: Counters, refresh: Any = nothing) -> Samples:
    text, _ = await Exposition(kept, refresh).render("")
    families = plain_text(text.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def sample(samples: Samples, name: str, **labels: str) -> float:
    return samples[PREFIX + name, frozenset(labels.items())]


def reported() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Every metric that the program reports: its kind, its name, its labels."""
    for path in sorted((ROOT / "reconciler").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
                continue
            match node.func:
                case ast.Attribute(attr=verb, value=ast.Attribute(attr="_telemetry") | ast.Name(id="counters")):
                    pass
                case ast.Name(id="gauge" as verb):
                    pass
                case _:
                    continue
            yield KINDS[verb], str(node.args[0].value), frozenset(word.arg for word in node.keywords if word.arg)


def test_what_the_program_reports_is_in_the_catalog_and_the_other_way_round() -> None:
    assert set(reported()) == {(metric.kind, metric.name, frozenset(metric.labels)) for metric in CATALOG}


def test_every_metric_is_documented_with_its_labels_and_no_other() -> None:
    rows = re.findall(rf"^\| `{PREFIX}(\w+)(?:\{{([\w,]+)\}})?` \| (\w+) \|", DOCUMENTED, re.MULTILINE)
    assert {(name, labels, kind) for name, labels, kind in rows} == {
        (metric.name, ",".join(metric.labels), metric.kind) for metric in CATALOG
    }
    assert len(rows) == len(CATALOG)


def test_names_are_as_prometheus_wants_them() -> None:
    for metric in CATALOG:
        assert re.fullmatch(r"[a-z][a-z_]*", metric.name)
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert (metric.kind == "histogram") <= metric.name.endswith("_seconds")
        assert not {"document", "key", "id", "subject"} & set(metric.labels)


async def test_counters_are_exported() -> None:
    kept = Counters()
    kept.add("events_total", 40, result="folded")
    kept.add("events_total", 2, result="folded")
    kept.gauge("in_flight", 3)
    for seconds in (0.005, 0.0051, 7.0, 1e9):
        kept.observe("http_request_seconds", seconds)
    samples = await told(kept)
    assert sample(samples, "events_total", result="folded") == 42
    assert sample(samples, "in_flight") == 3
    buckets = {le: sample(samples, "http_request_seconds_bucket", le=le) for le in ("0.005", "0.01", "10.0", "+Inf")}
    assert buckets == {"0.005": 1, "0.01": 2, "10.0": 3, "+Inf": 4}
    assert sample(samples, "http_request_seconds_count") == 4
    assert sample(samples, "http_request_seconds_sum") == pytest.approx(1e9 + 7.0101)
    assert sample(samples, "convergence_seconds_count") == 0


async def test_hostile_label_values_break_no_line() -> None:
    kept = Counters()
    names = ['a"b', "line\nend", "back\\slash", "\u202eevil", "<script>", "é" * 1000]
    for name in names:
        kept.add("field_conflicts_total", field=name)
    samples = await told(kept)
    assert [sample(samples, "field_conflicts_total", field=name) for name in names] == [1] * len(names)


async def test_labels_do_not_grow_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "COMBINATIONS_MAX", 3)
    kept = Counters()
    for number in range(10):
        kept.add("field_conflicts_total", 2, field=f"f{number}")
        kept.add("field_conflicts_total", field="f0")
    kept.add("events_total", result="folded")
    samples = {dict(labels)["field"]: value for (name, labels), value in (await told(kept)).items() if "field_" in name}
    assert samples == {"f0": 12, "f1": 2, "f2": 2, "other": 14}
    assert kept.total("field_conflicts_total") == 30


async def test_a_scraper_that_prefers_open_metrics_gets_them() -> None:
    kept = Counters()
    kept.add("events_total", result="folded")
    text, content_type = await Exposition(kept, nothing).render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    families = {family.name for family in open_metrics(text.decode())}
    assert {PREFIX + metric.name.removesuffix("_total") for metric in CATALOG} <= families


async def test_two_daemons_in_one_process_share_no_numbers() -> None:
    one, other = Counters(), Counters()
    one.add("events_total", result="folded")
    assert sample(await told(one), "events_total", result="folded") == 1
    assert (f"{PREFIX}events_total", frozenset({("result", "folded")})) not in await told(other)


# ------------------------------------------------------------------------------------------------------- a whole daemon


async def test_a_daemon_tells_every_metric_that_design_names() -> None:
    world = World()
    world.windchill.put("held", {"status": "INWORK", "title": "theirs"})
    world.windchill.script_writes(VersionConflict(412, "modified by another user"))
    async with world.running() as running:
        world.append(world.event({"title": "Cover"}))
        world.append(world.event({"title": "Cover"}, type="windchill.document.changed.v9"))
        world.append(world.event({"title": "Cover"}, type="com.example.other"))
        await running.settled()
        daemon = running.daemon
        samples = await told(daemon.telemetry, daemon._gauges.refresh)
    results = ("folded", "refused", "foreign")
    assert [sample(samples, "events_total", result=result) for result in results] == [1, 1, 1]
    assert sample(samples, "documents", status="synced") == 1
    assert sample(samples, "documents", status="held") == 0
    assert sample(samples, "dead_letters") == 1
    assert sample(samples, "oldest_pending_seconds") == 0
    assert sample(samples, "log_lag", topic="changes", partition="0") == 0
    assert sample(samples, "queue_depth", lane="event") == 0
    assert sample(samples, "attempts_total", result="written") == 1
    assert sample(samples, "attempts_total", result="version_conflict") == 1
    assert sample(samples, "version_conflicts_total", status="412") == 1
    assert sample(samples, "decisions_total", decision="write", strategy="merge") == 2
    assert sample(samples, "convergence_seconds_count") == 1
    assert sample(samples, "in_flight") == 0
    assert sample(samples, "in_flight_limit") > 0
    assert sample(samples, "breaker_open") == 0
    assert [key for key in samples if key[0] == f"{PREFIX}build_info"]
    assert not [labels for _, labels in samples for _, value in labels if KEY in value]


async def test_a_source_whose_clock_is_ahead_does_not_make_time_run_backwards() -> None:
    world = World()
    async with world.running() as running:
        world.append(world.event({"title": "Cover"}, time=instant.from_us(world.clock.now_us() + 100_000_000)))
        await running.settled()
        samples = await told(running.daemon.telemetry)
    assert sample(samples, "convergence_seconds_count") == 1
    assert sample(samples, "convergence_seconds_sum") == 0


async def test_fields_that_others_move_under_our_writes_are_counted() -> None:
    world = World()
    write, edited = world.windchill.write, False

    async def rivalled(*args: Any, **named: Any) -> Any:
        nonlocal edited
        if not edited:
            edited = True
            world.windchill.edit(KEY, {"title": "theirs"})
        return await write(*args, **named)

    world.windchill.write = rivalled  # type: ignore[method-assign]  # a rival who is quicker, once
    async with world.running() as running:
        world.append(world.event({"title": "Cover"}))
        await running.settled(KEY, Status.HELD)
        samples = await told(running.daemon.telemetry)
    assert sample(samples, "field_conflicts_total", field="title") == 1


async def test_a_backlog_is_seen_as_pending_and_waiting() -> None:
    world = World()
    async with world.running(windchill=Windchill(maintenance=True)) as running:
        world.append(world.event({"title": "Cover"}))
        await running.settled(KEY, Status.PENDING)
        await world.clock.advance(100)
        samples = await told(running.daemon.telemetry, running.daemon._gauges.refresh)
    assert sample(samples, "documents", status="pending") == 1
    assert 99 <= sample(samples, "oldest_pending_seconds") <= 103
    assert sample(samples, "queue_depth", lane="replay") == 1  # the first start: history goes in by the last lane


async def test_lag_is_what_the_log_holds_beyond_what_is_folded_and_unknown_while_it_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    async with world.running() as running:
        world.append(world.event({"title": "Cover"}))
        await running.settled()
        going_on = held_up(world.store, "fold")
        for _ in range(7):
            world.append(world.event({"title": "Lid"}))
        await world.clock.advance(10)
        refresh = running.daemon._gauges.refresh
        samples = await told(running.daemon.telemetry, refresh)
        assert sample(samples, "log_lag", topic="changes", partition="0") == 7

        async def away() -> Any:
            raise LogError("no broker answers")

        monkeypatch.setattr(world.log, "ends", away)
        await world.clock.advance(10)
        samples = await told(running.daemon.telemetry, refresh)
        assert math.isnan(sample(samples, "log_lag", topic="changes", partition="0"))
        going_on.set()


async def test_many_scrapers_cost_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    async with world.running() as running:
        await world.clock.advance(1)
        counts, looks = world.store.counts, 0

        async def counted() -> Any:
            nonlocal looks
            looks += 1
            await asyncio.sleep(0)
            return await counts()

        monkeypatch.setattr(world.store, "counts", counted)
        refresh = running.daemon._gauges.refresh
        await asyncio.gather(*(refresh() for _ in range(10)))
        assert looks == 1
        await world.clock.advance(6)
        await refresh()
        assert looks == 2


def test_every_bound_of_durations_is_a_class() -> None:
    assert list(counters.BOUNDS_S) == sorted(set(counters.BOUNDS_S))
    assert len(counters.Durations().classes) == len(counters.BOUNDS_S) + 1
    assert metrics.PREFIX == "reconciler_"
