"""`reconciler prune`: what is old goes to archives, the trail still verifies, and a kill at any step loses nothing."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
import zstandard

from reconciler.model.action import OperatorAction
from tests import postgres
from tests.cli.program import Program, event
from tests.cli.test_audit import DOC, decide, decided, head_of, programs, rows
from tests.cli.test_postgres import Trail
from tests.postgres.chains import append, checkpoint

pytestmark = pytest.mark.e2e

# Runs the program, and kills it at the n-th call of one of the steps.
KILLED = """
import os, signal, sys
from reconciler.adapters import files
from reconciler.adapters.archive import FileArchive
from reconciler.adapters.postgres.store import PostgresStore
from reconciler.adapters.sqlite.store import SqliteStore
from reconciler.flows import retention
from reconciler.cli import main

retention.RECORDS, retention._FORGOTTEN = 2, 1
left = int(sys.argv[1])

def step():
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

def mortal(owner, name):
    real = getattr(owner, name)
    async def asynchronous(*given, **named):
        step()
        return await real(*given, **named)
    def synchronous(*given, **named):
        step()
        return real(*given, **named)
    setattr(owner, name, synchronous if owner in (files, FileArchive) and name != "keep" else asynchronous)

for owner, name in ((FileArchive, "_write"), (files, "sync")):
    mortal(owner, name)
for owner in (SqliteStore, PostgresStore):
    mortal(owner, "prune")
    mortal(owner, "forget")
