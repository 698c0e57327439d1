"""Small traps for those who try the program for the first time."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from reconciler import cli
from tests.cli.program import Program, event

DOC = "0000000001"


def test_a_configuration_in_the_working_directory_or_named_by_a_variable_is_found(
    program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program.emits(DOC, "--set", "status=RELEASED")
    program.say("run", "--once")
    assert DOC in program.run("docs", "list", configured=False).stdout
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert CliRunner().invoke(cli.main, ["docs", "list"]).exit_code == 1, "there is none"
    monkeypatch.setenv("RECONCILER_CONFIG", str(program.config))
    assert DOC in CliRunner().invoke(cli.main, ["docs", "list"]).stdout


def test_a_plan_says_how_many_records_are_not_folded_yet(program: Program) -> None:
    program.emits(DOC, "--set", "status=RELEASED")
    program.say("run", "--once")
    assert "not folded" not in program.run("plan").stderr
    program.emits(DOC, "--set", "status=OBSOLETE")
    assert "1 record of the log not folded yet" in program.run("plan").stderr


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"before": None, "after": {"id": 1}, "op": "c", "ts_ms": 1}, "a change of Debezium"),
        ({"schema": {}, "payload": {"before": None, "after": {"id": 1}, "op": "c"}}, "a change of Debezium"),
        (event(DOC, "//erp/prod", {"title": "x"}, time=1764583200000), "not as a number of milliseconds"),
    ],
)
def test_a_dead_letter_says_what_to_do_about_the_shapes_that_people_send(program: Program, record, said: str) -> None:
    program.append(json.dumps(record))
    program.say("run", "--once", code=3)
    (letter,) = program.json("dead-letters", "list")
    assert said in letter["reason"]


def test_no_line_of_a_list_of_commands_is_cut() -> None:
    for family in ([], ["docs"], ["audit"], ["policy"], ["dead-letters"], ["conflicts"], ["config"]):
        shown = CliRunner().invoke(cli.main, [*family, "--help"]).stdout.split("Commands:")[1]
        assert "..." not in shown
