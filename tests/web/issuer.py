"""A small identity provider on a real socket: discovery, keys, sign-in and tokens, and every way to get them wrong."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

import attrs
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from reconciler.adapters.oidc import Oidc
from reconciler.web import server
from reconciler.web.principal import Provider, Role
from tests import defaults
from tests.fakes.virtual_clock import VirtualClock
from tests.patience import HANG_S
from tests.web.conftest import Daemon

AUDIENCE = "reconciler-api"
CLIENT, CLIENT_SECRET = "reconciler", "s3cret:with/odd chars"
SIGN_IN = {"client_id": CLIENT, "client_secret": CLIENT_SECRET}  # what a daemon needs whose pages send people there


@cache
def rsa_key(name: str = "", bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig", **more}


@asynccontextmanager
async def trusted(daemon: Daemon, **options: Any) -> AsyncIterator[None]:
    """Let a daemon, from its next start on, take a provider's word for who people are and what they may do."""
    identity = Oidc(defaults.oidc(**options), daemon.clock)
    words = {role: f"reconciler-{role.name.lower()}" for role in Role}
    sources = {words[Role.PRODUCER]: ("//erp/*",), "plm-operator": ("//plm/*", "//plm")}
    operators = [words[Role.OPERATOR], "plm-operator"]
    daemon.provider = Provider(identity, [words[Role.VIEWER]], operators, [words[Role.ADMIN]], sources)
    yield
    await identity.close()


@attrs.define
class Issuer:
    """What it does is as set; `asked` counts what was asked of it."""

    clock: VirtualClock
    url: str = ""
    discovery: dict[str, Any] = attrs.field(factory=dict)  # over what is right
    keys: list[dict[str, Any]] = attrs.field(factory=list)
    answers: dict[str, Response | float] = attrs.field(factory=dict)  # path → instead of what is right, or seconds
    asked: dict[str, int] = attrs.field(factory=dict)
    person: dict[str, Any] = attrs.field(factory=lambda: {"preferred_username": "jdoe", "roles": ["reconciler-viewer"]})
    id_token: dict[str, Any] = attrs.field(factory=dict)  # over what is right
    public_client: bool = False
    asks: bool = False  # shows a page, on which someone says that it is they
    codes: dict[str, dict[str, str]] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.keys = [public(rsa_key(), "r1"), public(ec_key(), "e1", alg="ES256")]

    def claims(self, **over: Any) -> dict[str, Any]:
        now_s = self.clock.now_us() // 1_000_000
        plain = {"iss": self.url, "aud": AUDIENCE, "sub": "8f1c", "iat": now_s, "exp": now_s + 300}
        said = plain | {"preferred_username": "jdoe", "roles": ["reconciler-operator"]} | over
        return {name: value for name, value in said.items() if value is not ...}

    def token(
        self, *, key: Any = None, algorithm: str = "RS256", header: dict[str, Any] | None = None, **over: Any
    ) -> str:
        key = key or (ec_key() if algorithm.startswith("ES") else rsa_key())
        kid = "e1" if algorithm.startswith("ES") else "r1"
        named = {"kid": kid, **(header or {})}
        named = {name: value for name, value in named.items() if value is not ...}
        return jwt.encode(self.claims(**over), key, algorithm, named)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Issuer]:
        listening = server.AdminServer(server.listen("127.0.0.1:0"))
        self.url = listening.address
        routes = {
            "/.well-known/openid-configuration": self._discovery,
            "/jwks": self._jwks,
            "/authorize": self._authorize,
            "/token": self._token,
        }
        app = Starlette(
            routes=[Route(path, self._or_else(path, right), methods=["GET", "POST"]) for path, right in routes.items()]
        )
        task = asyncio.create_task(listening.serve(app))
        try:
            yield self
        finally:
            listening.stop()
            await asyncio.wait_for(task, HANG_S)

    def _or_else(self, path: str, right: Any) -> Any:
        async def answer(request: Request) -> Response:
            self.asked[path] = self.asked.get(path, 0) + 1
            instead = self.answers.get(path)
            if isinstance(instead, Response):
                return instead
            if instead is not None:
                await asyncio.sleep(instead)
            found: Response = await right(request)
            return found

        return answer

    async def _discovery(self, _: Request) -> Response:
        said = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks",
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
        }
        return JSONResponse(said | self.discovery)

    async def _jwks(self, _: Request) -> Response:
        return JSONResponse({"keys": self.keys})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe()
        self.codes[code] = asked
        answer = {"code": code, "state": asked["state"], "iss": self.url, "session_state": "x"}
        back = f"{asked['redirect_uri']}?{urlencode(answer)}"
        if self.asks:
            head = '<!doctype html><title>Provider</title><link rel="icon" href="data:,">'
            return HTMLResponse(f'{head}<a href="{html.escape(back)}">It is me</a>')
        return RedirectResponse(back, 302)

    async def _token(self, request: Request) -> Response:
        given = dict(parse_qsl((await request.body()).decode()))
        asked = self.codes.pop(str(given["code"]), None)
        digest = hashlib.sha256(str(given["code_verifier"]).encode()).digest()
        proves = asked is not None and base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == asked["code_challenge"]
        if (
            asked is None
            or not proves
            or given["redirect_uri"] != asked["redirect_uri"]
            or not self._knows(request, given)
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        over = {"aud": CLIENT, "nonce": asked["nonce"], "roles": ..., **self.person, **self.id_token}
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": self.token(**over)})

    def _knows(self, request: Request, given: dict[str, Any]) -> bool:
        if self.public_client:
            return given.get("client_id") == CLIENT and "authorization" not in request.headers
        if self.discovery.get("token_endpoint_auth_methods_supported") == ["client_secret_post"]:
            return (given.get("client_id"), given.get("client_secret")) == (CLIENT, CLIENT_SECRET)
        both = base64.b64encode(f"{CLIENT}:s3cret%3Awith%2Fodd+chars".encode()).decode()
        return request.headers.get("authorization") == f"Basic {both}"
