"""Signing in with an identity provider, from our page and back, on real sockets."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from starlette.responses import JSONResponse, Response
from structlog.testing import capture_logs

from reconciler.web import provider_signin
from reconciler.web.sessions import Browsing, Seal
from tests.web.conftest import Daemon
from tests.web.issuer import CLIENT, CLIENT_SECRET, SIGN_IN, Issuer, rsa_key, trusted
from tests.web.keys import COOKIE, LINES, csrf_in

STATUS = "/api/v1/status"
OUTSIDE = "http://reconciler.test"
KEY = "k" * 32


@pytest.fixture
async def idp(daemon: Daemon) -> AsyncIterator[Issuer]:
    daemon.browsing = Browsing(external_url=OUTSIDE, key=KEY)
    async with Issuer(daemon.clock).served() as served, trusted(daemon, issuer=served.url, **SIGN_IN):
        yield served


@pytest.fixture
async def client(daemon: Daemon, idp: Issuer) -> Any:
    async with daemon.served() as client:
        yield client


async def left(client: httpx.AsyncClient, wanted: str = "/") -> str:
    """Leave for the provider; returns what it sends the browser back to."""
    reply = await client.get("/signin/provider", params={"next": wanted})
    assert reply.status_code == 303, reply.text
    async with httpx.AsyncClient() as elsewhere:
        there = await elsewhere.get(reply.headers["location"])
    assert there.status_code == 302, there.text
    back: str = there.headers["location"]
    assert back.startswith(f"{OUTSIDE}/signin/callback?")
    return back.removeprefix(OUTSIDE)


async def is_not_signed_in(client: httpx.AsyncClient, reply: httpx.Response, status: int, says: str) -> None:
    assert (reply.status_code, reply.headers["content-type"]) == (status, "text/html; charset=utf-8"), reply.text
    assert says in reply.text.replace("&#39;", "'"), reply.text
    assert f"{COOKIE}=v1" not in str(reply.headers)
    assert (await client.get(STATUS)).status_code == 401


async def test_one_signs_in_with_the_provider_and_comes_back_to_where_one_wanted_to_go(
    client: httpx.AsyncClient, idp: Issuer
) -> None:
    page = await client.get("/signin?next=/%3Fwindow%3D6")
    assert 'href="/signin/provider?next=/%3Fwindow%3D6"' in page.text
    assert 'name="token"' not in page.text  # there is no file of them
    reply = await client.get(await left(client, "/?window=6"))
    assert (reply.status_code, reply.headers["refresh"]) == (200, "0; url=/?window=6")
    assert (await client.get(STATUS)).status_code == 200
    page = await client.get("/")
    assert "jdoe" in page.text
    assert (await client.post("/api/v1/events", headers={"x-csrf-token": csrf_in(page)})).status_code == 403
    reply = await client.post("/signout", data={"csrf": csrf_in(page)})
    assert reply.headers["location"] == "/signin"
    assert (await client.get(STATUS)).status_code == 401


async def test_the_provider_gets_no_secret_but_what_it_needs(client: httpx.AsyncClient, idp: Issuer) -> None:
    reply = await client.get("/signin/provider")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(reply.headers["location"]).query).items()}
    assert asked["redirect_uri"] == f"{OUTSIDE}/signin/callback"
    assert (asked["scope"], asked["code_challenge_method"]) == ("openid profile", "S256")
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) == 43
    assert len({asked[name] for name in ("state", "nonce", "code_challenge")}) == 3
    name, _, rest = reply.headers["set-cookie"].partition("=")
    assert name == "reconciler_signin"
    assert rest.partition(";")[2] == " Path=/; Max-Age=600; HttpOnly; SameSite=Lax"
    again = await client.get("/signin/provider")
    assert parse_qs(urlsplit(again.headers["location"]).query)["state"] != [asked["state"]]


@pytest.mark.parametrize("manner", ["basic", "body", "public"])
async def test_the_client_authenticates_as_the_provider_requires(daemon: Daemon, idp: Issuer, manner: str) -> None:
    idp.public_client = manner == "public"
    if manner == "body":
        idp.discovery["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    options = SIGN_IN | ({"client_secret": ""} if manner == "public" else {})
    async with trusted(daemon, issuer=idp.url, **options), daemon.served() as client:
        assert (await client.get(await left(client))).status_code == 200
        assert (await client.get(STATUS)).status_code == 200


async def test_with_https_outside_no_cookie_goes_without(daemon: Daemon, idp: Issuer) -> None:
    daemon.browsing = Browsing(external_url="https://reconciler.test", key=KEY)
    async with daemon.served() as client:
        reply = await client.get("/signin/provider")
        assert reply.headers["set-cookie"].startswith("__Host-reconciler_signin=v1.")
        assert reply.headers["set-cookie"].endswith("; Secure")


async def test_tokens_go_beside_it(daemon: Daemon, idp: Issuer) -> None:
    daemon.tokens = LINES
    async with daemon.served() as client:
        page = await client.get("/signin")
        assert ('name="token"' in page.text, 'href="/signin/provider"' in page.text) == (True, True)


# -------------------------------------------------------------------------------------------------------------- refused


async def test_another_browser_than_the_one_that_left_is_not_signed_in(
    client: httpx.AsyncClient, daemon: Daemon, idp: Issuer
) -> None:
    """Else someone could sign others in as themselves, and look at what they do."""
    back = await left(client)
    async with httpx.AsyncClient(base_url=client.base_url) as another:
        await is_not_signed_in(another, await another.get(back), 401, "began in another browser")
        await another.get("/signin/provider")
        await is_not_signed_in(another, await another.get(back), 401, "belongs to another sign-in")
    assert idp.asked.get("/token") is None


async def test_a_mismatched_answer_does_not_sign_in(client: httpx.AsyncClient, idp: Issuer) -> None:
    def changed(back: str, **over: str | None) -> str:
        said = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}
        return "/signin/callback?" + urlencode({n: v for n, v in (said | over).items() if v is not None})

    cases = [
        *(({"state": state}, "belongs to another sign-in") for state in ("x", None)),
        ({"iss": "https://other.example"}, "came from another identity provider"),
        *(({"code": code}, "(no code)") for code in (None, "x" * 5000)),
        ({"code": "x"}, "gave no ID token (status 400)"),
        ({"error": "access_denied"}, "(access_denied)"),
        ({"error": "<script>"}, "(no code)"),
    ]
    for over, says in cases:
        reply = await client.get(changed(await left(client), **over))
        await is_not_signed_in(client, reply, 401, says)
        assert "<script>" not in reply.text.replace("<script src", "")
        assert "reconciler_signin=; Path=/; Max-Age=0" in str(reply.headers)


async def test_a_code_is_of_use_once(client: httpx.AsyncClient, idp: Issuer) -> None:
    back = await left(client)
    kept = dict(client.cookies)
    assert (await client.get(back)).status_code == 200
    client.cookies.clear()
    client.cookies.update(kept)
    assert "gave no ID token" in (await client.get(back)).text


@pytest.mark.parametrize(
    ("over", "says"),
    [
        *(({"nonce": nonce}, "another sign-in") for nonce in ("x", ..., 7)),
        ({"aud": "reconciler-api"}, "another audience"),
        ({"aud": [CLIENT, "x"], "azp": "x"}, "another audience"),
        ({"iss": "https://other.example"}, "another issuer"),
        ({"exp": 1}, "it has expired"),
        ({"iat": 9e12}, "not valid yet"),
        pytest.param({"key": rsa_key("stranger")}, "its signature is not the provider's", id="a stranger's key"),
        ({"header": {"kid": "other"}}, "a key that the provider does not have"),
        ({"header": {"typ": "at+jwt"}}, "of another kind"),
        ({"algorithm": "RS384"}, "its algorithm is not among"),
        ({"preferred_username": "a\nb"}, "no name that can be shown"),
    ],
    ids=str,
)
async def test_an_invalid_id_token_does_not_sign_in(
    client: httpx.AsyncClient, idp: Issuer, over: dict[str, Any], says: str
) -> None:
    idp.id_token = over
    with capture_logs() as logs:
        reply = await client.get(await left(client))
    await is_not_signed_in(client, reply, 401, says)
    (line,) = [line for line in logs if line["event"] == "a sign-in was refused"]
    assert says in line["reason"]
    assert CLIENT_SECRET not in str(logs)


async def test_a_person_without_a_role_is_refused_by_name(client: httpx.AsyncClient, idp: Issuer) -> None:
    idp.person = {"preferred_username": "jdoe", "roles": ["other"]}
    await is_not_signed_in(client, await client.get(await left(client)), 403, "doe has no role here")


@pytest.mark.parametrize(
    "answer", [JSONResponse({}, 500), Response(status_code=302), JSONResponse({"x": "y" * 400_000})]
)
async def test_a_provider_that_is_away_says_so_on_the_page(
    client: httpx.AsyncClient, idp: Issuer, answer: Response
) -> None:
    back = await left(client)
    idp.answers["/token"] = answer
    await is_not_signed_in(client, await client.get(back), 503, "the identity provider is unreachable")


@pytest.mark.parametrize("endpoint", ["authorization_endpoint", "token_endpoint"])
@pytest.mark.parametrize("address", [None, "http://elsewhere.example/", "javascript:alert(1)", "https://u:p@x/", 7])
async def test_forbidden_addresses_are_not_redirect_targets(
    client: httpx.AsyncClient, idp: Issuer, endpoint: str, address: Any
) -> None:
    idp.discovery[endpoint] = address
    assert (await client.get("/signin/provider")).status_code == 503


async def test_a_sign_in_takes_ten_minutes_at_most(client: httpx.AsyncClient, daemon: Daemon, idp: Issuer) -> None:
    back = await left(client)
    kept = dict(client.cookies)
    await daemon.clock.advance(provider_signin.LASTS_S)
    client.cookies.update(kept)
    await is_not_signed_in(client, await client.get(back), 401, "took too long")


async def test_a_cookie_that_is_not_ours_begins_nothing(client: httpx.AsyncClient, idp: Issuer) -> None:
    back = await left(client)
    good = client.cookies["reconciler_signin"]
    client.cookies.clear()
    seal = Seal(KEY.encode(), "signin")
    for text in ("", "x", good[:-1] + "_", f"{good}; reconciler_signin={good}", seal.seal(b"[1]"), seal.seal(b"\xff")):
        reply = await client.get(back, headers={"cookie": f"reconciler_signin={text}"})
        await is_not_signed_in(client, reply, 401, "began in another browser")


async def test_a_session_of_the_provider_ends_with_the_provider(
    client: httpx.AsyncClient, daemon: Daemon, idp: Issuer
) -> None:
    await client.get(await left(client))
    cookie = f"{COOKIE}={client.cookies[COOKIE]}"
    daemon.provider, daemon.tokens = None, LINES
    async with daemon.served() as other:
        assert (await other.get(STATUS, headers={"cookie": cookie})).status_code == 401


@pytest.mark.parametrize("path", ["/signin/provider", "/signin/callback?code=x&state=y"])
async def test_without_a_provider_its_sign_in_is_not_found(daemon: Daemon, path: str) -> None:
    for daemon.tokens in (None, LINES):
        async with daemon.served() as client:
            assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("wanted", ["https://evil.example", "//evil.example", "/\\evil.example", "/signin/callback"])
async def test_signing_in_leads_nowhere_else(client: httpx.AsyncClient, idp: Issuer, wanted: str) -> None:
    assert (await client.get(await left(client, wanted))).headers["refresh"] == "0; url=/"
