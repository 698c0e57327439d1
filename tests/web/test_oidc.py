"""JWTs of an identity provider on the API: which are accepted, and how a misbehaving provider is handled."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from httpx import AsyncClient
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from structlog.testing import capture_logs

from reconciler.adapters import jwts, oidc
from reconciler.adapters.oidc import OidcOptions
from reconciler.web import tokens
from reconciler.web.principal import Principal, Role
from tests import defaults
from tests.flows.world import TOPIC
from tests.web import issuer
from tests.web.conftest import Daemon
from tests.web.issuer import AUDIENCE, Issuer, ec_key, public, rsa_key, trusted
from tests.web.keys import LINES, ROUTE_NAMES, ROUTES, TOKENS, asked, may, shown

STATUS = "/api/v1/status"
WELL_KNOWN = "/.well-known/openid-configuration"
WORDS = {role: f"reconciler-{role.name.lower()}" for role in Role}


@pytest.fixture
async def idp(daemon: Daemon) -> AsyncIterator[Issuer]:
    async with Issuer(daemon.clock).served() as served, trusted(daemon, issuer=served.url, audience=AUDIENCE):
        yield served


@pytest.fixture
async def client(daemon: Daemon, idp: Issuer) -> Any:
    async with daemon.served() as client:
        yield client


async def answer(client: AsyncClient, token: str) -> httpx.Response:
    return await client.get(STATUS, headers=shown(token))


async def is_refused(client: AsyncClient, token: str, says: str) -> None:
    reply = await answer(client, token)
    assert (reply.status_code, says in reply.json()["detail"]) == (401, True), reply.text
    assert 'error="invalid_token"' in reply.headers["www-authenticate"]
    assert token not in reply.text


# ---------------------------------------------------------------------------------------------------------- every route


@pytest.mark.parametrize(("method", "path", "needed"), ROUTES, ids=ROUTE_NAMES)
async def test_a_token_of_the_provider_gives_the_access_of_its_role(
    client: AsyncClient, idp: Issuer, method: str, path: str, needed: Role | None
) -> None:
    for role in Role:
        reply = await asked(client, method, path, headers=shown(idp.token(roles=["other", WORDS[role]])))
        if needed is not None and not may(role, path, needed):
            assert reply.status_code == 403
            assert f"needs the role {needed.name.lower()}" in reply.text
        else:
            assert reply.status_code not in (401, 403, 421, 500), reply.text
    for token in (idp.token(key=rsa_key("stranger")), idp.token(roles=[])):
        reply = await asked(client, method, path, headers=shown(token))
        if needed is not None:
            assert reply.status_code in (401, 403) or reply.headers["location"].startswith("/signin")


async def test_tokens_of_the_file_and_of_the_provider_go_together(daemon: Daemon, idp: Issuer) -> None:
    daemon.tokens = LINES
    async with daemon.served() as client:
        assert (await answer(client, TOKENS[Role.VIEWER])).status_code == 200
        assert (await answer(client, idp.token())).status_code == 200
        assert (await client.get(STATUS)).status_code == 401


async def test_with_only_a_provider_everyone_must_sign_in(client: AsyncClient) -> None:
    assert (await client.get(STATUS)).status_code == 401
    assert (await answer(client, "rec_x")).status_code == 401


# --------------------------------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_the_token_names_the_operator(client: AsyncClient, daemon: Daemon, idp: Issuer, algorithm: str) -> None:
    event = daemon.world.event({"title": "x"})
    headers = shown(idp.token(algorithm=algorithm)) | {"content-type": "application/cloudevents+json"}
    reply = await client.post("/api/v1/events", json=event, headers=headers)
    assert reply.status_code == 202, reply.text
    (record,) = daemon.world.broker.records(TOPIC)
    assert json.loads(record.value or b"")["actor"] == "jdoe"


async def test_actions_tell_provider_and_file_tokens_of_the_same_name_apart(daemon: Daemon, idp: Issuer) -> None:
    daemon.tokens = tokens.line(Principal("jdoe", Role.OPERATOR), "rec_jdoe")
    await daemon.world.emit({"title": "x"}, key="d")
    async with daemon.served() as client:
        for token in ("rec_jdoe", idp.token()):
            assert (await client.post("/api/v1/documents/d/pause", json={}, headers=shown(token))).status_code == 200
            assert (await client.get("/api/v1/documents/d", headers=shown(token))).json()["paused"]["who"] == "jdoe"
            assert (await client.post("/api/v1/documents/d/resume", json={}, headers=shown(token))).status_code == 200
        found = (await client.get("/api/v1/acts", headers=shown("rec_jdoe"))).json()["items"]
    assert [(action["who"], action["issuer"]) for action in found] == [("jdoe", idp.url)] * 2 + [("jdoe", None)] * 2


@pytest.mark.parametrize(
    ("words", "takes", "refuses"),
    [
        ([Role.PRODUCER], ["//erp/prod"], ["//plm/x", "//erp", "erp/prod", "//ERP/prod", "//reconciler/operators"]),
        ([Role.PRODUCER, Role.VIEWER], ["//erp/prod"], ["//plm/x", "//reconciler/emit"]),
        ([Role.OPERATOR], ["//erp/prod", "urn:x"], ["//reconciler/operators", "//Reconciler/operators"]),
        (["plm-operator"], ["//plm/x", "//plm"], ["//erp/prod", "//reconciler/operators"]),
        (["plm-operator", Role.PRODUCER], ["//plm/x", "//erp/prod"], ["urn:x"]),
        (["plm-operator", Role.ADMIN], ["//plm/x", "//erp/prod", "urn:x"], ["//reconciler/operators"]),
    ],
)
async def test_words_of_the_provider_bind_people_to_sources(
    daemon: Daemon, idp: Issuer, words: list[Any], takes: list[str], refuses: list[str]
) -> None:
    token = idp.token(roles=["other", *(WORDS.get(word, word) for word in words)])
    headers = shown(token) | {"content-type": "application/cloudevents+json"}
    event = daemon.world.event({"title": "x"})
    async with daemon.served() as client:
        for source in takes:
            reply = await client.post("/api/v1/events", json=event | {"source": source}, headers=headers)
            assert reply.status_code == 202, (source, reply.text)
        for source in refuses:
            reply = await client.post("/api/v1/events", json=event | {"source": source}, headers=headers)
            # Ours are refused as events that this log does not take, whoever sends them.
            ours = source.lower().startswith("//reconciler/")
            assert reply.status_code in ((403, 422) if ours else (403,)), (source, reply.text)
    assert len(daemon.world.broker.records(TOPIC)) == len(takes)


def part(said: dict[str, Any] | bytes) -> str:
    """A part of a token, as tokens spell it."""
    content = said if isinstance(said, bytes) else json.dumps(said).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def unsigned(claims: dict[str, Any], alg: str = "none", **header: Any) -> str:
    return f"{part({'alg': alg, 'kid': 'r1', **header})}.{part(claims)}."


async def test_only_the_algorithms_that_are_configured_are_taken(client: AsyncClient, idp: Issuer) -> None:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = rsa_key().public_key().public_bytes(serialization.Encoding.PEM, form)
    content = unsigned(idp.claims(), "HS256").rstrip(".")
    with_public_key = f"{content}.{part(hmac.digest(pem, content.encode(), hashlib.sha256))}"
    unsigned_ones = [unsigned(idp.claims(), alg) for alg in ("none", "None", "NONE", "")]
    for token in (*unsigned_ones, with_public_key, idp.token(algorithm="RS512"), idp.token(algorithm="PS256")):
        await is_refused(client, token, "its algorithm is not among admin.oidc_algorithms")
    # `none` with no signature at all is no bearer token with a signature that could be looked at.
    assert (await answer(client, unsigned(idp.claims()))).status_code == 401


async def test_the_key_must_be_the_provider_s_and_fit_the_algorithm(client: AsyncClient, idp: Issuer) -> None:
    await is_refused(client, idp.token(key=rsa_key("stranger")), "its signature is not the provider's")
    await is_refused(
        client, idp.token(header={"kid": "e1"}), "a key that the provider does not have"
    )  # RS256 by an EC key
    for kid in (..., "", "x" * 300):
        await is_refused(client, idp.token(header={"kid": kid}), "it names no key")
    await is_refused(client, idp.token(header={"kid": "../r1"}), "a key that the provider does not have")
    stranger = public(rsa_key("stranger"), "r1")
    await is_refused(client, idp.token(key=rsa_key("stranger"), header={"jwk": stranger}), "its signature is not")
    elsewhere = {"jku": f"{idp.url}/jwks", "kid": "r9"}
    await is_refused(
        client, idp.token(key=rsa_key("stranger"), header=elsewhere), "a key that the provider does not have"
    )


async def test_a_token_with_one_letter_changed_is_refused(client: AsyncClient, idp: Issuer) -> None:
    head, body, signature = idp.token().split(".")
    forged = part(idp.claims(roles=["reconciler-admin"]))
    await is_refused(client, f"{head}.{forged}.{signature}", "its signature is not the provider's")
    await is_refused(client, f"{head}.{body}.{signature[:-2]}", "")
    for broken in ("a.b.c", f"{head}.{body}.", f"{head}..{signature}", "..", f"{'W' * 6000}.{body}.{signature}"):
        assert (await answer(client, broken)).status_code == 401
    await is_refused(client, f"{part(b'[' * 4000)}.{body}.{signature}", "it can't be read")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"iss": "https://other.example"}, "another issuer"),
    *(({"aud": aud}, "another audience") for aud in ("other", ["other", "third"])),
    *(({claim: ...}, f"does not say its {claim}") for claim in ("iss", "aud", "exp", "iat", "sub")),
    *((over, "its times can't be read") for over in ({"exp": "tomorrow"}, {"exp": True}, {"nbf": "x"})),
    *(({"preferred_username": name}, "no name that can be shown") for name in ("a\u202eb", "x" * 200, ["a"])),
    *(({"aud": []}, ""), ({"aud": 7}, ""), ({"sub": 7}, ""), ({"exp": float("nan")}, ""), ({"exp": float("inf")}, "")),
]


@pytest.mark.parametrize(("over", "says"), WRONG, ids=[str(over) for over, _ in WRONG])
async def test_the_claims_of_a_token_are_checked(
    client: AsyncClient, idp: Issuer, over: dict[str, Any], says: str
) -> None:
    await is_refused(client, idp.token(**over), says)


async def test_a_token_holds_for_its_time_and_the_leeway(client: AsyncClient, daemon: Daemon, idp: Issuer) -> None:
    now_s = daemon.clock.now_us() // 1_000_000
    leeway_s = int(jwts.LEEWAY_S)
    assert (await answer(client, idp.token(exp=now_s - leeway_s + 1))).status_code == 200
    await is_refused(client, idp.token(exp=now_s - leeway_s), "it has expired")
    for claim in ("nbf", "iat"):
        assert (await answer(client, idp.token(**{claim: now_s + leeway_s}))).status_code == 200
        await is_refused(client, idp.token(**{claim: now_s + leeway_s + 1}), "it is not valid yet")
    token = idp.token()
    await daemon.clock.advance(300 + leeway_s)
    await is_refused(client, token, "it has expired")


async def test_a_token_of_another_kind_is_refused(client: AsyncClient, idp: Issuer) -> None:
    for kind in ("JWT", "at+jwt", "application/at+JWT"):
        assert (await answer(client, idp.token(header={"typ": kind}))).status_code == 200
    kinds: list[Any] = ["logout+jwt", "dpop+jwt", "secevent+jwt", 7, ""]
    for kind in kinds:
        reply = await answer(client, unsigned(idp.claims(), "RS256", typ=kind) + "xxxx")
        assert "a token of another kind" in reply.json()["detail"]
    for header in ({"crit": ["x"], "x": 1}, {"b64": False, "crit": ["b64"]}):
        assert (await answer(client, unsigned(idp.claims(), "RS256", **header) + "xxxx")).status_code == 401


@pytest.mark.parametrize(
    ("claim", "said", "role"),
    [
        ("roles", {"roles": ["x", "reconciler-viewer", "reconciler-admin"]}, Role.ADMIN),
        ("roles", {"roles": "x reconciler-operator"}, Role.OPERATOR),
        ("realm_access.roles", {"realm_access": {"roles": ["reconciler-viewer"]}}, Role.VIEWER),
        ("https://acme.example/roles", {"https://acme.example/roles": ["reconciler-viewer"]}, Role.VIEWER),
        ("roles", {"roles": [7, None, {"x": 1}]}, None),
        ("roles", {"roles": {"reconciler-admin": True}}, None),
        ("a.b", {"a": ["reconciler-admin"]}, None),
        ("a.b", {"a": "x"}, None),
        ("roles", {"roles": ["RECONCILER-ADMIN", "reconciler-admin "]}, None),
    ],
)
async def test_the_provider_s_words_become_roles(
    daemon: Daemon, idp: Issuer, claim: str, said: dict[str, Any], role: Role | None
) -> None:
    token = idp.token(**({"roles": ...} | said))
    async with trusted(daemon, issuer=idp.url, audience=AUDIENCE, roles_claim=claim), daemon.served() as client:
        reply = await answer(client, token)
        assert reply.status_code == (403 if role is None else 200)
        actions = await client.post("/api/v1/events", headers=shown(token))
        assert actions.status_code == (415 if role in (Role.OPERATOR, Role.ADMIN) else 403)


async def test_without_a_name_the_subject_is_the_name(client: AsyncClient, daemon: Daemon, idp: Issuer) -> None:
    token = idp.token(preferred_username=..., roles=["reconciler-viewer"])
    reply = await client.post("/api/v1/events", headers=shown(token))
    assert "8f1c has viewer" in reply.json()["detail"]


async def test_without_an_audience_programs_show_no_such_tokens(daemon: Daemon, idp: Issuer) -> None:
    async with trusted(daemon, issuer=idp.url), daemon.served() as client:
        await is_refused(client, idp.token(), "admin.oidc_audience is not set")
        await is_refused(client, idp.token(aud=""), "admin.oidc_audience is not set")


# ----------------------------------------------------------------------------------------------------------------- keys


async def test_keys_are_read_once_and_again_for_a_new_one(client: AsyncClient, daemon: Daemon, idp: Issuer) -> None:
    replies = await asyncio.gather(*(answer(client, idp.token()) for _ in range(20)))
    assert {reply.status_code for reply in replies} == {200}
    assert idp.asked == {WELL_KNOWN: 1, "/jwks": 1}
    idp.keys = [public(rsa_key("new"), "r2")]
    new = idp.token(key=rsa_key("new"), header={"kid": "r2"})
    await is_refused(client, new, "a key that the provider does not have")  # it was asked a moment ago
    await daemon.clock.advance(oidc.REFRESH_S)
    replies = await asyncio.gather(*(answer(client, new) for _ in range(20)))
    assert {reply.status_code for reply in replies} == {200}
    assert idp.asked["/jwks"] == 2
    await is_refused(client, idp.token(), "a key that the provider does not have")  # which has withdrawn it


async def test_strangers_can_not_have_the_provider_asked_all_the_time(
    client: AsyncClient, daemon: Daemon, idp: Issuer
) -> None:
    for number in range(50):
        assert (await answer(client, idp.token(header={"kid": f"k{number}"}))).status_code == 401
        await daemon.clock.advance(2)
    assert idp.asked["/jwks"] <= 1 + 100 // oidc.REFRESH_S


async def test_a_withdrawn_key_is_forgotten_within_the_hour(client: AsyncClient, daemon: Daemon, idp: Issuer) -> None:
    assert (await answer(client, idp.token())).status_code == 200
    idp.keys = [public(rsa_key("new"), "r2")]
    await daemon.clock.advance(oidc.KEEP_S)
    await is_refused(client, idp.token(), "a key that the provider does not have")


async def test_while_the_provider_is_away_its_keys_stay(client: AsyncClient, daemon: Daemon, idp: Issuer) -> None:
    assert (await answer(client, idp.token())).status_code == 200
    idp.answers = {WELL_KNOWN: Response(status_code=500), "/jwks": Response(status_code=500)}
    await daemon.clock.advance(10 * oidc.KEEP_S)
    assert (await answer(client, idp.token())).status_code == 200
    idp.answers.clear()
    await daemon.clock.advance(oidc.REFRESH_S)
    assert (await answer(client, idp.token())).status_code == 200
    assert idp.asked["/jwks"] == 2


HOSTILE: dict[str, tuple[Any, Any]] = {
    "html": ("/jwks", HTMLResponse("<title>Sign in</title>")),
    "html discovery": (WELL_KNOWN, HTMLResponse("<title>Sign in</title>")),
    "huge": ("/jwks", Response(b'{"keys":[' + b" " * oidc.BODY_BYTES_MAX + b"]}")),
    "huge discovery": (WELL_KNOWN, Response(b"{" + b" " * oidc.BODY_BYTES_MAX + b"}")),
    "redirect": ("/jwks", RedirectResponse("/elsewhere")),
    "redirected discovery": (WELL_KNOWN, RedirectResponse("/elsewhere")),
    "no keys": ("/jwks", JSONResponse({"keys": []})),
    "keys of a wrong type": ("/jwks", JSONResponse({"keys": {"r1": 1}})),
    "no object": ("/jwks", JSONResponse([1])),
    "deep": ("/jwks", Response(b'{"keys":' * 20_000)),
    "broken keys": (
        "/jwks",
        JSONResponse({"keys": [None, 7, {}, {"kid": 1}, {"kid": "r1", "kty": "RSA", "n": "!", "e": 1}]}),
    ),
    "shared secret": ("/jwks", JSONResponse({"keys": [{"kid": "r1", "kty": "oct", "k": "AAAA"}]})),
    "short key": ("/jwks", JSONResponse({"keys": [public(rsa_key("short", 1024), "r1")]})),
    "for encryption": ("/jwks", JSONResponse({"keys": [public(rsa_key(), "r1", use="enc")]})),
    "error": ("/jwks", Response(status_code=503)),
    "slow": ("/jwks", 1000.0),
    "another issuer": ({"issuer": "https://other.example"}, None),
    "a slash more": ({"issuer": "{url}/"}, None),
    "no issuer": ({"issuer": None}, None),
    "keys elsewhere": ({"jwks_uri": "http://127.0.0.1:1/jwks"}, None),
    "keys in a file": ({"jwks_uri": "file:///etc/passwd"}, None),
    "keys nowhere": ({"jwks_uri": 7}, None),
    "keys of a bad address": ({"jwks_uri": "https://[x"}, None),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_misbehaving_provider_gives_no_access_and_is_logged(
    daemon: Daemon, idp: Issuer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    what, instead = HOSTILE[name]
    if isinstance(what, dict):
        idp.discovery = {key: text.format(url=idp.url) if isinstance(text, str) else text for key, text in what.items()}
    else:
        idp.answers[what] = instead
    monkeypatch.setattr(oidc, "TIMEOUT_S", 0.3)
    async with trusted(daemon, issuer=idp.url, audience=AUDIENCE), daemon.served() as client:
        with capture_logs() as logs:
            reply = await answer(client, idp.token())
        assert reply.status_code == 503
        assert reply.headers["retry-after"] == "5"
        assert [line["event"] for line in logs if "identity" in line["event"]] == [
            "the identity provider can't be asked"
        ]
        asked_then = dict(idp.asked)
        assert (await answer(client, idp.token())).status_code == 503  # and it is not asked again at once
        assert idp.asked == asked_then
        idp.discovery, idp.answers = {}, {}
        await daemon.clock.advance(oidc.RETRY_S)
        assert (await answer(client, idp.token())).status_code == 200


async def test_an_unreachable_provider_gives_no_access(daemon: Daemon) -> None:
    nowhere = "http://127.0.0.1:1"
    token = Issuer(daemon.clock, nowhere).token()
    async with trusted(daemon, issuer=nowhere, audience=AUDIENCE), daemon.served() as client:
        assert (await answer(client, token)).status_code == 503
        assert (await client.get("/livez")).status_code == 200


async def test_one_key_that_can_not_be_used_takes_none_of_the_others_away(client: AsyncClient, idp: Issuer) -> None:
    idp.keys = [{"kid": "x", "kty": "RSA"}, {"kty": "EC"}, *idp.keys, public(ec_key(), "r1")]
    assert (await answer(client, idp.token())).status_code == 200


def test_nothing_that_is_shown_of_the_options_holds_the_secret() -> None:
    assert "canary" not in repr(defaults.oidc(issuer="https://x", client_secret="canary"))
    assert attrs.fields(OidcOptions).client_secret.repr is False
    assert issuer.CLIENT_SECRET
