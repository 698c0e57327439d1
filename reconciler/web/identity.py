"""Identity: the provider that vouches for people and programs, as far as the web has to know it."""

from collections.abc import Collection
from typing import Protocol

import attrs

from reconciler.model.identity import Away, Flow, Verdict
from reconciler.web.principal import Role


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

    async def bearer(self, token: str) -> Verdict:
        """Return whose token this is."""
        ...

    async def address(self, flow: Flow) -> str | Away:
        """Return where a browser goes to sign in."""
        ...

    async def exchange(self, code: str, flow: Flow) -> Verdict:
        """Return who has signed in, for the code that their browser came back with."""
        ...


@attrs.frozen
class Provider:
    """A provider, and which of its words for roles mean which of ours."""

    identity: Identity
    viewer: Collection[str] = ()
    operator: Collection[str] = ()
    admin: Collection[str] = ()

    def role(self, words: Collection[str]) -> Role | None:
        """Return the greatest role that one of these means, `None` if none does."""
        meaning = ((Role.ADMIN, self.admin), (Role.OPERATOR, self.operator), (Role.VIEWER, self.viewer))
        return next((role for role, known in meaning if set(known) & set(words)), None)
