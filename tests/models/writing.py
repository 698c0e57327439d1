"""
Writing by several replicas: one document with one field, and everything that can go wrong between them and Windchill.

What is modelled: replicas that take a document, read it, decide, store an intent, send and settle; beats and eviction;
kills; replies that never come and requests that are applied long after; statements that the store runs after their
client gave them up; people who edit and decide; pauses, another policy; a failover that loses what a standby had not
got yet, and the outcomes, from which somebody recovers it. A replica that sleeps needs no step of its own: others may
do anything between two of its steps.

What is left out: clocks (an evictor needs a beat that has become old, that is all), lists, several fields, contested
values, and a new value that is read only after the next comparison: replicas compare as often as they like.

Only the checks may look at who wrote a value and how many edits people had made: `by` and `edit`.
"""

from collections.abc import Iterator
from enum import IntEnum, auto
from typing import Literal, NamedTuple

import attrs

from tests.models.explore import Model, Step

Strategy = Literal["external", "preserve", "merge", "hold"]  # `merge` holds where both sides have changed
Verb = Literal["write", "yield", "hold", "keep"]

VERBS: dict[Strategy, dict[tuple[bool, bool], Verb]] = {  # (ours, theirs) → what is done where live is not as wanted
    "external": {(True, False): "write", (False, True): "write", (True, True): "write", (False, False): "write"},
    "preserve": {(True, False): "write", (False, True): "yield", (True, True): "yield", (False, False): "keep"},
    "merge": {(True, False): "write", (False, True): "yield", (True, True): "hold", (False, False): "keep"},
    "hold": {(True, False): "write", (False, True): "hold", (True, True): "hold", (False, False): "keep"},
}

OURS_AS_THEIRS = "a write of ours is taken for a person's edit"
THEIRS_AS_OURS = "a person's edit is taken for ours, and overwritten"
UNSEEN = "a person's edit is overwritten unseen"
LESS = "it is decided on less than the outcomes tell"
OLD_POLICY = "an intent is stored under a policy that is no longer in force"


@attrs.frozen(kw_only=True)
class Rules:
    """The rules, as they are. A search with one of them False shows what it is for."""

    fenced: bool = True  # only who holds the document, under the slot's present epoch, may change its row (S2, S5)
    looks: bool = True  # nothing is sent unless the last beat is fresh (S4)
    intent_first: bool = True  # an intent is stored before its write is sent
    doubts_stand: bool = True  # an intent leaves the row only when a read shows another token than its own
    release_keeps: bool = True  # …also if nothing is managed in between
    actions_stand: bool = True  # a write that nothing guards is in doubt beyond its token, as long as it may come
    version_named: bool = True  # an intent names the version of the row that it was decided on
    policy_named: bool = True  # …and the policy
    takes_found: bool = True  # a replica takes up what the store says it holds, though it does not know of it
    recovers: bool = True  # after a failover nobody takes part before somebody has read the outcomes (S8)
    waits: bool = True  # …which is not begun while a lease of before may hold, whose holder may publish
    account_is_ours: bool = False  # after a failover: what our account wrote last is no person's edit


RULES = tuple(field.name for field in attrs.fields(Rules))


@attrs.frozen(kw_only=True)
class Scene:
    """Who and what there is in a world."""

    rules: Rules = Rules()
    strategy: Strategy = "merge"
    replicas: int = 2
    wishes: tuple[str | None, ...] = ("a", "x")  # what the log asks for, one after the other; None: nothing
    edits: tuple[str, ...] = ("p",)  # what people write, one after the other
    faults: int = 1  # kills, late statements and lost answers of the store, together
    kills: bool = True
    guarded: bool = True  # False: an action, which Windchill applies whatever the token is
    late_statements: bool = False
    lost_takes: bool = False
    pauses: bool = False
    failover: bool = False
    decides: bool = False  # whether a person decides what is held


class Live(NamedTuple):
    """The field in Windchill; every change of the document has a token of its own."""

    token: int
    value: str
    by: Literal["us", "person"] = "us"
    edit: int = 0


