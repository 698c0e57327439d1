"""docs/api.md and docs/producers.md: every request in them works on a server with a document."""

import asyncio
import re
import shlex
import shutil
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests import brokers
from tests.flows.world import World

DOCS = Path(__file__).parents[2] / "docs"
TEXT = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("api.md", "producers.md")).replace("\\\n", " ")
COMMANDS = [line.strip() for line in TEXT.splitlines() if line.startswith("    curl ")]


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.skipif(shutil.which("curl") is None and not brokers.must_be_apache(), reason="needs curl")
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_of_the_page_works(client: httpx.AsyncClient, world: World, command: str) -> None:
    base = str(client.base_url).rstrip("/")
    if "/writes/resume" in command:
        await client.post("/api/v1/writes/stop", json={})
    elif "/resume" in command:
        await client.post("/api/v1/documents/0000012345/pause", json={"reason": "an audit"})
    for word, meant in (await _meant(client, command)).items():
        command = command.replace(word, meant)
    told = shlex.split(re.sub(r"http://127\.0\.0\.1:8090", base, command))
    curl = await asyncio.create_subprocess_exec(
        *told, "--silent", "--show-error", "--fail-with-body", "--max-time", "20", stdout=asyncio.subprocess.PIPE
    )
    said, _ = await curl.communicate()
    assert curl.returncode == 0, said
    assert said.startswith(b"{")


async def _meant(client: httpx.AsyncClient, command: str) -> dict[str, str]:
    """What the words in capitals stand for on this server."""
    (conflict,) = (await client.get("/api/v1/conflicts")).json()["items"]
    letter = (await client.get("/api/v1/dead-letters")).json()["items"][0]
    meant = {"$TOKEN": "rec_no_one", "CONFLICT": conflict["id"], "LETTER": quote(letter["id"], safe="")}
    if "SEEN" in command:
        take = {"take": "value", "value": "RELEASED"}
        meant["SEEN"] = (await client.post(f"/api/v1/conflicts/{conflict['id']}/preview", json=take)).json()["seen"]
    return meant
