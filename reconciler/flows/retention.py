"""
Retention: what is older than its limit goes from the store to an archive, piece by piece.

Rules.
1. Nothing is deleted before a file has it, which was read back and whose records' links were checked.
2. A piece is noted in the store, in one transaction with the operator's action that tells of it, before its first
   record goes.
3. Every step may be the last: the next run takes up what is left of it.
4. A chain's newest record stays, and so do open conflicts, open dead letters, and what our clock has refused: replaying
   the log asks for it.

Theory. A piece is bounded, so neither memory nor other writers notice it. Whether a record is old is said by its time;
a chain is cut only from its beginning, so one record with a time ahead keeps all after it until it is old as well.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import attrs
import structlog

from reconciler.core.explain import audit_file
from reconciler.errors import ArchiveError
from reconciler.flows import watchdog
from reconciler.model import chain, codec
from reconciler.model.action import ActionKind, OperatorAction
from reconciler.model.chain import Cut, Entry, Head
from reconciler.model.document import ConflictRow
from reconciler.model.event import DeadLetter
from reconciler.model.value import Json
from reconciler.ports import Archive, Clock, Store, Telemetry

_log = structlog.get_logger(__name__)

RECORDS: Final = 20_000  # of the trail in one archive
BYTES: Final = 32 * 2**20  # in one archive, unless a single record has more
ROWS: Final = 500  # conflicts or dead letters in one archive, and deleted in one transaction
_PAGE = 200  # records read at once: some kilobytes each
_FORGOTTEN = 500  # records deleted in one transaction
_DAY_US = 86_400_000_000
_EVERY_S, _AGAIN_S = 86_400.0, 3_600.0
_REST_S = 1.0  # after each piece: attempts come first


@attrs.frozen
class Limits:
    """What is older than these times, in microseconds since 1970, goes; 0: nothing does."""

    audit_us: int = 0
    conflicts_us: int = 0
    letters_us: int = 0


@attrs.frozen
class Piece:
    """One piece: how many of which kind, and where they are."""

    kind: str  # audit, conflicts or dead_letters
    count: int
    file: str
    first: str = ""  # as people call it: a record's number, a time or an id
    last: str = ""


@attrs.frozen(kw_only=True)
class Pruner:
    """Archives and deletes; `who`, in a `role`, and why is recorded."""

    store: Store
    archive: Archive
    clock: Clock
    who: str
    role: str
    reason: str = ""

    async def run(self, limits: Limits) -> AsyncIterator[Piece]:
        """Yield each piece when it is archived and deleted, until nothing is left that is old."""
        await self._forget()  # what was cut before we were killed
        if limits.audit_us:
            for head in await self.store.audit_heads():
                while piece := await self._cut(head, limits.audit_us):
                    yield piece
        while limits.conflicts_us and (piece := await self._prune_conflicts(limits.conflicts_us)):
            yield piece
        while limits.letters_us and (piece := await self._prune_letters(limits.letters_us)):
            yield piece

    async def _cut(self, head: Head, until_us: int) -> Piece | None:
        """Archive and delete the next piece of a chain, whose head was this one; None: it has no old records."""
        begin = await beginning(self.store, head.chain)
        entries, size = list[Entry](), 0
        async for entry in old_entries(self.store, begin, head, until_us):
            entries.append(entry)
            size += len(entry.record)
            if len(entries) >= RECORDS or size >= BYTES:
                break
        if not entries:
            return None
        end = Head(entries[-1].number, entries[-1].link)
        name, content = audit_file.archive_name(begin, end), audit_file.archived(entries, await self._policies())
        audit_file.require_piece(content, begin, end)
        sha256 = await self.archive.keep(name, content)
        times = list(map(time_of, entries))
        cut = Cut(str(begin), str(end), min(times), max(times), name, sha256)
        details: dict[str, Json] = {"what": "audit", "records": len(entries), "after": cut.after, "upto": cut.upto}
        if await self.store.prune(self._action(name, sha256, details), cut=cut):
            await self._forget()
        # else another process has cut this chain meanwhile; what it has left is looked at next
        return Piece("audit", len(entries), name, str(begin.number + 1), str(end.number))

    async def _prune_conflicts(self, until_us: int) -> Piece | None:
        found = [row async for row in old_conflicts(self.store, until_us)]
        if not found:
            return None
        content = b"".join(codec.encode(row) + b"\n" for row in found)
        times = [row.conflict.opened_at_us for row in found]
        return await self._prune("conflicts", content, min(times), max(times), conflicts=found)

    async def _prune_letters(self, until_us: int) -> Piece | None:
        found, size = list[DeadLetter](), 0
        async for outline in old_letters(self.store, until_us):
            letter = await self.store.dead_letter(outline.id)
            if letter is not None and letter.status == outline.status:
                found.append(letter)
                size += len(letter.value or b"")
            if len(found) >= ROWS or size >= BYTES:
                break
        if not found:
            return None
        content = b"".join(codec.encode(letter) + b"\n" for letter in found)
        times = [letter.refused_at_us for letter in found]
        return await self._prune("dead_letters", content, min(times), max(times), letters=found)

    async def _prune(
        self,
        kind: str,
        content: bytes,
        since_us: int,
        until_us: int,
        *,
        conflicts: Sequence[ConflictRow] = (),
        letters: Sequence[DeadLetter] = (),
    ) -> Piece:
        name = f"{kind.replace('_', '-')}-{codec.digest_of(content)[:16]}.jsonl.zst"
        sha256 = await self.archive.keep(name, content)
        count = len(conflicts) + len(letters)
        details: dict[str, Json] = {"what": kind, "records": count, "since_us": since_us, "until_us": until_us}
        await self.store.prune(self._action(name, sha256, details), conflicts=conflicts, letters=letters)
        return Piece(kind, count, name)

    async def _forget(self) -> None:
        while await self.store.forget(_FORGOTTEN):
            await self.clock.sleep(0)

    async def _policies(self) -> dict[str, bytes]:
        return dict(await self.store.policy_texts())

    def _action(self, file: str, sha256: str, details: dict[str, Json]) -> OperatorAction:
        details = {**details, "sha256": sha256} | ({"reason": self.reason} if self.reason else {})
        at_us = self.clock.now_us()
        return OperatorAction(at_us, self.who, self.role, ActionKind.PRUNE, file, "", details, "done")


@attrs.frozen
class Days:
    """How many days each kind is kept in the store; 0: for good."""

    audit: float = 0
    conflicts: float = 0
    letters: float = 0

    def limits(self, now_us: int) -> Limits:
        """Return what is older than that now."""
        return Limits(*(round(now_us - days * _DAY_US) if days else 0 for days in attrs.astuple(self)))


@attrs.define(eq=False, slots=False, kw_only=True)
class Retention:
    """The loop that prunes daily, while it is our duty (`mine`)."""

    pruner: Pruner
    days: Days
    mine: Callable[[], bool]
    _telemetry: Telemetry
    _stopping: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def stop(self) -> None:
        """End the loop."""
        self._stopping.set()

    async def run(self) -> None:
        """Look each day, and each hour while that is another's duty or fails, until stopped. Raises StoreError."""
        self._telemetry.gauge("retention_failing", 0)
        while not self._stopping.is_set():
            watchdog.beat()
            done = self.mine() and await self.prune()
            await self.pruner.clock.wait(self._stopping, _EVERY_S if done else _AGAIN_S)

    async def prune(self) -> bool:
        """Prune what is old, with a rest after each piece; return whether nothing old is left."""
        try:
            async for piece in self.pruner.run(self.days.limits(self.pruner.clock.now_us())):
                self._telemetry.add("archived_total", piece.count, kind=piece.kind)
                _log.info("archived", kind=piece.kind, count=piece.count, file=piece.file)
                watchdog.beat()
                await self.pruner.clock.wait(self._stopping, _REST_S)
                if self._stopping.is_set() or not self.mine():
                    return False
        except ArchiveError as error:
            _log.error("can't archive what is old, so it stays in the store", error=str(error))
            self._telemetry.gauge("retention_failing", 1)
            return False
        self._telemetry.gauge("retention_failing", 0)
        return True


