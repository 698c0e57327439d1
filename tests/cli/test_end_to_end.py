"""What commands do over a file log, a store, and a simulated Windchill in a process of its own."""

import gzip
import json
import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types

from tests.cli.program import Program, event
from tests.web.test_program import started, until

pytestmark = pytest.mark.e2e

DOC, OTHER = "0000000001", "0000000002"


@pytest.fixture
def settled(program: Program) -> Program:
    """Three fields of one document and a list of another, agreed with Windchill."""
    program.emits(DOC, "--set", "status=RELEASED", "--set", "owner=akim", "--set", 'attributes.CostCenter="4711"')
    program.emits(OTHER, "--add", "attributes.Keywords=bracket", "--source", "//erp/prod", "--reason", "ECN-1")
    program.say("run", "--once")
    return program


@pytest.fixture
def held(settled: Program) -> Program:
    """Both sides have moved one field since, and both an element of a list."""
    settled.edit(DOC, attributes__CostCenter="9999")
    settled.edit(OTHER, attributes__Keywords=["bracket", "mine"])
    settled.emits(DOC, "--set", 'attributes.CostCenter="5000"')
    settled.emits(OTHER, "--remove", "attributes.Keywords=mine")
    settled.say("run", "--once", code=3)
    return settled


# ----------------------------------------------------------------------------------------------------------------- run


def test_what_is_emitted_and_run_is_in_windchill_and_explained(settled: Program) -> None:
    shown = settled.document(DOC)
    assert (shown["status"], shown["owner"], shown["attributes"]["CostCenter"]) == ("RELEASED", "akim", "4711")
    story = settled.json("explain", DOC, "owner")
    (field,) = story["fields"]
    assert (field["desired"], field["live"], field["base"]) == ("akim", "akim", "akim")
    assert (field["rule"], field["strategy"], field["decision"]["decision"]) == ("policy[2]", "preserve", "write")
    (claim,) = field["claims"]
    assert (claim["source"], claim["topic"], claim["offset"]) == ("//erp/prod", "events.jsonl", 0)
    assert story["attempts"][0]["result"] == "written"
    told = settled.say("explain", DOC)
    assert claim["event"] in told
    assert "write: first seen, Windchill's value is older or was expected" in told


def test_commands_are_programs(program: Program) -> None:
    real = Program(program.folder, program.windchill, real=True)
    real.emits(DOC, "--set", "status=RELEASED")
    assert "→ RELEASED" in real.say("plan", code=2)
    assert real.say("run", "--once").split() == ["STATUS", "DOCUMENTS", "synced", "1"]
    assert real.json("explain", DOC)["fields"][0]["live"] == "RELEASED"
    program.say("export", "log", "--to", "archive.jsonl.gz")
    assert "No difference" in program.say("replay", "--from", "archive.jsonl.gz", "--check")
    assert program.json("audit", "verify") == []
    assert "✓ Windchill" in program.say("doctor")
    assert program.say("dead-letters", "list") == "No dead letters.\n"
    assert real.fails("status", "--nonsense", code=2).startswith("error: no such option")


def test_what_is_the_servers_own_is_held_and_never_sent(program: Program) -> None:
    program.say("emit", DOC, "--set", "title=one", "--set", "modifiedBy=me", "--set", "type=x", "--set", "id=other")
    program.say("run", "--once", code=3)
    assert (program.document(DOC)["title"], program.writes()) == ("one", 1)
    (attempt,) = program.json("audit", "list", "--document", DOC)
    assert (attempt["result"], attempt["written"]) == ("written", ["title"])
    held = {row["field"]: row for row in program.json("conflicts", "list")}
    assert held.keys() == {"modifiedBy", "type", "id"}
    assert "release the field" in program.say("explain", DOC, "type")
    program.say("emit", DOC, *(f"--release={field}" for field in held))
    program.say("run", "--once")
    assert program.json("conflicts", "list") == []


