"""The way to Windchill and back: the `Windchill` port of one life, over a network that loses, delays and reorders."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from reconciler.model.answer import (
    Broken,
    Failed,
    NotSent,
    ReadAnswer,
    ReleaseAnswer,
    Released,
    Unchanged,
    Unknown,
    VersionConflict,
    WriteAnswer,
    Written,
)
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.snapshot import Snapshot as ShownSnapshot
from reconciler.model.value import Json, canonical
from reconciler.ports import Journal
from tests.sim import wire
from tests.sim.server import Server, Version, Write, token_of
from tests.sim.witness import Witness
from tests.sim.world import Life

TIMEOUT_S = 30.0
_LATE_S_MAX = 3 * TIMEOUT_S


class _Lost(Exception):
    """No answer came."""


class SimWindchill:
    """`ports.Windchill` of one life."""

    def __init__(self, server: Server, life: Life, witness: Witness) -> None:
        self._server = server
        self._life = life
        self._world = life.world
        self._witness = witness

    async def read(self, key: str, known: Snapshot | None = None) -> ReadAnswer:
        self._world.expect(not self._life.maintenance, "Windchill is asked, during maintenance")
        token = None if known is None else known.token
        seen: list[Any] = [None]

        def evaluate() -> ReadAnswer:
            version, answer = self._server.read(key, token)
            if version is None:
                return answer
            seen[0] = version
            shown = Unchanged() if answer and key not in self._server.locks else self._server.shown(version)
            if self._world.strikes("rival_after_read"):
                self._server.rival(key)
            return shown

        async def act() -> ReadAnswer:
            if self._world.strikes("unusable_read"):
                return Broken("a login page")
            try:
                return await self._exchange(evaluate)
            except _Lost as error:
                seen[0] = None
                return Failed(str(error))

        looked = self._looked()
        answer = await self._life.effect(f"read {key}", act)
        self._landed(looked)
        self._world.note(f"read {key} -> {type(answer).__name__} {seen[0].number if seen[0] else ''}")
        self._witness.saw(key, seen[0])
        return answer

    def _looked(self) -> tuple[Life, float]:
        """A request is sent now, right after a look whether that is allowed: it must be, in this very moment."""
        life, world = self._life, self._world
        may = life.is_current() or life.may_end()
        world.expect(may, f"life {life.number} asks Windchill, and others have taken it for dead")
        now_s, most = world.loop.time(), world.options.in_flight_max
        world.in_flight = [one for one in world.in_flight if one[1] > now_s]
        world.in_flight.append(sent := (life, now_s + TIMEOUT_S))
        several = world.options.replicas > 1
        world.expect(not several or len(world.in_flight) <= most, f"{len(world.in_flight)} in flight, of {most}")
        return sent

    def _landed(self, sent: tuple[Life, float]) -> None:
        if sent in self._world.in_flight:
            self._world.in_flight.remove(sent)

    @property
    def locks(self) -> bool:
        return self._world.options.guard == "lock"

    async def release(self, key: str, lock: str | None, mark: str) -> ReleaseAnswer:
        answer = await self._asked(f"release {lock} of {key}", lambda: self._server.unlock(key, lock))
        return Failed(answer.message) if isinstance(answer, Unknown) else answer

    async def write(
        self,
        snapshot: Snapshot,
        fields: Mapping[str, Json],
        *,
        token: Token,
        journal: Journal,
    ) -> WriteAnswer:
        key = snapshot.key
        await self._life.alive()
        self._world.expect(not self._life.maintenance, "Windchill is written to, during maintenance")
        if self.locks:
            return await self._write_under_lock(key, journal)
        write = self._witness.sending(snapshot, fields, token)

        def apply() -> WriteAnswer:
            if self._world.strikes("rival_at_write"):
                self._server.rival(key)
            return self._server.write(write)

        answer = await self._sent(write, apply)
        self._witness.answered(write, answer)
        return answer

    async def _write_under_lock(self, key: str, journal: Journal) -> WriteAnswer:
        lock = await self._asked(f"lock {key}", lambda: self._server.lock(key))
        if not isinstance(lock, str):
            self._witness.not_sent(key, lock)
            return lock
        await journal.locked(lock)
        version = await self._asked(f"read {key} under {lock}", lambda: self._server.read(key, None)[0])
        if not isinstance(version, Version):  # in trouble: who is on the document now is for the next attempt to find
            return Unknown("nothing to be seen under the lock")
        self._witness.under_lock(key, version)
        shown = self._server.shown(version)
        fields = await journal.redraft(shown)
        if not fields:
            answer = await self._without_lock(key, lock, VersionConflict(0, "changed before it was locked"))
            self._witness.not_sent(key, answer)
            return answer
        write = self._witness.sending(shown, fields, version.token)
        answer = await self._sent(write, lambda: self._server.write_under(lock, write))
        if not isinstance(answer, Written | Unknown):
            answer = await self._without_lock(
                key, lock, Unknown("not sent") if isinstance(answer, Failed | NotSent) else answer
            )
        self._witness.answered(write, answer)
        return answer

    async def _sent(self, write: Write, apply: Callable[[], WriteAnswer]) -> WriteAnswer:
        """The request of a write: `apply` is what the server makes of it, once it is there."""
        self._server.meant[write.key] = write.fields
        what = f"write {write.number} {write.key} {sorted(write.fields)}"
        late = self._world.strikes("write_late")
        answer: WriteAnswer = await self._asked(what, lambda: self._evaluated(write, apply), late=late)
        return answer

    def _evaluated(self, write: Write, apply: Callable[[], WriteAnswer]) -> WriteAnswer:
        """What a write comes to, where it is evaluated."""
        answer = apply()
        self._world.faults["sent_after_eviction"] += not self._life.is_current()
        self._world.faults["applied_after_eviction"] += not self._life.is_current() and write.accepted is not None
        self._world.note(f"write {write.number} of {write.key} evaluated: {type(answer).__name__}")
        if write.accepted is not None:
            before = token_of(write.key, write.accepted.number - 1)
            self._witness.accepted(write, self._server.versions[write.key, before])
        if self._world.strikes("crash"):
            self._life.die(f"write {write.number} is evaluated, its answer on the way")
        return answer

    async def _without_lock(self, key: str, lock: str, answer: WriteAnswer) -> WriteAnswer:
        """Give the lock up before an answer counts."""
        released = await self._asked(f"unlock {key}", lambda: self._server.unlock(key, lock))
        return answer if isinstance(released, Released) else Unknown("the lock is still there, perhaps")

    async def _asked(self, what: str, evaluate: Callable[[], Any], *, late: bool = False) -> Any:
        """One request: what it is answered, Failed if it was surely not sent, Unknown if the answer is lost."""

        async def act() -> Any:
            if self._world.strikes("request_refused"):
                return Failed("connection refused")
            try:
                return await self._exchange(evaluate, given_up=late)
            except _Lost as error:
                return Unknown(str(error))

        if not self._life.may_send():
            return NotSent()
        looked = self._looked()
        answer = await self._life.effect(what, act)
        self._landed(looked)
        self._world.note(f"{what} -> {answer if isinstance(answer, str) else type(answer).__name__}")
        return answer

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _exchange(self, evaluate: Callable[[], Any], *, given_up: bool = False) -> Any:
        """One request and its reply, each on its way; `given_up` soon, it comes late. Raises `_Lost`."""
        world = self._world
        rng = world.rng("network")
        reply: asyncio.Future[Any] = world.loop.create_future()
        there_s, back_s = rng.uniform(0.001, 0.3), rng.uniform(0.001, 0.3)
        late = world.strikes("request_late")
        if late:
            there_s = rng.uniform(1.0, _LATE_S_MAX)
        if world.strikes("reply_late"):
            back_s = rng.uniform(1.0, _LATE_S_MAX)
        breaks_s = rng.choice((0.5, 5.0, TIMEOUT_S))  # a connection may break long before the time is over
        if given_up:
            there_s, breaks_s = rng.uniform(1.0, 20.0), 0.5

        def arrive() -> None:
            world.on_their_way -= 1
            answer = evaluate()
            if world.strikes("reply_lost"):
                world.later(breaks_s, deliver, None)
            else:
                world.later(back_s, deliver, answer)

        def deliver(answer: Any) -> None:
            if not reply.done():
                reply.set_result(answer)

        lost = world.strikes("request_lost")
        if lost or given_up or (late and rng.random() < 0.5):  # given up, and yet on its way
            world.later(breaks_s, deliver, None)
        if not lost:
            world.on_their_way += 1
            world.later(there_s, arrive)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await reply
        except TimeoutError:
            raise _Lost("no answer in time") from None
        if answer is None:
            raise _Lost("the connection broke before the answer was whole")
        return answer


class WiredWindchill(SimWindchill):
    """The same through the real HTTP adapter: what is asked and answered goes over `wire` as messages."""

    def __init__(self, server: Server, life: Life, witness: Witness) -> None:
        super().__init__(server, life, witness)
        self._adapter, self._wire = wire.connected(life.clock, TIMEOUT_S + 1)

    async def read(self, key: str, known: Snapshot | None = None) -> ReadAnswer:
        """Read through the adapter."""
        self._world.expect(not self._life.maintenance, "Windchill is asked, during maintenance")
        seen: list[Version | None] = [None]

        def evaluate(request: httpx.Request) -> httpx.Response:
            version, answer = self._server.read(wire.key_of(request), wire.token_of(request, "if-none-match"))
            if version is None:
                return wire.reply(answer)
            seen[0] = version
            shown = wire.unchanged(version.token) if answer else wire.reply(self._server.shown(version))
            if self._world.strikes("rival_after_read"):
                self._server.rival(key)
            return shown

        async def exchange(request: httpx.Request) -> httpx.Response:
            if self._world.strikes("unusable_read"):
                return wire.login_page()
            return await self._carried(lambda: evaluate(request))

        self._wire.exchanges["GET", key] = exchange
        looked = self._looked()
        answer = await self._life.effect(f"read {key}", lambda: self._adapter.read(key, known))
        self._landed(looked)
        shown = seen[0] if isinstance(answer, ShownSnapshot | Unchanged) else None
        self._world.note(f"read {key} -> {type(answer).__name__} {shown.number if shown else ''}")
        self._witness.saw(key, shown)
        return answer

    async def write(
        self,
        snapshot: Snapshot,
        fields: Mapping[str, Json],
        *,
        token: Token,
        journal: Journal,
    ) -> WriteAnswer:
        """Write through the adapter; what the request says must be what was decided."""
        await self._life.alive()
        self._world.expect(not self._life.maintenance, "Windchill is written to, during maintenance")
        write = self._witness.sending(snapshot, fields, token)
        self._server.meant[write.key] = write.fields
        late = self._world.strikes("write_late")

        def apply() -> WriteAnswer:
            if self._world.strikes("rival_at_write"):
                self._server.rival(write.key)
            return self._server.write(write)

        async def exchange(request: httpx.Request) -> httpx.Response:
            said = wire.token_of(request, "if-match"), canonical(wire.fields_of(request))
            self._world.expect(said == (token, canonical(write.fields)), f"{write} is sent as {said}")
            if self._world.strikes("request_refused"):
                raise wire.NotSentError("connection refused")
            return await self._carried(lambda: wire.reply(self._evaluated(write, apply)), given_up=late)

        self._wire.exchanges["PATCH", write.key] = exchange
        what = f"write {write.number} {write.key} {sorted(write.fields)}"
        looked = self._looked()
        answer: WriteAnswer = await self._life.effect(
            what, lambda: self._adapter.write(snapshot, fields, token=token, journal=journal)
        )
        self._landed(looked)
        self._world.note(f"{what} -> {type(answer).__name__}")
        self._witness.answered(write, answer)
        return answer

    async def _carried(self, evaluate: Callable[[], httpx.Response], *, given_up: bool = False) -> httpx.Response:
        try:
            response: httpx.Response = await self._exchange(evaluate, given_up=given_up)
        except _Lost as error:
            raise wire.LostError(str(error)) from None
        return response
