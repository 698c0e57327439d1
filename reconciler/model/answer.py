"""
Windchill's answers: expected results as values (ARCHITECTURE.md), the same for every dialect.

Only a dialect knows the meaning of a status code, and returns one of these. Elsewhere `status` is only shown to people.
"""

import msgspec

from reconciler.model.snapshot import Snapshot, Token


class Unchanged(msgspec.Struct, frozen=True):
    """The document is the same as when it was last read (304)."""


class Written(msgspec.Struct, frozen=True):
    """
    The write was applied. `snapshot` if the server showed the document after it, else perhaps a `token`.

    `again` says why the document must be read again at once: someone has changed it since, or it could not be read.
    """

    snapshot: Snapshot | None
    token: Token | None
    again: str = ""


class VersionConflict(msgspec.Struct, frozen=True):
    """The guard failed: the document has changed since our read. Nothing was applied."""

    status: int
    message: str


class Refused(msgspec.Struct, frozen=True):
    """
    The server refuses this write (400, 422, a business rule); `fields` are those that it names.

    `perhaps_stale`: the reason may be that the document has changed since our read. Another read shows it.
    """

    status: int
    message: str
    fields: tuple[str, ...] = ()
    perhaps_stale: bool = False


class Locked(msgspec.Struct, frozen=True):
    """Someone has it checked out or locked (423, or a 409 that says so). `kind` names a lock that is no person's."""

    status: int
    message: str
    holder: str | None = None
    kind: str = ""


class Released(msgspec.Struct, frozen=True):
    """No lock of ours is on the document."""


class NotAvailable(msgspec.Struct, frozen=True):
    """
    The server does not give us this document: it is forbidden (403), not there (404) or gone (410).

    `forbidden`: it is there, but we lack a right, perhaps for this write alone. `perhaps_stale`: as in `Refused`.
    `absent`: the server knows no such document, so one may yet be made.
    """

    status: int
    message: str
    forbidden: bool = False
    perhaps_stale: bool = False
    absent: bool = False


class Unauthorised(msgspec.Struct, frozen=True):
    """Our credentials are not accepted (401), even after they were refreshed once."""

    message: str


class Throttled(msgspec.Struct, frozen=True):
    """
    The server asks us to come back later (429, 503); `retry_after_s` when it says when.

    `perhaps_applied`: the write may have been applied all the same, as behind a proxy that has passed it on.
    """

    status: int
    message: str
    retry_after_s: float | None = None
    perhaps_applied: bool = False


class Failed(msgspec.Struct, frozen=True):
    """The server failed or could not be reached, and nothing can have been applied (a read, a refused connection)."""

    message: str
    status: int | None = None


class Unknown(msgspec.Struct, frozen=True):
    """A write was sent and no usable answer came: it may or may not have been applied. Read before anything else."""

    message: str


class Unguarded(msgspec.Struct, frozen=True):
    """The server says that our write carried no guard (428). This is always a bug of ours: raise an alarm."""

    status: int
    message: str


class Broken(msgspec.Struct, frozen=True):
    """An answer that breaks the protocol: an HTML login page, a wrong type, too large. Never data."""

    message: str


class NotSent(msgspec.Struct, frozen=True):
    """We did not send the request, as another replica may have taken our place. It says nothing about the server."""

    message: str = "not sent, because another replica may have taken our place"


Trouble = NotAvailable | Unauthorised | Throttled | Failed | Broken | NotSent
ReadAnswer = Snapshot | Unchanged | Trouble
ReleaseAnswer = Released | Locked | Trouble
WriteAnswer = Written | VersionConflict | Refused | Locked | Unknown | Unguarded | Trouble
