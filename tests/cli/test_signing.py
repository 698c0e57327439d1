"""Signing on a file log, by commands alone: switched on, a forger, a lost store, an archive, another key."""

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.events import signing
from reconciler.model import signing as model
from tests.brokers import Server
from tests.brokers.fixtures import MakeTopic
from tests.cli.program import Program, Topics
from tests.cli.test_end_to_end import DOC
from tests.cli.test_kafka import put

OUTCOMES = "events.outcomes.jsonl"
OUTSIDER = {
    "specversion": "1.0", "id": "forged", "source": "//reconciler/operators", "actor": "boss",
    "type": "windchill.document.changed.v1", "subject": DOC, "time": "2026-01-02T00:00:00Z",
    "data": {"set": {"attributes.CostCenter": "666"}},
}  # fmt: skip


def fresh_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def switch_on(program: Program, key: str, previous: str = "") -> None:
    """Have the keys in files, as the documentation says."""
    for name, content in (("key", key), ("key.previous", previous)):
        (program.folder / name).write_text(content + "\n", encoding="utf-8")
    text = program.config.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("signing_key")]
    given = [f'signing_key_file = "{program.folder}/key"']
    given += [f'signing_key_previous_file = "{program.folder}/key.previous"'] if previous else []
    program.config.write_text("\n".join([lines[0], *given, *lines[1:]]), encoding="utf-8")


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def forge(program: Program, event: dict[str, Any]) -> None:
    with program.decisions.open("a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")


def cost_center(program: Program) -> Any:
    return program.document(DOC)["attributes"]["CostCenter"]


def resolve(program: Program, value: str) -> None:
    (row,) = [row for row in program.json("conflicts", "list") if row["field"] == "attributes.CostCenter"]
    program.say("conflicts", "resolve", row["id"], "--value", json.dumps(value))


def clash(program: Program, theirs: str, ours: str) -> None:
    """Both sides move a field, which then waits for a person."""
    program.edit(DOC, attributes__CostCenter=theirs)
    program.say("emit", DOC, "--set", f"attributes.CostCenter={ours}", "--source", "//erp/prod")
    program.say("run", "--once", code=3)


def decide(program: Program) -> Program:
    """Decide something before there is a key."""
    program.say("emit", DOC, "--set", "attributes.CostCenter=1", "--source", "//erp/prod")
    program.say("run", "--once")
    clash(program, "2", "3")
    resolve(program, "4")
    program.say("run", "--once")
    assert cost_center(program) == "4"
    return program


@pytest.fixture
def decided(program: Program) -> Program:
    return decide(program)


def test_from_the_first_start_with_a_key_on_an_outsider_decides_nothing(decided: Program) -> None:
    key = fresh_key()
    switch_on(decided, key)
    decided.say("run", "--once")
    clash(decided, "5", "6")
    resolve(decided, "7")
    last = lines_of(decided.decisions)[-1]
    keys = model.keys(key)
    assert keys is not None
    assert signing.fault(json.dumps(last).encode(), keys) is None
    decided.say("run", "--once")
    assert cost_center(decided) == "7"

    forge(decided, OUTSIDER | {"time": last["time"], "sequence": "9"})
    forge(decided, last | {"id": "x", "data": last["data"] | {"set": {"attributes.CostCenter": "666"}}})
    told = lines_of(decided.folder / OUTCOMES)
    agreed = [one for one in told if one["type"] == "windchill.document.reconciled.v1"][-1]
    agreed["data"]["base"]["attributes.CostCenter"] |= {"value": "666", "stamp": None}
    with (decided.folder / OUTCOMES).open("a", encoding="utf-8") as file:
        file.write(json.dumps(agreed | {"sequence": "0000000999"}) + "\n")
    decided.say("run", "--once", code=3)
    assert cost_center(decided) == "7"
    letters = decided.json("dead-letters", "list")
    said = sorted(letter["reason"].partition(":")[0] for letter in letters)
    assert said == ["this decision of an operator is not accepted"] * 2 + ["this outcome is not accepted"]

    decided.lose_store()
    before = decided.writes()
    decided.say("run", "--once", code=3)
    assert (cost_center(decided), decided.writes()) == ("7", before), "a lost store makes nothing of it valid"
    assert len(decided.json("dead-letters", "list")) == 3
    decided.say("rebuild")
    decided.say("run", "--once", code=3)
    assert (cost_center(decided), decided.writes()) == ("7", before)
    assert len(decided.json("dead-letters", "list")) == 3


