"""
Resolution: a person's decision on a conflict, as events like any other (DESIGN section 5).

A whole value is one event: `set`, with `expect` naming the live value that is knowingly replaced. `expect` stands only
beside `set`, so a list that is merged element by element is decided by `set` too. Its list holds the managed elements
that are to be there; those that nobody manages are left out, so that they stay nobody's. An element that is to go, and
that was never agreed on, is not taken away by leaving it out: a second event removes it.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from reconciler.cli import events
from reconciler.config import Config
from reconciler.core import elements, normalise
from reconciler.errors import UsageError
from reconciler.model import instant
from reconciler.model.document import Conflict, Document
from reconciler.model.policy import OPERATORS
from reconciler.model.value import MISSING, Json, canonical

_ESCAPE = "value:"


def events_for(
    config: Config, document: Document, conflict: Conflict, take: str, *, actor: str, reason: str
) -> list[dict[str, Any]]:
    """Return the events that decide a conflict; raises UsageError for a value that the field can't have."""
    # Later than the claim it answers, even if that claim's clock is ahead of ours.
    time_us = max(instant.to_us(events.now()), instant.to_us(conflict.stamp.time) + 1)
    value = _value(conflict, take)
    removed: list[object] = []
    question = _question(config, document, conflict)
    if elements.applies(question):
        value, removed = _by_elements(question, conflict, value)
    said: list[dict[str, Any]] = [{"set": {conflict.field: value}, "expect": {conflict.field: conflict.live}}]
    if removed:
        said.append({"remove": {conflict.field: removed}})
    return [
        events.changed(document.key, data | {"reason": reason}, OPERATORS, actor, instant.from_us(time_us + number))
        for number, data in enumerate(said)
    ]


def _value(conflict: Conflict, take: str) -> Json:
    match take:
        case "desired":
            return conflict.desired
        case "live":
            return conflict.live
        case _:
            return events.value(take.removeprefix(_ESCAPE))


def _question(config: Config, document: Document, conflict: Conflict) -> elements.Question:
    name, snapshot = conflict.field, document.agreement.snapshot
    rule = config.policy.rule(name, None if snapshot is None else snapshot.type)
    live = MISSING if snapshot is None else snapshot.value(name)
    agreed = document.agreement.base.fields.get(name)
    types = () if snapshot is None else snapshot.compared_as.get(name, ())
    return elements.Question(name, document.desired.fields[name], agreed, live, rule, None, types)


def _by_elements(question: elements.Question, conflict: Conflict, wanted: Json) -> tuple[list[object], list[object]]:
    """Return the elements to set and those to remove besides."""
    if wanted is not None and not isinstance(wanted, list):
        raise UsageError(f"{conflict.field} is a list of elements: give a JSON list")

    def text(element: object) -> str:
        return canonical(normalise.comparable(element, question.steps))

    managed = {text(element) for element in _managed(question)}
    live = _listed(conflict.live)
    kept = {text(element) for element in _listed(wanted)}
    theirs = {text(element) for element in live} - managed
    to_set = [element for element in _listed(wanted) if text(element) not in theirs]
    to_remove = [element for element in live if text(element) in managed and text(element) not in kept]
    return to_set, [element for element in to_remove if isinstance(element, str | int | float | bool)]


def _managed(question: elements.Question) -> Iterable[object]:
    """Yield the elements that some event has spoken of, or that were agreed on."""
    register = question.field.register
    if register is not None and register.managed:
        yield from _listed(register.value)
    texts = {*question.field.elements, *(question.agreed.elements if question.agreed is not None else ())}
    yield from (msgspec.json.decode(text) for text in texts)


def _listed(value: Json) -> list[object]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
