"""Cross-site requests: which pages may cause actions, with sessions and without a sign-in."""

import pytest
from httpx import AsyncClient

from reconciler.web import event_api
from reconciler.web.principal import Role
from reconciler.web.sessions import Browsing
from tests.flows.world import TOPIC
from tests.web.conftest import Daemon
from tests.web.keys import LINES, csrf_in, shown, signed_in

EVENT = "application/cloudevents+json"


def event(daemon: Daemon) -> dict[str, object]:
    return daemon.world.event({"title": "x"})


async def sent(client: AsyncClient, daemon: Daemon, kind: str = EVENT, **headers: str) -> int:
    named = {"content-type": kind} | {name.replace("_", "-"): text for name, text in headers.items()}
    return (await client.post(event_api.PATH, json=event(daemon), headers=named)).status_code


def appended(daemon: Daemon) -> int:
    return len(daemon.world.broker.records(TOPIC))


# ----------------------------------------------------------------------------------------------- where no one is asked


async def test_a_program_on_this_machine_needs_nothing(client: AsyncClient, daemon: Daemon) -> None:
    assert await sent(client, daemon) == 202
    headers = {f"ce-{name}": text for name, text in event(daemon).items() if name != "data"}
    headers["ce-type"] = "windchill.document.released.v1"
    assert (await client.post(event_api.PATH, headers=headers)).status_code == 202
    assert appended(daemon) == 2


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"])
async def test_every_content_type_of_a_form_counts_as_a_form(client: AsyncClient, daemon: Daemon, kind: str) -> None:
    """Such a request needs no permission of ours to be sent by any page, and old browsers say nothing of where from."""
    assert await sent(client, daemon, kind) == 403
    assert await sent(client, daemon, f"{kind}; x=application/json") == 403
    assert (await client.post(event_api.PATH)).status_code == 403
    assert appended(daemon) == 0


@pytest.mark.parametrize(
    "sign",
    [{"origin": "{own}"}, {"sec_fetch_site": "same-origin"}, {"sec_fetch_site": "none"}, {"cookie": "theme=dark"}],
)
async def test_whatever_shows_a_browser_needs_the_token_of_a_page(
    client: AsyncClient, daemon: Daemon, sign: dict[str, str]
) -> None:
    headers = {name: text.format(own=str(client.base_url).rstrip("/")) for name, text in sign.items()}
    assert await sent(client, daemon, **headers) == 403
    csrf = csrf_in(await client.get("/"))
    assert await sent(client, daemon, x_csrf_token=csrf + "x", **headers) == 403
    assert appended(daemon) == 0
    assert await sent(client, daemon, x_csrf_token=csrf, **headers) == 202


FOREIGN = [
    *("https://evil.example", "http://localhost:1", "http://127.0.0.1", "null", "", "http://x@{host}", "file://{host}"),
    *("{own}.evil.example", "{own}/", "{own} https://evil.example"),
]


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("signs_in", [False, True], ids=["local", "sessions"])
async def test_another_origin_can_change_nothing(daemon: Daemon, origin: str, signs_in: bool) -> None:
    daemon.tokens = LINES if signs_in else None
    async with daemon.served() as client:
        own = str(client.base_url).rstrip("/")
        csrf = await signed_in(client, Role.ADMIN) if signs_in else csrf_in(await client.get("/"))
        headers = {"x_csrf_token": csrf, "origin": origin.format(own=own, host=own.removeprefix("http://"))}
        assert await sent(client, daemon, **headers) == 403
        reply = await client.post("/signin", data={"token": "x"}, headers={"origin": headers["origin"]})
        assert reply.status_code == 403
    assert appended(daemon) == 0


async def test_a_page_that_keeps_its_address_to_itself_is_ours_if_the_browser_says_so(
    client: AsyncClient, daemon: Daemon
) -> None:
    csrf = csrf_in(await client.get("/"))
    assert await sent(client, daemon, origin="null", sec_fetch_site="same-origin", x_csrf_token=csrf) == 202


async def test_the_name_that_browsers_know_is_ours_too(daemon: Daemon) -> None:
    """A proxy may ask us under another name than browsers ask it."""
    daemon.tokens = LINES
    daemon.browsing = Browsing(external_url="https://reconciler.example.com")
    async with daemon.served() as client:
        token = shown("rec_admin")
        assert await sent(client, daemon, origin="https://reconciler.example.com", **token) == 202
        assert await sent(client, daemon, origin="https://reconciler.example.com:444", **token) == 403


async def test_another_name_for_this_machine_has_no_page_to_take_a_token_from(client: AsyncClient) -> None:
    assert (await client.get("/", headers={"host": "rebound.example"})).status_code == 421


# ------------------------------------------------------------------------------------------------------------- sessions


async def test_a_session_can_act_with_the_csrf_token_of_its_pages(daemon: Daemon, guarded: AsyncClient) -> None:
    csrf = await signed_in(guarded, Role.OPERATOR)
    assert await sent(guarded, daemon) == 403
    assert await sent(guarded, daemon, x_csrf_token=csrf) == 202
    assert (await guarded.post("/signout", data={"csrf": csrf})).status_code == 303


@pytest.mark.parametrize("body", [b"csrf=%ff", b"csrf=a&csrf=b", b"\xff", b"&" * 2000])
async def test_a_form_that_can_not_be_read_is_refused(guarded: AsyncClient, body: bytes) -> None:
    await signed_in(guarded, Role.VIEWER)
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert (await guarded.post("/signout", content=body, headers=headers)).status_code in (400, 403)
    assert (await guarded.post("/signin", content=body, headers=headers)).status_code in (400, 401)


@pytest.mark.parametrize("declared", [True, False])
async def test_a_form_beyond_its_bound_is_refused(guarded: AsyncClient, declared: bool) -> None:
    async def pieces() -> object:
        for _ in range(65):
            yield b"x" * 1024

    headers = {"content-type": "application/x-www-form-urlencoded"}
    content = b"x" * 65_537 if declared else pieces()
    assert (await guarded.post("/signin", content=content, headers=headers)).status_code == 413
    assert (await guarded.get("/livez")).status_code == 200
