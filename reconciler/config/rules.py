"""Rules: the `[[policy]]` list as the model's policy."""

from types import UnionType
from typing import Any, get_args

import attrs

from reconciler.config.values import NO_LIMITS, Limits, among, convert
from reconciler.model.policy import Rule, Strategy

_OVERLAPS = (Strategy.HOLD, Strategy.EXTERNAL, Strategy.PRESERVE, Strategy.NEWEST)
# What adoption leaves alone, these write at the next look, and the other way round.
_SETTLED_ANEW = (Strategy.EXTERNAL, Strategy.FILL, Strategy.IGNORE)
# `Rule` belongs to the model, which knows nothing of files; what a file must keep to stands here.
LIMITS = {
    "fields": Limits(filled=True),
    "on_overlap": Limits(choices=_OVERLAPS),
    "types": Limits(filled=True),
    "sources": Limits(filled=True),
}
KEYS: dict[str, "attrs.Attribute[Any]"] = {field.name: field for field in attrs.fields(Rule) if field.name != "name"}


def wanted(key: str) -> Any:
    """Return the type of a rule's key. `None` stands for "not said", which a file says by leaving the key out."""
    declared: Any = KEYS[key].type
    return get_args(declared)[0] if isinstance(declared, UnionType) else declared


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
            values[key] = convert(given, wanted(key), LIMITS.get(key, NO_LIMITS))
        except ValueError as error:
            faults.append(f"{where}[{number}].{key}: {error}")
    faults += [f"{where}[{number}]: a rule needs {key}" for key in ("fields", "strategy") if key not in row]
    if len(faults) > before:
        return None
    rule = Rule(**values)
    if rule.on_adopt is not None and rule.strategy in _SETTLED_ANEW:
        faults.append(
            f"{where}[{number}].on_adopt: means nothing under {rule.strategy}, which decides anew at every look; leave"
            " it out"
        )
        return None
    return rule
