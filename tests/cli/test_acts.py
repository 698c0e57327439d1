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


def test_an_act_is_hashed_under_a_tag_of_its_own() -> None:
    act = codec.encode(Act(1, "jdoe", "cli", "pause", "d", "d", {}, "done"))
    assert chain.extend(chain.BEGIN, act, chain.ACTS_TAG) != chain.extend(chain.BEGIN, act)
