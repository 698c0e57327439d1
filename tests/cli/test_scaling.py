"""docs/scaling.md from one process to several replicas: its commands are typed, in their order."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import brokers, postgres
from tests.cli.program import Program, Topics
from tests.cli.test_documented import BLOCK, ROOT, TYPED, typed
from tests.patience import HANG_S

pytestmark = [pytest.mark.kafka, pytest.mark.e2e, pytest.mark.slow]

DOC, OTHER = "0000000003", "0000000004"
TOPICS = Topics("changes", "decisions", "outcomes", "letters")
PAGE = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")


@pytest.fixture
def program(tmp_path: Path, windchill: str) -> Iterator[Program]:
    """A program on SQLite, with a broker whose groups have several members."""
    with brokers.Embedded(groups=True) as broker:
        for name in TOPICS:
            broker.make_topic(name, 4)
        yield Program(tmp_path, windchill, TOPICS.log(broker.brokers) + "\nsession_s = 6")


def shown() -> list[list[str]]:
    """Return the words of each command of ours that the page shows, without the program's name."""
    blocks = BLOCK.findall(re.sub(r"^ {3}(?= )", "", PAGE, flags=re.MULTILINE))
    return [typed(line) for block in blocks for line in TYPED.findall(block)]


def until_there_are(replicas: int, program: Program) -> None:
    give_up_s = time.monotonic() + HANG_S
    while program.checks()["replicas"]["message"].count("slot ") != replicas:
        assert time.monotonic() < give_up_s
        time.sleep(0.5)


def test_a_reader_gets_from_one_process_to_three_replicas(program: Program, postgres_server: postgres.Server) -> None:
    program.emits(DOC, "--set", "status=RELEASED", "--set", "owner=akim")
    program.say("run", "--once")
    program.edit(DOC, owner="jdoe")
    program.emits(DOC, "--set", "attributes.CostCenter=4711")
    program.say("run", "--once")
    trail = program.json("audit", "list")
    file, url = f"sqlite:///{program.folder}/state.db", postgres_server.new("template1")
    program.reconfigure(f'url = "{file}"', f'url = "{url}"')
    writes, replicas = program.writes(), []
    here = {"sqlite:////var/lib/reconciler/state.db": file, "postgresql://reconciler@db.example:5432/reconciler": url}
    commands = [[here.get(word, word) for word in words] for words in shown()]
    assert [words[:2] for words in commands[:2]] == [["store", "migrate"], ["store", "move"]]
    assert {file, url} < set(commands[1])
    try:
        for words in commands:
            if words[0] == "run":
                for _ in range(3):
                    order = [sys.executable, "-m", "reconciler", *words]
                    replicas.append(subprocess.Popen(order, cwd=program.folder, stderr=subprocess.DEVNULL))
                    until_there_are(len(replicas), program)
                continue
            ended = program.run(*words, configured=False)
            assert ended.returncode == 0, (words, ended)
        assert program.writes() == writes, "what was agreed before is agreed now"
        assert program.json("audit", "list")[-len(trail) :] == trail
        program.emits(OTHER, "--set", "status=RELEASED")
        give_up_s = time.monotonic() + HANG_S
        while program.document(OTHER)["status"] != "RELEASED":
            assert time.monotonic() < give_up_s
            time.sleep(0.2)
        assert program.document(DOC)["owner"] == "jdoe"
    finally:
        for replica in replicas:
            replica.send_signal(signal.SIGTERM)
        statuses = [replica.wait(HANG_S) for replica in replicas]
    assert statuses == [0, 0, 0]
