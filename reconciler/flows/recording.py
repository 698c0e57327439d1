"""
Recording: stores an action with what it changes, in one transaction, and tries again when another one came first.

Deciding: turns the choice in a conflict into records, and checks them as the reconciler will check them.
"""

import shlex
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from reconciler.core.events import change_events, decode
from reconciler.core.planning import resolution
from reconciler.errors import StoreError, UsageError
from reconciler.model import instant
from reconciler.model.action import (
    UNKNOWN_DOCUMENT,
    ActionKind,
    Change,
    Done,
    OperatorAction,
    Preview,
    Resolved,
    Side,
    Take,
    Unusable,
)
from reconciler.model.document import Conflict, Document
from reconciler.model.event import Event, Outgoing
from reconciler.model.policy import OPERATORS
from reconciler.model.value import Json
from reconciler.ports import Clock, Store

CHUNK = 500  # actions of one transaction, documents read at a time
_TRIES = 20  # each fails when another action came first

Why = Callable[[Document | None], str | None]


@attrs.frozen(kw_only=True)
class About:
    """What an action is about: its record without who and when."""

    kind: str
    target: str
    document: str = ""
    details: Mapping[str, Json] = attrs.field(factory=dict)  # what is empty is left out
    result: str = "done"


@attrs.frozen
class Recorder:
    """Records actions of one role; `issuer` is the provider that vouches for the name, if any."""

    store: Store
    clock: Clock
    role: str
    issuer: str = ""

    async def record(self, who: str, abouts: Iterable[About], change: Change = Change.NOTHING) -> None:
        """Record actions, and change their targets. Raises StoreError."""
        actions = [self.action(who, about) for about in abouts]
        for start in range(0, len(actions), CHUNK):
            for _ in range(_TRIES):
                if await self._record(change, actions[start : start + CHUNK], ""):
                    break
                await self.clock.sleep(0)
            else:
                raise _crowded()

    async def once(self, who: str, about: About, change: Change) -> bool:
        """Record an action and what it changes; return whether that was done, as another one may have come first."""
        return await self._record(change, [self.action(who, about)], "")

    async def steer(
        self,
        who: str,
        kind: ActionKind,
        change: Change,
        keys: Sequence[str],
        *,
        why: Why,
        reason: str = "",
        shown: str = "",
    ) -> Done:
        """Change documents, except those for which `why` gives a reason not to; `shown` is their new reason."""
        done: list[str] = []
        left: dict[str, str] = {}
        wanted = list(dict.fromkeys(keys))
        for start in range(0, len(wanted), CHUNK):
            some = wanted[start : start + CHUNK]
            for _ in range(_TRIES):
                documents = await self.documents(some)
                refused = {key: said for key in some if (said := why(documents.get(key))) is not None}
                abouts = [
                    About(kind=kind, target=key, document=key, details={"reason": reason})
                    for key in some
                    if key not in refused
                ]
                actions = [self.action(who, about) for about in abouts]
                if not actions or await self._record(change, actions, shown):
                    done += [action.target for action in actions]
                    left |= refused
                    break
                await self.clock.sleep(0)
            else:
                raise _crowded()
        return Done(tuple(done), left)

    async def documents(self, keys: Iterable[str]) -> dict[str, Document]:
        """Return the documents that some event has named."""
        found = await self.store.documents(keys)
        return {key: document for key, document in found.items() if document.revision}

    async def _record(self, change: Change, actions: Sequence[OperatorAction], reason: str) -> bool:
        return await self.store.record_actions(change, actions, at_us=self.clock.now_us(), reason=reason)

    def action(self, who: str, about: About) -> OperatorAction:
        """Return the record of an action."""
        said = {name: value for name, value in about.details.items() if value not in ("", [])}
        return OperatorAction(
            at_us=self.clock.now_us(),
            who=who,
            role=self.role,
            kind=str(about.kind),
            target=about.target,
            document=about.document,
            details=said,
            result=about.result,
            issuer=self.issuer,
        )


