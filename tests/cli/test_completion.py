"""What a shell offers: commands, files, and what the store has; in bash itself as a user types."""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click import shell_completion

from reconciler import cli
from tests.cli.program import Program

BASH = shutil.which("bash")
HOSTILE = ("$(touch owned)", "`id`", "a b", "x;y", "--all", "0:1", "e\u202ev")


def offered(*typed: str) -> list[str]:
    """Return what completes the last word."""
    made = shell_completion.BashComplete(cli.main, {}, "reconciler", "_RECONCILER_COMPLETE")
    return [item.value for item in made.get_completions(list(typed[:-1]), typed[-1])]


@pytest.fixture
def settled(program: Program, monkeypatch: pytest.MonkeyPatch) -> Program:
    """A store with two documents, one of them with an open conflict, and a dead letter; and we are in its folder."""
    program.emits("0000000001", "--set", "status=INWORK", "--set", "attributes.CostCenter=1")
    program.emits("0000000002", "--set", "status=INWORK")
    program.say("run", "--once")
    program.edit("0000000001", attributes={"CostCenter": "2"})
    program.emits("0000000001", "--set", "attributes.CostCenter=3")
    with program.log.open("a") as log:
        log.write("{}\n")
    program.say("run", "--once", code=3)
    monkeypatch.chdir(program.folder)
    return program


def test_commands_options_and_statuses_are_offered() -> None:
    assert offered("con") == ["conflicts", "config"]
    assert set(offered("conflicts", "")) >= {"list", "show", "resolve"}
    assert "--accept-truncation" in offered("run", "--ac")
    assert "held" in offered("docs", "list", "--status", "h")
    assert offered("conflicts", "resolve", "3f2a", "--take", "") == ["desired", "live", "ours", "theirs"]
    assert offered("completion", "") == ["bash", "zsh", "fish"]


@pytest.mark.parametrize("typed", [("status", "-c"), ("explain", "1", "--file"), ("replay", "--from")])
def test_the_shell_is_asked_for_files_where_a_file_is_wanted(typed) -> None:
    made = shell_completion.BashComplete(cli.main, {}, "reconciler", "_RECONCILER_COMPLETE")
    assert [item.type for item in made.get_completions(list(typed), "")] == ["file"]


def test_documents_fields_conflicts_and_dead_letters_come_from_the_store(settled) -> None:
    conflict = settled.json("conflicts", "list")[0]["id"]
    letter = settled.json("dead-letters", "list")[0]["id"]
    assert offered("explain", "") == ["0000000001", "0000000002"]
    assert offered("docs", "show", "0000000002") == ["0000000002"]
    assert offered("docs", "retry", "0000000001", "") == ["0000000001", "0000000002"]
    assert offered("audit", "list", "--document", "") == ["0000000001", "0000000002"]
    assert offered("explain", "0000000001", "") == ["attributes.CostCenter", "status"]
    assert offered("explain", "0000000001", "st") == ["status"]
    assert offered("docs", "release", "0000000001", "--field", "") == ["attributes.CostCenter", "status"]
    assert offered("conflicts", "resolve", "--field", "") == ["attributes.CostCenter"]
    assert offered("conflicts", "resolve", "") == [conflict]
    assert offered("conflicts", "show", conflict[:2]) == [conflict]
    assert offered("dead-letters", "discard", "") == [letter]


def test_the_store_is_the_one_that_was_named(settled, tmp_path_factory, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert offered("explain", "") == []
    assert offered("explain", "-c", str(settled.config), "") == ["0000000001", "0000000002"]
    assert offered("audit", "list", "-c", str(settled.config), "--document", "") == ["0000000001", "0000000002"]
    assert offered("explain", "--store", f"sqlite:///{settled.folder}/state.db", "0000000002") == ["0000000002"]
    monkeypatch.setenv("RECONCILER_STORE__URL", f"sqlite:///{settled.folder}/state.db")
    assert offered("explain", "") == ["0000000001", "0000000002"]


def test_what_is_settled_is_not_offered(settled) -> None:
    conflict = settled.json("conflicts", "list")[0]["id"]
    settled.say("conflicts", "resolve", conflict, "--take", "live")
    settled.say("dead-letters", "discard", "--all", "--reason", "a test")
    settled.say("run", "--once")
    assert offered("conflicts", "resolve", "") == []
    assert offered("dead-letters", "replay", "") == []


def test_no_file_is_made_or_changed_by_completing(settled) -> None:
    before = {path: path.stat().st_mtime_ns for path in settled.folder.iterdir()}
    assert offered("explain", "") != []
    assert {path: path.stat().st_mtime_ns for path in settled.folder.iterdir()} == before


@pytest.mark.parametrize("content", [None, b"", b"not a database at all", b"SQLite format 3\0" + bytes(4096)])
def test_nothing_is_offered_or_said_where_there_is_no_store(tmp_path, monkeypatch, capfd, content) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "state.db").write_bytes(content)
    before = sorted(tmp_path.iterdir())
    assert offered("explain", "") == offered("conflicts", "resolve", "") == []
    assert offered("explain", "-c", "gone.toml", "") == []
    assert sorted(tmp_path.iterdir()) == before
    assert capfd.readouterr() == ("", "")


