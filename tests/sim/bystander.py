"""
The bystander: judges our writes by the server's history and by what was published, and by nothing else.

It knows no stamp, no offset, no row and no reason of the program. It counts an event once, whenever and wherever it was
published again: two records with one time, sequence, source and id are one event.

**The rule.** Where people's edits stand, every change that a write of ours makes to a field, or to an element of a set,
needs an event of its own: one that asks for just this, was published before, is not older than what we wrote before,
and was not carried by an earlier write that the program knows of. So whoever edits after an event was carried out keeps
the edit until someone says something new. What the server itself has made of a write of ours is no one's edit.

**Tugs of war.** Nothing is written a fourth time at once that was written three times and changed each time, whatever
the rule, unless an operator has asked for it, the wall clock was put on, or another value was asked for, or agreed on,
meanwhile. Under `merge`, for one, a person's edit may be what both sides agree on until a new event asks again.

The program *knows* of a write when the answer has reached it, or a read has shown it, and the end of that attempt was
acknowledged by the store. What it can't know counts for nothing here: a reply that was lost, a store that was lost with
what no one had been told, a base that was dropped while a policy ignored the field.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import attrs

from reconciler.model.policy import OPERATORS, Normaliser, Policy, Rule
from reconciler.model.value import canonical
from tests.sim import comparing, oracle
from tests.sim.naive import Fact, Identity
from tests.sim.options import KEYWORDS
from tests.sim.server import Part, Server, Version, Write, changed_parts, elements
from tests.sim.world import World

TRIES = 3  # writes of one value, each of which did not last
# By strategy: whether a person's edit stands until someone says something new: README.md, "Policy: who wins".
STANDS = {"external": False, "preserve": True, "merge": True, "newest": True, "hold": True, "fill": True}


@attrs.frozen
class _Said:
    """One event, however often it was published."""

    fact: Fact
    at_us: int  # when it was first published


@attrs.define(eq=False)
class _Carry:
    """What one write of ours made of one part of a document."""

    part: Part
    write: int
    version: int
    at_us: int
    wanted: Any  # the value that was sent; for an element, whether it is there
    steps: tuple[Normaliser, ...]
    stands: bool
    shown: set[int] = attrs.field(factory=set)  # lives that have heard of it, in the attempt that is under way

    def repeats(self, earlier: _Carry) -> bool:
        """Whether it is the same value as an earlier one, perhaps in another spelling."""
        return self.steps == earlier.steps and comparing.alike(self.wanted, earlier.wanted, self.steps)


class Bystander:
    """Watches one world."""

    def __init__(self, world: World, server: Server) -> None:
        self._world = world
        self._server = server
        self._said: dict[tuple[str, str], dict[Identity, _Said]] = {}  # by document and field
        self._known: dict[tuple[str, Part], list[_Carry]] = {}
        self._open: dict[str, list[_Carry]] = {}
        self._counts_since_us: dict[str, int] = {}
        self._agreed_otherwise_us: dict[tuple[str, Part], int] = {}

    # ------------------------------------------------------------------------------------------------ what it can see

    def publishes(self, fact: Fact) -> None:
        """Someone publishes an event, perhaps again."""
        said = _Said(fact, self._world.now_us())
        if fact.released or fact.release or fact.rank[5] == OPERATORS:
            self.asks(fact.key)
        for name in fact.names:
            self._said.setdefault((fact.key, name), {}).setdefault(fact.identity, said)

    def asks(self, key: str) -> None:
        """Someone asks for another try, or what was counted is forgotten for another reason."""
        self._counts_since_us[key] = self._world.now_us()

    def may_be_contested(
        self, key: str, name: str, steps: Collection[Normaliser], seeming: Iterable[tuple[Any, Any]]
    ) -> bool:
        """
        Whether some of a field was ever given one value, in whatever spelling, so often that it may wait.

        `seeming` are values before and after of writes whose answers were lost, where a read shows just what they would
        have left: a person has set the same value, and no one can tell.
        """
        accepted = [
            (before.fields[name], after.fields[name])
            for before, after, write in self._server.accepted
            if after.key == key and write is not None and name in write.fields
        ]
        given = Counter(made for before, after in (*accepted, *seeming) for made in _made(name, before, after, steps))
        return max(given.values(), default=0) >= TRIES

    def _in_a_row(self, key: str, part: Part) -> list[_Carry]:
        """The latest writes of one value that the program knows of."""
        since_us = max(self._counts_since_us.get(key, 0), self._agreed_otherwise_us.get((key, part), 0))
        known = sorted(self._known.get((key, part), ()), key=lambda one: one.version)
        found: list[_Carry] = []
        for carry in reversed([one for one in known if one.at_us > since_us]):
            if found and not found[0].repeats(carry):
                break
            found.append(carry)
        return found

    def looks(self, key: str, policy: Policy) -> None:
        """An attempt on a document begins. What a policy ignores is forgotten."""
        for carry in self._open.get(key, ()):
            carry.shown.discard(self._world.here().number)
        for part in [part for where, part in self._known if where == key]:
            if oracle.rule_of(policy, part[0], self._server.type_of(key)).strategy == "ignore":
                del self._known[key, part]
        self._open[key] = [
            carry
            for carry in self._open.get(key, ())
            if oracle.rule_of(policy, carry.part[0], self._server.type_of(key)).strategy != "ignore"
        ]

    def shows(self, key: str, version: Version) -> None:
        """A read has reached the program."""
        for carry in self._open.get(key, ()):
            touch = version.touched.get(carry.part)
            if touch is not None and touch.write == carry.write:
                carry.shown.add(self._world.here().number)

    def answers(self, write: Write) -> None:
        """The program was told that a write was applied."""
        for carry in self._open.get(write.key, ()):
            if carry.write == write.number:
                carry.shown.add(self._world.here().number)

    def remembers(self, key: str) -> None:
        """The store has acknowledged the end of an attempt."""
        carries, life = self._open.get(key, []), self._world.here().number
        for carry in carries:
            if life in carry.shown:
                self._known.setdefault((key, carry.part), []).append(carry)
        self._open[key] = [carry for carry in carries if life not in carry.shown]

    def agrees(self, key: str, part: Part, values: Iterable[Any]) -> None:
        """An attempt has ended with both sides agreed on one of these values, by the rules and by what was shown."""
        known = max(self._known.get((key, part), ()), key=lambda one: one.version, default=None)
        if known is not None and not all(comparing.alike(value, known.wanted, known.steps) for value in values):
            self._agreed_otherwise_us[key, part] = self._world.now_us()

    def loses_the_store(self, outcomes: Iterable[bytes]) -> None:
        """All is forgotten but the writes that an outcome tells of."""
        told = set()
        for outcome in map(json.loads, outcomes):
            if outcome["type"] == "windchill.document.reconciled.v1":
                told.add((outcome["subject"], outcome["data"]["token_after"]))
        for (key, _), carries in self._known.items():
            carries[:] = [carry for carry in carries if (key, self._server.token(key, carry.version)) in told]
        self._open.clear()

    # ------------------------------------------------------------------------------------------------------- judgement

    def accepts(self, write: Write, before: Version, after: Version, policy: Policy) -> None:
        """The server applies a write of ours, which was decided by `policy`."""
        for name, value in write.fields.items():
            rule = oracle.rule_of(policy, name, self._server.type_of(write.key))
            told = f"{write.key}: `{name}` {before.fields[name]!r} -> {value!r} under {rule.strategy}"
            self._world.expect(rule.strategy in STANDS, f"no one asked for {told}")
            for part in changed_parts(name, before.fields[name], value):
                wanted = value if name != KEYWORDS else part[1] in elements(value)
                carry = _Carry(
                    part, write.number, after.number, after.at_us, wanted, rule.normalise, STANDS[rule.strategy]
                )
                self._judge(write.key, carry, rule, before, told)
                if not comparing.alike(after.fields[name], value, rule.normalise):
                    continue  # the server made something else of it: it was not carried out
                self._open.setdefault(write.key, []).append(carry)

    def _judge(self, key: str, carry: _Carry, rule: Rule, before: Version, told: str) -> None:
        world, name = self._world, carry.part[0]
        if rule.strategy == "fill":
            blank = carry.wanted is True if name == KEYWORDS else comparing.blank(before.fields[name], carry.steps)
            world.expect(blank, f"filled what was not blank: {told}")
        row = self._in_a_row(key, carry.part)
        said = sorted(self._said.get((key, name), {}).values(), key=lambda one: one.fact.order)
        tugged = len(row) >= TRIES and carry.repeats(row[0])
        tugged = tugged and not any(one.at_us > row[TRIES - 1].at_us and _denies(one.fact, carry) for one in said)
        world.expect(not tugged, f"written again, though it was changed after each of {len(row)} writes: {told}")
        floor, spent = ("", ""), set[Any]()
        known = sorted(self._known.get((key, carry.part), ()), key=lambda one: one.version)
        for earlier in [*known, carry]:
            asking = [
                one
                for one in said
                if one.fact.order >= floor
                and one.at_us <= earlier.at_us
                and (not earlier.stands or one.fact.identity not in spent)
                and _asks(one.fact, earlier)
            ]
            if asking:
                floor = asking[0].fact.order
                spent.add(asking[0].fact.identity)
            elif earlier is carry:
                touch = before.touched.get(carry.part)
                if touch is not None and touch.write is not None and name == world.options.alters:
                    return
                who = f"{touch.who} in v{touch.version}" if touch else "no one since the beginning"
                ours = [f"v{one.version} = {one.wanted!r}" for one in known]
                world.expect(
                    False,
                    f"no new event asks for it: {told} (last changed by {who}; written before: {ours}; published:"
                    f" {[one.fact for one in said]})",
                )


def _made(name: str, before: Any, after: Any, steps: Collection[Normaliser]) -> set[tuple[str, Any]]:
    """What a write has made of a field: elements with whether they are there after it, or the whole value."""
    if name != KEYWORDS:
        return {("", canonical(comparing.bare(after, steps)))}
    now = oracle.texts(after, steps)
    return {(text, text in now) for text in now ^ oracle.texts(before, steps)}


def _asks(fact: Fact, carry: _Carry) -> bool:
    """Whether an event asks for what a write has made of a part."""
    (name, text), steps = carry.part, carry.steps
    if name != KEYWORDS:
        return name in fact.set and canonical(comparing.sent(fact.set[name], steps)) == canonical(carry.wanted)
    if name in fact.set:
        return _names(fact.set[name], text, steps) is carry.wanted
    return _names((fact.add if carry.wanted else fact.remove).get(name), text, steps)


def _denies(fact: Fact, carry: _Carry) -> bool:
    """Whether an event asks for something else than a write has made of a part."""
    if carry.part[0] == KEYWORDS:
        return _asks(fact, attrs.evolve(carry, wanted=not carry.wanted))
    name = carry.part[0]
    return name in fact.set and not comparing.alike(fact.set[name], carry.wanted, carry.steps)


def _names(value: Any, text: str, steps: Collection[Normaliser]) -> bool:
    return any(comparing.alike(json.loads(one), json.loads(text), steps) for one in elements(value))
