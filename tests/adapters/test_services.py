"""apprise's services, by the one that speaks to a receiver on loopback: what arrives, and that no address is said."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from reconciler.adapters.services import Service
from reconciler.core.explain.messages import Message
from reconciler.errors import ConfigError
from tests.adapters.simulated import listening
from tests.adapters.test_webhook import CANARY, Receiver

TOLD = Message("msg_1", "Conflict on title of 42", "Our value: <b>x</b> & *y*\n")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    async with listening(made.serve) as address:
        made.port = int(address.rpartition(":")[2])
        yield made


async def test_a_message_arrives_as_it_is(receiver: Receiver) -> None:
    receiver.reply = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    service = Service("plm", f"json://127.0.0.1:{receiver.port}/{CANARY}")
    assert await service.send(TOLD) is None
    await service.close()
    ((_, body),) = receiver.requests
    said = json.loads(body)
    assert (said["title"], said["message"].strip()) == (TOLD.title, TOLD.text.strip())


async def test_a_refusal_is_told_and_the_address_is_not(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    receiver.reply = b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    service = Service("plm", f"json://127.0.0.1:{receiver.port}/{CANARY}")
    said = await service.send(TOLD)
    await asyncio.sleep(0)
    await service.close()
    assert said is not None
    assert "did not accept" in said.why
    assert CANARY not in said.why + caplog.text + "".join(capfd.readouterr())


async def test_an_address_of_an_unknown_form_is_refused_and_not_said() -> None:
    with pytest.raises(ConfigError, match="plm") as refused:
        Service("plm", f"slakc://{CANARY}")
    assert CANARY not in str(refused.value)
