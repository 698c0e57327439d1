"""
Faults: which ones a request meets, and the replies they make up.

A fault comes by chance (settings.Faults) or from a script. A script lists what the next matching requests meet, one
step for each request: the name of a fault, `"ok"` for none, several names, a whole reply (`Canned`), or what a person
does at that moment (`Act`). A request that meets a scripted step meets no other fault, so that tests say exactly what
happens.
"""

from collections import deque
from datetime import datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Any

import attrs
import orjson
from attrs import frozen

from reconciler.simulator.messages import Reply, problem
from reconciler.simulator.settings import Faults
from reconciler.simulator.wrs import people

NAMES = (
    "slow",
    "dropped_request",
    "unavailable",
    "throttle",
    "login_page",
    "expired_token",
    "version_conflict",
    "lost_reply",
    "cut_reply",
    "drip",
    "wrong_type",
    "too_large",
    "bad_json",
)
"""In the order in which they are drawn, so that the same seed gives the same faults."""
_OK = "ok"
_SCRIPTS_MAX = 10_000
_LOGIN = b"""<!DOCTYPE html>
<html><head><title>Sign in</title></head>
<body><form action="/login" method="post"><input name="user"><input name="password" type="password"></form></body>
</html>
"""


@frozen
class Canned:
    """A reply that a script gives in full."""

    status: int
    headers: dict[str, str]
    body: str
    applied: bool
    """Whether the request is carried out before its reply is replaced."""

    def reply(self) -> Reply:
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()]
        return Reply(self.status, headers, self.body.encode())


@frozen
class Act:
    """What a person does right before or right after a request is carried out."""

    given: dict[str, Any]
    """As `/_control/wrs/act` takes it. Locks hold for this person as for everyone."""
    after: bool


@frozen
class Met:
    """What one request meets."""

    names: frozenset[str]
    canned: Canned | None = None
    act: Act | None = None


@attrs.define
class Script:
    """What the next requests meet that are about this document and have this method and path."""

    document: str | None
    """None: any."""
    method: str | None
    """None: any."""
    path: str
    """A part of the path, such as `PTC.DocMgmt.CheckIn`; empty: any."""
    steps: deque[Met]


class FaultPlan:
    """The faults to come."""

    def __init__(self, seed: int, settings: Faults) -> None:
        self._chance = Random(f"faults {seed}")
        self._scripts: list[Script] = []
        self.settings = settings

    @property
    def settings(self) -> Faults:
        return self._settings

    @settings.setter
    def settings(self, settings: Faults) -> None:
        self._settings = settings
        likely = [(name, getattr(settings, name)) for name in NAMES]
        # Faults that can't happen draw no random numbers, so a server without faults costs nothing.
        self._active = [
            (name, chance) for name, chance in likely if chance > 0 and (name != "slow" or settings.slow_ms > 0)
        ]

    def met(self, document: str | None, method: str, path: str = "") -> Met | None:
        """What the next request meets; None for nothing."""
        for script in self._scripts:
            if script.document in (None, document) and script.method in (None, method) and script.path in path:
                step = script.steps.popleft()
                if not script.steps:
                    self._scripts.remove(script)
                return step
        if not self._active:
            return None
        names = frozenset(name for name, chance in self._active if self._chance.random() < chance)
        return Met(names) if names else None

    def script(self, given: dict[str, Any]) -> None:
        """Add `{"document": …, "method": …, "path": …, "faults": […]}`; ValueError names what is wrong."""
        unknown = given.keys() - {"document", "method", "path", "faults"}
        steps = given.get("faults")
        if unknown or not isinstance(steps, list) or not steps:
            raise ValueError(
                'a script is {"document": KEY or null, "method": METHOD or null, "path": PART, "faults": [STEP, …]}'
            )
        if len(self._scripts) >= _SCRIPTS_MAX:
            raise ValueError("too many scripts are waiting; clear them with DELETE /_control/script")
        about = (given.get("document"), given.get("method"), str(given.get("path", "")))
        self._scripts.append(Script(*about, deque(map(_step, steps))))

    def waiting(self) -> int:
        """How many scripts still have steps."""
        return len(self._scripts)

    def clear_scripts(self) -> None:
        """Drop the scripts that still have steps."""
        self._scripts.clear()


def in_front(met: Met, settings: Faults, now: datetime) -> Reply | None:
    """The reply of a front end that stops the request; None if it lets it through."""
    if met.canned is not None and not met.canned.applied:
        return met.canned.reply()
    if "unavailable" in met.names:
        return _later(problem(503, "Service Unavailable", "The server is being restarted"), settings, now)
    if "throttle" in met.names:
        return _later(problem(429, "Too Many Requests", "Slow down"), settings, now)
    if "login_page" in met.names:
        return Reply(200, [(b"content-type", b"text/html;charset=UTF-8")], _LOGIN)
    return None


def spoiled(met: Met, reply: Reply) -> Reply:
    """The reply to a request that was carried out, as its client sees it."""
    if met.canned is not None:
        return met.canned.reply()
    if "wrong_type" in met.names:
        others = [header for header in reply.headers if header[0] != b"content-type"]
        reply = attrs.evolve(reply, headers=[(b"content-type", b"text/plain"), *others])
    if "bad_json" in met.names and reply.status != 304:  # RFC 9110, 15.4.5: it never has a body to spoil
        # A 204 has no body to spoil, so it becomes a 200 with one.
        body = reply.body[: len(reply.body) // 2] or b'{"id":'
        plain = [header for header in reply.headers if header[0] != b"content-encoding"]
        reply = attrs.evolve(reply, status=200 if reply.status == 204 else reply.status, headers=plain, body=body)
    return reply


def _later(reply: Reply, settings: Faults, now: datetime) -> Reply:
    if settings.retry_after_s is None:
        return reply
    if settings.retry_after_form == "seconds":
        when = str(round(settings.retry_after_s))
    else:
        when = format_datetime(now + timedelta(seconds=settings.retry_after_s), usegmt=True)
    return attrs.evolve(reply, headers=[*reply.headers, (b"retry-after", when.encode())])


def _step(given: object) -> Met:
    if isinstance(given, dict):
        return _doing(given) if "act" in given else Met(frozenset(), _canned(given))
    return Met(_names(given))


def _names(given: object) -> frozenset[str]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not set(names) <= {_OK, *NAMES}:
        raise ValueError(f"no fault: {given!r}; known: {_OK}, {', '.join(NAMES)}, or an object with a status")
    return frozenset(names) - {_OK}


def _doing(given: dict[str, Any]) -> Met:
    act, when = given["act"], given.get("when", "before")
    if given.keys() - {"act", "when", "faults"} or not isinstance(act, dict) or when not in ("before", "after"):
        raise ValueError('an act is {"act": {…}, "when": "before" or "after", "faults": [NAME, …]}')
    return Met(_names(given.get("faults", _OK)), act=Act(people.checked(act), when == "after"))


def _canned(given: dict[str, Any]) -> Canned:
    unknown = given.keys() - {"status", "headers", "body", "applied"}
    if unknown or not isinstance(given.get("status"), int):
        raise ValueError('a reply is {"status": 418, "headers": {…}, "body": TEXT or JSON, "applied": false}')
    body = given.get("body", "")
    text = body if isinstance(body, str) else orjson.dumps(body).decode()
    headers = given.get("headers", {} if isinstance(body, str) else {"content-type": "application/json"})
    return Canned(given["status"], headers, text, bool(given.get("applied")))
