"""Tokens and the file that lists them."""

import os
import re
from pathlib import Path

import httpx
import pytest

from reconciler.adapters.files import WatchedFile
from reconciler.errors import ConfigError
from reconciler.web import tokens
from reconciler.web.principal import Principal, Role
from tests.cli.program import Program
from tests.web.conftest import Daemon
from tests.web.keys import LINES, TOKENS, shown

# -------------------------------------------------------------------------------------------------------------- bearers


async def test_without_a_token_nothing_is_revealed(guarded: httpx.AsyncClient, daemon: Daemon) -> None:
    await daemon.world.emit({"title": "x"}, key="known")
    replies = [await guarded.get(f"/api/v1/documents/{key}") for key in ("known", "unknown")]
    assert replies[0].content == replies[1].content


NO_TOKENS = ["", "Bearer", "Basic cmVjOnZp", "Bearer a b", "Bearer \u00e9", "Bearer " + "x" * 9000, "rec_viewer"]


@pytest.mark.parametrize("given", NO_TOKENS)
async def test_an_invalid_token_gives_no_access(guarded: httpx.AsyncClient, given: str) -> None:
    reply = await guarded.get("/api/v1/status", headers={"authorization": given.encode()})
    assert reply.status_code == 401


async def test_two_tokens_at_once_give_no_access(guarded: httpx.AsyncClient) -> None:
    both = [("authorization", f"Bearer {TOKENS[Role.VIEWER]}"), ("authorization", f"Bearer {TOKENS[Role.ADMIN]}")]
    assert (await guarded.get("/api/v1/status", headers=both)).status_code == 401


async def test_with_tokens_any_name_of_ours_is_answered(guarded: httpx.AsyncClient) -> None:
    headers = shown(TOKENS[Role.VIEWER]) | {"host": "reconciler.example.com"}
    assert (await guarded.get("/api/v1/status", headers=headers)).status_code == 200


# ------------------------------------------------------------------------------------------------------------- the file


async def test_a_removed_token_gives_no_access(guarded: httpx.AsyncClient, daemon: Daemon) -> None:
    headers = shown(TOKENS[Role.ADMIN])
    assert (await guarded.get("/api/v1/status", headers=headers)).status_code == 200
    daemon.tokens = LINES.replace("\nadmin", "\n# admin")
    assert (await guarded.get("/api/v1/status", headers=headers)).status_code == 401
    daemon.tokens = LINES
    assert (await guarded.get("/api/v1/status", headers=headers)).status_code == 200


async def test_an_unusable_token_file_gives_no_access_and_reveals_nothing(
    guarded: httpx.AsyncClient, daemon: Daemon
) -> None:
    daemon.tokens = LINES + "\nrec_a_token_pasted_where_a_hash_belongs"
    reply = await guarded.get("/api/v1/status", headers=shown(TOKENS[Role.ADMIN]))
    assert (reply.status_code, "pasted" in reply.text) == (503, False)
    assert (await guarded.get("/livez")).status_code == 200


HASH = "ab" * 32


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "t: contains no token"),
        ("# nothing\n\n", "t: contains no token"),
        ("jdoe viewer", "t:1: must be NAME ROLE SHA256 [SOURCE ...], not 2 words"),
        (f"# x\njdoe root {HASH}", "t:2: ROLE must be one of producer, viewer, operator, admin"),
        (f"j/doe viewer {HASH}", "t:1: NAME must have at most"),
        (f"jdoe viewer {HASH}0", "t:1: SHA256 must have 64 hexadecimal digits"),
        (f"erp producer {HASH}", "t:1: a producer needs the sources that it may append events for, such as //erp/*"),
        (f"jdoe viewer {HASH} //erp/*", "t:1: a viewer can't append events, so it can't have sources"),
        (f"erp producer {HASH} {'x' * 1001}", "t:1: sources must have no blanks and no #, and at most 1000"),
        (f"jdoe viewer {HASH}\nrival admin {HASH.upper()}", "t:2: duplicate of the token in an earlier line"),
    ],
)
def test_a_fault_of_the_file_is_named_by_its_line(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(fault)}"):
        tokens.parse(text, "t")


def test_no_message_quotes_a_possible_token() -> None:
    for text in ("canary", "jdoe viewer canary", "canary viewer x y", f"jdoe canary {HASH}", f"can/ary viewer {HASH}"):
        with pytest.raises(ConfigError) as raised:
            tokens.parse(text, "t")
        assert "canary" not in str(raised.value)


def test_comments_and_two_tokens_of_one_person_are_fine() -> None:
    text = f"  jdoe   VIEWER {HASH}  # until May\n\njdoe viewer {'cd' * 32}\n"
    assert [token.who for token in tokens.parse(text, "t")] == [Principal("jdoe", Role.VIEWER)] * 2


def test_a_watched_file_is_read_again_when_it_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("one", encoding="utf-8")
    watched = WatchedFile(path)
    assert (watched.text(), watched.text()) == ("one", "one")
    path.write_text("three", encoding="utf-8")
    assert watched.text() == "three"
    other = tmp_path / "other"
    other.write_text("fives", encoding="utf-8")
    os.replace(other, path)  # noqa: PTH105  what Kubernetes does: the same name, another file of the same size
    assert watched.text() == "fives"
    path.unlink()
    with pytest.raises(ConfigError, match="can't be read"):
        watched.text()


# --------------------------------------------------------------------------------------------------------- the command


def test_a_token_that_the_command_makes_is_let_in_with_its_role(tmp_path: Path) -> None:
    program = Program(tmp_path, "http://127.0.0.1:1")
    made = program.json("token", "jdoe", "--role", "operator")
    token_file = tokens.TokenFile(lambda: made["line"], "t")
    assert token_file.find(made["token"]) == Principal("jdoe", Role.OPERATOR)
    assert token_file.find(made["token"] + "x") is None
    assert program.json("token", "jdoe")["token"] != made["token"]
    token, *_, line = program.say("token", "jdoe").splitlines()
    assert tokens.TokenFile(lambda: line, "t").find(token) == Principal("jdoe", Role.VIEWER)
    assert "a name has at most" in program.fails("token", "j doe", code=2)
    made = program.json("token", "erp", "--role", "producer", "--source", "//erp/*", "--source", "//mes/?")
    erp = tokens.TokenFile(lambda: made["line"], "t").find(made["token"])
    assert erp == Principal("erp", Role.PRODUCER, sources=("//erp/*", "//mes/?"))
    for role, *more in (("producer",), ("viewer", "//erp/*"), ("operator", "//erp/ *"), ("operator", "//erp#x")):
        options = [word for source in more for word in ("--source", source)]
        assert "--source: " in program.fails("token", "erp", "--role", role, *options, code=2)


def test_an_unusable_token_file_is_reported_before_anything_is_opened(tmp_path: Path) -> None:
    program = Program(tmp_path, "http://127.0.0.1:1")
    text = program.config.read_text(encoding="utf-8")
    file = tmp_path / "tokens"
    program.config.write_text(
        text.replace('bind = "127.0.0.1:0"', f'bind = "0.0.0.0:0"\ntokens_file = "{file}"'), encoding="utf-8"
    )
    assert "can't be read: No such file" in program.fails("run")
    file.write_text("jdoe viewer\n", encoding="utf-8")
    assert f"{file}:1: must be NAME ROLE SHA256" in program.fails("run")
    assert not (tmp_path / "state.db").exists()
