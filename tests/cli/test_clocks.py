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
    program.say("emit", DOC, "--set", "status=RELEASED")
    _append(program, ahead_us=HOUR_US, status="CANCELLED")
    program.say("run", "--once", code=3)
    (letter,) = program.json("dead-letters", "list")
    assert (letter["stage"], letter["offset"]) == ("clock", 1)
    before = _projection(program)
    _advance(monkeypatch, 2 * HOUR_US)

    program.say("rebuild")
    assert _projection(program) == before
    assert [one["id"] for one in program.json("dead-letters", "list")] == [letter["id"]]
    for file in program.folder.glob("state.db*"):
        file.unlink()
    program.say("run", "--once", code=3)
    assert _projection(program) == before
    assert program.json("replay", "--from", str(program.log), "--check") == []

    program.say("dead-letters", "replay", "--all")
    program.say("run", "--once")
    assert program.document(DOC)["status"] == "CANCELLED"


def test_a_file_that_was_put_in_the_place_of_the_log_stops_the_run_until_a_person_decides(program: Program) -> None:
    program.say("emit", DOC, "--set", "status=RELEASED")
    program.say("run", "--once")
    copy = Program(_made(program.folder / "copy"), program.windchill)
    program.say("snapshot", "--to", str(copy.folder / "state.db"))
    other = program.log.read_text().replace("RELEASED", "INREVIEW")
    for one in (program, copy):
        one.log.write_text(other + other.replace('"id":"', '"id":"x'))
        said = one.fails("run", "--once")
        assert "another record stands at 0 than was read there" in said
        assert "run --accept-truncation" in said
    program.say("run", "--once", "--accept-truncation")
    assert program.document(DOC)["status"] == "INREVIEW"
    program.say("run", "--once")


def _append(program: Program, *, ahead_us: int, **fields: object) -> None:
    """Write a line as a producer does whose clock is ahead."""
    event = json.loads(program.log.read_text().splitlines()[0])
    event |= {"id": "ahead", "source": "//erp/1", "time": instant.from_us(SystemClock().now_us() + ahead_us)}
    with program.log.open("a") as log:
        log.write(json.dumps(event | {"data": {"set": fields}}) + "\n")


def _advance(monkeypatch: pytest.MonkeyPatch, by_us: int) -> None:
    now_us = SystemClock.now_us
    monkeypatch.setattr(SystemClock, "now_us", lambda clock: now_us(clock) + by_us)


def _projection(program: Program) -> str:
    return program.say("export", "projection", "--to", "-")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
