"""
Stuck: check-outs that were left behind, because they could not be told from others or were not to be undone. Pure.

While there is one, nothing is written: the next document would most likely be left behind as well. A minute after each
look the next write looks whether it is gone; a restart forgets them.
"""

import attrs

from reconciler.adapters import replies

_LOOK_AGAIN_S = 60.0


@attrs.frozen
class Left:
    """One check-out that was left behind. `ours`: it may be undone; else a person's work may be in it."""

    key: str
    copy: str
    mark: str
    ours: bool
    why: str


class Stuck:
    """The check-outs that keep all others from being made."""

    def __init__(self) -> None:
        self._left: dict[str, Left] = {}
        self._look_at_s = 0.0

    def leave(self, left: Left, now_s: float) -> None:
        """Take note of a check-out that is left behind."""
        self._left[left.copy] = left
        self._look_at_s = now_s + _LOOK_AGAIN_S

    def gone(self, copy: str) -> None:
        """Take note that a check-out is there no more."""
        self._left.pop(copy, None)

    def due(self, now_s: float) -> Left | None:
        """Return the one to look at now, if its time has come; it comes once a minute."""
        if not self._left or now_s < self._look_at_s:
            return None
        self._look_at_s = now_s + _LOOK_AGAIN_S
        return next(iter(self._left.values()))

    @property
    def message(self) -> str:
        """Return why nothing is checked out, and what to do; empty when nothing keeps anything."""
        for left in self._left.values():
            return replies.cut(
                f"nothing is written any more, because {left.key} was left checked out ({left.why}): look at it"
                " in Windchill and undo that check-out by hand; writing starts again when it is gone"
            )
        return ""
