"""Policies side by side: the difference between two, as text and for a document."""

from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from reconciler.core.folding import fold
from reconciler.model.document import Document, Status
from reconciler.model.policy import EVERYTHING, Policy, Rule, Scope

# The parts of a rule that decide a field. Its sources matter only when events are decoded.
_DECIDING: Final = ("strategy", "on_overlap", "on_adopt", "list", "normalise")
_SAID: Final = (*_DECIDING, "sources")
_FIELDS_MAX = 16_384  # names come from outside


@attrs.frozen
class Difference:
    """Rules that were added, removed or changed, a line each; `reordered`: those in both have another order."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    reordered: bool


def difference(old: Policy, new: Policy) -> Difference:
    """Return the difference between two policies. Rules are matched by what they cover, not by their number."""
    before, after = _by_cover(old.rules), _by_cover(new.rules)
    kept = [cover for cover in after if cover in before]
    scope = () if old.writes == new.writes else (f"written: {_scope(old.writes)} → {_scope(new.writes)}",)
    return Difference(
        added=tuple(_told(rule) for cover, rule in after.items() if cover not in before),
        removed=tuple(_told(rule) for cover, rule in before.items() if cover not in after),
        changed=scope + tuple(said for cover in kept if (said := _change(before[cover], after[cover]))),
        reordered=kept != [cover for cover in before if cover in after],
    )


class Comparison:
    """Finds the documents that a new policy could decide otherwise than some old ones."""

    def __init__(self, old: Sequence[Policy], new: Policy) -> None:
        self._old = tuple(old)
        self._new = new
        self._known: dict[tuple[str, str | None], bool] = {}

    def concerns(self, document: Document) -> bool:
        """Whether another rule than before decides a managed field of a document, or it is written from now on."""
        snapshot = document.agreement.snapshot
        of_type = None if snapshot is None else snapshot.type
        if document.status is Status.OBSERVED and self._new.writes.covers(document.key, of_type):
            return True
        return any(self.differs(name, of_type) for name in fold.managed(document.desired))

    def differs(self, field: str, document_type: str | None) -> bool:
        """Whether another rule than before decides a field of documents of a type."""
        asked = field, document_type
        if asked not in self._known:
            if len(self._known) >= _FIELDS_MAX:
                self._known.clear()
            deciding = _deciding(self._new.rule(field, document_type))
            self._known[asked] = any(_deciding(old.rule(field, document_type)) != deciding for old in self._old)
        return self._known[asked]


_Cover = tuple[tuple[str, ...], tuple[str, ...], int]


def _by_cover(rules: Iterable[Rule]) -> dict[_Cover, Rule]:
    """Return rules by what they cover; several that cover the same are numbered."""
    found: dict[_Cover, Rule] = {}
    for rule in rules:
        number = sum(1 for fields, types, _ in found if (fields, types) == (rule.fields, rule.types))
        found[rule.fields, rule.types, number] = rule
    return found


def _deciding(rule: Rule) -> tuple[object, ...]:
    return tuple(getattr(rule, name) for name in _DECIDING)


def _covers(rule: Rule) -> str:
    return ", ".join(rule.fields) + (f" of {', '.join(rule.types)}" if rule.types else "")


def _told(rule: Rule) -> str:
    return f"{_covers(rule)}: {rule.strategy.value}"


def _change(old: Rule, new: Rule) -> str:
    steps = [
        f"{name} {_text(getattr(old, name))} → {_text(getattr(new, name))}"
        for name in _SAID
        if getattr(old, name) != getattr(new, name)
    ]
    return f"{_covers(new)}: {', '.join(steps)}" if steps else ""


def _scope(scope: Scope) -> str:
    if scope == EVERYTHING:
        return "all documents"
    parts = [f"{scope.percent:g} %", *(", ".join(globs) for globs in (scope.documents, scope.types) if globs)]
    return " of ".join(parts) if scope.percent else "none"


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
