"""Sessions: signing in, staying signed in, every way to end, and sealed cookies."""

import base64
import re
import string

import pytest
from httpx import AsyncClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from structlog.testing import capture_logs

from reconciler.web import access, sessions, tokens
from reconciler.web.principal import Principal, Role
from reconciler.web.sessions import Browsing, Seal, Sessions
from tests.web.conftest import Daemon
from tests.web.keys import COOKIE, FOLLOWED, LINES, TOKENS, csrf_in, shown, signed_in

KEY = "k" * 32
STATUS = "/api/v1/status"


@pytest.fixture
def daemon(daemon: Daemon) -> Daemon:
    daemon.tokens = LINES
    daemon.browsing = Browsing(key=KEY)
    return daemon


async def status(client: AsyncClient) -> int:
    return (await client.get(STATUS)).status_code


def cookie_of(client: AsyncClient) -> str:
    (text,) = [cookie.value for cookie in client.cookies.jar if cookie.name == COOKIE]
    assert text is not None
    return text


async def status_with(client: AsyncClient, text: str) -> int:
    client.cookies.clear()
    return (await client.get(STATUS, headers={"cookie": f"{COOKIE}={text}"})).status_code


# ----------------------------------------------------------------------------------------------------------- signing in


async def test_the_page_to_sign_in_has_a_field_for_the_token_and_nothing_of_a_session(client: AsyncClient) -> None:
    reply = await client.get("/signin?next=/documents%3Fstatus=held")
    assert reply.status_code == 200
    assert '<input type="hidden" name="next" value="/documents?status=held">' in reply.text
    assert re.search(r'<input [^>]*name="token" type="password"', reply.text)
    assert "set-cookie" not in reply.headers
    assert 'action="/signout"' not in reply.text


async def test_signing_in_leads_to_where_one_wanted_to_go(client: AsyncClient) -> None:
    away = await client.get("/?window=6")
    assert (away.status_code, away.headers["location"]) == (303, "/signin?next=/%3Fwindow%3D6")
    page = await client.get(away.headers["location"])
    found = re.search(r'name="next" value="([^"]*)"', page.text)
    assert found is not None
    reply = await client.post("/signin", data={"token": f" {TOKENS[Role.VIEWER]}\n", "next": found[1]})
    assert (reply.status_code, reply.headers["location"]) == (303, "/?window=6")
    assert (await client.get("/signin?next=/documents")).headers["location"] == "/documents"  # one is signed in already


async def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(client: AsyncClient) -> None:
    reply = await client.post("/signin", data={"token": TOKENS[Role.VIEWER]})
    name, _, rest = reply.headers["set-cookie"].partition("=")
    assert name == COOKIE
    assert rest.partition(";")[2] == " Path=/; Max-Age=28800; HttpOnly; SameSite=Strict"


async def test_with_https_outside_the_cookie_never_goes_without(daemon: Daemon) -> None:
    daemon.browsing = Browsing(external_url="https://reconciler.example.com", key=KEY)
    async with daemon.served() as client:
        reply = await client.post("/signin", data={"token": TOKENS[Role.VIEWER]})
        set_cookie = reply.headers["set-cookie"]
        assert set_cookie.startswith(f"__Host-{COOKIE}=v1.")
        assert set_cookie.endswith("; Path=/; Max-Age=28800; HttpOnly; SameSite=Strict; Secure")
        pair = set_cookie.partition(";")[0]
        assert (await client.get(STATUS, headers={"cookie": pair})).status_code == 200
        # Without the prefix anyone on plain http could have set it.
        assert (await client.get(STATUS, headers={"cookie": pair.removeprefix("__Host-")})).status_code == 401


