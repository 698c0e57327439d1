"""
The whole program over real sockets, as its tests see it: a daemon, its topics, and the simulated Windchill's own view.

Nothing here waits for a time to pass: `until` waits for something to be true, and says what it waited for if it is not.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import attrs

from reconciler import app, factory
from reconciler.adapters.clock import SystemClock
from reconciler.config import Config
from reconciler.flows import ending
from reconciler.model.document import Document, Status
from reconciler.model.event import Outgoing, Record
from reconciler.simulator import history as witness
from reconciler.simulator.history import Entry
from tests.adapters.simulated import Simulated
from tests.checks import check_audit, check_outcomes
from tests.patience import HANG_S

ME = "integration"
ERP = "//erp/test"
OPERATORS = "//reconciler/operators"
_CONTENT_TYPE = (("content-type", b"application/cloudevents+json"),)
_numbers = itertools.count(1)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def event(
    key: str, fields: Mapping[str, Any] | None = None, *, source: str = ERP, time: str | None = None, **more: Any
) -> dict[str, Any]:
    """A changed event; what is not a member of `data` goes into the envelope."""
    inside = {"add", "remove", "release", "expect", "reason"}
    data = ({"set": dict(fields)} if fields else {}) | {name: more[name] for name in inside & more.keys()}
    return {
        "specversion": "1.0",
        "id": f"event-{next(_numbers)}",
        "source": source,
        "type": "windchill.document.changed.v1",
        "subject": key,
        "time": time or now(),
        "datacontenttype": "application/json",
        "data": data,
        **{name: value for name, value in more.items() if name not in inside},
    }


@attrs.define
class World:
    """One test's own topics and database, beside the simulated Windchill that all tests share."""

    config: Config
    simulated: Simulated

    def record(self, given: dict[str, Any]) -> Outgoing:
        topic = factory.topics(self.config.log).of(given["source"])
        return Outgoing(topic, given["subject"].encode(), json.dumps(given).encode(), _CONTENT_TYPE)

    async def append(self, *given: dict[str, Any] | Outgoing) -> None:
        log = factory.make_log(self.config, SystemClock())
        try:
            await log.append([one if isinstance(one, Outgoing) else self.record(one) for one in given])
        finally:
            await log.close()

    async def read(self, topic: str) -> list[Record]:
        """Everything that a topic holds by now."""
        log = factory.make_log(factory.alone(self.config, topic), SystemClock())
        try:
            await log.open({})
            ends, found = await log.ends(), list[Record]()
            while dict(await log.positions()) != dict(ends):
                found.extend(await log.fetch(10_000, 0.2))
            return found
        finally:
            await log.close()

    async def outcomes(self) -> list[dict[str, Any]]:
        """The outcome events, each once, in the order in which they were first published."""
        events: dict[str, dict[str, Any]] = {}
        for record in await self.read(self.config.log.outcomes_topic):
            given = json.loads(record.value or b"")
            assert (record.key or b"").decode() == given["subject"]
            events.setdefault(given["id"], given)
        check_outcomes(events.values())
        return list(events.values())

    async def told(self) -> dict[str, dict[str, Any]]:
        """What was told last of each document: its fields as both sides agree on them."""
        told = [one for one in await self.outcomes() if kinds([one]) == ["document.reconciled"]]
        return {one["subject"]: one["data"]["base"] for one in told}

    @asynccontextmanager
    async def running(self, *, once: bool = False) -> AsyncIterator["Running"]:
        """A daemon that runs until the block ends, and is then stopped in order."""
        async with app.daemon(self.config, once=once) as daemon:
            stop = asyncio.Event()
            task = asyncio.create_task(daemon.run(stop, once=once))
            running = Running(self, daemon, task)
            try:
                yield running
                stop.set()
                await asyncio.wait_for(task, HANG_S)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def settle(self, *given: dict[str, Any]) -> None:
        """Append events, and run once: everything is settled."""
        await self.append(*given)
        assert (await self.converge()).settled

    async def converge(self) -> ending.Summary:
        """Run once, to the log's end as it is now; check everything that must hold whatever happened."""
        async with app.daemon(self.config, once=True) as daemon:
            summary = await asyncio.wait_for(daemon.run(asyncio.Event(), once=True), HANG_S)
            await check_audit(daemon.store)
        await self.check_history()
        return summary

    async def check_history(self) -> list[Entry]:
        """No one's update lost, no write unguarded or stale, and none of ours that changes nothing."""
        entries = await asyncio.to_thread(self.simulated.whole_history)
        assert not witness.lost_updates(entries, ME)
        assert not witness.unguarded(entries)
        assert not witness.stale_writes(entries, ME)
        assert [entry for entry in entries if entry.who == ME and not entry.changes] == [], (
            "a write that changes nothing"
        )
        return entries


