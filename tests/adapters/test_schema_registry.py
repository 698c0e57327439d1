"""Schemas from a registry and from a folder: what is learned, and what is waited for."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.credentials import SecretFile
from reconciler.adapters.schema_registry import Registry, RegistryOptions
from reconciler.core.events.framing import Schemas
from tests.brokers import certificates
from tests.brokers import registry as stub


@pytest.fixture
def server() -> Iterator[stub.Registry]:
    with stub.running() as found:
        yield found


def learner(**options: object) -> tuple[Registry, Schemas]:
    schemas = Schemas()
    return Registry(RegistryOptions(**options), schemas, SystemClock()), schemas


async def test_a_schema_is_asked_for_once_and_then_known_for_good(server: stub.Registry) -> None:
    server.register(7, "int")
    registry, schemas = learner(url=f"{server.url}/")
    assert await registry.learn([7]) is None
    assert schemas.readers[7](b"\x0a") == 5
    server.register(7, "string")
    assert await registry.learn([7]) is None
    assert (schemas.readers[7](b"\x0a"), server.asked) == (5, ["/schemas/ids/7"])


async def test_a_number_that_the_registry_lacks_is_a_fact_until_it_is_registered(server: stub.Registry) -> None:
    registry, schemas = learner(url=server.url)
    assert await registry.learn([9]) is None
    assert schemas.unusable[9] == f"the schema registry {server.url} has no schema 9 (40403)"
    server.register(9, "int")
    assert registry.lacks(9)
    assert await registry.learn([9]) is None
    assert (registry.lacks(9), list(schemas.readers), schemas.unusable) == (False, [9], {})


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (503, b"busy", "answers 503: busy"),
        (500, b'{"error_code": 50001, "message": "no leader"}', "no leader"),
        (404, b"<html><title>Not found</title></html>", "is schemas.registry_url right?"),
        (200, b"<html><title>Sign in</title></html>", "is schemas.registry_url right?"),
        (302, b"", "answers 302"),
    ],
)
async def test_what_says_nothing_about_the_schema_is_waited_for(
    server: stub.Registry, status: int, body: bytes, said: str
) -> None:
    server.register(7, "int")
    server.fails_with = status, body
    registry, schemas = learner(url=server.url)
    assert said in str(await registry.learn([7]))
    assert said in str(await registry.fault())
    assert (schemas.readers, schemas.unusable) == ({}, {})
    server.fails_with = None
    assert (await registry.learn([7]), await registry.fault(), list(schemas.readers)) == (None, None, [7])


async def test_a_registry_that_is_away_is_waited_for() -> None:
    with stub.running() as gone:
        registry, _ = learner(url=gone.url)
    assert "does not answer: no connection" in str(await registry.learn([7]))
    assert not registry.knows(7)


async def test_a_known_absence_is_forgotten_while_the_registry_is_away(server: stub.Registry) -> None:
    registry, _ = learner(url=server.url)
    await registry.learn([9])
    server.fails_with = 503, b""
    assert await registry.learn([9])
    assert not registry.knows(9)


async def test_credentials_come_from_a_file_and_no_message_shows_them(server: stub.Registry, tmp_path: Path) -> None:
    server.password = "registry-secret"
    server.register(7, "int")
    file = tmp_path / "password"
    file.write_text("wrong-secret\n", encoding="utf-8")
    registry, schemas = learner(url=server.url, username="reader", password=SecretFile(file))
    told = str(await registry.learn([7]))
    assert "401" in told
    assert "secret" not in told
    file.write_text("registry-secret\n", encoding="utf-8")
    assert await registry.learn([7]) is None
    assert list(schemas.readers) == [7]


@pytest.mark.skipif(not certificates.available(), reason="no openssl on PATH, which makes the certificates")
async def test_a_registry_is_believed_by_the_authority_that_is_named(server: stub.Registry, tmp_path: Path) -> None:
    authority = certificates.Authority(tmp_path / "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.sign("registry").both)
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
    server.register(7, "int")
    url = server.url.replace("http:", "https:")
    trusting, schemas = learner(url=url, ca_file=authority.certificate)
    assert await trusting.learn([7]) is None
    assert list(schemas.readers) == [7]
    doubting, _ = learner(url=url)
    assert "certificate" in str(await doubting.learn([7]))


async def test_a_schema_comes_with_those_that_it_refers_to(server: stub.Registry) -> None:
    day = {"type": "record", "name": "a.Day", "fields": [{"name": "n", "type": "int"}]}
    span = {
        "type": "record",
        "name": "a.Span",
        "fields": [{"name": "on", "type": "Day"}, {"name": "to", "type": "Day"}],
    }
    whole = {
        "type": "record",
        "name": "b.Plan",
        "fields": [{"name": "s", "type": "a.Span"}, {"name": "d", "type": "a.Day"}],
    }
    to_day = {"name": "a.Day", "subject": "a/Day", "version": 1}
    server.register(0, day)
    server.register(1, span, references=[to_day])
    for subject, number in (("a%2FDay", 0), ("span", 1)):
        server.schemas[f"/subjects/{subject}/versions/1"] = server.schemas[f"/schemas/ids/{number}"]
    server.register(7, whole, references=[{"name": "a.Span", "subject": "span", "version": 1}, to_day])
    registry, schemas = learner(url=server.url)
    assert await registry.learn([7]) is None
    assert schemas.readers[7](b"\x02\x04\x06") == {"s": {"on": {"n": 1}, "to": {"n": 2}}, "d": {"n": 3}}


@pytest.mark.parametrize(
    ("schema", "more", "said"),
    [
        ("int", {"schemaType": "PROTOBUF"}, "its schema 7 can't be used: it is PROTOBUF, and the [[source]] says Avro"),
        ({"type": "nope"}, {}, "its schema 7 can't be used: it is not an Avro schema"),
    ],
)
async def test_what_is_no_avro_is_named(server: stub.Registry, schema: object, more: dict[str, str], said: str) -> None:
    server.register(7, schema, **more)
    registry, schemas = learner(url=server.url)
    assert await registry.learn([7]) is None
    assert said in schemas.unusable[7]
    assert not registry.lacks(7), "that will not change"


async def test_the_folder_is_asked_first_and_alone_suffices(server: stub.Registry, tmp_path: Path) -> None:
    (tmp_path / "7.avsc").write_text('"int"', encoding="utf-8")
    server.register(8, "string")
    both, schemas = learner(url=server.url, folder=tmp_path)
    assert await both.learn([7, 8]) is None
    assert (sorted(schemas.readers), server.asked) == ([7, 8], ["/schemas/ids/8"])
    alone, schemas = learner(folder=tmp_path)
    assert await alone.learn([7, 8]) is None
    assert list(schemas.readers) == [7]
    assert schemas.unusable[8] == f"there is no {tmp_path}/8.avsc, where its schema would be"
    assert await alone.fault() is None


async def test_a_folder_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    registry, _ = learner(folder=tmp_path / "not-mounted")
    assert "there is no directory" in str(await registry.learn([7]))
    assert await registry.fault()
