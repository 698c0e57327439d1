"""What operators do by command: documents that are paused, letters that are mended, and the record of it all."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import pytest

from reconciler.model import chain, codec
from reconciler.model.act import Act

if TYPE_CHECKING:
    from tests.cli.program import Program

DOC = "0000000001"


@pytest.fixture
def settled(program: Program) -> Program:
    program.say("emit", DOC, "--set", "status=RELEASED", "--set", "title=Cover")
    program.say("run", "--once")
    return program


def test_a_paused_document_is_left_until_it_is_resumed_and_once_does_not_wait_for_it(settled: Program) -> None:
    assert settled.json("docs", "pause", DOC, "--reason", "audit", "--actor", "jdoe") == {"done": [DOC], "left": {}}
    assert settled.json("docs", "show", DOC)["reason"] == "paused by jdoe: audit"
    assert [row["document"] for row in settled.json("docs", "list", "--status", "paused")] == [DOC]
    before = settled.document(DOC)
    settled.say("emit", DOC, "--set", "title=Paused")
    settled.say("run", "--once", code=3)
    assert settled.document(DOC) == before
    assert "resume it first" in settled.fails("docs", "retry", DOC)
    assert "paused already" in settled.fails("docs", "pause", DOC)
    settled.say("docs", "resume", DOC)
    settled.say("run", "--once")
    assert settled.document(DOC)["title"] == "Paused"
    rows = settled.json("audit", "acts", "--document", DOC)
    assert [(row["kind"], row["role"]) for row in rows] == [("resume", "cli"), ("pause", "cli")]
    assert (rows[1]["who"], rows[1]["details"]) == ("jdoe", {"reason": "audit"})


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
    settled.say("emit", DOC, "--set", "title=Waits")
    settled.say("run", "--once", code=3)
    for arguments in ((), (DOC,), ("--all",)):
        (row,) = settled.json("plan", *arguments)
        assert (row["decision"], row["reason"]) == ("paused", "paused by jdoe: the audit")
    assert "0 would be written, 1 is paused" in settled.say("plan")
    settled.say("docs", "resume", DOC)
    assert [row["desired"] for row in settled.json("plan", code=2)] == ["Waits"]


def test_a_letter_that_was_let_go_says_by_whom_and_why(program: Program) -> None:
    program.log.write_text('{"no":"event"}\n', encoding="utf-8")
    program.say("run", "--once", code=3)
    (letter,) = program.json("dead-letters", "list")
    assert program.json("dead-letters", "show", letter["id"])["settled"] is None
    program.say("dead-letters", "discard", letter["id"], "--reason", "a test", "--actor", "jdoe")
    shown = program.json("dead-letters", "show", letter["id"])["settled"]
    assert (shown["kind"], shown["who"], shown["reason"]) == ("discard", "jdoe", "a test")
    assert "by jdoe by command: a test" in program.say("dead-letters", "show", letter["id"])


def test_a_released_document_is_not_written_any_more(settled: Program) -> None:
    (said,) = settled.json("docs", "release", DOC, "--reason", "moved")
    settled.say("run", "--once")
    assert "nobody manages" in settled.fails("docs", "release", DOC, code=2)
    (row,) = settled.json("audit", "acts")
    assert (row["kind"], row["target"], row["details"]["events"]) == ("release", DOC, said["events"])


def test_the_record_of_acts_is_verified_and_whoever_changes_it_is_found(settled: Program) -> None:
    settled.say("docs", "retry", DOC)
    settled.say("docs", "retry", DOC)
    assert "The record of acts holds, up to act 2: acts head 2:" in settled.say("audit", "verify")
    with sqlite3.connect(settled.folder / "state.db") as store:
        for verb in ("UPDATE act SET who = 'x'", "DELETE FROM act"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                store.execute(verb)
        store.execute("DROP TRIGGER act_is_never_changed")
        (text,) = store.execute("SELECT record FROM act WHERE id = 1").fetchone()
        forged = codec.encode(json.loads(text) | {"who": "somebody else"})
        store.execute("UPDATE act SET record = ? WHERE id = 1", (forged,))
    (fault,) = settled.json("audit", "verify", code=1)
    assert (fault["id"], fault["document"]) == (1, DOC)
    assert "act: its link is not that of its content" in fault["fault"]


def test_acts_that_were_cut_off_at_the_end_show_by_a_head_that_was_kept(settled: Program) -> None:
    settled.say("docs", "retry", DOC)
    settled.say("docs", "retry", DOC)
    head = settled.say("audit", "verify").split("acts head ")[1].strip()
    assert settled.json("audit", "verify", "--acts-head", head) == []
    with sqlite3.connect(settled.folder / "state.db") as store:
        store.execute("DROP TRIGGER act_is_never_deleted")
        store.execute("DELETE FROM act WHERE id = 2")
    assert settled.json("audit", "verify") == []
    (fault,) = settled.json("audit", "verify", "--acts-head", head, code=1)
    assert fault["id"] == 2
    assert "there is no such record" in fault["fault"]
    assert "an export holds no acts" in settled.fails("audit", "verify", "--acts-head", head, "--file", "x", code=2)


def test_an_act_is_hashed_under_a_tag_of_its_own() -> None:
    act = codec.encode(Act(1, "jdoe", "cli", "pause", "d", "d", {}, "done"))
    assert chain.extend(chain.BEGIN, act, chain.ACTS_TAG) != chain.extend(chain.BEGIN, act)
