"""E-mail through a real SMTP server: what arrives, by TLS and with a password, and what each refusal means."""

from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.mail import Mail, MailOptions
from reconciler.core.explain.messages import Message
from reconciler.core.explain.notices import Fault, Undelivered
from tests.adapters.smtp_server import Inbox, inbox
from tests.brokers.certificates import Authority

TOLD = Message("msg_1", "Conflict on title of 42 ✓\r\nBcc: evil@example.com", "Our value: „Käse“\nTheirs: x\n")
PEOPLE = ("anna@example.com", "berta@example.com")


async def sent(box: Inbox, **more: Any) -> Undelivered | None:
    given = {"security": "none", "username": "", "password": "", "sender": "reconciler@example.com", **more}
    mail = Mail(MailOptions(host="127.0.0.1", port=box.port, **given), PEOPLE, SystemClock())
    return await mail.send(TOLD)


async def test_a_message_arrives_as_one_mail_to_all_and_no_text_becomes_a_header() -> None:
    with inbox() as box:
        assert await sent(box) is None
        assert await sent(box) is None
    (recipients, mail), (_, again) = box.got
    assert recipients == list(PEOPLE)
    assert mail["to"] == "anna@example.com, berta@example.com"
    assert mail["bcc"] is None
    assert mail["subject"].startswith("Conflict on title of 42 ✓")
    assert mail["message-id"] == "<msg_1@example.com>" == again["message-id"]
    assert mail["auto-submitted"] == "auto-generated"
    assert mail.get_content().replace("\r\n", "\n") == TOLD.text


async def test_it_signs_in_after_starttls_and_only_if_the_certificate_can_be_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ours")
    stranger = Authority(tmp_path / "other")
    secure = {"security": "starttls", "username": "reconciler", "password": "right"}
    with inbox(authority.sign("server")) as box:
        assert await sent(box, ca_file=authority.certificate, **secure) is None
        wrong = await sent(box, ca_file=authority.certificate, **{**secure, "password": "wrong"})
        doubted = await sent(box, ca_file=stranger.certificate, **secure)
    assert set(box.signed_in) == {b"reconciler"}
    assert len(box.got) == 1
    assert wrong is not None
    assert wrong.fault is Fault.ENDPOINT
    assert "535" in wrong.why
    assert doubted is not None
    assert doubted.fault is Fault.ENDPOINT


async def test_a_server_without_tls_gets_no_mail_unless_that_is_allowed() -> None:
    with inbox() as box:
        said = await sent(box, security="starttls")
    assert said is not None
    assert box.got == []


@pytest.mark.parametrize(
    ("answer", "fault"),
    [("451 try later", Fault.ENDPOINT), ("554 spam", Fault.CONTENT)],
)
async def test_a_message_that_the_server_will_never_take_is_told_from_one_that_it_does_not_take_now(
    answer: str, fault: Fault
) -> None:
    with inbox() as box:
        box.answer = answer
        said = await sent(box)
    assert said is not None
    assert said.fault is fault
    assert answer in said.why


async def test_a_person_who_is_not_known_there_keeps_the_others_from_nothing() -> None:
    with inbox() as box:
        box.refuses = {PEOPLE[0]: "550 no such user"}
        assert await sent(box) is None
        box.refuses |= {PEOPLE[1]: "550 no such user"}
        said = await sent(box)
    assert [recipients for recipients, _ in box.got] == [[PEOPLE[1]]]
    assert said is not None
    assert said.fault is Fault.CONTENT


async def test_a_server_that_is_away_is_a_fault_of_the_endpoint() -> None:
    with inbox() as box:
        pass
    said = await sent(box)
    assert said is not None
    assert said.fault is Fault.ENDPOINT
