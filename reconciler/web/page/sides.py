"""Sides: the fields of a document as desired, live and last agreed, and what differs between them."""

import attrs
import msgspec

from reconciler import views
from reconciler.web.page import differing

_ORDER = ("held", "differs", "theirs stands", "agrees", "unmanaged")


@attrs.frozen
class Sides:
    """
    A field with what is marked on each side.

    Desired and live are marked where they differ from each other; what was last agreed, where Windchill has something
    else since. `standing` is held, differs, agrees or unmanaged.
    """

    field: views.documents.Field
    standing: str
    desired: tuple[differing.Part, ...]
    live: tuple[differing.Part, ...]
    base: tuple[differing.Part, ...]


def fields(document: views.documents.Document) -> list[Sides]:
    """Return the fields of a document, those that want something first."""
    return sorted((_sides(field) for field in document.fields), key=lambda one: _ORDER.index(one.standing))


def _sides(field: views.documents.Field) -> Sides:
    if _by_elements(field):  # what was said of each element is not the shape of what Windchill has
        return Sides(field, _standing(field), *(_unmarked(side) for side in (field.desired, field.live, field.base)))
    return Sides(
        field,
        _standing(field),
        differing.parts(field.desired, field.live),
        differing.parts(field.live, field.desired),
        differing.parts(field.base, field.live),
    )


def _unmarked(value: object) -> tuple[differing.Part, ...]:
    return differing.parts(value, msgspec.UNSET)


def _by_elements(field: views.documents.Field) -> bool:
    return isinstance(field.desired, dict) and all(claim.kind in ("add", "remove") for claim in field.claims)


def _standing(field: views.documents.Field) -> str:
    if field.conflict:
        return "held"
    if not field.managed:
        return "unmanaged"
    if field.live == field.desired:
        return "agrees"
    decided = "" if field.decision is None else field.decision.decision
    if _by_elements(field):
        return "agrees" if decided == "keep" else "differs"
    return "theirs stands" if decided in ("keep", "yield") else "differs"
