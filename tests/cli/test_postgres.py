"""The same commands over a store on PostgreSQL."""

import asyncio
import subprocess
import sys

import pytest
from msgspec import structs

from reconciler.model import codec
from tests import postgres
from tests.cli.program import Ended, Program
from tests.cli.test_audit import programs

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


def head_of(said: str) -> str:
    return next(line for line in said.splitlines() if line.startswith("head ")).removeprefix("head ").split()[0]


def test_a_store_in_a_file_moves_with_its_trail_and_work_goes_on(
    program: Program, postgres_server: postgres.Server
) -> None:
    program.emits(DOC, "--set", "status=RELEASED", "--set", "owner=akim")
    program.say("run", "--once")
    before, head = program.run("export", "projection", "--to", "-").stdout, head_of(program.say("audit", "verify"))
    old, new = f"sqlite:///{program.folder}/state.db", postgres_server.new()
    assert program.json("store", "move", "--from", old, "--to", new)["documents"] == 1
    assert "was moved to postgresql://127.0.0.1" in program.fails("run", "--once")
    assert "was moved to" in program.fails("store", "move", "--from", old, "--to", new)
    program.reconfigure(f'url = "{old}"', f'url = "{new}"')
    assert program.run("export", "projection", "--to", "-").stdout == before
    assert head_of(program.say("audit", "verify", "--head", head)) == head
    program.emits(DOC, "--set", "owner=other")
    program.say("run", "--once")
    assert program.document(DOC)["owner"] == "other"
    program.say("audit", "verify")


class Trail:
    """A program whose store has a decision and an action in chain 0, and the same decision in chains 1 and 3."""

    def __init__(self, program: Program, server: postgres.Server) -> None:
        from tests.postgres.chains import append

        self.program, self._server, self.url = program, server, server.new()
        program.reconfigure(f'url = "sqlite:///{program.folder}/state.db"', f'url = "{self.url}"')
        self._database = self.url.rpartition("/")[2]
        program.emits(DOC, "--set", "status=RELEASED")
        program.say("run", "--once")
        self.export("one.jsonl")
        line = (program.folder / "one.jsonl").read_bytes().splitlines()[-1]
        record = codec.decode_record(line.split(b',"record":', 1)[1][:-1])
        for slot in (1, 3):
            asyncio.run(append(self.url, slot, structs.replace(record, message=f"by {slot}")))

    def tamper(self, statement: str) -> None:
        self._server.sql(f"ALTER TABLE audit DISABLE TRIGGER USER; {statement}", self._database)

    def export(self, name: str, *span: str) -> Ended:
        ended = self.program.run("audit", "export", "--to", name, *span)
        assert ended.returncode == 0
        return ended


@pytest.fixture
def trail(program: Program, postgres_server: postgres.Server) -> Trail:
    return Trail(program, postgres_server)


def test_each_chain_is_verified_and_has_a_head(trail: Trail) -> None:
    told = trail.program.say("audit", "verify").splitlines()
    assert "Chain 0 holds from the first record to record 2." in told
    assert "Chain 3 holds from the first record to record 3000000000001." in told
    heads = [line.removeprefix("head ") for line in told if line.startswith("head ")]
    assert [head.split(":")[0] for head in heads] == ["2", "1000000000001", "3000000000001"]
    kept = [word for head in heads for word in ("--head", head)]
    assert trail.program.json("audit", "verify", *kept) == []


def test_an_export_of_several_chains_is_verified_without_the_store(trail: Trail) -> None:
    told = trail.program.say("audit", "verify")
    trail.export("audit.jsonl.zst")
    assert trail.program.say("audit", "verify", "--file", "audit.jsonl.zst") == told
    trail.export("audit.jsonl")
    path = trail.program.folder / "audit.jsonl"
    command = [sys.executable, "-W", "ignore", "-c", programs()[0], str(path)]
    heads = "".join(f"{line}\n" for line in told.splitlines() if line.startswith("head "))
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == heads
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2] + lines[-1:]))  # the whole of chain 1
    kept = heads.splitlines()[1].removeprefix("head ")
    assert (
        trail.program.json("audit", "verify", "--file", path.name, "--head", kept, code=1)[0]["id"] == 1_000_000_000_001
    )
    path.write_bytes(b"".join([*lines[:-1], lines[-1].replace(b'"by 3"', b'"by 4"')]))
    (fault,) = trail.program.json("audit", "verify", "--file", path.name, code=1)
    assert fault["fault"].startswith("chain 3: its link does not follow")


def test_an_export_of_one_chain_is_what_it_was(trail: Trail) -> None:
    lines = (trail.program.folder / "one.jsonl").read_bytes().splitlines()
    assert b"ordinal" not in lines[-1]
    assert lines[0] == b'{"format":"windchill-reconciler/audit/2","document":null}'


def test_a_part_of_several_chains_says_so(trail: Trail) -> None:
    trail.export("part.jsonl", "--since", "2h")
    assert b'"part":true' in (trail.program.folder / "part.jsonl").read_bytes().splitlines()[0]
    trail.program.say("audit", "verify", "--file", "part.jsonl")


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM audit WHERE number > 3000000000000", "chain 3: it was kept as the head"),
        ("UPDATE audit SET record = '' WHERE number = 1000000000001", "chain 1: its link does not follow"),
        (
            "UPDATE audit SET number = number + 1 WHERE number = 3000000000001",
            "chain 3: missing before it: 3000000000001",
        ),
        ("UPDATE audit SET at_us = 5 WHERE number = 3000000000001", "chain 3: its columns differ"),
    ],
)
def test_whatever_is_changed_in_a_chain_is_found_even_at_its_end(trail: Trail, statement: str, says: str) -> None:
    trail.tamper(statement)
    assert any(says in fault["fault"] for fault in trail.program.json("audit", "verify", code=1))


