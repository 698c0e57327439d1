"""
The audit chain: each record carries a link, a hash over that record and all before it.

Decisions (`model/audit.py`) and operators' actions (`model/action.py`) are in one chain, in the order in which they
came; each replica of a shared store appends to a chain of its own. What is hashed, so that another program can verify a
trail. The link of record n is

    link(n) = SHA-256( TAG, link(n - 1), n, record )

the four one after the other, with nothing between them:

- TAG: the 29 bytes of `windchill-reconciler/audit/2` in ASCII and a line feed (0x0A);
- link(n - 1): the 32 bytes of the link before; for a chain's first record, GENESIS, which is 32 zero bytes;
- n: the record's number in 8 bytes, the most significant first; the records of chain c are numbered from c × SPAN + 1
  on without gaps (chain 0, often the only one: 1, 2, 3, …), so a number is unique, and names its chain;
- record: the record byte for byte as it is exported, however the store packs it: JSON in UTF-8, an object with one
  member, which is named after its kind, `{"decision":{…}}` or `{"act":{…}}`, and holds document and time too.

Checkpoints are a chain too, CHECKPOINTS: each is a record `{"checkpoint":{"at_us":T,"heads":["NUMBER:HASH",…]}}` with
the heads that all other chains had at one moment. So the head of this one chain proves all others up to then. One that
has `"lost":["NUMBER:HASH",…]` too tells that the store went back: it has only what came before those records.

All parts before the record have a fixed length, so different inputs never give the same bytes, and a record of one kind
or chain can't be passed off as one of another.
"""

import hashlib
import re
from typing import NamedTuple

import msgspec

from reconciler.model.action import OperatorAction
from reconciler.model.audit import AuditRecord

Recorded = AuditRecord | OperatorAction
TAG = b"windchill-reconciler/audit/2\n"
GENESIS = bytes(32)
SPAN = 10**12  # numbers of each chain
CHECKPOINTS = 99  # the number of the chain of checkpoints

_NUMBER_BYTES = 8
_HEAD = re.compile(r"([1-9][0-9]{0,18}):([0-9a-fA-F]{64})")


class Head(NamedTuple):
    """A record's number and link. The newest one proves the whole chain, and is worth keeping elsewhere."""

    number: int
    link: bytes

    @property
    def chain(self) -> int:
        """Return the number of the chain."""
        return self.number // SPAN

    @property
    def records(self) -> int:
        """Return how many records the chain has up to here."""
        return self.number % SPAN

    def __str__(self) -> str:
        """Return `NUMBER:HASH`."""
        return f"{self.number}:{self.link.hex()}"


class Checkpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    The newest record of each chain at one moment, as `Head`s are printed.

    `lost`: those that a checkpoint announced before, and that the store does not have any more, after a failover or a
    restore.
    """

    at_us: int
    heads: tuple[str, ...]
    lost: tuple[str, ...] = ()


class Cut(msgspec.Struct, frozen=True):
    """
    A piece of a chain that was archived in a file, and is deleted from the store.

    `after` and `upto` are the heads, as they are printed, of the record before the piece and of its last one. `act` is
    the number of the operator's action that tells of it.
    """

    after: str
    upto: str
    since_us: int  # the earliest time of its records, and the latest
    until_us: int
    file: str  # its name, without a directory
    sha256: str  # of the file, in hexadecimal
    act: int = 0  # given by the store

    @property
    def begin(self) -> Head:
        """Return the head of the chain before the piece."""
        return _head(self.after)

    @property
    def end(self) -> Head:
        """Return the head of the chain after the piece."""
        return _head(self.upto)

    @property
    def chain(self) -> int:
        """Return the number of the chain."""
        return self.end.chain

    def has(self, number: int) -> bool:
        """Whether the record of this number is in it."""
        return self.begin.number < number <= self.end.number


BEGIN = Head(0, GENESIS)  # of a chain 0 without records


class Entry(msgspec.Struct, frozen=True):
    """
    One record as it is stored, not verified yet.

    `columns` are those by which a store finds it, as in `columns_of`, or empty if one has a wrong type. A file has
    none. `ordinal` is as in `AuditRecord`.
    """

    number: int
    previous: bytes | None  # the link that is stored for the record before; None: there is no such record
    link: bytes
    record: bytes
    columns: tuple[str | int | None, ...] | None = None
    ordinal: int | msgspec.UnsetType = msgspec.UNSET

    @property
    def chain(self) -> int:
        """Return the number of the chain."""
        return self.number // SPAN

    @property
    def is_first(self) -> bool:
        """Whether it is numbered as its chain's first record."""
        return self.number % SPAN == 1


def begin(number: int) -> Head:
    """Return the head of a chain without records."""
    return Head(number * SPAN, GENESIS)


def link(previous: bytes, number: int, record: bytes) -> bytes:
    """Return the link of a record, as defined above."""
    return hashlib.sha256(b"".join((TAG, previous, number.to_bytes(_NUMBER_BYTES, "big"), record))).digest()


def extend(head: Head, record: bytes) -> Head:
    """Return the head after one more record."""
    number = head.number + 1
    return Head(number, link(head.link, number, record))


def place(record: Recorded) -> int:
    """Return what orders the records of one document."""
    return record.id if isinstance(record.ordinal, msgspec.UnsetType) else record.ordinal


def columns_of(record: Recorded) -> tuple[str | int | None, ...]:
    """Return what a store finds a record by: document and time, and of an action target, actor and kind."""
    of_action = (record.target, record.who, record.kind) if isinstance(record, OperatorAction) else (None, None, None)
    return (record.document, record.at_us, *of_action)


def _head(text: str) -> Head:
    number, _, link = text.partition(":")
    return Head(int(number), bytes.fromhex(link))


def parse_head(text: str) -> Head:
    """Return a head that was kept as `NUMBER:HASH`; raises ValueError."""
    found = _HEAD.fullmatch(text)
    if found is None:
        raise ValueError("a head is NUMBER:HASH, the hash being 64 hexadecimal digits")
    return Head(int(found[1]), bytes.fromhex(found[2]))
