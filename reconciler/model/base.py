"""The base: what both sides last agreed on, field by field."""

from typing import NamedTuple

import attrs

from reconciler.model.snapshot import Token
from reconciler.model.stamp import Stamp
from reconciler.model.value import Json


class Agreed(NamedTuple):
    """
    What was last agreed on one field: the live value then, and the stamp of the claim it settled.

    `stamp` is `None` after an adoption that nothing has settled yet. `elements` holds, for a list that is merged
    element by element, the stamp at which each managed element was agreed.
    """

    value: Json
    stamp: Stamp | None
    elements: dict[str, Stamp] = {}  # noqa: RUF012 - never mutated: values are replaced, not changed


class Refused(NamedTuple):
    """A write of this field that the server refused or altered: not tried again until either side moves."""

    stamp: Stamp
    live: Json
    message: str


@attrs.frozen
class Wrote:
    """
    Our own last write, so that it is not taken for somebody else's edit when another field is adopted.

    `modified_before` is when the document had last been modified by others, as a canonical instant.
    """

    token: Token | None
    modified_before: str | None


@attrs.frozen
class Base:
    """The base of one document: agreed values of its managed fields, refusals in force, our own last write."""

    fields: dict[str, Agreed] = attrs.field(factory=dict)
    refused: dict[str, Refused] = attrs.field(factory=dict)
    wrote: Wrote | None = None


NO_BASE = Base()
