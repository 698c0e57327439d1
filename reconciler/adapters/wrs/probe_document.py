"""
The document that a probe changes, and how every change is undone.

Rules
- A check-out is noted before it is requested, and its working copy as soon as it is known. Only this check-out is
  undone, and only after a read has shown that it still is a working copy.
- A field's value is noted before the field is written, until a read shows that value again. A field is put back only
  if it still holds what the probe wrote: anything else is someone's work.
- `put_back` may be called at any time and any number of times, whatever went wrong before.
"""

from collections.abc import Awaitable, Mapping

import attrs

from reconciler.adapters.replies import Reply
from reconciler.adapters.wrs import functions, results, writable
from reconciler.adapters.wrs.checkout import CheckOuts
from reconciler.adapters.wrs.functions import Told
from reconciler.adapters.wrs.metadata import Schema
from reconciler.adapters.wrs.probe_findings import Finding, Halt, Result, listed
from reconciler.adapters.wrs.reading import Entity, Reader
from reconciler.adapters.wrs.results import Unfulfilled
from reconciler.adapters.wrs.service import Service
from reconciler.model.answer import NotAvailable, Released, Unknown
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import Clock

NO_WAY_BACK = "Windchill allows no way back"
NOTE = "Reconciler: a probe of this server"
_TRIES = 3  # to undo a check-out: a login page in between, a server that is busy
_PAUSE_S = 1.0
_ORDER = {"State": 0, "Name": 1}
_BY_HAND = "sign in to Windchill as that account, or as an administrator, and choose Undo Check Out"


@attrs.frozen
class Sight:
    """The document's latest iteration as it is now."""

    id: str
    entity: Entity
    snapshot: Snapshot

    @property
    def etag(self) -> Token | None:
        """Its ETag, from the header or the body."""
        return results.etag(self.entity)

    def value(self, name: str) -> Json:
        """A field's value."""
        return self.snapshot.body.get(name)

    @property
    def modified(self) -> tuple[str | None, str | None]:
        """When and by whom it was modified, as it says."""
        return self.snapshot.modified_at, self.snapshot.modified_by

    def moved_since(self, before: "Sight") -> str:
        """Return what else than fields differs from an earlier look; empty if nothing does."""
        told = {"the ID": self.id != before.id}
        told["LastModified"] = self.snapshot.modified_at != before.snapshot.modified_at
        told["ModifiedBy"] = self.snapshot.modified_by != before.snapshot.modified_by
        return listed([name for name, moved in told.items() if moved])


@attrs.frozen
class _Change:
    before: Json
    written: Json


