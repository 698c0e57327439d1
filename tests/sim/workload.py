"""
What everyone else does: producers, rivals, operators, and what goes wrong around Windchill and the log for a while.

Few documents, few fields, few values: in a small world things collide.
"""

import json
from collections.abc import Callable
from typing import Any

import attrs

from reconciler.core.events.outcomes import REPLAY_OF
from reconciler.model import instant
from reconciler.model.event import Outgoing, PlainRecord
from reconciler.model.policy import OPERATORS, Strategy
from reconciler.model.stamp import Partition, Place
from tests.fakes.memory_log import MemoryBroker
from tests.sim import operators
from tests.sim.logs import DECISIONS, LINE, OUTCOMES, TOPIC, places, read
from tests.sim.naive import Fact
from tests.sim.options import FIELDS, GROUP, KEYWORDS, OUTSIDER, RESTRICTED, SCALARS, SOURCES, WORDS
from tests.sim.server import Server
from tests.sim.stores import Durable
from tests.sim.witness import Witness
from tests.sim.world import World

_TYPE = (("content-type", b"application/cloudevents+json"),)
_DAY_US = 86_400_000_000
_YEAR_US = 365 * _DAY_US
_USUAL = {"event": 6.0, "rival": 2.0}
_MISHAPS = ["poison", "duplicate", "late_duplicate", "appended_twice", "same_second", "tug", "mirrored", "renamed"]
_MISHAPS += ["replaced", "group_claim", "gap", "letter_replayed", "document_retried", "second_owner", "resolution"]
_MISHAPS += ["broker_away", "disk_full", "retention", "truncation", "throttled", "unauthorised", "locked"]
_MISHAPS += ["not_available", "clock_jump", "sigterm", "sigkill"]
_OF_SEVERAL = ["stopped", "rebalanced", "failover"]


