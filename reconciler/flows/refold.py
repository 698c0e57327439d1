"""
Refold: folds one document again from the whole log, under today's rules, and replaces its row.

Claims that are refused today (from the future, or forbidden by the policy) are left out of the new row and become dead
letters. It works beside a daemon: if that has read further meanwhile, so does this, and what the daemon folds later
is joined with the new row.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import attrs
import msgspec

from reconciler.core.events import decode
from reconciler.core.folding import rows
from reconciler.errors import LogTruncatedError, StoreError
from reconciler.flows import replay
from reconciler.flows.ingest import Ingest
from reconciler.flows.recording import About, Recorder
from reconciler.flows.recovery import Bases
from reconciler.flows.replay import Archives
from reconciler.model.action import ActionKind
from reconciler.model.desired import NOTHING_DESIRED, Claims, Desired
from reconciler.model.document import Document
from reconciler.model.event import DeadLetter, Event, Outgoing
from reconciler.model.stamp import Partition, Place, Stamp
from reconciler.model.value import Json
from reconciler.ports import Changed, Clock, EventLog, FoldBatch, Refolded, Store, Telemetry

_FETCH_S = 1.0
_TRIES = 20  # each time that the daemon has read further, or another action came in between


class _Named(msgspec.Struct):
    subject: str


_named = msgspec.json.Decoder(_Named).decode


@attrs.frozen
class Origin:
    """A log to fold, and how to decode it."""

    log: EventLog
    options: decode.Options


@attrs.frozen
class Result:
    """The row before and after."""

    before: Desired
    after: Desired
    refused: tuple[DeadLetter, ...]  # events of the document that were accepted once and are refused today

    @property
    def changed(self) -> list[str]:
        """The fields whose claims differ now."""
        names = self.before.fields.keys() | self.after.fields.keys()
        return sorted(name for name in names if self.before.fields.get(name) != self.after.fields.get(name))


@attrs.define
class _Row:
    """One document's row, folded in memory: `ports.Folded`."""

    key: str
    known: frozenset[Place]  # records that our clock has refused before
    claims: Claims | None = None
    reached: dict[Partition, int] = attrs.field(factory=dict)
    letters: dict[str, tuple[DeadLetter, Outgoing | None]] = attrs.field(factory=dict)
    seen: set[tuple[str, ...]] = attrs.field(factory=set)

    async def positions(self) -> Mapping[Partition, int]:
        """Nothing was read before: today's clock and policy judge every record."""
        return {}

    async def refused(self) -> frozenset[Place]:
        """See `ports.Folded`."""
        return self.known

    async def fold(self, batch: FoldBatch) -> Changed:
        """Keep what concerns the document."""
        if self.key in batch.rows:
            self.claims, _ = rows.joined(self.claims, batch.rows[self.key])
        self.reached.update(batch.positions)
        self.letters.update((one[0].id, one) for one in batch.dead_letters if self._is_of(one[0]))
        return Changed()

    def note(self, events: Sequence[Event]) -> None:
        """Note the events of the document."""
        self.seen.update(event.stamp.event for event in events if event.key == self.key)

    def _is_of(self, letter: DeadLetter) -> bool:
        """Whether a refused record is of the document, by its key or by its event's subject."""
        if letter.key is not None and letter.key.decode(errors="replace") == self.key:
            return True
        try:
            return _named(letter.value or b"").subject == self.key
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False


class _NoBases(Bases):
    """Ignores outcomes among the events of an archive."""

    async def store(self, *_: object) -> None:
        """Keep nothing."""
        self._last.clear()


@attrs.frozen(kw_only=True)
class Refold:
    """Folds documents of a store again; `archives` are read before `log`, which is the store's own."""

    store: Store
    log: Origin
    archives: Sequence[Origin]
    clock: Clock
    telemetry: Telemetry
    dead_letter_topic: str
    role: str
    accept_truncation: bool = False

    async def document(self, key: str, who: str, reason: str) -> Result | None:
        """
        Fold a document again, replace its row and record the action; None when no event has named the document.

        Raises LogTruncatedError when a claim of the present row is in no log, unless that is accepted.
        """
        recorder = Recorder(self.store, self.clock, self.role)
        row = _Row(key, await self.store.refused())
        held = Archives(accept_truncation=self.accept_truncation)
        for archive in self.archives:
            ingest = self._ingest(row, archive, until="9999-12-31T23:59:59.999999Z")  # keeps no positions
            await replay.replay(archive.log, ingest, _NoBases(self.store, self.clock), held)
        await self.log.log.open({}, accept_truncation=True)
        held.require(await self.log.log.positions())
        ingest = self._ingest(row, self.log)
        for _ in range(_TRIES):
            await self._follow(ingest)
            row.reached.update(await self.log.log.positions())
            document = (await recorder.documents([key])).get(key)
            if document is None:
                return None
            result = await self._result(document, row)
            refolded = Refolded(key, result.after, dict(row.reached), tuple(row.letters.values()))
            details: dict[str, Json] = {
                "reason": reason,
                "fields": [*result.changed],
                "refused": [one.id for one in result.refused],
            }
            about = About(kind=ActionKind.REFOLD, target=key, document=key, details=details)
            if await self.store.refold(refolded, recorder.action(who, about)):
                return result
        raise StoreError(f"document {key} changes too fast to be folded again; pause its source, then try again")

    def _ingest(self, row: _Row, origin: Origin, until: str | None = None) -> Ingest:
        ingest = Ingest(
            origin.log,
            row,
            self.clock,
            self.telemetry,
            options=origin.options,
            dead_letter_topic=self.dead_letter_topic,
            batch_max=replay.BATCH,
            offer=lambda _: None,
            wake=asyncio.Event(),
            until=until,
        )
        ingest.folding = row.note
        return ingest

    async def _follow(self, ingest: Ingest) -> None:
        """Fold the store's own log up to the end that it has now."""
        log = self.log.log
        ends = dict(await log.ends())
        reached = await log.positions()
        while any(reached.get(place, 0) < end for place, end in ends.items()):
            await ingest.take(await log.fetch(replay.BATCH, _FETCH_S))
            reached = await log.positions()  # past gaps that hold no record

    async def _result(self, document: Document, row: _Row) -> Result:
        letters = [letter for letter, _ in row.letters.values()]
        refused = tuple([letter for letter in letters if await self.store.dead_letter(letter.id) is None])
        left_out = {letter.place for letter in letters}
        for stamp in _stamps(document.desired):
            if stamp.event not in row.seen and stamp.place not in left_out and not self.accept_truncation:
                raise LogTruncatedError(
                    f"none of these logs has {stamp.place.text}, a claim of the present row: name its archive with"
                    " --from, or go on without it: --accept-truncation"
                )
        return Result(document.desired, row.claims.desired() if row.claims else NOTHING_DESIRED, refused)


def _stamps(desired: Desired) -> Iterator[Stamp]:
    if desired.released is not None:
        yield desired.released
    for field in desired.fields.values():
        if field.register is not None:
            yield field.register.stamp
        yield from (element.stamp for element in field.elements.values())
