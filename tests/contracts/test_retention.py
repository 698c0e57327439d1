"""What every store promises of what it gives away, and what is made of that (`flows/retention.py`)."""

from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
import zstandard
from msgspec import structs

from reconciler.adapters.archive import FileArchive
from reconciler.cli import store_access
from reconciler.core.explain import audit_file
from reconciler.core.explain.trail import Scope, Verifier
from reconciler.errors import ArchiveError
from reconciler.flows import retention
from reconciler.flows.retention import Limits, Piece, Pruner
from reconciler.model import chain
from reconciler.model.action import ActionKind, OperatorAction
from reconciler.model.chain import Cut, Entry, Head
from reconciler.ports import Store
from tests.contracts.test_store import batch, conflict, discard, letter, record, settle, settlement
from tests.fakes.virtual_clock import VirtualClock

EVERYTHING = Limits(10**15, 10**15, 10**15)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "archive"
    made.mkdir()
    return made


@pytest.fixture
def pruner(store: Store, folder: Path) -> Pruner:
    return Pruner(store=store, archive=FileArchive(folder), clock=VirtualClock(), who="akim", role="cli", reason="old")


async def decided(store: Store, *times_us: int) -> list[Entry]:
    """Decisions of these times, and the trail."""
    await store.fold(batch("d"))
    for at_us in times_us:
        await settle(store, settlement(audit=(record(at_us=at_us),)))
    return await trail(store)


async def trail(store: Store) -> list[Entry]:
    return [entry async for entry in store.audit_chain()]


async def pruned(pruner: Pruner, limits: Limits = EVERYTHING) -> list[Piece]:
    return [piece async for piece in pruner.run(limits)]


def unpacked(path: Path) -> list[bytes]:
    return zstandard.ZstdDecompressor().decompress(path.read_bytes(), max_output_size=2**26).splitlines()


def archived(folder: Path) -> list[Entry]:
    """Every record of the trail that is in an archive."""
    found = [one for path in sorted(folder.iterdir()) for one in audit_file.Exported("", unpacked(path)).entries()]
    assert all(isinstance(one, Entry) for one in found)
    return [one for one in found if isinstance(one, Entry)]


def act(cut: Cut | None = None) -> OperatorAction:
    details = {} if cut is None else {"after": cut.after, "upto": cut.upto, "sha256": cut.sha256}
    return OperatorAction(1, "akim", "cli", ActionKind.PRUNE, "file", "", details, "done")


def piece(entries: list[Entry], begin: Head = chain.BEGIN) -> Cut:
    last = Head(entries[-1].number, entries[-1].link)
    return Cut(str(begin), str(last), 1, 2, "file", "00")


async def verified(store: Store) -> list[str]:
    cuts, heads = await store.cuts(), await store.audit_heads()
    verifier = Verifier(Scope(), await store.policy_texts(), [head for head in heads if head.records], cuts)
    there = [entry async for entry in store_access.chain(store, heads, cuts=cuts)]
    faults = [fault for entry in there for fault in verifier.faults(entry)] + verifier.missing()
    return [fault.text for fault in faults if "policy" not in fault.text]  # these tests keep none


# --------------------------------------------------------------------------------------------------------------- store


async def test_a_piece_that_was_archived_is_deleted_and_the_chain_goes_on_after_it(store: Store) -> None:
    entries = await decided(store, 1, 2, 3, 4)
    assert await store.cuts() == []
    cut = piece(entries[:2])
    assert await store.prune(act(cut), cut=cut)
    assert await store.cuts() == [structs.replace(cut, act=5)]
    assert await trail(store) == [*entries, await store.audit_entry(5)]
    assert await verified(store) == []
    assert [await store.forget(1), await store.forget(9), await store.forget(9)] == [1, 1, 0]
    left = await trail(store)
    assert [entry.number for entry in left] == [3, 4, 5]
    assert left == await store.audit_after(2, 10) == await store.audit_after(0, 10)
    assert left[0].previous == entries[1].link
    assert await store.audit_entry(2) is None
    assert await verified(store) == []
    await settle(store, settlement(audit=(record(at_us=9),)))
    assert (await trail(store))[-1].number == 6


async def test_a_chain_is_cut_from_its_beginning_alone_and_never_whole(store: Store) -> None:
    entries = await decided(store, 1, 2, 3)
    assert not await store.prune(act(), cut=piece(entries))
    after_first = Head(entries[0].number, entries[0].link)
    assert not await store.prune(act(), cut=piece(entries[1:2], after_first))
    assert await store.prune(act(), cut=piece(entries[:1]))
    assert not await store.prune(act(), cut=piece(entries[:2]))  # another was faster
    assert await store.prune(act(), cut=piece(entries[1:2], after_first))
    assert [cut.end.number for cut in await store.cuts()] == [1, 2]
    assert len(await store.actions()) == 2  # what did not happen is not recorded


async def test_nothing_is_forgotten_that_was_not_archived(store: Store) -> None:
    entries = await decided(store, 1, 2)
    assert await store.forget(100) == 0
    assert await trail(store) == entries


async def test_what_is_settled_is_deleted_unless_it_has_another_state_now(store: Store) -> None:
    await store.fold(batch("d", dead_letters=[letter(1), letter(2), letter(3)]))
    await settle(store, settlement(opened=(conflict("a"), conflict("b"))))
    await settle(store, settlement(closed=("a", "b"), at_us=3000))
    await discard(store, "changes/0/1")
    closed = await store.conflicts(closed=True)
    settled = [attrs.evolve(one, status="discarded") for one in await store.dead_letters(None)]
    await settle(store, settlement(opened=(conflict("b"),)))  # which opens again
    assert await store.prune(act(), conflicts=closed, letters=settled)
    assert [row.conflict.id for row in await store.conflicts(closed=True)] == ["b"]
    assert [(n, one.id) for n, one in await store.letters_after(0, 9)] == [(2, "changes/0/2"), (3, "changes/0/3")]


