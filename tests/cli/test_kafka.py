"""Commands against a broker: what is emitted to Kafka is applied, explained, exported, and folds again to the same."""

import asyncio
import json
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from reconciler.core.events.outcomes import REPLAY_OF
from reconciler.model.policy import OPERATORS
from tests.brokers import Server, group_offsets
from tests.brokers.apache import Apache
from tests.brokers.fixtures import MakeTopic
from tests.cli.program import Program, Topics, event

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

DOC, OTHER, GONE = "0000000003", "0000000004", "0000000005"


def put(broker: Server, topic: str, key: str, value: bytes | None, *headers: tuple[str, bytes]) -> None:
    """Append a record, as any producer does."""

    async def append() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker.brokers) as producer:
            await producer.send_and_wait(topic, value, key.encode(), headers=list(headers))

    asyncio.run(append())


def test_the_whole_way_over_kafka(tmp_path: Path, windchill: str, broker: Server, topic: MakeTopic) -> None:
    topics = Topics.made(topic)
    changes = topics.changes
    program = Program(tmp_path, windchill, topics.log(broker.brokers))
    program.emits(DOC, "--set", "status=RELEASED", "--add", "attributes.Keywords=bracket")
    program.emits(OTHER, "--set", "owner=wkaya")
    program.emits(GONE, "--set", "owner=wkaya")
    put(broker, changes, GONE, None)  # a tombstone
    binary = [
        ("ce_specversion", b"1.0"), ("ce_id", b"b1"), ("ce_source", b"//mes"), ("ce_subject", OTHER.encode()),
        ("ce_type", b"windchill.document.changed.v1"), ("ce_time", b"2026-01-01T00:00:00Z"),
    ]  # fmt: skip
    put(broker, changes, OTHER, b'{"set": {"status": "INREVIEW"}}', *binary)
    put(broker, changes, "p", b"poison", ("trace", b"\xff"))

    assert {row["field"] for row in program.json("plan", code=2)} >= {"status", "owner"}
    assert program.json("run", "--once", code=3)["dead_letters"] == 1
    assert program.document(DOC)["status"] == "RELEASED"
    assert program.document(OTHER)["status"] == "INREVIEW"
    (claim,) = program.json("explain", OTHER, "status")["fields"][0]["claims"]
    assert (claim["event"], claim["topic"]) == ("b1", changes)
    assert sum(row["end"] for row in program.json("status")["log"]) == 6
    found = program.checks()
    assert {check for check, row in found.items() if row["result"] != "ok"} == {
        "retention of the log", "timestamps of the log", "retention of the decisions", "retention of the outcomes",
    }  # fmt: skip
    if isinstance(broker, Apache):
        shown = asyncio.run(group_offsets(broker, "windchill-reconciler"))
        assert sum(offset for place, offset in shown.items() if place.topic == changes) == 6, "no lag is shown"
        assert "it keeps 7 days (retention.ms)" in found["retention of the log"]["message"]

    ended = program.run("export", "log", "--to", "log.jsonl.zst")
    assert (ended.returncode, ended.stderr.splitlines()[0]) == (3, "Wrote 5 records to log.jsonl.zst.")
    program.say("export", "outcomes", "--to", "outcomes.jsonl")
    assert program.json("replay", "--from", "log.jsonl.zst", "--check") == []
    assert program.json("replay", "--from", "kafka", "--check") == []
    program.say("replay", "--from", "log.jsonl.zst", "--into", "sqlite:///from-file.db")
    done = program.json("replay", "--from", "kafka", "--into", "sqlite:///from-kafka.db")
    assert (done["changed"], done["rebased"]) == (3, 2)
    exports = {
        program.say("export", "projection", "--to", "-", "--store", f"sqlite:///{name}.db")
        for name in ("state", "from-file", "from-kafka")
    }
    assert len(exports) == 1

    (letter,) = program.json("dead-letters", "list")
    shown = program.json("dead-letters", "show", letter["id"])
    assert (shown["value"], shown["key"], shown["headers"][0]["base64"]) == ("poison", "p", "/w==")
    program.say("dead-letters", "replay", letter["id"])
    program.say("run", "--once", code=3)
    (again,) = program.json("dead-letters", "list")
    assert again["offset"] > letter["offset"]
    assert program.json("dead-letters", "list", "--status", "replayed")[0]["id"] == letter["id"]


def changed(document: str, source: str, **fields: str) -> bytes:
    """A change event as a plain producer writes it, whatever source it likes to name."""
    return json.dumps(event(document, source, fields)).encode()


def refusals(program: Program) -> dict[str, str]:
    return {row["topic"]: row["reason"] for row in program.json("dead-letters", "list")}


