"""`docs rename`, `revert` and `adopt`: what operators change of many claims at once, shown first."""

import pytest

from tests.cli.program import Program, event

DOC, OTHER, NEW = "0000000001", "0000000002", "0000000003"
ERP = "//erp/prod"


def shown(found: dict) -> list[tuple]:
    return [(row["document"], row["field"], row["before"], row["after"], bool(row["left"])) for row in found["fields"]]


def batch(program: Program, document: str, time: str, **fields: str) -> None:
    program.append(event(document, ERP, fields, time=time))
    program.say("run", "--once")


def test_a_bad_batch_is_shown_and_set_back_and_what_came_later_stays(program: Program) -> None:
    former = {key: program.document(key) for key in (DOC, OTHER)}
    batch(program, DOC, "2026-01-01T10:00:00Z", status="OLD", title="before")
    batch(program, DOC, "2026-01-01T12:00:00Z", status="BAD", title="bad")
    batch(program, DOC, "2026-01-01T12:30:00Z", status="WORSE")
    batch(program, OTHER, "2026-01-01T12:00:00Z", status="BAD", title="bad")
    program.append(event(OTHER, "//mes/one", {"title": "theirs"}, time="2026-01-01T12:10:00Z"))
    program.say("run", "--once")
    arguments = ("revert", "--source", "//erp/*", "--since", "2026-01-01T11:00:00Z")
    first = program.json(*arguments)
    assert shown(first) == [
        (DOC, "status", "WORSE", "OLD", False),
        (DOC, "title", "bad", former[DOC]["title"], False),
        (OTHER, "status", "BAD", former[OTHER]["status"], False),
    ]
    assert not program.decisions.exists(), "a preview appends nothing"
    done = program.json(*arguments, "--apply", "--actor", "jdoe", "--reason", "wrong prices")
    assert (done["applied"], done["documents"]) == (True, 2)
    program.say("run", "--once")
    assert (program.document(DOC)["status"], program.document(DOC)["title"]) == ("OLD", former[DOC]["title"])
    assert (program.document(OTHER)["status"], program.document(OTHER)["title"]) == (former[OTHER]["status"], "theirs")
    acts = program.json("audit", "acts")
    assert [(row["kind"], row["who"], row["target"]) for row in acts] == [
        ("revert", "jdoe", OTHER),
        ("revert", "jdoe", DOC),
    ]
    assert acts[1]["details"]["source"] == "//erp/*"
    assert shown(program.json(*arguments)) == [], "it is undone"
    assert "Nothing of these events holds any more." in program.say(*arguments)


def test_what_a_person_changed_since_is_named_and_left(program: Program) -> None:
    program.emits(DOC, "--set", "title=bad")
    program.say("run", "--once")
    program.edit(DOC, title="Lid")
    program.say("docs", "compare", DOC)
    program.say("run", "--once")
    (row,) = shown(program.json("revert", "--source", ERP, "--since", "2026-01-01"))
    assert row == (DOC, "title", "Lid", None, True)
    assert "changed in Windchill since" in program.say("revert", "--source", ERP, "--since", "2026-01-01")


def test_what_was_not_written_yet_is_never_written(program: Program) -> None:
    batch(program, DOC, "2026-01-01T10:00:00Z", status="OLD")
    program.say("writes", "stop", "--reason", "bad batch")
    program.append(event(DOC, ERP, {"status": "BAD"}, time="2026-01-01T12:00:00Z"))
    program.say("run", "--once", code=3)
    done = program.json("revert", "--source", ERP, "--since", "2026-01-01T11:00:00Z", "--apply")
    assert shown(done) == [(DOC, "status", "OLD", "OLD", False)]
    program.say("writes", "resume")
    before = program.writes()
    program.say("run", "--once")
    assert (program.document(DOC)["status"], program.writes()) == ("OLD", before)


def test_a_value_whose_former_one_is_not_recorded_any_more_is_named_and_left(program: Program) -> None:
    batch(program, DOC, "2026-01-01T12:00:00Z", status="BAD")
    program.tamper("DELETE FROM audit")
    (row,) = program.json("revert", "--source", ERP, "--since", "2026-01-01")["fields"]
    assert "is not recorded any more" in row["left"]


def test_a_list_that_is_merged_by_element_is_named_and_left(program: Program) -> None:
    program.emits(DOC, "--add", "attributes.Keywords=wrong")
    program.say("run", "--once")
    (row,) = program.json("revert", "--source", ERP, "--since", "1h")["fields"]
    assert "by element" in row["left"]


def test_a_period_that_ends_before_it_begins_is_refused(program: Program) -> None:
    said = program.fails("revert", "--source", ERP, "--since", "2026-01-02", "--until", "2026-01-01", code=2)
    assert "--until must be after --since" in said


