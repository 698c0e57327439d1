"""What Windchill takes and does not keep, over HTTP: found out, held, and decided by commands."""

from typing import Any

import httpx
import pytest

from tests.cli.program import Program

pytestmark = pytest.mark.e2e

DOC = "0000000001"
MINE = """\
[[policy]]
fields = ["owner", "attributes.Keywords"]
strategy = "external"
list = "set"
"""


@pytest.fixture
def program(tmp_path: Any, windchill: str) -> Program:
    program = Program(tmp_path, windchill)
    program.reconfigure("[[policy]]", f"{MINE}[[policy]]")
    return program


def patches(program: Program) -> int:
    """How many PATCHes have reached Windchill, whatever came of them."""
    asked = httpx.get(f"{program.windchill}/_control/stats").raise_for_status().json()["requests"]
    return sum(asked.get("PATCH", {}).values())


def look(program: Program, times: int, *, held: bool = True) -> None:
    """Have the document compared and run until all is settled, so many times."""
    for number in range(times):
        if (program.folder / "state.db").exists():
            program.say("docs", "compare", DOC)
        ended = program.run("run", "--once")
        assert ended.returncode in ((3,) if held and number == times - 1 else (0, 3)), ended


def the_conflict(program: Program) -> dict[str, Any]:
    (row,) = program.json("conflicts", "list")
    assert row["hold"] == "contested"
    return dict(row)


def rival(program: Program) -> None:
    program.switch("behaviour", set_back_fields={"owner": "akim"})
    program.emits(DOC, "--set", "owner=jdoe")
    look(program, 8)


def test_a_program_that_sets_a_field_back_costs_three_writes(program: Program) -> None:
    rival(program)
    assert patches(program) == 3
    assert "written 3 times and changed again each time" in the_conflict(program)["reason"]
    assert "plm-batch" in program.say("conflicts", "show", the_conflict(program)["id"])
    assert "next attempt" in program.say("conflicts", "show", the_conflict(program)["id"])
    assert "Windchill does not keep it" in program.say("explain", DOC, "owner")
    program.emits(DOC, "--set", "title=Cover")
    program.say("run", "--once", code=3)
    assert program.document(DOC)["title"] == "Cover"


@pytest.mark.parametrize("shows", ["sent", "stored"])
def test_a_server_that_stores_another_form_costs_one_write(program: Program, shows: str) -> None:
    program.switch("behaviour", capitalised_fields=["owner"], write_shows=shows)
    program.emits(DOC, "--set", "owner=jdoe")
    look(program, 6)
    assert (patches(program), program.document(DOC)["owner"]) == (1, "JDOE")
    assert "stores another value than was written" in the_conflict(program)["reason"]


@pytest.mark.parametrize("reply", ["document", "none"])
@pytest.mark.parametrize("shows", ["sent", "stored"])
def test_a_field_that_is_accepted_and_ignored_costs_one_write(program: Program, shows: str, reply: str) -> None:
    before = program.document(DOC)["owner"]
    program.switch("behaviour", ignored_fields=["owner"], write_shows=shows, write_reply=reply)
    program.emits(DOC, "--set", "owner=nobody", "--set", "title=Cover")
    look(program, 6)
    assert (patches(program), program.document(DOC)["owner"], program.document(DOC)["title"]) == (1, before, "Cover")
    assert the_conflict(program)["field"] == "owner"


def test_a_server_without_tags_of_writes_is_found_out_by_three(program: Program) -> None:
    """No one can tell then who left the version that is read."""
    program.switch("behaviour", ignored_fields=["owner"], write_shows="sent", write_etag=False, write_reply="none")
    program.emits(DOC, "--set", "owner=nobody")
    look(program, 8)
    assert patches(program) <= 3
    assert the_conflict(program)["field"] == "owner"


