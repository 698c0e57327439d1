"""
The stored form of our values: canonical JSON, decoded straight into their types.

One library encodes and decodes, so that every accepted value can be written back.

A row's desired state is stored by event: stamp, actor and reason of an event are most of a row, and are there once for
all fields that the event still decides. Fields with anything else than one plain value stay as they are.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from reconciler.model.action import OperatorAction
from reconciler.model.audit import AuditRecord
from reconciler.model.chain import Checkpoint, Recorded
from reconciler.model.desired import Claims, Desired
from reconciler.model.document import Agreement
from reconciler.model.event import Event, Outgoing
from reconciler.model.policy import Policy
from reconciler.model.value import Json


class _Decision(msgspec.Struct, frozen=True):
    decision: AuditRecord


class _Action(msgspec.Struct, frozen=True):
    act: OperatorAction


class _Checkpoint(msgspec.Struct, frozen=True):
    checkpoint: Checkpoint


UNREADABLE = (ValueError, RecursionError)  # raised by decoding: `msgspec.DecodeError` is a ValueError


class StoredDesired(NamedTuple):
    """A row's desired state as it is stored: first what each event still decides, in the order of their stamps."""

    events: list[Event]
    rest: Desired  # with the other fields

    def claims(self) -> Claims:
        """Return the desired state by event."""
        newest: dict[str, Event] = {}
        for event in self.events:
            newest.update(dict.fromkeys(event.set, event))
        return Claims(newest, self.rest)

    def desired(self) -> Desired:
        """Return the desired state by field."""
        return self.claims().desired()


_encoder = msgspec.json.Encoder(order="deterministic")
_desired = msgspec.json.Decoder(StoredDesired)
_agreement = msgspec.json.Decoder(Agreement)
_decision = msgspec.json.Decoder(_Decision)
_action = msgspec.json.Decoder(_Action)
_checkpoint = msgspec.json.Decoder(_Checkpoint)
_kinds: dict[bytes, msgspec.json.Decoder[AuditRecord] | msgspec.json.Decoder[OperatorAction]] = {
    b'{"decision":': msgspec.json.Decoder(AuditRecord),
    b'{"act":': msgspec.json.Decoder(OperatorAction),
}

encode = _encoder.encode
decode_agreement = _agreement.decode
# Of records to be published: JSON would hold their bytes in Base64.
encode_message = msgspec.msgpack.encode
decode_message = msgspec.msgpack.Decoder(Outgoing).decode


def encode_claims(claims: Claims) -> bytes:
    """Return the stored form of a row's desired state: the same state gives the same bytes."""
    said: dict[tuple[object, ...], dict[str, Json]] = {}  # by all of an event up to its values
    for name, event in claims.newest.items():
        said.setdefault(event[:10], {})[name] = event.set[name]
    return encode(([(*event, said[event]) for event in sorted(said)], claims.rest))


def encode_desired(desired: Desired) -> bytes:
    """Return the stored form of a desired state by field."""
    return encode_claims(Claims.of(desired))


def decode_claims(text: bytes) -> Claims:
    """Return a stored desired state by event; raises one of `UNREADABLE`."""
    return _desired.decode(text).claims()


def decode_desired(text: bytes) -> Desired:
    """Return a stored desired state by field; raises one of `UNREADABLE`."""
    return decode_claims(text).desired()


def encode_record(record: Recorded) -> bytes:
    """Return a record in the form of the audit chain (`model/chain.py`)."""
    return (b'{"act":%b}' if isinstance(record, OperatorAction) else b'{"decision":%b}') % encode(record)


def decode_record(text: bytes) -> Recorded:
    """Return a record of the audit chain; raises one of `UNREADABLE`."""
    for lead, kind in _kinds.items():
        if text.startswith(lead) and text.endswith(b"}") and b"\n" not in text:
            return kind.decode(text[len(lead) : -1])  # which fails on anything beside the one record
    raise ValueError("a record is either a decision or an action")


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint in the form of its chain."""
    return encode(_Checkpoint(checkpoint))


def decode_checkpoint(text: bytes) -> Checkpoint:
    """Return a checkpoint as its chain has it; raises one of `UNREADABLE`."""
    found = _checkpoint.decode(text)
    if encode(found) != text:
        raise ValueError("a checkpoint has no other members")
    return found.checkpoint


def decode_decision(text: bytes) -> AuditRecord:
    """Return a record of the audit chain that is a decision; raises one of `UNREADABLE`."""
    return _decision.decode(text).decision


def decode_action(text: bytes) -> OperatorAction:
    """Return a record of the audit chain that is an action; raises one of `UNREADABLE`."""
    return _action.decode(text).act


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