# --------------------------------------------------------------------------------------------------------------- rename


def test_a_rename_moves_what_is_desired_and_releases_the_old_id(program: Program) -> None:
    program.emits("ERP-1", "--set", "status=RELEASED", "--set", "title=Cover", "--add", "attributes.Keywords=new")
    program.say("run", "--once", code=3)
    rows = program.json("docs", "rename", "ERP-1", NEW)["fields"]
    assert [row["field"] for row in rows if row["document"] == NEW] == ["attributes.Keywords", "status", "title"]
    assert program.json("docs", "list", "--status", "absent")[0]["document"] == "ERP-1"
    program.say("docs", "rename", "ERP-1", NEW, "--apply", "--actor", "jdoe", "--reason", "numbered by hand")
    program.say("run", "--once")
    found = program.document(NEW)
    assert (found["status"], found["title"], "new" in found["attributes"]["Keywords"]) == ("RELEASED", "Cover", True)
    assert program.json("docs", "show", "ERP-1")["status"] == "synced"
    acts = program.json("audit", "acts", "--document", "ERP-1")
    assert [(row["kind"], row["who"], row["details"]["to"]) for row in acts][:1] == [("rename", "jdoe", NEW)]
    assert "not managed" in program.fails("docs", "rename", "ERP-1", NEW, code=2)


def test_a_rename_joins_claims_only_if_none_contradicts(program: Program) -> None:
    program.emits("ERP-1", "--set", "status=RELEASED", "--set", "title=Cover")
    program.emits(NEW, "--set", "title=Lid")
    program.say("run", "--once", code=3)
    assert "both documents claim title" in program.fails("docs", "rename", "ERP-1", NEW, "--apply", code=2)
    program.emits(NEW, "--set", "title=Cover")
    program.say("run", "--once", code=3)
    program.say("docs", "rename", "ERP-1", NEW, "--apply")
    program.say("run", "--once")
    assert program.document(NEW)["status"] == "RELEASED"


@pytest.mark.parametrize("name", ["nowhere"])
def test_an_unknown_document_is_not_renamed(program: Program, name: str) -> None:
    program.emits(DOC, "--set", "title=Cover")
    program.say("run", "--once")
    assert "no event has named" in program.fails("docs", "rename", name, NEW)


# ---------------------------------------------------------------------------------------------------------------- adopt


def test_documents_are_adopted_as_they_are_and_nothing_is_written(program: Program) -> None:
    listed = program.folder / "documents.txt"
    listed.write_text(f"{DOC}\n\n{OTHER}\nnowhere\n", encoding="utf-8")
    program.log.touch()
    program.say("run", "--once")
    program.emits(OTHER, "--set", "status=RELEASED")
    arguments = ("adopt", "--list", str(listed), "--field", "title", "--field", "status")
    title, status = (program.document(DOC)[name] for name in ("title", "status"))
    rows = program.json(*arguments)
    assert ("nowhere", "", None, None, True) in shown(rows)
    assert (DOC, "title", title, title, False) in shown(rows)
    assert (DOC, "status", status, status, False) in shown(rows)
    before = program.writes()
    assert program.json(*arguments, "--apply", "--actor", "jdoe")["documents"] == 2
    program.say("run", "--once")
    fields = {one["field"]: one["desired"] for one in program.json("docs", "show", DOC)["fields"]}
    assert (fields["title"], fields["status"], program.document(DOC)["title"]) == (title, status, title)
    assert program.writes() - before == 1, "only the event of the other document was written"
    program.edit(DOC, status="EDITED")
    program.say("docs", "compare", DOC)
    program.say("run", "--once")
    assert program.document(DOC)["status"] == status, "it is managed now, and its rule sets an edit back"


def test_a_field_that_events_claim_is_not_adopted_and_the_report_says_what_they_would_write(program: Program) -> None:
    program.log.touch()
    program.say("run", "--once")
    program.say("writes", "stop")
    program.emits(DOC, "--set", "status=RELEASED")
    program.say("run", "--once", code=3)
    was = program.document(DOC)["status"]
    (row,) = program.json("adopt", DOC, "--field", "status")["fields"]
    assert (row["before"], row["after"]) == (was, "RELEASED")
    assert "would have this written" in row["left"]


def test_what_can_not_be_adopted_is_named(program: Program) -> None:
    program.emits(OTHER, "--set", "title=Cover")
    program.say("run", "--once")
    rows = program.json("adopt", DOC, "--field", "nothing", "--field", "attributes")["fields"]
    assert [("no such field" in row["left"], "group" in row["left"]) for row in rows] == [(False, True), (True, False)]
    assert "give the keys" in program.fails("adopt", "--field", "title", code=2)
    assert "can't be read" in program.fails("adopt", "--list", "none.txt", "--field", "title", code=2)
