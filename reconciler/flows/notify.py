"""
Notify: tells a webhook what a person should hear of (docs/decisions/0009).

Theory of operation
-------------------
What happened stands in logs already: outcomes and dead letters. So a `Teller` follows such a log at its own pace and
keeps two positions in the store: up to where all was told, and, stored before anything is sent, up to where it is about
to tell. What lies between the two is a *lot*. After a crash the same lot is read again and gives the same
notifications, digest or not, with the same ids.

- At least once: the first position moves only when the webhook has accepted the lot.
- Nothing waits for the webhook, and memory does not grow while it is away: the backlog is the log.
- Floods: after a lot the window has to pass before the next is made, and a large lot is told as one digest.

What stands in no log (a lock that lasts, Windchill down, a broken trail) is looked at by `flows/watch.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import attrs
import structlog

from reconciler.core import backoff
from reconciler.core.notices import Fault, Kind, Lot, Notice, Notification, Undelivered
from reconciler.errors import LogError, LogTruncatedError
from reconciler.flows import beats
from reconciler.model.event import Record
from reconciler.model.stamp import Partition
from reconciler.ports import Clock, EventLog, Store, Telemetry

_log = structlog.get_logger(__name__)

_FETCH = 500  # records between two turns of the other tasks
_LOT_MAX = 50_000  # notices of a digest: some megabytes of ids
_POLL_S = 1.0  # between two looks at a log
_REST_S = 0.02  # after each fetch, so that a backlog of what has nothing to tell takes nobody else's time
_KEEP_S = 60.0  # between two notes of how far a log was read that had nothing to tell
_BACKOFF_S, _BACKOFF_S_MAX = 2.0, 900.0
_REFUSALS_MAX = 10  # of one notification, before it is given up: it must not keep all later ones from being told


class Webhook(Protocol):
    """Where notifications are posted."""

    async def post(self, notification: Notification) -> Undelivered | None:
        """Post once; return why it was not accepted, None if it was."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class Backlog(NamedTuple):
    """What was to be told and was not accepted yet: how many notices, and for how long the oldest has been posted."""

    waiting: int
    oldest_s: float


class Post:
    """Delivers notifications, however long it takes. `stopping` ends every wait."""

    def __init__(self, webhook: Webhook, clock: Clock, telemetry: Telemetry, *, stopping: asyncio.Event) -> None:
        self._webhook = webhook
        self._clock = clock
        self._telemetry = telemetry
        self._stopping = stopping
        self._waiting: list[tuple[float, Lot]] = []  # each since when

    def backlog(self) -> Backlog:
        """Return what waits for the webhook here."""
        now_s = self._clock.monotonic_s()
        count = sum(len(lot) for _, lot in self._waiting)
        return Backlog(count, max((now_s - since_s for since_s, _ in self._waiting), default=0.0))

    async def deliver(self, lot: Lot) -> bool:
        """Return whether all of it was accepted (or is given up); False when a stop came before."""
        waiting = self._clock.monotonic_s(), lot
        self._waiting.append(waiting)
        try:
            for notification in lot.notifications():
                if not await self._deliver(notification):
                    return False
            return True
        finally:
            self._waiting.remove(waiting)

    async def _deliver(self, notification: Notification) -> bool:
        failures = refusals = 0
        while True:
            beats.turn()
            failure = await self._webhook.post(notification)
            if failure is None:
                result = "digested" if notification.kind is Kind.DIGEST else "delivered"
                self._telemetry.add("notifications_total", result=result)
                return True
            failures += 1
            refusals += failure.fault is Fault.CONTENT
            given_up = refusals >= _REFUSALS_MAX
            self._telemetry.add("notifications_total", result="refused" if given_up else "failed")
            told = {"id": notification.id, "type": notification.kind.value, "why": failure.why, "failures": failures}
            if given_up:
                _log.error("a notification is given up: the webhook will not take it", **told)
                return True
            if failure.fault is Fault.GONE:
                _log.error("no more notifications until a restart: the webhook says that nobody listens", **told)
                with beats.waiting():
                    await self._stopping.wait()
            else:
                _log.warning("a notification was not accepted, and is sent again", **told)
                await self._clock.wait(self._stopping, self._wait_s(failures, failure.retry_after_s))
            if self._stopping.is_set():  # nothing is lost: it is told after the next start
                return False

    def _wait_s(self, failures: int, at_least_s: float | None) -> float:
        wait_s = backoff.delay_s(failures, _BACKOFF_S, _BACKOFF_S_MAX, self._clock.chance())
        return min(_BACKOFF_S_MAX, max(wait_s, at_least_s or 0.0))


