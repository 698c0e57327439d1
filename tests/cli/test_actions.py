"""What operators do by command: documents that are paused, letters that are mended, and the record of it all."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.program import Program

DOC = "0000000001"


@pytest.fixture
def settled(program: Program) -> Program:
    program.emits(DOC, "--set", "status=RELEASED", "--set", "title=Cover")
    program.say("run", "--once")
    return program


def test_a_paused_document_is_left_until_it_is_resumed_and_once_does_not_wait_for_it(settled: Program) -> None:
    assert settled.json("docs", "pause", DOC, "--reason", "audit", "--actor", "jdoe") == {"done": [DOC], "left": {}}
    assert settled.json("docs", "show", DOC)["reason"] == "paused by jdoe: audit"
    assert [row["document"] for row in settled.json("docs", "list", "--status", "paused")] == [DOC]
    before = settled.document(DOC)
    settled.emits(DOC, "--set", "title=Paused")
    settled.say("run", "--once", code=3)
    assert settled.document(DOC) == before
    assert "resume it first" in settled.fails("docs", "retry", DOC)
    assert "paused already" in settled.fails("docs", "pause", DOC)
    settled.say("docs", "resume", DOC)
    settled.say("run", "--once")
    assert settled.document(DOC)["title"] == "Paused"
    rows = settled.json("audit", "acts", "--document", DOC)
    assert [(row["kind"], row["role"]) for row in rows] == [("resume", "cli"), ("emit", "cli"), ("pause", "cli")]
    assert (rows[2]["who"], rows[2]["details"]) == ("jdoe", {"reason": "audit"})


def test_who_paused_a_document_when_and_why_is_said_wherever_it_is_shown(settled: Program) -> None:
    settled.say("docs", "pause", DOC, "--reason", "the audit", "--actor", "jdoe")
    settled.say("docs", "retry", DOC, code=1)
    shown = settled.json("docs", "show", DOC)["paused"]
    assert (shown["who"], shown["role"], shown["kind"], shown["reason"]) == ("jdoe", "cli", "pause", "the audit")
    assert "by jdoe by command: the audit" in settled.say("docs", "show", DOC)
    (sentence, *_) = settled.json("explain", DOC)["story"]["now"]
    assert (sentence["kind"], "jdoe" in sentence["text"], "the audit" in sentence["text"]) == ("waits", True, True)
    assert ["command", f"reconciler docs resume {DOC}"] in [list(one.values()) for one in sentence["references"]]
    settled.say("docs", "resume", DOC)
    assert settled.json("docs", "show", DOC)["paused"] is None
    assert not any("paused" in one["text"] for one in settled.json("explain", DOC)["story"]["now"])


def test_a_plan_names_paused_documents_and_counts_on_no_write_of_them(settled: Program) -> None:
    settled.say("docs", "pause", DOC, "--reason", "the audit", "--actor", "jdoe")
    settled.emits(DOC, "--set", "title=Waits")
    settled.say("run", "--once", code=3)
    for arguments in ((), (DOC,), ("--all",)):
        (row,) = settled.json("plan", *arguments)
        assert (row["decision"], row["reason"]) == ("paused", "paused by jdoe: the audit")
    assert "0 to write, 1 is paused" in settled.say("plan")
    settled.say("docs", "resume", DOC)
    assert [row["desired"] for row in settled.json("plan", code=2)] == ["Waits"]


def test_a_letter_that_was_let_go_says_by_whom_and_why(program: Program) -> None:
    program.log.write_text('{"no":"event"}\n', encoding="utf-8")
    program.say("run", "--once", code=3)
    (letter,) = program.json("dead-letters", "list")
    assert program.json("dead-letters", "show", letter["id"])["closed"] is None
    program.say("dead-letters", "discard", letter["id"], "--reason", "a test", "--actor", "jdoe")
    shown = program.json("dead-letters", "show", letter["id"])["closed"]
    assert (shown["kind"], shown["who"], shown["reason"]) == ("discard", "jdoe", "a test")
    assert "by jdoe by command: a test" in program.say("dead-letters", "show", letter["id"])


def test_a_released_document_is_not_written_any_more(settled: Program) -> None:
    (said,) = settled.json("docs", "release", DOC, "--reason", "moved")
    settled.say("run", "--once")
    assert "not managed" in settled.fails("docs", "release", DOC, code=2)
    (row,) = settled.json("audit", "acts")
    assert (row["kind"], row["target"], row["details"]["events"]) == ("release", DOC, said["events"])
    assert f"{row['who']} released the document at " in settled.say("explain", DOC)
    assert "(“moved”). The reconciler does not manage it" in settled.say("explain", DOC)


def test_acts_are_verified_with_the_trail_and_whoever_changes_one_is_found(settled: Program) -> None:
    settled.say("docs", "retry", DOC)
    settled.say("docs", "retry", DOC)
    told = settled.say("audit", "verify")
    assert "1 decision recomputed; differing: 0. 2 operator actions." in told
    assert "from the first record to record 3.\nhead 3:" in told
    forged = """packed(replace(plain(record), '"who":"', '"who":"someone else, not '))"""
    settled.tamper(f"UPDATE audit SET record = {forged} WHERE id = 2")
    fault, other = settled.json("audit", "verify", code=1)
    assert (fault["id"], fault["document"]) == (2, DOC)
    assert "its link does not follow from its content" in fault["fault"]
    assert (other["id"], "its columns differ from the record" in other["fault"]) == (2, True)


@pytest.mark.parametrize("kind", ["NULL", "'pause'", "7"])
def test_an_act_that_is_filed_as_something_else_is_found(settled: Program, kind: str) -> None:
    settled.say("docs", "retry", DOC)
    settled.tamper(f"UPDATE audit SET kind = {kind} WHERE id = 2")
    (fault,) = settled.json("audit", "verify", code=1)
    assert (fault["id"], "its columns differ from the record" in fault["fault"]) == (2, True)


def test_an_act_is_shown_by_its_number_in_the_trail(settled: Program) -> None:
    settled.say("docs", "retry", DOC, "--actor", "jdoe")
    shown = settled.json("audit", "show", "2")
    assert [shown] == settled.json("audit", "acts")
    assert (shown["who"], shown["kind"], settled.json("audit", "show", "1")["document"]) == ("jdoe", "retry", DOC)
    assert "jdoe" in settled.say("audit", "show", "2")
    assert "there is no record 3" in settled.fails("audit", "show", "3")


def test_acts_that_were_cut_off_at_the_end_show_by_a_head_that_was_kept(settled: Program) -> None:
    settled.say("docs", "retry", DOC)
    settled.say("docs", "retry", DOC)
    head = settled.say("audit", "verify").split("head ")[1].strip()
    assert settled.json("audit", "verify", "--head", head) == []
    settled.tamper("DELETE FROM audit WHERE id = 3")
    assert settled.json("audit", "verify") == []
    (fault,) = settled.json("audit", "verify", "--head", head, code=1)
    assert fault["id"] == 3
    assert "there is no such record" in fault["fault"]


def test_who_appends_events_is_recorded_by_document(settled: Program) -> None:
    (said,) = settled.json("emit", DOC, "--set", "title=Lid", "--actor", "jdoe")
    (row,) = settled.json("audit", "acts", "--document", DOC)
    assert (row["kind"], row["who"], row["role"], row["result"]) == ("emit", "jdoe", "cli", "appended")
    assert row["details"] == {"events": [said["id"]]}
    lines = settled.log.read_text(encoding="utf-8").splitlines()
    settled.say("emit", "--file", "-", "--actor", "akim", given="\n".join(lines))
    (row, _) = settled.json("audit", "acts")
    assert (row["who"], len(row["details"]["events"])) == ("akim", len(lines))


def test_many_events_of_one_file_are_one_act(settled: Program) -> None:
    (line, *_) = settled.log.read_text(encoding="utf-8").splitlines()
    (settled.folder / "load.jsonl").write_text(f"{line}\n" * 101, encoding="utf-8")
    settled.say("emit", "--file", "load.jsonl", "--actor", "jdoe")
    (row,) = settled.json("audit", "acts")
    assert (row["kind"], row["who"], row["target"], row["document"]) == ("emit", "jdoe", "load.jsonl", None)
    assert row["details"] == {"count": 101, "documents": 1}


def test_where_no_store_is_at_hand_events_are_appended_all_the_same_and_that_is_said(program: Program) -> None:
    ended = program.run("emit", DOC, "--set", "title=Cover", "-o", "json")
    assert (ended.returncode, len(json.loads(ended.stdout))) == (0, 1)
    assert ended.stderr.startswith("Not recorded in the audit trail: there is no store at ")
    assert len(program.decisions.read_text(encoding="utf-8").splitlines()) == 1


@pytest.fixture(scope="module")
def made(untouched: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a program with a decision between actions, one on another document, and its export; made once."""
    program = Program(tmp_path_factory.mktemp("made"), untouched)
    program.emits("0000000002", "--set", "title=Lid")
    program.emits(DOC, "--set", "status=RELEASED")
    program.say("run", "--once")
    program.say("docs", "retry", DOC)
    program.emits("0000000002", "--set", "title=Hood")
    program.say("docs", "retry", DOC)
    assert "Wrote 5 records" in program.run("audit", "export", "--to", "audit.jsonl").stderr
    return program.folder


