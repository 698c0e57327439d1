"""Commands over a log in files: operators' decisions stand in a file of their own, and nothing else puts any there."""

import json
import shutil
from pathlib import Path

import pytest

from reconciler.model.policy import OPERATORS
from tests.cli.program import Program, event

DOC, OTHER = "0000000001", "0000000002"


def line(document: str, source: str, *, place: str = "", type_: str = "changed", **fields: str) -> str:
    """A change event as anyone who may write to the file can put it there."""
    said = event(document, source, fields, type=f"windchill.document.{type_}.v1") | ({} if fields else {"data": {}})
    claimed = {"kafkatopic": place, "kafkapartition": 0, "kafkaoffset": 7} if place else {}
    return json.dumps(said | claimed) + "\n"


def write(file: Path, *lines: str) -> None:
    with file.open("a", encoding="utf-8") as log:
        log.writelines(lines)


def refusals(program: Program) -> list[tuple[str, str]]:
    return [(row["topic"], row["reason"]) for row in program.json("dead-letters", "list")]


@pytest.fixture
def forged(program: Program) -> Program:
    """A log to which someone has appended decisions that no operator made, with and without a forged place."""
    program.say(
        "emit", DOC, "--set", "owner=akim", "--time", "2025-06-01T00:00:00Z"
    )  # the first thing ever said is a decision: that makes a log, too
    write(
        program.log,
        line(OTHER, "//erp/prod", title="Lid"),
        line(DOC, OPERATORS, owner="mallory"),
        line(DOC, OPERATORS, place="events.jsonl.decisions", owner="mallory"),
        line(DOC, OPERATORS, place="windchill.document.decisions", owner="mallory"),
        line(DOC, OPERATORS, place="acme", owner="mallory"),
        line(DOC, OPERATORS, type_="released"),
    )
    write(program.decisions, line(DOC, "//erp/prod", owner="mallory"))
    program.say("run", "--once", code=3)
    return program


def test_a_line_in_the_log_decides_nothing_wherever_it_says_that_it_stood(forged: Program) -> None:
    assert forged.json("docs", "show", DOC)["fields"][0]["desired"] == "akim"
    assert forged.json("docs", "show", OTHER)["fields"][0]["desired"] == "Lid"
    found = refusals(forged)
    assert sorted(topic for topic, _ in found) == ["events.jsonl"] * 5 + ["events.jsonl.decisions"]
    assert all("events.jsonl.decisions only" in why for topic, why in found if topic == "events.jsonl")
    assert [row["topic"] for row in forged.json("status")["log"]] == ["events.jsonl", "events.jsonl.decisions"]
    forged.say("dead-letters", "replay", "--all", "--reason", "by mistake")
    forged.say("run", "--once", code=3)
    assert sorted(topic for topic, _ in refusals(forged)) == ["events.jsonl"] * 5 + ["events.jsonl.decisions"]
    assert forged.json("docs", "show", DOC)["fields"][0]["desired"] == "akim"


@pytest.mark.parametrize("archive", ["log.jsonl", "log.jsonl.gz"])
def test_an_export_gives_a_forged_decision_no_better_place(forged: Program, archive: str) -> None:
    forged.run("export", "log", "--to", archive)
    assert forged.json("replay", "--from", archive, "--check") == []
    # Nor where the configuration is another one, whose decisions stand in the topic that the forger has named.
    (elsewhere := forged.folder / "elsewhere").mkdir()
    other = Program(elsewhere, forged.windchill, 'brokers = ["127.0.0.1:9"]\ndecisions_topic = "acme"')
    other.say("replay", "--from", str(forged.folder / archive))
    (owner,) = other.json("docs", "show", DOC)["fields"]
    assert (owner["field"], owner["desired"]) == ("owner", "akim")


def test_a_log_that_is_replayed_brings_its_decisions_along(forged: Program, tmp_path: Path) -> None:
    assert forged.json("replay", "--from", str(forged.log), "--check") == []
    copied = tmp_path / "copy"
    copied.mkdir()
    for file in (forged.log, forged.decisions):
        shutil.copy(file, copied)
    for origins in ([copied / "events.jsonl"], [copied / "events.jsonl.decisions"]):
        there = f"sqlite:///{copied}/{origins[0].name}.db"
        forged.say("replay", *(f"--from={one}" for one in origins), "--into", there)
        (owner,) = json.loads(forged.say("docs", "show", DOC, "-o", "json", "--store", there))["fields"]
        assert owner["desired"] == "akim"
    forged.say("rebuild")
    assert len(refusals(forged)) == 6


def test_a_decision_that_no_longer_counts_is_left_out_where_one_document_is_folded_again(forged: Program) -> None:
    shutil.move(forged.decisions, forged.folder / "aside")
    write(forged.folder / "2025.jsonl", line(DOC, OPERATORS, place="events.jsonl", owner="mallory"))
    assert "comes next, but it holds 0 lines" in forged.fails("run", "--once")
    shutil.move(forged.folder / "aside", forged.decisions)
    forged.say("docs", "refold", DOC, "--from", "2025.jsonl")
    assert forged.json("docs", "show", DOC)["fields"][0]["desired"] == "akim"


def test_what_a_person_decides_is_not_for_others_to_read_or_change(forged: Program) -> None:
    assert forged.decisions.stat().st_mode & 0o077 == 0


def test_the_doctor_says_which_protections_are_on(program: Program) -> None:
    program.say("emit", DOC, "--set", "owner=akim")
    program.folder.chmod(0o755)
    found = {row["check"]: (row["result"], row["message"]) for row in program.json("doctor")}
    assert found["who decides"] == (
        "ok", f"decisions of {OPERATORS} are taken from {program.decisions} only, which others can't write to"
    )  # fmt: skip
    off = f"off: anyone who can write to {program.log} can send events in the name of any system"
    assert found["topics by source"] == ("ok", off)
    assert found["rules by source"] == ("ok", "on: policy[4] (attributes.Secret): //erp/*, //kafka/*")
    program.decisions.chmod(0o666)
    found = {row["check"]: (row["result"], row["message"]) for row in program.json("doctor")}
    assert found["who decides"][0] == "warning"
    assert f"others may write to {program.decisions} and decide as operators" in found["who decides"][1]
