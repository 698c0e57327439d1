"""Answers of an identity provider about a person."""

import attrs


@attrs.frozen
class Verified:
    """The provider vouches for a person. `roles` are its own names, which the configuration maps to ours."""

    name: str
    roles: frozenset[str]


@attrs.frozen
class Rejected:
    """The credential is invalid; the reason contains no text from outside."""

    reason: str


@attrs.frozen
class Away:
    """The provider does not answer now."""

    reason: str


IdentityResult = Verified | Rejected | Away


@attrs.frozen
class Flow:
    """One sign-in through the provider; only one browser and we know all of it except `redirect_uri`."""

    redirect_uri: str
    state: str = attrs.field(repr=False)
    nonce: str = attrs.field(repr=False)
    verifier: str = attrs.field(repr=False)