def test_what_was_exported_is_believed_again_and_another_key_too(decided: Program) -> None:
    first, second = fresh_key(), fresh_key()
    switch_on(decided, first)
    decided.say("run", "--once")
    clash(decided, "5", "6")
    resolve(decided, "7")
    decided.say("run", "--once")
    switch_on(decided, second, first)
    decided.say("run", "--once")
    assert decided.json("dead-letters", "list") == []
    archive = decided.folder / "archive.jsonl"
    decided.say("export", "log", "--to", str(archive))
    said = [one for one in lines_of(archive) if one["source"] == "//reconciler/operators"]
    assert ["signature" in one for one in said] == [False, True], "the first was decided before there was a key"
    done = decided.run("replay", "--from", str(archive), "--check")
    assert done.returncode == 0, done
    forged = said[0] | {"id": "forged", "kafkaoffset": 1}  # says of itself that it stood where all are signed
    with archive.open("a", encoding="utf-8") as file:
        file.write(json.dumps(forged) + "\n")
    aside = f"sqlite:///{decided.folder}/aside.db"
    decided.say("replay", "--from", str(archive), "--into", aside)
    (letter,) = json.loads(decided.run("dead-letters", "list", "--store", aside, "-o", "json", configured=False).stdout)
    assert letter["reason"].startswith("this decision of an operator is not accepted: it is not signed")


@pytest.mark.kafka
@pytest.mark.e2e
def test_over_kafka_a_lost_store_makes_no_forgery_valid(
    tmp_path: Path, windchill: str, broker: Server, topic: MakeTopic
) -> None:
    topics = Topics.made(topic)
    program = decide(Program(tmp_path, windchill, topics.log(broker.brokers)))
    switch_on(program, fresh_key())
    program.say("run", "--once")
    put(broker, topics.decisions, DOC, json.dumps(OUTSIDER).encode())
    clash(program, "5", "6")
    resolve(program, "7")
    program.say("run", "--once", code=3)
    before = program.writes()
    program.lose_store()
    program.say("run", "--once", code=3)
    assert (cost_center(program), program.writes()) == ("7", before)
    (letter,) = program.json("dead-letters", "list")
    assert letter["topic"] == topics.decisions
    assert "this decision of an operator is not accepted: it is not signed" in letter["reason"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"signing_key": "short"}, "32 bytes or more in base64"),
        ({"signing_key": "x" * 45}, "a key is not valid base64"),
        ({"signing_key_previous": "x" * 44}, "needs log.signing_key"),
    ],
)
def test_a_key_that_is_none_is_named_and_not_shown(program: Program, given: dict[str, str], says: str) -> None:
    program.reconfigure("[log]\n", "[log]\n" + "".join(f'{name} = "{value}"\n' for name, value in given.items()))
    said = program.fails("config", "check", code=1)
    assert says in said
    assert not any(value in said for value in given.values())


def test_doctor_says_whether_decisions_are_signed_and_since_where(decided: Program) -> None:
    def said() -> dict[str, str]:
        (found,) = [row for row in decided.json("doctor") if row["check"] == "signatures"]
        return found

    text, key = decided.config.read_text(encoding="utf-8"), fresh_key()
    assert (said()["result"], said()["message"].partition(":")[0]) == ("ok", "off")
    switch_on(decided, key)
    assert "on from the next start" in said()["message"]
    decided.say("run", "--once")
    assert "events.outcomes.jsonl/0 at " in said()["message"]
    assert key not in said()["message"]
    decided.config.write_text(text, encoding="utf-8")
    assert said()["result"] == "warning"


def test_openssl_makes_such_a_key(program: Program) -> None:
    made = subprocess.run(["openssl", "rand", "-base64", "32"], capture_output=True, text=True, check=True).stdout
    switch_on(program, made.strip())
    program.say("config", "check")
