"""
A canary in every secret setting there is, searched for in all that the program says and leaves behind.

Which settings are secret is read from the configuration itself: a new one is covered without a word here. What a server
gives us to show again (a token, a nonce and its session) is a canary, too.
"""

import base64
import json
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import attrs
import httpx
import pytest

from reconciler.adapters import kafka_client
from reconciler.config.groups import GROUPS
from reconciler.config.values import convert, is_secret
from reconciler.web import tokens
from reconciler.web.application import ENDPOINTS
from reconciler.web.principal import Principal, Role
from tests.adapters.wrs.odata import METADATA, ROOT, row
from tests.cli.program import Program
from tests.cli.program import event as change
from tests.patience import HANG_S
from tests.web.test_program import Daemon, started, until

DOC, OTHER = "0000000001", "0000000002"
TOKEN = tokens.fresh()
SECRETS = [
    (section, field) for section, group in GROUPS.items() for field in attrs.fields(group) if is_secret(field.type)
]


GIVEN = {what: f"{what}0canary".ljust(44, "x") for what in ("token", "nonce", "ticket")}  # by a server, for a while
TELLING = ("authorization", "csrf_nonce", "cookie")
NONCE = {"NonceKey": "CSRF_NONCE", "NonceValue": GIVEN["nonce"]}


class Parrot:
    """
    A server that refuses everything and says back all that it was sent: path, headers and body.

    With the dialect `wrs` it lets us read, and gives us what a write needs.
    """

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.status, self.wrs = 401, False
        parrot = self

        class Saying(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _say(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode(errors="replace")
                # What should be hidden first: messages are cut.
                headers = sorted(self.headers.items(), key=lambda header: header[0].lower() not in TELLING)
                said = f"{' '.join(f'{name}: {value}' for name, value in headers)} {self.path} {body}"
                parrot.heard.append(said)
                given = parrot._given(unquote(self.path), self.command) if parrot.wrs else None
                refusal = {"error": {"message": f"no: {said}"}, "message": said, "detail": said}
                answer = given if isinstance(given, str) else json.dumps(given or refusal)
                self.send_response(200 if given else parrot.status)
                self.send_header("content-type", "application/xml" if answer is METADATA else "application/json")
                self.send_header("content-length", str(len(answer.encode())))
                if given is NONCE:
                    self.send_header("set-cookie", f"JSESSIONID={GIVEN['ticket']}; Path=/")
                self.end_headers()
                self.wfile.write(answer.encode())

            do_GET = do_POST = do_PATCH = do_PUT = do_HEAD = _say  # noqa: N815  the library's names

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Saying)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _given(self, path: str, method: str) -> Any:
        """Return what a read of this path gets, None for what is refused."""
        if path.endswith("/token"):
            return {"access_token": GIVEN["token"], "token_type": "bearer"}
        if path.endswith("/PTC/GetCSRFToken()"):
            return NONCE
        if path.endswith("/$metadata"):
            return METADATA
        shown = {"LastModified": "2025-08-19T14:16:48+02:00", "CheckoutState": "c/i"}
        if asked := re.search(r"/Documents\?.*Number eq '(\d+)'", path):
            return {"value": [row(asked[1], int(asked[1]), **shown)]}
        one = re.search(r"/Documents\('[^']*?(\d+)'\)$", path.partition("?")[0]) if method == "GET" else None
        return row(f"{int(one[1]):010}", int(one[1]), **shown) if one else None

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def parrot() -> Iterator[Parrot]:
    made = Parrot()
    yield made
    made.close()


def token(section: str, key: str) -> str:
    """The part of a canary that is the same in every spelling but base64."""
    return f"{section}0{key.replace('_', '0')}0canary".ljust(44, "x")


def canary(section: str, field: Any, url: str) -> str:
    """A value that the setting accepts."""
    base = token(section, field.name)
    forms = (f'{base}%+/=&"<', base, f"whsec_{base}", f"{url}/{base}", f"plm json://{base}")
    for form in forms:
        try:
            return str(convert(form, field.type))
        except ValueError:
            continue
    raise AssertionError(f"no canary fits {section}.{field.name}: add a form of what it accepts")


def spellings(section: str, field: Any, value: str) -> set[bytes]:
    """What to search for: the part that percent, JSON and HTML leave alone, and every alignment in base64."""
    base = token(section, field.name).encode()
    found = {base, quote(value, safe="").encode(), value.encode()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            found.add(encode(b"x" * shift + base)[4:-4])
    return found


class Place:
    """A folder with a configuration that has a canary in every secret setting, given in one of three ways."""

    def __init__(self, folder: Path, parrot: Parrot, way: str, auth: str, **more: Mapping[str, object]) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        self._program = Program(self.folder, parrot.url)
        self.way = way
        self.values = {(section, field.name): canary(section, field, parrot.url) for section, field in SECRETS}
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("RECONCILER_")}
        given: dict[str, dict[str, object]] = {
            "log": {"kind": "file", "path": "events.jsonl", "sasl_username": "integration"},
            "store": {"url": "sqlite:///state.db"},
            "windchill": {
                "base_url": parrot.url,
                "auth": auth,
                "username": "integration",
                "client_id": "us",
                "oauth2_token_url": f"{parrot.url}/token",
            },
            "admin": {
                "bind": "127.0.0.1:0",
                "tokens_file": str(folder / "tokens"),
                "oidc_issuer": parrot.url,
                "oidc_client_id": "us",
                "external_url": "http://127.0.0.1:8090",
            },
            "notify": {"plain_http": True, "networks": ["127.0.0.0/8"], "window_s": 0.2},
            "retry": {"backoff_base_s": 0.05, "backoff_max_s": 0.2},
        }
        for section, settings in more.items():
            given[section] |= settings
        (folder / "tokens").write_text(tokens.line(Principal("jdoe", Role.ADMIN), TOKEN), encoding="utf-8")
        secrets = folder / "secrets"
        secrets.mkdir()
        for (section, key), value in self.values.items():
            if way == "file":
                (secrets / f"{section}.{key}").write_text(value + "\n", encoding="utf-8")
                given.setdefault(section, {})[f"{key}_file"] = str(secrets / f"{section}.{key}")
            elif way == "environment":
                self.environ[f"RECONCILER_{section}__{key}".upper()] = value
            else:
                given.setdefault(section, {})[key] = value
        self.config = secrets / "reconciler.toml"
        self.config.write_text(toml(given), encoding="utf-8")
        self.said: list[bytes] = []
        self.errors: list[str] = []

    def run(self, *arguments: str) -> int:
        """Run a command within this process, whatever comes of it. Its output is kept."""
        ended = self._program._within([*arguments, *(() if "-c" in arguments else ("-c", str(self.config)))], "")
        self.said.append(f"{' '.join(arguments)}: {ended.stdout}{ended.stderr}".encode())
        return ended.returncode

    def leaks(self) -> list[str]:
        """Every place where a canary is found."""
        texts = {f"output {number} ({said[:60]!r})": said for number, said in enumerate(self.said)}
        texts |= {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        known = {"our own token": TOKEN, **GIVEN}
        shown = [
            f"{what} in {where}" for where, text in texts.items() for what, one in known.items() if one.encode() in text
        ]
        return shown + [
            f"{section}.{field.name} in {where}: {text[max(0, text.find(one) - 80) : text.find(one) + 60]!r}"
            for where, text in texts.items()
            for section, field in SECRETS
            for one in spellings(section, field, self.values[section, field.name])
            if one in text
        ]


def toml(given: Mapping[str, Mapping[str, object]]) -> str:
    """The settings as a file; JSON's texts, truths and lists are TOML's too."""
    lines = []
    for section, settings in given.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items())]
    return "\n".join(lines) + "\n"


