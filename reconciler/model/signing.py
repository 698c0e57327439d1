"""Signing: the keys, and the places where signing began."""

import base64
import hashlib
import hmac
from collections.abc import Mapping

import attrs

from reconciler.model.stamp import Partition

KEY = r"[A-Za-z0-9+/_-]{43,1024}={0,2}"  # 32 bytes in base64, and more
_ID_DIGITS = 16


@attrs.frozen
class Keys:
    """The key to sign with, and previous keys that are still trusted."""

    key: bytes = attrs.field(repr=False)
    previous: tuple[bytes, ...] = attrs.field(default=(), repr=False)

    @property
    def id(self) -> str:
        """Return a name of the key, which does not reveal it."""
        return hmac.digest(self.key, b"windchill-reconciler key", hashlib.sha256).hex()[:_ID_DIGITS]


@attrs.frozen
class Noted:
    """
    The end of each partition of change, decision and outcome log when signing began.

    Earlier records may be unsigned. `key` names the key that signed the announcement in the outcome log; empty: it is
    not announced yet with the present one.
    """

    since: tuple[tuple[str, int, int], ...]  # topic, partition, offset
    key: str = ""

    @property
    def places(self) -> Mapping[Partition, int]:
        """The offsets by partition."""
        return {Partition(topic, partition): offset for topic, partition, offset in self.since}


def noted(places: Mapping[Partition, int], key: str = "") -> Noted:
    """Return places in the form in which they are stored."""
    return Noted(tuple(sorted((*place, offset) for place, offset in places.items())), key)


def keys(key: str, previous: str = "") -> Keys | None:
    """Return the keys from settings in base64, previous ones one a line; `None`: nothing is signed."""
    return Keys(_bytes(key), tuple(map(_bytes, previous.split()))) if key else None


def _bytes(text: str) -> bytes:
    plain = text.translate(str.maketrans("-_", "+/")).rstrip("=")
    return base64.b64decode(plain + "=" * (-len(plain) % 4))
