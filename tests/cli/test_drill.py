"""The drills of docs/recovery.md, line by line: a lost store comes back, and nothing is written twice."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.cli.program import Program
from tests.patience import HANG_S

pytestmark = pytest.mark.e2e

DOC, OTHER = "0000000001", "0000000002"
DOCS = Path(__file__).parents[2] / "docs"


def drill(title: str) -> Iterator[str]:
    """The commands of a drill, in their order."""
    return commands("recovery.md", f"### Drill: {title}")


def commands(page: str, title: str) -> Iterator[str]:
    """The commands of a section, in their order."""
    section = (DOCS / page).read_text(encoding="utf-8").partition(f"{title}\n")[2].partition("\n##")[0]
    unfenced = re.sub(r"```.*?```", "", section, flags=re.DOTALL)
    found = re.findall(r"^    (\S.*)$", unfenced, re.MULTILINE)
    return iter([line.replace("reconciler run", "reconciler run --once") for line in found])


def typed(line: str, program: Program, **environ: str) -> str:
    """Type a line into a shell, in the program's folder."""
    folders = [Path(sys.executable).parent, *filter(None, [postgres.programs()])]
    path = ":".join([*map(str, folders), os.environ["PATH"]])
    known = {name: value for name, value in os.environ.items() if not name.startswith("RECONCILER_")}
    done = subprocess.run(
        line,
        shell=True,
        cwd=program.folder,
        env=known | {"PATH": path} | environ,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


def lives(program: Program) -> None:
    """Two documents are agreed on, and one of them is changed once more after the backup."""
    program.emits(DOC, "--set", "owner=akim", "--set", "status=RELEASED")
    program.emits(OTHER, "--set", "status=RELEASED")
    program.say("run", "--once")


def goes_on(program: Program) -> None:
    program.emits(DOC, "--set", "owner=sgarcia")
    program.say("run", "--once")


def is_as_before(program: Program, writes: int) -> None:
    assert program.document(DOC)["owner"] == "sgarcia"
    assert program.writes() == writes, "what was written after the backup is known from the outcome log"
    assert program.json("status")["documents"]["synced"] == 2
    program.emits(DOC, "--set", "owner=bmuller")
    program.say("run", "--once")
    assert program.document(DOC)["owner"] == "bmuller"
    program.say("audit", "verify")


def test_a_store_in_a_file_comes_back(program: Program) -> None:
    lives(program)
    lines = drill("a store in a file")
    for _ in range(2):
        typed(next(lines), program)
    goes_on(program)
    writes = program.writes()
    program.lose_store()
    for line in lines:
        typed(line, program)
    is_as_before(program, writes)


def test_a_store_on_postgresql_comes_back_from_a_dump(program: Program, postgres_server: postgres.Server) -> None:
    url, restored = postgres_server.new(), postgres_server.url("restored")
    program.reconfigure(f'url = "sqlite:///{program.folder}/state.db"', f'url = "{url}"')
    lives(program)
    lines = drill("a store on PostgreSQL")
    typed(next(lines), program, STORE_URL=url)
    goes_on(program)
    writes = program.writes()
    for line in lines:
        if line.startswith("reconciler audit"):
            program.reconfigure(url, restored)
        if line.startswith("pg_basebackup"):
            break
        typed(line, program, STORE_URL=url, RESTORED_URL=restored)
    is_as_before(program, writes)


def test_a_store_on_postgresql_comes_back_from_a_base_backup(
    program: Program, postgres_server: postgres.Server
) -> None:
    url = postgres_server.new()
    program.reconfigure(f'url = "sqlite:///{program.folder}/state.db"', f'url = "{url}"')
    lives(program)
    for line in drill("a store on PostgreSQL"):
        if line.startswith(("pg_basebackup", "pg_verifybackup")):
            typed(line, program, STORE_URL=url)
    goes_on(program)
    writes = program.writes()
    with postgres.running(base=program.folder / "base") as server:
        program.reconfigure(url, server.url(url.rpartition("/")[2]))
        program.say("run", "--once")
        is_as_before(program, writes)