@pytest.mark.parametrize(
    "elsewhere",
    [
        *("https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example"),
        *(
            "/\n/evil.example",
            "javascript:alert(1)",
            "evil",
            "",
            "/signin?next=/",
            "/signout",
            "/" + "x" * 3000,
            "/\xfc",
        ),
    ],
)
async def test_signing_in_leads_nowhere_else(client: AsyncClient, elsewhere: str) -> None:
    page = await client.get("/signin", params={"next": elsewhere})
    assert 'name="next" value="/"' in page.text
    reply = await client.post("/signin", data={"token": TOKENS[Role.VIEWER], "next": elsewhere})
    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    assert (await client.get("/signin", params={"next": elsewhere})).headers["location"] == "/"


async def test_from_another_site_the_page_comes_by_a_step_of_our_own(client: AsyncClient) -> None:
    """A browser keeps the cookie back where another site leads to us: the second request begins at our page."""
    await signed_in(client, Role.VIEWER)
    cookies = dict(client.cookies)
    client.cookies.clear()
    away = await client.get("/?window=6", headers=FOLLOWED)
    step = await client.get(away.headers["location"], headers=FOLLOWED)
    assert step.status_code == 200
    seconds, _, url = step.headers["refresh"].partition("; url=")
    assert (seconds, url) == ("0", away.headers["location"])
    client.cookies.update(cookies)
    there = await client.get(url, headers={"sec-fetch-site": "same-origin"})
    assert (there.status_code, there.headers["location"]) == (303, "/?window=6")


async def test_a_wrong_token_does_not_sign_in_and_is_not_logged(client: AsyncClient) -> None:
    with capture_logs() as logs:
        reply = await client.post("/signin", data={"token": "rec_canary", "next": "/?a=<b>"})
    assert (reply.status_code, "set-cookie" in reply.headers) == (401, False)
    assert "Unknown token." in reply.text
    assert 'value="/?a=&lt;b&gt;"' in reply.text
    assert [line for line in logs if line["event"] == "a sign-in was refused"]
    assert "canary" not in reply.text + str(logs)
    with capture_logs() as logs:
        await client.post("/signin", data={"token": TOKENS[Role.ADMIN]})
    (line,) = [line for line in logs if line["event"] == "signed in"]
    assert (line["who"], line["role"], line["by"]) == ("admin.jones", "admin", "token")
    assert TOKENS[Role.ADMIN] not in str(logs)


async def test_too_many_wrong_tokens_are_slowed_down_but_a_right_one_is_taken(
    client: AsyncClient, daemon: Daemon
) -> None:
    with capture_logs() as logs:
        for _ in range(access.FAILURES_MAX):
            assert (await client.post("/signin", data={"token": "wrong"})).status_code == 401
        late = [await client.post("/signin", data={"token": "wrong"}) for _ in range(5)]
    assert {(reply.status_code, reply.headers["retry-after"]) for reply in late} == {(429, "6")}
    assert len([line for line in logs if line["event"] == "a sign-in was refused"]) == access.FAILURES_MAX
    await signed_in(client, Role.VIEWER)  # or strangers could lock everyone out
    await daemon.clock.advance(access.FAILURE_S)
    assert (await client.post("/signin", data={"token": "wrong"})).status_code == 401


async def test_without_required_sign_in_the_sign_in_page_redirects(daemon: Daemon) -> None:
    daemon.tokens = None
    async with daemon.served() as client:
        assert (await client.get("/signin?next=/documents")).headers["location"] == "/documents"
        reply = await client.post("/signin", data={"token": "x", "next": "/documents"})
        assert (reply.headers["location"], "set-cookie" in reply.headers) == ("/documents", False)
        assert 'action="/signout"' not in (await client.get("/")).text


# --------------------------------------------------------------------------------------------------------------- ending


async def test_signing_out_ends_the_session_wherever_its_cookie_is(client: AsyncClient) -> None:
    csrf = await signed_in(client, Role.VIEWER)
    kept = cookie_of(client)
    assert 'action="/signout"' in (await client.get("/")).text
    reply = await client.post("/signout", data={"csrf": csrf})
    assert (reply.status_code, reply.headers["location"]) == (303, "/signin")
    assert reply.headers["set-cookie"].startswith(f"{COOKIE}=; Path=/; Max-Age=0;")
    assert await status(client) == 401
    assert await status_with(client, kept) == 401