@pytest.fixture
def with_actions(made: Path, tmp_path: Path) -> Program:
    """A program with copies of both, for looking at them."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)  # the store's write-ahead log too
    return Program(tmp_path, "http://127.0.0.1:9")


def test_an_export_holds_both_in_order_and_is_verified_as_the_store_is(with_actions: Program) -> None:
    told = with_actions.say("audit", "verify")
    head = told.split("head ")[1].strip()
    kinds = [next(iter(record)) for record in exported(with_actions).values()]
    assert kinds == ["decision", "decision", "act", "act", "act"]
    (with_actions.folder / "state.db").unlink()
    assert with_actions.say("audit", "verify", "--file", "audit.jsonl", "--head", head) == told
    told = with_actions.say("explain", DOC, "--file", "audit.jsonl")
    assert "asked for a retry now" in told


EDITS: dict[str, Callable[[list[bytes]], object]] = {
    "who": lambda lines: lines.__setitem__(-3, re.sub(rb'"who":"[^"]*"', b'"who":"nobody"', lines[-3])),
    "the link told of the action before": lambda lines: lines.__setitem__(
        -2, lines[-2].replace(json.loads(lines[-2])["previous"].encode(), b"0" * 64)
    ),
    "a link": lambda lines: lines.__setitem__(-1, lines[-1].replace(json.loads(lines[-1])["link"].encode(), b"0" * 64)),
    "an action away": lambda lines: lines.pop(-2),
    "two actions exchanged": lambda lines: lines.insert(-2, lines.pop()),
    "an action as a decision": lambda lines: lines.__setitem__(-2, lines[-2].replace(b'"act"', b'"decision"')),
    "a decision behind the actions": lambda lines: lines.append(lines[-4]),
    "a line slipped in": lambda lines: lines.insert(-1, b"{}"),
}


@pytest.mark.parametrize("name", EDITS)
def test_whatever_is_changed_in_the_acts_of_a_file_is_found(with_actions: Program, name: str) -> None:
    path = with_actions.folder / "audit.jsonl"
    before = path.read_bytes().splitlines()
    lines = list(before)
    EDITS[name](lines)
    assert lines != before
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert with_actions.json("audit", "verify", "--file", "audit.jsonl", code=1)


def test_acts_cut_off_at_the_end_of_a_file_show_by_a_head_that_was_kept(with_actions: Program) -> None:
    head = with_actions.say("audit", "verify").split("head ")[1].strip()
    path = with_actions.folder / "audit.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert with_actions.json("audit", "verify", "--file", "audit.jsonl") == []
    (fault,) = with_actions.json("audit", "verify", "--file", "audit.jsonl", "--head", head, code=1)
    assert (fault["id"], "there is no such record" in fault["fault"]) == (5, True)


def test_an_export_of_a_time_or_of_a_document_holds_its_acts(with_actions: Program) -> None:
    since = with_actions.json("audit", "acts")[1]["at"]
    ended = with_actions.run("audit", "export", "--to", "audit.jsonl", "--since", since)
    assert "begins with record 4;" in ended.stderr
    told = with_actions.say("audit", "verify", "--file", "audit.jsonl")
    assert "The chain holds from record 4 to record 5; earlier records were not checked." in told
    with_actions.say("audit", "export", "--to", "audit.jsonl", "--document", DOC)
    decided, *others = exported(with_actions)
    assert (decided in (1, 2), others) == (True, [3, 5])
    assert "Each record of" in with_actions.say("audit", "verify", "--file", "audit.jsonl")
    with_actions.say("audit", "export", "--to", "audit.jsonl", "--until", since)
    assert list(exported(with_actions)) == [1, 2, 3]


def exported(program: Program) -> dict[int, dict[str, object]]:
    lines = map(json.loads, (program.folder / "audit.jsonl").read_bytes().splitlines())
    return {line["number"]: line["record"] for line in lines if "number" in line}


def test_writes_that_are_stopped_go_on_after_they_are_resumed_and_both_are_recorded(settled: Program) -> None:
    before = settled.document(DOC)
    done = settled.json("writes", "stop", "--reason", "wrong prices", "--actor", "jdoe")
    assert (done["write_stop"]["by"], done["write_stop"]["reason"], done["writing"]) == ("jdoe", "wrong prices", [])
    assert "by jdoe (wrong prices)" in settled.say("writes", "stop", "--actor", "other"), "the first stop stays"
    settled.emits(DOC, "--set", "title=Waits")
    assert "by jdoe (wrong prices); nothing more was written" in settled.say("run", "--once", code=3)
    assert settled.document(DOC) == before
    assert settled.json("status")["write_stop"]["by"] == "jdoe"
    assert "by jdoe (wrong prices)" in settled.say("status")
    assert settled.json("writes", "resume", "--actor", "jdoe") == {"write_stop": None, "writing": []}
    assert "not stopped" in settled.fails("writes", "resume")
    settled.say("run", "--once")
    assert settled.document(DOC)["title"] == "Waits"
    kinds = [(row["kind"], row["who"]) for row in settled.json("audit", "acts") if row["kind"].endswith("-writes")]
    assert kinds == [("resume-writes", "jdoe"), ("stop-writes", "jdoe")]
