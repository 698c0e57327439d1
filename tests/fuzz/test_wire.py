"""The documents dialect against a raw socket: whatever bytes come back, an answer, in time, and nothing sent twice."""

import asyncio
import contextlib
import random
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.credentials import Auth, ClientCredentials, NoAuth
from reconciler.adapters.documents import DocumentsWindchill
from reconciler.adapters.http import HttpClient
from reconciler.model import answer, codec
from reconciler.model.snapshot import Snapshot, Token
from tests import defaults
from tests.fakes.journal import MemoryJournal
from tests.fuzz import mutating, test_replies

EXAMPLES = settings().max_examples // 2  # of the profile: sockets are slow, and what needs none is tested in memory
DEADLINE_S = 20.0  # the server closes after each reply, so that only a loaded machine comes anywhere near it
HANG_S = 60.0  # a guard: a call that is still not back by then has outlived its deadline by far
REPLIES = mutating.seeds("replies/*")
READ_ANSWER = Snapshot | answer.Unchanged | answer.NotAvailable | answer.Unauthorised | answer.Throttled
READ_ANSWER |= answer.Failed | answer.Broken
FINAL = re.compile(rb"HTTP/1\.[01] ([2-9]\d\d)[ \r\n]")
INTERIM = re.compile(rb"HTTP/1\.[01] 1\d\d[^\n]*\n(?:[^\r\n][^\n]*\n)*\r?\n")


class Server:
    """Answers every request with the next bytes and closes; with none it closes, with None it says nothing."""

    def __init__(self) -> None:
        self.replies: list[bytes | None] = []
        self.requests: list[bytes] = []
        self.url = ""
        self._stop = asyncio.Event()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**22)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._stop.set()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: *(\d+)", head.lower())
            self.requests.append(head + await reader.readexactly(int(length[1]) if length else 0))
            reply = self.replies.pop(0) if self.replies else b""
            if reply is None:
                await self._stop.wait()
            writer.write(reply or b"")
            await writer.drain()
        writer.close()


