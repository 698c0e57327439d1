"""The program and a webhook: what is told over file and Kafka, also across kill -9, and what is never said."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.smtp_server import Inbox, inbox
from tests.brokers import Server
from tests.brokers.fixtures import MakeTopic
from tests.cli.program import Program, Topics
from tests.cli.test_kafka import put
from tests.patience import HANG_S
from tests.web.test_program import started, until

pytestmark = pytest.mark.e2e

KEY = b"k" * 32
CANARY = base64.b64encode(KEY).decode().rstrip("=")
NOTIFY = """\
[notify]
webhook_url = "{url}"
webhook_secret = "whsec_{secret}"
plain_http = true
networks = ["127.0.0.0/8"]
window_s = 0.5
"""
HELD, GONE = "0000000001", "no-such-document"


class Receiver(ThreadingHTTPServer):
    """Keeps what it accepts, by id."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 204
        self.signed = True  # by our own webhook; apprise signs nothing
        self.tries = 0
        self.got: list[tuple[str, dict]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hooks/{CANARY}"

    def types(self) -> list[str]:
        return sorted(body["type"] for _, body in self.got)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        name, moment = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        if self.server.signed:
            signed = hmac.new(KEY, f"{name}.{moment}.".encode() + body, hashlib.sha256).digest()
            assert self.headers["webhook-signature"] == f"v1,{base64.b64encode(signed).decode()}"
        self.server.tries += 1
        if self.server.status == 204:
            self.server.got.append((name, json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.shutdown()
    thread.join(HANG_S)
    made.server_close()


def notifying(program: Program, receiver: Receiver, *more: str) -> Program:
    with program.config.open("a", encoding="utf-8") as config:
        config.write(NOTIFY.format(url=receiver.url, secret=CANARY) + "\n".join(more))
    text = program.config.read_text(encoding="utf-8")
    program.config.write_text(text.replace("[retry]\n", "[retry]\nabsent_s = 0\n"), encoding="utf-8")
    return program


def poison(program: Program) -> None:
    program.append({"specversion": "1.0"})


def test_a_webhook_hears_of_it_once_across_a_kill_and_no_secret_is_ever_said(
    program: Program, receiver: Receiver
) -> None:
    notifying(program, receiver)
    program.emits(GONE, "--set", "status=RELEASED")
    poison(program)
    receiver.status = 500
    with started(program) as killed:
        until(lambda: receiver.tries >= 2)
    receiver.status = 204
    with started(program) as daemon:
        until(lambda: len(receiver.got) == 2)
        assert receiver.types() == ["dead_letter.received", "document.parked"]
        daemon.stop()
    with started(program) as again:
        poison(program)
        until(lambda: len(receiver.got) == 3)
        again.stop()
    ids = [name for name, _ in receiver.got]
    assert len(set(ids)) == 3
    (parked,) = [body for _, body in receiver.got if body["type"] == "document.parked"]
    assert parked["data"]["command"] == f"reconciler docs show {GONE}"
    for _, body in receiver.got:
        *words, last = body["data"]["command"].removeprefix("reconciler ").split()
        program.say(*words, last)
    said = "".join([*killed.lines, *daemon.lines, *again.lines, program.say("config", "show")])
    assert "not accepted" in said
    assert CANARY not in said
    assert "Traceback" not in said


def test_one_pass_tells_what_it_came_to(program: Program, receiver: Receiver) -> None:
    notifying(program, receiver)
    program.emits(GONE, "--set", "status=RELEASED")
    poison(program)
    assert program.json("run", "--once", code=3)["dead_letters"] == 1
    assert receiver.types() == ["dead_letter.received", "document.parked"]
    assert program.json("run", "--once", code=3)["dead_letters"] == 1
    assert len(receiver.got) == 2


def test_a_flood_is_a_digest(program: Program, receiver: Receiver) -> None:
    notifying(program, receiver, "digest_above = 3")
    for _ in range(30):
        poison(program)
    program.json("run", "--once", code=3)
    assert "digest" in receiver.types()
    assert len(receiver.got) <= 4
    assert sum(body["data"].get("total", 1) for _, body in receiver.got) == 30


def test_a_webhook_that_is_not_allowed_is_not_called_and_holds_nothing_up(program: Program, receiver: Receiver) -> None:
    notifying(program, receiver)
    program.reconfigure('networks = ["127.0.0.0/8"]', "")
    program.emits(HELD, "--set", "status=RELEASED")
    poison(program)
    ended = program.run("run", "--once")
    assert ended.returncode == 3
    assert program.document(HELD)["status"] == "RELEASED"
    assert receiver.tries == 0
    assert "not of the public internet" in ended.stderr
    assert CANARY not in ended.stderr


RULES = """
targets_file = "{targets}"
smtp_host = "127.0.0.1"
smtp_port = {port}
smtp_security = "none"
email_from = "reconciler@example.com"

[[notify.rules]]
name = "owners"
to = ["anna@example.com", "berta@example.com"]
fields = ["attributes*"]
window_s = 0.5

[[notify.rules]]
name = "plm"
to = ["chat"]
kinds = ["document.parked"]
window_s = 0.5
"""


def ruled(program: Program, receiver: Receiver, box: Inbox) -> Program:
    targets = program.config.parent / "targets"
    targets.write_text(f"chat json://127.0.0.1:{receiver.server_address[1]}/{CANARY}\n", "utf-8")
    program.reconfigure('bind = "127.0.0.1:0"', 'bind = "127.0.0.1:0"\nexternal_url = "https://reconciler.example.com"')
    program.reconfigure("[retry]", "[retry]\nabsent_s = 0")
    program.reconfigure("[windchill]", '[windchill]\nlink_template = "https://plm.example.com/doc?number={key}"')
    with program.config.open("a", encoding="utf-8") as config:
        config.write("[notify]\n" + RULES.format(targets=targets, port=box.port))
    return program


def test_people_hear_by_rule_of_a_conflict_and_of_a_parked_document_and_each_once_over_a_kill(
    program: Program, receiver: Receiver
) -> None:
    with inbox() as box:
        ruled(program, receiver, box)
        receiver.signed = False
        program.emits(HELD, "--set", "attributes=akim")  # a claim on a whole group is held
        program.emits(GONE, "--set", "status=RELEASED")
        box.answer, receiver.status = "451 try later", 500
        with started(program):  # which is killed at the end
            until(lambda: box.tries >= 3 and receiver.tries >= 3)
            until(lambda: len(program.json("status")["notifications_failing"]) == 2)
        assert "owners/email has accepted nothing since" in program.say("status")
        box.answer, receiver.status = "250 OK", 204
        with started(program) as daemon:
            until(lambda: bool(box.got and receiver.got))
            until(lambda: not program.json("status")["notifications_failing"])
            daemon.stop()
        ((people, mail),) = box.got
    assert people == ["anna@example.com", "berta@example.com"]
    assert mail["subject"] == f"Conflict on attributes of {HELD}"
    text = mail.get_content()
    assert '"akim"' in text
    assert f"https://plm.example.com/doc?number={HELD}" in text
    assert f"https://reconciler.example.com/conflicts/{program.json('conflicts', 'list')[0]['id']}" in text
    ((_, said),) = receiver.got
    assert said["title"] == f"{GONE} can't be read or written"
    assert CANARY not in "".join([*daemon.lines, program.say("config", "show")])


def test_a_sample_goes_to_everyone_and_says_who_did_not_take_it(program: Program, receiver: Receiver) -> None:
    assert "No one is notified" in program.run("notify", "test").stdout
    with inbox() as box:
        ruled(program, receiver, box)
        receiver.signed = False
        found = program.json("notify", "test")["items"]
        assert found == [{"to": "owners/email", "failure": None}, {"to": "plm/chat", "failure": None}]
        ((_, mail),) = box.got
        assert mail["subject"].startswith("Test: Conflict on")
        assert "mrossi" in mail.get_content()
        box.refuses = dict.fromkeys(("anna@example.com", "berta@example.com"), "550 no such user")
        failed = program.run("notify", "test", "--rule", "owners")
        assert failed.returncode == 1
        assert "550 no such user" in failed.stdout
    assert program.run("notify", "test", "--rule", "nobody").returncode == 2


@pytest.mark.kafka
def test_what_is_published_to_kafka_is_told(
    tmp_path: Path, windchill: str, broker: Server, topic: MakeTopic, receiver: Receiver
) -> None:
    topics = Topics.made(topic, 3)
    program = notifying(Program(tmp_path, windchill, topics.log(broker.brokers)), receiver)
    for number in range(4):
        program.emits(f"{GONE}-{number}", "--set", "status=RELEASED")
    with started(program):  # which is killed at the end
        until(lambda: sum(body["data"].get("total", 1) for _, body in receiver.got) == 4)
    with started(program) as daemon:
        put(broker, topics.changes, "p", b"poison")
        until(lambda: "dead_letter.received" in receiver.types())
        daemon.stop()
    by_id = dict(receiver.got)  # the kill may have come before the acceptance was stored: the id is the same then
    told = [body["data"]["document"] for body in by_id.values() if body["type"] == "document.parked"]
    assert sorted(told) == [f"{GONE}-{number}" for number in range(4)]
    assert len(by_id) == 5
