"""`docs compare`: documents are made due for a comparison, at nobody else's cost."""

from tests.cli.program import Program

DOC, OTHER = "0000000001", "0000000002"


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
    assert said.startswith("1 document is due for a comparison.")
    program.say("run", "--once")
    assert {program.document(key)["status"] for key in (DOC, OTHER)} == {"RELEASED"}


def test_it_wants_either_keys_or_all(program: Program) -> None:
    for given in ((), (DOC, "--all")):
        assert "either the keys of documents or --all" in program.fails("docs", "compare", *given, code=2)
