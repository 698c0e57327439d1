"""
What Windchill answered: expected things as values (ARCHITECTURE.md), whatever the dialect.

A dialect decides what a status code means and says so here. For everyone else `status` is only a text for people.
"""

import attrs

from reconciler.model.snapshot import Snapshot, Token


@attrs.frozen
class Unchanged:
    """The document is as it was when it was last read (304)."""


@attrs.frozen
class Written:
    """
    The write was applied. `snapshot` when the server showed the document after it, else perhaps a `token`.

    `again` says why the document is to be read again at once: somebody has changed it since, or it could not be read.
    """

    snapshot: Snapshot | None
    token: Token | None
    again: str = ""


@attrs.frozen
class VersionConflict:
    """The guard failed: the document has changed since our read. Nothing was applied."""

    status: int
    message: str


@attrs.frozen
class Refused:
    """
    The server does not accept this write (400, 422, a business rule); `fields` are those it names.

    `perhaps_stale`: it may have refused because the document has changed since our read. A read tells.
    """

    status: int
    message: str
    fields: tuple[str, ...] = ()
    perhaps_stale: bool = False


@attrs.frozen
class Locked:
    """Checked out or locked by somebody (423, or a 409 that says so). `kind` names a lock that is no person's."""

    status: int
    message: str
    holder: str | None = None
    kind: str = ""


@attrs.frozen
class Released:
    """No lock of ours is left on the document."""


@attrs.frozen
class NotAvailable:
    """
    The server does not give us this document: it is forbidden (403), not there (404) or gone (410).

    `forbidden`: it is there, but we lack a right, perhaps for this write alone. `perhaps_stale`: as in `Refused`.
    """

    status: int
    message: str
    forbidden: bool = False
    perhaps_stale: bool = False


@attrs.frozen
class Unauthorised:
    """Our credentials are not accepted (401), even after they were refreshed once."""

    message: str


@attrs.frozen
class Throttled:
    """
    The server asks us to come back later (429, 503); `retry_after_s` when it says when.

    `perhaps_applied`: the write may have been applied all the same, as behind a proxy that has passed it on.
    """

    status: int
    message: str
    retry_after_s: float | None = None
    perhaps_applied: bool = False


@attrs.frozen
class Failed:
    """The server failed or could not be reached, and surely nothing was applied (a read, a refused connection)."""

    message: str
    status: int | None = None


@attrs.frozen
class Unknown:
    """A write was sent and no usable answer came: it may or may not have been applied. Read before anything else."""

    message: str


@attrs.frozen
class Unguarded:
    """The server says that our write carried no guard (428). This is always a bug of ours: raise an alarm."""

    status: int
    message: str


@attrs.frozen
class Broken:
    """An answer that is not what the protocol promises: an HTML login page, a wrong type, too large. Never data."""

    message: str


Trouble = NotAvailable | Unauthorised | Throttled | Failed | Broken
ReadAnswer = Snapshot | Unchanged | Trouble
ReleaseAnswer = Released | Locked | Trouble
WriteAnswer = Written | VersionConflict | Refused | Locked | Unknown | Unguarded | Trouble
