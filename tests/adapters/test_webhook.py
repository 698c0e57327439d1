"""The webhook over real sockets: signatures, whom it speaks to, and what it never says."""

import asyncio
import base64
import hashlib
import hmac
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters import webhook
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.webhook import Webhook, WebhookOptions
from reconciler.core.explain.notices import Fault, Kind, Notification, Undelivered
from reconciler.errors import ConfigError
from tests.adapters.simulated import listening
from tests.adapters.tls_server import SecureServer
from tests.brokers import certificates
from tests.brokers.certificates import Authority
from tests.checks import expect

OLD, NEW = b"o" * 24, b"n" * 24
SECRETS = tuple("whsec_" + base64.b64encode(key).decode() for key in (OLD, NEW))
TOLD = Notification("msg_1", Kind.CONFLICT, b'{"type":"conflict.opened"}')
LOOPBACK = ("127.0.0.0/8",)
CANARY = "canary8f1c"


class Receiver:
    """A server of its own, so that nothing is answered but what the test says."""

    def __init__(self) -> None:
        self.reply = b"HTTP/1.1 204 No Content\r\n\r\n"
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{CANARY}?token={CANARY}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            headers = {name.lower(): value for name, value in headers.items()}
            self.requests.append((headers, await reader.readexactly(int(headers["content-length"]))))
            writer.write(self.reply)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    async with listening(made.serve) as address:
        made.port = int(address.rpartition(":")[2])
        yield made


@asynccontextmanager
async def to(url: str, **options: Any) -> AsyncIterator[Webhook]:
    made = Webhook(WebhookOptions(**{"url": url, "secrets": SECRETS, "plain": True, **options}), SystemClock())
    try:
        yield made
    finally:
        await made.close()


async def posted(url: str, **options: Any) -> Undelivered | None:
    async with to(url, **options) as hook:
        return await hook.post(TOLD)


async def test_what_is_posted_is_signed_with_every_key_as_the_standard_says(receiver: Receiver) -> None:
    assert await posted(receiver.url, networks=LOOPBACK) is None
    ((headers, body),) = receiver.requests
    assert body == TOLD.body
    assert headers["webhook-id"] == "msg_1"
    assert abs(int(headers["webhook-timestamp"]) - SystemClock().now_us() / 1e6) < 60
    signed = f"msg_1.{headers['webhook-timestamp']}.".encode() + body
    expected = [base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in (OLD, NEW)]
    assert headers["webhook-signature"] == " ".join(f"v1,{one}" for one in expected)
    assert headers["content-type"] == "application/json"


