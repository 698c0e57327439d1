"""Records as lines of a file: events as they are, with the time of recording if it ranks claims; dead letters whole."""

import base64

import msgspec
import orjson

from reconciler.errors import LogError
from reconciler.model import instant
from reconciler.model.event import Outgoing

REASON_HEADERS = "__reconciler.errors."


def event(record: Outgoing) -> bytes:
    """A line for a structured event; headers and key are dropped, since the event names its type and subject."""
    try:
        event = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError as error:
        raise LogError(
            f"a record for {record.topic} is not JSON ({error}): a file takes structured CloudEvents"
        ) from error
    if not isinstance(event, dict) or "specversion" not in event:
        raise LogError(f"a record for {record.topic} has no specversion: a file takes structured CloudEvents only")
    # Inside a JSON text, raw line breaks can only be white space between its tokens.
    return (record.value or b"").replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"


def stamped(line: bytes, now_us: int) -> bytes:
    """Return an event's line with the time at which it is recorded; all other members stay as they are written."""
    members = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    members["recordedtime"] = msgspec.Raw(msgspec.json.encode(instant.from_us(now_us)))
    return msgspec.json.encode(members) + b"\n"


def dead_letter(record: Outgoing) -> bytes:
    """A line that keeps a dead letter whole (bytes in Base64) and shows why it is one."""
    reasons = {
        name: (text or b"").decode(errors="replace") for name, text in record.headers if name.startswith(REASON_HEADERS)
    }
    letter = {
        "key": _base64(record.key),
        "value": _base64(record.value),
        "headers": [[name, _base64(text)] for name, text in record.headers if name not in reasons],
        "reasons": reasons,
    }
    return orjson.dumps(letter) + b"\n"


def _base64(original: bytes | None) -> str | None:
    return None if original is None else base64.b64encode(original).decode()
