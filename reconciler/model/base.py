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

    `digest`, if it is not empty, is that of a value that is not known: an outcome was too large to tell it, and the
    store was lost. It is enough to tell agreed from changed, and is never written anywhere; `value` means nothing then.

    `writes` holds when we wrote what is wanted, latest last and only as many as it takes to be contested: by element,
    or under `""` for the whole value.
    """

    value: Json
    stamp: Stamp | None
    elements: dict[str, Stamp] = {}  # noqa: RUF012 - never mutated: values are replaced, not changed
    digest: str = ""
    writes: dict[str, tuple[int, ...]] = {}  # noqa: RUF012 - likewise


class RefusedField(NamedTuple):
    """
    Writes of this field that came to nothing: it is not tried again before its time.

    `tries` counts how often it came to this, `at_us` is when it last did. `due_us` is when it is tried again; `None`:
    that time has come, and the next attempt tries. *Contested* is a field that the server stores otherwise than it was
    written, or that is changed again after each write: then it is about the value of which `wanted` is the digest,
    whichever event asks for that, or of a list that is merged about single `elements`, each with whether it is to be
    there.
    """

    stamp: Stamp
    live: Json
    message: str
    tries: int = 1
    at_us: int = 0
    due_us: int | None = None
    contested: bool = False
    wanted: str = ""
    elements: dict[str, bool] = {}  # noqa: RUF012 - never mutated: values are replaced, not changed


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
    refused: dict[str, RefusedField] = attrs.field(factory=dict)
    wrote: Wrote | None = None


NO_BASE = Base()
