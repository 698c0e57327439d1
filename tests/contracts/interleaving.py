"""
Three owners of one PostgreSQL, whose statements are run in a random order, against the same store in memory.

    python -m tests.contracts.interleaving --count 10000 --seed 1

Theory. Each transaction on PostgreSQL is one statement, so what several owners do at the same time is an order of
statements. An owner that wants to run one waits for its turn, and the seed says whose it is. A call counts from its
last statement on: then the store in memory is asked for the same, in one go, and has to answer the same. (A `hold`
takes its documents with its first one.) Each interleaving has documents and a partition of its own; after it, all calls
are led to their ends, and all rows are compared.
"""

import argparse
import asyncio
import logging
import random
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import asyncpg
import attrs
import structlog
from msgspec import structs

from reconciler.adapters import packing
from reconciler.adapters.postgres import PostgresStore
from reconciler.core.scheduling.replicas import Member
from reconciler.errors import EvictedError, LostError, MovedError
from reconciler.model import codec
from reconciler.model.action import Change
from reconciler.model.desired import Desired, Field, Register
from reconciler.model.document import Agreement, Document, Lane, Status
from reconciler.model.event import Outgoing
from reconciler.model.policy import Policy
from reconciler.model.stamp import Partition
from reconciler.ports import OUTBOX_DUTIES, Changed, Refolded
from tests import postgres
from tests.contracts.test_actions import action
from tests.contracts.test_store import AGREEMENT, batch, letter, record, settlement, stamp
from tests.fakes.shared_store import SharedMemory, SharedStore
from tests.postgres.fixtures import migrated, owners

SLOTS = 3
TURNS = 30  # of an interleaving
_WORLD = 100  # interleavings on one database
_UNGATED = "show a sign of life"  # by itself, now and then
_REFUSED = "refused"

Call = Callable[[Any], Awaitable[Any]]


class Mismatch(AssertionError):
    """The two stores do not agree."""


