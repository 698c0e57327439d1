"""Recovery as an operator does it: lost stores, logs cut short, archives, and a look at an earlier time."""

import asyncio
import json
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from tests import brokers
from tests.brokers import apache
from tests.brokers.fixtures import MakeTopic
from tests.cli.program import Program, Topics

DOC, OTHER = "0000000003", "0000000004"


# ---------------------------------------------------------------------------------------------------------- lost stores


def test_a_store_that_is_gone_comes_back_with_the_next_run(program: Program) -> None:
    program.emits(DOC, "--set", "owner=akim", "--set", "status=RELEASED")
    program.say("run", "--once")
    program.edit(DOC, owner="jdoe")
    program.emits(DOC, "--set", "attributes.CostCenter=4711")
    program.say("run", "--once")
    writes = program.writes()
    program.lose_store()
    assert program.json("plan") == [], "neither is anything announced"
    program.say("run", "--once")
    assert program.writes() == writes
    assert program.document(DOC)["owner"] == "jdoe"
    (found,) = [field for field in program.json("docs", "show", DOC)["fields"] if field["field"] == "owner"]
    assert (found["desired"], found["base"]) == ("akim", "jdoe")


def test_what_was_desired_then_is_compared_with_windchill_now(program: Program) -> None:
    program.emits(DOC, "--set", "status=INREVIEW")
    program.say("run", "--once")
    program.emits(DOC, "--set", "status=RELEASED")
    program.emits(OTHER, "--set", "status=RELEASED")
    program.say("run", "--once")
    first = json.loads(program.log.read_text().splitlines()[0])
    program.say("replay", "--from", str(program.log), "--until", first["time"], "--into", "sqlite:///then.db")
    (row,) = program.json("plan", "--all", "--store", "sqlite:///then.db", code=2)
    assert (row["document"], row["field"], row["desired"], row["live"]) == (DOC, "status", "INREVIEW", "RELEASED")
    assert program.json("docs", "list", "--store", "sqlite:///then.db")[0]["document"] == DOC


@pytest.mark.parametrize("command", ["replay", "rebuild"])
def test_where_the_log_is_a_file_no_broker_is_asked_for_it(program: Program, command: str) -> None:
    program.emits(DOC, "--set", "status=RELEASED")
    assert f"--from {program.log}" in program.fails(command, "--from", "kafka", code=2)
    assert list(program.folder.glob("state.db*")) == []


# -------------------------------------------------------------------------------------- logs that no longer reach back


@pytest.fixture
def server(broker: brokers.Server) -> apache.Apache:
    if not isinstance(broker, apache.Apache):
        pytest.skip("only Apache Kafka deletes records")
    return broker


@pytest.fixture
def on_kafka(tmp_path: Path, windchill: str, server: apache.Apache, topic: MakeTopic) -> Program:
    """The program on a topic of one partition, with two documents synced."""
    program = Program(tmp_path, windchill, Topics.made(topic, 1).log(server.brokers))
    program.emits(DOC, "--set", "owner=akim")
    program.emits(OTHER, "--set", "title=Lid")
    program.emits(DOC, "--set", "title=Cover")
    program.say("run", "--once")
    return program


def forget(server: apache.Apache, program: Program, setting: str, offset: int) -> None:
    """Delete a topic's oldest records, as retention does."""
    name = next(line.split('"')[1] for line in program.config.read_text().splitlines() if line.startswith(setting))

    async def delete() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=server.brokers)
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(name, 0): RecordsToDelete(offset)})
        finally:
            await admin.close()

    asyncio.run(delete())


@pytest.mark.kafka
@pytest.mark.e2e
def test_a_log_that_is_shorter_than_its_history_needs_an_archive(on_kafka: Program, server: apache.Apache) -> None:
    program = on_kafka
    program.say("export", "log", "--to", "changes.jsonl.zst")
    program.say("export", "outcomes", "--to", "outcomes.jsonl")
    program.edit(DOC, owner="jdoe")
    forget(server, program, "topic", 2)
    forget(server, program, "outcomes_topic", 1)
    program.say("run", "--once")  # a store that is up to date does not miss them
    before, writes = program.say("export", "projection", "--to", "-"), program.writes()
    program.lose_store()

    assert "offset 0 comes next, but the log holds" in program.fails("run", "--once")
    assert program.json("docs", "list") == [], "nothing was folded"
    said = program.fails("replay", "--from", "kafka")
    assert "offset 0 to 1" in said
    assert "--from ARCHIVE --from kafka" in said
    program.say("replay", "--from", "kafka", "--from", "outcomes.jsonl", "--from", "changes.jsonl.zst")
    assert program.say("export", "projection", "--to", "-") == before
    program.say("run", "--once")
    assert program.writes() == writes
    assert program.document(DOC)["owner"] == "jdoe"
    ended = program.run("export", "log", "--to", "rest.jsonl")
    assert (ended.returncode, "begins at offset 2" in ended.stderr) == (3, True)


@pytest.mark.kafka
@pytest.mark.e2e
def test_an_operator_may_go_on_without_what_is_lost(on_kafka: Program, server: apache.Apache) -> None:
    program = on_kafka
    forget(server, program, "topic", 2)
    forget(server, program, "outcomes_topic", 1)
    program.lose_store()
    assert "run --accept-truncation" in program.fails("run", "--once")
    program.say("run", "--once", "--accept-truncation")
    left = [json.loads(line)["document"] for line in program.say("export", "projection", "--to", "-").splitlines()]
    assert left == [DOC]
    program.say("run", "--once")
    program.say("replay", "--from", "kafka", "--accept-truncation", "--into", "sqlite:///rest.db")
