"""`reconciler policy test`: what another policy would have decided, from a store of the program's alone."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import Program

pytestmark = pytest.mark.e2e

DOC, OTHER = "0000000001", "0000000002"
EVIL = "\x1b[31m\u202eevil"


@pytest.fixture(scope="module")
def made(untouched: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `owner` was written, edited by a user, and yielded; `status` was written over an edit."""
    program = Program(tmp_path_factory.mktemp("made"), untouched)
    for document in (DOC, OTHER):
        program.emits(document, "--set", "owner=akim", "--set", "status=RELEASED")
    program.say("run", "--once")
    program.edit(DOC, owner="jdoe", status=EVIL)
    program.emits(DOC, "--set", "owner=sgarcia", "--set", "title=Bracket")
    program.say("run", "--once")
    return program.folder


@pytest.fixture
def looking(made: Path, tmp_path: Path) -> Program:
    """The program with a copy of that store, and neither a log nor a Windchill."""
    shutil.copy(made / "state.db", tmp_path)
    return Program(tmp_path, "http://127.0.0.1:9")


def rules(program: Program, *tables: str, more: str = "") -> str:
    path = program.folder / "new.toml"
    path.write_text(more + "".join(f"[[policy]]\n{table}\n" for table in tables), encoding="utf-8")
    return str(path)


def as_it_was(program: Program) -> str:
    told = {"status": "external", "owner": "preserve", "*": "merge"}
    return rules(program, *(f'fields = ["{field}"]\nstrategy = "{strategy}"' for field, strategy in told.items()))


def store_of(program: Program) -> str:
    return f"sqlite:///{program.folder}/state.db"


def told(program: Program, *arguments: str, code: int = 2) -> dict[str, Any]:
    ended = program.run("policy", "test", *arguments, "-o", "json", "--store", store_of(program), configured=False)
    assert ended.returncode == code, ended
    return dict(json.loads(ended.stdout))


def test_a_policy_that_decides_the_same_differs_in_nothing(looking: Program) -> None:
    same = as_it_was(looking)
    counts = {"judged": len(looking.json("audit", "list")), "differing": 0, "unjudged": 0}
    assert told(looking, "--policy", same, code=0) == {"differences": [], "counts": [], **counts}
    assert "none would differ" in looking.say("policy", "test", "--policy", same)


def test_each_field_that_would_be_decided_otherwise_is_listed_and_counted(looking: Program) -> None:
    found = told(looking, "--policy", rules(looking, 'fields = ["*"]\nstrategy = "external"'))
    (difference,) = found["differences"]
    assert (difference["document"], difference["field"]) == (DOC, "owner")
    assert (difference["was"]["decision"], difference["was"]["strategy"]) == ("yield", "preserve")
    assert (difference["would"]["decision"], difference["would"]["rule"]) == ("write", "policy[1]")
    assert (difference["desired"], difference["live"]) == ("sgarcia", "jdoe")
    assert difference["audit"] in [record["id"] for record in looking.json("audit", "list", "--document", DOC)]
    assert found["counts"] == [
        {"was": "yield", "was_rule": "policy[2]", "would": "write", "would_rule": "policy[1]", "count": 1}
    ]


def test_people_read_a_line_for_each_and_nothing_steers_their_terminal(looking: Program) -> None:
    new = rules(looking, 'fields = ["status"]\nstrategy = "preserve"', 'fields = ["owner"]\nstrategy = "preserve"')
    said = looking.say("policy", "test", "--policy", new, code=2)
    (line,) = [line for line in said.splitlines() if "status: write RELEASED" in line]
    assert "(policy[1], external) → yield (policy[1], preserve); desired RELEASED, live \\x1b[31m\\u202eevil" in line
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "1 field in 1 of them would differ." in said