class Write(NamedTuple):
    """A write that is decided, sent or in doubt."""

    value: str
    wish: int
    token: int
    edit: int


class Base(NamedTuple):
    """
    What was agreed on last, for which wish; `edit` is the last of people's that was known then.

    `number` counts the outcomes that told of the document; only where there are failovers it is more than 0.
    """

    value: str
    wish: int
    edit: int
    number: int = 0


class Row(NamedTuple):
    """The document in the store. Without `seen`, it is read before anything is decided."""

    base: Base | None
    seen: Live | None
    doubts: tuple[Write, ...] = ()
    held: Live | None = None


class Plan(NamedTuple):
    """A decision: the row to store, what to write, and the promise that it breaks if it takes effect."""

    row: Row
    write: Write | None
    breaks: str | None = None


class Decision(NamedTuple):
    """What a person decides of a held field, on what they were shown."""

    shown: Live
    ours: bool


class At(IntEnum):
    """How far an attempt has come."""

    IDLE = auto()
    DEAD = auto()
    LOADED = auto()
    DECIDED = auto()  # to write
    INTENDED = auto()  # its intent is stored
    MAY_SEND = auto()
    SENT = auto()
    ANSWERED = auto()
    UNKNOWN = auto()  # no answer came
    ENDED = auto()  # there is nothing to write


class Replica(NamedTuple):
    """One replica; the members from `wish` on are of its attempt."""

    evicted: bool = False  # its slot has another epoch than it knows
    fresh: bool = True  # its last beat
    holds: bool = False  # so the store says
    at: At = At.IDLE
    policy: int = 0
    wish: int = 0
    row: Row | None = None
    plan: Plan | None = None
    reply: Live | None = None  # None if the guard refused


class Late(NamedTuple):
    """A statement that its client gave up and the server may still run; `current`: the row has not changed since."""

    replica: int
    row: Row
    current: bool


class State(NamedTuple):
    """The world at one moment."""

    live: Live
    row: Row
    replicas: tuple[Replica, ...]
    wish: int = 0
    claimed: int = 0  # the document's token when the present wish came
    waited: tuple[tuple[int, Write], ...] = ()  # requests, by the replica that waits
    given_up: tuple[Write, ...] = ()  # requests that no one waits for
    late: tuple[Late, ...] = ()
    decision: Decision | None = None
    edits: int = 0
    faults: int = 0
    paused: bool = False
    policy: int = 0
    standby: Row | None = None
    told: Base | None = None  # by the last outcome that is published
    untold: Base | None = None  # by one that is not published yet
    in_hand: Base | None = None  # by one that a replica of before a failover may yet publish
    recovered: bool = True


def model(scene: Scene) -> Model[State]:
    """Return the model of a scene."""
    first = Live(0, scene.wishes[0] or "a")
    row = Row(Base(first.value, 0, 0), first)
    begin = State(first, row, (Replica(),) * scene.replicas, standby=row if scene.failover else None, told=row.base)
    world = _World(scene)
    return Model(begin, world.steps, world.settled, _alike)


def _alike(state: State) -> State:
    """Replicas are alike: put them in one order, whichever that is."""
    waiting, late = dict(state.waited), [one.replica for one in state.late]
    marks = [hash((one, waiting.get(i), i in late)) for i, one in enumerate(state.replicas)]
    order = sorted(range(len(marks)), key=marks.__getitem__)
    if order == [*range(len(marks))]:
        return state
    at = {old: new for new, old in enumerate(order)}
    return state._replace(
        replicas=tuple(state.replicas[i] for i in order),
        waited=tuple(sorted((at[i], write) for i, write in state.waited)),
        late=tuple(one._replace(replica=at[one.replica]) for one in state.late),
    )


def _put(state: State, i: int, **changes: object) -> State:
    changed = state.replicas[i]._replace(**changes)
    return state._replace(replicas=(*state.replicas[:i], changed, *state.replicas[i + 1 :]))


