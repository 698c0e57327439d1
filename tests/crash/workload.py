"""What everyone else does meanwhile: producers append, operators decide conflicts, Windchill has its bad moments."""

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaProducer

from reconciler.model import instant
from reconciler.simulator import seeds
from tests.adapters.simulated import Simulated
from tests.crash import plan

_TYPE = [("content-type", b"application/cloudevents+json")]
_SOURCES = ("//erp/prod", "//plm/flow", "//mes/line-3")
_VALUES: dict[str, tuple[Any, ...]] = {
    "status": seeds.STATES,
    "owner": seeds.PEOPLE,
    plan.TITLE: ("Bracket", "Cover", "Housing", "Shaft"),
    plan.COST: ("4711", "4712", "4713", None),
    plan.NOTE: ("", "see ECN", "checked", None),
}
_DAY_US = 86_400_000_000
_TURN_S = 0.2
_POISON = ("not json", "typo", "type", "time", "foreign")


class Producers:
    """Appends events at a bounded rate, now and then one that no one can use."""

    def __init__(self, seed: int, keys: tuple[str, ...], topic: str, now_us: Callable[[], int]) -> None:
        self._rng = random.Random(f"{seed}/events")
        self._keys = keys
        self._topic = topic
        self._now_us = now_us
        self._count = 0
        self._sent: list[tuple[bytes, bytes]] = []
        self.ids: set[str] = set()  # of the events that the broker has acknowledged
        self.poison: set[bytes] = set()
        self.foreign: set[bytes] = set()
        self.copies = 0  # of events that stand in the log already

    async def run(self, producer: AIOKafkaProducer, per_second: float, over: asyncio.Event) -> None:
        """Append until it is over."""
        owed = 0.0
        while not over.is_set():
            owed += per_second * _TURN_S * self._rng.uniform(0, 2)
            for _ in range(int(owed)):
                await self.one(producer)
            owed -= int(owed)
            await asyncio.sleep(_TURN_S)

    async def one(self, producer: AIOKafkaProducer) -> None:
        rng = self._rng
        key, chance = rng.choice(self._keys), rng.random()
        if chance < 0.02:
            value = self._poison(key)
            await producer.send_and_wait(self._topic, value, key=key.encode(), headers=_TYPE)
        elif chance < 0.022:
            await producer.send_and_wait(self._topic, None, key=key.encode())
        elif chance < 0.05 and self._sent:
            again, value = rng.choice(self._sent if rng.random() < 0.5 else self._sent[-20:])
            self.copies += 1
            await producer.send_and_wait(self._topic, value, key=again, headers=_TYPE)
        else:
            event = self._event(key, "released" if chance > 0.995 else "changed")
            value = json.dumps(event).encode()
            await producer.send_and_wait(self._topic, value, key=key.encode(), headers=_TYPE)
            self.ids.add(event["id"])
            self._sent.append((key.encode(), value))

    async def first(self, producer: AIOKafkaProducer) -> None:
        """Let every document be known, with all its fields, before anyone edits it."""
        for key in self._keys:
            event = self._event(key, "changed")
            wanted = {name: self._rng.choice(values) for name, values in _VALUES.items()}
            event["data"] = {"set": wanted, "add": {plan.KEYWORDS: ["casting"]}}
            value = json.dumps(event).encode()
            await producer.send_and_wait(self._topic, value, key=key.encode(), headers=_TYPE)
            self.ids.add(event["id"])
            self._sent.append((key.encode(), value))

    async def everything_again(self, producer: AIOKafkaProducer) -> None:
        """Append each event once more, as a mirrored topic or a restored archive does."""
        for key, value in self._sent:
            await producer.send(self._topic, value, key=key, headers=_TYPE)
            self.copies += 1
        await producer.flush()

    def _event(self, key: str, kind: str) -> dict[str, Any]:
        rng = self._rng
        self._count += 1
        at_us = self._now_us() - rng.choice((0, 0, 0, 0, 2_000_000, 30_000_000))
        if rng.random() < 0.2:
            at_us -= at_us % 1_000_000  # a coarse clock
        event = {
            "specversion": "1.0",
            "id": f"e{self._count}",
            "source": rng.choice(_SOURCES),
            "type": f"windchill.document.{kind}.v1",
            "subject": key,
            "time": instant.from_us(at_us),
            "data": self._wishes() if kind == "changed" else {},
        }
        return event | ({"sequence": f"{rng.randrange(100):03d}"} if rng.random() < 0.2 else {})

    def _wishes(self) -> dict[str, Any]:
        rng = self._rng
        data: dict[str, Any] = {}
        for name in rng.sample(plan.FIELDS, rng.choice((1, 1, 2, 3))):
            if rng.random() < 0.02:
                data.setdefault("release", []).append(name)
            elif name != plan.KEYWORDS:
                data.setdefault("set", {})[name] = rng.choice(_VALUES[name])
                if rng.random() < 0.1:
                    data.setdefault("expect", {})[name] = rng.choice(_VALUES[name])
            elif rng.random() < 0.8:
                words = rng.sample(seeds.KEYWORDS, rng.choice((1, 1, 2)))
                data.setdefault(rng.choice(("add", "remove")), {})[name] = words
            else:
                data.setdefault("set", {})[name] = rng.sample(seeds.KEYWORDS, rng.randrange(3))
        return data

    def _poison(self, key: str) -> bytes:
        event = self._event(key, "changed")
        kind = self._rng.choice(_POISON)
        match kind:
            case "typo":
                event["data"]["sett"] = {"status": "RELEASED"}
            case "type":
                event["type"] = "windchill.document.chnaged.v1"
            case "time":
                event["time"] = instant.from_us(self._now_us() + _DAY_US)
            case "foreign":
                event["type"] = "com.example.order.placed"
        value = json.dumps(event).encode()
        value = value[:-1] if kind == "not json" else value
        (self.foreign if kind == "foreign" else self.poison).add(value)
        return value