def test_the_head_of_a_checkpoint_shows_what_was_cut_or_changed_before_it(trail: Trail) -> None:
    from tests.postgres.chains import checkpoint

    kept = asyncio.run(checkpoint(trail.url))
    assert f"head {kept}" in trail.program.say("audit", "verify", "--head", kept).splitlines()
    trail.export("audit.jsonl")
    assert trail.program.json("audit", "verify", "--file", "audit.jsonl", "--head", kept) == []
    path = trail.program.folder / "audit.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    (fault,) = trail.program.json("audit", "verify", "--file", "audit.jsonl", "--head", kept, code=1)
    assert fault["fault"].startswith("chain 3: it was kept as the head 3000000000001:")
    trail.tamper(
        "DELETE FROM audit WHERE number > 3000000000000; UPDATE slot SET chain_number = 3000000000000 WHERE id = 3"
    )
    (fault,) = trail.program.json("audit", "verify", code=1)
    assert fault["fault"].startswith("chain 3: it was kept as the head 3000000000001:"), "the checkpoint says so"
    trail.tamper("ALTER TABLE checkpoint DISABLE TRIGGER USER; DELETE FROM checkpoint")
    assert trail.program.json("audit", "verify") == []
    assert trail.program.json("audit", "verify", "--head", kept, code=1)[0]["id"] == 99_000_000_000_001


def test_a_story_is_in_the_order_of_the_documents_records_in_all_chains(trail: Trail) -> None:
    records = [one for chapter in trail.program.json("explain", DOC)["story"]["chapters"] for one in chapter["audit"]]
    assert records[-2:] == [1_000_000_000_001, 3_000_000_000_001]
    trail.export("audit.jsonl")
    told = trail.program.json("explain", DOC, "--file", "audit.jsonl")["story"]["chapters"]
    assert [one for chapter in told for one in chapter["audit"]] == records
    assert trail.program.json("audit", "show", "3000000000001")["message"] == "by 3"


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
        "held = true, seen = now(), name = 'pod-' || id || ' 1a2b' WHERE id < 3",
        "seen = now() - interval '1 h' WHERE id = 1",
        "leaving = true WHERE id = 2",
    ):
        postgres_server.sql(f"UPDATE slot SET {change}", url.rpartition("/")[2])
    found = program.checks()["replicas"]
    assert found["message"] == "slot 0: pod-0; slot 1: pod-1, silent for 3600 s; slot 2: pod-2, taken for dead"
    assert found["result"] == "warning"


def test_an_earlier_policy_comes_back_by_command_and_not_by_a_start(empty: Program) -> None:
    def in_force(owner: str) -> str:
        empty.emits(DOC, "--set", f"owner={owner}")
        empty.say("run", "--once")
        return str(empty.json("audit", "list")[0]["policy"])

    empty.say("store", "migrate")
    first = empty.say("policy", "apply")
    empty.reconfigure("[[policy]]", '[[policy]]\nfields = ["colour"]\nstrategy = "preserve"\n\n[[policy]]')
    second = empty.say("policy", "apply")
    assert second != first
    empty.reconfigure('[[policy]]\nfields = ["colour"]\nstrategy = "preserve"\n\n', "")
    assert in_force("akim") in second
    assert empty.say("policy", "apply") == first
    assert in_force("other") in first


def test_a_reconciler_that_has_its_store_to_itself_decides_by_its_own_configuration(program: Program) -> None:
    program.emits(DOC, "--set", "owner=akim")
    program.say("run", "--once")
    assert "SIGHUP" in program.fails("policy", "apply", code=2)


def test_records_that_a_restore_has_lost_are_named_and_do_not_pass_for_changed_ones(
    trail: Trail, postgres_server: postgres.Server
) -> None:
    from tests.postgres.chains import append, checkpoint

    program, database = trail.program, trail.url.rpartition("/")[2]
    program.reconfigure(f'url = "{trail.url}"', f'url = "{trail.url}"\nevict_s = 3')
    program.reconfigure("[windchill]", "[windchill]\ntimeout_s = 3")
    program.say("run", "--once")
    dump = postgres_server.dump(database)
    kept = head_of_chain(program, 3)
    record = codec.decode_record(trail_record(trail))
    asyncio.run(append(trail.url, 3, structs.replace(record, message="lost")))
    lost = asyncio.run(checkpoint(trail.url)), head_of_chain(program, 3)
    program.say("run", "--once")  # announces the checkpoint
    postgres_server.restore_dump(database, dump)
    program.say("run", "--once")
    asyncio.run(append(trail.url, 3, structs.replace(record, message="in its place")))
    told = program.say("audit", "verify", "--head", kept)
    assert "Records lost in a failover or a restore" in told
    assert "3000000000002, and perhaps later ones" in told
    for head in lost:
        told = program.say("audit", "verify", "--head", head, code=1)
        assert "it is gone" in told
        assert "The trail has no other fault" in told
        assert "was changed" not in told
    trail.tamper("UPDATE audit SET record = '' WHERE number = 3000000000002")
    assert "The trail was changed or is damaged" in program.say("audit", "verify", "--head", lost[1], code=1)


def head_of_chain(program: Program, chain: int) -> str:
    heads = [line.removeprefix("head ") for line in program.say("audit", "verify").splitlines() if "head " in line]
    return next(head for head in heads if head.startswith(f"{chain}00000000000"))


def trail_record(trail: Trail) -> bytes:
    trail.export("again.jsonl")
    lines = (trail.program.folder / "again.jsonl").read_bytes().splitlines()
    return next(line for line in lines if b'"message":"by 3"' in line).split(b'"record":', 1)[1][:-1]
