"""The admin server on a real socket, over a daemon whose state a test sets."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpx
import pytest

from reconciler.core.events import decode
from reconciler.core.explain import series
from reconciler.core.scheduling.breaker import Breaker
from reconciler.core.scheduling.queue import Queue
from reconciler.flows.actions import OperatorActions
from reconciler.model.document import Document
from reconciler.model.event import Outgoing
from reconciler.model.standing import Space
from reconciler.web import application, server
from reconciler.web.access import AccessControl
from reconciler.web.principal import Provider
from reconciler.web.probes import Phase, Readiness
from reconciler.web.sessions import Browsing
from reconciler.web.tokens import TokenFile
from tests.fakes.virtual_clock import VirtualClock
from tests.flows.world import TOPIC, TOPICS, World
from tests.patience import HANG_S
from tests.web.keys import LINES

SECRET = "correct-horse_battery"


def held_up(owner: object, verb: str) -> asyncio.Event:
    """Let each call of a method wait for an event, which is returned."""
    real, going_on = getattr(owner, verb), asyncio.Event()

    async def later(*args: Any, **named: Any) -> Any:
        await going_on.wait()
        return await real(*args, **named)

    setattr(owner, verb, later)
    return going_on


@attrs.define
class Daemon:
    """What the server asks of a daemon, set by hand."""

    late: dict[str, float] = attrs.field(factory=dict)
    readiness: Readiness = attrs.field(factory=lambda: Readiness(Phase.READY))
    trouble: Exception | None = None
    hold: asyncio.Event | None = None  # metrics wait for it
    wakes: int = 0
    hook_secret: str = SECRET
    spaces: tuple[Space, ...] = (Space("store", "/var/state.db", 50 * 10**9, 100 * 10**9),)
    tokens: str | None = None  # the text of the file; None: no one is asked
    provider: Provider | None = None
    browsing: Browsing = attrs.field(factory=Browsing)
    as_localhost: bool = False  # `external_url` is that name of ours, which is another site than 127.0.0.1
    world: World = attrs.field(factory=World)
    breaker: Breaker = attrs.field(factory=Breaker)
    points: list[series.Point] = attrs.field(factory=list)
    stopping: asyncio.Event = attrs.field(factory=asyncio.Event)
    windchill_link: Callable[[Document], str] = lambda _: ""
    settings: list[Any] = attrs.field(factory=lambda: [("log", "topic", TOPIC, "default")])

    def __attrs_post_init__(self) -> None:
        self.world.store.owned = False  # nobody writes here

    @property
    def clock(self) -> VirtualClock:
        return self.world.clock

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        if self.trouble is not None:
            raise self.trouble
        if self.hold is not None:
            await self.hold.wait()
        return b"documents 3\n", "text/plain; version=0.0.4"

    def wake(self) -> None:
        self.wakes += 1

    def _late(self) -> Mapping[str, float]:
        return self.late

    @property
    def access(self) -> AccessControl:
        token_file = None if self.tokens is None else TokenFile(lambda: self.tokens or "", "tokens")
        return AccessControl(self.clock, token_file, self.browsing, self.provider)

    @property
    def actions(self) -> OperatorActions:
        decode_options = decode.Options(policy=self.world.policy, topics=TOPICS)
        log = self.world.log
        return OperatorActions(store=self.world.store, log=log, clock=self.clock, decoding=lambda: decode_options)

    @property
    def services(self) -> application.Services:
        return application.Services(
            late=self._late,
            readiness=lambda: self.readiness,
            metrics=self.metrics,
            wake=self.wake,
            clock=self.clock,
            store=self.world.store,
            log=self.world.log,
            decoding=lambda: decode.Options(policy=self.world.policy, topics=TOPICS),
            engine=application.Engine(
                self.breaker, self.world.limiter, Queue(10), {}, lambda: self.world.store.offsets, 8
            ),
            series=lambda hours: series.window(self.points, self.clock.now_us(), round(hours * 60)),
            stopping=self.stopping,
            settings=lambda: self.settings,
            access=self.access,
            actions=self.actions,
            spaces=lambda: self.spaces,
            hook_secret=self.hook_secret,
            windchill_link=self.windchill_link,
        )

    @asynccontextmanager
    async def served(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client of the server, which runs until the block ends and is then stopped in order."""
        admin = server.AdminServer(server.listen("127.0.0.1:0"))
        if self.as_localhost:
            self.browsing = attrs.evolve(self.browsing, external_url=admin.address.replace("127.0.0.1", "localhost"))
        task = asyncio.create_task(admin.serve(application.application(self.services)))
        try:
            async with httpx.AsyncClient(base_url=admin.address) as client:
                yield client
            self.stopping.set()
            admin.stop()
            await asyncio.wait_for(task, HANG_S)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
async def client(daemon: Daemon) -> Any:
    async with daemon.served() as client:
        yield client


@pytest.fixture
async def guarded(daemon: Daemon) -> Any:
    """A client of a server that asks people for their tokens."""
    daemon.tokens = LINES
    async with daemon.served() as client:
        yield client


@pytest.fixture
async def world(daemon: Daemon) -> World:
    """A document with a field of each kind: written, held, yielded, released; and two letters that are dead."""
    world = daemon.world
    await world.store.keep_policy(world.attempt_options.policy_digest, world.policy)
    await world.emit({"status": "RELEASED", "title": "Cover", "owner": "erp"}, actor="jdoe", reason="ECN-1")
    await world.settle()
    await world.edit({"title": "Lid", "owner": "sgarcia"})
    await world.emit({"title": "Plate"}, expect={"title": "Cover"})
    await world.emit({"owner": "erp2"})
    await world.settle()
    await world.emit(add={"attributes.Keywords": ["bracket"]}, release=["status"])
    world.broker.put(Outgoing(TOPIC, b"k\xff", b"not json \xff\0", (("h", b"\xfe"), ("null", None))))
    world.broker.put(Outgoing(TOPIC, b"k", b"{}"))
    await world.fold()
    return world
