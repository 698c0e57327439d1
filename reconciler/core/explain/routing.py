"""Routing: which notices go to whom, by field, document type, source and last modifier, and when no one is told."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from fnmatch import fnmatchcase

import attrs

from reconciler.core.explain.notices import Notice
from reconciler.model.document import Document

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@attrs.frozen(kw_only=True)
class Quiet:
    """Hours of each day, and whole days, in which nothing is sent, by the clock of a time zone."""

    since_min: int = 0  # minutes of the day
    until_min: int = 0  # before `since_min`: of the next day; equal: no such hours
    days: frozenset[int] = frozenset()  # Monday is 0
    zone: tzinfo = UTC

    def covers(self, at_us: int) -> bool:
        """Whether nothing is sent at a moment."""
        moment = (_EPOCH + timedelta(microseconds=at_us)).astimezone(self.zone)
        minute = moment.hour * 60 + moment.minute
        after, before = minute >= self.since_min, minute < self.until_min
        over_midnight = self.since_min > self.until_min
        return moment.weekday() in self.days or ((after or before) if over_midnight else (after and before))


@attrs.frozen(kw_only=True)
class Route:
    """
    What one rule sends. Globs are matched case-sensitively; empty: all.

    A rule with `fields` sends conflicts only; one with `types`, `sources` or `modified_by` sends what concerns a
    document.
    """

    kinds: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    modified_by: tuple[str, ...] = ()  # who changed the document last in Windchill
    quiet: Quiet = Quiet()

    @property
    def asks_document(self) -> bool:
        """Whether the document itself decides."""
        return bool(self.types or self.sources or self.modified_by)

    def may_take(self, notice: Notice) -> bool:
        """Whether the rule sends a notice, as far as that depends on the notice alone. What is over is not sent."""
        if notice.over or (self.kinds and not _matches(self.kinds, (notice.kind.value,))):
            return False
        if self.fields and not _matches(self.fields, (notice.field,)):
            return False
        return bool(notice.document) or not self.asks_document

    def takes(self, notice: Notice, document: Document | None) -> bool:
        """Whether the rule sends a notice about a document."""
        snapshot = None if document is None else document.agreement.snapshot
        kind, modifier = (None, None) if snapshot is None else (snapshot.type, snapshot.modified_by)
        return (
            (not self.types or _matches(self.types, (kind or "",)))
            and (not self.modified_by or _matches(self.modified_by, (modifier or "",)))
            and (not self.sources or _matches(self.sources, sources(notice, document)))
        )


def sources(notice: Notice, document: Document | None) -> frozenset[str]:
    """Return whose claims a notice is about: of a conflict its claim's source, else all of the document's."""
    if notice.conflict is not None:
        return frozenset((notice.conflict.stamp.source,))
    fields = {} if document is None else document.desired.fields
    return frozenset(claim.stamp.source for field in fields.values() for claim in field.claims)


def _matches(globs: tuple[str, ...], names: Iterable[str]) -> bool:
    return any(fnmatchcase(name, glob) for name in names if name for glob in globs)