class ProbeDocument:
    """One document, and what has to be undone on it."""

    def __init__(self, service: Service, reader: Reader, key: str, clock: Clock) -> None:
        self.key = key
        self.mark = f"rec-probe-{clock.now_us():x}"  # tells our own check-outs from others
        self.copy: str | None = None
        self.unanswered: list[str] = []  # requests that may still be carried out
        self._service = service
        self._reader = reader
        self._locks = CheckOuts(service, reader, clock)
        self._note = f"{NOTE} [{self.mark}]"
        self._clock = clock
        self._in_doubt = False  # a check-out was requested, with unknown result
        self._changes: dict[str, _Change] = {}

    # ------------------------------------------------------------------------------------------------------ one by one

    async def look(self) -> Sight:
        """Read the document. Raises Halt if it can't be read."""
        shown = await results.latest(self._reader, self.key)
        latest = results.id_of(shown) if isinstance(shown, Snapshot) else None
        entity = shown if latest is None else await self._reader.entity(latest)
        if isinstance(shown, Snapshot) and latest is not None and isinstance(entity, Entity):
            return Sight(latest, entity, shown)
        why = "it names no iteration" if isinstance(entity, Snapshot | Entity) else entity.message
        raise Halt(Finding("document", Result.FAILED, f"document {self.key} can't be read: {why}", f"GET {self.key}"))

    async def check_out(self, id: str) -> Reply | Unfulfilled:
        """Check it out; `copy` is then the working copy, unless it is someone else's."""
        held, self._in_doubt = self._in_doubt, True
        answer = await self._answered("CheckOut", self._locks.act(id, "CheckOut", {"CheckOutNote": self._note}))
        if isinstance(answer, Reply):
            made = results.identity(answer)
            self._in_doubt = made is None
            self.copy = made if made != id else self.copy
        elif not isinstance(answer, Unknown):
            self._in_doubt = held
        return answer

    async def check_out_again(self, id: str) -> Reply | Unfulfilled:
        """Check out what we have checked out already, which leaves nothing new to undo."""
        return await self._locks.act(id, "CheckOut", {"CheckOutNote": NOTE})

    async def patch(self, id: str, body: Mapping[str, Json], etag: Token | None) -> Reply | Unfulfilled:
        """Change attributes."""

        async def patched() -> Reply | Unfulfilled:
            return results.of(self._service, await self._service.patch(self._service.entity(id), body, etag), body)

        return await self._answered("PATCH", patched())

    async def check_in(self) -> Reply | Unfulfilled:
        """Check our working copy in."""
        assert self.copy is not None, "a check-out came before"
        body: dict[str, Json] = {"CheckInNote": NOTE, "KeepCheckedOut": False}
        answer = await self._answered("CheckIn", self._locks.act(self.copy, "CheckIn", body))
        if isinstance(answer, Reply):
            self.copy = None
        return answer

    async def undo(self) -> Reply | Unfulfilled:
        """Undo our check-out."""
        assert self.copy is not None, "a check-out came before"
        answer = await self._locks.act(self.copy, "UndoCheckOut", {})
        if isinstance(answer, Reply):
            self.copy = None
        return answer

    async def act(self, now: Sight, action: str, body: Mapping[str, Json]) -> Reply | Unfulfilled:
        """Call an action on the document itself, as writes do: with its ETag where it has one."""
        schema = await self._service.schema()
        name = schema.action(action) if isinstance(schema, Schema) else None
        if name is None:
            return NotAvailable(0, f"the service's metadata knows no action {action}")

        async def posted(path: str) -> Reply | Unfulfilled:
            return results.of(self._service, await self._service.post(path, body, now.etag))

        return await self._answered(action, posted(self._service.action(now.id, name)))

    async def transitions(self, now: Sight) -> Told:
        """Return the states that can follow, None if the server does not say."""
        schema = await self._service.schema()
        return await functions.transitions(self._service, schema, now.id) if isinstance(schema, Schema) else schema

    async def _answered(self, what: str, sent: Awaitable[Reply | Unfulfilled]) -> Reply | Unfulfilled:
        """Remember a request until it is answered; without an answer it may be carried out much later."""
        self.unanswered.append(what)
        answer = await sent
        if not isinstance(answer, Unknown):
            self.unanswered.remove(what)
        return answer

    def remember(self, now: Sight, name: str, value: Json) -> None:
        """Remember a field's value, before `value` is written into it."""
        self._changes[name] = _Change(now.value(name), value)

    # -------------------------------------------------------------------------------------------------------- put back

    async def put_back(self) -> list[str]:
        """Undo everything that is left; return what could not be undone, and what a person can do about it."""
        left: list[str] = []
        for attempt in range(_TRIES):
            if attempt:
                await self._clock.sleep(_PAUSE_S)
            left = [why] if (why := await self._undone()) else []
            # Attributes last: in another state check-out may be forbidden.
            for name, change in sorted(self._changes.items(), key=lambda one: _ORDER.get(one[0], len(_ORDER))):
                why = await self._restored(name, change)
                left += [why] if why else []
            if all(NO_WAY_BACK in why for why in left):
                break
        return left

    async def _undone(self) -> str:
        if self._in_doubt and self.copy is None:
            released = await self._locks.release(self.key, None, self.mark)
            if not isinstance(released, Released):
                said = f"{self.key} may still be checked out by our account ({released.message})"
                return f"{said}: look, and {_BY_HAND}"
            self._in_doubt = False
        if self.copy is None:
            return ""
        copy, why = self.copy, await self._try_to_undo(self.copy)
        return (
            f"{self.key} is still checked out by our account, as working copy {copy} ({why}): {_BY_HAND}" if why else ""
        )

    async def _try_to_undo(self, copy: str) -> str:
        released = await self._locks.release(self.key, copy, self.mark)
        if isinstance(released, Released):
            self.copy = None
            return ""
        return released.message

    async def _restored(self, name: str, change: _Change) -> str:
        value, of_it = change.before, f"{name} of {self.key}"
        by_hand = f"put {name} back to {value!r} by hand" if value is not None else f"clear {name} by hand"
        try:
            now = await self.look()
            if now.value(name) == change.written:
                answer = await self._write(now, name, value)
                if not isinstance(answer, Reply):
                    return f"{of_it} is not what it was ({answer.message}): {by_hand}"
                now = await self.look()
        except Halt as halt:
            return f"{of_it} may not be what it was ({halt.finding.message}): look, and {by_hand}"
        if now.value(name) == change.written:
            return f"{of_it} is {now.value(name)!r} although we have put it back: {by_hand}"
        if now.value(name) != value:
            return (
                f"{of_it} is {now.value(name)!r} now, which is not ours: left alone; before the probe it was {value!r}"
            )
        del self._changes[name]
        return ""

    async def _write(self, now: Sight, name: str, value: Json) -> Reply | Unfulfilled:
        if name == "State":
            allowed = await self.transitions(now)
            if not isinstance(allowed, list):
                said = "Windchill does not tell which states can follow" if allowed is None else allowed.message
                return NotAvailable(0, said)
            state = next((one for one in allowed if one.get("Value") == value), None)
            if state is None:
                return NotAvailable(0, f"{NO_WAY_BACK} from {now.value(name)}")
            return await self.act(now, "SetState", {"State": {**state}})
        if name in writable.COMMON:
            return await self.act(now, "UpdateCommonProperties", {"Updates": {name: value}})
        schema = await self._service.schema()
        if not isinstance(schema, Schema) or schema.action("CheckOut") is None:
            return await self.patch(now.id, {name: value}, now.etag)
        answer = await self.check_out(now.id)
        if isinstance(answer, Reply) and self.copy is not None:
            entity = await self._reader.entity(self.copy)
            etag = results.etag(entity) if isinstance(entity, Entity) else None
            answer = await self.patch(self.copy, {name: value}, etag)
            answer = await self.check_in() if isinstance(answer, Reply) else answer
            if isinstance(answer, Reply):
                return answer
        why = await self._undone()
        said = answer.message if not isinstance(answer, Reply) else "someone else has it checked out"
        return NotAvailable(0, f"{said}; {why}" if why else said)