class Workload:
    """Acts out the steps of one world."""

    def __init__(self, world: World, broker: MemoryBroker, server: Server, durable: Durable, witness: Witness) -> None:
        self._durable = durable
        self._folding = witness.folding
        self._witness = witness
        self._world = world
        self._broker = broker
        self._server = server
        self._rng = world.rng("workload")
        self._ids = 0
        self._ends_s = 0.0  # when the faults stop
        self._main = TOPIC  # the first topic's name of now
        self._renames = False  # it will be another one soon
        self._replaces = False
        self.facts = witness.facts
        self.replayed: dict[Place, Place] = {}  # records that stand for a dead letter → that letter
        self.poison: dict[Place, bytes | None] = {}  # what must become a dead letter
        self._sent: list[tuple[Outgoing, Fact]] = []
        self.operate: Callable[[str, str], None] = _no_one
        self.divide: Callable[[], None] = lambda: None  # let the group divide the log anew
        self.fail_over: Callable[[float], None] = lambda _: None  # let the store, so long after a standby has stalled
        self.reconfigure: Callable[[], None] = lambda: None  # let the configuration say another policy

    def plan(self) -> float:
        """Put all steps on the time line; return when the last one is done."""
        options = self._world.options
        weights = _USUAL | {name: 2 * options.rates[name] for name in (*_MISHAPS, *operators.STEPS, *_OF_SEVERAL)}
        if options.theme == "doubts":
            weights["rival"] *= 3
        at_s = 0.1
        for key in options.keys if options.crowded else ():
            self._world.later(at_s, self._event, key)
        for _ in range(options.steps):
            (kind,) = self._rng.choices([*weights], [*weights.values()])
            self._world.later(at_s, self._step, kind)
            at_s += self._rng.expovariate(1 / options.step_s)
        self._ends_s = at_s
        return at_s

    def _step(self, kind: str) -> None:
        world, rng = self._world, self._rng
        key = rng.choice(world.options.keys)
        if kind not in _USUAL:
            world.faults[kind] += 1
        world.note(f"step {kind}")
        span_s = rng.uniform(1, 40)
        match kind:
            case "event":
                self._event(key)
            case "rival":
                self._server.rival(key)
            case "poison":
                self._poison(key)
            case "duplicate" if self._sent:
                record, fact = rng.choice(self._sent[-5:])
                self._put(record, fact)
            case "late_duplicate" if self._sent:  # a retry, a POST sent twice, a letter replayed that was none
                self._comes_again(span_s)
            case "appended_twice":  # the whole log, to itself
                for record, fact in list(self._sent):
                    self._put(record, fact)
            case "tug":  # another program wants something else, and sees to it
                policy = None if world.life is None else world.life.policy
                rules = {} if policy is None else {one: policy.rule(one, self._server.type_of(key)) for one in SCALARS}
                ours = [one for one, rule in rules.items() if rule.strategy is Strategy.EXTERNAL]
                name = rng.choice(ours or SCALARS)
                self._server.tugs[key, name] = rng.choice(world.options.values), self._ends_s + 100
            case "mirrored" if self._sent:
                some = rng.choice((self._sent[-3:], self._sent[rng.randrange(len(self._sent)) :]))
                for record, fact in some:
                    self._mirror(record._replace(topic=world.options.mirror), fact)
            case "renamed" if not self._renames and self._main != world.options.renamed[-1]:
                self._renames = True
                span_s = min(span_s, self._ends_s - world.loop.time())
                self._edited_before(span_s)
                world.later(span_s, self._rename)
            case "replaced" if world.life is not None:  # the topic is deleted and made again, while no one reads it
                self._replaces = True
                world.life.die("its topic is made again")
            case "group_claim":
                self._append(self._envelope(key, SOURCES[0], "changed", {"set": {GROUP: None}}))
            case "same_second":  # an event and an edit of one field, and no one can tell which came first
                name = rng.choice(FIELDS)
                if name == KEYWORDS or rng.random() < 0.3 or world.options.theme == "torn":
                    self._tear(key)
                else:
                    world.later(rng.uniform(0, 1), self._server.rival, key, name)
                    world.later(rng.uniform(0, 1), self._about, key, name)
            case "gap":  # offsets without a record, as transactions and compaction leave them
                self._broker.put_gap(rng.choice(places(self._broker)))
            case "letter_replayed" if self.poison:
                self._replay_letter()
            case "document_retried":
                self._look(key)
            case "second_owner":
                world.expect(self._durable.is_guarded(), "two processes own the store")
            case "resolution":
                self._resolve()
            case "broker_away":
                self._broker.down = True
                world.later(span_s, self._broker_back)
            case "retention":
                self._truncate(rng.choice(places(self._broker)), folded=True)
            case "truncation":  # the daemon was away for longer than the log keeps its records
                if world.life is not None:
                    world.life.die("it stays away")
                for _ in range(rng.randrange(1, 5)):
                    self._event(rng.choice(world.options.keys))
                self._truncate(rng.choice(places(self._broker)), folded=False)
            case "disk_full":
                self._durable.disk.full_until_s = world.loop.time() + span_s
            case "throttled" | "unauthorised":
                self._server.windows[kind] = world.loop.time() + span_s
            case "locked" | "not_available":
                self._server.windows[f"{kind} {key}"] = world.loop.time() + span_s
            case "clock_jump":
                # A clock that is behind refuses what is new, unless the broker's shows that it is: then folding waits.
                for one in world.options.keys:
                    self._witness.bystander.asks(one)
                world.jump_us = rng.choice((-_DAY_US if world.options.broker_stamps else 0, 0, _DAY_US))
            case "stopped" if (struck := world.life) is not None:
                struck.stop_for(span_s)
            case "rebalanced":
                self.divide()
            case "failover":
                self.fail_over(world.rng("failover").choice((0.05, 0.3, 1.0)) * span_s)
            case _ if kind in operators.STEPS:
                if kind == "reloaded":
                    self.reconfigure()
                self.operate(kind, key)
            case "sigterm" if (struck := world.life) is not None:
                struck.stop.set()
            case "sigkill" if (struck := world.life) is not None:
                struck.die("SIGKILL")

    def _truncate(self, place: Partition, *, folded: bool) -> None:
        """The log loses its oldest records: only those that are folded, or others too."""
        own, stored = self._broker.at(place), self._folding.stored(place)
        first, last = (own.begin, stored) if folded else (stored + 1, own.end)
        if first <= last:
            begin = self._rng.randint(first, last)
            self._broker.forget_before(place, begin)
            if begin > stored:
                self._folding.lost[place] = begin
            self._world.note(f"{place} begins at {begin} now; {stored} is stored")

    def forget(self, place: Partition, first: int, after: int) -> None:
        """Someone has decided to go on without these records, which the log has lost."""
        self._folding.lost.pop(place, None)
        for offset in range(first, after):
            self.facts.pop(Place(*place, offset), None)
            self.poison.pop(Place(*place, offset), None)
            self.replayed.pop(Place(*place, offset), None)

    def _broker_back(self) -> None:
        self._broker.down = False
        self._broker.appended.set()

    # --------------------------------------------------------------------------------------------------------- events

    def _event_about(self, key: str) -> dict[str, Any]:
        """An event on one field that anyone may set."""
        data: dict[str, Any] = {}
        self._wish(key, self._rng.choice([name for name in FIELDS if name != RESTRICTED]), data)
        return self._envelope(key, SOURCES[0], "changed", data)

    def _event(self, key: str) -> None:
        rng = self._rng
        source = rng.choice(SOURCES)
        data: dict[str, Any] = {}
        restricted = self._world.options.restricted
        if rng.random() < 0.03:
            event = self._envelope(key, source, "released", {})
            return self._refused(event) if restricted and source == OUTSIDER else self._append(event)
        if rng.random() < 0.02:
            return self._tombstone(key)
        for name in rng.sample(FIELDS, rng.choice((1, 1, 1, 2, 3))):
            if restricted and name == RESTRICTED and source == OUTSIDER:
                continue
            self._wish(key, name, data)
        if data:
            self._append(self._envelope(key, source, "changed", data))
        return None

    def _comes_again(self, span_s: float) -> None:
        """A person edits what an event asked for, and that is seen; then the event's record comes once more."""
        rng = self._rng
        _, some = again = rng.choice(self._sent)
        name = rng.choice(sorted(some.names & {*FIELDS}) or FIELDS)  # no one edits a whole group
        if rng.random() < 0.8:
            about = [one for one in self._sent if one[1].key == some.key and name in one[1].names]
            again = max(about, key=lambda one: one[1].order, default=again)
        span_s = min(span_s, self._ends_s - self._world.loop.time())
        if rng.random() < 0.8:
            self._server.rival(again[1].key, name)
            self._world.later(rng.uniform(0, span_s), self._look, again[1].key)
        self._world.later(span_s, self._put, *again)

    def _edited_before(self, span_s: float) -> None:
        """People edit what events asked for, and that is seen: it must outlast what comes after `span_s`."""
        asked = sorted({(fact.key, name) for _, fact in self._sent for name in fact.names & {*FIELDS}})
        for key in sorted({key for key, _ in asked}):
            self._world.later(span_s / 2, self._look, key)
        for key, name in asked:
            if self._rng.random() < 0.5:
                self._world.later(span_s / 4, self._server.rival, key, name)

    def asks(self, key: str) -> None:
        """An operator asks for a try of a document."""
        self._witness.bystander.asks(key)

    def _look(self, key: str) -> None:
        """Someone asks for a comparison."""
        self._witness.bystander.asks(key)
        self._durable.requeue(key, self._world.now_us() + self._world.jump_us)

    def _tear(self, key: str) -> None:
        """One event about two elements, of which someone moves one in the same moment, against it."""
        torn = self._rng.choice(WORDS)
        other = self._rng.choice([word for word in WORDS if word != torn])  # and no other spelling of it
        there = self._server.current[key].fields[KEYWORDS] or []
        data: dict[str, Any] = {}
        for word, present in ((torn, torn in there), (other, other not in there)):
            data.setdefault("add" if present else "remove", {}).setdefault(KEYWORDS, []).append(word)
        self._server.rival_flips(key, torn)
        self._append(self._envelope(key, SOURCES[0], "changed", data))

    def _about(self, key: str, name: str) -> None:
        """An event about one field, perhaps by a clock that knows whole seconds only."""
        data: dict[str, Any] = {}
        self._wish(key, name, data)
        event = self._envelope(key, SOURCES[0], "changed", data)
        at_us = self._world.now_us()
        self._append(event | {"time": instant.from_us(at_us - self._rng.choice((0, at_us % 1_000_000)))})

    def _wish(self, key: str, name: str, data: dict[str, Any]) -> None:
        """Ask for something about one field."""
        rng, options = self._rng, self._world.options
        if rng.random() < 0.06:
            data.setdefault("release", []).append(name)
        elif name == KEYWORDS and rng.random() < 0.75:
            data.setdefault(rng.choice(("add", "remove")), {})[name] = rng.sample(options.words, rng.choice((1, 1, 2)))
        elif name == KEYWORDS:
            data.setdefault("set", {})[name] = rng.choice((None, rng.sample(options.words, rng.randrange(3))))
        else:
            data.setdefault("set", {})[name] = rng.choice(options.values)
            if rng.random() < 0.15:
                live = self._server.current[key].fields[name]
                data.setdefault("expect", {})[name] = live if rng.random() < 0.5 else rng.choice(options.values)

    def _envelope(self, key: str, source: str, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        rng = self._rng
        self._ids += 1
        at_us = self._world.now_us() - rng.choice((0, 0, 0, 0, 3_000_000, 90_000_000))
        if rng.random() < 0.2:
            at_us -= at_us % 1_000_000  # a coarse clock
        given = {
            "specversion": "1.0",
            "id": f"e{self._ids}",
            "source": source,
            "type": f"windchill.document.{kind}.v1",
            "subject": key,
            "time": instant.from_us(at_us),
            "data": data,
        }
        return given | ({"sequence": f"{rng.randrange(100):03d}"} if rng.random() < 0.3 else {})

    def _append(self, event: dict[str, Any], partition: int | None = None) -> None:
        fact, said = _fact(event), event | {"data": self._nested(event["data"])}
        record = Outgoing(self._topic(event["source"]), event["subject"].encode(), json.dumps(said).encode(), _TYPE)
        self._sent.append((record, fact))
        self._put(record, fact, partition=partition)

    def _nested(self, data: dict[str, Any]) -> dict[str, Any]:
        """Say the same with objects in place of dotted names, for some fields or all of them."""
        if self._rng.random() < 0.8:
            return data
        inner = {name for name in data.get("set", {}) if name.startswith(f"{GROUP}.") and self._rng.random() < 0.8}
        for member in ("set", "expect") if inner else ():
            given = data.get(member, {})
            group = {name.removeprefix(f"{GROUP}."): given[name] for name in given if name in inner}
            outer = {name: value for name, value in given.items() if name not in inner}
            data = data | ({member: outer | {GROUP: group}} if group else {})
        return data

    def _topic(self, source: str) -> str:
        """The topic in which a source speaks."""
        if source == OPERATORS:
            return DECISIONS
        return LINE if self._world.options.bound and source == OUTSIDER else self._main

    def _mirror(self, record: Outgoing, fact: Fact) -> None:
        """Copy a record into a topic that is open to all; what people have decided is not taken from there."""
        if fact.rank[5] == OPERATORS:
            self.poison[self._place(record)] = record.value
        else:
            self._put(record, fact)

    def _rename(self) -> None:
        """Everything in the first topic is copied into one of another name, which is read from then on in its place."""
        names, old = (TOPIC, *self._world.options.renamed), self._main
        self._main, self._renames = names[names.index(old) + 1], False
        first, *others = self._broker.read
        self._broker.read = (attrs.evolve(first, name=self._main), *others)
        for record in self._broker.records(old):
            at = Place(old, record.partition, record.offset)
            copy = Outgoing(self._main, record.key, record.value, tuple(record.headers))
            if at in self.facts:
                self._put(copy, self.facts[at], record.timestamp * 1000)
                continue
            again = self._place(copy, record.timestamp * 1000)
            self.poison.update({again: self.poison[at]} if at in self.poison else {})
            self.replayed.update({again: self.replayed[at]} if at in self.replayed else {})
        self._sent = [(r._replace(topic=self._main) if r.topic == old else r, fact) for r, fact in self._sent]
        # Often the store is new as well: someone has moved to another cluster.
        self._world.moves = bool(self._world.options.rates["store_lost"]) and self._rng.random() < 0.7
        if self._world.life is not None:
            self._world.life.die("its topic has another name now")

    def between_lives(self) -> None:
        """A process begins, and its store is known: now a topic may be another one than it was."""
        if not self._replaces:
            return
        self._replaces = False
        place = self._rng.choice(self._broker.partitions(self._main))
        own = self._broker.at(place)
        if not own.records or any(at[:2] == place for at in self.poison):
            return
        if place in self._folding.unread:  # nothing of it is known by which it could be told from another one
            return
        before = {record.offset: record for record in own.records}
        facts = {at.offset: self.facts.pop(at) for at in [at for at in self.facts if at[:2] == place]}
        self._folding.replaced(place, facts)
        gaps = own.end - len(own.records)
        own.records, own.begin, own.end = [], 0, 0
        # Every record must stand at a later offset than before, also where gaps have closed: a record that comes back
        # to its offset, unchanged, is what a log is known by.
        for _ in range(gaps + 1 + self._rng.randrange(3)):
            self._append(self._event_about(self._rng.choice(self._world.options.keys)), place.partition)
        for offset, record in before.items():
            copy = Outgoing(self._main, record.key, record.value, tuple(record.headers))
            if offset in facts:
                self._put(copy, facts[offset], record.timestamp * 1000, place.partition)
            else:
                self._broker.put(copy, place.partition, made_us=record.timestamp * 1000)
        self._world.note(f"{place} was made again, with all that it held")

    def heard(self, record: Outgoing, place: Partition, kept: PlainRecord) -> None:
        """An operator has appended a record through the program, whose clock may be wrong by a day."""
        event = json.loads(record.value or b"")
        at = Place(*place, kept.offset)
        if instant.to_us(event["time"]) > (kept.timestamp + 300_000) * 1000:
            self.poison[at] = record.value
        else:
            self._know(_fact(event), at)
        self._world.note(f"record {shown(at)}: by an operator")

    def _put(self, record: Outgoing, fact: Fact, made_us: int | None = None, partition: int | None = None) -> None:
        """Append a record; what it says is ranked by its place too."""
        at = self._place(record, made_us, partition)
        time, sequence, _, _, _, source, name = fact.rank
        if record.value is None:
            at_us = self._broker.at(Partition(at.topic, at.partition)).records[-1].timestamp * 1000
            time, source, name = instant.from_us(at_us), f"//kafka/{at.topic}", f"{at.partition}/{at.offset}"
        self._know(attrs.evolve(fact, rank=(time, sequence, "", 0, 0, source, name)), at)
        self._world.note(f"record {shown(at)}: {(record.value or b'tombstone').decode()}")

    def _know(self, fact: Fact, at: Place) -> None:
        time, sequence, _, _, _, source, name = fact.rank
        self.facts[at] = placed = attrs.evolve(fact, rank=(time, sequence, *at, source, name))
        self._witness.bystander.publishes(placed)

    def _place(self, record: Outgoing, made_us: int | None = None, partition: int | None = None) -> Place:
        place = self._broker.put(record, partition, made_us=made_us)
        return Place(*place, self._broker.at(place).records[-1].offset)

    def _refused(self, event: dict[str, Any]) -> None:
        """An event whose source may not say that."""
        value = json.dumps(event).encode()
        place = self._place(Outgoing(self._topic(event["source"]), event["subject"].encode(), value, _TYPE))
        self.poison[place] = value
        self._world.note(f"record {shown(place)}: poison, {event['source']}")

    def _tombstone(self, key: str) -> None:
        record = Outgoing(self._main, key.encode(), None)
        if self._world.options.restricted:  # a rule keeps it from a field, so it releases no document
            self.poison[self._place(record)] = None
            return
        self._put(record, Fact(key, ("", "", "", 0, 0, "", ""), released=True))

    def _poison(self, key: str) -> None:
        rng = self._rng
        event = self._envelope(key, SOURCES[0], "changed", {"set": {"status": "a"}})
        kinds = ["not json", "typo", "type", "time", "foreign", "operator", "outside", "empty"]
        kinds += ["elsewhere"] * self._world.options.bound
        kind, made_us = rng.choice(kinds + ["source"] * self._world.options.restricted), None
        topic = DECISIONS if kind == "outside" else self._main  # someone without a say speaks where people decide
        match kind:
            case "empty":
                event["data"]["set"] = {GROUP: {}}
            case "elsewhere":  # in a topic that is bound to others
                event["source"] = OUTSIDER
            case "operator":  # a producer speaks as a person would
                event["source"] = OPERATORS
            case "typo":
                event["data"]["sett"] = event["data"].pop("set")
            case "type":
                event["type"] = "windchill.document.chnaged.v1"
            case "time":
                made_us = self._world.now_us() + _YEAR_US  # the producer's clock, which stamps the record too
                event["time"] = instant.from_us(made_us)
            case "source":
                event["source"], event["data"] = OUTSIDER, {"set": {RESTRICTED: "a", "status": "b"}}
            case "foreign":
                event["type"] = "com.example.order.placed"
        value = b"{" if kind == "not json" else json.dumps(event).encode()
        place = self._place(Outgoing(topic, key.encode(), value, _TYPE), made_us)
        self._world.note(f"record {shown(place)}: poison, {kind}")
        if kind != "foreign":
            self.poison[place] = value

    # ------------------------------------------------------------------------------------------------------ operators

    def _replay_letter(self) -> None:
        """As `dead-letters replay` does with a letter that is kept; these stay as unusable as they were."""
        place = self._rng.choice(sorted(self.poison))
        value = self.poison[place]
        if self._folding.stored(Partition(place.topic, place.partition)) <= place.offset:
            return
        letter = f"{place.topic}/{place.partition}/{place.offset}"
        headers = (*_TYPE, (REPLAY_OF, letter.encode()))
        if place.topic not in read(self._broker):
            return
        again = self._place(Outgoing(place.topic, self._rng.choice(self._world.options.keys).encode(), value, headers))
        self.poison[again] = value
        self.replayed[again] = place
        self._world.note(f"record {shown(again)}: dead letter {letter} again")

    def _resolve(self) -> None:
        """An operator settles an open conflict, as the outcomes show it."""
        conflicts: dict[str, dict[str, Any]] = {}
        for record in self._broker.records(OUTCOMES):
            _follow(record, conflicts)
        fields = sorted(SCALARS)
        known = [one for _, one in sorted(conflicts.items()) if one["field"] in fields]
        if known:
            one = self._rng.choice(known)
            value = self._rng.choice((one["desired"], one["live"], self._rng.choice(self._world.options.values)))
            data = {"set": {one["field"]: value}, "expect": {one["field"]: one["live"]}}
            self._append(self._envelope(one["key"], OPERATORS, "changed", data) | {"actor": "operator"})


def _no_one(kind: str, key: str) -> None:
    """No one is there to act."""


def _fact(event: dict[str, Any]) -> Fact:
    """What an event says; of where it will stand, only the topic is known yet."""
    data = event["data"]
    return Fact(
        event["subject"],
        (event["time"], event.get("sequence", ""), "", 0, 0, event["source"], event["id"]),
        data.get("set", {}),
        data.get("add", {}),
        data.get("remove", {}),
        tuple(data.get("release", ())),
        data.get("expect", {}),
        released="released" in event["type"],
    )


def shown(place: Place) -> str:
    """Return a place as notes name it."""
    lead = "" if place.topic == TOPIC else f"{place.topic} "
    return f"{lead}{place.partition}/{place.offset}"


def _follow(record: PlainRecord, conflicts: dict[str, dict[str, Any]]) -> None:
    outcome = json.loads(record.value or b"{}")
    data = outcome["data"]
    if outcome["type"] == "windchill.conflict.opened.v1":
        conflicts[data["conflict"]] = data | {"key": outcome["subject"]}
    elif outcome["type"] == "windchill.conflict.closed.v1":
        conflicts.pop(data["conflict"], None)
