"""
A Windchill with sick documents, on a real socket: most are served well, some answer what no one can use.

It speaks the dialect `documents` as far as the reconciler needs it, over HTTP/1.1 written by hand: no library would let
it say what a broken server says.
"""

import asyncio
import contextlib
import json
from typing import Any, Self

HOST = "127.0.0.1"
_JSON = "content-type: application/json\r\n"


def _reply(status: str, headers: str = "", body: bytes = b"", length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\n{headers}content-length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


def _ok(body: str, headers: str = _JSON, length: int | None = None) -> bytes:
    return _reply("200 OK", headers + 'etag: "1"\r\n', body.encode(), length)


ANSWERS = {
    "a login page": _ok("<html><title>Sign in</title><input type='password'></html>", "content-type: text/html\r\n"),
    "a login page that says it is JSON": _ok("<html><title>Sign in</title></html>"),
    "JSON that breaks off": _ok('{"status": "Br'),
    "a body that breaks off": _ok('{"status": "Br', length=5000),
    "a list": _ok("[1, 2, 3]"),
    "null": _ok("null"),
    "a number beyond all numbers": _ok('{"status": 1e999999}'),
    "bytes that are no text": _reply("200 OK", _JSON, b'{"status": "\xff\xfe"}'),
    "another document": _ok('{"id": "someone else", "status": "x"}'),
    "an id of another type": _ok('{"id": {"a": [1]}}'),
    "nothing": _reply("204 No Content"),
    "nothing new": _reply("304 Not Modified"),
    "a redirect to itself": _reply("302 Found", "location: /documents/again\r\n"),
    "a redirect for ever": _reply("308 Permanent Redirect", "location: \r\n"),
    "a compression that no one knows": _reply("200 OK", _JSON + "content-encoding: br\r\n", b"\x1b\x00\x00"),
    "a packed body that is none": _reply("200 OK", _JSON + "content-encoding: gzip\r\n", b"no gzip"),
    "a status that does not exist": _reply("999 Whatever"),
    "an error": _reply("500 Oops", "", b"out of memory"),
    "words that are no HTTP": b"530 Please login with USER and PASS.\r\n\r\n",
    "a header without an end": b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000,
    "an ETag that guards nothing": _reply("200 OK", _JSON + "etag: *\r\n", b'{"status": "x"}'),
    "an unusable time": _ok('{"status": "x", "modifiedOn": {"when": []}, "modifiedBy": 7, "type": [1]}'),
    "too busy, until tomorrow": _reply("503 Busy", "retry-after: 86400\r\n"),
    "too busy": _reply("429 Slow Down"),
}
"""What a sick document answers, and the connection is closed."""

STREAMS = ("silence", "a byte now and then", "a body without an end", "interim answers without an end", "a hang-up")
"""What has no end, or no beginning."""


class Hostile:
    """The server. `sick`: by key, what it answers; `writes_only`: reads are served well all the same."""

    def __init__(self, *keys: str, writes_only: bool = False) -> None:
        self.bodies: dict[str, dict[str, Any]] = {key: {"id": key, "status": "INWORK"} for key in keys}
        self.versions = dict.fromkeys(keys, 1)
        self.sick: dict[str, str] = {}
        self.everything: str | None = None
        self.writes_only = writes_only
        self.asked: list[str] = []
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._one(reader, writer):
                    pass
        finally:
            self._serving.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, _ = head.split("\r\n", 1)[0].split(" ")
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        sent = await reader.readexactly(int(headers.get("content-length", "0")))
        key = path.rpartition("/")[2]
        self.asked.append(key)
        sick = self.everything or self.sick.get(key)
        if sick is not None and not (self.writes_only and method == "GET"):
            await self._say(sick, writer)
            return False
        writer.write(self._answer(method, key, headers, sent))
        await writer.drain()
        return True

    async def _say(self, sick: str, writer: asyncio.StreamWriter) -> None:
        match sick:
            case "a hang-up":
                return
            case "silence":
                await asyncio.sleep(3600)
            case "a byte now and then":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{")
                await self._for_ever(writer, b" ")
            case "a body without an end":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
                await self._for_ever(writer, b"1000\r\n" + b" " * 0x1000 + b"\r\n")
            case "interim answers without an end":
                await self._for_ever(writer, b"HTTP/1.1 102 Processing\r\n\r\n")
            case _:
                writer.write(ANSWERS[sick])
                await writer.drain()

    @staticmethod
    async def _for_ever(writer: asyncio.StreamWriter, piece: bytes) -> None:
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)

    def _answer(self, method: str, key: str, headers: dict[str, str], sent: bytes) -> bytes:
        if key not in self.bodies:
            return _reply("404 Not Found")
        etag = f'"{self.versions[key]}"'
        if method == "GET" and headers.get("if-none-match") == etag:
            return _reply("304 Not Modified", f"etag: {etag}\r\n")
        if method != "GET":
            if headers.get("if-match") != etag:
                return _reply("412 Precondition Failed")
            self.bodies[key] |= json.loads(sent)
            self.versions[key] += 1
            etag = f'"{self.versions[key]}"'
        return _reply("200 OK", f"{_JSON}etag: {etag}\r\n", json.dumps(self.bodies[key]).encode())
