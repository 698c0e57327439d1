"""Care of the store by command: snapshot, restore, rebuild, and what the doctor says of damage."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.cli import runtime
from reconciler.errors import LogError, StoreFullError
from tests.cli.program import Program

pytestmark = pytest.mark.e2e

DOC, OTHER = "0000000001", "0000000002"


@pytest.fixture
def settled(program: Program) -> Program:
    """Two documents agreed with Windchill, one field of one having been yielded to a user."""
    program.emits(DOC, "--set", "title=one", "--set", "owner=akim")
    program.emits(OTHER, "--set", "title=one")
    program.say("run", "--once")
    program.edit(DOC, owner="jdoe")
    program.emits(DOC, "--set", "title=two")
    program.say("run", "--once")
    return program


@pytest.fixture
def anything_goes() -> Iterator[None]:
    """A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("anything_goes")
def test_what_is_made_is_for_its_owner_alone_whatever_the_umask(program: Program) -> None:
    program.say("emit", DOC, "--set", "title=one")
    program.append("not an event")
    program.say("run", "--once", code=3)
    program.say("snapshot", "--to", "copy.db")
    for what in ("log", "outcomes", "projection"):
        for suffix in (".jsonl", ".jsonl.gz", ".jsonl.zst"):
            program.run("export", what, "--to", what + suffix)
    program.say("audit", "export", "--to", "audit.jsonl")
    program.say("restore", "--from", "copy.db")
    program.say("rebuild")
    made = {path.name: path.stat().st_mode & 0o777 for path in program.folder.iterdir() if path != program.config}
    assert len(made) >= 16
    assert set(made.values()) == {0o600}, made
    assert "only their owner may read" in program.say("doctor")
    (program.folder / "state.db").chmod(0o640)
    assert "chmod" in program.say("doctor", code=0)


def state(program: Program) -> Path:
    return program.folder / "state.db"


def asides(program: Program, why: str) -> list[Path]:
    return sorted(path for path in program.folder.glob(f"state.db.{why}-*") if not path.name.endswith(("-wal", "-shm")))


def damage(program: Program) -> None:
    with state(program).open("r+b") as file:
        file.seek(4096)
        file.write(b"\x55" * 4096 * 10)


# ------------------------------------------------------------------------------------------------------------- snapshot


def test_a_snapshot_says_what_it_holds_and_can_be_looked_into(settled: Program) -> None:
    said = settled.say("snapshot", "--to", "copy.db")
    assert said.startswith("copy.db: 2 documents, ")
    assert "events.jsonl/0 at 3" in said
    told = settled.json("snapshot", "--to", "again.db")
    assert (told["documents"], told["bytes"]) == (2, (settled.folder / "again.db").stat().st_size)
    assert {"topic": "events.jsonl", "partition": 0, "offset": 3} in told["positions"]
    shown = settled.run("docs", "list", "-o", "json", "--store", "sqlite:///copy.db", configured=False)
    assert shown.stdout == settled.say("docs", "list", "-o", "json")


def test_a_snapshot_replaces_a_file_only_by_force(settled: Program) -> None:
    copy = settled.folder / "copy.db"
    copy.write_text("precious")
    said = settled.fails("snapshot", "--to", "copy.db", code=2)
    assert "copy.db exists already; give another file, or --force" in said
    assert copy.read_text() == "precious"
    settled.say("snapshot", "--to", "copy.db", "--force")
    assert copy.read_bytes().startswith(b"SQLite format 3")


def test_nothing_takes_the_place_of_the_store_itself(settled: Program) -> None:
    before = state(settled).read_bytes()
    assert "the store itself" in settled.fails("snapshot", "--to", "state.db", "--force")
    assert "the state store itself" in settled.fails("restore", "--from", "state.db")
    assert state(settled).read_bytes() == before


def test_there_is_no_snapshot_without_a_store_or_a_place(program: Program) -> None:
    assert "there is no store at" in program.fails("snapshot", "--to", "copy.db")
    assert "there is no directory nowhere" in program.fails("snapshot", "--to", "nowhere/copy.db", code=2)


# -------------------------------------------------------------------------------------------------------------- restore


def test_an_older_snapshot_is_brought_up_to_date_without_a_write(settled: Program) -> None:
    settled.say("snapshot", "--to", "copy.db")
    settled.edit(DOC, title="by hand")
    settled.emits(DOC, "--set", "title=three")
    settled.emits(OTHER, "--set", "title=two")
    settled.say("run", "--once", code=3)  # both sides moved the title: held
    wanted, writes = settled.document(DOC), settled.writes()
    said = settled.say("restore", "--from", "copy.db")
    assert "The new store is older: events.jsonl/0 from 3 to 5" in said
    assert said.splitlines()[-1].startswith("Next: start the reconciler.")
    (aside,) = asides(settled, "replaced")
    assert f"kept as {aside}" in said
    settled.say("run", "--once", code=3)
    assert (settled.document(DOC), settled.writes()) == (wanted, writes)
    assert "No difference" in settled.say("replay", "--from", "events.jsonl", "--check")


def test_what_was_yielded_after_the_snapshot_stays_yielded(settled: Program) -> None:
    settled.say("snapshot", "--to", "copy.db")
    settled.edit(OTHER, title="by hand")  # drift: the merge rule yields to it
    settled.emits(OTHER, "--set", "attributes.CostCenter=9")
    settled.say("run", "--once")
    assert settled.document(OTHER)["title"] == "by hand"
    writes = settled.writes()
    settled.say("restore", "--from", "copy.db")
    settled.say("run", "--once")
    assert settled.document(OTHER)["title"] == "by hand"
    assert settled.writes() == writes