def test_a_document_without_bounds_keeps_a_bounded_row_and_starts_again_with_a_release(program: Program) -> None:
    for number in range(40):
        fields = {f"attributes.F{number * 256 + field}": "x" for field in range(256)}
        program.append(event(DOC, "//erp/prod", fields, time=f"2026-01-01T00:00:{number:02}Z"))
    program.say("run", "--once", code=3)
    (row,) = program.json("docs", "list")
    assert (row["status"], "more than 4,096 fields" in row["reason"]) == ("parked", True)
    assert "more than 4,096 fields" in program.say("plan", DOC)
    assert len(program.json("docs", "show", DOC)["fields"]) <= 4096
    assert program.writes() == 0
    program.say("docs", "release", DOC)
    program.say("emit", DOC, "--set", "owner=akim")
    program.say("run", "--once")
    assert program.document(DOC)["owner"] == "akim"


def test_a_wide_document_is_shown_and_parked_until_fields_are_released(program: Program) -> None:
    program.reconfigure("[windchill]", "[windchill]\nfields_max = 1000")
    names = [f"attributes.Field{number:04}" for number in range(1024)]
    assert "at most 256 fields" in program.fails("emit", DOC, *(f"--set={name}=x" for name in names[:257]), code=2)
    for start in range(0, len(names), 256):
        program.say("emit", DOC, *(f"--set={name}=x" for name in names[start : start + 256]))
    program.say("run", "--once", code=3)
    (row,) = program.json("docs", "list")
    assert row["status"] == "parked"
    assert "1,024 managed fields, more than windchill.fields_max = 1,000" in row["reason"]
    assert "windchill.fields_max" in program.say("plan", DOC)
    assert len(program.json("docs", "show", DOC)["fields"]) == 1024
    assert "Field1023" in program.say("explain", DOC)
    program.say("emit", DOC, *(f"--release={name}" for name in names[:24]))
    program.say("run", "--once")
    assert len(program.document(DOC)["attributes"]) >= 1000


def test_once_says_what_it_came_to(settled: Program) -> None:
    others = "pending", "collecting", "held", "observed", "contended", "locked", "absent", "parked", "paused"
    none = dict.fromkeys(others, 0)
    assert settled.json("run", "--once") == {
        "documents": none | {"synced": 2},
        "dead_letters": 0,
        "maintenance": False,
        "write_stop": None,
        "settled": True,
    }
    settled.emits("nowhere", "--set", "status=X")
    assert settled.json("run", "--once", code=3)["documents"]["absent"] == 1


def test_logs_in_a_pipe_are_one_json_object_a_line(settled: Program) -> None:
    said = [json.loads(line) for line in settled.run("run", "--once").stderr.splitlines()]
    assert {"timestamp", "level", "event"} <= said[0].keys()
    assert (said[0]["event"], said[0]["log"]) == ("started", str(settled.log))
    assert settled.run("run", "--once", "--log-level", "error").stderr == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_daemon_in_good_order(settled: Program, number: signal.Signals) -> None:
    with started(settled) as daemon:
        assert "is in use by another reconciler" in settled.fails("run", "--once")
        assert "is in use" in settled.fails("replay", "--from", str(settled.log))
        settled.emits(DOC, "--set", "owner=sgarcia")
        until(lambda: settled.document(DOC)["owner"] == "sgarcia")
        daemon.stop(number)
        assert daemon.heard("stopped")


# ---------------------------------------------------------------------------------------------------------------- emit


def test_nothing_is_appended_unless_every_event_is_usable(program: Program) -> None:
    good = event(DOC, "//s", {"owner": "x"}, id="1")
    bad = good | {"id": "2", "data": {"sett": {}}}
    foreign = good | {"id": "3", "type": "someone.else.v1"}
    lines = "\n".join(json.dumps(event) for event in (good, bad, foreign))
    said = program.fails("emit", "--file", "-", given=lines, code=2)
    assert "error: <stdin>:2: not a valid windchill.document.changed.v1" in said
    assert "error: <stdin>:3: type 'someone.else.v1' is not one of ours" in said
    assert not program.log.exists()
    assert "Appended 1 " not in program.say("emit", "--file", "-", given=json.dumps(good) + "\n\n" + json.dumps(good))
    assert [json.loads(line)["id"] for line in program.log.read_text().splitlines()] == ["1", "1"]


