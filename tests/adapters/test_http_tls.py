"""Whom the HTTP client trusts and which certificate it shows, also after their files were replaced. Real TLS."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import TLSVersion

import pytest
from structlog.testing import capture_logs

from reconciler.adapters import tls
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.http import HttpClient
from reconciler.adapters.replies import Exchange, Lost, Reply
from reconciler.errors import ConfigError
from reconciler.model.answer import Failed, Unauthorised
from tests import brokers, defaults
from tests.adapters.simulated import listening
from tests.adapters.tls_server import SecureServer
from tests.brokers import certificates
from tests.brokers.certificates import Authority, Signed
from tests.checks import expect

pytestmark = pytest.mark.skipif(
    not (certificates.available() or brokers.must_be_apache()), reason="there is no openssl to make certificates with"
)

BOTH_VERSIONS = [TLSVersion.TLSv1_2, TLSVersion.TLSv1_3]


class Made:
    """Two authorities that don't know of each other, and what they have signed."""

    def __init__(self, folder: Path) -> None:
        self.ours, self.foreign = Authority(folder / "ours"), Authority(folder / "foreign")
        self.server, self.moved = self.ours.sign("server"), self.foreign.sign("server")
        self.first, self.second = self.ours.sign("first"), self.ours.sign("second")
        self.stranger, self.locked = self.foreign.sign("stranger"), self.ours.sign("locked", "open sesame")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def client(
    ca_file: Path, cert_file: Path | None = None, key_file: Path | None = None
) -> AsyncIterator[HttpClient]:
    options = defaults.http(timeout_s=20, ca_file=ca_file, cert_file=cert_file, key_file=key_file)
    made = HttpClient(options, SystemClock())
    yield made
    await made.close()


async def ask(client: HttpClient, server: SecureServer, method: str = "GET") -> Exchange:
    return await client.exchange(method, server.url, (), b"" if method == "GET" else b'{"owner":"akim"}')


async def asked(
    server: SecureServer, authority: Authority, shows: Signed | None = None, method: str = "GET"
) -> Exchange:
    """Ask once, as a client of its own that trusts this authority and shows this certificate."""
    pair = () if shows is None else (shows.certificate, shows.key)
    async with client(authority.certificate, *pair) as http:
        return await ask(http, server, method)


# ------------------------------------------------------------------------------------------------------- certificates


@pytest.mark.parametrize("version", BOTH_VERSIONS)
async def test_our_certificate_is_shown_to_a_server_that_an_authority_of_our_own_vouches_for(
    made: Made, version: TLSVersion
) -> None:
    with SecureServer(made.server, made.ours.certificate, version) as server:
        assert isinstance(await asked(server, made.ours, made.first), Reply)
    assert server.clients == ["first"]


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("version", BOTH_VERSIONS)
async def test_a_refused_certificate_is_called_so_and_its_request_surely_not_carried_out(
    made: Made, version: TLSVersion, method: str
) -> None:
    with SecureServer(made.server, made.ours.certificate, version) as server:
        refused = expect(Unauthorised, await asked(server, made.ours, made.stranger, method))
    assert "refuses our client certificate: signed by an authority that it does not know" in refused.message
    assert server.clients == []


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("version", BOTH_VERSIONS)
async def test_where_a_certificate_is_asked_for_and_none_was_set_the_setting_is_named(
    made: Made, version: TLSVersion, method: str
) -> None:
    with SecureServer(made.server, made.ours.certificate, version) as server:
        refused = await asked(server, made.ours, None, method)
    assert isinstance(refused, Unauthorised | Failed), refused
    assert "cert_file" in refused.message


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_a_server_that_no_one_we_trust_vouches_for_gets_nothing(made: Made, method: str) -> None:
    with SecureServer(made.moved) as server:
        refused = expect(Failed, await asked(server, made.ours, made.first, method))
    assert "the server's certificate can't be trusted (" in refused.message
    assert refused.message.endswith("): see ca_file")
    assert server.clients == []


async def test_a_certificate_for_another_host_is_no_matter_of_ca_file(made: Made) -> None:
    with SecureServer(made.server) as server:
        async with client(made.ours.certificate) as http:
            refused = await http.exchange("GET", server.url.replace("127.0.0.1", "localhost"), ())
    assert isinstance(refused, Failed)
    assert refused.message.endswith("'localhost'): check the host in the address")


def test_an_expired_certificate_is_no_matter_of_ca_file() -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = 10, "certificate has expired"  # X509_V_ERR_CERT_HAS_EXPIRED
    assert (tls.disagreement(error) or "").endswith(
        "(certificate has expired): renew it on the server, or check the clock here"
    )