def test_an_element_in_another_spelling_is_contested_alone(program: Program) -> None:
    program.switch("behaviour", capitalised_fields=["attributes.Keywords"])
    program.emits(DOC, "--add", "attributes.Keywords=bracket")
    look(program, 5)
    assert patches(program) == 1
    program.say("conflicts", "accept", the_conflict(program)["id"])
    look(program, 2, held=False)
    assert program.json("conflicts", "list") == []
    assert "BRACKET" in program.document(DOC)["attributes"]["Keywords"]
    assert patches(program) == 1


def test_an_accepted_form_is_equal_from_now_on_and_after_a_rebuild(program: Program) -> None:
    program.switch("behaviour", capitalised_fields=["owner"], write_shows="sent")
    program.emits(DOC, "--set", "owner=jdoe")
    look(program, 3)
    said = program.say("conflicts", "accept", the_conflict(program)["id"], "--reason", "names are in capitals")
    assert "Windchill's JDOE counts as equal to jdoe from now on" in said
    program.say("run", "--once")
    assert 'owner is "JDOE", which counts as "jdoe": ' in program.say("explain", DOC, "owner")
    program.emits(DOC, "--set", "owner=jdoe")
    look(program, 2, held=False)
    program.say("rebuild")
    look(program, 2, held=False)
    assert program.json("conflicts", "list") == []
    assert patches(program) == 1
    program.emits(DOC, "--set", "owner=akim")
    program.say("run", "--once")
    assert program.document(DOC)["owner"] == "AKIM"


def test_a_person_may_keep_trying_and_succeed(program: Program) -> None:
    rival(program)
    program.switch("behaviour", set_back_fields={})
    said = program.json("conflicts", "retry", the_conflict(program)["id"], "--reason", "the job is off")
    assert said["events"][0]["data"]["set"] == {"owner": "jdoe"}
    program.say("run", "--once")
    look(program, 2, held=False)
    assert (program.document(DOC)["owner"], patches(program)) == ("jdoe", 4)
    assert [action["kind"] for action in program.json("audit", "acts") if action["kind"] != "compare"] == ["resolve"]


def test_a_person_may_give_up(program: Program) -> None:
    rival(program)
    program.say("conflicts", "resolve", the_conflict(program)["id"], "--take", "live")
    program.say("run", "--once")
    look(program, 2, held=False)
    assert (program.document(DOC)["owner"], patches(program)) == ("akim", 3)


def test_what_is_contested_stays_so_after_a_rebuild(program: Program) -> None:
    rival(program)
    program.say("rebuild")
    look(program, 3)
    assert patches(program) == 3
    assert "written 3 times" in the_conflict(program)["reason"]


def test_a_contested_field_is_tried_now_by_docs_retry(program: Program) -> None:
    rival(program)
    program.say("docs", "retry", DOC)
    program.run("run", "--once")
    look(program, 3)
    assert patches(program) == 4


def test_what_is_not_contested_can_not_be_accepted(program: Program) -> None:
    program.emits(DOC, "--set", "attributes.CostCenter=1")
    program.say("run", "--once")
    program.edit(DOC, attributes__CostCenter="2")
    program.emits(DOC, "--set", "attributes.CostCenter=3")
    program.say("run", "--once", code=3)
    (row,) = program.json("conflicts", "list")
    assert "is not contested" in program.fails("conflicts", "accept", row["id"], code=2)


def test_two_keys_of_one_document_are_found_out(program: Program) -> None:
    """The server knows the document by two spellings, and each of them is asked for another value."""
    other = "0000000002"
    program.switch("behaviour", set_back_fields={})
    program.emits(DOC, "--set", "owner=jdoe")
    program.say("run", "--once")
    for _ in range(4):  # what is written under the other key arrives here, by our own account
        told = {"document": DOC, "user": "integration", "set": {"owner": "akim"}}
        httpx.post(f"{program.windchill}/_control/edit", json=told).raise_for_status()
        look(program, 1, held=False)
    assert patches(program) == 3
    assert "our own account" in the_conflict(program)["reason"]
    assert program.document(other)["id"] == other
