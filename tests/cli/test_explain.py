"""`reconciler explain`: what is told of a document that the program has worked on, with only its trail at hand."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters import sqlite
from reconciler.cli.commands import explain
from reconciler.model.action import ActionKind, Change, OperatorAction
from tests.cli.program import Program

pytestmark = pytest.mark.e2e

DOC, HELD = "0000000001", "0000000002"
EVIL = "\x1b[31m\u202eevil " + "x" * 300


@pytest.fixture(scope="module")
def made(untouched: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`owner` of one document was written, edited by jdoe and left so; `title` of the other is held."""
    program = Program(tmp_path_factory.mktemp("made"), untouched)
    program.emits(DOC, "--set", "owner=akim", "--reason", "ECN-2231 approved", "--actor", "wf-7")
    program.emits(HELD, "--set", "title=Bracket")
    program.say("run", "--once")
    program.edit(DOC, owner="jdoe")
    program.edit(HELD, title=EVIL)
    for document, claim in ((DOC, "owner=sgarcia"), (HELD, "title=Bolt")):
        program.emits(document, "--set", claim)
    program.run("run", "--once")
    program.say("audit", "export", "--to", "audit.jsonl.gz")
    return program.folder


@pytest.fixture
def left(made: Path, tmp_path: Path) -> Program:
    """What is left: the store and an export, no log, no Windchill."""
    shutil.copy(made / "state.db", tmp_path)
    shutil.copy(made / "audit.jsonl.gz", tmp_path)
    return Program(tmp_path, "http://127.0.0.1:9")


def alone(program: Program, *arguments: str) -> str:
    """What is told in a folder that holds nothing but the export."""
    (program.folder / "state.db").unlink()
    ended = program.run("explain", *arguments, "--file", "audit.jsonl.gz", configured=False)
    assert ended.returncode == 0, ended
    return ended.stdout


def kinds(told: dict[str, Any]) -> list[str]:
    return [sentence["kind"] for sentence in told["story"]["now"]]


def test_the_story_is_told_in_sentences_from_the_store_alone(left: Program) -> None:
    said = left.say("explain", DOC, "owner")
    assert "(wf-7) asked at " in said
    assert "Reason given: “ECN-2231 approved”." in said
    assert 'both sides changed it since they agreed on "akim": Windchill had "jdoe"' in said
    assert 'owner is "jdoe": the edit in Windchill stays until a newer event (the document was last modified by' in said
    assert f"> reconciler emit {DOC} --set owner=VALUE" in said
    assert said.index("1. ") < said.index("2. ")


def test_what_waits_is_told_with_the_very_command_that_settles_it(left: Program) -> None:
    (conflict,) = left.json("conflicts", "list")
    said = left.say("explain", HELD)
    assert f"> reconciler conflicts resolve {conflict['id']} --take desired|live" in said
    assert kinds(left.json("explain", HELD))[0] == "waits"


def test_values_steer_no_terminal_and_are_cut(left: Program) -> None:
    said = left.say("explain", HELD)
    assert "\\u001b[31m\\u202eevil" in said
    assert all(line.isprintable() for line in said.splitlines())
    assert "x" * 100 not in said


def test_programs_get_the_story_beside_everything_they_got_before(left: Program) -> None:
    told = left.json("explain", DOC, "owner")
    assert {"document", "status", "reason", "token", "modified_at", "modified_by", "released", "fields", "attempts"} < (
        told.keys()
    )
    (field,) = told["fields"]
    assert (field["desired"], field["live"], field["base"]) == ("sgarcia", "jdoe", "jdoe")
    assert (field["decision"]["decision"], field["conflict"]) == ("yield", None)
    chapters = told["story"]["chapters"]
    assert chapters[0]["result"] == "written"
    assert [identifier for chapter in chapters for identifier in chapter["audit"]] == sorted(
        attempt["id"] for attempt in told["attempts"]
    )
    events = [r["value"] for c in chapters for s in c["sentences"] for r in s["references"] if r["kind"] == "event"]
    assert events[-1] == field["claims"][0]["event"]


def test_an_export_tells_the_same_story_without_a_store(left: Program) -> None:
    from_store = left.json("explain", DOC, "owner")["story"]
    from_file = left.json("explain", DOC, "owner", "--file", "audit.jsonl.gz")
    assert [c["audit"] for c in from_file["story"]["chapters"]] == [c["audit"] for c in from_store["chapters"]]
    assert from_file["status"] is None  # an export knows only what was decided
    (field,) = from_file["fields"]
    assert field["claims"][0]["source"] == "//erp/prod"
    assert "live" not in field  # what it is by now, no trail knows
    assert 'owner is "jdoe": the edit in Windchill stays' in alone(left, DOC)


def test_a_document_that_an_export_does_not_hold_is_an_error(left: Program) -> None:
    assert "holds no decision on document '0000000009'" in left.fails(
        "explain", "0000000009", "--file", "audit.jsonl.gz"
    )
    assert "no event names field 'nothing'" in left.fails("explain", DOC, "nothing", "--file", "audit.jsonl.gz")
    assert "was not written by `reconciler audit export`" in left.fails("explain", DOC, "--file", "reconciler.toml")


def test_a_field_that_no_event_has_named_is_an_error_that_names_those_of_which_there_are_any(left: Program) -> None:
    assert "no event names field 'ower' of 0000000001; known fields: owner" in left.fails("explain", DOC, "ower")
    assert "no event has named document" in left.fails("explain", "nowhere")


def test_a_pause_is_told_however_many_events_were_sent_since(left: Program) -> None:
    left.say("docs", "pause", DOC, "--reason", "audit")
    emitted = OperatorAction(0, "erp", "producer", ActionKind.EMIT, DOC, DOC, {"events": ["e"]}, "appended")

    async def emit() -> None:
        store = await sqlite.open_store(left.folder / "state.db", owner=False)
        await store.record_actions(Change.NOTHING, [emitted] * 501, at_us=0)
        await store.close()

    asyncio.run(emit())
    left.say("audit", "export", "--to", "all.jsonl")
    for more in ((), ("--file", "all.jsonl")):
        assert left.json("explain", DOC, *more)["story"]["chapters"][-1]["title"].endswith(" paused the document")


def test_older_steps_are_left_out_and_that_is_said(left: Program) -> None:
    said = left.say("explain", DOC, "--limit", "1")
    assert "Earlier steps are left out" in said
    assert "\n2. " not in said
    assert left.json("explain", DOC, "--limit", "1")["story"]["left_out"] >= 1


def test_sentences_are_filled_to_a_terminal(left: Program, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    explain._filled("word " * 40, "  - ")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 60
    assert all(line.startswith("    ") for line in lines[1:])
