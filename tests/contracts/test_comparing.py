"""What comparing all documents asks of a store, on every store there is."""

from reconciler.model.document import NO_AGREEMENT, SETTLED, Lane, Status
from reconciler.ports import Store
from tests.contracts.test_store import HOSTILE, OTHERS, batch, placed, row, settle, settlement

NOW_US = 3000  # `placed` puts documents before their due time at it


async def test_settled_documents_are_listed_in_order_page_by_page(store: Store) -> None:
    keys = sorted(HOSTILE)
    await store.fold(batch(*keys))
    for key in keys[1:]:
        await settle(store, settlement(key))
    assert await store.settled_keys(SETTLED, "", 1000) == keys[1:]
    pages, after = [], ""
    while page := await store.settled_keys(SETTLED, after, 3):
        pages += page
        after = page[-1]
    assert pages == keys[1:]


async def test_documents_never_folded_are_not_listed(store: Store) -> None:
    await store.rebase({"d": NO_AGREEMENT}, {}, 1000)
    assert await store.settled_keys(SETTLED, "", 10) == []


async def test_an_attempt_under_way_does_not_end_the_comparison(store: Store) -> None:
    await placed(store, Status.SYNCED)
    revision = (await row(store)).revision
    await store.compare_again(["d"], SETTLED, NOW_US)
    await settle(store, settlement(revision=revision))
    assert await store.count_due(Lane.RESYNC, NOW_US) == 1


async def test_documents_to_compare_are_counted_until_they_are_settled(store: Store) -> None:
    keys = ["a", "b", "c"]
    await store.fold(batch(*keys))
    for key in keys:
        await settle(store, settlement(key))
    await store.compare_again(keys, SETTLED, NOW_US)
    assert await store.count_due(Lane.RESYNC, NOW_US) == 3
    assert await store.count_due(Lane.RESYNC, NOW_US - 1) == await store.count_due(Lane.EVENT, NOW_US) == 0
    await settle(store, settlement("a", revision=(await row(store, "a")).revision))
    assert await store.count_due(Lane.RESYNC, NOW_US) == 2
    await store.fold(batch(rows={"b": (await row(store, "b")).desired}, at_us=NOW_US))  # which changes nothing
    assert await store.count_due(Lane.RESYNC, NOW_US) == 2


def test_documents_that_wait_after_trouble_are_not_settled() -> None:
    assert not {Status.PENDING, Status.CONTENDED, Status.LOCKED} & set(SETTLED)
    assert set(SETTLED) <= set(OTHERS)