def event(place: Place, field: str) -> None:
    lines = [change(DOC, "//erp", {field: "RELEASED"}, id="e1"), {"specversion": "1.0"}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (place.folder / "events.jsonl").write_text(text, encoding="utf-8")


def ask_everything(place: Place, daemon: Daemon) -> None:
    """Keep what every address answers that needs no name of anything, to a stranger and to us, and the hook's."""
    paths = [one.path for one in ENDPOINTS if "{" not in one.path]
    paths += ["/api/v1/audit?limit=0", "/nowhere", f"/api/v1/documents/{DOC}", f"/api/v1/documents/{DOC}/story"]
    with httpx.Client(base_url=daemon.address, timeout=HANG_S) as client:
        for path in paths:
            for headers in ({}, {"authorization": f"Bearer {TOKEN}"}, {"authorization": f"Bearer {TOKEN}x"}):
                reply = client.get(path, headers=headers)
                place.said.append(f"GET {path} {reply.headers}".encode() + reply.content)
        hook = f"/hooks/windchill/{place.values['admin', 'hook_secret']}"
        wakes = [("POST", hook, b"")] * 30  # fast enough on any machine to be told to slow down
        others = [("GET", hook, b""), ("POST", hook + "x", b""), ("POST", f"{hook}?{'x' * 20_000}", b"")]
        for method, path, content in (*wakes, ("POST", hook, b"x" * 100_000), *others):
            reply = client.request(method, path, content=content)
            place.said.append(f"{method} hook {reply.status_code} {reply.headers}".encode() + reply.content)
    assert any(b" hook 429 " in said for said in place.said)


LOUD = ("--debug", "--log-level", "debug")
COMMANDS = (
    ("status",),
    ("plan",),
    ("doctor",),
    ("doctor", "-o", "json"),
    ("emit", DOC, "--set", "owner=jdoe"),
    ("explain", DOC),
    ("audit", "export", "--to", "trail.jsonl"),
    ("export", "projection", "--to", "rows.jsonl"),
    ("dead-letters", "list", "-o", "json"),
)
WAYS = [
    ("inline", "basic", 401, "wrs"),
    ("file", "bearer", 403, "documents"),
    ("environment", "oauth2", 400, "wrs"),
    ("inline", "oauth2", 500, "documents"),
]


@pytest.mark.parametrize("case", WAYS, ids=lambda case: "-".join(map(str, case)))
def test_no_secret_is_said_to_anyone_even_if_a_server_says_it_back(
    tmp_path: Path, parrot: Parrot, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, int, str]
) -> None:
    way, auth, status, dialect = case
    parrot.status, parrot.wrs = status, dialect == "wrs"
    base_url = parrot.url + (ROOT if parrot.wrs else "")
    place = Place(tmp_path, parrot, way, auth, windchill={"dialect": dialect, "base_url": base_url, "quiet_s": 0})
    event(place, "Title" if parrot.wrs else "status")
    for name in [name for name in os.environ if name.startswith("RECONCILER_")]:
        monkeypatch.delenv(name)
    for name, value in place.environ.items():
        monkeypatch.setenv(name, value)
    whole = place.config.read_text(encoding="utf-8")
    with started(place, *LOUD) as daemon:  # it asks for a folder and a configuration only
        until(lambda: daemon.heard("document not settled") or daemon.heard("document settled"))  # 400: held
        webhook = token("notify", "webhook_url")
        until(lambda: [said for said in parrot.heard if webhook in said])
        ask_everything(place, daemon)
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: daemon.heard("policy reloaded, no change"))
        place.config.write_text("[log\n" + whole, encoding="utf-8")
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: daemon.heard("can't reload the policy; the old one stays in force"))
        daemon.stop()
        place.said.append("".join(daemon.lines).encode())
    place.config.write_text(whole, encoding="utf-8")
    for form in ("table", "json"):
        assert place.run("config", "show", "-o", form) == 0
        assert b"********" in place.said[-1]
    assert place.run("config", "check") == 0
    for command in COMMANDS:
        place.run(*command, *LOUD)
    if parrot.wrs:
        assert place.run("doctor", "--probe", OTHER, "-o", "json", *LOUD) == 1
    basic, oauth2 = (base64.b64encode(user).decode() for user in (b"integration:", b"us:windchill"))
    sent = {"basic": (basic,), "bearer": (token("windchill", "token"),), "oauth2": (oauth2,)}[auth]
    given = (GIVEN["nonce"], GIVEN["ticket"], *([GIVEN["token"]] if auth == "oauth2" else [])) if parrot.wrs else ()
    for secret in (*sent, *given):
        assert any(secret in said for said in parrot.heard), secret
    assert place.leaks() == []


