"""The HTTP session that the server keeps for us: one for all requests, a new one when it ends, shown to no one."""

import asyncio
from typing import Any

import pytest

from reconciler.adapters.replies import Reply
from reconciler.adapters.wrs import results
from reconciler.adapters.wrs.cookies import Cookies
from reconciler.adapters.wrs.service import Service
from reconciler.model.answer import Unchanged
from reconciler.model.document import Status
from reconciler.model.snapshot import Snapshot
from tests.adapters.simulated import Simulated
from tests.adapters.wrs.conftest import MakeWorld
from tests.adapters.wrs.odata import LOGIN, NONCE, Answer, Asked, LaterClock, OData, row, windchill
from tests.flows.world import KEY

ID = "OR:wt.doc.WTDocument:100"
TICKET = "1A2B3C4D5E.node1"
SESSION = f"JSESSIONID={TICKET}; Path=/Windchill; HttpOnly"
HTML = {"content-type": "text/html"}


def opened(simulated: Simulated) -> int:
    return int(simulated._control.get("/wrs/sessions").raise_for_status().json()["opened"])


# -------------------------------------------------------------------------------------------------- a simulated server


async def test_reads_writes_and_polls_of_many_documents_are_one_session(make_world: MakeWorld) -> None:
    world = await make_world()
    keys = [f"{number:010}" for number in range(1, 16)]
    found = await asyncio.gather(*(world.adapter.read(key) for key in keys))
    assert all(isinstance(one, Snapshot) for one in found)
    again = await asyncio.gather(*(world.adapter.read(one.key, one) for one in found if isinstance(one, Snapshot)))
    assert again == [Unchanged()] * len(keys)
    assert not hasattr(await world.adapter.changed(0), "message")
    await world.reconcile({"Owner": "lchen", "State": "INREVIEW"})
    assert world.document().status is Status.SYNCED
    assert opened(world.simulated) == 1


@pytest.mark.parametrize("ended", ["new", 401, "login_page", "redirect"])
async def test_a_session_that_has_ended_is_followed_by_another_and_nothing_is_lost(
    make_world: MakeWorld, ended: int | str
) -> None:
    world = await (await make_world()).switch(session_ended=ended, nonce_of="session").known()
    world.simulated._control.delete("/wrs/sessions").raise_for_status()
    assert isinstance(await world.adapter.read(KEY), Snapshot), "a read is sent once more"
    world.simulated._control.delete("/wrs/sessions").raise_for_status()
    world.wire.asked.clear()
    await world.reconcile({"Owner": "akim"})
    assert world.document().status is Status.SYNCED
    assert world.live()["owner"] == "akim"
    assert opened(world.simulated) == 3
    assert world.cycles() == ["CheckOut", "CheckIn"] * 2
    refused = world.simulated._control.get("/wrs/audit").raise_for_status().json()["items"]
    assert len(refused) <= 1


# ----------------------------------------------------------------------------------------------------------- requests


async def test_while_no_session_is_known_one_request_goes_ahead(odata: OData, service: Service) -> None:
    odata.respond = lambda asked: Answer(body=row(), cookies=() if "cookie" in asked.headers else (SESSION,))
    await asyncio.gather(*(service.get(f"Documents('{number}')") for number in range(16)))
    assert sum("cookie" not in asked.headers for asked in odata.asked) == 1


async def test_a_server_without_sessions_is_asked_at_once(odata: OData, service: Service) -> None:
    together = asyncio.Barrier(16)

    async def respond(asked: Asked) -> Answer:
        if "('0')" not in asked.path:
            await together.wait()  # until all of them have come
        return Answer(body=row())

    odata.respond = respond
    await service.get("Documents('0')")
    replies = await asyncio.gather(*(service.get(f"Documents('{number}')") for number in range(1, 17)))
    assert all(isinstance(reply, Reply) for reply in replies)
    assert all("cookie" not in asked.headers for asked in odata.asked)


async def test_a_session_goes_with_reads_and_writes_and_is_shown_nowhere(odata: OData, service: Service) -> None:
    odata.nonce = Answer(
        body=NONCE.body, cookies=(SESSION, "route=.a", "gone=; Max-Age=0", 'bad="a b"', "=x", "\xe9=1")
    )
    odata.respond = lambda asked: Answer(400, {"error": {"code": "BAD", "message": f"you: {asked.headers['cookie']}"}})
    reply = await service.post("Documents('x')/A", {})
    assert odata.documents[0].headers["cookie"] == f"JSESSIONID={TICKET}; route=.a"
    assert isinstance(reply, Reply)
    assert service.message(reply) == "BAD: you: JSESSIONID=***; route=.a"
    assert TICKET not in str(results.of(service, reply))
    await service.get("Documents('x')")
    assert odata.documents[1].headers["cookie"] == f"JSESSIONID={TICKET}; route=.a"


