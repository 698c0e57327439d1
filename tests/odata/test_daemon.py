"""The whole program, from events to a server that is not ours and back into the audit trail."""

from pathlib import Path

import pytest

from tests.cli.program import Program
from tests.odata import cap
from tests.odata.cap import Cap
from tests.odata.people import Person


@pytest.fixture
def program(server: Cap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    secret = tmp_path / "password"
    secret.write_text(f"{cap.PASSWORD}\n")
    settings = {
        "DIALECT": "wrs",
        "SERVICE": "",
        "LOCK": "etag",
        "ETAG_PROVEN": "true",
        "AUTH": "basic",
        "USERNAME": "integration",
        "PASSWORD_FILE": str(secret),
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"RECONCILER_WINDCHILL__{name}", value)
    return Program(tmp_path, server.url)


def test_what_is_emitted_is_written_and_what_people_edit_stays(program: Program, user: Person) -> None:
    made = user.make(Title="Pump", State="INWORK", Pages=3, EffectiveFrom="2026-01-02T03:04:05Z")
    number = made["Number"]
    program.say(
        "emit", number, "--set", "Title=Valve", "--set", "Pages=4", "--set", "EffectiveFrom=2026-01-02T04:04:05+01:00"
    )
    program.say("run", "--once")
    now = user.read(made)
    assert (now["Title"], now["Pages"], now["ModifiedBy"]) == ("Valve", 4, "integration")
    # The same instant was there already: nothing of it was written, and nothing is written again.
    fields = {field["field"]: field for field in program.json("explain", number)["fields"]}
    assert fields["EffectiveFrom"]["decision"]["decision"] == "keep"
    program.say("run", "--once")
    assert user.read(made) == now
    user.edit(made, Title="Edited")
    program.emits(number, "--set", "Title=Tap", "--set", "State=RELEASED")
    assert program.json("run", "--once", code=3)["documents"]["held"] == 1
    now = user.read(made)
    assert (now["Title"], now["State"]) == ("Edited", "RELEASED")
    (conflict,) = program.json("conflicts", "list")
    assert (conflict["field"], conflict["live"], conflict["desired"]) == ("Title", "Edited", "Tap")
    assert program.json("audit", "verify") == []


def test_what_the_server_refuses_is_held_with_its_words_and_the_rest_goes_out(program: Program, user: Person) -> None:
    made = user.make(Title="Pump", Category="MANUAL")
    program.emits(made["Number"], "--set", "Category=OTHER", "--set", "Title=Valve", "--set", "Approver=me")
    program.json("run", "--once", code=3)
    now = user.read(made)
    assert (now["Title"], now["Category"], now["Approver"]) == ("Valve", "MANUAL", None)
    told = program.say("explain", made["Number"])
    assert "is invalid according to enum declaration {DRAWING, MANUAL}" in told
    assert "no write can change it" in told, told


def test_a_write_that_someone_was_quicker_than_is_decided_again_on_what_they_wrote(
    program: Program, user: Person
) -> None:
    made = user.make(Title="Pump", Pages=3, Description="For water")
    number = made["Number"]
    program.emits(number, "--set", "Title=Valve", "--set", "Pages=4")
    program.say("run", "--once")
    # What the program remembers is stale from here on, and it writes on that first.
    user.edit(made, Pages=100, Description="For oil")
    program.emits(number, "--set", "Title=Tap")
    program.say("run", "--once")
    now = user.read(made)
    assert (now["Title"], now["Pages"], now["Description"]) == ("Tap", 100, "For oil")
    attempts = [attempt["result"] for attempt in program.json("explain", number)["attempts"]]
    assert attempts == ["written", "version_conflict", "written"]