@pytest.mark.parametrize("version", BOTH_VERSIONS)
async def test_a_server_that_hangs_up_over_our_certificate_without_a_word_leaves_a_hint(
    made: Made, version: TLSVersion
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(made.server.certificate, made.server.key)
    context.load_verify_locations(made.ours.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    async with listening(lambda _, writer: writer.close(), context) as address, client(made.ours.certificate) as http:
        refused = await http.exchange("GET", f"https://{address}/", ())
    assert isinstance(refused, Failed | Lost)
    assert "See cert_file" in refused.message


async def test_https_to_a_port_without_tls_is_called_so(made: Made) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with listening(answer) as address, client(made.ours.certificate) as http:
        refused = expect(Failed, await http.exchange("GET", f"https://{address}/", ()))
    assert "is it http://" in refused.message


async def test_two_clients_each_show_their_own(made: Made) -> None:
    with SecureServer(made.server, made.ours.certificate) as server:
        async with (
            client(made.ours.certificate, made.first.certificate, made.first.key) as one,
            client(made.ours.certificate, made.second.certificate, made.second.key) as other,
        ):
            await ask(one, server)
            await ask(other, server)
            await ask(one, server)
    assert server.clients == ["first", "second", "first"]


# ------------------------------------------------------------------------------------------------------------ rotation


class Mounted:
    """Our pair and authority as Kubernetes mounts them: links through one link, which is swapped."""

    def __init__(self, folder: Path, pair: Signed, authority: Path) -> None:
        self._folder, self._turn = folder, 0
        self.authority, self.certificate, self.key = (folder / name for name in ("ca.crt", "tls.crt", "tls.key"))
        self.put(pair.certificate, pair.key, authority)
        for link in (self.authority, self.certificate, self.key):
            link.symlink_to(f"..data/{link.name}")

    def put(self, certificate: Path, key: Path, authority: Path) -> None:
        self._turn += 1
        into = self._folder / f"..{self._turn}"
        into.mkdir()
        for source, name in ((authority, "ca.crt"), (certificate, "tls.crt"), (key, "tls.key")):
            shutil.copyfile(source, into / name)
        (self._folder / "..tmp").symlink_to(into.name)
        (self._folder / "..tmp").replace(self._folder / "..data")


async def test_a_certificate_that_was_replaced_is_shown_on_the_next_connection(made: Made, tmp_path: Path) -> None:
    mounted = Mounted(tmp_path, made.first, made.ours.certificate)
    with SecureServer(made.server, made.ours.certificate) as server:
        async with client(mounted.authority, mounted.certificate, mounted.key) as http:
            await ask(http, server)
            mounted.put(made.second.certificate, made.second.key, made.ours.certificate)
            await ask(http, server)
    assert server.clients == ["first", "second"]


async def test_a_certificate_is_shown_until_its_successor_is_whole(made: Made, tmp_path: Path) -> None:
    mounted = Mounted(tmp_path, made.first, made.ours.certificate)
    with SecureServer(made.server, made.ours.certificate) as server:
        async with client(mounted.authority, mounted.certificate, mounted.key) as http:
            with capture_logs() as logs:
                mounted.put(made.second.certificate, made.first.key, made.ours.certificate)
                await ask(http, server)
                await ask(http, server)
                mounted.key.unlink()
                await ask(http, server)
                shutil.copyfile(made.second.key, mounted.key)
                await ask(http, server)
    assert server.clients == ["first", "first", "first", "second"]
    (mismatch, missing) = (log["reason"] for log in logs if log["log_level"] == "warning")  # each told once
    assert "is not the key of" in mismatch
    assert "can't be read: No such file" in missing


async def test_a_server_that_moved_to_another_authority_is_trusted_once_ca_file_names_it(
    made: Made, tmp_path: Path
) -> None:
    mounted = Mounted(tmp_path, made.first, made.ours.certificate)
    with SecureServer(made.server, made.ours.certificate) as server:
        async with client(mounted.authority, mounted.certificate, mounted.key) as http:
            assert isinstance(await ask(http, server), Reply)
            server.show(made.moved)
            assert isinstance(await ask(http, server), Failed)
            mounted.put(made.first.certificate, made.first.key, made.foreign.certificate)
            assert isinstance(await ask(http, server), Reply)


# --------------------------------------------------------------------------------------------------- what can't be used


def test_files_that_can_not_be_used_are_named_with_their_setting(made: Made, tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_text("no PEM")
    first, locked = made.first, made.locked
    for certificate, key, said in (
        (first.certificate, made.second.key, f"key_file {made.second.key} is not the key of cert_file"),
        (locked.certificate, locked.key, f"key_file {locked.key} is locked by a password"),
        (tmp_path / "missing", first.key, "cert_file .*missing can't be read: No such file"),
        (first.certificate, tmp_path, f"key_file {tmp_path} can't be read: Is a directory"),
        (junk, first.key, f"cert_file {junk} with key_file .* can't be used .* must hold PEM"),
        (first.certificate, junk, f"with key_file {junk} can't be used"),
    ):
        with pytest.raises(ConfigError, match=said):
            HttpClient(defaults.http(cert_file=certificate, key_file=key), SystemClock())
