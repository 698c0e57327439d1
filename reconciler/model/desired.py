"""Desired state: the values that the log requests for a document, with the provenance of each."""

from typing import NamedTuple

from reconciler.model.event import Event
from reconciler.model.stamp import Level, Stamp
from reconciler.model.value import Json


class Register(NamedTuple):
    """
    The latest claim on a field. A tuple for speed, and because it is stored by the million.

    `managed` false means "released": we no longer manage the field, and `value` means nothing. `expect` is `()` or
    holds the one live value that the producer expects and replaces.
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


class Rival(NamedTuple):
    """
    A claim that loses by its place alone: another one of the same time and sequence outranks it.

    It is kept because a copy of a record, at a lesser place, can reverse that rank. `element` is canonical JSON text,
    or `None` for a claim on the whole value. The value of a claim on an element is present (true) or absent (false).
    """

    element: str | None
    claim: Register


# Shared by the many fields that have none. Never changed: values are replaced, not mutated.
NO_ELEMENTS: dict[str, Element] = {}


class Field(NamedTuple):
    """
    A field's desired value: its register, with the elements stamped after it on top.

    `elements` is keyed by the element's canonical JSON text, without those that the register covers.
    """

    register: Register | None
    elements: dict[str, Element] = NO_ELEMENTS
    rivals: tuple[Rival, ...] = ()

    @property
    def claims(self) -> list[Register | Element]:
        """All claims: the register first, then those on elements."""
        elements = self.elements.values()
        return [*elements] if self.register is None else [self.register, *elements]


class Accepted(NamedTuple):
    """A person's decision that the value stored by Windchill counts as the wanted one."""

    stamp: Stamp
    stored: Json
    actor: str = ""


class Desired(NamedTuple):
    """
    The folded row of one document. Fields stamped up to `released` are not managed.

    `rivals` are other releases of the same time and sequence; `covered` holds claims of that time which the release
    covers by its place alone. `cut` is set if the log names more fields than a row may have: claims up to that level
    were dropped, and the document is not written to. `accepted` holds, by field and by the canonical text of the wanted
    value, the other form of it that a person has accepted.
    """

    fields: dict[str, Field] = {}  # noqa: RUF012 - never mutated: values are replaced, not changed
    released: Stamp | None = None
    rivals: tuple[Stamp, ...] = ()
    covered: dict[str, Field] = {}  # noqa: RUF012 - never mutated: values are replaced, not changed
    cut: Level | None = None
    accepted: dict[str, dict[str, Accepted]] = {}  # noqa: RUF012 - never mutated: values are replaced, not changed


NOTHING_DESIRED = Desired({}, None)


class Claims(NamedTuple):
    """
    Desired state by event, as it is folded and stored: most fields have one plain value, and the event that set it.

    `newest` has that event by field; the event may also set fields that later ones decide. `rest` is the desired state
    without those fields.
    """

    newest: dict[str, Event]
    rest: Desired = NOTHING_DESIRED

    @property
    def plain(self) -> bool:
        """Whether there is nothing but fields with one plain value."""
        return not any(self.rest)

    def desired(self) -> Desired:
        """Return the desired state by field."""
        stamps = {id(event): event.stamp for event in self.newest.values()}
        fields = dict(self.rest.fields)
        for name, event in self.newest.items():
            claim = Register(stamps[id(event)], event.set[name], True, (), event.actor, event.reason)
            fields[name] = Field(claim)
        return self.rest._replace(fields=fields)

    @classmethod
    def of(cls, desired: Desired) -> "Claims":
        """Return a desired state by event."""
        events: dict[tuple[object, ...], Event] = {}
        newest: dict[str, Event] = {}
        others: dict[str, Field] = {}
        for name, field in desired.fields.items():
            claim, elements, rivals = field
            if claim is None or elements or rivals or claim.expect or not claim.managed:
                others[name] = field
            else:
                said = (*claim.stamp, claim.actor, claim.reason)
                newest[name] = events.get(said) or events.setdefault(said, Event(*said, {}))
                newest[name].set[name] = claim.value
        return cls(newest, desired._replace(fields=others))
