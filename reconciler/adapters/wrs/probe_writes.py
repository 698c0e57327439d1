"""
The probe's questions that only a write can answer, each asked of the probe's document and undone at once.

Rules
- A field is set to the value that it has, wherever that answers the question. Otherwise it gets a text that says what
  it is, and its own value again right afterwards.
- A token counts as stale only if the document really had it before: an invented one might be refused for its form.
- LastModified counts whole seconds, so the probe waits a second before it checks whether something changes it.
"""

from collections.abc import Callable

import attrs

from reconciler.adapters.replies import Reply
from reconciler.adapters.wrs import checked_out, probe_findings, results, values
from reconciler.adapters.wrs.metadata import Kind, Schema
from reconciler.adapters.wrs.probe_document import ProbeDocument, Sight
from reconciler.adapters.wrs.probe_findings import Finding, Halt, Result, answered, listed, plain
from reconciler.adapters.wrs.reading import Entity, Reader
from reconciler.adapters.wrs.results import Unfulfilled
from reconciler.adapters.wrs.service import INVALID_NONCE, Service
from reconciler.model.answer import Broken, Failed, NotAvailable, Unauthorised, Unknown, VersionConflict
from reconciler.model.snapshot import Token
from reconciler.model.value import Json
from reconciler.ports import Clock

MARKER = "Reconciler: a probe, put back in a moment"
_NAME_MARKER = " (probe)"
_SECOND_S = 1.1
_PREFERRED = ("Description", "Title", "Comments", "Comment")
_NO_RETURN = ("OBSOLE", "CANCEL", "RELEASE", "SUPERSED", "DELET")  # states with names that begin so are chosen last


@attrs.define
class Facts:
    """What was found so far, as far as the conclusion needs it."""

    field: str = ""
    state: dict[str, Json] | None = None  # to change to
    told: bool = False  # whether the server says which states can follow
    locked: bool = False  # check-out, PATCH and check-in went through, and the result showed what was written
    plain: bool = False  # a PATCH without check-out is accepted
    stale: str = ""  # the result of a PATCH with a stale token: `refused`, `ignored`, `otherwise`
    etag: bool = False


