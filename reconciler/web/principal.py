"""Principals: who asks, the roles there are, and whose events somebody may append."""

import enum
from fnmatch import fnmatchcase
from typing import Final

import attrs


class Role(enum.IntEnum):
    """What somebody may do; from the viewer on, each may do what those before it may."""

    PRODUCER = 0  # append events, and nothing else
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


ANY: Final = ("*",)
_OURS: Final = "//reconciler"


def usual_sources(role: Role) -> tuple[str, ...]:
    """Return whose events somebody of a role may append who is bound to none."""
    return ANY if role >= Role.OPERATOR else ()


@attrs.frozen
class Principal:
    """
    Who asks. `issuer` is the identity provider that vouches for the name; empty: the name is one of ours.

    `sources` are globs: who asks may append events of the sources that one of them matches. Where they are not given,
    operators may append events of any source, and viewers none.
    """

    name: str
    role: Role
    issuer: str = ""
    sources: tuple[str, ...] = attrs.field()

    @sources.default
    def _usual(self) -> tuple[str, ...]:
        return usual_sources(self.role)

    def refusal(self, source: str) -> str:
        """Return why an event of this source is not taken from them; empty: it is. Only here this is decided."""
        ours = source.casefold()
        if ours == _OURS or ours.startswith(f"{_OURS}/"):
            return (
                f"the source {source} is the reconciler's own: name the system that the event comes from; "
                "a conflict is decided at /api/v1/conflicts/{id}/resolve"
            )
        if any(fnmatchcase(source, glob) for glob in self.sources):
            return ""
        allowed = f"only of {', '.join(self.sources)}" if self.sources else "of none"
        return f"{self.name} may not append events of the source {source}, {allowed}"


LOCAL = Principal("local", Role.ADMIN)  # whoever is on this machine, where nobody is asked who they are
ANYBODY = Principal("anybody", Role.VIEWER)  # where it does not matter
