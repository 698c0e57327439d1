"""Who an identity provider says somebody is."""

import attrs


@attrs.frozen
class Verified:
    """The provider vouches for somebody. `roles` are its own words, which mean nothing until they are looked up."""

    name: str
    roles: frozenset[str]


@attrs.frozen
class Rejected:
    """What was shown proves nothing; the reason is in words of ours alone."""

    reason: str


@attrs.frozen
class Away:
    """The provider can't be asked now."""

    reason: str


IdentityResult = Verified | Rejected | Away


@attrs.frozen
class Flow:
    """One sign-in by way of the provider; all of it but `redirect_uri` is known to one browser and us only."""

    redirect_uri: str
    state: str = attrs.field(repr=False)
    nonce: str = attrs.field(repr=False)
    verifier: str = attrs.field(repr=False)