def test_a_producer_that_writes_an_operators_name_into_its_event_decides_nothing(
    tmp_path: Path, windchill: str, broker: Server, topic: MakeTopic
) -> None:
    topics = Topics.made(topic)
    changes, decisions, *_ = topics
    program = Program(tmp_path, windchill, topics.log(broker.brokers))
    before = program.document(DOC)["owner"]
    put(broker, changes, DOC, changed(DOC, OPERATORS, owner="mallory"))
    put(broker, decisions, DOC, changed(DOC, "//erp/prod", owner="mallory"))
    put(broker, decisions, DOC, None)  # a tombstone decides nothing either
    put(broker, changes, OTHER, changed(OTHER, "//erp/prod", owner="akim"))
    assert program.json("run", "--once", code=3)["dead_letters"] == 3
    assert program.document(DOC)["owner"] == before
    assert program.document(OTHER)["owner"] == "akim"
    told = refusals(program)
    assert f"decisions of operators are taken from {decisions} only" in told[changes]
    assert f"{decisions} takes decisions of operators" in told[decisions]

    # Replayed, each goes back to where it came from, and is refused again: no one lends it a better place.
    program.say("dead-letters", "replay", "--all")
    program.say("run", "--once", code=3)
    assert refusals(program).keys() == {changes, decisions}
    assert program.document(DOC)["owner"] == before
    # Whoever may write to one topic settles no letter of another.
    forged = next(row["id"] for row in program.json("dead-letters", "list") if row["topic"] == decisions)
    put(broker, changes, OTHER, changed(OTHER, "//erp/prod", owner="akim"), (REPLAY_OF, forged.encode()))
    program.say("run", "--once", code=3)
    assert forged in {row["id"] for row in program.json("dead-letters", "list")}

    program.say("emit", DOC, "--set", "owner=sgarcia", "--set", "attributes.Secret=x")  # a person may, by the program
    program.say("run", "--once", code=3)
    assert program.document(DOC)["owner"] == "sgarcia"
    (claim,) = program.json("explain", DOC, "owner")["fields"][0]["claims"]
    assert (claim["source"], claim["topic"]) == (OPERATORS, decisions)

    # An archive tells where each stood: folded again it says the same, and refuses the same.
    program.say("export", "log", "--to", "log.jsonl")
    assert program.json("replay", "--from", "log.jsonl", "--check") == []
    assert program.json("replay", "--from", "kafka", "--check") == []
    program.say("rebuild")
    assert refusals(program).keys() == {changes, decisions}
    assert program.json("replay", "--from", "kafka", "--check") == []
    program.lose_store()
    program.say("run", "--once", code=3)  # a store that is lost comes back with all that was decided
    (claim,) = program.json("explain", DOC, "owner")["fields"][0]["claims"]
    assert (claim["source"], claim["value"]) == (OPERATORS, "sgarcia")


def test_each_system_speaks_in_its_own_topic_and_for_no_one_else(
    tmp_path: Path, windchill: str, broker: Server, topic: MakeTopic
) -> None:
    erp, decisions, outcomes, letters = Topics.made(topic)
    (mes, *_) = Topics.made(topic)
    log = (
        f"brokers = {json.dumps(broker.brokers)}\n"
        f'decisions_topic = "{decisions}"\noutcomes_topic = "{outcomes}"\ndead_letter_topic = "{letters}"\n'
        f'[[log.topics]]\nname = "{erp}"\nsources = ["//erp/*"]\n'
        f'[[log.topics]]\nname = "{mes}"\nsources = ["//mes/line-?"]'
    )
    program = Program(tmp_path, windchill, log)
    program.say("emit", DOC, "--source", "//erp/prod", "--set", "owner=akim")
    program.say("emit", OTHER, "--source", "//mes/line-3", "--set", "owner=wkaya")
    assert "may not write to" in program.fails("emit", DOC, "--source", "//wf/x", "--set", "owner=x", code=2)
    put(broker, mes, DOC, changed(DOC, "//erp/prod", status="OBSOLETE"))
    put(broker, mes, OTHER, None)  # by whoever may write there; the rules that name sources admit its topic
    assert program.json("run", "--once", code=3)["dead_letters"] == 1
    assert program.document(DOC)["owner"] == "akim"
    assert program.document(DOC)["status"] != "OBSOLETE"
    (reason,) = refusals(program).values()
    assert reason == f"source '//erp/prod' may not write to {mes}: [[log.topics]] allows //mes/line-? there"
    assert {row["topic"]: row["lag"] for row in program.json("status")["log"]} == {erp: 0, mes: 0, decisions: 0}
    (claim,) = program.json("explain", DOC, "owner")["fields"][0]["claims"]
    assert (claim["topic"], claim["source"]) == (erp, "//erp/prod")
    found = program.checks()
    assert [found[name]["result"] for name in (f"log {erp}", f"log {mes}", "decisions", "outcomes")] == ["ok"] * 4
    assert found["who decides"]["message"].startswith(f"decisions of {OPERATORS} are taken from {decisions} only")
    assert found["topics by source"]["message"].startswith(f"on: {erp} (//erp/*), {mes} (//mes/line-?)")

    program.say("export", "log", "--to", "log.jsonl")
    assert program.json("replay", "--from", "log.jsonl", "--check") == []
    program.say("rebuild", "--from", "log.jsonl", "--from", "kafka")
    assert list(refusals(program)) == [mes]


def test_an_absent_broker_is_said_in_one_line(program: Program) -> None:
    absent = Program(program.folder, program.windchill, 'brokers = ["127.0.0.1:9"]')
    assert "no broker answers at 127.0.0.1:9" in absent.fails("emit", DOC, "--set", "owner=x")
