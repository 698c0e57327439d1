"""Every route, without credentials and with each role, by token and by session."""

from typing import Any

import httpx
import pytest

from reconciler.web import application
from reconciler.web.principal import Role
from tests.web import keys
from tests.web.conftest import Daemon
from tests.web.keys import COOKIE, FOLLOWED, LINES, LINKED, PAGES, PEOPLE, ROUTE_NAMES, ROUTES, TOKENS

OPEN = {"/livez", "/readyz", "/static/{name}", "/signin", "/signin/provider", "/signin/callback"}
every_route = pytest.mark.parametrize(("method", "path", "needed"), ROUTES, ids=ROUTE_NAMES)
every_action = pytest.mark.parametrize(
    ("path", "needed"), [(path, needed) for method, path, needed in ROUTES if method != "GET" and path not in OPEN]
)


def is_let_in(reply: httpx.Response) -> None:
    assert reply.status_code not in (401, 403, 421, 500), reply.text
    assert not reply.headers.get("location", "").startswith("/signin?")


def is_sent_away(reply: httpx.Response, method: str, path: str) -> None:
    """Whoever has nothing to show is asked for it: a person by the sign-in page, a program by a 401."""
    if path in PAGES:
        assert reply.status_code == 303
        here = keys.address(path)
        onward = f"?next={here}" if method == "GET" and here != "/" else ""
        assert reply.headers["location"] == f"/signin{onward}"
    else:
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"].startswith('Bearer realm="reconciler"')
        assert reply.headers["content-type"] == "application/problem+json"


def is_refused(reply: httpx.Response, path: str, says: str) -> None:
    assert reply.status_code == 403
    kind = "text/html; charset=utf-8" if path in PAGES else "application/problem+json"
    assert reply.headers["content-type"] == kind
    assert says in reply.text


def test_only_these_endpoints_are_open_to_everyone() -> None:
    assert {path for _, path, role in ROUTES if role is None} == OPEN


def test_whatever_is_not_a_read_needs_more_than_a_viewer() -> None:
    actions = {path: role for method, path, role in ROUTES if method != "GET"}
    assert {path for path, role in actions.items() if role in (None, Role.VIEWER)} == {"/signin", "/signout"}


@every_route
async def test_nothing_to_show_opens_nothing(
    guarded: httpx.AsyncClient, method: str, path: str, needed: Role | None
) -> None:
    if needed is None:
        reply = await keys.asked(guarded, method, path)
        assert reply.status_code in (200, 404, 415)  # 415: there was no form in it; 404: there is no provider
        return
    for proof in ({}, keys.shown("rec_no_one"), {"cookie": f"{COOKIE}=v1.e30.{'A' * 43}"}):
        is_sent_away(await keys.asked(guarded, method, path, headers=proof), method, path)


@every_route
async def test_a_token_gives_the_access_of_its_role(
    guarded: httpx.AsyncClient, method: str, path: str, needed: Role | None
) -> None:
    for role, token in TOKENS.items():
        reply = await keys.asked(guarded, method, path, headers=keys.shown(token))
        if needed is not None and not keys.may(role, path, needed):
            is_refused(reply, path, f"needs the role {needed.name.lower()}")
        else:
            is_let_in(reply)


def test_a_producer_appends_events_and_nothing_else() -> None:
    assert {path for _, path, needed in ROUTES if keys.may(Role.PRODUCER, path, needed)} - OPEN == {"/api/v1/events"}


@every_route
@pytest.mark.parametrize("role", PEOPLE)
async def test_a_session_gives_the_access_of_its_role(
    guarded: httpx.AsyncClient, method: str, path: str, needed: Role | None, role: Role
) -> None:
    csrf = await keys.signed_in(guarded, role)
    reply = await keys.asked(guarded, method, path, headers={"x-csrf-token": csrf})
    if needed is not None and role < needed:
        is_refused(reply, path, f"needs the role {needed.name.lower()}")
    else:
        is_let_in(reply)


@every_action
async def test_a_session_without_csrf_token_can_change_nothing(
    guarded: httpx.AsyncClient, path: str, needed: Role
) -> None:
    """A browser adds the cookie to whatever any page has it send."""
    csrf = await keys.signed_in(guarded, Role.ADMIN)
    wrong = [csrf[:-1], csrf + "x", csrf.swapcase(), "", "null", "\xfc" * 43]
    for given in (None, *wrong):
        headers = {} if given is None else {"x-csrf-token": given.encode("latin-1")}
        in_a_form = "wrong" if given is None else given.replace("\xfc", "u")
        bodies: list[Any] = [{}, {"json": {}}, {"data": {"csrf": in_a_form}}]
        for body in bodies:
            reply = await keys.asked(guarded, "POST", path, headers=headers, **body)
            is_refused(reply, path, "the CSRF token is missing or wrong")


@every_action
async def test_the_csrf_token_of_another_session_is_refused(
    guarded: httpx.AsyncClient, path: str, needed: Role
) -> None:
    earlier = await keys.signed_in(guarded, Role.ADMIN)
    csrf = await keys.signed_in(guarded, Role.ADMIN)
    assert csrf != earlier
    reply = await keys.asked(guarded, "POST", path, headers={"x-csrf-token": earlier})
    is_refused(reply, path, "the CSRF token is missing or wrong")


FETCHED = [
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
    {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    {"sec-fetch-site": "cross-site"},
    {"origin": "https://evil.example"},
]


@pytest.mark.parametrize("asks", [False, True], ids=["local", "token"])
async def test_another_site_has_a_browser_ask_for_nothing_but_pages(daemon: Daemon, asks: bool) -> None:
    """What it can't read could be much all the same: exports, stories."""
    daemon.tokens = LINES if asks else None
    proof = keys.shown(TOKENS[Role.ADMIN]) if asks else {}
    transport = httpx.ASGITransport(application.application(daemon.services))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=proof) as browser:
        for path in [path for method, path, _ in ROUTES if method == "GET"]:
            for foreign in FETCHED:
                reply = await keys.asked(browser, "GET", path, headers=foreign)
                if path in OPEN - LINKED:
                    is_let_in(reply)
                else:
                    is_refused(reply, path, "another site")
            followed = await keys.asked(browser, "GET", path, headers=FOLLOWED)
            if path in OPEN | LINKED:
                is_let_in(followed)
            else:
                is_refused(followed, path, "another site")


def test_links_lead_to_pages_that_show_something() -> None:
    assert PAGES >= LINKED
    assert {path for method, path, _ in ROUTES if method == "GET" and path in PAGES - LINKED} == {"/audit.csv"}


@every_action
async def test_another_site_can_change_nothing_whatever_it_sends(
    guarded: httpx.AsyncClient, path: str, needed: Role
) -> None:
    csrf = await keys.signed_in(guarded, Role.ADMIN)
    sites = [{"sec-fetch-site": site} for site in ("cross-site", "same-site")]
    for foreign in (*sites, {"origin": "https://evil.example"}):
        for proof in ({"x-csrf-token": csrf}, keys.shown(TOKENS[Role.ADMIN])):
            is_refused(await keys.asked(guarded, "POST", path, headers=foreign | proof), path, "another site")
