"""Nonces: renewed before their end, one refusal where one can tell, and servers whose nonces are used up by use."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reconciler.adapters.replies import Reply
from reconciler.adapters.wrs import nonces
from reconciler.adapters.wrs.service import Service
from tests.adapters.wrs.odata import Answer, Asked, LaterClock, OData, accepting, error, numbered, windchill
from tests.patience import HANG_S

LIFE_S = 1000.0
INVALID = error(400, "INVALID_NONCE", "no good")


@pytest.fixture(autouse=True)
def each_time_another(odata: OData) -> None:
    numbered(odata)


@pytest.fixture
async def service(odata: OData, clock: LaterClock) -> AsyncIterator[Service]:
    async with windchill(odata.url, clock=clock, nonce_s=LIFE_S) as made:
        yield made.service


class Uses:
    """A server whose nonces are each good for so many writes; `refusals` are the entries in its audit log."""

    def __init__(self, odata: OData, most: float) -> None:
        self.most = most
        self.refusals = 0
        self.used: Counter[str] = Counter()
        self._now = 0
        odata.nonce = self.give
        odata.respond = self.respond

    def give(self) -> Answer:
        if self.used[str(self._now)] >= self.most or not self._now:
            self._now += 1
        return Answer(body={"NonceKey": "CSRF_NONCE", "NonceValue": str(self._now)})

    def respond(self, asked: Asked) -> Answer:
        nonce = asked.headers["csrf_nonce"]
        if nonce != str(self._now) or self.used[nonce] >= self.most:
            self.refusals += 1
            return INVALID
        self.used[nonce] += 1
        return Answer(204)


async def write(service: Service) -> int:
    reply = await service.post("Documents('x')/A", {})
    assert isinstance(reply, Reply), reply
    return reply.status


async def many(service: Service, count: int = 16) -> None:
    assert await asyncio.gather(*(write(service) for _ in range(count))) == [204] * count


def sent(odata: OData) -> list[str]:
    return [asked.headers["csrf_nonce"] for asked in odata.documents]


async def test_a_nonce_is_renewed_before_its_end(odata: OData, service: Service, clock: LaterClock) -> None:
    odata.respond = accepting("1", "2")
    for ahead_s in (0, 0.89 * LIFE_S, 0.91 * LIFE_S):
        clock.ahead_s = ahead_s
        await write(service)
    assert sent(odata) == ["1", "1", "2"]


async def test_a_nonce_of_no_known_life_is_kept(odata: OData, clock: LaterClock) -> None:
    odata.respond = accepting("1")
    async with windchill(odata.url, clock=clock, nonce_s=0) as made:
        for ahead_s in (0, 1e7):
            clock.ahead_s = ahead_s
            await write(made.service)
    assert sent(odata) == ["1", "1"]


async def test_where_the_old_nonce_is_given_until_its_end_nothing_is_refused_either(
    odata: OData, service: Service, clock: LaterClock
) -> None:
    began_s = clock.monotonic_s()

    def now() -> str:
        return str(int((clock.monotonic_s() - began_s) / LIFE_S))

    odata.nonce = lambda: Answer(body={"NonceKey": "CSRF_NONCE", "NonceValue": now()})
    odata.respond = lambda asked: Answer(204) if asked.headers["csrf_nonce"] == now() else INVALID
    for ahead_s in (0, 0.92 * LIFE_S, 0.95 * LIFE_S, 0.99 * LIFE_S, LIFE_S + 1, LIFE_S + 2):
        clock.ahead_s = ahead_s
        await write(service)
    assert sent(odata) == ["0", "0", "0", "0", "1", "1"], "one was refused"
    assert len(odata.of("GetCSRFToken()")) == 3, "it was asked for at each write"


async def test_a_nonce_that_is_merely_old_is_used_while_there_is_no_other(
    odata: OData, service: Service, clock: LaterClock
) -> None:
    odata.respond = accepting("1")
    await write(service)
    odata.nonce = Answer(500)
    clock.ahead_s = 0.95 * LIFE_S
    await many(service)
    assert set(sent(odata)) == {"1"}
    assert len(odata.of("GetCSRFToken()")) == 2


async def test_the_end_of_a_nonce_costs_one_refusal_however_many_writes_begin(odata: OData, service: Service) -> None:
    odata.respond = accepting("1")
    await many(service)
    odata.respond = accepting("2")
    odata.asked.clear()
    await many(service)
    assert Counter(sent(odata)) == {"1": 1, "2": 16}
    assert len(odata.of("GetCSRFToken()")) == 1


async def test_what_is_on_its_way_when_a_nonce_ends_is_refused_once_each_and_all_of_it_goes_through(
    odata: OData, service: Service
) -> None:
    arrived = 0
    ended = asyncio.Event()

    async def respond(asked: Asked) -> Answer:
        nonlocal arrived
        arrived += 1
        if arrived == 1:
            return Answer(204)
        if arrived == 16:
            ended.set()
        await ended.wait()
        return Answer(204) if asked.headers["csrf_nonce"] == "2" else INVALID

    odata.respond = respond
    await many(service)
    assert Counter(sent(odata)) == {"1": 16, "2": 15}
    assert len(odata.of("GetCSRFToken()")) == 2


async def test_the_first_write_that_hangs_keeps_the_others_waiting_for_a_while_only(
    odata: OData, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nonces, "_AHEAD_S_MAX", 0.05)
    released = asyncio.Event()

    async def respond(asked: Asked) -> Answer:
        if asked.path.endswith("/Slow"):
            await released.wait()
        return Answer(204)

    odata.respond = respond
    slow = asyncio.create_task(service.post("Documents('x')/Slow", {}))
    await asyncio.sleep(0.02)
    async with asyncio.timeout(HANG_S):
        await many(service)
    assert not slow.done()
    released.set()
    await slow


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_nonces_that_are_used_up_by_use_are_asked_for_by_each_write(
    odata: OData, service: Service, most: int
) -> None:
    server = Uses(odata, most)
    for _ in range(12):
        await write(service)
    assert server.refusals == 2, "two in a row show it"
    await many(service)
    assert server.refusals == 2
    assert sum(server.used.values()) == 28


async def test_many_writes_at_once_go_through_with_nonces_for_one_use(odata: OData, service: Service) -> None:
    server = Uses(odata, 1)
    await many(service)
    assert server.refusals <= 16, "more than those in flight and one that tells"
    before = server.refusals
    await many(service)
    assert server.refusals == before


async def test_whether_nonces_last_again_is_tried_ever_more_rarely(
    odata: OData, service: Service, clock: LaterClock
) -> None:
    server = Uses(odata, 1)
    await many(service, 4)
    for wait_s in (nonces.ALONE_S, 2 * nonces.ALONE_S):
        before = server.refusals
        clock.ahead_s += wait_s - 60
        await many(service, 4)
        assert server.refusals == before
        clock.ahead_s += 61
        await many(service, 4)
        assert server.refusals == before + 1
    server.most = float("inf")
    clock.ahead_s += 4 * nonces.ALONE_S + 1
    await write(service)
    clock.ahead_s += nonces.YOUNG_S + 1
    await write(service)
    odata.asked.clear()
    await many(service)
    assert not odata.of("GetCSRFToken()")
    assert len(set(sent(odata))) == 1


async def test_one_trouble_with_the_nonce_answers_all_that_wait_for_it(odata: OData, service: Service) -> None:
    odata.nonce = Answer(500)
    found: list[Any] = await asyncio.gather(*(service.post("Documents('x')/A", {}) for _ in range(16)))
    assert not any(isinstance(answer, Reply) for answer in found)
    assert len(odata.of("GetCSRFToken()")) == 1
    assert not odata.documents