def test_a_configuration_that_is_wrong_is_refused_without_its_secrets(tmp_path: Path, parrot: Parrot) -> None:
    place = Place(tmp_path, parrot, "inline", "basic")
    whole = place.config.read_text(encoding="utf-8")
    wrong = place.config.with_name("wrong.toml")
    for (section, key), value in place.values.items():
        right = f"{key} = {json.dumps(value)}"
        assert right in whole
        for spoilt in (
            right[:-1],  # the closing quote is missing
            f"{key}x = {json.dumps(value)}",  # misspelt
            f"{key} = [{json.dumps(value)}]",
            f"{key} = {json.dumps(value + chr(1))}",
            f"{key} = {{ x = {json.dumps(value)} }}",
            f"{right}\n{key}_file = {json.dumps(value)}",  # both, and the secret for the file's name
            f"{right}\n{right}",
        ):
            wrong.write_text(whole.replace(right, spoilt), encoding="utf-8")
            assert place.run("config", "check", "--debug", "-c", str(wrong)) == 1, (section, spoilt)
    assert place.leaks() == []


@pytest.mark.parametrize("security", ["sasl_plaintext", "sasl_ssl"])
def test_a_broker_that_lets_no_one_in_hears_and_tells_no_secret(
    tmp_path: Path, parrot: Parrot, monkeypatch: pytest.MonkeyPatch, security: str
) -> None:
    monkeypatch.setattr(kafka_client, "KafkaOptions", partial(kafka_client.KafkaOptions, connect_timeout_s=0.5))
    log = {"kind": "kafka", "brokers": [parrot.url.removeprefix("http://")], "security": security}
    place = Place(tmp_path, parrot, "inline", "basic", log=log)
    assert place.run("run", "--once", *LOUD) == 1
    assert place.run("doctor", *LOUD) != 0
    assert place.leaks() == []
