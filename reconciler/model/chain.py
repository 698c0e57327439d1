"""
The audit chain: each audit record carries a link, which stands for that record and for all before it.

What is hashed, so that another program can verify a trail. The link of record n is

    link(n) = SHA-256( TAG, link(n - 1), n, record )

the four one after the other, with nothing between them:

- TAG: the 29 bytes of `windchill-reconciler/audit/1` in ASCII and a line feed (0x0A);
- link(n - 1): the 32 bytes of the link before; of the first record, GENESIS, which is 32 zero bytes;
- n: the record's number in 8 bytes, the most significant first; records are numbered 1, 2, 3, …;
- record: the record byte for byte as it is stored and exported: JSON in UTF-8, which holds document and time too.

All that stands before the record has a fixed length, so no two different inputs run into the same bytes.

The records of operators' acts (`model/act.py`) are a chain of their own: the same, under the 28 bytes of
`windchill-reconciler/acts/1` and a line feed.
"""

import hashlib
import re
from typing import NamedTuple

import attrs

TAG = b"windchill-reconciler/audit/1\n"
ACTS_TAG = b"windchill-reconciler/acts/1\n"
GENESIS = bytes(32)

_NUMBER_BYTES = 8
_HEAD = re.compile(r"([1-9][0-9]{0,18}):([0-9a-fA-F]{64})")


class Head(NamedTuple):
    """A record's number and link. The newest one's stands for the whole trail, and is worth keeping elsewhere."""

    number: int
    link: bytes

    def __str__(self) -> str:
        """Return `NUMBER:HASH`, as people keep it."""
        return f"{self.number}:{self.link.hex()}"


BEGIN = Head(0, GENESIS)  # of a trail without records


@attrs.frozen
class Entry:
    """One audit record as it is stored: nothing here has been believed yet."""

    number: int
    previous: bytes | None  # the link that is stored for the record before; None: there is no such record
    link: bytes
    record: bytes
    columns: tuple[bytes, bytes] | None = None  # document and time, by which a store finds it; a file has none


def link(previous: bytes, number: int, record: bytes, tag: bytes = TAG) -> bytes:
    """Return the link of a record: see the top of this file."""
    return hashlib.sha256(b"".join((tag, previous, number.to_bytes(_NUMBER_BYTES, "big"), record))).digest()


def extend(head: Head, record: bytes, tag: bytes = TAG) -> Head:
    """Return the head once a record has followed."""
    number = head.number + 1
    return Head(number, link(head.link, number, record, tag))


def parse_head(text: str) -> Head:
    """Return a head that was kept as `NUMBER:HASH`; raises ValueError."""
    found = _HEAD.fullmatch(text)
    if found is None:
        raise ValueError("a head is NUMBER:HASH, the hash being 64 hexadecimal digits")
    return Head(int(found[1]), bytes.fromhex(found[2]))