async def make_weather(simulated: Simulated, seed: int, keys: tuple[str, ...], over: asyncio.Event) -> None:
    """Let one spell follow the other until it is over."""
    for spell in plan.weather(seed, keys):
        await asyncio.to_thread(_change, simulated, spell)
        await _pause(over, spell.for_s)
        await asyncio.to_thread(_clear, simulated, spell)
        if over.is_set():
            return


def _change(simulated: Simulated, spell: plan.Weather) -> None:
    simulated.faults(**spell.faults)
    simulated.behave(**spell.behaviour)
    simulated.rivals(per_second=spell.rivals_per_second)
    for key in spell.locked:
        simulated.lock("jdoe", key)
    for key in spell.absent:
        simulated.condition(403, key)


def _clear(simulated: Simulated, spell: plan.Weather) -> None:
    for key in spell.locked:
        simulated.unlock(key)
    for key in spell.absent:
        simulated.condition(None, key)


async def operate(
    seed: int, command: Callable[..., Awaitable[str]], resolved: list[str], every_s: float, over: asyncio.Event
) -> None:
    """Decide open conflicts as a user would, until it is over: list them, take some, resolve them."""
    rng = random.Random(f"{seed}/operator")
    while not over.is_set():
        await _pause(over, every_s * rng.uniform(0.5, 1.5))
        listed = await command("conflicts", "list", "-o", "json")
        conflicts = json.loads(listed) if listed else []
        for one in rng.sample(conflicts, min(len(conflicts), 3)):
            choice = rng.choice(
                (("--take", "desired"), ("--take", "live"), ("--take", "live"), ("--value", '"checked"'))
            )
            if one["field"] == plan.KEYWORDS and choice[0] == "--value":
                choice = "--take", "live"
            if await command("conflicts", "resolve", one["id"], *choice, "-o", "json"):
                resolved.append(one["id"])


async def _pause(over: asyncio.Event, for_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), for_s)
