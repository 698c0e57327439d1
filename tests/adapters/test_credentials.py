"""Credentials that change while we run: rotated files, tokens that expire. The simulated server, on real sockets."""

import asyncio
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from reconciler import config, factory
from reconciler.adapters import credentials
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.counters import Counters
from reconciler.adapters.credentials import Basic, Bearer, ClientCredentials, Grant, SecretFile
from reconciler.adapters.http import HttpClient
from reconciler.adapters.replies import Lost, Reply
from reconciler.model.answer import Failed, Unauthorised, Written
from reconciler.model.snapshot import Snapshot
from reconciler.ports import Windchill
from tests import defaults
from tests.adapters.simulated import DOCUMENT, Simulated, listening, windchill
from tests.checks import expect
from tests.fakes.virtual_clock import VirtualClock
from tests.windchills import seen, write_on

CALLERS = 50
CANARY = "canary-of-a-token"


async def read_by_all(there: Windchill) -> list[Any]:
    return await asyncio.gather(*(there.read(DOCUMENT) for _ in range(CALLERS)))


# ------------------------------------------------------------------------------------------------------------ rotation


def rotate(server: Simulated, kind: str, file: Path, secret: str, *, known_to_us: bool = True) -> None:
    """Let the server accept only this secret; the tokens it has issued, it forgets."""
    if kind == "bearer":
        server.behave(auth="bearer", tokens={secret: "integration"})
    else:
        server.behave(auth="basic" if kind == "basic" else "bearer", tokens={}, users={"integration": secret})
    server.expire_tokens()
    if known_to_us:
        file.write_text(f"{secret}\n")


def configured(server: Simulated, kind: str, file: Path) -> Windchill:
    """The daemon's own way from a configuration to its Windchill."""
    key = {"basic": "password", "bearer": "token", "oauth2": "client_secret"}[kind]
    environ = {
        "BASE_URL": server.url,
        "AUTH": kind,
        "USERNAME": "integration",
        "CLIENT_ID": "integration",
        "OAUTH2_TOKEN_URL": f"{server.url}/oauth/token",
        f"{key}_file".upper(): str(file),
    }
    found = config.load(None, {f"RECONCILER_WINDCHILL__{name}": value for name, value in environ.items()})
    return factory.make_windchill(found, SystemClock(), Counters())


