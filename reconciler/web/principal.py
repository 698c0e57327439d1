"""Principals: who asks, and the roles there are."""

import enum

import attrs


class Role(enum.IntEnum):
    """What somebody may do; each may do what those before it may."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


@attrs.frozen
class Principal:
    """Who asks. `issuer` is the identity provider that vouches for the name; empty: the name is one of ours."""

    name: str
    role: Role
    issuer: str = ""


LOCAL = Principal("local", Role.ADMIN)  # whoever is on this machine, where nobody is asked who they are
ANYBODY = Principal("anybody", Role.VIEWER)  # where it does not matter
