"""The rules of the policy: from the `[[policy]]` tables to the model's rules."""

from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from reconciler.config.values import FILLED, Filled, tables
from reconciler.model.policy import Adopt, ListMode, Normaliser, Rule, Strategy

# Under these, the next attempt overrides what `on_adopt` decided.
_DECIDING_AGAIN = (Strategy.EXTERNAL, Strategy.FILL, Strategy.IGNORE)


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Who wins, by field, document type and source; the first rule that matches decides, and merge decides all other
    fields. Without any rule: status and State external, owner preserve.
    """

    fields: Annotated[tuple[Filled, ...], FILLED]
    """Globs over dotted field names, case-sensitive; `*` crosses dots. The first rule that matches decides."""
    strategy: Strategy
    """external: the log wins. preserve: a user's edit stays until a newer event, and against it. merge: the side that
    changed the field wins, and if both did, on_overlap decides. newest: if both changed it, the later one wins. hold: a
    person decides on any change in Windchill. fill: written only if blank. ignore: never managed."""
    on_overlap: Literal["hold", "external", "preserve", "newest"] = "hold"
    """For merge: what happens if both sides changed the field."""
    on_adopt: Adopt | msgspec.UnsetType = msgspec.UNSET
    """For a field first seen on a document that was modified after the event: write it, yield to it, or ask a person.
    Without it, the strategy decides."""
    list: ListMode = ListMode.ATOMIC
    """atomic: a list is one value. set: it is merged element by element, and elements that no event manages stay."""
    normalise: tuple[Normaliser, ...] = ()
    """What to ignore when values are compared: trim (white space at both ends), case, blank (empty equals null), number
    (4711.0 equals 4711), instant (the same moment in another form), enum (an enumeration by its value)."""
    types: Annotated[tuple[Filled, ...], FILLED] = ()
    """Globs over document types that this rule applies to; absent: all."""
    sources: Annotated[tuple[Filled, ...], FILLED] = ()
    """Globs over event sources that may set these fields; an event of another source becomes a dead letter. Absent:
    all."""


KEYS: dict[str, Any] = get_type_hints(Row, include_extras=True)


def read(given: object, where: str, faults: list[str]) -> tuple[Rule, ...]:
    """Return the rules of a `policy` value that came from `where`; add what can't be used to `faults`."""
    rows = given if isinstance(given, list) else []
    found = tables(given, Row, "policy", where, faults)
    for number, row in enumerate(found, 1):
        if "on_adopt" in row and row.get("strategy") in _DECIDING_AGAIN:
            faults.append(
                f"{where}[{number}].on_adopt: has no effect under {row['strategy']}, which decides again at every"
                " attempt; leave it out"
            )
    for number, row in enumerate(rows[:-1], 1):
        if _covers_every_field(row):
            faults.append(
                f"{where}[{number + 1}]: never reached, because policy[{number}] covers every field; move it up"
            )
            break
    if faults:
        return ()
    return tuple(
        Rule(**row | {"name": f"policy[{number}]", "on_overlap": Strategy(row.get("on_overlap", "hold"))})
        for number, row in enumerate(found, 1)
    )


def _covers_every_field(row: object) -> bool:
    """Whether rules below a row are never reached. A row with an unknown key is not counted: it may mean `types`."""
    match row:
        case {"fields": list(fields), **rest}:
            return "*" in fields and rest.keys() <= KEYS.keys() - {"types"}
    return False
