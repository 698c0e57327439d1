"""Clocks by command: what was refused for its time stays refused in every store that the logs give back."""

import json
from pathlib import Path

import pytest

from reconciler.adapters.clock import SystemClock
from reconciler.model import instant
from tests.cli.program import Program

DOC = "0000000003"
HOUR_US = 3_600_000_000


def test_a_rebuild_and_a_start_on_an_empty_store_keep_refusing_what_was_ahead_of_our_clock(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.emits(DOC, "--set", "status=RELEASED")
    _append(program, ahead_us=HOUR_US, status="CANCELLED")
    program.say("run", "--once", code=3)
    (letter,) = program.json("dead-letters", "list")
    assert (letter["stage"], letter["offset"]) == ("clock", 1)
    before = _projection(program)
    _advance(monkeypatch, 2 * HOUR_US)

    program.say("rebuild")
    assert _projection(program) == before
    assert [one["id"] for one in program.json("dead-letters", "list")] == [letter["id"]]
    program.lose_store()
    program.say("run", "--once", code=3)
    assert _projection(program) == before
    assert program.json("replay", "--from", str(program.log), "--check") == []

    program.say("dead-letters", "replay", "--all")
    program.say("run", "--once")
    assert program.document(DOC)["status"] == "CANCELLED"


def test_a_file_that_was_put_in_the_place_of_the_log_stops_the_run_until_a_person_decides(program: Program) -> None:
    program.emits(DOC, "--set", "status=RELEASED")
    program.say("run", "--once")
    copy = Program(_made(program.folder / "copy"), program.windchill)
    program.say("snapshot", "--to", str(copy.folder / "state.db"))
    other = program.log.read_text().replace("RELEASED", "INREVIEW")
    for one in (program, copy):
        one.log.write_text(other + other.replace('"id":"', '"id":"x'))
        said = one.fails("run", "--once")
        assert "the record at 0 is not the one that was read" in said
        assert "run --accept-truncation" in said
    program.say("run", "--once", "--accept-truncation")
    assert program.document(DOC)["status"] == "INREVIEW"
    program.say("run", "--once")


@pytest.mark.parametrize("released", [False, True])
def test_a_document_that_took_a_claim_from_the_future_is_repaired_by_folding_it_again(
    program: Program, monkeypatch: pytest.MonkeyPatch, *, released: bool
) -> None:
    """As one did that was folded while this host's clock was ahead too."""
    program.emits(DOC, "--set", "status=INREVIEW")
    program.say("run", "--once")
    with monkeypatch.context() as patched:
        _advance(patched, 50 * 365 * 24 * HOUR_US)
        _append(program, ahead_us=0, released=released, status="CANCELLED")
        program.say("run", "--once")
    assert program.document(DOC)["status"] == ("INREVIEW" if released else "CANCELLED")
    program.emits(DOC, "--set", "status=RELEASED")
    program.say("run", "--once")
    assert program.document(DOC)["status"] != "RELEASED", "it is not newer"

    said = program.say("docs", "refold", DOC, "--reason", "a clock ahead")
    assert "Desired values changed: status." in said
    assert "Left out: events.jsonl/0/1" in said
    program.say("run", "--once", code=3)  # the dead letter
    assert program.document(DOC)["status"] == "RELEASED"
    action = program.json("audit", "acts", "--document", DOC)[0]
    assert (action["kind"], action["details"]["reason"], action["details"]["refused"]) == (
        "refold", "a clock ahead", ["events.jsonl/0/1"],
    )  # fmt: skip
    program.say("audit", "verify")
    program.emits(DOC, "--set", "status=INREVIEW")
    program.say("run", "--once", code=3)
    assert program.document(DOC)["status"] == "INREVIEW", "later claims count again"
    before = _projection(program)
    program.say("rebuild")
    assert _projection(program) == before
    assert program.say("docs", "refold", DOC).startswith(f"Folded document {DOC} again. Nothing changed.")


def test_what_no_log_holds_any_more_is_asked_for_before_a_row_is_replaced(program: Program) -> None:
    program.emits(DOC, "--set", "status=RELEASED")
    program.say("run", "--once")
    program.say("export", "log", "--to", "2026.jsonl.gz")
    program.log.write_text("")
    program.emits(DOC, "--set", "owner=jdoe")
    said = program.fails("docs", "refold", DOC)
    assert "events.jsonl/0/0" in said
    assert "--from" in said
    assert "no event has named" in program.fails("docs", "refold", "unknown")
    program.say("docs", "refold", DOC, "--from", "2026.jsonl.gz")
    assert json.loads(_projection(program))["desired"]


def _append(program: Program, *, ahead_us: int, released: bool = False, **fields: object) -> None:
    """Write a line as a producer does whose clock is ahead."""
    event = json.loads(program.log.read_text().splitlines()[0])
    event |= {"id": "ahead", "source": "//erp/1", "time": instant.from_us(SystemClock().now_us() + ahead_us)}
    if released:
        said = event | {"type": "windchill.document.released.v1", "data": {"reason": "obsolete"}}
    else:
        said = event | {"data": {"set": fields}}
    program.append(said)


def _advance(monkeypatch: pytest.MonkeyPatch, by_us: int) -> None:
    now_us = SystemClock.now_us
    monkeypatch.setattr(SystemClock, "now_us", lambda clock: now_us(clock) + by_us)


def _projection(program: Program) -> str:
    return program.say("export", "projection", "--to", "-")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