@attrs.define(eq=False)
class Owner:
    """One owner, on both stores, and the call that it has begun."""

    real: PostgresStore
    fake: SharedStore
    name: str = ""
    call: Call | None = None
    running: asyncio.Future[Any] | None = None
    turn: asyncio.Future[None] | None = None  # of the statement that waits
    operation: str = ""
    asked: frozenset[str] = frozenset()  # documents that it may take
    stirred: asyncio.Event = attrs.field(factory=asyncio.Event)
    seen: dict[str, list[Member]] = attrs.field(factory=dict)  # by store: the members at the last look

    def __attrs_post_init__(self) -> None:
        for method in ("fetch", "once", "change"):
            run = getattr(self.real._server, method)
            setattr(self.real._server, method, partial(self._in_turn, run))

    async def _in_turn(self, run: Callable[..., Awaitable[Any]], operation: str, *arguments: Any) -> Any:
        if self.call is not None and operation != _UNGATED:
            self.operation, self.turn = operation, asyncio.get_running_loop().create_future()
            self.stirred.set()
            await self.turn
        return await run(operation, *arguments)

    async def begin(self, name: str, call: Call) -> None:
        """Begin a call, up to its first statement."""
        self.name, self.call = name, call
        self.running = asyncio.ensure_future(_answer(call(self.real)))
        await self._settles()

    async def go_on(self) -> str:
        """Run the statement that waits, up to the next one or the end; return what it was for."""
        operation, turn, self.turn = self.operation, self.turn, None
        assert turn is not None, f"{self.name} waits for something else than a statement"
        self.stirred.clear()
        turn.set_result(None)
        await self._settles()
        return operation

    async def _settles(self) -> None:
        assert self.running is not None
        stirred = asyncio.ensure_future(self.stirred.wait())
        await asyncio.wait({self.running, stirred}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
        stirred.cancel()
        assert self.turn is not None or self.running.done(), f"{self.name} hangs"

    @property
    def alive(self) -> bool:
        """Whether nobody has taken it for dead."""
        assert self.fake.slots is not None
        return self.fake.slots.is_mine()


async def _answer(call: Awaitable[Any]) -> Any:
    """What a call comes to, so that both stores can be compared."""
    try:
        found = await call
    except MovedError:
        return "moved"
    except (LostError, EvictedError):
        return _REFUSED
    return (sorted(found.keys), found.superseded) if isinstance(found, Changed) else found


class World:
    """Both stores, and those who use them."""

    def __init__(self, chance: random.Random, opens: Callable[..., Awaitable[Any]], rows: Any) -> None:
        self._chance = chance
        self._opens = opens
        self._rows = rows  # a connection that looks at what is stored
        self._memory = SharedMemory()
        self._owners: list[Owner] = []
        self._keys: list[str] = []
        self._place = Partition("changes", 0)
        self._number = 0
        self.story: list[str] = []

    async def begin(self) -> None:
        """Let all owners come, and put a policy in force."""
        for _ in range(SLOTS):
            await self._enter()
        both = self._owners[0].real, self._owners[0].fake
        assert [await store.shared.put_in_force("p0", Policy(), 0) for store in both] == [True, True]

    async def _enter(self) -> Owner:
        owner = Owner(await self._opens(), self._memory.owner())
        assert owner.real.slots is not None
        assert owner.fake.slots is not None
        self._expect("slot", owner.real.slots.slot, owner.fake.slots.slot)
        self._owners.append(owner)
        return owner

    async def interleave(self, number: int) -> None:
        """Let owners do anything for some turns, bring it to an end, and compare."""
        self._keys = [f"{number}-{letter}" for letter in "abc"]
        self._place, self.story = Partition("changes", number), []
        for _ in range(TURNS):
            await self._take_turn(self._chance.choice(self._owners))
        while busy := [owner for owner in self._owners if owner.call is not None]:
            await self._take_turn(self._chance.choice(busy))
        await self._compare()

    async def _take_turn(self, owner: Owner) -> None:
        if owner.call is None:
            if self._chance.random() < (0.02 if owner.alive else 0.2):
                await self._replace(owner)
                return
            await owner.begin(*self._deed(owner))
            self.story.append(f"{owner.real._mine} begins {owner.name}")
        else:
            done = await owner.go_on()
            self.story.append(f"{owner.real._mine} runs: {done}")
            if done == "take documents" and owner.alive:
                await owner.call(owner.fake)
        if owner.running is not None and owner.running.done():
            await self._end(owner)

    async def _end(self, owner: Owner) -> None:
        assert owner.call is not None
        assert owner.running is not None
        found = await owner.running
        if owner.name == "hold":
            await self._end_hold(owner, found)
        else:
            wanted = await _answer(owner.call(owner.fake))
            if not owner.alive:  # it may hear as well that there is nothing to do
                found, wanted = found or _REFUSED, wanted or _REFUSED
            self._expect(owner.name, found, wanted)
        self.story.append(f"{owner.real._mine} ends {owner.name}: {str(found)[:200]}")
        owner.call = owner.running = None

    async def _end_hold(self, owner: Owner, found: Any) -> None:
        """It tells of the documents as they are at its end; to one that is dead by then, anything."""
        if not owner.alive:
            return
        mine = {key for key, slot in self._memory.holders.items() if slot == owner.real._mine}
        self._expect(owner.name, found, await owner.fake.hold(mine & owner.asked))  # versions and rows are of now

    # --------------------------------------------------------------------------------------------------------- deeds

    def _deed(self, owner: Owner) -> tuple[str, Call]:
        """Something that an owner may do, whether it makes sense or not."""
        chance = self._chance
        self._number += 1
        n, key, at_us = self._number, chance.choice(self._keys), 1000 + self._number
        keys = chance.sample(self._keys, chance.randint(1, 3))
        row = self._memory.rows.get(key)
        known = [
            one for one in keys if one in self._memory.rows
        ]  # who asks about others counts from the first statement
        deeds: dict[str, tuple[float, Call]] = {
            "fold": (6, self._fold(keys, at_us)),
            "hold": (8, lambda store: store.hold(keys)),
            "give back": (2, lambda store: store.give_back(keys)),
            "requeue": (1, lambda store: store.requeue(known, Lane.OPERATOR, at_us)),
            "compare again": (1, lambda store: store.compare_again(known, [Status.SYNCED], at_us)),
            "rebase": (1, self._rebase(key, row, at_us)),
            "steer writes": (0.2, self._steer_writes(at_us)),
            "publish": (2, partial(_publish, limit=chance.randint(1, 9))),
            "forget": (1, lambda store: store.published([], {})),
            "duties": (2, self._duties()),
            "policy": (0.3, self._policy()),
            "look": (2, partial(_look, owner=owner)),
            "evict": (1, self._evict(owner)),
            "due": (1, lambda store: store.due(at_us, 9)),
        }
        if row is not None:
            deeds["intend"] = 8, self._intend(key, row)
            deeds["settle"] = 8, self._settle(key, row, at_us)
            deeds["act"] = 3, self._act(key, at_us)
            deeds["refold"] = 0.5, self._refold(key, at_us, n)
        name = chance.choices([*deeds], [weight for weight, _ in deeds.values()])[0]
        owner.asked = frozenset(keys)
        return name, deeds[name][1]

    def _fold(self, keys: list[str], at_us: int) -> Call:
        chance = self._chance
        events = {key: Desired({f"f{chance.randrange(3)}": _register(chance.randrange(90), at_us)}) for key in keys}
        stored = self._memory.offsets.get(self._place, 0)
        since = max(0, stored - chance.choice((0, 0, 0, 1)))
        moves = {"positions": {self._place: since + 1}, "since": {self._place: since}} if chance.random() < 0.5 else {}
        dead = [letter(at_us, "changes")] if chance.random() < 0.2 else []
        said = batch(rows=events, at_us=at_us, dead_letters=dead, **moves)
        return lambda store: store.fold(said)

    def _intend(self, key: str, row: Document) -> Call:
        agreement = structs.replace(AGREEMENT, failures=self._number, told=row.agreement.told)
        policy = self._chance.choice(("", self._memory.chosen[-1].digest, "another"))
        return lambda store: store.intend(key, agreement, policy)

    def _settle(self, key: str, row: Document, at_us: int) -> Call:
        chance = self._chance
        end = settlement(
            key,
            row.revision - chance.randint(0, 1),
            at_us=at_us,
            attempts=1,
            conflicts=chance.randint(0, 1),
            status=chance.choice((Status.SYNCED, Status.PENDING, Status.PARKED, Status.CONTENDED)),
            agreement=structs.replace(AGREEMENT, failures=self._number, told=row.agreement.told + 1),
            audit=(record(key, at_us),),
            outcomes=(Outgoing("outcomes", key.encode(), str(self._number).encode()),),
        )
        return lambda store: store.settle(end)

    def _rebase(self, key: str, row: Document | None, at_us: int) -> Call:
        told = (0 if row is None else row.agreement.told) + self._chance.randint(-1, 1)
        recovered = Agreement(stable=5, told=told)
        return lambda store: store.rebase({key: recovered}, {}, at_us)

    def _refold(self, key: str, at_us: int, number: int) -> Call:
        offset = max(0, self._memory.offsets.get(self._place, 0) - self._chance.choice((0, 0, 1)))
        read = Refolded(key, Desired({"f0": _register(number % 90, number)}), {self._place: offset}, ())
        return lambda store: store.refold(read, action(key, "refold"))

    def _act(self, key: str, at_us: int) -> Call:
        change = self._chance.choice([Change.PAUSE, Change.RESUME, Change.RESUME, Change.RETRY])
        return lambda store: store.record_actions(change, [action(key)], at_us=at_us, reason="why")

    def _steer_writes(self, at_us: int) -> Call:
        change = self._chance.choice((Change.STOP_WRITES, Change.RESUME_WRITES, Change.RESUME_WRITES))
        return lambda store: store.record_actions(change, [action("writes")], at_us=at_us, reason="why")

    def _duties(self) -> Call:
        wanted = frozenset(self._chance.sample(OUTBOX_DUTIES, self._chance.randint(0, 16)))
        return lambda store: store.slots.take_duties(wanted)

    def _policy(self) -> Call:
        after = len(self._memory.chosen) - self._chance.choice((0, 0, 1))
        return lambda store: store.shared.put_in_force(f"p{after}", Policy(), after)

    def _evict(self, owner: Owner) -> Call:
        """Take someone for dead whom it has seen before; but not the last one."""
        others = [other for other in self._owners if other is not owner and other.alive]
        seen = [one.slot for one in owner.seen.get("PostgresStore", ())]
        if len(others) < SLOTS - 1 or not seen:
            return partial(_look, owner=owner)
        return partial(_bury, owner=owner, slot=self._chance.choice(seen))

    async def _replace(self, owner: Owner) -> None:
        """One leaves, or is gone for long; another one comes, and removes it if it was evicted."""
        await owner.real.close()
        await owner.fake.close()
        self._owners.remove(owner)
        follower = await self._enter()
        for store in (follower.real, follower.fake):
            assert store.slots is not None
            for member in (await store.slots.beat(0)).members:
                if member.leaving:
                    assert await store.slots.evict(member)
        self.story.append(f"{owner.real._mine} leaves, {follower.real._mine} enters")

    # ----------------------------------------------------------------------------------------------------- comparing

    def _expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            raise Mismatch("\n".join((*self.story, f"{what}: PostgreSQL says {found},", f"memory says {wanted}")))

    async def _compare(self) -> None:
        real, fake = self._owners[0].real, self._owners[0].fake
        looks: tuple[tuple[str, Call], ...] = (
            ("documents", lambda store: store.documents(self._keys)),
            ("counts", lambda store: store.counts()),
            ("positions", lambda store: store.positions()),
            ("dead letters", lambda store: store.dead_letters(None)),
            ("write stop", lambda store: store.write_stop()),
            *((f"decisions of {key}", partial(_decisions, key=key)) for key in self._keys),
            *((f"acts on {key}", partial(_acts, key=key)) for key in self._keys),
            *((f"superseded of {key}", partial(_superseded, key=key)) for key in self._keys),
        )
        for name, look in looks:
            self._expect(name, await look(real), await look(fake))
        heads = [head for head in await real.audit_heads() if head.records]
        self._expect("audit heads", heads, await fake.audit_heads())
        await self._compare_rows()

    async def _compare_rows(self) -> None:
        memory = self._memory
        keys = [key.encode() for key in self._keys]
        held = await self._rows.fetch(
            "SELECT key, holder FROM document WHERE holder IS NOT NULL AND key = ANY ($1)", keys
        )
        mine = {key: slot for key, slot in memory.holders.items() if key in self._keys}
        self._expect("holders", {key.decode(): slot for key, slot in held}, mine)
        versions = await self._rows.fetch("SELECT key, version FROM agreement WHERE key = ANY ($1)", keys)
        agreed = {key: memory.agreed[key] for key in self._keys if memory.agreed[key]}
        self._expect("agreements", {key.decode(): version for key, version in versions}, agreed)
        duties = await self._rows.fetch("SELECT name, slot FROM duty")
        self._expect("duties", dict(duties), {name: slot for name, (slot, _) in memory.owners.duties.items()})
        waiting = await self._rows.fetch("SELECT message FROM outbox ORDER BY number")
        told = [codec.decode_message(packing.unpack(text)) for (text,) in waiting]
        self._expect("outbox", [(one.key, one.value) for one in told], _told(memory.outbox.values()))


def _register(number: int, value: object) -> Field:
    return Field(Register(stamp(number), value))


def _told(messages: Any) -> list[tuple[bytes | None, bytes | None]]:
    return [(one.key, one.value) for one in messages]


async def _publish(store: Any, limit: int) -> list[tuple[bytes | None, bytes | None]]:
    messages = await store.waiting(limit)
    if messages:
        await store.published([one.number for one in messages], {})
    return _told(one.record for one in messages)


async def _look(store: Any, owner: Owner) -> object:
    """See who is there; epochs and beats are each store's own."""
    seen = await store.slots.beat(0)
    owner.seen[type(store).__name__] = list(seen.members)
    return seen.number, seen.policy, sorted((one.slot, one.leaving) for one in seen.members)


async def _bury(store: Any, owner: Owner, slot: int) -> object:
    (member,) = [one for one in owner.seen[type(store).__name__] if one.slot == slot]
    return await store.slots.evict(member)


async def _decisions(store: Any, key: str) -> object:
    return [(one.id, one.ordinal, one.at_us) for one in await store.audit(document=key)]


async def _acts(store: Any, key: str) -> object:
    return sorted((one.id, one.ordinal, one.kind) for one in await store.actions(document=key))


async def _superseded(store: Any, key: str) -> object:
    """Without what it lost to: that is as of the first statement, as a row that does not change may move meanwhile."""
    found = await store.superseded(key)
    return found and (found.count, found.last)


async def run(server: postgres.Server, count: int, seed: int) -> None:
    """Try so many interleavings; raises Mismatch, with what led to it."""
    for first in range(0, count, _WORLD):
        chance = random.Random(f"{seed}/{first}")
        url = server.new()
        rows = await asyncpg.connect(url)
        try:
            async with owners(url) as open_:
                world = World(chance, open_, rows)
                await world.begin()
                for number in range(first, min(count, first + _WORLD)):
                    try:
                        await world.interleave(number)
                    except AssertionError as error:
                        raise Mismatch(f"seed {seed}, interleaving {number}:\n{error}") from error
        finally:
            await rows.close()
            server.sql(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")


def main() -> int:
    """Return 0 if both stores agree."""
    parser = argparse.ArgumentParser(prog="python -m tests.contracts.interleaving", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # the dead complain
    began_s = time.monotonic()
    with migrated() as server:
        try:
            asyncio.run(run(server, given.count, given.seed))
        except Mismatch as error:
            print(error, file=sys.stderr)
            return 1
    print(f"{given.count} interleavings of {SLOTS} slots agree, in {time.monotonic() - began_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
