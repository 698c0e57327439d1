"""Events of another shape, by commands alone: read, explained, tried, and never read in two ways without a word."""

import json

import pytest

from tests.cli.program import Program
from tests.cli.test_end_to_end import DOC

pytestmark = pytest.mark.e2e

SOURCE = """
[[source]]
name = "erp"
source = "//erp/prod"
when = "kind == 'document'"
document = "number"
time = "changed"
set.status = {{ from = "state", table = "states" }}
set.owner = {{ from = "by", table = "people" }}
tables.states = {{ {states} }}
table_files.people = "people.csv"
"""


def say(program: Program, **more: str) -> str:
    record = {"kind": "document", "number": DOC, "changed": "2026-11-22T10:00:00Z", "by": "AK"} | more
    with program.log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    return json.dumps(record)


@pytest.fixture
def mapped(program: Program) -> Program:
    with program.config.open("a", encoding="utf-8") as file:
        file.write(SOURCE.format(states='FR = "RELEASED"'))
    (program.folder / "people.csv").write_text("erp,windchill\nAK,akim\n", encoding="utf-8")
    return program


def test_a_record_of_another_shape_is_written_and_explained(mapped: Program) -> None:
    text = say(mapped, state="FR")
    say(mapped, kind="order")
    tried = json.loads(mapped.say("source", "test", "--source", "erp", "-o", "json", given=text))
    mapped.say("run", "--once")
    shown = mapped.document(DOC)
    assert (shown["status"], shown["owner"]) == ("RELEASED", "akim")
    (field,) = mapped.json("explain", DOC, "status")["fields"]
    (claim,) = field["claims"]
    assert (claim["source"], claim["event"], claim["reason"]) == ("//erp/prod", tried["id"], tried["reason"])
    assert "✓ reading" in mapped.run("doctor").stdout


def test_what_no_table_has_is_a_dead_letter_until_an_entry_is_added(mapped: Program) -> None:
    text = say(mapped, state="IA")
    assert "no entry for 'IA'" in mapped.say("source", "test", "--source", "erp", given=text, code=1)
    mapped.say("run", "--once", code=3)
    (letter,) = mapped.json("dead-letters", "list")
    assert "[[source]] erp: table states has no entry for 'IA'" in letter["reason"]
    mapped.reconfigure('FR = "RELEASED"', 'FR = "RELEASED", IA = "INWORK"')
    mapped.say("dead-letters", "replay", letter["id"])
    mapped.say("run", "--once")
    assert mapped.document(DOC)["status"] == "INWORK"


def test_a_changed_mapping_asks_for_a_decision(mapped: Program) -> None:
    say(mapped, state="FR")
    mapped.say("run", "--once")
    mapped.reconfigure('FR = "RELEASED"', 'FR = "OBSOLETE"')
    refused = mapped.run("run", "--once")
    assert refused.returncode == 1
    assert "[[source]] erp has changed since events.jsonl was read: entry 'FR' of table states" in refused.stderr
    assert "✗ reading" in mapped.run("doctor").stdout
    mapped.say("rebuild")
    mapped.say("run", "--once")
    assert mapped.document(DOC)["status"] == "OBSOLETE"
    mapped.reconfigure('FR = "OBSOLETE"', 'FR = "INREVIEW"')
    mapped.say("run", "--once", "--accept-sources")
    mapped.say("run", "--once")
    assert mapped.document(DOC)["status"] == "OBSOLETE", "what was read keeps what it said"


def test_a_source_without_a_time_is_told(mapped: Program) -> None:
    mapped.reconfigure('time = "changed"\n', "")
    assert "a copy of a record is a new event" in mapped.run("config", "check").stderr
    assert "! source erp" in mapped.run("doctor").stdout


def test_each_reconciler_takes_its_part_of_a_log(program: Program) -> None:
    program.emits(DOC, "--set", "status=RELEASED")
    program.emits("OTHER-1", "--set", "status=RELEASED")
    program.reconfigure("[log]\n", '[log]\nsubjects = ["0000*"]\n')
    program.say("run", "--once")
    assert [row["document"] for row in program.json("docs", "list")] == [DOC], "the other is no parked document"
    assert program.json("status")["part"] == ["0000*"]
    assert "not in this reconciler's part" in program.run("emit", "OTHER-1", "--set", "a=1").stderr
    program.reconfigure('["0000*"]', '["*"]')
    assert "log.subjects has changed" in program.run("run", "--once").stderr
