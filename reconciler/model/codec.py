"""
The stored form of our values: canonical JSON, decoded straight into their types.

One library encodes and decodes, so that every accepted value can be written back.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from reconciler.model.action import OperatorAction
from reconciler.model.audit import AuditRecord
from reconciler.model.chain import Recorded
from reconciler.model.desired import Desired
from reconciler.model.document import Agreement
from reconciler.model.policy import Policy

T = TypeVar("T")

UNREADABLE = (ValueError, RecursionError)  # raised by decoding: `msgspec.DecodeError` is a ValueError

_encoder = msgspec.json.Encoder(order="deterministic")
_desired = msgspec.json.Decoder(Desired)
_agreement = msgspec.json.Decoder(Agreement)
_kinds: dict[bytes, msgspec.json.Decoder[AuditRecord] | msgspec.json.Decoder[OperatorAction]] = {
    b'{"decision":': msgspec.json.Decoder(AuditRecord),
    b'{"act":': msgspec.json.Decoder(OperatorAction),
}

encode = _encoder.encode
decode_desired = _desired.decode
decode_agreement = _agreement.decode


def encode_record(record: Recorded) -> bytes:
    """Return a record in the form of the audit chain (`model/chain.py`)."""
    return (b'{"act":%b}' if isinstance(record, OperatorAction) else b'{"decision":%b}') % encode(record)


def decode_record(text: bytes) -> Recorded:
    """Return a record of the audit chain; raises one of `UNREADABLE`."""
    for lead, kind in _kinds.items():
        if text.startswith(lead) and text.endswith(b"}") and b"\n" not in text:
            return kind.decode(text[len(lead) : -1])  # which fails on anything beside the one record
    raise ValueError("a record is either a decision or an action")


def digest(value: object) -> str:
    """Return a short name for a value: the same value gives the same name (128 bits, hexadecimal)."""
    return digest_of(_encoder.encode(value))


def digest_of(text: bytes) -> str:
    """Return the short name of a value that is encoded already."""
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def policy_digest(policy: Policy) -> str:
    """Return the name under which a policy is kept."""
    return digest(policy)


def decode_policy(text: bytes) -> Policy:
    """Return a stored policy."""
    return msgspec.json.decode(text, type=Policy)


def readable_policies(texts: Mapping[str, bytes]) -> dict[str, Policy]:
    """Return the stored policies that can be read, by digest; the trail's verifier reports the others."""
    found = {}
    for name, text in texts.items():
        with contextlib.suppress(*UNREADABLE):
            found[name] = decode_policy(text)
    return found