main(sys.argv[2:], standalone_mode=False)
"""


@pytest.fixture
def living(program: Program) -> Program:
    (program.folder / "archive").mkdir()
    return decided(program)


def prune(program: Program, *arguments: str, code: int = 0) -> str:
    return program.say("prune", "--older-than", "0s", "--archive", "archive", *arguments, code=code)


def test_what_is_old_is_archived_and_the_trail_verifies_with_and_without(living: Program) -> None:
    head = living.say("audit", "verify").split("head ")[1].strip()
    before = rows(living)
    assert json.loads(prune(living, "--dry-run", "-o", "json")) == [{"kind": "audit", "count": 5}]
    assert rows(living) == before
    assert "audit-0-1-5.jsonl.zst" in prune(living, "--reason", "they are old")
    assert [row[0] for row in rows(living)] == [6, 7]
    said = living.say("audit", "verify", "--head", head)
    assert "The chain holds from record 6 to record 7; earlier records were not checked." in said
    assert "are in 1 archive, the last audit-0-1-5.jsonl.zst" in said
    whole = living.say("audit", "verify", "--archive", "archive", "--head", head)
    assert "6 decisions recomputed; differing: 0." in whole
    assert "The chain holds from the first record to record 7." in whole
    (told,) = living.json("audit", "acts")
    assert (told["kind"], told["details"]["reason"]) == ("prune", "they are old")
    assert [row["last"] for row in living.json("audit", "archives")] == [5]
    assert living.say("audit", "verify", "--file", "archive/audit-0-1-5.jsonl.zst").startswith("5 decisions recomputed")


def test_whoever_asks_for_what_is_archived_learns_where_it_is(living: Program) -> None:
    prune(living)
    assert "record 3 is in the archive audit-0-1-5.jsonl.zst" in living.fails("audit", "show", "3")
    told = living.say("explain", DOC)
    assert "are in archives, which explain --file reads: audit-0-1-5.jsonl.zst." in told
    assert "sgarcia" in living.say("explain", DOC, "--file", "archive/audit-0-1-5.jsonl.zst")


def test_a_head_that_is_in_an_archive_is_verified_with_it(living: Program) -> None:
    third = f"3:{rows(living)[2][3].hex()}"
    prune(living)
    said = living.say("audit", "verify", "--head", third, code=1)
    assert "is in the archive audit-0-1-5.jsonl.zst: give --archive too" in said
    living.say("audit", "verify", "--archive", "archive", "--head", third)


def test_a_change_in_an_archive_shows(living: Program) -> None:
    prune(living)
    path = living.folder / "archive" / "audit-0-1-5.jsonl.zst"
    text = zstandard.decompress(path.read_bytes())
    path.write_bytes(zstandard.compress(text.replace(b"sgarcia", b"sgarcib")))
    said = living.say("audit", "verify", "--archive", "archive", code=1)
    assert "was changed: it has another SHA-256 than when it was made" in said
    assert "its link does not follow from its content" in said
    path.unlink()
    assert "is missing: it has the records 1 to this one" in living.say(
        "audit", "verify", "--archive", "archive", code=1
    )


def test_records_that_no_prune_has_archived_are_missed_whatever_the_table_says(living: Program) -> None:
    prune(living)
    living.emits(DOC, "--set", "owner=akim")
    living.say("run", "--once")
    with closing(sqlite3.connect(living.folder / "state.db")) as store:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            store.execute("DELETE FROM audit WHERE id = 6")
        ((link,),) = store.execute("SELECT link FROM audit WHERE id = 6")
        ((text,),) = store.execute("SELECT cut FROM cut")
        cut = json.loads(text) | {"after": json.loads(text)["upto"], "upto": f"6:{link.hex()}", "file": "forged"}
        store.execute("INSERT INTO cut VALUES (6, ?, 7, ?)", (link, json.dumps(cut).encode()))
        store.execute("DELETE FROM audit WHERE id = 6")
        store.commit()
    said = living.say("audit", "verify", code=1)
    assert "it tells of another piece than the store says that it does (forged)" in said


def test_an_export_of_what_is_left_verifies(living: Program) -> None:
    prune(living)
    ended = living.run("audit", "export", "--to", "left.jsonl")
    assert "The file begins with record 6" in ended.stderr
    living.say("audit", "verify", "--file", "left.jsonl")
    command = [sys.executable, "-W", "ignore", "-c", programs()[0], str(living.folder / "left.jsonl")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"head {head_of(living)}\n"
    first = json.loads((living.folder / "left.jsonl").read_text().splitlines()[-2])
    (told,) = living.json("audit", "acts")
    assert told["details"]["upto"] == f"{first['number'] - 1}:{first['previous']}"


def test_a_dead_letter_that_was_archived_comes_back_when_its_record_is_read_again(living: Program) -> None:
    wrong = event(DOC, "//erp/prod", {"title": "x"}) | {"data": {"set": {}, "surplus": 1}}
    living.append(wrong, wrong)
    living.say("run", "--once", code=3)
    for letter in living.json("dead-letters", "list"):
        living.say("dead-letters", "discard", letter["id"], "--reason", "no event")
    prune(living)
    assert len(living.json("dead-letters", "list", "--status", "all")) == 1, "the newest one stays"
    living.say("docs", "refold", DOC, "--reason", "what was it?")
    (back,) = living.json("dead-letters", "list")
    assert back["status"] == "open"


def test_each_chain_of_replicas_is_archived_and_so_are_checkpoints(
    program: Program, postgres_server: postgres.Server
) -> None:
    trail = Trail(program, postgres_server)
    (program.folder / "archive").mkdir()
    head = asyncio.run(checkpoint(trail.url))
    record = OperatorAction(1, "akim", "cli", "retry", DOC, DOC, {}, "done")
    for slot in (0, 1, 3):
        asyncio.run(append(trail.url, slot, record, record))
    asyncio.run(checkpoint(trail.url))
    prune(program)
    names = [path.name for path in sorted((program.folder / "archive").iterdir())]
    assert names == [f"audit-{piece}.jsonl.zst" for piece in ("0-1-3", "1-1-2", "3-1-2", "99-1-1")]
    told = program.say("audit", "verify")
    assert "Chain 3 holds from record 3000000000003 to record 3000000000003" in told
    assert "The chain of checkpoints holds from record 99000000000002" in told
    whole = program.say("audit", "verify", "--archive", "archive", "--head", head)
    assert "Chain 3 holds from the first record" in whole
    assert "The chain of checkpoints holds from the first record" in whole
    with pytest.raises(subprocess.CalledProcessError):
        postgres_server.sql("DELETE FROM audit WHERE number = 3000000000003", trail.url.rpartition("/")[2])
    trail.tamper("DELETE FROM audit WHERE number = 4")
    assert "missing before it: 4" in program.say("audit", "verify", code=1)


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_killed_at_any_step_it_loses_nothing_and_goes_on(
    store: str, program: Program, request: pytest.FixtureRequest
) -> None:
    if store == "postgres":
        made: postgres.Server = request.getfixturevalue("postgres_server")
        program.reconfigure(f'url = "sqlite:///{program.folder}/state.db"', f'url = "{made.new()}"')
    (program.folder / "archive").mkdir()
    decide(program)
    script = program.folder / "killed.py"
    script.write_text(KILLED, encoding="utf-8")
    kills = 0
    for steps in range(60):
        arguments = ["prune", "--older-than", "0s", "--archive", "archive", "-c", program.config.name]
        command = [sys.executable, str(script), str(steps % 9), *arguments]
        ended = subprocess.run(command, cwd=program.folder, capture_output=True, check=False)
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        kills += 1
        program.say("audit", "verify")
        assert "from the first record" in program.say("audit", "verify", "--archive", "archive")
    assert kills > 3
    program.say("audit", "export", "--to", "left.jsonl")
    numbers = [json.loads(line).get("number") for line in (program.folder / "left.jsonl").read_text().splitlines()]
    assert min(number for number in numbers if number) > 5