def test_a_shadow_that_was_built_and_checked_is_switched_to(settled: Program) -> None:
    logs = ("--from", "events.jsonl")
    settled.say("replay", *logs, "--into", "sqlite:///shadow.db")
    settled.emits(OTHER, "--set", "title=later")
    settled.say("run", "--once")
    writes = settled.writes()
    told = settled.json("restore", "--from", "shadow.db")
    assert told["documents"] == 2
    assert told["behind"][0] == {"topic": "events.jsonl", "partition": 0, "offset": 3, "was": 4}
    settled.say("run", "--once")
    assert settled.writes() == writes
    assert settled.json("explain", DOC, "owner")["fields"][0]["live"] == "jdoe"


def test_a_restore_takes_a_store_alone_too(settled: Program) -> None:
    settled.say("snapshot", "--to", "copy.db")
    ended = settled.run("restore", "--from", "copy.db", "--store", "sqlite:///elsewhere.db", configured=False)
    assert ended.returncode == 0, ended.stderr
    assert "kept as" not in ended.stdout
    shown = settled.run("docs", "list", "-o", "json", "--store", "sqlite:///elsewhere.db", configured=False)
    assert shown.stdout == settled.say("docs", "list", "-o", "json")


@pytest.mark.parametrize("how", ["damaged", "no database", "missing", "foreign", "newer"])
def test_what_is_no_whole_snapshot_of_ours_is_refused(settled: Program, how: str) -> None:
    settled.say("snapshot", "--to", "copy.db")
    copy, before = settled.folder / "copy.db", state(settled).read_bytes()
    if how == "damaged":
        with copy.open("r+b") as file:
            file.seek(8192)
            file.write(b"\x55" * 8192)
    elif how == "no database":
        copy.write_text("once upon a time " * 1000)
    elif how == "missing":
        copy.unlink()
    else:
        with closing(sqlite3.connect(copy)) as other:
            other.execute("PRAGMA application_id = 7" if how == "foreign" else "PRAGMA user_version = 99")
    said = settled.fails("restore", "--from", "copy.db")
    assert "copy.db" in said
    assert state(settled).read_bytes() == before
    assert not asides(settled, "replaced")
    assert not list(settled.folder.glob("*.new*"))


# -------------------------------------------------------------------------------------------------------------- rebuild


def test_a_damaged_store_is_refused_named_and_rebuilt_without_a_write(settled: Program) -> None:
    wanted, writes = settled.document(DOC), settled.writes()
    damage(settled)
    said = settled.fails("run", "--once")
    assert said.count("\n") == 0
    assert "reconciler rebuild -c" in said
    assert "✗ store's file: damaged" in settled.say("doctor", "--document", DOC, code=1)
    assert "reconciler rebuild" in settled.fails("snapshot", "--to", "copy.db")
    said = settled.say("rebuild")
    (aside,) = asides(settled, "damaged")
    assert f"kept as {aside}" in said
    assert "audit trail" in said
    settled.say("run", "--once")
    assert (settled.document(DOC), settled.writes()) == (wanted, writes)
    assert "No difference" in settled.say("replay", "--from", "events.jsonl", "--check")
    assert "✓ store's file: every page" in settled.say("doctor", "--deep", "--document", DOC)


def test_what_several_tasks_say_of_one_store_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ExceptionGroup("tasks", [StoreFullError("full"), StoreFullError("full"), LogError("gone")])

    assert runtime.ended(fail) == runtime.FAILED
    assert capsys.readouterr().err == "error: full\nerror: gone\n"


def test_a_store_that_is_gone_is_rebuilt(settled: Program) -> None:
    writes = settled.writes()
    settled.lose_store()
    told = settled.json("rebuild")
    assert (told["documents"], told["set_aside"]) == (2, None)
    settled.say("run", "--once")
    assert settled.writes() == writes


def test_the_audit_trail_of_what_is_set_aside_can_be_read_where_that_is_possible(settled: Program) -> None:
    trail = settled.say("audit", "list", "-o", "json")
    said = settled.say("rebuild")
    where = said.split("`reconciler audit list ")[1].split("`")[0].split()
    assert settled.run("audit", "list", "-o", "json", *where, configured=False).stdout == trail
    assert settled.json("audit", "list") == []


def test_a_rebuild_that_can_not_be_finished_changes_nothing_and_can_be_repeated(settled: Program) -> None:
    damage(settled)
    before = state(settled).read_bytes()
    settled.log.rename(settled.folder / "archive.jsonl")
    settled.fails("rebuild", "--from", "nowhere.jsonl")
    assert state(settled).read_bytes() == before
    assert not list(settled.folder.glob("*.new*"))
    assert not asides(settled, "damaged")
    said = settled.say("rebuild", "--from", "archive.jsonl", "--from", "events.outcomes.jsonl")
    assert "2 documents, 0.2 MB, 2 agreements" in said


def test_an_interrupted_rebuilds_leftovers_are_nobodys_store(settled: Program) -> None:
    damage(settled)
    (settled.folder / "state.db.new").write_bytes(b"half-built")
    (settled.folder / "state.db.new-wal").write_bytes(b"half-built")
    settled.say("rebuild")
    settled.say("run", "--once")
    assert not list(settled.folder.glob("*.new*"))
