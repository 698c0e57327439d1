"""
Documents and their versions, whatever dialect shows them.

Every change goes through `Documents.write` or `Documents.delete`, which make the new version and its history entry in
one step. Versions are frozen: a reader may keep one while others write.
"""

import bisect
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from attrs import frozen

from reconciler.simulator import fields
from reconciler.simulator.history import Entry, History, Writer
from reconciler.simulator.settings import Behaviour

READ_ONLY = frozenset(("id", "modifiedBy", "modifiedOn"))


@frozen
class Version:
    """One version of a document."""

    fields: dict[str, Any]
    """The whole document as JSON, read-only fields included. Never changed in place."""
    iteration: int
    token: str
    modified: datetime
    body: bytes
    """`fields` as bytes; made once, shown often."""


@frozen
class Condition:
    """A standing refusal for one document: 403, 404, 410 or the like."""

    status: int
    message: str
    writes_only: bool


class Documents:
    """All documents, their locks and standing refusals, and the history of their writes."""

    def __init__(
        self,
        behaviour: Behaviour,
        clock: Callable[[], datetime],
        history_max: int,
        written: Callable[[Entry], None] = lambda _: None,
    ) -> None:
        self.behaviour = behaviour
        self._written = written
        self.history = History(history_max)
        self.locks: dict[str, str] = {}
        """Document key → who has it checked out."""
        self.conditions: dict[str, Condition] = {}
        self._clock = clock
        self.former: set[str] = set()
        """Keys of old revisions, which only the dialect `wrs` shows."""
        self._versions: dict[str, Version] = {}
        self._keys: list[str] = []
        self._iterations: dict[str, int] = {}
        """The last iteration of deleted documents, so that no token is used again for another version."""

    def __len__(self) -> int:
        return len(self._versions)

    def load(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """Take documents as they are, without history; each has an `id`."""
        now = self._clock()
        for document in documents:
            key = str(document["id"])
            stamped = {**document, "id": key}
            stamped.setdefault("modifiedBy", "administrator")
            stamped.setdefault("modifiedOn", self._shown(now))
            modified = datetime.fromisoformat(stamped["modifiedOn"]).astimezone(UTC)
            self._versions[key] = _version(stamped, 1, modified)
        self._keys = sorted(self._versions)

    def get(self, key: str) -> Version | None:
        return self._versions.get(key)

    def keys(self) -> list[str]:
        """All keys in order. Callers must not change the list."""
        return self._keys

    def keep(self, key: str, version: Version) -> None:
        """Keep an old revision under a key of its own, without a history entry."""
        self._versions[key] = version
        self.former.add(key)
        bisect.insort(self._keys, key)

    def holder(self, key: str, user: str) -> str | None:
        """Who else has the document checked out; None when `user` may write."""
        holder = self.locks.get(key)
        return None if holder == user else holder

    def write(self, key: str, document: Mapping[str, Any], writer: Writer, *, stamped: bool = True) -> Version:
        """
        Make `document` the current version, written by `writer`; its read-only fields are set here.

        Not `stamped`: the last writer and time of modification stay as they were.
        """
        old = self._versions.get(key)
        changes = fields.changes({} if old is None else old.fields, document, READ_ONLY)
        now = self._clock()
        iteration = (self._iterations.pop(key, 0) if old is None else old.iteration) + 1
        if stamped or old is None:
            stamp, modified = {"modifiedBy": writer.who, "modifiedOn": self._shown(now)}, now
        else:
            stamp, modified = {name: old.fields[name] for name in ("modifiedBy", "modifiedOn")}, old.modified
        new = self._versions[key] = _version({**document, "id": key, **stamp}, iteration, modified)
        if old is None:
            bisect.insort(self._keys, key)
        before = None if old is None else old.token
        self._written(self.history.record(now, key, writer, (before, new.token), changes))
        return new

    def edit(self, key: str, paths: Mapping[str, Any], writer: Writer) -> Entry:
        """Set fields by dotted paths as a person does, whatever the version; KeyError if there is no document."""
        current = self._versions[key]
        patch = fields.nested(paths)
        self.write(key, fields.merge(current.fields, patch, self.behaviour.cleared_fields), writer)
        return self.history.newest

    def delete(self, key: str, writer: Writer) -> None:
        old = self._versions.pop(key)
        self._keys.remove(key)
        self._iterations[key] = old.iteration
        changes = fields.changes(old.fields, {}, READ_ONLY)
        self._written(self.history.record(self._clock(), key, writer, (old.token, None), changes))

    def _shown(self, moment: datetime) -> str:
        return moment.isoformat(timespec=self.behaviour.modified_on_precision).replace("+00:00", "Z")


def _version(document: dict[str, Any], iteration: int, modified: datetime) -> Version:
    # Tokens look like revision.iteration, and order only by chance: clients must not compare them.
    token = f"v1.{iteration // 1000 + 1}.{iteration % 1000}"
    return Version(document, iteration, token, modified, orjson.dumps(document))