def test_the_signature_is_the_one_of_the_standards_own_example() -> None:
    """The example of the Standard Webhooks libraries' tests."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    example = Notification("msg_p5jXN8AQM9LWM0D4loKWxJek", Kind.DIGEST, b'{"test": 2432232314}')
    assert webhook.signature([key], example, 1614265330) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.100.100.200", "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("168.63.129.16", "::", "::1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fc00::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1"),
        *("64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
        *("2001:db8::1", "64:ff9b:1::1", "not-an-address", "", "2130706433", "0x7f.1"),
    ],
)
def test_addresses_that_are_not_of_the_public_internet_are_refused(host: str) -> None:
    assert not webhook.permitted(host)


@pytest.mark.parametrize("host", ["8.8.8.8", "203.1.113.9", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_not(host: str) -> None:
    assert webhook.permitted(host)


def test_a_network_that_is_named_is_allowed_and_no_other() -> None:
    allowed = [webhook._network("10.1.0.0/16"), webhook._network("fd12::/16")]
    assert webhook.permitted("10.1.2.3", allowed)
    assert webhook.permitted("::ffff:10.1.2.3", allowed)
    assert webhook.permitted("fd12::9", allowed)
    assert not webhook.permitted("10.2.0.1", allowed)
    assert not webhook.permitted("169.254.169.254", allowed)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1", "2130706433"])
async def test_nothing_is_connected_to_that_is_not_allowed_however_it_is_written(receiver: Receiver, host: str) -> None:
    failure = expect(Undelivered, await posted(f"http://{host}:{receiver.port}/"))
    assert failure.fault is Fault.ENDPOINT
    assert receiver.connections == 0


async def test_a_name_is_judged_by_what_it_leads_to_when_it_is_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the second answer leads into the house."""
    answers = ["203.1.113.9", "127.0.0.1"]
    asked = []

    async def resolve(self: object, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[dict]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [{"hostname": host, "host": found, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", resolve)
    monkeypatch.setattr("aiohttp.resolver.AsyncResolver.resolve", resolve, raising=False)
    async with to(f"http://hooks.example.com:{receiver.port}/", timeout_s=0.4) as hook:
        first, second = [expect(Undelivered, await hook.post(TOLD)).why for _ in range(2)]
    assert len(asked) == 2
    assert "public internet" not in first
    assert "public internet" in second
    assert receiver.connections == 0


async def test_redirects_are_not_followed(receiver: Receiver) -> None:
    receiver.reply = f"HTTP/1.1 307 Temporary\r\nLocation: {receiver.url}\r\nContent-Length: 0\r\n\r\n".encode()
    failure = await posted(receiver.url, networks=LOOPBACK)
    assert failure == Undelivered("status 307: redirects are not followed")
    assert receiver.connections == 1


@pytest.mark.parametrize(
    ("status", "fault"),
    [(400, Fault.CONTENT), (422, Fault.CONTENT), (401, Fault.ENDPOINT), (500, Fault.ENDPOINT), (410, Fault.GONE)],
)
async def test_a_refusal_is_blamed_on_whom_it_should(receiver: Receiver, status: int, fault: Fault) -> None:
    receiver.reply = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()
    assert expect(Undelivered, await posted(receiver.url, networks=LOOPBACK)).fault is fault


async def test_a_receiver_may_ask_for_time(receiver: Receiver) -> None:
    receiver.reply = b"HTTP/1.1 429 Slow\r\nRetry-After: 90\r\nContent-Length: 0\r\n\r\n"
    assert await posted(receiver.url, networks=LOOPBACK) == Undelivered("status 429", Fault.ENDPOINT, 90.0)


async def test_an_endless_answer_costs_nothing(receiver: Receiver) -> None:
    receiver.reply = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000_000
    assert await posted(receiver.url, networks=LOOPBACK) is None


@pytest.mark.parametrize(
    "reply", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, b"HTTP/1.1 200 OK\r\n"]
)
async def test_no_failure_names_the_address(receiver: Receiver, reply: bytes) -> None:
    receiver.reply = reply
    failures = [
        await posted(receiver.url, networks=LOOPBACK),
        await posted(receiver.url),
        await posted(f"http://{CANARY}.invalid/{CANARY}", networks=LOOPBACK),
        await posted(f"http://{CANARY}:99999/", networks=LOOPBACK),
        await posted(f"http://127.0.0.1:1/{CANARY}", networks=LOOPBACK),
    ]
    for failure in failures:
        assert expect(Undelivered, failure).why
        assert CANARY not in repr(failure)
        assert "127.0.0.1" not in repr(failure)


async def test_a_receiver_that_never_answers_is_given_up(receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        failure = await posted(url, networks=LOOPBACK, timeout_s=0.2)
    assert failure == Undelivered("no answer in time")


async def test_plain_http_has_to_be_allowed_and_secrets_are_in_no_representation() -> None:
    with pytest.raises(ConfigError, match="plain_http"):
        Webhook(WebhookOptions(url="http://127.0.0.1/", secrets=SECRETS), SystemClock())
    shown = repr(WebhookOptions(url=f"https://h/{CANARY}", secrets=SECRETS))
    assert CANARY not in shown
    assert SECRETS[0] not in shown
    with pytest.raises(ConfigError, match=r"notify\.networks") as refused:
        Webhook(WebhookOptions(url="https://h/", secrets=SECRETS, networks=("::::/8",)), SystemClock())
    assert SECRETS[0] not in str(refused.value)


@pytest.mark.skipif(not certificates.available(), reason="there is no openssl to make certificates with")
async def test_a_certificate_of_the_houses_own_authority_is_trusted_only_if_it_is_named(tmp_path: Path) -> None:
    ours = Authority(tmp_path / "ours")
    with SecureServer(ours.sign("server")) as server:
        failure = expect(Undelivered, await posted(server.url, plain=False, networks=LOOPBACK))
        assert "certificate can't be trusted" in failure.why
        assert await posted(server.url, plain=False, networks=LOOPBACK, ca_file=ours.certificate) is None
