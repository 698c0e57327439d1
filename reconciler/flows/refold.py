"""
Refold: one document folded again from the log, all of it, under today's rules; the row is replaced by that.

A claim from the future that was taken before such claims were refused, or one that today's policy forbids, is left out
of the new row and becomes a dead letter. It works beside a daemon: where that has read further meanwhile, so does this,
and a fold of the daemon's that read the old row is made once more (`ports.FoldBatch.refolds`).
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs
import msgspec

from reconciler.core.events import decode
from reconciler.errors import LogTruncatedError, StoreError
from reconciler.flows import replay
from reconciler.flows.ingest import Ingest
from reconciler.flows.recording import About, Recorder
from reconciler.flows.recovery import Bases
from reconciler.flows.replay import Archives
from reconciler.model.action import ActionKind
from reconciler.model.desired import NOTHING_DESIRED, Desired
from reconciler.model.document import Document
from reconciler.model.event import DeadLetter, Event, Outgoing
from reconciler.model.stamp import Partition, Place, Stamp
from reconciler.model.value import Json
from reconciler.ports import Clock, EventLog, FoldBatch, Refolded, Store, Telemetry

_FETCH_S = 1.0
_TRIES = 20  # each time that the daemon has read further, or another action came in between


class _Named(msgspec.Struct):
    subject: str


_named = msgspec.json.Decoder(_Named).decode


@attrs.frozen
class Origin:
    """A log to be folded, and how it is decoded."""

    log: EventLog
    options: decode.Options


@attrs.frozen
class Result:
    """What became of a row."""

    before: Desired
    after: Desired
    refused: tuple[DeadLetter, ...]  # events of the document that can't be used today, and could when they were read

    @property
    def changed(self) -> list[str]:
        """The fields of which something else is wanted now, or by another event."""
        names = self.before.fields.keys() | self.after.fields.keys()
        return sorted(name for name in names if self.before.fields.get(name) != self.after.fields.get(name))


@attrs.define
class _Row:
    """One document's row as it is folded aside: `ports.Folded`."""

    key: str
    known: frozenset[Place]  # what our clock has refused before
    desired_row: Desired | None = None
    reached: dict[Partition, int] = attrs.field(factory=dict)
    letters: dict[str, tuple[DeadLetter, Outgoing | None]] = attrs.field(factory=dict)
    seen: set[tuple[str, ...]] = attrs.field(factory=set)

    async def positions(self) -> Mapping[Partition, int]:
        """Nothing was read before: today's clock and rules judge every record."""
        return {}

    async def refused(self) -> frozenset[Place]:
        """See `ports.Folded`."""
        return self.known

    async def refolds(self) -> int:
        """Nobody else changes this row."""
        return 0

    async def desired(self, keys: Iterable[str]) -> dict[str, Desired]:
        """See `ports.Folded`."""
        return {} if self.desired_row is None or self.key not in set(keys) else {self.key: self.desired_row}

    async def fold(self, batch: FoldBatch) -> None:
        """Keep what is of the document."""
        self.desired_row = batch.rows.get(self.key, self.desired_row)
        self.reached.update(batch.positions)
        self.letters.update((one[0].id, one) for one in batch.dead_letters if self._is_of(one[0]))

    def note(self, events: Sequence[Event]) -> None:
        """Note which events of the document the logs hold."""
        self.seen.update(event.stamp.event for event in events if event.key == self.key)

    def _is_of(self, letter: DeadLetter) -> bool:
        """Whether a refused record is of the document, by its key or by the event's subject if that can be read."""
        if letter.key is not None and letter.key.decode(errors="replace") == self.key:
            return True
        try:
            return _named(letter.value or b"").subject == self.key
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False


class _NoBases(Bases):
    """Outcomes among the events of an archive: of no concern here."""

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
        Fold a document again, replace its row and record who did it; None when no event has named it.

        Raises LogTruncatedError when the logs do not hold all that the present row is made of, unless that is accepted.
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
                    f"the row is made of {stamp.place.text} too, which is in none of these logs: name its archive with"
                    " --from, or go on without it with --accept-truncation"
                )
        return Result(document.desired, row.desired_row or NOTHING_DESIRED, refused)


def _stamps(desired: Desired) -> Iterator[Stamp]:
    if desired.released is not None:
        yield desired.released
    for field in desired.fields.values():
        if field.register is not None:
            yield field.register.stamp
        yield from (element.stamp for element in field.elements.values())


__all__ = ["Origin", "Refold", "Result"]
