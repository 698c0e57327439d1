"""The tutorial, typed by a reader who types everything: each command is run, and what it prints is compared."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.patience import HANG_S

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
ADDRESS = "http://127.0.0.1:8085"
ID = re.compile(r"\b[0-9a-f]{12}\b")
ENDS_WITH = {"plan": 2, "held": 3}  # what is worth an exit code of its own there; everything else ends with 0


class Step(NamedTuple):
    """A command as the page shows it, and the lines it shows below."""

    command: str
    shown: list[str]


def steps(text: str) -> list[Step]:
    """Return the commands of the page in order."""
    found: list[Step] = []
    for block in re.findall(r"^```console\n([\s\S]*?)^```", text, re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:], []))
            else:
                found[-1].shown.append(line)
    return found


def follows(shown: list[str], said: str, ids: dict[str, str]) -> str | None:
    """
    Return the first line shown that was not said, in order; None if all were. `…` stands for anything.

    An id is another one in each run: `ids` learns what it is in this one.
    """
    lines = [" ".join(line.split()) for line in said.splitlines()]
    place = 0
    for line in shown:
        parts = [re.escape(part) for part in " ".join(line.split()).split("…")]
        pattern = ID.sub("([0-9a-f]{12})", ".*".join(parts))
        hits = (number for number in range(place, len(lines)) if re.search(pattern, lines[number]))
        if (hit := next(hits, None)) is None:
            return line
        matched = re.search(pattern, lines[hit])
        assert matched is not None
        ids.update(zip(ID.findall(line), matched.groups(), strict=True))
        place = hit + 1
    return None


def test_every_command_of_the_tutorial_does_what_the_page_says(tmp_path, windchill) -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    (settings,) = re.findall(r"^```toml\n([\s\S]*?)^```", text, re.MULTILINE)
    (tmp_path / "reconciler.toml").write_text(settings.replace(ADDRESS, windchill))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RECONCILER_")}
    environ |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}
    ids: dict[str, str] = {}
    for command, shown in steps(text):
        typed = ID.sub(lambda found: ids[found[0]], command.replace(ADDRESS, windchill))
        ended = subprocess.run(
            ["bash", "-c", typed],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )
        wanted = next((code for word, code in ENDS_WITH.items() if word in f"{command} {' '.join(shown)}".split()), 0)
        assert (ended.returncode, follows(shown, ended.stdout, ids)) == (wanted, None), (command, *ended.args, ended)
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("shown", "said", "missing"),
    [
        (["a  …  c"], "x\na b c\n", None),
        (["a", "b"], "b\na\n", "b"),
        (["a.c"], "abc\n", "a.c"),
        (["0123456789ab x"], "ffffffffffff x\n", None),
        (["0123456789ab x"], "ffffffffffff y\n", "0123456789ab x"),
    ],
)
def test_what_was_not_said_is_found(shown, said, missing) -> None:
    assert follows(shown, said, {}) == missing
