"""What a shell offers: commands, options, statuses and files; in bash itself as a user types."""

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

import pytest
from click import shell_completion

from reconciler import cli
from tests.cli.program import Program

BASH = shutil.which("bash")


def offered(*typed: str) -> list[str]:
    """Return what completes the last word."""
    made = shell_completion.BashComplete(cli.main, {}, "reconciler", "_RECONCILER_COMPLETE")
    return [item.value for item in made.get_completions(list(typed[:-1]), typed[-1])]


def test_commands_options_and_statuses_are_offered() -> None:
    assert offered("con") == ["conflicts", "config"]
    assert set(offered("conflicts", "")) >= {"list", "show", "resolve"}
    assert "--accept-truncation" in offered("run", "--ac")
    assert "held" in offered("docs", "list", "--status", "h")
    assert offered("completion", "") == ["bash", "zsh", "fish"]


@pytest.mark.parametrize("typed", [("status", "-c"), ("explain", "1", "--file")])
def test_the_shell_is_asked_for_files_where_a_file_is_wanted(typed) -> None:
    made = shell_completion.BashComplete(cli.main, {}, "reconciler", "_RECONCILER_COMPLETE")
    assert [item.type for item in made.get_completions(list(typed), "")] == ["file"]


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
def test_a_user_of_bash_completes_a_command_and_an_option_by_tab(program, tmp_path_factory) -> None:
    with _typing(program, tmp_path_factory.mktemp("bin")) as bash:
        bash.types("reconciler con\t", until="con\x07?f")
        bash.types("\t\t", until=r"config\s.*conflicts|conflicts\s.*config")
        bash.types("licts res\t", until=r"resolve ")
        bash.types("--tak\t", until=r"--take ")


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
