"""Who sends a request: no, basic or bearer authentication (RFC 6749 client credentials, RFC 6750)."""

import base64
import binascii
from random import Random
from typing import Literal
from urllib.parse import parse_qs

import orjson

from reconciler.simulator.messages import JSON, Reply, Request, problem
from reconciler.simulator.settings import Behaviour

_OAUTH = "/Windchill/oauth/"
_PAGE = b"<!DOCTYPE html><html><head><title>Error 401</title></head><body><h1>Unauthorized</h1></body></html>"


class Credentials:
    """The bearer tokens issued so far. Time is given, never asked."""

    def __init__(self, seed: int) -> None:
        self._chance = Random(f"tokens {seed}")
        self._issued: dict[str, tuple[str, float]] = {}
        """Token → name, and when it expires, in seconds of the epoch."""

    def user(self, request: Request, behaviour: Behaviour, now_s: float) -> str | Reply:
        """The user's name, or the 401."""
        given = request.headers.get(b"authorization", b"")
        match _scheme(request, behaviour):
            case "none":
                return _named(request, given)
            case "basic":
                name = _basic(given, behaviour)
                return refusal(request, behaviour) if name is None else name
            case "bearer":
                token = _after(b"bearer ", given).decode("latin-1")
                name, expires_s = self._issued.get(token, (behaviour.tokens.get(token), float("inf")))
                return refusal(request, behaviour) if name is None or expires_s <= now_s else name

    def issue(self, request: Request, behaviour: Behaviour, now_s: float) -> Reply:
        """Answer `POST /oauth/token`, with the client's name and password in the header or in the form."""
        form = {name: values[-1] for name, values in parse_qs(request.body.decode("latin-1")).items()}
        if form.get("grant_type") != "client_credentials":
            return Reply(400, [JSON], b'{"error":"unsupported_grant_type"}')
        name = _basic(request.headers.get(b"authorization", b""), behaviour)
        if name is None and form.get("client_id") in behaviour.users:
            claimed = form["client_id"]
            name = claimed if form.get("client_secret") == behaviour.users[claimed] else None
        if name is None:
            return Reply(401, [JSON, (b"www-authenticate", b"Basic")], b'{"error":"invalid_client"}')
        token = f"{self._chance.getrandbits(128):032x}"
        self._issued[token] = (name, now_s + behaviour.token_lifetime_s)
        granted = {"access_token": token, "token_type": "Bearer", "expires_in": int(behaviour.token_lifetime_s)}
        return Reply(200, [JSON, (b"cache-control", b"no-store")], orjson.dumps(granted))

    def revoke(self, request: Request) -> None:
        """Forget the bearer token that the request carries, if it is an issued one."""
        self._issued.pop(_after(b"bearer ", request.headers.get(b"authorization", b"")).decode("latin-1"), None)

    def revoke_all(self) -> None:
        """Forget every issued token, as a restarted authorisation server does."""
        self._issued.clear()


def refusal(request: Request, behaviour: Behaviour) -> Reply:
    """The 401 with its challenge (RFC 9110, 11.6.1)."""
    basic = _scheme(request, behaviour) == "basic"
    challenge = b'Basic realm="Windchill"' if basic else b'Bearer error="invalid_token"'
    reply = problem(401, "Unauthorized", "Credentials are missing, wrong or expired", cause="unauthorized")
    headers, body = reply.headers, reply.body
    if behaviour.unauthorized_body == "html":
        headers, body = [(b"content-type", b"text/html;charset=UTF-8")], _PAGE
    return Reply(reply.status, [*headers, (b"www-authenticate", challenge)], body, reply.cause)


def _scheme(request: Request, behaviour: Behaviour) -> Literal["none", "basic", "bearer"]:
    """The authentication that this path needs: one of them takes only bearer tokens."""
    return "bearer" if behaviour.auth == "basic" and _OAUTH in request.path else behaviour.auth


def _named(request: Request, given: bytes) -> str:
    """Without authentication: who the request says it is."""
    name = request.headers.get(b"x-simulated-user")
    if name:
        return name.decode("latin-1")
    return _claimed(given)[0] if given[:6].lower() == b"basic " else "integration"


def _basic(given: bytes, behaviour: Behaviour) -> str | None:
    name, password = _claimed(given)
    return name if name in behaviour.users and behaviour.users[name] == password else None


def _claimed(given: bytes) -> tuple[str, str]:
    try:
        name, _, password = base64.b64decode(_after(b"basic ", given), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, password


def _after(scheme: bytes, given: bytes) -> bytes:
    """What follows the scheme's name, which is case-insensitive (RFC 9110, 11.1)."""
    return given[len(scheme) :].strip() if given[: len(scheme)].lower() == scheme else b""