async def test_requests_that_meet_the_end_of_a_session_together_begin_one_and_keep_it(
    odata: OData, service: Service
) -> None:
    tickets = iter(range(100))
    over = False

    async def respond(asked: Asked) -> Answer:
        if asked.headers.get("cookie", "JSESSIONID=0") == "JSESSIONID=0" and over:
            await asyncio.sleep(0.05)  # so that all of them are on their way
            return Answer(body=row(), cookies=(f"JSESSIONID={next(tickets)}",))
        return Answer(body=row(), cookies=() if "cookie" in asked.headers else (f"JSESSIONID={next(tickets)}",))

    odata.respond = respond
    await service.get("Documents('x')")
    over = True
    await asyncio.gather(*(service.get(f"Documents('{number}')") for number in range(8)))
    odata.asked.clear()
    await asyncio.gather(*(service.get(f"Documents('{number}')") for number in range(8)))
    (cookie,) = {asked.headers["cookie"] for asked in odata.asked}
    assert cookie != "JSESSIONID=0"


async def test_a_nonce_of_a_session_that_was_replaced_is_not_sent(odata: OData, service: Service) -> None:
    current = "1"
    odata.nonce = lambda: Answer(
        body={"NonceKey": "CSRF_NONCE", "NonceValue": f"of {current}"}, cookies=(f"JSESSIONID={current}",)
    )
    odata.respond = lambda asked: Answer(204, cookies=(f"JSESSIONID={current}",))
    await service.post("Documents('x')/A", {})
    current = "2"
    await service.get("Documents('x')")
    await service.post("Documents('x')/A", {})
    writes = [asked for asked in odata.documents if asked.method == "POST"]
    assert [asked.headers["csrf_nonce"] for asked in writes] == ["of 1", "of 2"]


async def test_where_it_is_not_the_session_that_is_refused_one_request_more_is_all_it_costs(
    odata: OData, service: Service
) -> None:
    odata.respond = lambda asked: Answer(body=row(), cookies=(SESSION,))
    await service.get("Documents('x')")
    for answer in (Answer(401, LOGIN, HTML, (SESSION,)), Answer(200, LOGIN, HTML, (SESSION,))):
        odata.respond = lambda asked, answer=answer: answer  # type: ignore[misc]  # a default binds it
        before = len(odata.asked)
        for _ in range(3):
            await service.get("Documents('x')")
        assert len(odata.asked) - before <= 4


async def test_a_write_that_is_answered_401_for_its_session_is_sent_again_and_a_page_leaves_it_open(
    odata: OData, service: Service
) -> None:
    tickets = iter(range(10))
    odata.nonce = lambda: Answer(body=NONCE.body, cookies=(f"JSESSIONID={next(tickets)}",))
    turned_away: Answer = Answer(401)

    def respond(asked: Asked) -> Answer:
        return turned_away if asked.headers.get("cookie") == "JSESSIONID=0" else Answer(204)

    odata.respond = respond
    reply = await service.post("Documents('x')/A", {})
    assert isinstance(reply, Reply)
    assert reply.status == 204
    tickets = iter(range(10))
    turned_away = Answer(200, LOGIN, HTML)
    async with windchill(odata.url) as other:
        answer = results.of(other.service, await other.service.post("Documents('x')/A", {}))
        assert not isinstance(answer, Reply), "no one knows whether it was carried out"
        assert isinstance(await other.service.post("Documents('x')/A", {}), Reply)


# ------------------------------------------------------------------------------------------------------------ cookies


def kept(*said: str, url: str = "http://h/Windchill/servlet/odata/x", clock: Any = None) -> Cookies:
    cookies = Cookies(clock or LaterClock())
    cookies.take(url, (), Reply(200, {}, b"{}", cookies=tuple(one.encode("latin-1") for one in said)))
    return cookies


def sent(cookies: Cookies, url: str = "http://h/Windchill/servlet/odata/x") -> str:
    return b"".join(value for _, value in cookies.header(url)).decode()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["a=1"], "a=1"),
        (["a=1", "a=2"], "a=2"),
        (["a=1; Path=/Windchill", "b=2; Path=/Windchill/servlet/"], "b=2; a=1"),
        (["a=1; path=/Windchill/servlet/odata/x"], "a=1"),
        (["a=1; Path=/Wind"], ""),
        (["a=1; Path=/sso"], ""),
        (["a=1; Path=elsewhere"], "a=1"),
        (["a=1; Secure"], ""),
        (["a=1; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], "a=1"),
        (["a=1", "a=1; Max-Age=0"], ""),
        (["a=1", "a=; Max-Age=-1"], ""),
        (["a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], ""),
        (["a=1; Expires=some day"], "a=1"),
        (["a"], ""),
        (["a=1\r\nx: y"], ""),
        ([f"c{number}=1" for number in range(100)], "; ".join(f"c{number}=1" for number in range(20))),
    ],
)
def test_a_cookie_goes_back_as_it_says(said: list[str], expected: str) -> None:
    assert sent(kept(*said)) == expected


def test_a_secure_cookie_goes_back_where_requests_are_encrypted() -> None:
    assert sent(kept("a=1; Secure", url="https://h/x"), "https://h/x") == "a=1"


def test_a_cookie_ends_when_it_says() -> None:
    clock = LaterClock()
    cookies = kept("a=1; Max-Age=60", clock=clock)
    clock.ahead_s = 61
    assert sent(cookies) == ""


def test_a_short_value_is_no_secret_and_no_value_is_shown_by_accident() -> None:
    cookies = kept(SESSION, "route=.a")
    assert cookies.secrets == (TICKET,)
    assert TICKET not in repr(vars(cookies)["_kept"])