async def test_a_session_ends_when_its_time_is_over_whatever_is_done_meanwhile(
    client: AsyncClient, daemon: Daemon
) -> None:
    await signed_in(client, Role.VIEWER)
    for _ in range(8):
        assert await status(client) == 200
        await daemon.clock.advance(3599)
    await daemon.clock.advance(8)
    assert await status_with(client, cookie_of(client)) == 401


async def test_a_session_ends_when_its_token_is_taken_out(client: AsyncClient, daemon: Daemon) -> None:
    await signed_in(client, Role.ADMIN)
    daemon.tokens = LINES.replace("\nadmin", "\n# admin")
    assert await status(client) == 401
    assert (await client.get("/")).headers["location"] == "/signin"


async def test_a_session_ends_when_its_token_is_another_s_or_may_do_less(client: AsyncClient, daemon: Daemon) -> None:
    await signed_in(client, Role.OPERATOR)
    for name, role, expected in (
        ("operator.jones", Role.VIEWER, 401),
        ("rival", Role.OPERATOR, 401),
        ("operator.jones", Role.ADMIN, 200),
    ):
        daemon.tokens = tokens.line(Principal(name, role), TOKENS[Role.OPERATOR])
        assert await status(client) == expected, (name, role)
    reply = await client.post("/api/v1/events", headers={"x-csrf-token": csrf_in(await client.get("/"))})
    assert reply.status_code == 415  # its role has not grown by itself, but an operator may do that


async def test_a_session_ends_when_its_token_is_bound_to_other_sources(client: AsyncClient, daemon: Daemon) -> None:
    bound = Principal("operator.jones", Role.OPERATOR, sources=("//erp/*",))
    daemon.tokens = tokens.line(bound, TOKENS[Role.OPERATOR])
    csrf = await signed_in(client, Role.OPERATOR)
    event = daemon.world.event({"title": "x"}) | {"source": "//mes/a"}
    headers = {"content-type": "application/cloudevents+json", "x-csrf-token": csrf}
    assert (await client.post("/api/v1/events", json=event, headers=headers)).status_code == 403
    daemon.tokens = tokens.line(Principal("operator.jones", Role.OPERATOR), TOKENS[Role.OPERATOR])
    assert await status(client) == 401


async def test_a_producer_token_can_not_sign_in(client: AsyncClient) -> None:
    reply = await client.post("/signin", data={"token": TOKENS[Role.PRODUCER]})
    assert (reply.status_code, "set-cookie" in reply.headers) == (403, False)
    assert "this token is for a program that appends events" in reply.text


async def test_a_tokens_file_that_can_not_be_read_keeps_sessions_out_too(client: AsyncClient, daemon: Daemon) -> None:
    await signed_in(client, Role.VIEWER)
    daemon.tokens = "pasted"
    assert (await status(client), (await client.get("/")).status_code) == (503, 503)


async def test_a_session_outlives_a_restart_only_with_a_key_that_does(daemon: Daemon) -> None:
    for key, expected in ((KEY, 200), ("", 401)):
        daemon.browsing = Browsing(key=key)
        async with daemon.served() as client:
            await signed_in(client, Role.VIEWER)
            kept = cookie_of(client)
        async with daemon.served() as client:
            assert await status_with(client, kept) == expected


async def test_foreign_cookies_give_no_access(client: AsyncClient, daemon: Daemon) -> None:
    await signed_in(client, Role.ADMIN)
    good = cookie_of(client)
    version, body, mac = good.split(".")
    forged = base64.urlsafe_b64encode(base64.urlsafe_b64decode(body + "==").replace(b"admin", b"adm1n")).decode()
    rival = Sessions(daemon.clock, Browsing(key="r" * 32))
    of_rival = rival.set_cookie(rival.begin(Principal("admin.jones", Role.ADMIN), "token:x"))
    wrong = [
        f"{version}.{forged.rstrip('=')}.{mac}",
        f"{version}.{body}.{mac[::-1]}",
        *(f"{version}.{body}", f"v2.{body}.{mac}", of_rival.partition(";")[0].partition("=")[2]),
        *("", "x", "." * 100, f'"{good}"', f"{good}; {COOKIE}={good}", f"x; {COOKIE}={good}"),
    ]
    for text in wrong:
        assert await status_with(client, text) == 401, text
    assert await status_with(client, f"{good}; other=x") == 200


