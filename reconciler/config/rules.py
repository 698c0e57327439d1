"""Rules: the `[[policy]]` list as the model's policy."""

from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from reconciler.config.values import FILLED, Filled, tables
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
    rows = given if isinstance(given, list) else []
    found = tables(given, Row, "policy", where, faults)
    for number, row in enumerate(found, 1):
        if "on_adopt" in row and row.get("strategy") in _SETTLED_ANEW:
            faults.append(
                f"{where}[{number}].on_adopt: means nothing under {row['strategy']}, which decides anew at every look;"
                " leave it out"
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
    """Whether rules below a row are never reached, whatever else is wrong with it; an unknown key may mean `types`."""
    match row:
        case {"fields": list(fields), **rest}:
            return "*" in fields and rest.keys() <= KEYS.keys() - {"types"}
    return False
