"""Identity: the provider that vouches for people and programs, as far as the web has to know it."""

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

import attrs

from reconciler.model.identity import Away, Flow, IdentityResult, Verified
from reconciler.web.principal import ANY, Principal, Role


class Identity(Protocol):
    """An identity provider."""

    @property
    def issuer(self) -> str:
        """Its name, for good."""
        ...

    @property
    def signs_in(self) -> bool:
        """Whether people can sign in with it."""
        ...

    async def bearer(self, token: str) -> IdentityResult:
        """Return whose token this is."""
        ...

    async def address(self, flow: Flow) -> str | Away:
        """Return where a browser goes to sign in."""
        ...

    async def exchange(self, code: str, flow: Flow) -> IdentityResult:
        """Return who has signed in, for the code that their browser came back with."""
        ...


@attrs.frozen
class Provider:
    """
    A provider, and which of its words for roles mean which of ours.

    `sources` says for a word of which sources its people may append events: a word that means no role makes producers
    of them, and operators have any source by each word that is not in it.
    """

    identity: Identity
    viewer: Collection[str] = ()
    operator: Collection[str] = ()
    admin: Collection[str] = ()
    sources: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)

    def principal(self, verified: Verified) -> Principal | None:
        """Return who somebody is here, with the greatest role that one of their words means, `None` for a stranger."""
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