class World:
    """One loop, one server and one client for all examples of a test."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.server = Server()
        self.runner.run(self.server.start())

    def windchill(self, auth: Auth | None, deadline_s: float) -> DocumentsWindchill:
        client = HttpClient(defaults.http(timeout_s=deadline_s, keepalive_s=0.01), SystemClock(), auth or NoAuth())
        return DocumentsWindchill(client, defaults.documents(base_url=self.server.url))

    def run(
        self,
        replies: list[bytes | None],
        call: str,
        known: Snapshot | None = None,
        auth: Auth | None = None,
        deadline_s: float = DEADLINE_S,
    ):
        """Answer a read or a write with these bytes; return what the adapter made of it, and what it had sent."""

        async def one() -> object:
            windchill = self.windchill(auth, deadline_s)
            try:
                async with asyncio.timeout(HANG_S):
                    if call == "read":
                        return await windchill.read("k", known)
                    assert known is not None
                    assert known.token is not None
                    return await windchill.write(
                        known, {"attributes.Note": "x"}, token=known.token, journal=MemoryJournal()
                    )
            finally:
                await windchill.close()

        self.server.replies, self.server.requests = list(replies), []
        return self.runner.run(one()), self.server.requests

    def close(self) -> None:
        self.runner.run(self.server.stop())
        self.runner.close()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


BEFORE = Snapshot("k", {"id": "k", "status": "INWORK"}, Token('"v1"'))
HEADER_LINES = [b"etag: %b", b"retry-after: %b", b"content-type: %b", b"content-length: %b", b"transfer-encoding: %b"]
HEADER_LINES += [b"www-authenticate: %b", b"location: %b", b"content-encoding: %b", b"last-modified: %b", b"%b: x"]
HEADER_LINES += [b"set-cookie: %b", b"connection: %b", b"date: %b", b" folded %b", b"%b", b"upgrade: %b"]
HEADER_LINES += [b"trailer: %b"]
SAID = [b"chunked", b"gzip, chunked", b"identity", b"deflate", b"br", b"zstd", b"keep-alive", b"close", b"-1", b"0"]
SAID += [b"5", b"99999999999999999999", b"+5", b"0x5", b"application/json", b"text/html", b'"1"', b"\x7f", b"\x0b"]
SAID += [b"\x00", b""]


def hostile_reply(number: int) -> bytes:
    """A reply that is HTTP, or nearly."""
    chance = random.Random(number)
    status = chance.choice([*test_replies.STATUSES, 200, 200, 200, 100, 101, 103, 0, 1000, 99])
    version = chance.choice([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2", b"http/1.1", b"ICY", b"HTTP/1.1 "])
    body = test_replies.reply(chance.getrandbits(64)).body
    lines = [version + b" %d " % status + chance.choice([b"OK", b"", b"\xff", b"x" * 9000])]
    if chance.random() < 0.7:
        lines += [b"content-type: application/json", b'etag: "v2"', b"content-length: %d" % len(body)]
    for _ in range(chance.choice((0, 1, 1, 3))):
        line = chance.choice(HEADER_LINES) % chance.choice(SAID + mutating.TOKENS + test_replies.HEADER_VALUES)
        lines.insert(chance.randrange(1, len(lines) + 1), line)
    if chance.random() < 0.2:
        lines.append(b"transfer-encoding: chunked")
        size = chance.choice(
            [b"%x" % len(body), b"-1", b"FFFFFFFFFFFFFFFFF", b"5;x=y", b"", b"0", b"%x" % (len(body) + 9)]
        )
        body = size + b"\r\n" + body + chance.choice([b"\r\n0\r\n\r\n", b"\r\n0\r\netag: x\r\n\r\n", b"\n0\n\n", b""])
    return chance.choice([b"\r\n", b"\r\n", b"\n"]).join([*lines, b"", b""]) + body


def status_of(reply: bytes | None) -> int | None:
    """The status that the bytes say beyond doubt; None where they say none. Interim replies come before it."""
    text = reply or b""
    while interim := INTERIM.match(text):
        text = text[interim.end() :]
    found = FINAL.match(text)
    return int(found[1]) if found else None


def check_read(world: World, reply: bytes) -> None:
    found, requests = world.run([reply, reply], "read")
    assert isinstance(found, READ_ANSWER), found
    assert not isinstance(found, answer.Unchanged)  # nothing was known
    assert 1 <= len(requests) <= 2  # a GET whose connection broke may be repeated
    if isinstance(found, Snapshot):
        assert status_of(reply) == 200
        check_token_goes_back(world, found)


def check_token_goes_back(world: World, seen: Snapshot) -> None:
    """What it was read at can be stored, asked about, and guards a write, byte for byte."""
    assert codec.encode(seen)
    again, requests = world.run([b"HTTP/1.1 304 Not Modified\r\n\r\n"], "read", seen)
    if seen.token is None:
        return
    assert again == answer.Unchanged()
    assert b"\r\nif-none-match: %b\r\n" % seen.token.encode() in lowered(requests[0])
    written, requests = world.run([b"HTTP/1.1 204 No Content\r\n\r\n"], "write", seen)
    if written != answer.Written(None, None):
        assert isinstance(written, answer.Refused)  # the document is such that no merge patch can say it
        assert written.status == 0
        return
    assert b"\r\nif-match: %b\r\n" % seen.token.encode() in lowered(requests[0])


def lowered(request: bytes) -> bytes:
    """A request with the names of its headers in lower case, and their values as they are."""
    return re.sub(rb"\r\n[A-Za-z-]+:", lambda name: name[0].lower(), request)


def check_write(world: World, reply: bytes | None) -> None:
    found, requests = world.run([reply, reply], "write", BEFORE)
    status = status_of(reply)
    assert len(requests) == (2 if status == 415 and len(requests) == 2 else 1)  # sent once
    match found:
        case answer.Unknown():
            pass  # always true
        case answer.Written():
            assert status in (200, 201, 204, 205), reply
        case _:  # it says that nothing was applied, so the server must have said so
            assert isinstance(found, test_replies.NOT_APPLIED), found
            assert status is not None, reply
            test_replies.check_answer(found, status)


numbers = st.integers(0, 2**64 - 1)


near_http = mutating.mutated(REPLIES) | numbers.map(hostile_reply)


@settings(max_examples=2 * EXAMPLES)
@given(reply=near_http)
def test_a_read_that_is_answered_with_near_or_damaged_http_gets_an_answer(world, reply):
    check_read(world, reply)


@settings(max_examples=2 * EXAMPLES)
@given(reply=near_http)
def test_a_write_that_is_answered_with_near_or_damaged_http_is_certain_only_where_the_server_is(world, reply):
    check_write(world, reply)


@pytest.mark.parametrize("call", ["read", "write"])
def test_a_server_that_says_nothing_is_not_waited_for_beyond_the_deadline(world, call):
    found, _ = world.run([None, None], call, BEFORE, deadline_s=0.2)
    assert isinstance(found, answer.Unknown if call == "write" else answer.Failed)


@settings(max_examples=EXAMPLES // 3)
@given(reply=near_http)
def test_no_authorisation_server_makes_a_write_go_out_without_a_token(world, reply):
    auth = ClientCredentials(f"{world.server.url}/token", "client", "secret")
    found, requests = world.run([reply, b"HTTP/1.1 204 No Content\r\n\r\n"], "write", BEFORE, auth)
    sent = [request for request in requests if request.startswith(b"PATCH")]
    assert len(sent) <= 1
    assert all(b"bearer " in request.lower() for request in sent)
    if not sent:
        assert isinstance(found, answer.Failed | answer.Unauthorised | answer.Throttled | answer.Unknown), found


# --------------------------------------------------------------------------------------------------------------- finds


@pytest.mark.parametrize("reason", [b"Ung\xfcltig", b"\xff", b"\xe2\x80", b""])
def test_a_reason_phrase_in_any_encoding_is_passed_over(world, reason):
    reply = b"HTTP/1.1 412 " + reason + b"\r\ncontent-length: 0\r\n\r\n"
    found, _ = world.run([reply], "write", BEFORE)
    assert isinstance(found, answer.VersionConflict)
    found, _ = world.run([reply.replace(b"412", b"404")], "read")
    assert isinstance(found, answer.NotAvailable)
