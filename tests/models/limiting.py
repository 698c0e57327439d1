"""
The limit on requests in flight, divided among replicas that come and go.

Each replica may have its share of the limit in flight. Who is there has a number, which grows with every change, and
each beat carries the number that a replica goes by. A share grows only when all beats carry the present number.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import attrs

from tests.models.explore import Model, Step

TOO_MANY = "more requests are in flight than the limit allows"


class Replica(NamedTuple):
    """One replica: the number in its beats, the number it has seen, what it may send at once, and what it has sent."""

    carries: int = 0
    knows: int = 0
    may: int = 0
    in_flight: int = 0


class State(NamedTuple):
    """The world at one moment; `number` is that of who is there."""

    number: int
    there: frozenset[int]
    replicas: tuple[Replica, ...]


@attrs.frozen(kw_only=True)
class Scene:
    """`carries` says when a beat carries a new number: once what is in flight fits the new share, or too early."""

    limit: int = 4
    replicas: int = 3
    changes_max: int = 3
    carries: Literal["once drained", "with the next beat", "at once"] = "once drained"


def model(scene: Scene) -> Model[State]:
    """Return the model of a scene, in which two replicas are there at first."""
    there = frozenset({0, 1})
    replicas = [Replica(1, 1, _share(scene, there, i)) if i in there else Replica() for i in range(scene.replicas)]
    return Model(State(1, there, tuple(replicas)), _World(scene).steps)


def _share(scene: Scene, there: frozenset[int], i: int) -> int:
    rank = sorted(there).index(i)
    return scene.limit // len(there) + (rank < scene.limit % len(there))


class _World:
    """What may happen next in a scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Yield all that may happen next."""
        if sum(one.in_flight for one in state.replicas) > self._scene.limit:
            yield Step("so far", TOO_MANY)
        for i, one in enumerate(state.replicas):
            changes = state.number <= self._scene.changes_max
            if i not in state.there:
                if changes:
                    yield Step(f"{i} enters", _put(state, i, Replica(), state.there | {i}))
                continue
            if changes and not one.in_flight and len(state.there) > 1:
                yield Step(f"{i} leaves", _put(state, i, Replica(), state.there - {i}))
            yield Step(f"{i} beats", _put(state, i, self._beaten(state, i, one)))
            if one.in_flight < one.may:
                yield Step(f"{i} sends", _put(state, i, one._replace(in_flight=one.in_flight + 1)))
            if one.in_flight:
                yield Step(f"{i} is answered", _put(state, i, one._replace(in_flight=one.in_flight - 1)))

    def _beaten(self, state: State, i: int, one: Replica) -> Replica:
        mine = _share(self._scene, state.there, i)
        match self._scene.carries:
            case "at once":
                carries = state.number
            case "with the next beat":
                carries = one.knows
            case "once drained":
                carries = state.number if one.in_flight <= mine else one.carries
        beats = [carries if j == i else state.replicas[j].carries for j in state.there]
        grows = all(number == state.number for number in beats)
        return Replica(carries, state.number, mine if grows or mine < one.may else one.may, one.in_flight)


def _put(state: State, i: int, replica: Replica, there: frozenset[int] | None = None) -> State:
    replicas = (*state.replicas[:i], replica, *state.replicas[i + 1 :])
    if there is None:
        return state._replace(replicas=replicas)
    return State(state.number + 1, there, replicas)
