"""Part: which documents and sources of a log are ours, when several reconcilers read it, one for each Windchill."""

import functools
import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase, translate

import attrs

from reconciler.model.policy import OPERATORS

ELSEWHERE = "of another part"  # the type of a record that is not ours


@attrs.frozen
class Part:
    """Globs over documents' keys and over sources, case-sensitive; none: all. Operators may decide in each part."""

    subjects: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    _has_key: Callable[[str], object] = attrs.field(init=False, eq=False, repr=False)

    @_has_key.default
    def _compile(self) -> Callable[[str], object]:
        return re.compile("|".join(map(translate, self.subjects))).match

    def has(self, key: str, source: str) -> bool:
        """Whether an event of this document and source is ours."""
        return (not self.subjects or self._has_key(key) is not None) and _speaks(self.sources, source)


ALL = Part()


@functools.lru_cache(maxsize=4096)  # bounded: sources come from outside
def _speaks(sources: Sequence[str], source: str) -> bool:
    return not sources or source == OPERATORS or any(fnmatchcase(source, glob) for glob in sources)
