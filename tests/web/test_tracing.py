"""Traces from the event to the PATCH, as a collector sees them: the real program over real sockets."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Settings
from tests.cli.program import Program, event
from tests.web.collector import Collector, attributes
from tests.web.test_program import Daemon, started, until

DOC = "0000000001"
TRACE, OTHER = "4bf92f3577b34da6a3ce929d0e0e4736", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
SPAN = "00f067aa0ba902b7"
CANARY = "canary-in-the-collectors-key"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def program(tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"api-key={CANARY}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with Simulator(Settings(port=0, documents=5)) as simulator:
        yield Program(tmp_path, simulator.url)


def traced(name: str, fields: dict[str, Any], trace: str | None) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    cause = {"traceparent": f"00-{trace}-{SPAN}-01"} if trace else {}
    return event(DOC, "//erp/prod", fields, id=name, time=now, **cause)


def release(program: Program, daemon: Daemon) -> None:
    """Send a traced event, and wait until it is written."""
    content = json.dumps(traced("e1", {"status": "RELEASED"}, TRACE))
    headers = {"content-type": "application/cloudevents+json"}
    reply = httpx.post(f"{daemon.address}/api/v1/events", content=content, headers=headers, timeout=10)
    assert reply.status_code == 202, reply.text
    until(lambda: program.document(DOC)["status"] == "RELEASED")


def stop(daemon: Daemon) -> None:
    daemon.stop()
    assert CANARY not in "".join(daemon.lines)


def test_a_trace_goes_from_the_event_to_the_patch_and_on_to_the_outcome(program: Program, collector: Collector) -> None:
    with started(program) as daemon:
        release(program, daemon)
        until(lambda: collector.named("PATCH"))
        stop(daemon)
    (patch,) = collector.named("PATCH")
    (attempt,) = [span for span in collector.named("reconcile document") if span.span_id == patch.parent_span_id]
    assert (attempt.trace_id.hex(), attempt.parent_span_id.hex()) == (TRACE, SPAN)
    assert patch.trace_id.hex() == TRACE
    (link,) = attempt.links
    assert (link.trace_id.hex(), link.span_id.hex()) == (TRACE, SPAN)
    assert attributes(link) == {"cloudevents.event_id": "e1", "cloudevents.event_source": "//erp/prod"}
    said = attributes(attempt)
    assert (said["reconciler.document"], said["reconciler.result"]) == (DOC, "written")
    assert said["reconciler.fields_written"] == ["status"]
    assert attributes(patch)["http.response.status_code"] == 200
    assert attributes(patch)["url.full"] == f"{program.windchill}/documents/{DOC}"
    assert collector.resources[0]["service.name"] == "windchill-reconciler"
    assert collector.headers[0]["api-key"] == CANARY
    outcomes = (program.folder / "events.outcomes.jsonl").read_text(encoding="utf-8").splitlines()
    told = [json.loads(line) for line in outcomes]
    assert [one["traceparent"] for one in told] == [f"00-{TRACE}-{attempt.span_id.hex()}-01"]
    program.say("replay", "--from", str(program.log), "--check")


def test_several_causes_are_linked_to_and_none_of_them_is_the_parent(program: Program, collector: Collector) -> None:
    events = [("e1", {"status": "RELEASED"}, TRACE), ("e2", {"owner": "jdoe"}, OTHER), ("e3", {"title": "x"}, None)]
    program.append(*(traced(*one) for one in events))
    with started(program) as daemon:
        until(lambda: collector.named("PATCH"))
        stop(daemon)
    patch = collector.named("PATCH")[0]
    (attempt,) = [span for span in collector.named("reconcile document") if span.span_id == patch.parent_span_id]
    assert attempt.parent_span_id == b""
    assert {link.trace_id.hex() for link in attempt.links} == {TRACE, OTHER}
    assert attempt.trace_id.hex() not in {TRACE, OTHER}
    assert "traceparent" not in (program.folder / "events.outcomes.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("status", [400, 503])
def test_a_collector_that_refuses_hurts_nothing(program: Program, collector: Collector, status: int) -> None:
    collector.status = status
    with started(program) as daemon:
        release(program, daemon)
        until(lambda: collector.headers)
        stop(daemon)


def test_a_collector_that_never_answers_does_not_keep_a_stop_waiting(program: Program, collector: Collector) -> None:
    collector.silent.set()
    with started(program) as daemon:
        release(program, daemon)
        until(lambda: collector.headers)
        stop(daemon)
        assert daemon.heard("the last traces were not accepted in time")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("SDK_DISABLED", "true"), ("TRACES_EXPORTER", "none"), ("EXPORTER_OTLP_PROTOCOL", "grpc")),
        *(("EXPORTER_OTLP_ENDPOINT", ""), ("EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")),
    ],
)
def test_where_it_is_turned_off_or_leads_nowhere_nothing_is_sent_and_nothing_hurt(
    program: Program, collector: Collector, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"OTEL_{name}", value)
    with started(program) as daemon:
        release(program, daemon)
        stop(daemon)
    assert collector.headers == []
