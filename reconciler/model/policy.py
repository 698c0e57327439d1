"""Policies: who wins, by field, document type and source; and which documents are written."""

import enum
import functools
import zlib
from fnmatch import fnmatchcase

import attrs


class Strategy(enum.StrEnum):
    """How a field is decided (the columns of the table in README.md, "Policy: who wins")."""

    EXTERNAL = "external"  # the log wins
    PRESERVE = "preserve"  # a user's edit stays until a newer event, and against it
    MERGE = "merge"  # the only side that changed it wins; if both did, `on_overlap` decides
    NEWEST = "newest"  # if both changed it, the later one wins
    HOLD = "hold"  # a person decides about any edit of theirs
    FILL = "fill"  # written only where blank
    IGNORE = "ignore"  # never managed


class ListMode(enum.StrEnum):
    """How a list is compared and merged."""

    ATOMIC = "atomic"  # as one value
    SET = "set"  # element by element; unmanaged elements are left alone


class Adopt(enum.StrEnum):
    """The decision on a field that is first seen on a document that was modified after the event."""

    WRITE = "write"
    YIELD = "yield"
    HOLD = "hold"


class Normaliser(enum.StrEnum):
    """A step that normalises a value before it is compared; `TRIM` and `BLANK` apply before it is written, too."""

    TRIM = "trim"  # white space at both ends
    CASE = "case"  # upper and lower case are equal
    BLANK = "blank"  # "" and [] equal null
    NUMBER = "number"  # "4711.0", 4711 and 4711.0 are equal
    INSTANT = "instant"  # timestamps are equal when they name one moment
    ENUM = "enum"  # {"Value": v, "Display": d} equals v


@attrs.frozen
class Rule:
    """One row of the policy. Globs are matched case-sensitively and `*` crosses dots."""

    fields: tuple[str, ...]
    strategy: Strategy
    on_overlap: Strategy = Strategy.HOLD  # hold, external, preserve or newest
    on_adopt: Adopt | None = None  # None: as the strategy says
    list: ListMode = ListMode.ATOMIC
    normalise: tuple[Normaliser, ...] = ()
    types: tuple[str, ...] = ()  # document types; empty: all
    sources: tuple[str, ...] = ()  # event sources that may set these fields; empty: all
    name: str = ""  # in explanations: "policy[2]", "default"

    def covers(self, field: str, document_type: str | None) -> bool:
        """Whether this rule covers a field of a document of this type."""
        if self.types and not (document_type and _matches(self.types, document_type)):
            return False
        return _matches(self.fields, field)

    def admits(self, source: str) -> bool:
        """Whether an event source may set this rule's fields; operators may set any."""
        return not self.sources or source == OPERATORS or _matches(self.sources, source)


OPERATORS = "//reconciler/operators"
FALLBACK = Rule(("*",), Strategy.MERGE, name="default")
# Usual practice (README.md, "Policy: who wins"): status belongs to the process, the owner to people.
DEFAULT_RULES = (
    Rule(("status", "State"), Strategy.EXTERNAL, name="default status"),
    Rule(("owner",), Strategy.PRESERVE, name="default owner"),
)


@attrs.frozen
class Scope:
    """
    Which documents are written: those that all of this covers. Others are observed: decided, but not written.

    Globs are matched case-sensitively. A larger `percent` covers all that a smaller one does.
    """

    documents: tuple[str, ...] = ()  # globs over keys; empty: all
    types: tuple[str, ...] = ()  # globs over document types; empty: all
    percent: float = 100.0  # of the documents that the globs cover

    def covers(self, key: str, document_type: str | None) -> bool:
        """Whether a document of a type is written."""
        if self.documents and not _matches(self.documents, key):
            return False
        if self.types and not (document_type and _matches(self.types, document_type)):
            return False
        return zlib.crc32(key.encode()) < self.percent / 100 * 2**32


EVERYTHING = Scope()
NOTHING = Scope(percent=0)


@attrs.frozen(eq=False)  # compared by identity: hashing its rules would cost more than a look-up saves
class Policy:
    """
    The rules in order; the first that covers a field decides it, and `FALLBACK` covers the rest.

    `writes` says for which documents a decision leads to a write.
    """

    rules: tuple[Rule, ...] = DEFAULT_RULES
    writes: Scope = EVERYTHING

    def rule(self, field: str, document_type: str | None) -> Rule:
        """Return the rule that decides a field."""
        return _first(self, field, document_type)

    def refuses(self, field: str, source: str) -> Rule | None:
        """
        Return the rule that forbids a source to set a field, `None` if it may.

        The log does not tell the document's type, so a rule narrowed to types forbids only if every rule that could
        decide the field forbids too.
        """
        return _forbidding(self, field, source)

    def keeps_out(self, source: str) -> Rule | None:
        """Return the first rule that does not admit a source, which then may not release a document whole."""
        return next((rule for rule in self.rules if not rule.admits(source)), None)


def _matches(globs: tuple[str, ...], name: str) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


@functools.lru_cache(maxsize=16_384)  # bounded: field names come from outside
def _first(policy: Policy, field: str, document_type: str | None) -> Rule:
    return next((rule for rule in policy.rules if rule.covers(field, document_type)), FALLBACK)


@functools.lru_cache(maxsize=16_384)  # bounded: field names come from outside
def _forbidding(policy: Policy, field: str, source: str) -> Rule | None:
    forbidding = None
    for rule in policy.rules:
        if not _matches(rule.fields, field):
            continue
        if rule.admits(source):
            return None
        forbidding = forbidding or rule
        if not rule.types:
            return forbidding
    return None
