"""Archives of the projection: a store begins with one, and the change topic may lose what is before it."""

import gzip
from pathlib import Path

import pytest

from tests import brokers, postgres
from tests.brokers import apache
from tests.brokers.fixtures import MakeTopic
from tests.cli.program import Program, Topics, event
from tests.cli.test_drill import commands, drill, typed
from tests.cli.test_recovery import forget

pytestmark = pytest.mark.e2e

DOC, OTHER = "0000000003", "0000000004"
ARCHIVE = "projection.jsonl.zst"


def contents(program: Program) -> tuple[str, list[str]]:
    """The projection, and the dead letters."""
    letters = program.json("dead-letters", "list", "--status", "all")
    return program.say("export", "projection", "--to", "-"), [f"{one['id']} {one['status']}" for one in letters]


def archived(program: Program, to: str = ARCHIVE) -> None:
    program.say("export", "projection", "--with-positions", "--to", to)


@pytest.fixture
def living(program: Program) -> Program:
    """The program on a file, with an archive in the middle of its history, and a discarded dead letter."""
    program.emits(DOC, "--set", "owner=akim", "--expect", "owner=sgarcia")
    program.emits(DOC, "--add", "attributes.Keywords=a", "--remove", "attributes.Keywords=draft")
    program.append("not JSON")
    program.say("run", "--once", code=3)
    (letter,) = program.json("dead-letters", "list")
    program.say("dead-letters", "discard", letter["id"], "--reason", "no event")
    archived(program)
    program.emits(OTHER, "--set", "title=Lid")
    program.append(event(DOC, "//erp/prod", {}, type="windchill.document.released.v1", data={"reason": "obsolete"}))
    program.say("run", "--once")
    return program


def test_archive_and_rest_of_the_log_give_the_whole_store_in_each_way(living: Program) -> None:
    before = contents(living)
    assert before[1], "there is a dead letter"
    assert living.json("replay", "--check", "--from", ARCHIVE, "--then", str(living.log)) == []
    living.lose_store()
    said = living.json("replay", "--from", ARCHIVE, "--then", str(living.log))
    assert said["records"] < len(living.log.read_text().splitlines()), "the log is read from the archive's positions"
    assert contents(living) == before
    assert living.json("plan") == []
    living.lose_store()
    living.reconfigure("[windchill]", f'[retention]\nprojection = "{living.folder / ARCHIVE}"\n[windchill]')
    assert living.json("plan") == [], "before there is a store, it is made of the same"
    living.say("rebuild")
    assert contents(living) == before
    assert living.checks()["projection archive"]["result"] == "ok"


def test_an_archive_alone_is_a_store_on_which_the_daemon_goes_on(living: Program) -> None:
    before = contents(living)
    living.lose_store()
    living.say("replay", "--from", ARCHIVE)
    assert [row["document"] for row in living.json("docs", "list")] == [DOC]
    living.say("run", "--once")
    assert contents(living) == before


def test_what_is_no_whole_archive_is_refused_and_nothing_is_stored(living: Program) -> None:
    archived(living, "plain.jsonl")
    living.say("export", "projection", "--to", "bare.jsonl")
    living.lose_store()
    whole = (living.folder / "plain.jsonl").read_bytes()
    (living.folder / "plain.jsonl").write_bytes(whole.replace(b'"akim"', b'"bkim"', 1))
    (living.folder / "cut.jsonl.gz").write_bytes(gzip.compress(whole[: whole.rindex(b"{")]))
    (living.folder / "later.jsonl").write_bytes(whole.replace(b'{"projection":1', b'{"projection":2', 1))
    (living.folder / "strange.jsonl").write_bytes(b'{"projection":1}\n')
    for name, reason in {
        "plain.jsonl": "was changed, or cut short",
        "cut.jsonl.gz": "was changed, or cut short",
        "later.jsonl": "has format 2",
        "strange.jsonl": "line 1 can't be read",
        "bare.jsonl": "--with-positions",
    }.items():
        assert reason in living.fails("replay", "--from", name, "--then", str(living.log))
    assert living.json("docs", "list") == []
    living.reconfigure("[windchill]", '[retention]\nprojection = "plain.jsonl"\n[windchill]')
    assert living.checks(code=1)["projection archive"]["result"] == "failed"


