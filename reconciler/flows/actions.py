"""
Operators' actions, for commands, API and page.

Rules of this file:
1. Every action is recorded with who did it: one that changes the store in the same transaction, one that appends events
   once the log has them, with their ids.
2. Expected failures are values, not errors: what is gone, stale or unusable.
3. Decisions rest on what was just read; if another action came first, everything is read again.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import attrs
import msgspec

from reconciler.core.events import change_events, decode, outcomes
from reconciler.core.folding import fold
from reconciler.flows.recording import CHUNK, About, Decided, Deciding, Recorder, Why
from reconciler.model import instant
from reconciler.model.action import (
    CLI,
    MOVED_ON,
    RESOLVED_DEFAULT,
    RESOLVED_MAX,
    UNKNOWN_DOCUMENT,
    UNKNOWN_LETTER,
    ActionKind,
    Appended,
    Change,
    Done,
    Gone,
    Preview,
    Previews,
    Resolved,
    ResolvedMany,
    Side,
    Stale,
    Take,
    Unusable,
)
from reconciler.model.document import SETTLED, Conflict, ConflictRow, Document, Due, Lane, Status
from reconciler.model.event import DeadLetter, Outgoing, Topics
from reconciler.model.policy import OPERATORS
from reconciler.model.standing import Replica, WriteStop
from reconciler.model.value import Json
from reconciler.ports import Clock, EventLog, Store

_LETTERS = 100  # of one append; each may be a megabyte
_STOP_POLL_S = 0.2
_COMPARED = 500  # documents made due at a time
_PAGE = 25  # conflicts read at a time with their documents, which may be some megabytes each
_RESOLVED_BYTES = 4 * 1024 * 1024  # of the events of one action on many conflicts
_ID_MAX = 200  # recorded characters of an event's id, which its sender may make as long as a record


class _Named(msgspec.Struct):
    id: str
    subject: str


def _nobody(_: Due) -> None:
    """Tell no queue: the daemon finds in the store what is due."""


def _nothing() -> None:
    """Wake no loop, for the same reason."""


@attrs.frozen(kw_only=True)
class OperatorActions:
    """
    What operators can do; `who` is the name of the one who does it.

    `offer` and `wake` tell loops of this process at once; another process notices in the store.
    """

    store: Store
    log: EventLog
    clock: Clock
    decoding: Callable[[], decode.Options]  # how the log is decoded now
    marks: bool = False  # the log has no headers, so a letter counts as replayed once it is appended
    offer: Callable[[Due], None] = _nobody
    wake: Callable[[], None] = _nothing
    role: str = CLI
    issuer: str = ""

    def as_role(self, role: str, issuer: str = "") -> "OperatorActions":
        """Return the same for another role; `issuer` is the provider that vouches for the name, if any."""
        return attrs.evolve(self, role=role, issuer=issuer)

    # ------------------------------------------------------------------------------------------------------- documents

    async def retry(self, who: str, keys: Sequence[str]) -> Done:
        """Make documents due now, before all others, except paused ones."""
        done = await self._recorder.steer(who, ActionKind.RETRY, Change.RETRY, keys, why=_UNLESS_PAUSED)
        self._offer(done, Lane.ASKED)
        return done

    async def compare(self, who: str, keys: Sequence[str] | None) -> int:
        """
        Make documents due for a comparison with Windchill; None: all. Return how many.

        Only synced, held and parked ones: documents that wait after a failure go on waiting, and paused ones stay so.
        """
        count, after = 0, ""
        if keys is not None:
            count = await self.store.compare_again(keys, SETTLED, self.clock.now_us())
            known = await self._recorder.documents(keys)
            abouts = [About(kind=ActionKind.COMPARE, target=key, document=key) for key in known]
        else:
            while page := await self.store.settled_keys(SETTLED, after, _COMPARED):
                count += await self.store.compare_again(page, SETTLED, self.clock.now_us())
                after = page[-1]
            abouts = [About(kind=ActionKind.COMPARE, target="", details={"documents": count})]
        self.wake()
        await self._recorder.record(who, abouts)
        return count

    async def pause(self, who: str, keys: Sequence[str], reason: str) -> Done:
        """Neither read nor write documents until they are resumed; their events are still folded."""
        told = f"paused by {who}: {reason}" if reason else f"paused by {who}"
        done = await self._recorder.steer(
            who, ActionKind.PAUSE, Change.PAUSE, keys, why=_UNLESS_ALREADY, reason=reason, shown=told
        )
        self._offer(done, Lane.RETRY)  # for a last look
        return done

    async def resume(self, who: str, keys: Sequence[str]) -> Done:
        """End the pause of documents, and make them due now."""
        done = await self._recorder.steer(who, ActionKind.RESUME, Change.RESUME, keys, why=_IF_PAUSED)
        self._offer(done)
        return done

    async def release(self, who: str, key: str, reason: str, fields: Sequence[str] = ()) -> Appended | Gone | Unusable:
        """Stop managing a document, or only these fields of it, by an event that says so."""
        document = (await self._recorder.documents([key])).get(key)
        if document is None:
            return Gone(UNKNOWN_DOCUMENT)
        managed = fold.managed(document.desired)
        held = {conflict.field for conflict in document.agreement.held}
        missing = [name for name in fields if name not in managed and name not in held]
        cut = document.desired.cut
        if missing or not (managed or cut):
            return Unusable(f"{', '.join(missing) or 'this document'}: not managed, so there is nothing to release")
        known = document.desired.fields
        stamps = [fold.newest_stamp(known[name]) for name in fields or managed if name in known]
        times = [stamp.time for stamp in stamps] + ([] if cut is None else [cut[1]])
        time_us = self._deciding.after(key, max((instant.to_us(time) for time in times), default=0))
        if isinstance(time_us, Unusable):
            return time_us
        about = {"id": str(uuid.uuid4()), "source": OPERATORS, "actor": who, "time": instant.from_us(time_us)}
        if fields:
            event = change_events.changed(key, {"release": list(fields), "reason": reason}, **about)
        else:
            event = change_events.released(key, reason, **about)
        checked = self._deciding.checked([event])
        if isinstance(checked, Unusable):
            return checked
        details: dict[str, Json] = {"reason": reason, "fields": list(fields), "events": [about["id"]]}
        await self.log.append([record for record, _ in checked])
        about_it = About(kind=ActionKind.RELEASE, target=key, document=key, details=details, result="appended")
        await self._recorder.record(who, [about_it])
        return Appended(key, (about["id"],))

    # ---------------------------------------------------------------------------------------------------------- writes

    async def stop_writes(self, who: str, reason: str) -> WriteStop:
        """Stop all writes to Windchill until they are resumed; return the stop in force, perhaps an earlier one."""
        about = About(kind=ActionKind.STOP_WRITES, target="", details={"reason": reason})
        while (stop := await self.store.write_stop()) is None:
            await self._recorder.once(who, about, Change.STOP_WRITES)
        self.wake()
        return stop

    async def resume_writes(self, who: str, reason: str) -> bool:
        """Let writes begin again; return whether they were stopped."""
        about = About(kind=ActionKind.RESUME_WRITES, target="", details={"reason": reason})
        while await self.store.write_stop() is not None:
            if await self._recorder.once(who, about, Change.RESUME_WRITES):
                self.wake()
                return True
        return False

    async def despite_stop(self, stop: WriteStop, patience_s: float) -> Sequence[Replica]:
        """Wait until no write is under way that began before a stop; return who may still write after that time."""
        until_s = self.clock.monotonic_s() + patience_s
        while await self.store.write_stop() == stop:
            left = [one for one in await self.store.replicas() if one.writes_despite(stop)]
            if not left or self.clock.monotonic_s() >= until_s:
                return left
            await self.clock.sleep(_STOP_POLL_S)
        return ()

    # ------------------------------------------------------------------------------------------------------- conflicts

    async def preview(self, conflict_id: str, take: Take) -> Preview | Gone | Unusable:
        """Return what deciding a conflict would do, and do nothing."""
        found = await self._conflict(conflict_id)
        if isinstance(found, Gone):
            return found
        prepared = self._deciding.decide(*found, take)
        return prepared if isinstance(prepared, Unusable) else prepared.preview

    async def resolve(
        self, who: str, conflict_id: str, take: Take, reason: str, seen: str | None = None
    ) -> Resolved | Stale | Gone | Unusable:
        """Decide a conflict, by events. With `seen`, from a preview, only if nothing has changed since."""
        found = await self._conflict(conflict_id)
        if isinstance(found, Gone):
            return found
        prepared = self._deciding.decide(*found, take, reason=reason, who=who)
        if isinstance(prepared, Unusable):
            return prepared
        if seen is not None and seen != prepared.preview.seen:
            return Stale(prepared.preview)
        (resolved,) = await self._say(who, reason, take, [prepared])
        return resolved

    async def preview_many(
        self, take: Side, *, field: str | None = None, rule: str | None = None, limit: int = RESOLVED_DEFAULT
    ) -> Previews:
        """Return what `resolve_many` would do, and do nothing."""
        decide = partial(self._deciding.decide_unseen, take=take, reason="", who="")
        ready, left, more = await self._many(decide, field, rule, limit)
        return Previews(tuple(one.preview for one in ready), left, more)

    async def resolve_many(
        self,
        who: str,
        take: Side,
        reason: str,
        *,
        field: str | None = None,
        rule: str | None = None,
        limit: int = RESOLVED_DEFAULT,
        seen: Mapping[str, str] | None = None,
    ) -> ResolvedMany:
        """
        Decide open conflicts of one field or one rule, oldest first; fewer than `limit` if they are large.

        With `seen`, from previews by conflict, only these, and only those that have not changed since.
        """
        decide = partial(self._deciding.decide_unseen, take=take, reason=reason, who=who)
        ready, left, more = await self._many(decide, field, rule, limit)
        if seen is not None:
            ready = [one for one in ready if seen.get(one.preview.conflict) == one.preview.seen]
            done = {one.preview.conflict for one in ready}
            left = {conflict: left.get(conflict, MOVED_ON) for conflict in seen if conflict not in done}
        return ResolvedMany(tuple(await self._say(who, reason, take, ready)), left, more)

    async def _many(
        self,
        decide: Callable[[Document | None, Conflict], Decided | str],
        field: str | None,
        rule: str | None,
        limit: int,
    ) -> tuple[list[Decided], dict[str, str], bool]:
        """Return decisions that are ready, conflicts that are not with why, and whether there are more."""
        assert 0 < limit <= RESOLVED_MAX
        ready: list[Decided] = []
        left: dict[str, str] = {}
        after, more, size = (-1, ""), False, 0
        while not more and (page := await self.store.conflicts(limit=_PAGE, after=after)):
            documents = await self._recorder.documents([row.document for row in page])
            for row in page:
                document = documents.get(row.document)
                if not self._concerns(row, document, field, rule):
                    continue
                if len(ready) + len(left) == limit or size >= _RESOLVED_BYTES:
                    more = True
                    break
                prepared = decide(document, row.conflict)
                if isinstance(prepared, str):
                    left[row.conflict.id] = prepared
                else:
                    ready.append(prepared)
                    size += sum(len(record.value or b"") for record in prepared.records)
            last = page[-1].conflict
            after = (last.opened_at_us, last.id)
        return ready, left, more

    # ---------------------------------------------------------------------------------------------------- dead letters

    async def replay_letters(self, who: str, ids: Sequence[str], reason: str = "") -> Done:
        """Append dead letters to the change log again, as they were. Raises LogError."""
        wanted = list(dict.fromkeys(ids))
        done: list[str] = []
        for start in range(0, len(wanted), _LETTERS):
            letters = [
                one for one in [await self.store.dead_letter(n) for n in wanted[start : start + _LETTERS]] if one
            ]
            if not letters:
                continue
            topics = self.decoding().topics
            await self.log.append([_again(one, topics, one.key, one.value, one.headers) for one in letters])
            abouts = [
                About(kind=ActionKind.REPLAY, target=one.id, details={"reason": reason}, result="appended")
                for one in letters
            ]
            await self._recorder.record(who, abouts, Change.REPLAY if self.marks else Change.NOTHING)
            done += [one.id for one in letters]
        return Done(tuple(done), dict.fromkeys(set(wanted) - set(done), UNKNOWN_LETTER))

    async def discard_letters(self, who: str, ids: Sequence[str], reason: str) -> Done:
        """Discard dead letters; they stay listed as discarded."""
        wanted = list(dict.fromkeys(ids))
        known = [one for one in wanted if await self.store.dead_letter(one) is not None]
        abouts = [About(kind=ActionKind.DISCARD, target=one, details={"reason": reason}) for one in known]
        await self._recorder.record(who, abouts, Change.DISCARD)
        return Done(tuple(known), dict.fromkeys(set(wanted) - set(known), UNKNOWN_LETTER))

    async def resend(self, who: str, letter_id: str, value: bytes, reason: str) -> Appended | Gone | Unusable:
        """Append a corrected event for a dead letter, which becomes "replayed" when the event is read."""
        letter = await self.store.dead_letter(letter_id)
        if letter is None:
            return Gone(UNKNOWN_LETTER)
        try:
            text = change_events.on_behalf(value, who)
        except (ValueError, RecursionError) as error:
            return Unusable(f"an event must be a JSON object: {error}")
        decode_options = self.decoding()
        to = decode_options.topics.again(letter.place.topic)
        record = change_events.signed(Outgoing(to, None, text, change_events.CONTENT_TYPE), decode_options)
        refusal = change_events.refusal(record, decode_options, self.clock.now_us())
        if refusal is not None:
            return Unusable(f"the event can't be used: {refusal}")
        named = msgspec.json.decode(text, type=_Named)
        key = named.subject.encode()
        await self.log.append([_again(letter, decode_options.topics, key, record.value, change_events.CONTENT_TYPE)])
        details: dict[str, Json] = {"reason": reason, "events": [named.id]}
        change = Change.REPLAY if self.marks else Change.NOTHING
        about = About(
            kind=ActionKind.RESEND, target=letter_id, document=named.subject, details=details, result="appended"
        )
        await self._recorder.record(who, [about], change)
        return Appended(named.subject, (named.id,))

    async def emitted(self, who: str, events: Mapping[str, Sequence[str]]) -> None:
        """Record who appended which events, by document."""
        abouts = [
            About(
                kind=ActionKind.EMIT,
                target=key,
                document=key,
                details={"events": [one[:_ID_MAX] for one in ids]},
                result="appended",
            )
            for key, ids in events.items()
        ]
        await self._recorder.record(who, abouts)

    async def note(
        self, who: str, kind: str, target: str, *, document: str = "", details: Mapping[str, Json], result: str = "done"
    ) -> None:
        """Record an action that was done elsewhere."""
        about = About(kind=kind, target=target, document=document, details=details, result=result)
        await self._recorder.record(who, [about])

    # ----------------------------------------------------------------------------------------------------------- steps

    @property
    def _recorder(self) -> Recorder:
        return Recorder(self.store, self.clock, self.role, self.issuer)

    @property
    def _deciding(self) -> Deciding:
        return Deciding(self.decoding(), self.clock)

    async def _conflict(self, conflict_id: str) -> tuple[Document, Conflict] | Gone:
        row = await self.store.conflict(conflict_id)
        if row is None:
            return Gone("no conflict has this id")
        if row.closed_at_us is not None:
            return Gone(f"this conflict was closed at {instant.from_us(row.closed_at_us)}; there is nothing to decide")
        document = (await self._recorder.documents([row.document])).get(row.document)
        return Gone(UNKNOWN_DOCUMENT) if document is None else (document, row.conflict)

    def _concerns(self, row: ConflictRow, document: Document | None, field: str | None, rule: str | None) -> bool:
        name = row.conflict.field
        if field is not None and name != field:
            return False
        if rule is None:
            return True
        snapshot = None if document is None else document.agreement.snapshot
        return self.decoding().policy.rule(name, None if snapshot is None else snapshot.type).name == rule

    async def _say(self, who: str, reason: str, take: Take, ready: Sequence[Decided]) -> list[Resolved]:
        said: list[Resolved] = []
        for start in range(0, len(ready), CHUNK):
            some = ready[start : start + CHUNK]
            await self.log.append([record for one in some for record in one.records])
            await self._recorder.record(who, [one.about(take, reason) for one in some])
            said += [one.resolved for one in some]
        return said

    def _offer(self, done: Done, lane: Lane = Lane.OPERATOR) -> None:
        now_us = self.clock.now_us()
        for key in done.done:
            self.offer(Due(key, lane, now_us))


def _unless(why: str, *, paused: bool) -> Why:
    """Return what leaves unknown documents out, and those that are (not) paused, for this reason."""

    def found(document: Document | None) -> str | None:
        if document is None:
            return UNKNOWN_DOCUMENT
        return why if (document.status is Status.PAUSED) is paused else None

    return found


_UNLESS_PAUSED = _unless("it is paused; resume it first", paused=True)
_UNLESS_ALREADY = _unless("it is paused already", paused=True)
_IF_PAUSED = _unless("it is not paused", paused=False)


def _again(
    letter: DeadLetter,
    topics: Topics,
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes | None]],
) -> Outgoing:
    """Return a record for the topic that a letter came from, with a header that names the letter."""
    kept = [(name, content) for name, content in headers if name != outcomes.REPLAY_OF]
    return Outgoing(topics.again(letter.place.topic), key, value, (*kept, (outcomes.REPLAY_OF, letter.id.encode())))
