"""Visit every state that a model can reach, the nearest first."""

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, NamedTuple, TypeVar

import attrs

S = TypeVar("S", bound=Hashable)


class Step(NamedTuple, Generic[S]):
    """
    Something that may happen next, and the state after it, or the promise that it breaks.

    `by_itself`: it happens sooner or later, if nothing else does. Faults, edits and the like need not.
    """

    said: str
    after: S | str
    by_itself: bool = True


@attrs.frozen
class Model(Generic[S]):
    """
    A small world: how it begins, what may happen next, and when nothing is left to do.

    `alike` maps states that differ only in who is who to one of them.
    """

    begin: S
    steps: Callable[[S], Iterable[Step[S]]]
    settled: Callable[[S], bool] | None = None
    alike: Callable[[S], S] = lambda state: state


@attrs.frozen
class Found:
    """What a search has found: how many states there are, and the shortest way to each broken promise."""

    states: int
    broken: dict[str, list[str]]


STUCK = "nothing that happens by itself leads to a settled state any more"


def explore(model: Model[S], states_max: int = 1_000_000) -> Found:
    """Search a model; raises RuntimeError if it has more states than that."""
    before: dict[S, tuple[S, str] | None] = {model.begin: None}
    leads_to: dict[S, list[S]] = {}  # state → those that come to it by themselves
    broken: dict[str, list[str]] = {}
    queue = [model.begin]
    for state in queue:  # grows while it is read
        for said, after, by_itself in model.steps(state):
            if isinstance(after, str):
                if after not in broken:
                    broken[after] = [*_way(before, state), said]
                continue
            same = model.alike(after)
            if same not in before:
                before[same] = (state, said)
                queue.append(same)
            if by_itself and model.settled is not None:
                leads_to.setdefault(same, []).append(state)
        if len(queue) > states_max:
            raise RuntimeError(f"more than {states_max:,} states")
    if model.settled is not None and (stuck := _stuck(queue, model.settled, leads_to)) is not None:
        broken[STUCK] = [*_way(before, stuck), str(stuck)]
    return Found(len(queue), broken)


def _stuck(states: list[S], settled: Callable[[S], bool], leads_to: dict[S, list[S]]) -> S | None:
    """Return the nearest state from which no settled one is reached, if there is one."""
    todo = [state for state in states if settled(state)]
    good = set(todo)
    for state in todo:
        for earlier in leads_to.get(state, ()):
            if earlier not in good:
                good.add(earlier)
                todo.append(earlier)
    return next((state for state in states if state not in good), None)


def _way(before: dict[S, tuple[S, str] | None], state: S) -> list[str]:
    said = []
    while (step := before[state]) is not None:
        state = step[0]
        said.append(step[1])
    return said[::-1]