Read = Callable[[Record], Notice | None]
Loop = Callable[[], Awaitable[None]]


@attrs.frozen
class Source:
    """A log to be told of: how to open it, its topic, and what its records have to tell."""

    topic: str
    make: Callable[[], EventLog]
    read: Read


@attrs.frozen
class Manner:
    """How things are told."""

    source: str  # who tells: "//reconciler/<group>"
    most: int = 5  # notices of a lot that are told one by one; more become a digest
    window_s: float = 60.0  # between two lots


class Teller:
    """Follows one log and tells what it says."""

    def __init__(
        self, source: Source, store: Store, post: Post, clock: Clock, *, stopping: asyncio.Event, manner: Manner
    ) -> None:
        self._source = source
        self._store = store
        self._post = post
        self._clock = clock
        self._stopping = stopping
        self._manner = manner
        self._told: dict[int, int] = {}  # partition → next offset, as it is stored
        self._until: dict[int, int] = {}  # the end of a lot that was begun before; empty: none was
        self._kept_s = 0.0
        self._ahead: list[Record] = []  # read past the end of such a lot

    async def begin(self, stored: Mapping[Partition, int]) -> None:
        """
        Take up what the store knows. The first time, that is where the store itself has its log: what is older was
        told to nobody, and nobody asked. To be awaited before anything is published.
        """
        self._told = _under(stored, _told_name(self._source.topic))
        if not self._told:
            self._told = {0: 0} | _under(stored, self._source.topic)
            await self._keep(_told_name(self._source.topic), self._told)
        begun = _under(stored, _begun_name(self._source.topic))
        self._until = begun if any(end > self._told.get(number, 0) for number, end in begun.items()) else {}

    async def run(self) -> None:
        """Tell until stopped, and then what is left, trying each notification once."""
        failures = 0
        while True:
            beats.turn()
            try:
                await self._follow()
                return
            except LogError as error:
                failures += 1
                _log.warning(
                    "what to tell can't be read", topic=self._source.topic, error=str(error), failures=failures
                )
            if self._stopping.is_set():
                return
            wait_s = backoff.delay_s(failures, _BACKOFF_S, _BACKOFF_S_MAX, self._clock.chance())
            await self._clock.wait(self._stopping, wait_s)

    async def _follow(self) -> None:
        log, self._ahead = self._source.make(), []
        try:
            await self._open(log)
            while True:
                beats.turn()
                stopping = self._stopping.is_set()
                lot = await self._gather(log)
                if lot and not await self._tell(lot, await self._reached(log)):
                    return
                if not lot:
                    await self._keep_up(log)
                    if stopping:
                        return
                await self._clock.wait(self._stopping, self._manner.window_s if lot else _POLL_S)
        finally:
            await log.close()

    async def _open(self, log: EventLog) -> None:
        wanted = {Partition(self._source.topic, number): offset for number, offset in self._told.items()}
        try:
            await log.open(wanted)
        except LogTruncatedError as error:
            # The reconciler itself stops at this; that nobody heard of some conflicts is no reason to.
            _log.error("some of what there was to tell is gone from the log, and is not told", error=str(error))
            await log.close()
            self._until = {}
            await log.open(wanted, accept_truncation=True)

    async def _gather(self, log: EventLog) -> Lot:
        """Return what there is to be told now; all of it, and nothing else, of a lot that was begun before."""
        if self._until:
            return await self._gather_begun(log, self._until)
        lot = Lot(self._manner.source, self._manner.most)
        records: Sequence[Record] = self._ahead
        self._ahead = []
        while len(lot) < _LOT_MAX and (records or (records := await log.fetch(_FETCH, 0.0))):
            self._add(lot, records)
            records = ()
            beats.turn()
            await self._clock.wait(self._stopping, _REST_S)
        return lot

    async def _gather_begun(self, log: EventLog, until: Mapping[int, int]) -> Lot:
        lot = Lot(self._manner.source, self._manner.most)
        while not self._stopping.is_set():
            beats.turn()
            records = await log.fetch(_FETCH, 0.0)
            self._add(lot, [record for record in records if record.offset < until.get(record.partition, 0)])
            self._ahead += [record for record in records if record.offset >= until.get(record.partition, 0)]
            reached = _under(await log.positions(), self._source.topic)
            if all(reached.get(number, end) >= end for number, end in until.items()):
                return lot
            await (self._clock.sleep(0) if records else self._clock.wait(self._stopping, _POLL_S))
        return Lot(self._manner.source)

    def _add(self, lot: Lot, records: Iterable[Record]) -> None:
        for record in records:
            notice = self._source.read(record)
            if notice is not None:  # a line of a file does not say when it was written
                lot.add(notice if notice.at_us else attrs.evolve(notice, at_us=self._clock.now_us()))

    async def _reached(self, log: EventLog) -> dict[int, int]:
        """Return where the lot at hand ends."""
        return self._until or _under(await log.positions(), self._source.topic)

    async def _tell(self, lot: Lot, end: dict[int, int]) -> bool:
        """Tell a lot, and store both that it is begun and that it is done; return False when a stop came before."""
        if not self._until:
            await self._keep(_begun_name(self._source.topic), end)
        if not await self._post.deliver(lot):
            return False
        _log.info("told", topic=self._source.topic, notices=len(lot))
        await self._done(end)
        return True

    async def _keep_up(self, log: EventLog) -> None:
        """Note now and then how far a log was read that had nothing to tell."""
        if self._until:  # a lot that was begun and has nothing to tell any more, or that a stop came before
            if not self._stopping.is_set():
                await self._done(self._until)
            return
        reached, now_s = await self._reached(log), self._clock.monotonic_s()
        if reached != self._told and now_s - self._kept_s >= _KEEP_S:
            await self._done(reached)

    async def _done(self, end: dict[int, int]) -> None:
        await self._keep(_told_name(self._source.topic), end)
        self._told, self._until, self._kept_s = end, {}, self._clock.monotonic_s()

    async def _keep(self, topic: str, offsets: Mapping[int, int]) -> None:
        await self._store.published((), {Partition(topic, number): offset for number, offset in offsets.items()})