@pytest.mark.parametrize("kind", ["basic", "bearer", "oauth2"])
async def test_a_secret_that_was_replaced_in_its_file_is_used_without_a_restart(
    server: Simulated, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "secret"
    rotate(server, kind, file, "first")
    there = configured(server, kind, file)
    snapshot = await seen(there, DOCUMENT)
    rotate(server, kind, file, "second")
    expect(Written, await write_on(there, snapshot, {"owner": "akim"}))
    assert server.requests()["PATCH"] == {"200": 1, "401": 1}
    rotate(server, kind, file, "third")
    server.forget_requests()
    assert all(isinstance(read, Snapshot) for read in await read_by_all(there))
    asked = server.requests()
    assert asked["GET"]["200"] == CALLERS
    assert asked["GET"]["401"] <= CALLERS
    assert asked.get("POST", {}) == ({"200": 1} if kind == "oauth2" else {})
    await there.close()


@pytest.mark.parametrize("kind", ["basic", "bearer"])
async def test_a_refused_secret_that_was_not_replaced_is_not_sent_again(
    server: Simulated, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "secret"
    rotate(server, kind, file, "first")
    there = configured(server, kind, file)
    rotate(server, kind, file, "second", known_to_us=False)
    assert isinstance(await there.read(DOCUMENT), Unauthorised)
    assert server.requests()["GET"] == {"401": 1}
    file.write_text("second")
    assert isinstance(await there.read(DOCUMENT), Snapshot)
    await there.close()


async def test_a_file_that_is_missing_while_its_secret_is_good_costs_nothing(server: Simulated, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    rotate(server, "basic", file, "first")
    there = configured(server, "basic", file)
    assert isinstance(await there.read(DOCUMENT), Snapshot)
    file.unlink()
    assert isinstance(await there.read(DOCUMENT), Snapshot)
    await there.close()


NO_SECRETS = (None, b"", b"\n", b"two\r\nlines", b"a\x00b", b"\xff", b"x" * 70_000)


@pytest.mark.parametrize(
    ("kind", "content"), [*product(("basic", "bearer", "oauth2"), NO_SECRETS), ("bearer", b"two tokens")]
)
async def test_a_file_without_a_secret_is_named_and_not_quoted(
    tmp_path: Path, kind: str, content: bytes | None
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    secret = SecretFile(file)
    oauth = ClientCredentials("http://127.0.0.1:9/", "me", secret)
    auth = {"basic": Basic("me", secret), "bearer": Bearer(secret), "oauth2": oauth}[kind]
    there = windchill("http://127.0.0.1:9", auth=auth)
    read = expect(Unauthorised, await there.read(DOCUMENT))
    await there.close()
    assert str(file) in read.message
    assert content is not None or "can't be read" in read.message
    assert "two" not in read.message
    assert "xx" not in read.message


async def test_a_password_may_have_spaces_around_it_and_a_token_may_not(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(" ab \r\n")
    for auth, sent in (
        (Basic("me", SecretFile(file)), b"Basic bWU6IGFiIA=="),
        (Bearer(SecretFile(file)), b"Bearer ab"),
        (Bearer(" ab "), b"Bearer ab"),
    ):
        grant = expect(Grant, await credentials.keeper(auth, unasked, VirtualClock()).current())
        assert grant.authorization == sent


async def test_secrets_are_in_no_representation(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hunter2")
    for auth in (Basic("me", "hunter2"), Bearer("hunter2"), ClientCredentials("http://h/", "me", "hunter2")):
        assert "hunter2" not in repr(auth)
    assert "hunter2" not in repr(
        await credentials.keeper(Basic("me", SecretFile(file)), unasked, VirtualClock()).current()
    )


async def test_a_secret_is_not_shown_by_a_reply_that_comes_after_its_successor_was_taken_up(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hunter1")
    late, held = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/late " in head:
            held.set()
            await late.wait()
            text = b"no entry with hunter1"
            writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))
        else:
            status = b"200 OK" if b"hunter2" in head else b"401 Unauthorized"
            writer.write(b"HTTP/1.1 %s\r\ncontent-length: 0\r\n\r\n" % status)
        await writer.drain()
        writer.close()

    client = HttpClient(defaults.http(timeout_s=30), SystemClock(), Bearer(SecretFile(file)))
    async with listening(serve) as address:
        slow = asyncio.ensure_future(client.exchange("GET", f"http://{address}/late", ()))
        await held.wait()
        file.write_text("hunter2")
        assert expect(Reply, await client.exchange("GET", f"http://{address}/now", ())).status == 200
        late.set()
        assert client.message(expect(Reply, await slow)) == "no entry with ***"
        await client.close()


async def test_a_secret_is_not_shown_of_an_answer_that_is_no_http() -> None:
    answers = [
        b"HTTP/1.1 200 OK\r\nx-echo: %b" + b"x" * 9000 + b"\r\n\r\n",  # a line that is too long
        b"HTTP/1.1 200 OK\r\nx echo: %b\r\n\r\n",
        b"HTTP/1.1 %b\r\n\r\n",
        b"%b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: %b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%b\r\n",
    ]
    left = iter(answers)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        said = next(line for line in asked.split(b"\r\n") if line.lower().startswith(b"authorization"))
        writer.write(next(left).replace(b"%b", said))
        writer.close()

    client = HttpClient(defaults.http(timeout_s=20), SystemClock(), Bearer(CANARY))
    async with listening(echo) as address:
        for _ in answers:
            ended = expect(Lost, await client.exchange("GET", f"http://{address}/", ()))
            assert "Bearer" not in ended.message
            assert CANARY not in ended.message
        await client.close()


# -------------------------------------------------------------------------------------------------------------- OAuth 2


@pytest.mark.parametrize(
    ("lifetime_s", "elapsed"),
    [(300, ((0, 1), (269, 1), (2, 2), (298, 3))), (20, ((0, 1), (9, 1), (2, 2)))],
    ids=["shortly before it expires", "after half of a short lifetime"],
)
async def test_fifty_callers_get_one_token_and_one_more_before_it_expires(
    server: Simulated, lifetime_s: int, elapsed: tuple[tuple[int, int], ...]
) -> None:
    server.behave(auth="bearer", token_lifetime_s=lifetime_s)
    clock = VirtualClock()
    auth = ClientCredentials(f"{server.url}/oauth/token", "integration", "secret")
    there = windchill(server.url, auth=auth, clock=clock)
    for elapsed_s, tokens in elapsed:
        await clock.advance(elapsed_s)
        assert all(isinstance(read, Snapshot) for read in await read_by_all(there))
        assert server.requests()["POST"] == {"200": tokens}
    assert "401" not in server.requests()["GET"]  # none was used up to its end
    await there.close()


async def test_a_redirect_of_the_token_endpoint_is_not_followed_with_our_secret() -> None:
    asked: list[str] = []

    async def elsewhere(method: str, url: str, headers: object, content: bytes) -> Reply:
        asked.append(url)
        return Reply(307, {b"location": b"http://elsewhere/token"})

    kept = credentials.keeper(ClientCredentials("http://here/token", "me", "hunter2"), elsewhere, VirtualClock())
    refused = expect(Failed, await kept.current())
    assert "http://elsewhere/token" in refused.message
    assert asked == ["http://here/token"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", f"access_token={CANARY}&token_type=bearer"),
        ("application/json", f'{{"access_token":"{CANARY}"'),  # cut off
        ("application/json", f'["{CANARY}"]'),
        ("application/json", f'{{"id_token":"{CANARY}","message":"take {CANARY}"}}'),
        ("application/xml", f"<token>{CANARY}</token>"),
        ("text/html", f"access_token={CANARY}"),
    ],
)
async def test_a_token_in_a_form_that_we_do_not_read_is_not_shown(kind: str, body: str) -> None:
    said = await without_token(kind, body)
    assert "answered 200 without a token" in said
    assert CANARY not in said


async def test_a_page_instead_of_a_token_and_an_error_with_status_200_are_named() -> None:
    page = await without_token("text/html", "<title>Sign in</title>")
    assert page.endswith("without a token: an HTML login page titled 'Sign in'")
    assert (await without_token("application/json", '{"error":"bad_code"}')).endswith("without a token: bad_code")


async def without_token(kind: str, body: str) -> str:
    """Return what becomes of it that a token endpoint answers this."""

    async def answer(*_: object) -> Reply:
        return Reply(200, {b"content-type": kind.encode()}, body.encode())

    auth = ClientCredentials("http://here/token", "me", "hunter2")
    refused = expect(Failed, await credentials.keeper(auth, answer, VirtualClock()).current())
    return refused.message


async def test_a_write_that_waits_for_a_token_in_vain_was_surely_not_sent_and_the_token_is_to_blame() -> None:
    heard: list[bytes] = []
    hung_up = asyncio.Event()

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        await reader.read()  # until the client hangs up
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    async with listening(keep_silent) as address:
        auth = ClientCredentials(f"http://{address}/token", "integration", "hunter2")
        client = HttpClient(defaults.http(timeout_s=0.2), SystemClock(), auth)
        ended = expect(Failed, await client.exchange("PATCH", f"http://{address}/documents/1", (), b"{}"))
        await client.close()
        await hung_up.wait()
    assert "does oauth2_token_url answer?" in ended.message
    assert not any(b"/documents" in said for said in heard)


async def unasked(*_: object) -> Reply:
    raise AssertionError