def test_an_archive_of_another_log_or_reading_is_refused(living: Program) -> None:
    log = str(living.log)
    living.say("run", "--once")
    assert "are needed here" in living.fails("docs", "refold", DOC, "--from", ARCHIVE, code=2)
    said = living.fails("replay", "--from", ARCHIVE, "--until", "2026-01-01", "--into", "sqlite:///n.db", code=2)
    assert "--until" in said
    living.reconfigure("[store]", 'sources = ["//erp/*"]\n[store]')
    assert "log.sources has changed" in living.fails("replay", "--from", ARCHIVE, "--into", "sqlite:///n.db")
    living.reconfigure('sources = ["//erp/*"]\n', 'order = "log"\n')
    assert 'order = "time"' in living.fails("replay", "--from", ARCHIVE, "--into", "sqlite:///n.db", code=2)
    living.reconfigure('order = "log"\n', "")
    living.log.rename(living.folder / "renamed.jsonl")
    living.reconfigure(log, str(living.folder / "renamed.jsonl"))
    assert "of another log" in living.fails("replay", "--from", ARCHIVE, "--into", "sqlite:///n.db", code=2)


# -------------------------------------------------------------------------------------------- the change topic in Kafka


@pytest.fixture
def server(broker: brokers.Server) -> apache.Apache:
    if not isinstance(broker, apache.Apache):
        pytest.skip("only Apache Kafka deletes records")
    return broker


@pytest.fixture(params=["sqlite", "postgres"])
def on_kafka(
    request: pytest.FixtureRequest, tmp_path: Path, windchill: str, server: apache.Apache, topic: MakeTopic
) -> Program:
    """The program on a topic of one partition, with two documents synced."""
    program = Program(tmp_path, windchill, Topics.made(topic, 1).log(server.brokers))
    if request.param == "postgres":
        made: postgres.Server = request.getfixturevalue("postgres_server")
        program.reconfigure(f'url = "sqlite:///{tmp_path}/state.db"', f'url = "{made.new()}"')
    program.emits(DOC, "--set", "owner=akim")
    program.emits(OTHER, "--set", "title=Lid")
    program.say("run", "--once")
    return program


def lose(program: Program, request: pytest.FixtureRequest) -> None:
    """Lose the store; in PostgreSQL there is another, empty one."""
    program.lose_store()
    url = next(line for line in program.config.read_text().splitlines() if line.startswith("url = "))
    if "postgresql:" in url:
        program.reconfigure(url, f'url = "{request.getfixturevalue("postgres_server").new()}"')


@pytest.mark.kafka
def test_the_change_topic_may_lose_what_an_archive_has(
    on_kafka: Program, server: apache.Apache, request: pytest.FixtureRequest
) -> None:
    program = on_kafka
    lines = drill("the change topic has lost what is in an archive of the projection")
    typed(next(lines), program)
    program.emits(DOC, "--set", "title=Cover")
    program.say("run", "--once")
    before, writes = contents(program), program.writes()
    forget(server, program, "topic", 2)
    lose(program, request)
    assert "offset 0 comes next" in program.fails("run", "--once")
    assert "--from ARCHIVE --from kafka" in program.fails("replay", "--from", "kafka")
    for line in lines:
        typed(line, program)
    assert (contents(program), program.writes()) == (before, writes)
    forget(server, program, "topic", 3)
    lose(program, request)
    assert "Records are lost" in program.fails("replay", "--from", ARCHIVE, "--then", "kafka")


@pytest.mark.kafka
def test_doctor_knows_what_the_change_topic_may_lose(on_kafka: Program, server: apache.Apache) -> None:
    program = on_kafka
    retention = "retention of the log"
    assert program.checks()[retention]["result"] == "warning"
    program.reconfigure(
        "[windchill]", f'[retention]\nprojection = "{program.folder}/projection.jsonl.zst"\n[windchill]'
    )
    said = program.checks(code=1)
    assert (said["projection archive"]["result"], said[retention]["result"]) == ("failed", "warning")
    for line in commands("retention.md", "## The change topic"):
        if line.startswith("reconciler"):
            typed(line.replace("/var/archive", str(program.folder)), program)
    said = program.checks()
    assert {said[f"retention of the {name}"]["result"] for name in ("log", "decisions")} == {"ok"}
    assert said["retention of the outcomes"]["result"] == "warning"
    forget(server, program, "topic", 2)
    assert program.checks()[retention]["result"] == "ok"
    program.emits(DOC, "--set", "title=Cover")
    forget(server, program, "topic", 3)
    lost = program.checks(code=1)[retention]
    assert (lost["result"], "offsets 2 to 2 of" in lost["message"]) == ("failed", True)