# ---------------------------------------------------------------------------------------------------------------- flow


async def test_what_is_old_goes_to_archives_that_hold_it_byte_for_byte(
    store: Store, pruner: Pruner, folder: Path
) -> None:
    entries = await decided(store, 1, 2, 30, 4, 50)
    assert await pruned(pruner, Limits(audit_us=30)) == [Piece("audit", 2, "audit-0-1-2.jsonl.zst", "1", "2")]
    kept = archived(folder)
    assert [(one.number, one.link, one.record) for one in kept] == [
        (one.number, one.link, one.record) for one in entries[:2]
    ]
    assert [entry.number for entry in await trail(store)] == [3, 4, 5, 6]
    assert await verified(store) == []
    (told,) = await store.actions(kinds=["prune"])
    assert (told.who, told.role, told.target, told.details["reason"]) == ("akim", "cli", "audit-0-1-2.jsonl.zst", "old")
    assert await pruned(pruner, Limits(audit_us=30)) == []


async def test_a_long_chain_is_cut_in_pieces(store: Store, pruner: Pruner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "RECORDS", 2)
    await decided(store, *range(1, 6))
    assert [(one.first, one.last) for one in await pruned(pruner, Limits(audit_us=9))] == [("1", "2"), ("3", "4")]
    assert await verified(store) == []


async def test_settled_conflicts_and_letters_go_and_open_ones_stay(store: Store, pruner: Pruner, folder: Path) -> None:
    early = attrs.evolve(letter(2)[0], stage="clock"), letter(2)[1]
    await store.fold(batch("d", dead_letters=[letter(1), early, letter(3), letter(4)]))
    await settle(store, settlement(opened=(conflict("a"), conflict("b"))))
    await settle(store, settlement(closed=("a",), at_us=3000))
    for number in (1, 2, 4):
        await discard(store, f"changes/0/{number}")
    assert await pruned(pruner, Limits(conflicts_us=3000, letters_us=77)) == []
    found = await pruned(pruner, Limits(conflicts_us=3001, letters_us=78))
    assert [(one.kind, one.count) for one in found] == [("conflicts", 1), ("dead_letters", 1)]
    assert [row.conflict.id for row in await store.conflicts(closed=True)] == ["b"]
    assert [one.id for _, one in await store.letters_after(0, 9)] == ["changes/0/2", "changes/0/3", "changes/0/4"]
    kept = [msgspec.json.decode(line) for one in found for line in unpacked(folder / one.file)]
    assert (kept[0]["conflict"]["id"], kept[0]["closed_at_us"]) == ("a", 3000)
    assert (kept[1]["place"][2], kept[1]["status"]) == (1, "discarded")


async def test_a_record_that_someone_has_changed_is_not_cut(store: Store, pruner: Pruner) -> None:
    class Changed:
        """The store, whose second record was changed."""

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

        async def audit_after(self, number: int, limit: int) -> list[Entry]:
            found = await store.audit_after(number, limit)
            return [structs.replace(one, record=b"{}") if one.number == 2 else one for one in found]

    await decided(store, 1, 2, 3)
    with pytest.raises(Exception, match="the audit trail is damaged at record 2"):
        await pruned(attrs.evolve(pruner, store=Changed()))
    assert len(await trail(store)) == 3


async def test_an_archive_of_another_store_is_not_overwritten(store: Store, pruner: Pruner, folder: Path) -> None:
    (folder / "audit-0-1-2.jsonl.zst").write_bytes(zstandard.compress(b"another one's"))
    await decided(store, 1, 2, 3)
    with pytest.raises(ArchiveError, match="has another content"):
        await pruned(pruner)
    assert (len(await trail(store)), await store.cuts()) == (3, [])


async def test_what_a_kill_has_left_is_taken_up_at_every_step(
    store: Store, pruner: Pruner, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a kill is an exception; `tests/cli/test_prune.py` kills processes."""
    monkeypatch.setattr(retention, "RECORDS", 2)
    monkeypatch.setattr(retention, "_FORGOTTEN", 1)
    entries = await decided(store, *range(1, 8))
    for steps in range(30):
        left = steps

        class Killed(BaseException):
            pass

        class Frail:
            """A store or archive that is gone after some steps."""

            def __init__(self, real: object) -> None:
                self._real = real

            def __getattr__(self, name: str) -> object:
                called = getattr(self._real, name)

                async def call(*given: object, **named: object) -> object:
                    nonlocal left
                    if name in ("prune", "forget", "keep"):
                        left -= 1
                        if left < 0:
                            raise Killed
                    return await called(*given, **named)

                return call

        try:
            frail: dict[str, Any] = {"store": Frail(store), "archive": Frail(FileArchive(folder))}
            await pruned(attrs.evolve(pruner, **frail))
            break
        except Killed:
            assert await verified(store) == []
            there = {entry.number for entry in await trail(store)}
            cut = {number for cut in await store.cuts() for number in range(1, 8) if cut.has(number)}
            assert there | cut >= set(range(1, 8))
    assert steps > 5
    assert (await trail(store))[0].number == 8
    assert [one.record for one in archived(folder)] == [entry.record for entry in entries]
