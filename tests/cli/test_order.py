"""`[log] order = "log"`: the record that was appended later wins, whatever the producers' clocks say."""

import asyncio
import json
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.partitioner import DefaultPartitioner

from tests.brokers import Server
from tests.brokers.apache import Apache
from tests.brokers.fixtures import MakeTopic
from tests.cli.program import Program, Topics

EARLIER, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
DOC = "0000000003"
ERP = ("--source", "//erp/1")
_partition = DefaultPartitioner()


def test_a_file_ranks_by_when_its_lines_were_recorded_and_refuses_those_that_do_not_say_it(program: Program) -> None:
    _by_log(program)
    program.say("emit", DOC, "--set", "status=INREVIEW", "--time", LATER, *ERP)
    program.say("emit", DOC, "--set", "status=RELEASED", "--time", EARLIER, *ERP)
    lines = [json.loads(line) for line in program.log.read_text().splitlines()]
    assert all("recordedtime" in line for line in lines)
    silent = {name: value for name, value in lines[0].items() if name != "recordedtime"} | {"id": "silent"}
    program.append(silent)
    program.say("run", "--once", code=3)
    assert program.document(DOC)["status"] == "RELEASED"
    (letter,) = program.json("dead-letters", "list")
    assert "`recordedtime` is missing" in letter["reason"]
    program.say("dead-letters", "replay", "--all")  # which appends it now
    program.say("run", "--once")
    assert program.document(DOC)["status"] == "INREVIEW"


@pytest.mark.kafka
@pytest.mark.e2e
def test_a_topic_that_keeps_the_producers_timestamps_is_refused_with_the_command_that_helps(
    tmp_path: Path, windchill: str, broker: Server, topic: MakeTopic
) -> None:
    _require_apache(broker)
    changes, beside = asyncio.run(_unstamped(topic))
    program = Program(tmp_path, windchill, _log(broker, changes, beside))
    said = program.fails("run", "--once")
    assert f"--entity-name {changes} --add-config message.timestamp.type=LogAppendTime" in said
    assert said in {f"error: {row['message']}" for row in program.json("doctor", code=1) if row["check"] == "log"}
    asyncio.run(_stamp_by_broker(broker, changes))
    assert f"--entity-name {beside} --add-config" in program.fails("run", "--once"), "the decisions' topic too"
    asyncio.run(_stamp_by_broker(broker, beside))
    program.say("run", "--once")
    assert {row["result"] for row in program.json("doctor") if row["check"] in ("log", "timestamps of the log")} == {
        "ok"
    }


@pytest.mark.kafka
@pytest.mark.e2e
def test_added_partitions_and_a_renamed_topic_turn_no_order_round(
    tmp_path: Path, windchill: str, broker: Server, topic: MakeTopic
) -> None:
    _require_apache(broker)
    first, renamed, beside = asyncio.run(_topics(broker, topic))
    program = Program(tmp_path, windchill, _log(broker, first, beside))
    wanderer = _wanderer(2, 3)
    program.say("emit", DOC, "--set", "status=INREVIEW", "--time", LATER, *ERP)
    program.say("emit", wanderer, "--set", "status=INREVIEW", "--time", LATER, *ERP)
    program.say("run", "--once")
    asyncio.run(_add_partitions(broker, first, 3))
    program.say("emit", wanderer, "--set", "status=RELEASED", "--time", EARLIER, *ERP)
    program.say("run", "--once")
    assert program.document(wanderer)["status"] == "RELEASED"

    program = Program(tmp_path, windchill, _log(broker, renamed, beside))
    program.say("emit", DOC, "--set", "status=RELEASED", "--time", EARLIER, *ERP)
    program.say("run", "--once")
    assert program.document(DOC)["status"] == "RELEASED"


def _by_log(program: Program) -> None:
    program.reconfigure("[log]\n", '[log]\norder = "log"\n')


def _log(broker: Server, changes: str, beside: str) -> str:
    return 'order = "log"\n' + Topics(changes, beside, f"{beside}-outcomes", f"{beside}-letters").log(broker.brokers)


def _require_apache(broker: Server) -> None:
    if not isinstance(broker, Apache):
        pytest.skip("only Apache Kafka tells its settings and adds partitions")


def _wanderer(before: int, after: int) -> str:
    """A document whose records go to a partition of a lower number once there are more partitions."""
    for number in range(1, 21):
        key = f"{number:010d}"
        if _partitioned(key, after) < _partitioned(key, before):
            return key
    raise AssertionError


def _partitioned(key: str, count: int) -> int:
    every = list(range(count))
    return int(_partition(key.encode(), every, every))


async def _unstamped(topic: MakeTopic) -> tuple[str, str]:
    return await topic(1, "changes"), await topic(1, "beside")


async def _topics(broker: Server, topic: MakeTopic) -> tuple[str, str, str]:
    names = await topic(2, "z-changes"), await topic(2, "a-changes"), await topic(1, "beside")
    for name in names:
        await _stamp_by_broker(broker, name)
    return names


async def _stamp_by_broker(broker: Server, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.brokers)
    await admin.start()
    wanted = {"message.timestamp.type": "LogAppendTime"}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, wanted)])
    await admin.close()


async def _add_partitions(broker: Server, topic: str, count: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.brokers)
    await admin.start()
    await admin.create_partitions({topic: NewPartitions(count)})
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=broker.brokers)
    await producer.start()
    while len(await producer.partitions_for(topic)) < count:
        await producer.client.force_metadata_update()
    await producer.stop()
