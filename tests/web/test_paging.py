"""Lists of large values: a page ends after enough bytes, names the next page, and loses nothing."""

import re
from typing import Any

import pytest
from httpx import AsyncClient

from reconciler.web import paging
from reconciler.web.paging import BYTES, SIFTED_BYTES, SIFTED_ROWS, STEP
from tests.flows.world import World
from tests.web.conftest import Daemon

API = "/api/v1"
LARGE = 500_000  # characters of a value; a conflict has three of them
DOCUMENTS = 6
ROW_BYTES = 4 * LARGE


@pytest.fixture
async def large(daemon: Daemon) -> World:
    """Conflicts on large values, more than what fits in a page."""
    world = daemon.world
    for number in range(DOCUMENTS):
        key = f"large-{number}"
        world.windchill.put(key, {"title": "Cover"})
        await world.emit({"title": "a" * LARGE}, key=key)
        await world.settle(key)
        world.windchill.edit(key, {"title": "b" * LARGE})
        await world.emit({"title": "c" * LARGE}, key=key)
        await world.settle(key)
    return world


async def pages(client: AsyncClient, path: str) -> list[list[dict[str, Any]]]:
    """Every page of a list, each asked for in its full length."""
    found, after = [], ""
    while after is not None:
        reply = await client.get(API + path, params={"limit": 500, **({"after": after} if after else {})})
        assert reply.status_code == 200, reply.text
        assert len(reply.content) < BYTES + ROW_BYTES
        said = reply.json()
        found.append(said["items"])
        after = said["next"]
    return found


async def test_an_answer_stays_small_however_large_the_values_are(client: AsyncClient, large: World) -> None:
    found = await pages(client, "/conflicts")
    assert len(found) > 1
    listed = [row["document"] for page in found for row in page]
    assert listed == [row.document for row in await large.store.conflicts()]
    assert len(listed) == DOCUMENTS
    found = await pages(client, "/audit")
    assert len(found) > 1
    assert [row["id"] for page in found for row in page] == [record.id for record in await large.store.audit()]


async def test_conflicts_with_large_values_are_resolved_in_several_actions(client: AsyncClient, large: World) -> None:
    decided: list[str] = []
    more = True
    while more:
        body = {"take": "live", "field": "title", "limit": 500}
        reply = await client.post(f"{API}/conflicts/resolve", json=body)
        assert reply.status_code == 200, reply.text
        assert len(reply.content) < 3 * BYTES
        said = reply.json()
        assert said["decided"]
        decided += [one["document"] for one in said["decided"]]
        for key in decided:
            await large.fold()
            await large.settle(key)
        more = said["more"]
    assert sorted(decided) == sorted(large.store.rows)
    assert await large.store.conflicts() == []
    found = await pages(client, "/acts")
    assert len(found) > 1
    assert [action["document"] for page in found for action in page] == decided[::-1]


async def test_the_page_of_conflicts_leads_on_to_those_that_are_not_in_it(client: AsyncClient, large: World) -> None:
    path, found, count = "/conflicts?limit=500", [], 0
    while path:
        count += 1
        reply = await client.get(path)
        assert reply.status_code == 200
        found += re.findall(r'href="/documents/(large-\d)"', reply.text)
        onward = re.search(r'href="([^"]+)" rel="next"', reply.text)
        path = onward[1].replace("&amp;", "&") if onward else ""
    assert count > 1
    assert found == [row.document for row in await large.store.conflicts()]


async def test_a_story_of_large_values_covers_the_newest_attempts(
    client: AsyncClient, large: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (await client.get(f"{API}/documents/large-0/story")).json()
    assert whole["older"] is False
    monkeypatch.setattr(paging, "TRAIL_BYTES", ROW_BYTES)
    cut = (await client.get(f"{API}/documents/large-0/story")).json()
    assert cut["older"] is True
    assert cut["now"][0] == whole["now"][0]


# ------------------------------------------------------------------------------------------------------- step by step


class Rows:
    """A list of texts, and how much of it was read at once."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.most = 0

    async def read(self, after: tuple[int], limit: int) -> list[tuple[int, str]]:
        self.most = max(self.most, limit)
        return list(enumerate(self.texts))[after[0] + 1 :][:limit]

    async def page(self, limit: int, wanted: str = "") -> tuple[list[str], str | None]:
        how = {"place": lambda row: (row[0],), "shown": lambda row: row[1]}
        return await paging.read_page(self.read, (-1,), limit, **how, wanted=lambda row: row[1].startswith(wanted))


@pytest.mark.parametrize("length", [0, 1, STEP - 1, STEP, STEP + 1, 3 * STEP])
async def test_a_page_that_holds_all_is_the_last(length: int) -> None:
    rows = Rows(["x"] * length)
    for limit in (length, length + 1, 500):
        if limit:
            assert await rows.page(limit) == (["x"] * length, None)
    if length > 1:
        found, after = await rows.page(length - 1)
        assert (len(found), after is None) == (length - 1, False)
    assert rows.most <= STEP


async def test_one_row_is_in_every_page_however_large_it_is() -> None:
    found, after = await Rows(["x" * 2 * BYTES, "y"]).page(500)
    assert ([len(text) for text in found], after is None) == ([2 * BYTES], False)


async def test_skipped_rows_are_bounded_too() -> None:
    assert (await Rows([*["x"] * (SIFTED_ROWS - 1), "yes"]).page(500, "yes"))[0] == ["yes"]
    found, after = await Rows([*["x"] * SIFTED_ROWS, "yes"]).page(500, "yes")
    assert (found, after is None) == ([], False)
    large = ["x" * BYTES] * (SIFTED_BYTES // BYTES)
    found, after = await Rows([*large, "yes"]).page(500, "yes")
    assert (found, after is None) == ([], False)
