"""
Amending: what operators change of many claims at once, by events: rename a document, undo a batch, adopt documents.

Rules of this file:
1. Nothing is stored here but the record of the act: events are appended, and the reconciler folds them like any other.
2. Each amendment is prepared, which appends nothing, and shown; appending it prepares it no second time.
3. Events are appended at a rate, so that a mistake here is no flood either.
"""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import attrs

from reconciler.core.events import change_events, decode
from reconciler.core.folding import fold
from reconciler.core.planning import amendments
from reconciler.core.planning.amendments import Amendment, Batch
from reconciler.flows.recording import About, Deciding, Recorder
from reconciler.model import instant
from reconciler.model.action import UNKNOWN_DOCUMENT, ActionKind, Gone, Unusable
from reconciler.model.desired import NOTHING_DESIRED
from reconciler.model.document import Document
from reconciler.model.event import Outgoing
from reconciler.model.policy import OPERATORS
from reconciler.model.value import Json
from reconciler.ports import Clock, EventLog, Store

_PAGE = 200  # documents read at a time
_RECORDS_MAX = 1000  # of one document's audit trail, newest first
_CHUNK = 20  # amendments of one append


@attrs.frozen
class Prepared:
    """An amendment with the records that carry it out."""

    amendment: Amendment
    records: tuple[Outgoing, ...]
    events: tuple[str, ...]  # ids


@attrs.frozen(kw_only=True)
class Amending:
    """Prepares and appends amendments, and records who did."""

    store: Store
    log: EventLog
    clock: Clock
    decoding: Callable[[], decode.Options]
    role: str

    async def rename(self, who: str, key: str, to: str, reason: str) -> tuple[Prepared, Prepared] | Gone | Unusable:
        """
        Prepare to move what is claimed of a document to another id: claims on that, made now, and a release of this.

        Claims of both are joined if no field is claimed differently; otherwise the newer would silently win.
        """
        found = await self._documents([key, to])
        document = found.get(key)
        if document is None:
            return Gone(UNKNOWN_DOCUMENT)
        if key == to or document.desired.cut is not None or not fold.managed(document.desired):
            return Unusable(f"{key}: nothing of it can be moved to {to}: it is the same, not managed, or too large")
        new = found[to].desired if to in found else NOTHING_DESIRED
        if (field := amendments.clash(document.desired, new)) is not None:
            return Unusable(f"both documents claim {field}: release that field of one of them first")
        there, gone = amendments.renamed(document, to, new)
        prepared = self.prepared(there, who, reason), self.prepared(gone, who, reason or f"renamed to {to}")
        for one in prepared:
            if isinstance(one, Unusable):
                return one
        return prepared  # type: ignore[return-value]  # neither is unusable

    async def revert(self, who: str, batch: Batch, reason: str) -> AsyncIterator[Prepared | Unusable]:
        """Prepare to set back what a batch of events has changed, document by document, in order of their keys."""
        policy, after = self.decoding().policy, ""
        while page := await self.store.list_documents(None, after, _PAGE):
            for document in page:
                if amendments.touches(document.desired, batch):
                    records = await self.store.audit(document.key, limit=_RECORDS_MAX)
                    amendment = amendments.reverted(document, records, batch, policy)
                    if amendment.rows:
                        yield self.prepared(amendment, who, reason)
            after = page[-1].key

    def prepared(self, amendment: Amendment, who: str, reason: str) -> Prepared | Unusable:
        """Return an amendment with its events; or why one of them would be refused."""
        deciding = Deciding(self.decoding(), self.clock)
        time_us = deciding.after(amendment.document, amendment.asked_us)
        if isinstance(time_us, Unusable):
            return time_us
        if amendment.since_us is not None:
            time_us = min(time_us, max(amendment.since_us, amendment.asked_us + 1))
        events: list[dict[str, object]] = []
        for data in (*amendment.said, *([None] if amendment.releases else [])):
            at = instant.from_us(time_us + len(events))
            about = {"id": str(uuid.uuid4()), "source": OPERATORS, "actor": who, "time": at}
            if data is None:
                events.append(change_events.released(amendment.document, reason, **about))
            else:
                events.append(change_events.changed(amendment.document, {**data, "reason": reason}, **about))
        checked = deciding.checked(events)
        if isinstance(checked, Unusable):
            return Unusable(f"{amendment.document}: {checked.reason}")
        return Prepared(amendment, tuple(record for record, _ in checked), tuple(str(one["id"]) for one in events))

    async def append(
        self,
        who: str,
        kind: ActionKind,
        prepared: Sequence[Prepared],
        details: Mapping[str, Json],
        *,
        per_minute: float,
        done: Callable[[int], None] = lambda _: None,
    ) -> int:
        """
        Append amendments, at most so many documents a minute, and record them; return how many documents.

        Each chunk is recorded once the log has it. Raises LogError, and leaves the rest.
        """
        said = [one for one in prepared if one.records]
        recorder = Recorder(self.store, self.clock, self.role)
        for start in range(0, len(said), _CHUNK):
            some = said[start : start + _CHUNK]
            if start:
                await self.clock.sleep(_CHUNK * 60 / per_minute)
            await self.log.append([record for one in some for record in one.records])
            await recorder.record(who, [_about(kind, one, details) for one in some])
            done(start + len(some))
        return len(said)

    async def _documents(self, keys: Sequence[str]) -> dict[str, Document]:
        found = await self.store.documents(keys)
        return {key: document for key, document in found.items() if document.revision}


def _about(kind: ActionKind, one: Prepared, details: Mapping[str, Json]) -> About:
    key, fields = one.amendment.document, [row.field for row in one.amendment.rows if not row.left]
    said: dict[str, Json] = {**details, "fields": [*fields], "events": [*one.events]}
    return About(kind=kind, target=key, document=key, details=said, result="appended")
