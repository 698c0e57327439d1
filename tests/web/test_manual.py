"""docs/api.md: every command line in it does what it is there for, on a server with a document in it."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import brokers

if TYPE_CHECKING:
    import httpx

    from tests.flows.world import World

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
TEXT = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
COMMANDS = [line.strip() for line in TEXT.splitlines() if line.startswith("    curl ")]


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.skipif(shutil.which("curl") is None and not brokers.must_be_apache(), reason="needs curl")
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_of_the_page_works(client: httpx.AsyncClient, world: World, command: str) -> None:
    base = str(client.base_url).rstrip("/")
    told = shlex.split(re.sub(r"http://127\.0\.0\.1:8090", base, command.replace("$TOKEN", "rec_nobody")))
    curl = await asyncio.create_subprocess_exec(
        *told, "--silent", "--show-error", "--fail-with-body", "--max-time", "20", stdout=asyncio.subprocess.PIPE
    )
    said, _ = await curl.communicate()
    assert curl.returncode == 0, said
    assert said.startswith(b"{")
