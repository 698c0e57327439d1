"""Desired state: what the log says a document should be, with the provenance of every value."""

from typing import NamedTuple

from reconciler.model.stamp import Stamp
from reconciler.model.value import Json


class Register(NamedTuple):
    """
    The latest claim on a field. A tuple for speed, and because it is stored by the million.

    `managed` false means "released": the claim says that we no longer manage the field, and `value` means nothing.
    `expect` is `()` or holds the one live value that the producer knowingly replaces.
    """

    stamp: Stamp
    value: Json
    managed: bool = True
    expect: tuple[Json, ...] = ()
    actor: str = ""
    reason: str = ""


class Element(NamedTuple):
    """The latest claim on one element of a multi-valued field: it is to be there, or not."""

    stamp: Stamp
    present: bool
    actor: str = ""
    reason: str = ""


# Shared by the million fields that have none. Never changed: values are replaced, not mutated.
NO_ELEMENTS: dict[str, Element] = {}


class Field(NamedTuple):
    """
    A field's desired value: its register, with the elements stamped after it on top.

    `elements` is keyed by the element's canonical JSON text. Elements that the register covers are not kept.
    """

    register: Register | None
    elements: dict[str, Element] = NO_ELEMENTS


class Desired(NamedTuple):
    """The folded row of one document. Fields stamped up to `released` are not managed and not kept."""

    fields: dict[str, Field] = {}  # noqa: RUF012 - never mutated: values are replaced, not changed
    released: Stamp | None = None


NOTHING_DESIRED = Desired({}, None)
