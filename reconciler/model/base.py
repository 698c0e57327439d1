"""The base: the values that both sides last agreed on, field by field."""

from typing import NamedTuple

import msgspec

from reconciler.model.snapshot import Token
from reconciler.model.stamp import Stamp
from reconciler.model.value import Json


class Agreed(NamedTuple):
    """
    The last agreement on one field: the live value, and the stamp of the claim that it satisfied.

    `stamp` is `None` if the live value was adopted and no claim has been satisfied yet. `elements` holds, for a list
    that is merged element by element, the stamp at which each managed element was agreed.

    `digest`, if it is not empty, is that of an unknown value: an outcome was too large to hold it, and the store was
    lost. It shows whether the value has changed, and is never written anywhere; `value` means nothing then.

    `writes` holds the times of our last writes of the wanted value, oldest first, only as many as it takes to be
    contested: by element, or under `""` for the whole value.
    """

    value: Json
    stamp: Stamp | None
    elements: dict[str, Stamp] = {}  # noqa: RUF012 - never mutated: values are replaced, not changed
    digest: str = ""
    writes: dict[str, tuple[int, ...]] = {}  # noqa: RUF012 - likewise


class RefusedField(NamedTuple):
    """
    Writes of a field that were refused or did not last: the field is not tried again before its time.

    `tries` counts these failures, `at_us` is the last. `due_us` is the time of the next try; `None`: it is due, and the
    next attempt tries. A *contested* field is stored otherwise than it was written, or changed again after each write.
    Then this is about the value with the digest `wanted`, whichever event requests it, or for a list that is merged,
    about single `elements`, each with whether it is to be there.
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


class Wrote(msgspec.Struct, frozen=True):
    """
    Our own last write, so that it does not look like someone else's edit when another field is adopted.

    `modified_before` is when others last modified the document before it, as a canonical instant.
    """

    token: Token | None
    modified_before: str | None


class Base(msgspec.Struct, frozen=True):
    """The base of one document: agreed values of its managed fields, refusals in force, our own last write."""

    fields: dict[str, Agreed] = {}
    refused: dict[str, RefusedField] = {}
    wrote: Wrote | None = None


NO_BASE = Base()
