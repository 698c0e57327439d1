"""`reconciler maintenance` and maintenance windows of the calendar, with the whole program."""

from tests.cli.program import Program, event

DOC = "0000000001"
ALWAYS = '"* * * * * for 2h in UTC"'


def settled(program: Program) -> Program:
    program.emits(DOC, "--set", "status=RELEASED")
    program.say("run", "--once")
    return program


def test_nothing_is_written_in_a_window_that_an_operator_opens_until_it_is_closed(program: Program) -> None:
    settled(program)
    assert program.json("maintenance", "show") == {"until": None, "coming": []}
    assert "no maintenance window now" in program.fails("maintenance", "close")
    opened = program.json("maintenance", "open", "--for", "2h", "--actor", "jdoe", "--reason", "patch")
    assert program.json("maintenance", "show")["until"] == opened["until"]
    assert "opened by jdoe: patch" in program.say("maintenance", "show")
    assert "maintenance" in program.say("status")
    before = program.writes()
    program.emits(DOC, "--set", "status=OBSOLETE")
    assert program.json("run", "--once", code=3)["maintenance"] is True
    assert program.writes() == before
    program.say("maintenance", "close", "--actor", "akim")
    assert program.json("run", "--once")["maintenance"] is False
    assert program.document(DOC)["status"] == "OBSOLETE"
    acts = [(row["kind"], row["who"]) for row in program.json("audit", "acts", "--limit", "3")]
    assert ("close-window", "akim") in acts


def test_a_window_of_the_calendar_holds_all_requests_back_and_can_be_ended_early(program: Program) -> None:
    settled(program)
    program.reconfigure("[windchill]\n", f"[windchill]\nwindows = [{ALWAYS}]\n")
    program.emits(DOC, "--set", "status=OBSOLETE")
    assert program.json("run", "--once", code=3)["maintenance"] is True
    assert program.document(DOC)["status"] == "RELEASED"
    shown = program.json("maintenance", "show")
    assert shown["until"] is not None
    assert len(shown["coming"]) == 1
    program.say("maintenance", "close")
    program.say("run", "--once")
    assert program.document(DOC)["status"] == "OBSOLETE"


def test_values_of_a_source_in_maintenance_wait_and_others_do_not(program: Program) -> None:
    settled(program)
    program.reconfigure("[log]\n", f'[log]\nwindows = ["//erp/*: {ALWAYS[1:]}]\n')
    program.reconfigure("[retry]\n", "[retry]\nbackoff_max_s = 0.2\n")
    program.reconfigure("[windchill]\n", "[windchill]\ntimeout_s = 0.5\n")
    program.emits(DOC, "--set", "status=OBSOLETE")
    program.append(event("0000000002", "//mes/one", {"status": "OBSOLETE"}))
    program.say("run", "--once", code=3)
    assert program.document(DOC)["status"] == "RELEASED"
    assert program.document("0000000002")["status"] == "OBSOLETE"
    assert "//erp/prod is in maintenance" in program.json("docs", "show", DOC)["reason"]


def test_what_is_no_window_is_refused(program: Program) -> None:
    settled(program)
    assert "at most 24h" in program.fails("maintenance", "open", "--for", "25h", code=2)
    program.reconfigure("[windchill]\n", '[windchill]\nwindows = ["61 * * * * for 2h in UTC"]\n')
    assert "not a cron expression" in program.fails("config", "check")
