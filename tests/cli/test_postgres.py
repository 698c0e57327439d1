"""The same commands over a store on PostgreSQL."""

import pytest

from tests import postgres
from tests.cli.program import Program

pytestmark = pytest.mark.e2e

DOC, OTHER = "0000000001", "0000000002"


@pytest.fixture
def empty(program: Program, postgres_server: postgres.Server) -> Program:
    """A program whose store is a database without a schema."""
    program.reconfigure(f'url = "sqlite:///{program.folder}/state.db"', f'url = "{postgres_server.new("template1")}"')
    return program


def test_a_store_is_migrated_by_command_and_then_does_what_a_file_does(empty: Program) -> None:
    empty.emits(DOC, "--set", "status=RELEASED", "--set", "owner=akim")
    assert "reconciler store migrate" in empty.fails("run", "--once")
    assert "0001_first.sql" in empty.say("store", "migrate")
    assert "the schema is current" in empty.say("store", "migrate")
    empty.say("run", "--once")
    assert empty.document(DOC)["owner"] == "akim"
    assert empty.json("explain", DOC)["attempts"][0]["result"] == "written"
    empty.say("docs", "pause", DOC)
    empty.emits(DOC, "--set", "owner=other")
    empty.say("run", "--once", code=3)
    assert empty.document(DOC)["owner"] == "akim"
    assert "PAUSED" in empty.say("docs", "list").upper()
    empty.say("docs", "resume", DOC)
    empty.say("run", "--once")
    assert empty.document(DOC)["owner"] == "other"
    empty.say("audit", "verify")
    assert "postgresql://127.0.0.1" in empty.say("doctor", code=0)
    assert empty.json("status")["documents"]["synced"] == 1


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (["snapshot", "--to", "copy.db"], "pg_basebackup"),
        (["doctor", "--deep"], "pg_amcheck"),
    ],
)
def test_what_postgresql_does_itself_is_left_to_it(empty: Program, order: list[str], says: str) -> None:
    empty.say("store", "migrate")
    ended = empty.run(*order)
    assert says in ended.stdout + ended.stderr
    assert ended.returncode != 0


def test_a_file_needs_no_migration(program: Program) -> None:
    assert "nothing to do" in program.fails("store", "migrate", code=2)


def test_the_doctor_names_the_replicas_and_which_of_them_are_silent(
    program: Program, postgres_server: postgres.Server
) -> None:
    url = postgres_server.new()
    program.reconfigure(f'url = "sqlite:///{program.folder}/state.db"', f'url = "{url}"')
    program.emits(DOC, "--set", "owner=akim")
    assert program.checks()["replicas"]["message"] == "none uses the store now"
    for change in (
        "held = true, name = 'pod-' || id || ' 1a2b' WHERE id < 3",
        "seen = now() - interval '1 h' WHERE id = 1",
        "leaving = true WHERE id = 2",
    ):
        postgres_server.sql(f"UPDATE slot SET {change}", url.rpartition("/")[2])
    found = program.checks()["replicas"]
    assert found["message"] == "slot 0: pod-0; slot 1: pod-1, silent for 3600 s; slot 2: pod-2, taken for dead"
    assert found["result"] == "warning"