def test_what_an_event_says_is_checked_as_the_reconciler_will(program: Program) -> None:
    assert "says" not in program.fails("emit", DOC, code=2)
    for said, options in {
        "must be FIELD=VALUE": ["--set", "owner"],
        "source '//mes' may not set `attributes.Secret`": ["--source", "//mes", "--set", "attributes.Secret=1"],
        "takes decisions of operators": ["--source", "//reconciler/x", "--set", "a=1"],
        "`set` does not": ["--release", "owner", "--expect", "owner=x"],
        "--time 'now'": ["--set", "owner=x", "--time", "now"],
        "correct the producer's clock": ["--set", "a=1", "--time", "2999-01-01T00:00:00Z"],
    }.items():
        assert said in program.fails("emit", DOC, *options, code=2)
    (event,) = program.json("emit", DOC, "--set", "a=1", "--remove", "b=2", "--release", "c", "--actor", "me")
    (line,) = map(json.loads, program.decisions.read_text().splitlines())
    assert (line["id"], line["source"], line["actor"], line["data"]) == (
        event["id"], "//reconciler/operators", "me", {"set": {"a": 1}, "remove": {"b": [2]}, "release": ["c"]},
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- plan


def test_plan_shows_what_would_be_written_and_writes_nothing(settled: Program) -> None:
    assert settled.json("plan") == []
    settled.edit(DOC, status="INWORK", owner="mrossi")
    before = settled.writes()
    (row,) = [row for row in settled.json("plan", DOC, code=2) if row["decision"] == "write"]
    assert (row["field"], row["live"], row["desired"], row["strategy"]) == ("status", "INWORK", "RELEASED", "external")
    told = settled.say("plan", "--all", code=2)
    assert "INWORK → RELEASED" in told
    assert "owner" in told
    assert "2 documents read, 1 to write" in told
    assert settled.writes() == before
    assert {row["decision"] for row in settled.json("plan", "--all", "--kept", code=2)} == {"write", "yield", "keep"}


def test_plan_without_a_store_folds_the_log_aside(program: Program) -> None:
    program.emits(DOC, "--set", "status=RELEASED")
    ended = program.run("plan")
    assert ended.returncode == 2
    assert "There is no store at" in ended.stderr
    assert "→ RELEASED" in ended.stdout
    assert not (program.folder / "state.db").exists()
    assert program.writes() == 0


def test_plan_fails_in_one_line_when_windchill_is_away_or_a_document_unknown(settled: Program) -> None:
    away = Program(settled.folder, "http://127.0.0.1:9")
    assert "can't be read: no connection" in away.fails("plan", "--all")
    assert "no event has named document 'x'" in away.fails("plan", "x")


def test_a_client_library_that_repeats_itself_is_heard_in_debugging_only(settled: Program) -> None:
    heard = {}
    for level in ("info", "debug"):
        settled.run("status", "--log-level", level)
        # Its own level: the root's is put back after a command, to what other tests have left.
        heard[level] = logging.getLogger("aiokafka").level <= logging.ERROR
    assert heard == {"info": False, "debug": True}


# ----------------------------------------------------------------------------------------------------- status and docs


def test_status_of_a_store_alone_asks_no_log(settled: Program) -> None:
    store = f"sqlite:///{settled.folder}/state.db"
    settled.tamper("INSERT INTO position VALUES ('(notified)', 0, 7, NULL, '')")  # a time, of no log
    found = json.loads(settled.run("status", "--store", store, "-o", "json", configured=False).stdout)
    assert found["log_reachable"] is None
    assert found["log"][0]["end"] is None
    assert "(notified)" not in {row["topic"] for row in found["log"]}
    assert "not checked" in settled.run("status", "--store", store, configured=False).stdout


def test_status_counts_documents_and_says_how_far_the_log_is_folded(held: Program) -> None:
    found = held.json("status")
    assert found["documents"]["held"] == 2
    assert (found["conflicts"], found["dead_letters"], found["log_reachable"]) == (2, 0, True)
    assert found["log"] == [{"topic": "events.jsonl", "partition": 0, "position": 4, "end": 4, "lag": 0}]
    held.emits(DOC, "--set", "owner=x")
    assert held.json("status")["log"][0]["lag"] == 1
    held.log.rename(held.folder / "elsewhere.jsonl")
    assert "can't be reached" in held.say("status")
    assert held.json("status")["log_reachable"] is False


def test_docs_are_listed_shown_and_requeued(held: Program) -> None:
    rows = held.json("docs", "list")
    assert [(row["document"], row["status"]) for row in rows] == [(DOC, "held"), (OTHER, "held")]
    assert [row["document"] for row in held.json("docs", "list", "--after", DOC, "--limit", "1")] == [OTHER]
    assert held.json("docs", "list", "--status", "synced") == []
    shown = held.json("docs", "show", DOC)
    cost = next(field for field in shown["fields"] if field["field"] == "attributes.CostCenter")
    assert (cost["desired"], cost["live"], cost["base"]) == ("5000", "9999", "4711")
    assert "within 30 s" in held.say("docs", "retry", DOC)
    assert held.json("docs", "retry", "--status", "held") == {"done": [DOC, OTHER], "left": {}}
    assert held.json("docs", "show", DOC)["lane"] == "asked"
    assert "either" in held.fails("docs", "retry", code=2)
    assert "no event has named" in held.fails("docs", "show", "nix")


def test_all_documents_or_some_are_compared_with_windchill_again(program: Program) -> None:
    for key in (DOC, OTHER):
        program.emits(key, "--set", "status=RELEASED")
    program.say("run", "--once")
    for key in (DOC, OTHER):
        program.edit(key, status="INWORK")
    program.say("run", "--once")
    assert {program.document(key)["status"] for key in (DOC, OTHER)} == {"INWORK"}, "their time has not come"
    assert program.json("docs", "compare", OTHER, "unknown") == {"documents": 1}
    assert program.json("docs", "show", OTHER)["lane"] == "resync"
    said = program.say("docs", "compare", "--all")
    assert said.startswith("1 document will be compared.")
    program.say("run", "--once")
    assert {program.document(key)["status"] for key in (DOC, OTHER)} == {"RELEASED"}


def test_a_comparison_wants_either_keys_or_all(program: Program) -> None:
    for given in ((), (DOC, "--all")):
        assert "either the keys of documents or --all" in program.fails("docs", "compare", *given, code=2)


def test_programs_read_the_same_names_from_commands_as_from_the_api(poisoned: Program) -> None:
    held = poisoned
    held.edit(DOC, attributes__CostCenter="9999")
    held.emits(DOC, "--set", 'attributes.CostCenter="5000"')
    held.say("run", "--once", code=3)
    explained, found = held.json("explain", DOC), held.json("status")
    rows = {
        "DocumentRow": held.json("docs", "list"),
        "Document": [held.json("docs", "show", DOC)],
        "Conflict": held.json("conflicts", "list"),
        "DeadLetterRow": held.json("dead-letters", "list"),
        "HotSpot": held.json("hotspots"),
        "AuditRow": [*held.json("audit", "list"), *explained["attempts"]],
        "Field": explained["fields"],
        "Story": [explained["story"]],
        "LogPartition": found["log"],
        "Rule": held.json("policy", "show"),
        "Setting": held.json("config", "show"),
        "AppendedEvent": held.json("emit", DOC, "--set", "title=x"),
        "Resolved": [held.json("conflicts", "resolve", held.json("conflicts", "list")[0]["id"], "--take", "live")],
        "AppendedBy": held.json("docs", "release", OTHER),
        "Compared": [held.json("docs", "compare", OTHER)],
        "Done": [held.json("dead-letters", "discard", "0/2", "--reason", "x")],
        "OperatorAction": held.json("audit", "acts"),
    }
    components = json.loads((Path(__file__).parents[2] / "schemas/openapi.json").read_text())["components"]
    for name, shown in rows.items():
        schema = components["schemas"][name] | {"additionalProperties": False, "components": components}
        assert shown, name
        for row in shown:
            Draft202012Validator(schema).validate(row)
    assert {"archived", "store", "log_error", "part"} == found.keys() - components["schemas"]["Status"][
        "properties"
    ].keys()


def test_hotspots_name_documents_and_fields(held: Program) -> None:
    spots = held.json("hotspots")
    assert {spot.get("document") for spot in spots} >= {DOC}
    assert {spot.get("field") for spot in spots} >= {"attributes.CostCenter"}
    assert all(0 < spot["rate"] <= 1 for spot in spots)


def test_the_store_alone_is_enough_to_look(settled: Program) -> None:
    ended = settled.run("docs", "list", "--store", "sqlite:///state.db", "-o", "json", configured=False)
    assert len(json.loads(ended.stdout)) == 2
    ended = settled.run("docs", "list", "--store", "nonsense", configured=False)
    assert (ended.returncode, ended.stderr[:15]) == (1, "error: --store:")


# ----------------------------------------------------------------------------------------------------------- conflicts


def _conflict(program: Program, field: str) -> str:
    (row,) = [row for row in program.json("conflicts", "list") if row["field"] == field]
    assert {"id", "document", "field", "base", "desired", "live", "opened_at"} <= row.keys()
    return str(row["id"])


@pytest.mark.parametrize(
    ("choice", "value"),
    [
        *((("--take", side), "5000") for side in ("desired", "ours")),
        *((("--take", side), "9999") for side in ("live", "theirs")),
        *((("--value", text), value) for text, value in {'"7"': "7", '"live"': "live", "null": None}.items()),
    ],
)
def test_a_resolution_decides_a_field(held: Program, choice: tuple[str, str], value: object) -> None:
    conflict = _conflict(held, "attributes.CostCenter")
    assert "9999" in held.say("conflicts", "show", conflict[:6])
    said = held.json("conflicts", "resolve", conflict[:6], *choice, "--actor", "me", "--reason", "asked jdoe")
    assert (said["conflict"], said["wanted"], said["live"]) == (conflict, value, "9999")
    (event,) = said["events"]
    assert (event["source"], event["actor"]) == ("//reconciler/operators", "me")
    assert event["data"] == {
        "set": {"attributes.CostCenter": value}, "expect": {"attributes.CostCenter": "9999"}, "reason": "asked jdoe",
    }  # fmt: skip
    held.say("run", "--once", code=3)
    assert held.document(DOC)["attributes"].get("CostCenter") == value
    assert [row["document"] for row in held.json("conflicts", "list")] == [OTHER]
    assert "was closed at" in held.fails("conflicts", "resolve", conflict, "--take", "live")
    assert held.json("conflicts", "show", conflict)["closed_at"]


@pytest.mark.parametrize(
    "choice",
    [
        *((), ("--take", "live", "--value", '"7"')),
        *(("--take", word) for word in ("thiers", "THEIRS", "", '"7"', "value:live")),
        *(("--value", text) for text in ("theirs", "R2", "", "NaN", "1e999", "[" * 5000)),
    ],
)
def test_a_mistyped_word_decides_nothing(held: Program, choice: tuple[str, ...]) -> None:
    conflict = _conflict(held, "attributes.CostCenter")
    said = held.fails("conflicts", "resolve", conflict, *choice, code=2)
    assert "--value" in said
    assert "live" in said or "write text in double quotes, as in --value '\"" in said
    held.say("run", "--once", code=3)
    assert held.document(DOC)["attributes"]["CostCenter"] == "9999"
    assert _conflict(held, "attributes.CostCenter") == conflict


@pytest.mark.parametrize(
    ("choice", "keywords"),
    [
        (("--take", "desired"), ["bracket"]),
        (("--take", "live"), ["bracket", "mine"]),
        (("--value", '["mine"]'), ["mine"]),
        (("--value", "[]"), []),
    ],
)
def test_a_resolution_decides_the_elements_of_a_list(
    held: Program, choice: tuple[str, str], keywords: list[str]
) -> None:
    held.say("conflicts", "resolve", _conflict(held, "attributes.Keywords"), *choice)
    held.say("run", "--once", code=3)
    assert held.document(OTHER)["attributes"]["Keywords"] == keywords
    assert [row["document"] for row in held.json("conflicts", "list")] == [DOC]


def test_a_resolution_leaves_elements_alone_that_no_one_manages(settled: Program) -> None:
    settled.edit(OTHER, attributes__Keywords=["theirs", "mine"])  # ours removed, one of theirs added
    settled.emits(OTHER, "--add", "attributes.Keywords=bracket", "--remove", "attributes.Keywords=mine")
    settled.say("run", "--once", code=3)
    said = settled.json("conflicts", "resolve", _conflict(settled, "attributes.Keywords"), "--take", "desired")
    data = [event["data"] for event in said["events"]]
    assert [one.get("set", one.get("remove"))["attributes.Keywords"] for one in data] == [["bracket"], ["mine"]]
    settled.say("run", "--once")
    assert settled.document(OTHER)["attributes"]["Keywords"] == ["theirs", "bracket"]
    settled.edit(OTHER, attributes__Keywords=["bracket"])
    settled.say("run", "--once")
    assert settled.document(OTHER)["attributes"]["Keywords"] == ["bracket"]


def test_a_resolution_that_is_overtaken_opens_the_conflict_again(held: Program) -> None:
    conflict = _conflict(held, "attributes.CostCenter")
    held.say("conflicts", "resolve", conflict, "--take", "desired")
    held.edit(DOC, attributes__CostCenter="1234")
    held.say("run", "--once", code=3)
    assert held.document(DOC)["attributes"]["CostCenter"] == "1234"
    assert _conflict(held, "attributes.CostCenter") != conflict


def test_an_unknown_conflict_or_an_impossible_value_is_an_error(held: Program) -> None:
    assert "there is no conflict 'zz'" in held.fails("conflicts", "resolve", "zz", "--take", "live")
    assert "several conflicts" in held.fails("conflicts", "show", "")
    elements = _conflict(held, "attributes.Keywords")
    assert "give a JSON list" in held.fails("conflicts", "resolve", elements, "--value", '"text"', code=2)


# -------------------------------------------------------------------------------------------------------- dead letters


@pytest.fixture
def poisoned(settled: Program) -> Program:
    settled.append("not json \x1b[2J", event(DOC, "//mes", {"attributes.Secret": "x"}, id="s"))
    settled.say("run", "--once", code=3)
    return settled


def test_dead_letters_are_listed_shown_and_discarded(poisoned: Program) -> None:
    rows = poisoned.json("dead-letters", "list")
    assert [(row["id"], row["topic"], row["partition"], row["offset"]) for row in rows] == [
        ("events.jsonl/0/2", "events.jsonl", 0, 2),
        ("events.jsonl/0/3", "events.jsonl", 0, 3),
    ]
    assert "not JSON" in rows[0]["reason"]
    shown = poisoned.say("dead-letters", "show", "0/2")
    assert r"not json \x1b[2J" in shown
    assert "\x1b" not in shown
    assert poisoned.json("dead-letters", "show", "0/2")["value"] == "not json \x1b[2J"
    assert "give either" in poisoned.fails("dead-letters", "discard", "--reason", "x", code=2)
    poisoned.say("dead-letters", "discard", "0/2", "--reason", "a test")
    assert [row["id"] for row in poisoned.json("dead-letters", "list")] == ["events.jsonl/0/3"]
    assert [row["id"] for row in poisoned.json("dead-letters", "list", "--status", "discarded")] == ["events.jsonl/0/2"]
    assert "there is no dead letter 'x'" in poisoned.fails("dead-letters", "show", "x")


def test_a_dead_letter_is_replayed_once_its_reason_is_gone(poisoned: Program) -> None:
    assert "emit --file" in poisoned.fails("dead-letters", "replay", "0/2")
    poisoned.say("dead-letters", "discard", "0/2", "--reason", "a test")
    poisoned.reconfigure('sources = ["//erp/*", "//kafka/*"]', "")
    poisoned.say("dead-letters", "replay", "--all")
    poisoned.say("run", "--once")
    assert poisoned.document(DOC)["attributes"]["Secret"] == "x"
    assert poisoned.json("dead-letters", "list") == []
    assert poisoned.json("dead-letters", "list", "--status", "replayed")[0]["id"] == "events.jsonl/0/3"


# --------------------------------------------------------------------------------------------------- export and replay


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_an_exported_log_replays_to_the_same_bytes(held: Program, suffix: str) -> None:
    archive, outcomes = f"archive.{suffix}", f"outcomes.{suffix}"
    assert held.say("export", "log", "--to", archive) == ""
    held.say("export", "outcomes", "--to", outcomes)
    held.say("export", "projection", "--to", "before.jsonl")
    done = held.json("replay", "--from", archive, "--from", outcomes, "--into", "sqlite:///new.db")
    assert done["records"] > 4
    assert (done["changed"], done["rebased"]) == (2, 2)
    held.say("export", "projection", "--to", "after.jsonl", "--store", "sqlite:///new.db")
    assert (held.folder / "before.jsonl").read_bytes() == (held.folder / "after.jsonl").read_bytes()
    fields = held.json("docs", "show", DOC, "--store", "sqlite:///new.db")["fields"]
    assert {field["field"]: field.get("base") for field in fields} == {
        "attributes.CostCenter": "4711", "owner": "akim", "status": "RELEASED",
    }  # fmt: skip
    assert held.json("replay", "--from", archive, "--check") == []


def test_check_lists_how_the_store_differs_and_changes_nothing(settled: Program) -> None:
    settled.say("export", "log", "--to", "archive.jsonl")
    lines = (settled.folder / "archive.jsonl").read_text().splitlines()
    (settled.folder / "less.jsonl").write_text(lines[1])
    before = settled.say("export", "projection", "--to", "-")
    rows = settled.json("replay", "--from", "less.jsonl", "--check", code=1)
    assert [(row["document"], row["difference"]) for row in rows] == [(DOC, "not in the log")]
    until = json.loads(lines[0])["time"]
    rows = settled.json("replay", "--from", "archive.jsonl", "--check", "--until", until, code=1)
    assert [row["document"] for row in rows] == [OTHER]
    assert settled.say("export", "projection", "--to", "-") == before
    assert "can't be read" in settled.fails("replay", "--from", "nix.jsonl", "--check")


def test_an_export_appears_whole_or_not_at_all_and_says_what_it_left_out(poisoned: Program) -> None:
    ended = poisoned.run("export", "log", "--to", "archive.jsonl.gz")
    assert ended.returncode == 3
    assert "warning: 1 left out" in ended.stderr
    with gzip.open(poisoned.folder / "archive.jsonl.gz") as lines:
        assert [json.loads(line)["kafkaoffset"] for line in lines] == [0, 1, 3]
    assert "can't be written" in poisoned.fails("export", "log", "--to", "no/such/folder.jsonl")
    assert not list(poisoned.folder.glob("*.part"))


def test_replaying_an_archive_does_not_move_the_place_in_the_log(settled: Program) -> None:
    folder = settled.folder / "archives"
    folder.mkdir()
    (folder / "events.jsonl").write_text(settled.log.read_text() * 3)  # same name, but not the log
    settled.say("replay", "--from", "archives/events.jsonl")
    assert settled.json("status")["log"][0]["position"] == 2
    settled.say("run", "--once")


# --------------------------------------------------------------------------------------------------------------- audit


def test_the_trail_is_listed_shown_exported_and_verified(held: Program) -> None:
    rows = held.json("audit", "list", "--document", DOC)
    assert {"id", "at", "document", "result", "written", "decisions"} <= rows[0].keys()
    assert [row["result"] for row in rows] == ["held", "version_conflict", "written"]
    assert held.json("audit", "list", "--document", DOC, "--until", rows[0]["at"]) == rows[1:]
    assert held.json("audit", "list", "--since", "2999-01-01") == []
    whole = held.json("audit", "show", str(rows[-1]["id"]))
    assert whole["patch"] == {"attributes.CostCenter": "4711", "owner": "akim", "status": "RELEASED"}
    assert "first seen, Windchill's value is older or was expected" in held.say("audit", "show", str(rows[-1]["id"]))
    assert "there is no record 999" in held.fails("audit", "show", "999")
    held.say("audit", "export", "--to", "audit.jsonl")
    exported = [json.loads(line) for line in (held.folder / "audit.jsonl").read_text().splitlines()]
    records = [line["record"]["decision"] for line in exported if "decision" in line.get("record", ())]
    assert whole | {"id": 0} in records
    assert held.json("audit", "verify") == []
    assert f"{len(records)} decisions recomputed; differing: 0" in held.say("audit", "verify")


# --------------------------------------------------------------------------------------------------- config and doctor


def test_a_configuration_is_checked_and_shown(program: Program) -> None:
    assert program.say("config", "check").startswith("ok: ")
    rows = program.json("config", "show")
    assert {"section": "windchill", "key": "base_url", "value": program.windchill, "origin": "file"} in rows
    program.config.write_text("[log]\ntopci = 1\nbrokers = []\n")
    said = program.fails("config", "check")
    assert "did you mean log.topic?" in said
    assert len(said.splitlines()) == 2


def test_a_doctor_finds_everything_in_order(settled: Program) -> None:
    found = settled.checks("--probe", DOC)
    assert list(found) == [
        "configuration", "store", "signatures", "reading", "store's file", "files",
        "disk of the log", "disk of the store", "log",
        "who decides", "topics by source", "rules by source",
        "Windchill", "ETag", "If-None-Match", "If-Match", "clocks",
    ]  # fmt: skip
    assert {row["result"] for row in found.values()} == {"ok"}
    assert "✓ store" in settled.say("doctor")


def test_a_doctor_finds_waits_that_a_wrong_clock_has_set_and_a_start_cuts_them_short(settled: Program) -> None:
    settled.tamper(f"UPDATE document SET due_us = due_us + 63072000000000 WHERE key = '{DOC}'")
    waits = settled.checks()["waits"]
    assert (waits["result"], waits["message"][:31]) == ("warning", "1 document would wait too long:")
    settled.say("run", "--once")
    assert "waits" not in settled.checks()


def test_a_doctor_finds_a_guard_that_is_ignored_and_missing_tags(settled: Program) -> None:
    before = settled.document(OTHER)
    settled.switch("behaviour", if_match_enforced=False)
    assert settled.checks("--probe", OTHER, code=1)["If-Match"]["result"] == "failed"
    assert settled.document(OTHER)["title"] == before["title"]
    settled.switch("behaviour", etag="absent")
    assert settled.checks(code=1)["ETag"]["result"] == "failed"


def test_a_doctor_finds_what_is_away(program: Program) -> None:
    away = Program(program.folder, "http://127.0.0.1:9")
    found = away.checks("--document", DOC, code=1)
    assert [found[name]["result"] for name in ("store", "log", "Windchill")] == ["warning", "failed", "failed"]
    assert found["log"]["message"].endswith("create it, or name another file")
    assert away.checks(code=1)["Windchill"]["result"] == "failed"
    away.config.write_text("nonsense")
    assert list(away.checks(code=1)) == ["configuration"]


def test_a_doctor_without_a_document_says_that_windchill_answers(program: Program) -> None:
    program.log.touch()
    found = program.checks()["Windchill"]
    assert (found["result"], "answers; give --document" in found["message"]) == ("warning", True)


def test_a_missing_directory_is_named(program: Program) -> None:
    program.log.touch()
    nowhere = program.folder / "nowhere"
    text = program.config.read_text().replace(f"{program.folder}/state.db", f"{nowhere}/state.db")
    program.config.write_text(text.replace(str(program.log), f"{nowhere}/events.jsonl"))
    assert program.fails("emit", DOC, "--set", "a=1").endswith(f"make the directory {nowhere} first")
    assert program.fails("run", "--once").endswith(f"make the directory {nowhere} first")
    assert program.checks(code=1)["store"]["message"].startswith(f"there is no directory {nowhere}")


# -------------------------------------------------------------------------------------------------------------- errors


def test_errors_are_one_line_that_says_what_to_do(program: Program) -> None:
    missing = f"there is no store at {program.folder}/state.db"
    assert program.fails("status") == f"error: {missing}; start the reconciler once, or correct the [store] url"
    assert "create it, or name another file" in program.fails("run", "--once")
    ended = program.run("status", "-c", "nix.toml", configured=False)
    assert (ended.returncode, ended.stderr) == (1, "error: nix.toml: can't be read: No such file or directory\n")


def test_a_reader_that_goes_away_is_quiet(settled: Program) -> None:
    command = (
        f"{sys.executable} -m reconciler config show -c {settled.config} -o json | head -c 1; echo ${{PIPESTATUS[0]}}"
    )
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    assert ended.stdout[1:].strip() in {"0", "141"}


def test_the_simulator_is_served_and_refuses_nonsense(program: Program) -> None:
    options = ["--port", "0", "--documents", "3", "--until-stdin-closes"]
    command = [sys.executable, "-m", "reconciler", "simulate", *options]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdin is not None
    assert server.stdout.readline().startswith("listening http://127.0.0.1:")
    server.stdin.close()
    assert server.wait(20) == 0
    server.stdout.close()
    for wrong in (["--faults", "{"], ["--faults", '{"x": 1}'], ["--rivals", "many"], ["--port", "99999"]):
        ended = program.run("simulate", *wrong, configured=False)
        assert ended.returncode == 2, ended.stderr
        assert ended.stderr.startswith("error: ")