async def test_a_seal_for_something_else_is_no_session(daemon: Daemon, client: AsyncClient) -> None:
    ours = Sessions(daemon.clock, daemon.browsing)
    for body in (b"", b"{}", b"[]", b'["a",9,"token:x",9e99,"i"]', b'["a",3,"x"]', b"\xff"):
        assert await status_with(client, ours._seal.seal(body)) == 401


async def test_a_token_goes_before_a_session(client: AsyncClient) -> None:
    await signed_in(client, Role.ADMIN)
    assert (await client.get(STATUS, headers=shown("rec_no_one"))).status_code == 401
    assert (await client.post("/api/v1/events", headers=shown(TOKENS[Role.VIEWER]))).status_code == 403


def test_no_session_that_was_ended_comes_back_however_many_are(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(ours: Sessions, text: str) -> bool:
        cookie = text.partition(";")[0].encode()
        return ours.find(Request({"type": "http", "headers": [(b"cookie", cookie)]})) is not None

    monkeypatch.setattr(sessions, "ENDED_MAX", 3)
    ours = Sessions(daemon.clock, daemon.browsing)
    begun = []
    for _ in range(10):
        begun.append(ours.begin(Principal("jdoe", Role.VIEWER), "token:x"))
        daemon.clock._now_us += 1_000_000
    shown_by = [ours.set_cookie(session) for session in begun]
    assert all(found(ours, text) for text in shown_by)
    for session in begun[2:8]:
        ours.end(session)
    assert len(ours._ended) <= 3
    assert not any(found(ours, text) for text in shown_by[2:8])
    assert found(ours, shown_by[8])
    assert found(ours, shown_by[9])


def test_nothing_that_is_shown_of_them_holds_a_secret() -> None:
    assert KEY not in repr(Browsing(key=KEY))


# ------------------------------------------------------------------------------------------------------- sealed cookies


SEAL_KEY = b"k" * 32
SEAL = Seal(SEAL_KEY, "session")
LETTERS = string.ascii_letters + string.digits + "-_."


@given(st.binary(max_size=2000))
def test_a_sealed_text_can_be_opened(body: bytes) -> None:
    text = SEAL.seal(body)
    assert SEAL.unseal(text) == body
    assert set(text) <= set(LETTERS)


@given(st.binary(max_size=200), st.data())
def test_a_changed_letter_breaks_the_seal(body: bytes, data: st.DataObject) -> None:
    text = SEAL.seal(body)
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from([one for one in LETTERS if one != text[at]]))
    assert SEAL.unseal(text[:at] + letter + text[at + 1 :]) is None


@given(st.binary(max_size=200), st.data())
def test_a_part_of_it_is_nothing(body: bytes, data: st.DataObject) -> None:
    text = SEAL.seal(body)
    first, last = sorted(data.draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
    if (first, last) != (0, len(text)):
        assert SEAL.unseal(text[first:last]) is None


@given(st.text())
def test_anything_else_is_nothing(text: str) -> None:
    assert SEAL.unseal(text) is None
    assert SEAL.unseal(f"{text}.{SEAL.mark(text)}") is None or text.startswith("v1.")


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=64), st.text(max_size=20))
def test_another_key_and_another_purpose_seal_something_else(body: bytes, key: bytes, purpose: str) -> None:
    if (key, purpose) != (SEAL_KEY, "session"):
        assert SEAL.unseal(Seal(key, purpose).seal(body)) is None


def test_an_oversized_cookie_is_ignored() -> None:
    assert SEAL.unseal(SEAL.seal(b"x" * 4000)) is None
