"""Principals: who sends a request, their role, and the sources whose events they may append."""

import enum
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Final, Protocol

import attrs

from reconciler.model.identity import Away, Flow, IdentityResult, Verified


class Role(enum.IntEnum):
    """A role; from viewer on, each role includes those before it."""

    PRODUCER = 0  # may only append events
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


ANY: Final = ("*",)
_OURS: Final = "//reconciler"


def usual_sources(role: Role) -> tuple[str, ...]:
    """Return the sources of a role whose holder has none of their own."""
    return ANY if role >= Role.OPERATOR else ()


@attrs.frozen
class Principal:
    """
    Who sends a request. `issuer` is the identity provider that authenticated them; empty: it was a token of ours.

    `sources` are globs for the sources whose events they may append; by default any for operators, none for viewers.
    """

    name: str
    role: Role
    issuer: str = ""
    sources: tuple[str, ...] = attrs.field()

    @sources.default
    def _usual(self) -> tuple[str, ...]:
        return usual_sources(self.role)

    def refusal(self, source: str) -> str:
        """Return why they may not append an event of this source; empty: they may. Decided only here."""
        ours = source.casefold()
        if ours == _OURS or ours.startswith(f"{_OURS}/"):
            return (
                f"the source {source} is reserved for the reconciler: name the system that the event comes from; "
                "to resolve a conflict, use /api/v1/conflicts/{id}/resolve"
            )
        if any(fnmatchcase(source, glob) for glob in self.sources):
            return ""
        allowed = f"only of {', '.join(self.sources)}" if self.sources else "of none"
        return f"{self.name} may not append events of the source {source}, {allowed}"


LOCAL = Principal("local", Role.ADMIN)  # everyone on this machine, without a sign-in
ANYONE = Principal("anyone", Role.VIEWER)  # on endpoints that are open to everyone


# ---------------------------------------------------------------------------------------------------- identity provider


class Identity(Protocol):
    """An identity provider."""

    @property
    def issuer(self) -> str:
        """Its permanent name."""
        ...

    @property
    def signs_in(self) -> bool:
        """Whether people can sign in with it."""
        ...

    async def bearer(self, token: str) -> IdentityResult:
        """Return the owner of a bearer token."""
        ...

    async def address(self, flow: Flow) -> str | Away:
        """Return the address where a browser signs in."""
        ...

    async def exchange(self, code: str, flow: Flow) -> IdentityResult:
        """Exchange the code that a browser brings back for the identity of its user."""
        ...


@attrs.frozen
class Provider:
    """
    An identity provider, and how its roles map to ours.

    `sources` maps a role of the provider to the sources whose events its members may append. Members without one of our
    roles become producers; a provider role that grants operator and is not in `sources` grants all sources.
    """

    identity: Identity
    viewer: Collection[str] = ()
    operator: Collection[str] = ()
    admin: Collection[str] = ()
    sources: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)

    def principal(self, verified: Verified) -> Principal | None:
        """Return the principal with the highest role that their provider roles grant; `None`: they have no access."""
        sources = tuple(sorted(set(self._sources(verified.roles))))
        meaning = ((Role.ADMIN, self.admin), (Role.OPERATOR, self.operator), (Role.VIEWER, self.viewer))
        role = next((role for role, known in meaning if set(known) & verified.roles), None)
        if role is None and not sources:
            return None
        return Principal(verified.name, role or Role.PRODUCER, self.identity.issuer, sources)

    def _sources(self, words: Collection[str]) -> Iterator[str]:
        for word in words:
            if word in self.sources:
                yield from self.sources[word]
            elif word in self.operator or word in self.admin:
                yield from ANY