# --------------------------------------------------------------------------------------------------------- what is old


async def beginning(store: Store, number: int) -> Head:
    """Return after which record a chain begins in the store."""
    ends = [cut.end for cut in await store.cuts() if cut.chain == number]
    return ends[-1] if ends else chain.begin(number)


async def old_entries(store: Store, begin: Head, head: Head, until_us: int) -> AsyncIterator[Entry]:
    """Yield the records of a chain after one of its heads, up to the first that is not old, without the newest."""
    after = begin.number
    while found := await store.audit_after(after, _PAGE):
        for entry in found:
            if entry.number >= head.number or time_of(entry) >= until_us:
                return
            yield entry
        after = found[-1].number


async def old_conflicts(store: Store, until_us: int, most: int | None = ROWS) -> AsyncIterator[ConflictRow]:
    """Yield conflicts that were closed before a time, at most so many."""
    after, count = (-1, ""), 0
    while found := await store.conflicts(closed=True, limit=ROWS, after=after):
        for row in found:
            if count == most or row.conflict.opened_at_us >= until_us:
                return
            if row.closed_at_us is not None and row.closed_at_us < until_us:
                yield row
                count += 1
        after = found[-1].conflict.opened_at_us, found[-1].conflict.id


async def old_letters(store: Store, until_us: int) -> AsyncIterator[DeadLetter]:
    """Yield the outlines of settled dead letters that were refused before a time, oldest first."""
    after, last = 0, await store.last_letter()  # the newest stays: its number must not be given again
    while found := await store.letters_after(after, ROWS):
        for number, letter in found:
            if number >= last or letter.refused_at_us >= until_us:
                return
            if letter.status != "open" and letter.stage != "clock":
                yield letter
        after = found[-1][0]


def time_of(entry: Entry) -> int:
    """Return the time of a record. Raises ArchiveError if it has none, because someone has changed it."""
    if entry.columns:
        return int(entry.columns[1] or 0)
    try:
        found = codec.decode_checkpoint if entry.chain == chain.CHECKPOINTS else codec.decode_record
        return found(entry.record).at_us
    except codec.UNREADABLE as error:
        said = f"record {entry.number} of the audit trail can't be read; `reconciler audit verify` says more"
        raise ArchiveError(said) from error