@attrs.frozen
class Outside:
    """Who is told, and the logs that it is told of, by the names of their loops."""

    webhook: Webhook
    sources: Mapping[str, Source]


class Notifier:
    """All that tells: one teller a log, and whoever looks at what stands in none. `post` and `stopping` all share."""

    def __init__(
        self, tellers: Mapping[str, Teller], watch: Mapping[str, Loop], post: Post, stopping: asyncio.Event
    ) -> None:
        self.backlog = post.backlog
        self._tellers = tellers
        self._watch = watch
        self.stop = stopping.set

    async def begin(self, stored: Mapping[Partition, int]) -> None:
        """Take up what the store knows, before anything is published."""
        for teller in self._tellers.values():
            await teller.begin(stored)

    def loops(self) -> dict[str, Loop]:
        """Return what is to be run, by name. After `stop` each ends when what it has was tried once more."""
        return {name: teller.run for name, teller in self._tellers.items()} | dict(self._watch)


def _told_name(topic: str) -> str:
    """Return the name under which the store keeps how far a topic was told: no topic of Kafka's can be called so."""
    return f"{topic} (notified)"


def _begun_name(topic: str) -> str:
    return f"{topic} (notifying)"


def _under(positions: Mapping[Partition, int], topic: str) -> dict[int, int]:
    return {place.partition: offset for place, offset in positions.items() if place.topic == topic}
