"""A store as a whole, of every kind: found, opened, checked, copied, replaced."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from reconciler.adapters import stores
from reconciler.errors import StoreError
from reconciler.model.document import Lane
from reconciler.model.stamp import Partition
from reconciler.ports import FoldBatch, StoreAdmin

P0 = Partition("changes", 0)


@pytest.fixture(params=["sqlite"])
def admin(request: pytest.FixtureRequest, tmp_path: Path) -> StoreAdmin:
    return stores.admin(f"sqlite:///{tmp_path}/s.db")


def silent(done: int, of: int | None) -> None:
    """Tell no one."""


async def read_up_to(admin: StoreAdmin, offset: int) -> None:
    store = await admin.open(owner=True)
    await store.fold(FoldBatch({}, {P0: offset}, (), Lane.EVENT, 1))
    await store.close()


async def positions(url: str) -> Mapping[Partition, int]:
    store = await stores.admin(url).open(owner=False)
    try:
        return await store.positions()
    finally:
        await store.close()


async def test_a_store_is_there_once_an_owner_has_opened_it(admin: StoreAdmin) -> None:
    assert not await admin.exists()
    await admin.require_place()
    await read_up_to(admin, 3)
    assert await admin.exists()
    assert await admin.size() > 0
    assert "no damage" in await admin.inspect(None)
    assert "every" in await admin.inspect(silent)


async def test_a_copy_takes_the_place_of_a_store_which_is_kept(admin: StoreAdmin, tmp_path: Path) -> None:
    await read_up_to(admin, 3)
    assert admin.snapshot(tmp_path / "copy.db", silent).positions == {P0: 3}
    await read_up_to(admin, 7)
    done = admin.restore(tmp_path / "copy.db", silent, "now")
    assert done.before is not None
    assert done.contents.behind(done.before) == {P0: (3, 7)}
    assert await positions(done.aside_url) == {P0: 7}


async def test_a_rebuilt_store_takes_the_place_of_the_old_one_once_it_is_whole(admin: StoreAdmin) -> None:
    await read_up_to(admin, 3)
    with admin.rebuilding("now") as fresh:
        await read_up_to(stores.admin(fresh.url), 9)
        with pytest.raises(StoreError, match="in use"):
            await admin.open(owner=True)
        done = fresh.put()
    assert done.contents.positions == {P0: 9}
    assert await positions(done.aside_url) == {P0: 3}


async def test_a_rebuild_that_ends_early_changes_nothing(admin: StoreAdmin) -> None:
    await read_up_to(admin, 3)
    with admin.rebuilding("now") as fresh:
        await read_up_to(stores.admin(fresh.url), 9)
    store = await admin.open(owner=True)
    assert await store.positions() == {P0: 3}
    await store.close()


def test_a_kind_of_store_that_there_is_not_is_refused() -> None:
    with pytest.raises(StoreError, match="no store of the kind 'mysql'"):
        stores.admin("mysql://somewhere")