def test_a_span_and_a_document_are_chosen(looking: Program) -> None:
    new = rules(looking, 'fields = ["*"]\nstrategy = "ignore"')
    every = told(looking, "--policy", new)["judged"]
    of_other = told(looking, "--policy", new, "--document", OTHER)
    assert {one["document"] for one in of_other["differences"]} == {OTHER}
    assert of_other["judged"] < every
    assert told(looking, "--policy", new, "--until", "2020-01-01", code=0)["judged"] == 0
    (newest, *_) = looking.json("audit", "list")
    assert told(looking, "--policy", new, "--since", newest["at"])["judged"] == 1


def test_a_decision_of_another_time_is_left_out_also_where_a_clock_went_back(looking: Program) -> None:
    records = sorted(looking.json("audit", "list"), key=lambda record: int(record["id"]))
    looking.tamper("UPDATE audit SET at_us = 7 WHERE id = 2")
    new = as_it_was(looking)
    assert told(looking, "--policy", new, "--since", records[0]["at"], code=0)["judged"] == len(records) - 1


def test_a_whole_configuration_will_do_and_its_secrets_are_not_needed(looking: Program, monkeypatch) -> None:
    more = '[windchill]\nauth = "bearer"\ntoken_file = "/nowhere/token"\n'
    new = rules(looking, 'fields = ["*"]\nstrategy = "external"', more=more)
    monkeypatch.setenv("RECONCILER_POLICY", '[{"fields": ["*"], "strategy": "preserve"}]')  # of the running one
    assert told(looking, "--policy", new)["differing"] == 1


def test_a_decision_that_does_not_come_out_as_recorded_is_told_and_not_judged(looking: Program) -> None:
    looking.tamper("""UPDATE audit SET record = packed(replace(plain(record), '"verb":"yield"', '"verb":"keep"'))""")
    new = rules(looking, 'fields = ["*"]\nstrategy = "external"')
    ended = looking.run("policy", "test", "--policy", new)
    assert ended.returncode == 1
    assert "is not tested: its recorded policy gives other decisions than were recorded" in ended.stderr
    assert "1 record could not be tested." in ended.stdout


def test_an_act_that_can_not_be_read_is_not_called_a_decision(looking: Program) -> None:
    looking.say("docs", "pause", DOC)
    looking.tamper("""UPDATE audit SET record = '{"act":{}}' WHERE kind = 'pause'""")
    ended = looking.run("policy", "test", "--policy", as_it_was(looking))
    assert ended.returncode == 1
    assert re.search(r"action \d+ is not tested: it is no record of the trail", ended.stderr)
    assert "1 record could not be tested." in ended.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rules; write each as [[policy]]"),
        ("[[policy", "is not TOML"),
        ('[[policy]]\nfields = ["a"]\nstrategy = "extrenal"', "policy[1].strategy"),
        ('[[policy]]\nfields = ["a"]\nstrateg = "external"', "strategy"),
    ],
)
def test_a_policy_that_can_not_be_used_is_refused_with_its_place(looking: Program, text: str, message: str) -> None:
    (looking.folder / "new.toml").write_text(text, encoding="utf-8")
    assert message in looking.fails("policy", "test", "--policy", "new.toml")


def test_a_missing_file_is_named(looking: Program) -> None:
    assert "nowhere.toml: can't be read" in looking.fails("policy", "test", "--policy", "nowhere.toml")


def test_the_rules_in_force_are_shown_in_order_with_what_covers_the_rest(looking: Program) -> None:
    rows = looking.json("policy", "show")
    assert [(row["name"], row["fields"], row["strategy"]) for row in rows] == [
        ("policy[1]", ["status"], "external"),
        ("policy[2]", ["owner"], "preserve"),
        ("policy[3]", ["attributes.Keywords"], "merge"),
        ("policy[4]", ["attributes.Secret"], "external"),
        ("default", ["*"], "merge"),
    ]
    said = [" ".join(line.split()) for line in looking.say("policy", "show").splitlines()]
    assert said[1] == "policy[1] status external"
    assert said[3] == "policy[3] attributes.Keywords merge on_overlap = hold; list = set"
    assert said[4] == "policy[4] attributes.Secret external sources = //erp/*, //kafka/*"
