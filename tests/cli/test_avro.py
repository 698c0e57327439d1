"""Debezium with Avro: from Kafka and a schema registry to Windchill, also while the registry is away."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler import factory
from tests.brokers import Server, registry
from tests.brokers.fixtures import MakeTopic
from tests.brokers.registry import framed
from tests.cli.program import Program, Topics
from tests.cli.test_end_to_end import DOC
from tests.cli.test_kafka import OTHER, put
from tests.patience import HANG_S

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "sources" / "debezium-avro"
SCHEMA = json.loads((EXAMPLE / "schemas" / "7.avsc").read_text(encoding="utf-8"))
SOURCE = (EXAMPLE / "reconciler.toml").read_text(encoding="utf-8").partition("[[source]]")[2]


def row(state: str, ms: int) -> dict[str, Any]:
    """Return what Debezium says of a changed row."""
    after = {"number": DOC, "state": state, "weight_kg": Decimal("1.500"), "changed_by": "muellerk"}
    source = {"connector": "postgresql", "db": "erp", "schema": "public", "table": "document", "ts_ms": ms, "lsn": ms}
    return {"before": None, "after": after, "source": source, "op": "u", "ts_ms": ms}


@pytest.fixture
def server() -> Iterator[registry.Registry]:
    with registry.running() as found:
        found.register(7, SCHEMA)
        yield found


@pytest.fixture
def program(tmp_path: Path, windchill: str, broker: Server, topic: MakeTopic, server: registry.Registry) -> Program:
    topics = Topics.made(topic, partitions=1)
    made = Program(tmp_path, windchill, topics.log(broker.brokers))
    with made.config.open("a", encoding="utf-8") as file:
        file.write(f'[schemas]\nregistry_url = "{server.url}"\n')
        file.write(f"[[source]]{SOURCE.replace('erp.public.document', topics.changes)}")
    return made


def topic_of(program: Program) -> str:
    return str(program.json("status")["log"][0]["topic"])


def test_debezium_with_avro_reaches_windchill_whether_the_registry_answers_at_once_or_later(
    program: Program, broker: Server, server: registry.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factory, "_SCHEMAS_S", 1.0)
    program.say("run", "--once")
    changes = topic_of(program)
    put(broker, changes, DOC, framed(7, SCHEMA, row("FR", 1_790_000_000_000)))
    server.fails_with = 503, b"no leader"
    assert f"{server.url}/schemas/ids/7 answers 503" in program.fails("run", "--once")
    assert "no leader" in program.checks(code=1)["schemas"]["message"]
    assert (program.json("dead-letters", "list"), program.json("docs", "list")) == ([], []), "it waits"
    server.fails_with = None
    program.say("run", "--once")
    assert program.document(DOC)["status"] == "RELEASED"
    assert program.document(DOC)["attributes"]["Weight"] == 1.5
    assert program.checks()["schemas"]["result"] == "ok"

    put(broker, changes, DOC, framed(8, SCHEMA, row("IA", 1_790_000_001_000)))
    put(broker, changes, DOC, framed(7, SCHEMA, row("IA", 1_790_000_002_000))[:-1])
    program.say("run", "--once", code=3)
    unknown, broken = program.json("dead-letters", "list")
    assert unknown["reason"] == f"the schema registry {server.url} has no schema 8 (40403)"
    assert "it is not Avro of its schema 7: it ends too early" in broken["reason"]
    server.register(8, SCHEMA)
    program.say("dead-letters", "replay", unknown["id"])
    program.say("dead-letters", "discard", broken["id"], "--reason", "cut off")
    program.say("run", "--once")
    assert program.document(DOC)["status"] == "INWORK"

    # With its schemas in a folder, all of it is read again without a registry, and means the same.
    before = program.json("explain", DOC, "status")["fields"][0]["claims"][0]
    (folder := program.folder / "schemas").mkdir()
    for number in (7, 8):
        shutil.copyfile(EXAMPLE / "schemas" / "7.avsc", folder / f"{number}.avsc")
    program.reconfigure(f'registry_url = "{server.url}"', f'dir = "{folder}"')
    asked = len(server.asked)
    program.say("rebuild")
    after = program.json("explain", DOC, "status")["fields"][0]["claims"][0]
    assert (after["event"], after["reason"], after["time"]) == (before["event"], before["reason"], before["time"])
    assert program.run("export", "log", "--to", "log.jsonl").returncode == 3, "the broken one is left out"
    program.say("replay", "--from", "log.jsonl", "--check")
    assert len(server.asked) == asked


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    for _ in range(round(HANG_S / 0.1)):
        if holds():
            return
        time.sleep(0.1)
    pytest.fail("it never came to that")


def test_a_daemon_waits_for_the_registry_and_goes_on_with_everything_else(
    program: Program, broker: Server, server: registry.Registry
) -> None:
    program.say("run", "--once")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program.reconfigure('bind = "127.0.0.1:0"', f'bind = "{address}"')
    put(broker, topic_of(program), DOC, framed(7, SCHEMA, row("FR", 1_790_000_000_000)))
    server.fails_with = 503, b"no leader"

    def waits() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return "no leader" in str(httpx.get(f"http://{address}/api/v1/status").json().get("folding_waits"))
        return False

    with subprocess.Popen([sys.executable, "-m", "reconciler", "run", "-c", str(program.config)]) as running:
        try:
            until(waits)
            program.say("emit", OTHER, "--set", "owner=akim")  # by the topic of decisions
            until(lambda: program.document(OTHER)["owner"] == "akim")
            assert waits()
            server.fails_with = None
            until(lambda: program.document(DOC)["status"] == "RELEASED")
            until(lambda: not waits())
            assert httpx.get(f"http://{address}/api/v1/dead-letters").json()["items"] == []
        finally:
            running.terminate()


def test_a_source_is_tried_on_the_bytes_of_a_record(program: Program, server: registry.Registry) -> None:
    def tried(given: bytes) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "reconciler", "source", "test", "--source", "erp", "-c", str(program.config)]
        return subprocess.run(command, input=given, capture_output=True, check=False)

    shown = tried(framed(7, SCHEMA, row("FR", 1_790_000_000_000)))
    assert shown.returncode == 0
    assert b"RELEASED" in shown.stdout
    assert b"has no schema 9" in tried(framed(9, SCHEMA, row("FR", 1))).stdout
    server.fails_with = 503, b""
    away = tried(framed(7, SCHEMA, row("FR", 1)))
    assert (away.returncode, away.stdout) == (1, b"")
    assert b"answers 503" in away.stderr