def _stored(state: State, row: Row) -> State:
    return state._replace(row=row, late=tuple(one._replace(current=False) for one in state.late))


def _ended(state: State, i: int, *, holds: bool) -> State:
    return _put(state, i, holds=holds, at=At.IDLE, wish=0, row=None, plan=None, reply=None)


class _World:
    """What may happen next in a scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._rules = scene.rules

    def settled(self, state: State) -> bool:
        """Whether the last wish is there, or a person's value for good reason, and nothing is under way."""
        quiet = not state.waited and not state.given_up and not any(one.holds for one in state.replicas)
        wanted = self._scene.wishes[state.wish]
        yields = self._scene.strategy != "external" and state.live.by == "person"
        right = wanted in (None, state.live.value) or yields
        open_ = self._scene.decides and state.row.held is not None
        return quiet and right and not open_ and state.wish + 1 == len(self._scene.wishes)

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Yield all that may happen next."""
        yield from self._people(state)
        yield from self._operations(state)
        yield from self._windchill(state)
        yield from self._late_statements(state)
        for i, replica in enumerate(state.replicas):
            yield from self._slot(state, i, replica)
            yield from self._attempt(state, i, replica)

    # ---------------------------------------------------------------------------------------- people, log, operations

    def _people(self, state: State) -> Iterator[Step[State]]:
        live, scene = state.live, self._scene
        if state.edits < len(scene.edits) and live.value != (value := scene.edits[state.edits]):
            edited = Live(live.token + 1, value, "person", live.edit + 1)
            yield Step(f"a person writes {value}", state._replace(live=edited, edits=state.edits + 1), by_itself=False)
        if state.wish + 1 < len(scene.wishes):
            claimed = live.token if None in scene.wishes else 0  # only then may there be no base
            wished = state._replace(wish=state.wish + 1, claimed=claimed)
            yield Step(f"the log asks for {scene.wishes[state.wish + 1]}", wished)
        open_ = state.row.held is not None and (state.decision is None or state.decision.shown != state.row.held)
        if scene.decides and open_:
            for ours in (True, False):
                assert state.row.held is not None
                said = f"a person decides for {'our value' if ours else state.row.held.value}"
                yield Step(said, state._replace(decision=Decision(state.row.held, ours)))

    def _operations(self, state: State) -> Iterator[Step[State]]:
        if self._scene.pauses:
            yield Step("pause or resume", state._replace(paused=not state.paused))
            if not state.policy:
                yield Step("another policy", state._replace(policy=1))
        if self._scene.failover:
            yield from self._failover(state)

    def _failover(self, state: State) -> Iterator[Step[State]]:
        """The store loses what the standby has not got, and somebody recovers what the outcomes tell of that."""
        if state.standby is not None:
            if state.standby != state.row:
                yield Step("the standby catches up", state._replace(standby=state.row))
            evicted = tuple(one._replace(evicted=True, holds=False) for one in state.replicas)
            back = state._replace(row=state.standby._replace(seen=None), standby=None, late=(), replicas=evicted)
            back = back._replace(in_hand=state.untold, untold=None, recovered=not self._rules.recovers)
            yield Step("failover to the standby", back, by_itself=False)
        if state.untold is not None:
            yield Step("the outcome is published", state._replace(told=state.untold, untold=None))
        leased = any(one.evicted and one.fresh for one in state.replicas)
        if state.in_hand is not None:
            yield Step("an outcome is never published", state._replace(in_hand=None))
            if leased:
                late = state._replace(told=max(state.told, state.in_hand, key=_number), in_hand=None)
                yield Step("an outcome of before is published", late, by_itself=False)
        if not state.recovered and not (leased and self._rules.waits):
            base = max(state.row.base, state.told, key=_number)
            yield Step("the outcomes are read", state._replace(row=state.row._replace(base=base), recovered=True))

    # ------------------------------------------------------------------------------------------------------- Windchill

    def _windchill(self, state: State) -> Iterator[Step[State]]:
        """Requests are applied, refused or lost, whoever still waits for them."""
        for write in set(state.given_up):
            left = list(state.given_up)
            left.remove(write)
            gone = state._replace(given_up=tuple(left))
            yield Step("a request is lost", gone)
            yield from self._evaluated(gone, write, None)
        for i, write in state.waited:
            gone = state._replace(waited=tuple(one for one in state.waited if one[0] != i))
            yield from self._evaluated(gone, write, i)
            if not state.given_up:  # else there would be no end of them
                yield Step(f"{i} gives up waiting", _put(gone, i, at=At.UNKNOWN)._replace(given_up=(write,)))

    def _evaluated(self, state: State, write: Write, i: int | None) -> Iterator[Step[State]]:
        live = state.live
        if self._scene.guarded and write.token != live.token:
            refused = state if i is None else _put(state, i, at=At.ANSWERED, reply=None)
            yield Step("Windchill refuses an old token", refused)
            return
        if write.edit != live.edit:
            yield Step(f"Windchill applies {write.value}", UNSEEN)
        after = Live(live.token + 1, write.value, "us", live.edit)
        state = state._replace(live=after)
        yield Step(
            f"Windchill applies {write.value}", state if i is None else _put(state, i, at=At.ANSWERED, reply=after)
        )

    def _late_statements(self, state: State) -> Iterator[Step[State]]:
        for one in state.late:
            gone = state._replace(late=())
            yield Step("an old statement is lost", gone)
            lawful = state.replicas[one.replica].holds and not state.paused
            if lawful and (one.current or not self._rules.version_named):
                yield Step(f"an old statement of {one.replica} runs", _stored(gone, one.row))

    # ----------------------------------------------------------------------------------------------- replicas and slots

    def _slot(self, state: State, i: int, replica: Replica) -> Iterator[Step[State]]:
        dead = replica.at is At.DEAD
        if replica.fresh:
            ends = replica.evicted  # its beats are refused
            yield Step(f"{i} has not beaten for a while", _put(state, i, fresh=False), by_itself=ends)
        elif not replica.evicted:
            if not dead:
                yield Step(f"{i} beats", _put(state, i, fresh=True))
            late = tuple(one for one in state.late if one.replica != i)
            yield Step(f"{i} is evicted", _put(state, i, evicted=True, holds=False)._replace(late=late))
        if replica.evicted and replica.at in (At.IDLE, At.DEAD):
            anew = _put(state, i, **Replica(policy=state.policy)._asdict())
            yield Step(f"{i} enters anew", anew)
        if self._scene.kills and state.faults < self._scene.faults and replica.at not in (At.IDLE, At.DEAD):
            waited = tuple(one for one in state.waited if one[0] != i)
            freed = tuple(write for at, write in state.waited if at == i)
            if not (freed and state.given_up):
                killed = _ended(state, i, holds=replica.holds)
                killed = _put(killed, i, at=At.DEAD, fresh=False)
                killed = killed._replace(waited=waited, given_up=state.given_up + freed, faults=state.faults + 1)
                yield Step(f"{i} is killed", killed, by_itself=False)

    # ---------------------------------------------------------------------------------------------------- one attempt

    def _attempt(self, state: State, i: int, replica: Replica) -> Iterator[Step[State]]:
        match replica.at:
            case At.IDLE if not replica.evicted:
                yield from self._takes(state, i, replica)
            case At.LOADED:
                yield from self._decides(state, i, replica)
            case At.DECIDED:
                yield from self._intends(state, i, replica)
            case At.INTENDED if replica.fresh or not self._rules.looks:
                yield Step(f"{i} looks at its beat, and may send", _put(state, i, at=At.MAY_SEND))
            case At.INTENDED:
                yield Step(f"{i} looks at its beat, and may not send", self._withdrawn(state, i, replica))
            case At.MAY_SEND:
                assert replica.plan is not None
                assert replica.plan.write is not None
                waited = tuple(sorted((*state.waited, (i, replica.plan.write))))
                yield Step(f"{i} sends", _put(state, i, at=At.SENT)._replace(waited=waited))
            case At.ENDED | At.ANSWERED | At.UNKNOWN:
                yield from self._settles(state, i, replica)

    def _takes(self, state: State, i: int, replica: Replica) -> Iterator[Step[State]]:
        free = state.recovered and not any(one.holds for one in state.replicas)
        if free or (replica.holds and self._rules.takes_found):
            policy = state.policy if self._rules.policy_named else replica.policy
            taken = _put(state, i, holds=True, at=At.LOADED, row=state.row, wish=state.wish, policy=policy)
            yield Step(f"{i} takes the document", taken)
        if free and self._scene.lost_takes and state.faults < self._scene.faults:
            lost = _put(state, i, holds=True)._replace(faults=state.faults + 1)
            yield Step(f"{i} takes the document, and the answer is lost", lost, by_itself=False)

    def _decides(self, state: State, i: int, replica: Replica) -> Iterator[Step[State]]:
        row = replica.row
        assert row is not None
        if not replica.evicted and _number(row.base) < _number(state.told):
            yield Step(f"{i} decides", LESS)
        if self._scene.wishes[replica.wish] is None:
            doubts = row.doubts if self._rules.release_keeps else ()
            plan = Plan(Row(None, None, doubts), None)
            yield Step(f"{i} finds nothing managed", _put(state, i, at=At.ENDED, plan=plan))
            return
        plan = self._plan(state, replica, state.live)
        said = "has nothing to write" if plan.write is None else f"decides to write {plan.write.value}"
        at = At.ENDED if plan.write is None else At.DECIDED
        yield Step(f"{i} reads {state.live.value}, {said}", _put(state, i, at=at, plan=plan))
        if row.seen is not None and not row.doubts:  # what was read earlier may do, for a write
            plan = self._plan(state, replica, row.seen)
            if plan.write is not None:
                yield Step(f"{i} {said} on what it read before", _put(state, i, at=At.DECIDED, plan=plan))

    def _intends(self, state: State, i: int, replica: Replica) -> Iterator[Step[State]]:
        plan = replica.plan
        assert plan is not None
        assert plan.write is not None
        if not self._lawful(replica) or state.paused or (self._rules.policy_named and replica.policy != state.policy):
            yield Step(f"the intent of {i} is refused", _ended(state, i, holds=replica.holds and replica.evicted))
            return
        if replica.policy != state.policy:
            yield Step(f"{i} stores its intent", OLD_POLICY)
        if plan.breaks is not None:
            yield Step(f"{i} stores its intent", plan.breaks)
        row = plan.row._replace(doubts=_joined(plan.row.doubts, plan.write))
        stored = _stored(state, row) if self._rules.intent_first else state
        stored = _put(stored, i, at=At.INTENDED)
        yield Step(f"{i} stores its intent", stored)
        if self._scene.late_statements and state.faults < self._scene.faults and not state.late:
            twice = stored._replace(faults=state.faults + 1, late=(Late(i, row, current=False),))
            yield Step(f"{i} stores its intent, and again for want of an answer", twice, by_itself=False)

    def _withdrawn(self, state: State, i: int, replica: Replica) -> State:
        """Store that nothing was sent: what was in doubt before still is."""
        assert replica.row is not None
        assert replica.plan is not None
        if not self._lawful(replica):
            return _ended(state, i, holds=replica.holds)
        return _ended(_stored(state, replica.plan.row._replace(doubts=replica.row.doubts)), i, holds=False)

    def _settles(self, state: State, i: int, replica: Replica) -> Iterator[Step[State]]:
        plan, row = replica.plan, replica.row
        assert plan is not None
        assert row is not None
        if not self._lawful(replica):
            yield Step(f"the settlement of {i} is refused", _ended(state, i, holds=replica.holds))
            return
        if plan.breaks is not None and plan.write is None:
            yield Step(f"{i} settles", plan.breaks)
        after = plan.row
        if plan.write is not None and replica.at is At.UNKNOWN:
            after = plan.row._replace(doubts=_joined(plan.row.doubts, plan.write))
        elif plan.write is not None and replica.reply is None:
            after = plan.row._replace(seen=None, doubts=row.doubts)
        elif plan.write is not None and replica.reply is not None:
            base = Base(plan.write.value, plan.write.wish, plan.write.edit)
            seen = replica.reply._replace(edit=plan.write.edit)
            after = Row(base, seen, self._standing(row.doubts, seen.token, late=True))
        after = _counted(after, row.base)
        if self._scene.failover and after.base is not None and after.base != row.base:
            told = after.base._replace(number=after.base.number + 1)
            after, state = after._replace(base=told), state._replace(untold=told)
        ended = _ended(_stored(state, after), i, holds=False)
        yield Step(f"{i} settles: {replica.at.name.lower()}", ended)

    def _lawful(self, replica: Replica) -> bool:
        return not self._rules.fenced or (replica.holds and not replica.evicted)

    # -------------------------------------------------------------------------------------------------------- deciding

    def _standing(self, doubts: tuple[Write, ...], token: int, *, late: bool) -> tuple[Write, ...]:
        """
        Return the doubts that stand once the document has shown a token.

        `late`: an action may have come since, or may yet come. Only a read shows that none has; an answer does not.
        """
        may_come = late and not self._scene.guarded and self._rules.actions_stand
        return tuple(one for one in doubts if one.token == token or may_come) if self._rules.doubts_stand else ()

    def _plan(self, state: State, replica: Replica, seen: Live) -> Plan:
        plan = self.decided(state, replica, seen)
        assert replica.row is not None
        return plan._replace(row=_counted(plan.row, replica.row.base))

    def decided(self, state: State, replica: Replica, seen: Live) -> Plan:
        """Decide on what a read has shown."""
        row, wanted = replica.row, self._scene.wishes[replica.wish]
        assert row is not None
        assert wanted is not None
        base = row.base
        for one in row.doubts:  # was it applied? Then the document has moved, and shows it
            if one.token != seen.token and one.value == seen.value and (base is None or one.value != base.value):
                base = Base(seen.value, one.wish, seen.edit)
        doubts = self._standing(row.doubts, seen.token, late=bool(state.waited or state.given_up))
        agreed = Row(Base(seen.value, replica.wish, seen.edit), seen, doubts)
        if seen.value == wanted:
            return Plan(agreed, None)
        ours = base is None or replica.wish > base.wish
        theirs = seen.token > state.claimed if base is None else seen.value != base.value
        theirs = theirs and not (self._rules.account_is_ours and seen.by == "us")
        if (decision := state.decision) is not None and decision.shown.value == seen.value:
            if not decision.ours:
                return Plan(agreed, None)
            ours, theirs, base = True, False, Base(seen.value, -1, decision.shown.edit)
        verb = VERBS[self._scene.strategy][ours, theirs]
        base = base or Base(seen.value, -1, seen.edit)  # adopted, and stays so
        mistaken = OURS_AS_THEIRS if theirs and seen.by == "us" else None
        match verb:
            case "yield":
                return Plan(agreed, None, mistaken)
            case "hold":
                return Plan(Row(base, seen, doubts, held=seen), None, mistaken)
            case "keep":
                return Plan(Row(base, seen, doubts), None)
            case "write":
                unknown = seen.by == "person" and base.edit < seen.edit and self._scene.strategy != "external"
                write = Write(wanted, replica.wish, seen.token, seen.edit)
                return Plan(Row(base, seen, doubts), write, THEIRS_AS_OURS if unknown else None)


def _number(base: Base | None) -> int:
    return 0 if base is None else base.number


def _counted(row: Row, before: Base | None) -> Row:
    """The row, with as many outcomes as were told before."""
    return row if row.base is None else row._replace(base=row.base._replace(number=_number(before)))


def _joined(doubts: tuple[Write, ...], write: Write) -> tuple[Write, ...]:
    return (*(one for one in doubts if one.value != write.value), write)
