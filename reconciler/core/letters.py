"""Letters: dead letters as the dead-letter log holds them: each is a whole record and why it was refused."""

import base64
from collections.abc import Mapping, Sequence

import msgspec

from reconciler.core import outcomes
from reconciler.model.event import DeadLetter, Header, Record
from reconciler.model.stamp import Place


class _Line(msgspec.Struct):
    """What a file log keeps of a dead letter: bytes in Base64, and the reasons apart."""

    key: str | None
    value: str | None
    headers: list[tuple[str, str | None]]
    reasons: dict[str, str]


_line = msgspec.json.Decoder(_Line).decode


def read(record: Record) -> DeadLetter | None:
    """Return the dead letter that a record of the dead-letter log holds, None for one that holds none."""
    try:
        reasons = {name: (text or b"").decode() for name, text in record.headers if name.startswith(outcomes.ERRORS)}
        if reasons:
            headers = tuple(header for header in record.headers if header[0] not in reasons)
            return _letter(record, record.key, record.value, headers, reasons)
        line = _line(record.value or b"")
        headers = tuple((name, _bytes(text)) for name, text in line.headers)
        return _letter(record, _bytes(line.key), _bytes(line.value), headers, line.reasons)
    except (msgspec.DecodeError, ValueError, KeyError):
        return None


def _letter(
    record: Record, key: bytes | None, value: bytes | None, headers: Sequence[Header], reasons: Mapping[str, str]
) -> DeadLetter:
    said = {name.removeprefix(outcomes.ERRORS): text for name, text in reasons.items()}
    return DeadLetter(
        place=Place(said["topic"], int(said["partition"]), int(said["offset"])),
        timestamp=record.timestamp,
        key=key,
        value=value,
        headers=tuple(headers),
        stage=said["stage"],
        reason=said["message"],
        refused_at_us=max(record.timestamp, 0) * 1000,
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