class ProbeWrites:
    """Asks by writing. Every question leaves the document checked in."""

    def __init__(
        self,
        scratch: ProbeDocument,
        service: Service,
        reader: Reader,
        clock: Clock,
        *,
        bare: Service | None,
        tell: Callable[[Finding], None],
    ) -> None:
        self.facts = Facts()
        self._scratch = scratch
        self._service = service
        self._reader = reader
        self._clock = clock
        self._bare = bare
        self._tell = tell

    # --------------------------------------------------------------------------------------------------------- choosing

    def choose(self, now: Sight, schema: Schema) -> None:
        """Choose a text field to write into. Raises Halt if there is none."""
        known = schema.type(now.snapshot.type) or schema.document
        possible = [
            name
            for name, value in now.snapshot.body.items()
            if (found := known.properties.get(name)) is not None
            and (found.kind is Kind.TEXT and not (found.collection or found.read_only or found.by_action))
            and (isinstance(value, str) or (value is None and found.nullable))
            and name not in ("Name", "Number", "Organization", "State", self._service.options.key_property)
        ]
        chosen = [*(name for name in _PREFERRED if name in possible), *possible]
        if not chosen:
            raise Halt(
                Finding("document", Result.FAILED, "it has no text that a PATCH could write: choose another one")
            )
        self.facts.field = chosen[0]

    async def choose_state(self, now: Sight, schema: Schema) -> None:
        """Choose the state to move to: one that is not the end of a life cycle, if there is one."""
        if schema.action("SetState") is None:
            return
        told = await self._scratch.transitions(now)
        self._tell(probe_findings.finding(told))
        self.facts.told = isinstance(told, list)
        allowed = [one for one in told if one["Value"] != now.value("State")] if isinstance(told, list) else []
        allowed.sort(key=lambda one: str(one["Value"]).upper().startswith(_NO_RETURN))
        self.facts.state = allowed[0] if allowed else None

    # ----------------------------------------------------------------------------------------------- without check-out

    async def plain(self, now: Sight) -> None:
        """Ask whether an ordinary iteration can be changed in place."""
        field, sent = self.facts.field, f"PATCH {self.facts.field}, as it is, without check-out"
        answer = await self._scratch.patch(now.id, {field: now.value(field)}, now.etag)
        check = "write without check-out"
        if isinstance(answer, Reply):
            self.facts.plain = True
            after = await self._scratch.look()
            moved = after.moved_since(now)
            said = f"accepted; it changes {moved}" if moved else "accepted; it changes neither the ID nor LastModified"
            said += ". Other programs can change documents this way without making an iteration"
            self._say(check, Result.OK, said, sent, answer)
        elif isinstance(answer, VersionConflict) and now.etag is not None:
            said = "refused, although the ETag was the present one: this server does not know its own ETag again"
            self._say(check, Result.WARNING, said, sent, answer)
        elif isinstance(answer, Unknown | Broken | Failed | Unauthorised):
            self._say(check, Result.WARNING, "no usable answer; counts as no", sent, answer)
        else:
            self._say(check, Result.OK, "refused: attributes are changed under check-out only", sent, answer)

    async def stale(self, old: Token | None, now: Sight) -> None:
        """Ask what happens to a PATCH with a token that the document had before."""
        check, field = "stale If-Match", self.facts.field
        if old is None or now.etag is None:
            self._skip(check, "there are no ETags, so none can be stale")
        elif not self.facts.plain:
            self._skip(check, "not asked: a PATCH without check-out is refused anyway")
        elif old == now.etag:
            self.facts.stale = "otherwise"
            said = "the ETag stayed the same although the document changed: it can't guard anything"
            self._tell(Finding(check, Result.WARNING, said))
        else:
            sent = f"PATCH {field}, as it is, without check-out, If-Match: the ETag from before"
            answer = await self._scratch.patch(now.id, {field: now.value(field)}, old)
            match answer:
                case VersionConflict():
                    self.facts.stale = "refused"
                    self._say(check, Result.OK, "refused: If-Match guards writes on this server", sent, answer)
                case Reply():
                    self.facts.stale = "ignored"
                    said = 'IGNORED: the write was accepted. Never set lock = "etag" here: it would overwrite people'
                    self._say(check, Result.WARNING, said, sent, answer)
                case _:
                    self.facts.stale = "otherwise"
                    said = "not accepted, but not refused as a version conflict (412, 409) either; it does not count"
                    self._say(check, Result.WARNING, said, sent, answer)

    async def in_place(self, now: Sight) -> None:
        """Change the document without check-out, and look whether that shows and changes the ETag."""
        field = self.facts.field
        self._scratch.remember(now, field, _marker(now.value(field)))
        answer = await self._scratch.patch(now.id, {field: _marker(now.value(field))}, now.etag)
        if not isinstance(answer, Reply):
            raise self._halt("write in place", "refused, and the service knows no check-out", f"PATCH {field}", answer)
        after = await self._scratch.look()
        if after.value(field) != _marker(now.value(field)):
            raise self._halt(
                "write in place", "answered as done, but the next read does not show it", f"PATCH {field}", answer
            )
        self._say("write in place", Result.OK, "accepted, and shown by the next read", f"PATCH {field}", answer)
        await self.stale(now.etag, after)
        await self._put_back()

    # ------------------------------------------------------------------------------------------------------- check-out

    async def check_out_and_undo(self, now: Sight) -> None:
        """Check-out, check-out once more, and undo."""
        copy = await self._checked_out(now)
        answer = await self._scratch.check_out_again(now.id)
        check, sent = "check-out once more", "CheckOut by the same account"
        made = results.identity(answer) if isinstance(answer, Reply) else None
        if made == copy:
            said = "answered with the same working copy: after a lost answer we can find it again"
            self._say(check, Result.OK, said, sent, answer)
        elif made == now.id:
            said = "answered with the document itself, as if it were someone else's: read who holds it"
            self._say(check, Result.OK, said, sent, answer)
        elif made is not None:
            said = f"answered with yet another ID ({made}): check-out does not keep two writers apart here"
            self._say(check, Result.FAILED, said, sent, answer)
        else:
            said = "refused: after a lost answer the server does not name the working copy"
            self._say(check, Result.OK, said, sent, answer)
        if self._bare is not None:
            await self._without_nonce(copy)
        if self._scratch.copy is not None:
            answer = await self._scratch.undo()
            if not isinstance(answer, Reply):
                raise self._halt("undo", "our own check-out could not be undone", "UndoCheckOut", answer)
            if checked_out.is_checked_out((await self._scratch.look()).entity.row):
                raise self._halt("undo", "answered as done, but it is still checked out", "UndoCheckOut", answer)
            self._say("undo", Result.OK, "the check-out is gone, and nothing of it is left", "UndoCheckOut", answer)

    async def _checked_out(self, now: Sight) -> str:
        answer = await self._scratch.check_out(now.id)
        check, copy = "check-out", self._scratch.copy
        if copy is None:
            raise self._halt(check, _no_copy(answer), "CheckOut", answer)
        self._say(check, Result.OK, "made a working copy with an ID of its own", "CheckOut", answer)
        copied, original = await self._reader.entity(copy), await self._reader.entity(now.id)
        if not isinstance(copied, Entity):
            raise self._halt(check, "the working copy can't be read", f"GET {copy}", copied)
        if not isinstance(original, Entity):
            raise self._halt(
                check, "the iteration that is checked out can't be read any more", f"GET {now.id}", original
            )
        shown = ", ".join(f"{name} {plain(original.row[name])}" for name in values.CHECK_OUT if name in original.row)
        if not (checked_out.is_working_copy(copied.row) and checked_out.is_checked_out(original.row)):
            said = "neither shows that it is checked out, so our check-outs can't be told from people's"
            raise Halt(Finding("who holds it", Result.FAILED, said, f"GET {now.id}", shown or "nothing of it"))
        who = checked_out.holder(original.row)
        said = (
            f"shown as checked out by {who}" if who else "shown as checked out, but not by whom: people are not named"
        )
        self._tell(Finding("who holds it", Result.OK if who else Result.WARNING, said, f"GET {now.id}", shown))
        if checked_out.marks(copied.row, self._scratch.mark) | checked_out.marks(original.row, self._scratch.mark):
            said = "our note is shown: after a crash we know which check-outs are ours"
            self._tell(Finding("check-out note", Result.OK, said, f"GET {copy}"))
        else:
            said = (
                "the note that we gave is not shown: a check-out whose answer is lost is left to a person, and no one"
                " else may use this account"
            )
            self._tell(Finding("check-out note", Result.WARNING, said, f"GET {copy}"))
        return copy

    async def _without_nonce(self, copy: str) -> None:
        """Undo the check-out without a nonce, which costs at most one entry in the server's security audit log."""
        assert self._bare is not None, "asked only with a bearer token"
        schema = await self._service.schema()
        name = schema.action("UndoCheckOut") if isinstance(schema, Schema) else None
        answer = results.of(self._bare, await self._bare.post(self._bare.action(copy, name or "UndoCheckOut"), {}))
        check, sent = "write without a nonce", "UndoCheckOut without a nonce, with a bearer token"
        if isinstance(answer, Reply):
            self._scratch.copy = None
            self._say(check, Result.OK, "accepted with a bearer token; we send a nonce all the same", sent, answer)
        elif INVALID_NONCE in answer.message:
            said = "refused with a bearer token too (which left an entry in the server's security audit log)"
            self._tell(Finding(check, Result.OK, said, sent, INVALID_NONCE))
        else:
            self._say(check, Result.WARNING, "neither accepted nor refused for the nonce", sent, answer)

    async def write_under_lock(self, now: Sight) -> Sight:
        """Make a whole write: CheckOut, PATCH, CheckIn. Return the document right after it."""
        field, marker = self.facts.field, _marker(now.value(self.facts.field))
        answer = await self._scratch.check_out(now.id)
        copy = self._scratch.copy
        if copy is None:
            raise self._halt("write under check-out", _no_copy(answer), "CheckOut", answer)
        self._scratch.remember(now, field, marker)
        before = await self._reader.entity(copy)
        etag = results.etag(before) if isinstance(before, Entity) else None
        answer = await self._scratch.patch(copy, {field: marker}, etag)
        sent = f"PATCH {field} of the working copy"
        if not isinstance(answer, Reply):
            raise self._halt("write under check-out", "refused: attributes can't be written here", sent, answer)
        said = (
            "accepted, and shown at once" if answer.status == 200 else "accepted; the answer has no content, so we read"
        )
        self._say("write under check-out", Result.OK, said, sent, answer)
        if etag is not None:
            await self._stale_under_lock(copy, etag, marker)
        answer = await self._scratch.check_in()
        if not isinstance(answer, Reply):
            raise self._halt("check-in", "no usable answer, or a refusal", "CheckIn", answer)
        after = await self._scratch.look()
        self._checked_in(now, copy, answer, after)
        await self._old_iteration(now, after)
        self._account(after)
        await self._put_back()
        return after

    def _checked_in(self, now: Sight, copy: str, answer: Reply, after: Sight) -> None:
        if after.id == now.id:
            raise self._halt("check-in", "answered as done, but there is no new iteration", "CheckIn", answer)
        if after.value(self.facts.field) != _marker(now.value(self.facts.field)):
            raise self._halt("check-in", f"{self.facts.field} is not what was written", "CheckIn", answer)
        named = results.identity(answer)
        new = "the working copy's ID" if after.id == copy else "an ID of its own"
        said = f"made the next iteration, with {new}; it shows what was written"
        if named != after.id:
            said += f", and the answer names {named or 'no ID'}: we look the number up"
        self._say("check-in", Result.OK, said, "CheckIn", answer)
        self.facts.locked = True

    async def _stale_under_lock(self, copy: str, old: Token, marker: str) -> None:
        check, sent = "stale If-Match under check-out", f"PATCH {self.facts.field}, If-Match: the ETag from before"
        now = await self._reader.entity(copy)
        if isinstance(now, Entity) and results.etag(now) == old:
            said = "the working copy's ETag stayed the same although it changed; check-out guards all the same"
            self._tell(Finding(check, Result.OK, said))
            return
        answer = await self._scratch.patch(copy, {self.facts.field: marker}, old)
        if isinstance(answer, Reply):
            said = "ignored; that does no harm, because no one else can write our working copy"
        else:
            said = "refused, so If-Match counts even there"
        self._say(check, Result.OK, said, sent, answer)

    async def _old_iteration(self, old: Sight, now: Sight) -> None:
        check, sent = "old iteration's ID", f"GET {old.id}"
        entity = await self._reader.entity(old.id)
        if not isinstance(entity, Entity):
            result = Result.OK if isinstance(entity, NotAvailable) else Result.WARNING
            self._say(check, result, "gone; we look the number up", sent, entity)
            return
        latest, named = entity.row.get("Latest"), entity.row.get("ID")
        shown = f"200, ID {named}, Latest {plain(latest)}"
        if latest is False:
            self._tell(Finding(check, Result.OK, "still answers, and says that it is not the latest", sent, shown))
        elif named == now.id:
            self._tell(Finding(check, Result.OK, "answers with the latest iteration", sent, shown))
        else:
            said = "still answers, and does not say that there is a later one: old iterations would look current"
            self._tell(Finding(check, Result.FAILED, said, sent, shown))

    def _account(self, now: Sight) -> None:
        check, by = "account", now.snapshot.modified_by
        configured = self._service.options.account
        if not by:
            said = "ModifiedBy is not shown: our own check-outs can't be recognised by their name"
            self._tell(Finding(check, Result.WARNING, said, f"GET {now.id}"))
            return
        if configured not in ("", by):
            said = f"we are {by!r}, and the configuration says {configured!r}: our own edits would look like a person's"
            result = Result.WARNING
        else:
            said, result = f"our check-in is by {by!r}: Windchill's name for our account", Result.OK
        setting: dict[str, Json] = {"windchill.account": by}
        self._tell(Finding(check, result, said, f"GET {now.id}", f"ModifiedBy {by!r}", setting))

    # --------------------------------------------------------------------------------------------------------- actions

    async def rename(self, schema: Schema) -> None:
        """Ask whether UpdateCommonProperties changes the ID and LastModified."""
        action, check = "UpdateCommonProperties", "common properties"
        now = await self._scratch.look()
        name = now.value("Name")
        if schema.action(action) is None or not isinstance(name, str):
            self._skip(check, f"the service offers no {action}: Name and Number are not written")
            return
        if self._service.options.key_property == "Name":
            self._skip(check, "Name is the document's key, and not changed")
            return
        self._scratch.remember(now, "Name", name + _NAME_MARKER)
        await self._clock.sleep(_SECOND_S)
        answer = await self._scratch.act(now, action, {"Updates": {"Name": name + _NAME_MARKER}})
        await self._judge(now, check, "Name", f"{action} Name", answer)
        await self._put_back()

    async def set_state(self, schema: Schema) -> None:
        """Ask whether SetState changes the ID and LastModified."""
        check, wanted = "state", self.facts.state
        now = await self._scratch.look()
        if wanted is None:
            said = "not changed, because we don't know which states can follow"
            if self.facts.told:
                said = f"Windchill allows no way out of {plain(now.value('State'))}, so it was not changed"
            offered = schema.action("SetState") is not None
            self._skip(check, said if offered else "the service offers no SetState: State is not written")
            return
        self._scratch.remember(now, "State", wanted["Value"])
        await self._clock.sleep(_SECOND_S)
        answer = await self._scratch.act(now, "SetState", {"State": {**wanted}})
        await self._judge(now, check, "State", f"SetState {wanted['Value']}", answer)

    async def _judge(self, now: Sight, check: str, field: str, sent: str, answer: Reply | Unfulfilled) -> None:
        after = await self._scratch.look()
        if not isinstance(answer, Reply):
            self._say(check, Result.WARNING, f"refused: {field} can't be written with these rights", sent, answer)
        elif after.value(field) == now.value(field):
            self._say(check, Result.WARNING, f"answered as done, but {field} is what it was", sent, answer)
        elif now.modified == after.modified:
            said = "accepted, but LastModified does not change: only the full comparison finds such changes"
            self._say(check, Result.WARNING, f"{said} (keep resync.interval_s above 0)", sent, answer)
        else:
            self._say(
                check, Result.OK, f"accepted; it changes {after.moved_since(now)}, so polling finds it", sent, answer
            )

    # ---------------------------------------------------------------------------------------------------------- inside

    async def _put_back(self) -> None:
        left = await self._scratch.put_back()
        if left:
            raise Halt(Finding("put back", Result.FAILED, listed(left)))

    def _say(self, check: str, result: Result, message: str, sent: str, answer: Reply | Unfulfilled) -> None:
        self._tell(Finding(check, result, message, sent, answered(answer)))

    def _skip(self, check: str, message: str) -> None:
        self._tell(Finding(check, Result.SKIPPED, message))

    def _halt(self, check: str, message: str, sent: str, answer: Reply | Unfulfilled) -> Halt:
        return Halt(Finding(check, Result.FAILED, message, sent, answered(answer)))


def _marker(value: Json) -> str:
    return MARKER if value != MARKER else f"{MARKER}, once more"


def _no_copy(answer: Reply | Unfulfilled) -> str:
    match answer:
        case Reply():
            return "answered without a working copy of ours, as if someone else had the document"
        case Unknown() | Failed() | Broken():
            return "no usable answer, so there is no working copy to write into"
        case _:
            return "refused, so there is no working copy to write into"
