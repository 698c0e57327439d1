"""
Reload: the policy is read again while the daemon runs, when somebody asks for it (SIGHUP).

Rules
-----
1. What was read is a policy as a whole, or nothing of it is used and the old one stays in force.
2. A policy is kept in the store under its digest before it decides anything: the audit has to find it there.
3. The change happens between two attempts and between two records, in one step; an attempt that is under way ends by
   the policy that it began with.
4. Documents that the change could decide otherwise are looked at again, at a pace that leaves fresh events their turn:
   whatever is held or parked, what is synced where the rules of its fields have changed, and what an attempt is under
   way on, since that will end by the old policy. What else is pending, contended or locked is decided anew in any case,
   at its time; what is paused, when it is resumed.

A second change that comes while documents are still being gone through begins that anew, and then counts from every
policy that some document may have been decided by last. A restart forgets the rest of the way; `resync.interval_s`
brings every document back in any case.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import attrs
import structlog

from reconciler.core.events import decode
from reconciler.core.explain import policies
from reconciler.core.settling.cases import Rulebook
from reconciler.errors import ConfigError
from reconciler.flows import watchdog
from reconciler.model.document import Due, Lane, Status
from reconciler.model.policy import Policy
from reconciler.model.value import Json
from reconciler.ports import Clock, Store, Telemetry

_log = structlog.get_logger(__name__)

_PAGE = 500  # documents looked at in the store at one time
_PAUSE_S = 1.0  # after a page of which any was made due: 500 a second at most, a million in half an hour
_US = 1_000_000


@attrs.frozen
class InForce:
    """The policy, with all that follows from it and from the rest of the configuration."""

    rules: Rulebook
    decoding: decode.Options
    settings: Sequence[tuple[str, str, Json, str]]  # section, key, value (secrets masked), origin
    restart: tuple[str, ...] = ()  # settings that say something else than what runs, and that only a restart takes up

    @property
    def policy(self) -> Policy:
        """The rules in order."""
        return self.rules.policy


@attrs.frozen
class PolicySource:
    """How a policy is asked for: `asked` is set when it is to be read again; `read` reads it or raises ConfigError."""

    read: Callable[[], InForce]
    asked: asyncio.Event = attrs.field(factory=asyncio.Event)


class Reload:
    """The loop that takes up new policies. `take_up` makes a policy the one that decides, in one step."""

    def __init__(
        self,
        source: PolicySource,
        in_force: InForce,
        store: Store,
        clock: Clock,
        telemetry: Telemetry,
        *,
        take_up: Callable[[InForce], None],
        offer: Callable[[Due], None],
        under_way: Callable[[], Iterable[str]],
    ) -> None:
        self._source = source
        self._in_force = in_force
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._take_up = take_up
        self._offer = offer
        self._under_way = under_way  # documents on which an attempt may have begun and not ended
        self._stopping = False
        self._begun: set[str] = set()  # of these, those by an old policy
        self._before: list[Policy] = []  # by which some document may have been decided last, and is not any more

    def stop(self) -> None:
        """End the loop."""
        self._stopping = True
        self._source.asked.set()

    async def run(self) -> None:
        """Take up what is asked for until stopped."""
        self._loaded()
        while True:
            watchdog.beat()
            with watchdog.waiting():
                await self._source.asked.wait()
            if self._stopping:
                return
            self._source.asked.clear()
            await self._read_again()
            if self._before and await self._look_again():
                self._before.clear()

    async def _read_again(self) -> None:
        try:
            fresh = await asyncio.to_thread(self._source.read)
        except ConfigError as error:
            self._telemetry.add("policy_reloads_total", result="refused")
            self._telemetry.gauge("policy_refused", 1)
            reason = "; ".join(str(error).splitlines())
            _log.error("the policy can't be read again, and the old one stays in force", reason=reason)
            return
        if fresh.restart:
            _log.warning("settings besides the policy have changed, and wait for a restart", settings=fresh.restart)
        old, digest = self._in_force, fresh.rules.policy_digest
        if digest == old.rules.policy_digest:
            self._telemetry.add("policy_reloads_total", result="unchanged")
            self._telemetry.gauge("policy_refused", 0)
            _log.info("the policy was read again and is the same", digest=digest)
            return
        await self._store.keep_policy(digest, fresh.policy)
        self._take_up(fresh)
        self._begun.update(self._under_way())  # at once: whatever is taken up from here on is decided by the new policy
        self._in_force = fresh
        self._before.append(old.policy)
        self._telemetry.add("policy_reloads_total", result="loaded")
        self._loaded()
        found = policies.difference(old.policy, fresh.policy)
        _log.info(
            "a new policy is in force",
            digest=digest,
            before=old.rules.policy_digest,
            added=found.added,
            removed=found.removed,
            changed=found.changed,
            reordered=found.reordered or None,
        )

    def _loaded(self) -> None:
        self._telemetry.gauge("policy_loaded_timestamp_seconds", self._clock.now_us() / _US)
        self._telemetry.gauge("policy_refused", 0)

    async def _look_again(self) -> bool:
        """Bring back what could be decided otherwise now; return False when asked for something else on the way."""
        compared = policies.Comparison(self._before, self._in_force.policy)
        requeued = await self._decided_meanwhile()
        for status in (Status.HELD, Status.PARKED, Status.SYNCED):
            after: str | None = ""
            while after is not None:
                watchdog.beat()
                count, after = await self._page(status, after, compared)
                requeued += count
                with watchdog.waiting():
                    await self._clock.wait(self._source.asked, _PAUSE_S if count else 0.0)
                if self._source.asked.is_set():
                    return False
        _log.info("what the new policy could decide otherwise is looked at again", documents=requeued)
        return True

    async def _decided_meanwhile(self) -> int:
        """Let what the attempts under way settle be decided once more; each stays in its lane."""
        now_us, begun = self._clock.now_us(), await self._store.documents(self._begun)
        for lane in Lane:
            keys = [key for key, document in sorted(begun.items()) if document.lane is lane]
            if keys:
                await self._bring_back(keys, lane, now_us)
        self._begun.clear()
        return len(begun)

    async def _page(self, status: Status, after: str, compared: policies.Comparison) -> tuple[int, str | None]:
        """Bring back one page of documents; return how many it were, and the key after which the next page begins."""
        found = await self._store.list_documents(status, after, _PAGE)
        keys = [one.key for one in found if status is not Status.SYNCED or compared.concerns(one)]
        if keys:
            await self._bring_back(keys, Lane.RESYNC, self._clock.now_us())
        return len(keys), found[-1].key if len(found) == _PAGE else None

    async def _bring_back(self, keys: Sequence[str], lane: Lane, now_us: int) -> None:
        await self._store.requeue(keys, lane, now_us)
        for key in keys:
            self._offer(Due(key, lane, now_us))