def test_a_wrong_configuration_offers_nothing_and_says_nothing(settled, capfd) -> None:
    (settled.folder / "wrong.toml").write_text("[log]\nnonsense = 1\n")
    assert offered("explain", "-c", "wrong.toml", "") == []
    assert capfd.readouterr() == ("", "")


def test_a_key_that_a_shell_could_take_for_something_else_is_not_offered(program, monkeypatch) -> None:
    plain = {"specversion": "1.0", "source": "//erp", "type": "windchill.document.changed.v1"}
    dated = {"time": "2026-11-22T10:00:00Z", "data": {"set": {"status": "INWORK"}}}
    for key in (*HOSTILE, "PART-1/A"):
        with program.log.open("a") as log:
            log.write(json.dumps({**plain, **dated, "id": key, "subject": key}) + "\n")
    program.say("replay", "--from", str(program.log))
    monkeypatch.chdir(program.folder)
    stored = {row["document"] for row in program.json("docs", "list")}
    assert stored == {*HOSTILE, "PART-1/A"}
    assert offered("explain", "") == ["PART-1/A"]


def test_every_argument_that_names_what_the_store_has_is_completed_from_it() -> None:
    """A command that is added later is completed by its arguments' names; one with a new name must be thought of."""
    plain = {
        (command.name, parameter.name)
        for command in _commands(cli.main)
        for parameter in command.params
        if isinstance(parameter, click.Argument) and type(parameter.type) is type(click.STRING)
    }
    assert plain == {("token", "name")}


# ------------------------------------------------------------------------------------------------------- in real shells


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_script_is_valid_in_its_shell(program, shell) -> None:
    script = program.run("completion", shell, configured=False)
    assert script.returncode == 0
    assert "_RECONCILER_COMPLETE" in script.stdout
    if (installed := shutil.which(shell)) is None:
        pytest.skip(f"no {shell} here to read its script")
    checked = subprocess.run([installed, "-n"], input=script.stdout, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.skipif(BASH is None, reason="no bash here to type in")
def test_a_user_of_bash_completes_a_command_and_a_conflict_by_tab(settled, tmp_path_factory) -> None:
    conflict = settled.json("conflicts", "list")[0]["id"]
    with _typing(settled, tmp_path_factory.mktemp("bin")) as bash:
        bash.types("reconciler con\t", until="con\x07?f")
        bash.types("\t\t", until=r"config\s.*conflicts|conflicts\s.*config")
        bash.types("licts res\t", until=r"resolve ")
        bash.types("\t", until=re.escape(conflict) + " ")
        bash.types("--take li\t", until=r"live ")


class _Bash:
    """A bash at a terminal of its own."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._seen = ""

    def types(self, keys: str, *, until: str) -> None:
        """Press keys, and wait until the terminal shows what a pattern describes."""
        self._seen = ""
        os.write(self._terminal, keys.encode())
        give_up = time.monotonic() + 60
        while not re.search(until, self._seen, re.DOTALL):
            assert time.monotonic() < give_up, f"no {until!r} in {self._seen!r}"
            if select.select([self._terminal], [], [], 1)[0]:
                self._seen += os.read(self._terminal, 65536).decode(errors="replace")


@contextmanager
def _typing(program: Program, folder: Path) -> Iterator[_Bash]:
    """Start an interactive bash that has read the script, with the program on its path."""
    script = folder / "completion.sh"
    script.write_text(program.run("completion", "bash", configured=False).stdout)
    started = folder / "reconciler"
    started.write_text(f'#!/bin/sh\nexec {sys.executable} -m reconciler "$@"\n')
    started.chmod(0o755)
    environ = {"PATH": f"{folder}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "$ ", "HOME": str(folder)}
    terminal, inner = pty.openpty()
    command = [str(BASH), "--norc", "--noprofile", "-i"]
    bash = subprocess.Popen(
        command, cwd=program.folder, env=environ, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
    )
    os.close(inner)
    try:
        typing = _Bash(terminal)
        typing.types(f". {script} && echo re''ady\n", until="ready")
        yield typing
    finally:
        bash.kill()
        bash.wait()
        os.close(terminal)


def _commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from _commands(command)
        else:
            yield command
