"""The whole program on Apache Kafka: every way in, and a broker that stops, dies, stalls, compacts or forgets."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.adapters import kafka_client
from tests import brokers
from tests.brokers import apache, certificates
from tests.brokers.listeners import MECHANISMS, Listeners
from tests.cli.program import Program
from tests.e2e.world import event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.adapters.simulated import Simulated
    from tests.e2e.conftest import MakeWorld

KEYS = [f"{number:010d}" for number in range(1, 41)]
DOCUMENT = KEYS[0]


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    if not isinstance(brokers.choose(), apache.Apache):
        pytest.skip("only Apache Kafka has these listeners and these faults")
    if not certificates.available():
        assert not brokers.must_be_apache(), "CI needs openssl, to make certificates"
        pytest.skip("no openssl on PATH, which makes the certificates")
    made = Listeners(tmp_path_factory.mktemp("certificates"))
    with made.server:
        yield made


@pytest.fixture(scope="module")
def broker(listeners: Listeners) -> brokers.Server:
    """Instead of the session's: topics and worlds of this module live here."""
    return listeners.server


@pytest.fixture
def server(listeners: Listeners) -> apache.Apache:
    return listeners.server


# ----------------------------------------------------------------------------------------------------------- listeners


WAYS_IN = [("TLS", ""), ("MUTUAL", ""), *((name, mechanism) for name in ("SASL", "BOTH") for mechanism in MECHANISMS)]


@pytest.mark.parametrize(("listener", "mechanism"), WAYS_IN)
async def test_every_listener_lets_us_in_from_events_to_outcomes(
    make_world: MakeWorld, listeners: Listeners, listener: str, mechanism: str
) -> None:
    world = await make_world(log=listeners.settings(listener, mechanism or MECHANISMS[0]))
    await world.append(event(DOCUMENT, {"title": "one"}), world.record(event(DOCUMENT))._replace(value=b"not json"))
    assert (await world.converge()).dead_letters == 1
    assert world.simulated.document()["title"] == "one"
    assert len(await world.outcomes()) == 1
    assert len(await world.read(world.config.log.dead_letter_topic)) == 1


def wrong(listeners: Listeners) -> dict[str, tuple[dict[str, Any], str]]:
    there = listeners.settings
    password, unknown = {"sasl_password": "hunter3"}, {"ca_file": str(listeners.stranger.certificate)}
    foreign, locked = listeners.stranger.sign("client"), listeners.authority.sign("locked", passphrase="hunter2")
    return {
        "wrong password": (there("SASL") | password, "refuses user reconciler"),
        "wrong password over TLS": (there("BOTH") | password, "refuses user reconciler"),
        "wrong password in the clear": (there("SASL", "PLAIN") | password, "refuses user reconciler"),
        "no such user": (there("SASL") | {"sasl_username": "nobody"}, "refuses user nobody"),
        "unknown authority": (there("TLS") | unknown, "certificate"),
        "the system's authorities": (there("TLS") | {"ca_file": ""}, "certificate"),
        "another name": (
            there("TLS") | {"brokers": (listeners.server.address("TLS").replace("127.0.0.1", "localhost"),)},
            "certificate",
        ),
        "TLS to a plain listener": (there("TLS") | {"brokers": (listeners.server.address(),)}, "TLS"),
        "no client certificate": (
            there("MUTUAL") | {"cert_file": "", "key_file": ""},
            "closes the connection at once",
        ),
        "a foreign client certificate": (
            there("MUTUAL") | {"cert_file": str(foreign.certificate), "key_file": str(foreign.key)},
            "closes the connection at once",
        ),
        "a key with a passphrase": (
            there("MUTUAL") | {"cert_file": str(locked.certificate), "key_file": str(locked.key)},
            "can't be used for TLS",
        ),
        "plain to a TLS listener": ({"brokers": (listeners.server.address("TLS"),)}, "closes the connection at once"),
        "SASL to a listener without": (
            there("SASL") | {"brokers": (listeners.server.address(),)},
            "SASL",
        ),
    }


CASES = (
    "wrong password", "wrong password over TLS", "wrong password in the clear", "no such user", "unknown authority",
    "the system's authorities", "another name", "TLS to a plain listener", "no client certificate",
    "a foreign client certificate", "a key with a passphrase", "plain to a TLS listener", "SASL to a listener without",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_who_is_not_let_in_learns_why_in_one_line(
    listeners: Listeners, simulated: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(kafka_client, "KafkaOptions", partial(kafka_client.KafkaOptions, connect_timeout_s=2.0))
    settings, expected = wrong(listeners)[case]
    log = "\n".join(
        f"{name} = {json.dumps(list(value) if isinstance(value, tuple) else value)}" for name, value in settings.items()
    )
    program = Program(tmp_path, simulated.url, log)
    for command in (("run", "--once"), ("emit", DOCUMENT, "--set", "title=x"), ("doctor",)):
        ended = program.run(*command)
        assert ended.returncode == 1
        said = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
        if command == ("doctor",):
            said = [line for line in ended.stdout.splitlines() if line.startswith("✗")][:1]
        assert len(said) == 1, ended
        assert expected in said[0]
        assert "hunter" not in ended.stdout + ended.stderr