def _crowded() -> StoreError:
    return StoreError("the action can't be recorded: too many others record theirs at the same time; try again")


# ------------------------------------------------------------------------------------------------------------- deciding


@attrs.frozen
class Decided:
    """A decision that is ready to be appended."""

    preview: Preview
    events: tuple[dict[str, object], ...]
    records: tuple[Outgoing, ...]

    @property
    def resolved(self) -> Resolved:
        """The same once it is appended."""
        shown = self.preview
        return Resolved(shown.conflict, shown.document, shown.field, shown.wanted, shown.live, self.events)

    def about(self, take: Take, reason: str) -> About:
        """Return its record."""
        shown = self.preview
        details: dict[str, Json] = {
            "field": shown.field,
            "take": take.value if isinstance(take, Side) else "value",
            "wanted": shown.wanted,
            "live": shown.live,
            "reason": reason,
            "events": [event["id"] for event in self.events],
        }
        return About(
            kind=ActionKind.RESOLVE, target=shown.conflict, document=shown.document, details=details, result="appended"
        )


@attrs.frozen
class Deciding:
    """Turns decisions into records, and appends nothing."""

    options: decode.Options
    clock: Clock

    def decide(
        self, document: Document, conflict: Conflict, take: Take, *, reason: str = "", who: str = ""
    ) -> Decided | Unusable:
        """Return a decision, or why it is not possible."""
        policy = self.options.policy
        try:
            choice = resolution.choose(document, conflict, take, policy, reason)
        except UsageError as error:
            return Unusable(str(error))
        time_us = self.after(document.key, resolution.asked_us(document, conflict))
        if isinstance(time_us, Unusable):
            return time_us
        times = [instant.from_us(time_us + number) for number in range(len(choice.said))]
        events = [
            change_events.changed(document.key, data, id=str(uuid.uuid4()), source=OPERATORS, actor=who, time=time)
            for data, time in zip(choice.said, times, strict=True)
        ]
        checked = self.checked(events)
        if isinstance(checked, Unusable):
            return checked
        shown = resolution.preview(
            document, conflict, take, policy, choice=choice, events=[event for _, event in checked], written=events
        )
        return Decided(shown, tuple(events), tuple(record for record, _ in checked))

    def after(self, key: str, asked_us: int) -> int | Unusable:
        """Return the time of a decision: now, or just after the claim it answers if that is ahead of our clock."""
        now_us = self.clock.now_us()
        time_us = max(now_us, asked_us + 1)
        if time_us <= now_us + self.options.clock_skew_us_max:
            return time_us
        refold = shlex.join(("reconciler", "docs", "refold", key))
        return Unusable(f"its claim is too far in the future for a later one to be accepted: `{refold}` leaves it out")

    def decide_unseen(
        self, document: Document | None, conflict: Conflict, take: Take, *, reason: str, who: str
    ) -> Decided | str:
        """Prepare one of many decisions, or say why an operator has to look at it first."""
        if document is None:
            return UNKNOWN_DOCUMENT
        if resolution.asked_since(document, conflict):
            return "a newer event asks for something else; it is decided again first"
        if resolution.moved_since(document, conflict):
            return "it was changed in Windchill since; it is decided again first"
        prepared = self.decide(document, conflict, take, reason=reason, who=who)
        return prepared.reason if isinstance(prepared, Unusable) else prepared

    def checked(self, events: Sequence[dict[str, object]]) -> list[tuple[Outgoing, Event]] | Unusable:
        """Return records with the events that they hold, or why one would be refused."""
        checked = []
        try:
            for event in events:
                record = change_events.signed(change_events.record(event, self.options.topics), self.options)
                found = change_events.decoded(record, self.options, self.clock.now_us())
                if isinstance(found, str):
                    return Unusable(f"the event can't be used: {found}")
                checked.append((record, found))
        except UsageError as error:
            return Unusable(str(error))
        return checked
