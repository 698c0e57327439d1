"""A record that comes again changes nothing, and a nested value asks the rules of its leaves."""

import asyncio
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.brokers import Server
from tests.brokers.fixtures import MakeTopic
from tests.cli.program import Program, Topics, event

pytestmark = pytest.mark.e2e

DOC, OTHER = "0000000001", "0000000002"


@pytest.fixture
def edited(program: Program) -> Program:
    return let_edit(program)


def let_edit(program: Program) -> Program:
    """ERP sets an owner, a cost centre and two keywords; then a person changes all three, and that stands."""
    sets = ("--set", "owner=jdoe", "--set", 'attributes.CostCenter="4711"', "--set", 'attributes.Keywords=["a", "b"]')
    program.say("emit", DOC, *sets, "--source", "//erp/prod")
    program.say("run", "--once")
    assert program.document(DOC)["owner"] == "jdoe"
    program.edit(DOC, owner="mrossi", attributes__CostCenter="9999", attributes__Keywords=["b", "mine"])
    program.say("run", "--once")
    check_edit_stands(program)
    return program


def check_edit_stands(program: Program) -> None:
    shown = program.document(DOC)
    assert shown["owner"] == "mrossi"
    assert shown["attributes"]["CostCenter"] == "9999"
    assert shown["attributes"]["Keywords"] == ["b", "mine"]


def appended_again(program: Program) -> None:
    program.log.write_bytes(program.log.read_bytes() * 2)


def under_another_name(program: Program) -> None:
    program.log.write_bytes(program.log.read_bytes())
    copy = program.log.rename(program.folder / "z-renamed.jsonl")
    program.reconfigure(str(program.log), str(copy))


def sent_again(program: Program) -> None:
    copy = program.folder / "again.jsonl"
    copy.write_bytes(program.log.read_bytes())
    program.say("emit", "--file", str(copy))


def replayed(program: Program) -> None:
    copy = program.folder / "archive.jsonl"
    copy.write_bytes(b"\n" * 7 + program.log.read_bytes())
    program.say("replay", "--from", str(copy))


@pytest.mark.parametrize("come_again", [appended_again, under_another_name, sent_again, replayed])
def test_an_event_that_comes_again_undoes_no_persons_edit(
    edited: Program, come_again: Callable[[Program], None]
) -> None:
    come_again(edited)
    edited.say("run", "--once")
    check_edit_stands(edited)
    assert edited.json("conflicts", "list") == []


def test_an_event_that_comes_again_reopens_no_conflict_that_was_decided(edited: Program) -> None:
    edited.say("emit", DOC, "--set", 'attributes.CostCenter="5000"', "--source", "//erp/prod")
    edited.edit(DOC, attributes__CostCenter="8888")
    edited.say("run", "--once", code=3)
    (conflict,) = edited.json("conflicts", "list")
    edited.say("conflicts", "resolve", conflict["id"], "--take", "live")
    edited.say("run", "--once")
    appended_again(edited)
    edited.say("run", "--once")
    assert edited.json("conflicts", "list") == []
    assert edited.document(DOC)["attributes"]["CostCenter"] == "8888"


@pytest.mark.kafka
@pytest.mark.parametrize("where", ["same topic", "mirror"])
def test_records_that_come_again_in_kafka_undo_no_persons_edit(
    tmp_path: Path, windchill: str, broker: Server, topic: MakeTopic, where: str
) -> None:
    topics = Topics.made(topic, 1)
    changes, mirror = topics.changes, asyncio.run(_topic(topic, "zz-mirror"))
    program = let_edit(Program(tmp_path, windchill, topics.log(broker.brokers)))
    asyncio.run(_copy(broker, changes, mirror if where == "mirror" else changes))
    if where == "mirror":
        program.reconfigure(changes, mirror)
    program.say("run", "--once")
    check_edit_stands(program)


async def _topic(topic: MakeTopic, name: str) -> str:
    return await topic(1, name)


async def _copy(broker: Server, source: str, target: str) -> None:
    """Append every record of a topic to a topic, as a mirror or a producer that tries again does."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.brokers, enable_auto_commit=False)
    producer = AIOKafkaProducer(bootstrap_servers=broker.brokers)
    await consumer.start()
    await producer.start()
    try:
        partition = TopicPartition(source, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        records = [await consumer.getone() for _ in range(end)]
        for record in records:
            await producer.send_and_wait(target, record.value, record.key, headers=list(record.headers))
    finally:
        await producer.stop()
        await consumer.stop()


def test_a_nested_value_writes_the_fields_it_names_and_no_other(program: Program) -> None:
    before = program.document(DOC)["attributes"]
    program.say("emit", DOC, "--set", 'attributes={"CostCenter": "5"}', "--source", "//mes/hall-3")
    program.say("run", "--once")
    assert program.document(DOC)["attributes"] == {**before, "CostCenter": "5"}


def test_a_nested_value_does_not_get_round_a_rule_for_sources(program: Program) -> None:
    program.append(event(DOC, "//mes/hall-3", {"attributes": {"Secret": "x"}}))
    program.say("run", "--once", code=3)
    (letter,) = program.json("dead-letters", "list")
    assert "may not set `attributes.Secret`" in letter["reason"]
    assert "Secret" not in program.document(DOC)["attributes"]


@pytest.mark.parametrize(
    "said", [("--set", "attributes=null"), ("--set", "attributes=text"), ("--add", "attributes=x")]
)
def test_a_claim_on_a_whole_group_is_held_and_the_command_it_names_settles_it(program: Program, said: tuple) -> None:
    before = program.document(DOC)["attributes"]
    program.say("emit", DOC, *said, "--source", "//erp/prod")
    program.say("run", "--once", code=3)
    assert program.document(DOC)["attributes"] == before
    (conflict,) = program.json("conflicts", "list")
    assert "group of fields" in conflict["reason"]
    command = shlex.split(conflict["reason"].rpartition(": ")[2])
    assert command[:3] == ["reconciler", "docs", "release"]
    program.say(*command[1:])
    program.say("run", "--once")
    assert program.json("conflicts", "list") == []
    assert program.document(DOC)["attributes"] == before


def test_keeping_windchills_side_settles_a_claim_on_a_whole_group(program: Program) -> None:
    program.say("emit", DOC, "--set", "attributes=null", "--source", "//erp/prod")
    program.say("run", "--once", code=3)
    (conflict,) = program.json("conflicts", "list")
    assert "group of fields" in program.fails("conflicts", "resolve", conflict["id"], "--take", "desired", code=2)
    program.say("conflicts", "resolve", conflict["id"], "--take", "live")
    program.say("run", "--once")
    assert program.json("conflicts", "list") == []
