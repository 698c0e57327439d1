"""
Reload: takes up a new policy while the daemon runs, and keeps to the policy of all replicas.

It reads the policy again on SIGHUP, and when the policy's own file has changed.

Rules
-----
1. A policy that can't be used as a whole is not used at all; the old one stays in force.
2. The store has a policy under its digest before it decides anything, so that the audit trail can name it.
3. The policy changes between two attempts and between two records. An attempt under way ends by the policy that it
   began with.
4. Documents that the new policy may decide otherwise are requeued, slowly enough for fresh events to come first: all
   that are held or parked, those synced whose rules have changed, and those with an attempt under way. Documents that
   are pending, contended, locked or paused are decided again anyway.

5. All replicas of a store decide by one policy, which the store names. A policy that is new to the store is put in
   force by the first replica that starts with it, any other by a replica that reads a changed one while it runs.
   So a replica that restarts with an old configuration does not bring the old policy back. Each beat of the lease tells
   the others; until they know, the store refuses their intents. Each requeues what it has under way; of the rest, one
   does that, once all must know.

Another change meanwhile starts the requeueing over, and compares with every policy that may have decided a document
last. A restart ends it; `resync.interval_s` then brings every document back.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import attrs
import structlog

from reconciler.core.events import decode
from reconciler.core.explain import policies
from reconciler.core.settling.cases import AttemptOptions
from reconciler.errors import ConfigError
from reconciler.flows import watchdog
from reconciler.model.document import Due, Lane, Status
from reconciler.model.policy import NOTHING, Policy
from reconciler.model.value import Json
from reconciler.ports import Chosen, Clock, Shared, Store, Telemetry

_log = structlog.get_logger(__name__)

_PAGE = 500  # documents read from the store at a time
_LOOK_S = 5.0  # between looks at the policy's own file
_PAUSE_S = 1.0  # after a page with requeued documents: at most 500 a second, a million in half an hour
_US = 1_000_000


@attrs.frozen
class InForce:
    """The policy, with all that follows from it and from the rest of the configuration."""

    options: AttemptOptions
    decoding: decode.Options
    settings: Sequence[tuple[str, str, Json, str]]  # section, key, value (secrets masked), origin
    restart: tuple[str, ...] = ()  # changed settings that only a restart takes up

    @property
    def policy(self) -> Policy:
        """The rules in order."""
        return self.options.policy


@attrs.frozen
class PolicySource:
    """
    Where policies come from: set `asked` to have it read again; `read` reads it or raises ConfigError.

    `changed` tells whether the policy's own file has changed since it was last asked; None: it has none.
    """

    read: Callable[[], InForce]
    changed: Callable[[], bool] | None = None
    asked: asyncio.Event = attrs.field(factory=asyncio.Event)


@attrs.frozen
class Together:
    """How a replica decides by the same policy as the others of its store."""

    shared: Shared
    by: Callable[[Policy], InForce]
    known_s: float  # after so long no replica writes that does not know of a new policy
    requeues: Callable[[], bool]  # whether it is for us to requeue documents


async def put_in_force(shared: Shared, digest: str, policy: Policy) -> int:
    """Have all replicas decide by a policy; return its number."""
    while (chosen := await shared.in_force()) is None or chosen.digest != digest:
        await shared.put_in_force(digest, policy, 0 if chosen is None else chosen.number)
    return chosen.number


@attrs.define(eq=False, slots=False)
class Reload:
    """
    The loop that takes up new policies. `take_up` makes this process decide by a policy, in one step.

    `together`: None for a process that has the store to itself.
    """

    _source: PolicySource
    _in_force: InForce
    _store: Store
    _clock: Clock
    _telemetry: Telemetry
    _take_up: Callable[[InForce], None]
    _offer: Callable[[Due], None]
    _under_way: Callable[[], Iterable[str]]  # documents with an attempt that may not have ended
    _together: Together | None = None
    _number: int = attrs.field(init=False, default=0)  # of the policy that all decide by, as far as we know
    _noticed: bool = attrs.field(init=False, default=False)  # that there is another
    _read: str = attrs.field(init=False)  # digest of the policy that our own configuration said last
    _stopping: bool = attrs.field(init=False, default=False)
    _begun: set[str] = attrs.field(init=False, factory=set)  # attempts that began under an old policy
    _before: list[Policy] = attrs.field(init=False, factory=list)  # old policies that may have decided a document last

    def __attrs_post_init__(self) -> None:
        self._read = self._in_force.options.policy_digest

    def stop(self) -> None:
        """End the loop."""
        self._stopping = True
        self._source.asked.set()

    def notice(self, number: int) -> None:
        """Learn the number of the policy that all replicas decide by."""
        if number > self._number:
            self._noticed = True
            self._source.asked.set()

    async def begin(self) -> None:
        """
        Give the store our policy; if others were there first, decide by theirs unless ours is new to the store.

        Observed documents that are to be written now are requeued at once: `run --once` ends when nothing is due.
        """
        digest, chosen = self._in_force.options.policy_digest, await self._chosen()
        if chosen is None:
            await self._put_in_force(self._in_force)
        elif digest in await self._store.policy_texts():
            await self._follow()
            self._before.clear()
        else:
            await self._put_in_force(self._in_force)
            self._before.append(chosen.policy)
            self._noticed = True
            self._source.asked.set()
        after: str | None = "" if self._in_force.policy.writes != NOTHING else None
        while after is not None:
            watchdog.beat()
            _, after = await self._page(Status.OBSERVED, after, policies.Comparison((), self._in_force.policy))

    async def run(self) -> None:
        """Take up new policies until stopped."""
        self._loaded()
        while True:
            watchdog.beat()
            with watchdog.waiting():
                await self._until_asked()
            if self._stopping:
                return
            self._source.asked.clear()
            noticed, self._noticed = self._noticed, False
            if noticed:
                await self._follow()
            await self._read_again(quietly=noticed)
            if self._before and await self._requeue_all():
                self._before.clear()

    async def _until_asked(self) -> None:
        """Wait until someone asks for the policy, or its own file has changed."""
        asked, changed = self._source.asked, self._source.changed
        if changed is None:
            await asked.wait()
            return
        while not asked.is_set() and not changed():
            await self._clock.wait(asked, _LOOK_S)

    async def _chosen(self) -> Chosen | None:
        """Return the policy that all replicas decide by."""
        return None if self._together is None else await self._together.shared.in_force()

    async def _follow(self) -> None:
        """Decide by the policy that all replicas decide by."""
        chosen = await self._chosen()
        if self._together is None or chosen is None:
            return
        self._number = chosen.number
        if chosen.digest != self._in_force.options.policy_digest:
            self._decide_by(self._together.by(chosen.policy))

    async def _put_in_force(self, fresh: InForce) -> None:
        """Give the store a policy, and have all replicas decide by it."""
        digest = fresh.options.policy_digest
        if self._together is None:
            await self._store.keep_policy(digest, fresh.policy)
        else:
            self._number = await put_in_force(self._together.shared, digest, fresh.policy)

    async def _read_again(self, *, quietly: bool) -> None:
        try:
            fresh = await asyncio.to_thread(self._source.read)
        except ConfigError as error:
            self._telemetry.add("policy_reloads_total", result="refused")
            self._telemetry.gauge("policy_refused", 1)
            reason = "; ".join(str(error).splitlines())
            _log.error("can't reload the policy; the old one stays in force", reason=reason)
            return
        if fresh.restart:
            _log.warning("other settings have changed too; restart to use them", settings=fresh.restart)
        old, digest = self._in_force, fresh.options.policy_digest
        said, self._read = self._read, digest
        if digest in (said, old.options.policy_digest):
            if not quietly:
                self._telemetry.add("policy_reloads_total", result="unchanged")
                self._telemetry.gauge("policy_refused", 0)
                _log.info("policy reloaded, no change", digest=old.options.policy_digest)
            return
        await self._put_in_force(fresh)
        self._decide_by(fresh)

    def _decide_by(self, fresh: InForce) -> None:
        """Decide by a policy that is in force."""
        old, digest = self._in_force, fresh.options.policy_digest
        self._take_up(fresh)
        self._begun.update(self._under_way())  # at once: attempts from here on use the new policy
        self._in_force = fresh
        self._before.append(old.policy)
        self._telemetry.add("policy_reloads_total", result="loaded")
        self._loaded()
        found = policies.difference(old.policy, fresh.policy)
        _log.info(
            "policy reloaded",
            digest=digest,
            before=old.options.policy_digest,
            added=found.added,
            removed=found.removed,
            changed=found.changed,
            reordered=found.reordered or None,
        )

    def _loaded(self) -> None:
        self._telemetry.gauge("policy_loaded_timestamp_seconds", self._clock.now_us() / _US)
        self._telemetry.gauge("policy_refused", 0)

    async def _requeue_all(self) -> bool:
        """Requeue what the new policy may decide otherwise; return False if another one was asked for meanwhile."""
        compared = policies.Comparison(self._before, self._in_force.policy)
        requeued = await self._decided_meanwhile()
        if self._together is not None:
            with watchdog.waiting():
                await self._clock.wait(self._source.asked, self._together.known_s)
            if self._source.asked.is_set():
                return False
            if not self._together.requeues():
                return True
        for status in (Status.OBSERVED, Status.HELD, Status.PARKED, Status.SYNCED):
            after: str | None = ""
            while after is not None:
                watchdog.beat()
                count, after = await self._page(status, after, compared)
                requeued += count
                with watchdog.waiting():
                    await self._clock.wait(self._source.asked, _PAUSE_S if count else 0.0)
                if self._source.asked.is_set():
                    return False
        _log.info("requeued the documents that the new policy may decide otherwise", documents=requeued)
        return True

    async def _decided_meanwhile(self) -> int:
        """Requeue documents whose attempts were under way, each in its lane."""
        now_us, begun = self._clock.now_us(), await self._store.documents(self._begun)
        for lane in Lane:
            keys = [key for key, document in sorted(begun.items()) if document.lane is lane]
            if keys:
                await self._requeue(keys, lane, now_us)
        self._begun.clear()
        return len(begun)

    async def _page(self, status: Status, after: str, compared: policies.Comparison) -> tuple[int, str | None]:
        """Requeue one page of documents; return how many, and the key after which the next page begins."""
        found = await self._store.list_documents(status, after, _PAGE)
        keys = [one.key for one in found if status in (Status.HELD, Status.PARKED) or compared.concerns(one)]
        if keys:
            await self._requeue(keys, Lane.RESYNC, self._clock.now_us())
        return len(keys), found[-1].key if len(found) == _PAGE else None

    async def _requeue(self, keys: Sequence[str], lane: Lane, now_us: int) -> None:
        await self._store.requeue(keys, lane, now_us)
        for key in keys:
            self._offer(Due(key, lane, now_us))