@attrs.define
class Running:
    """A daemon at work."""

    world: World
    daemon: app.Daemon
    task: asyncio.Task[ending.Summary]

    async def until(self, true: Callable[[], bool | Awaitable[bool]], what: str, within_s: float = HANG_S) -> None:
        """Wait until something is true; a daemon that dies meanwhile fails the test with its own error."""
        give_up_s = asyncio.get_running_loop().time() + within_s
        while True:
            found = true()
            if found if isinstance(found, bool) else await found:
                return
            if self.task.done():
                self.task.result()
                raise AssertionError(f"the daemon ended while waiting until {what}")
            if asyncio.get_running_loop().time() > give_up_s:
                counts = {status.value: count for status, count in (await self.daemon.store.counts()).items() if count}
                raise AssertionError(f"waited {within_s:.0f} s in vain until {what}; documents: {counts}")
            await asyncio.sleep(0.02)

    async def until_folded(self, within_s: float = HANG_S) -> None:
        """Wait until everything that the log holds by now is in the store."""
        await self.until(lambda: bool(self.daemon.ingest.reached), "the daemon reads the log", within_s)
        ends = await self.daemon.log.ends()

        async def folded() -> bool:
            reached = await self.daemon.store.positions()
            return all(reached.get(place, 0) >= end for place, end in ends.items())

        await self.until(folded, "the log is folded to its end", within_s)

    async def until_settled(self, within_s: float = HANG_S) -> None:
        """Wait until everything in the log is folded, and no document is pending or being worked on."""
        await self.until_folded(within_s)

        async def settled() -> bool:
            counts = await self.daemon.store.counts()
            return not counts.get(Status.PENDING, 0) and self.daemon.reconciler.idle

        await self.until(settled, "no document is pending", within_s)

    async def until_status(self, key: str, *statuses: Status) -> None:
        async def stands() -> bool:
            found = await self.daemon.store.documents([key])
            return key in found and found[key].status in statuses

        await self.until(stands, f"document {key} is {' or '.join(statuses)}")

    async def check(self) -> None:
        """Law 6 over the audit trail, and the server's history. While the daemon writes, the trail is read again."""
        store = self.daemon.store
        while True:
            heads = await store.audit_heads()
            try:
                await check_audit(store)
                break
            except AssertionError:
                if await store.audit_heads() == heads:
                    raise
        await self.world.check_history()


def values_of(told: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The values in what was told of each document."""
    return {key: {name: agreed["value"] for name, agreed in base.items()} for key, base in told.items()}


def agreed_in(rows: Mapping[str, Document]) -> dict[str, dict[str, Any]]:
    """The values that the store has as agreed for each document."""
    return {key: {name: one.value for name, one in row.agreement.base.fields.items()} for key, row in rows.items()}


def kinds(outcomes: Sequence[Mapping[str, Any]], key: str | None = None) -> list[str]:
    """What was told of a document, by the last words of the types."""
    return [
        one["type"].removeprefix("windchill.").removesuffix(".v1") for one in outcomes if key in (None, one["subject"])
    ]
