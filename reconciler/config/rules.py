"""Rules: the `[[policy]]` list as the model's policy."""

from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from reconciler.config.values import FILLED, Filled, among, convert
from reconciler.model.policy import Adopt, ListMode, Normaliser, Rule, Strategy

# What adoption leaves alone, these write at the next look, and the other way round.
_SETTLED_ANEW = (Strategy.EXTERNAL, Strategy.FILL, Strategy.IGNORE)


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Who wins, by field, document type and source; the first rule that matches decides, and merge decides what none
    matches. Absent: status and State external, owner preserve.
    """

    fields: Annotated[tuple[Filled, ...], FILLED]
    """Globs over dotted field names, case-sensitive; `*` crosses dots. The first rule that matches decides."""
    strategy: Strategy
    """external: the log wins. preserve: a user's edit stands until a newer event, and against it. merge: whoever moved
    wins, and when both did, on_overlap decides. newest: when both moved, the later one. hold: any move of theirs asks a
    person. fill: written only where blank. ignore: never managed."""
    on_overlap: Literal["hold", "external", "preserve", "newest"] = "hold"
    """For merge: what happens when both sides moved."""
    on_adopt: Adopt | msgspec.UnsetType = msgspec.UNSET
    """For a field first seen on a document that was modified after the event: write it, yield to it, or ask a person.
    Absent: what the strategy says."""
    list: ListMode = ListMode.ATOMIC
    """atomic: a list is one value. set: it is merged element by element, and elements nobody manages stay."""
    normalise: tuple[Normaliser, ...] = ()
    """What is taken off values before they are compared: trim (white space at both ends), case, blank (empty equals
    null), number (4711.0 equals 4711), instant (one moment, however written), enum (an enumeration by its value)."""
    types: Annotated[tuple[Filled, ...], FILLED] = ()
    """Globs over document types that this rule is for; absent: all."""
    sources: Annotated[tuple[Filled, ...], FILLED] = ()
    """Globs over event sources that may set these fields; an event of another source is a dead letter. Absent: all may.
    """


KEYS: dict[str, Any] = get_type_hints(Row, include_extras=True)


def read(given: object, where: str, faults: list[str]) -> tuple[Rule, ...]:
    """Return the rules of a `policy` value, adding to `faults` what can't be used; `where` is where it came from."""
    if not isinstance(given, list) or not all(isinstance(row, dict) for row in given):
        faults.append(f"{where}: must be a list of rules; write each as [[policy]]")
        return ()
    rules = tuple(rule for number, row in enumerate(given, 1) if (rule := _rule(row, where, number, faults)))
    for number, rule in enumerate(rules[:-1], 1):
        if "*" in rule.fields and not rule.types:
            faults.append(f"{where}[{number + 1}]: never reached, because {rule.name} covers every field; move it up")
            break
    return rules


def _rule(row: dict[str, object], where: str, number: int, faults: list[str]) -> Rule | None:
    before = len(faults)
    values: dict[str, Any] = {"name": f"policy[{number}]"}
    for key, given in row.items():
        if key not in KEYS:
            faults.append(f"{where}[{number}].{key}: unknown key; {among(key, KEYS)}")
            continue
        try:
            values[key] = convert(given, KEYS[key])
        except ValueError as error:
            faults.append(f"{where}[{number}].{key}: {error}")
    faults += [f"{where}[{number}]: a rule needs {key}" for key in ("fields", "strategy") if key not in row]
    if len(faults) > before:
        return None
    if "on_overlap" in values:
        values["on_overlap"] = Strategy(values["on_overlap"])
    rule = Rule(**values)
    if rule.on_adopt is not None and rule.strategy in _SETTLED_ANEW:
        faults.append(
            f"{where}[{number}].on_adopt: means nothing under {rule.strategy}, which decides anew at every look; leave"
            " it out"
        )
        return None
    return rule
