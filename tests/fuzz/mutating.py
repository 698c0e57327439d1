"""What hostile input looks like: valid input with a few things done to it that a fuzzer would think of."""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

CORPUS = Path(__file__).parent / "corpus"
SCHEMAS = Path(__file__).parents[2] / "schemas" / "examples"
HANG_CPU_S = 2.0  # a guard against hangs and quadratic work, not a measurement: every example takes milliseconds

TOKENS = [
    *(b"null", b"true", b"NaN", b"Infinity", b"-Infinity", b"-0", b"1e400", b"1E-400", b"0x1", b"01", b"+1", b"."),
    *(b"9" * 19, b"9" * 40, b"9" * 4999, b"0." + b"1" * 999, b"18446744073709551616", b"-9223372036854775809"),
    *(b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u0000"', b'"\\u001b[2J"', b"\xed\xa0\x80", b"\xc3\x28", b"\xff\xfe"),
    *(b"\xef\xbb\xbf", b"\x00", b"\x1b]0;x\x07", b"\xe2\x80\xae", b"\xc2\x9b2J", b"\x85", b"\xe2\x80\xa8", b"\xc2\xa0"),
    *(b"[" * 40, b"]" * 40, b'{"a":' * 40, b"[" * 2000, b'{"a":' * 1200, b"{}", b"[]", b'""', b",", b":", b'"', b"\\"),
    *(b"\r\n", b"\n", b"\r", b"\t", b" " * 5000, b"%00", b"%2e%2e", b"..", b"*", b"W/", b"'", b";", b"=", b"<title>"),
    *(b"2016-12-31T23:59:60Z", b"0000-01-01T00:00:00Z", b"9999-12-31T23:59:59-23:59", b"2026-11-22T24:00:00Z"),
    *(b"2026-11-22T10:00:00." + b"1" * 30 + b"Z", b"2026-11-22t10:00:00z", b"0001-01-01T00:00:00+14:00"),
]


@contextmanager
def bounded() -> Iterator[None]:
    """Fail when the processor spent far more on it than anything of this size may take."""
    began_s = time.process_time()
    yield
    spent_s = time.process_time() - began_s
    assert spent_s < HANG_CPU_S, f"{spent_s:.1f} s of processor time"


def seeds(*patterns: str) -> list[bytes]:
    """The corpus' files, and the examples of the schemas, that match."""
    found = [path for folder in (CORPUS, SCHEMAS) for pattern in patterns for path in sorted(folder.glob(pattern))]
    assert found, patterns
    return [path.read_bytes() for path in found]


def _flip(chance: random.Random, text: bytes) -> bytes:
    at = chance.randrange(len(text))
    return text[:at] + bytes([text[at] ^ (1 << chance.randrange(8))]) + text[at + 1 :]


def _cut(chance: random.Random, text: bytes) -> bytes:
    return text[: chance.randrange(len(text))]


def _drop(chance: random.Random, text: bytes) -> bytes:
    at = chance.randrange(len(text))
    return text[:at] + text[at + chance.choice((1, 2, 4, 16)) :]


def _insert(chance: random.Random, text: bytes) -> bytes:
    at = chance.randrange(len(text))
    return text[:at] + chance.choice(TOKENS) + text[at:]


def _overwrite(chance: random.Random, text: bytes) -> bytes:
    at, token = chance.randrange(len(text)), chance.choice(TOKENS)
    return text[:at] + token + text[at + min(len(token), 40) :]


def _repeat(chance: random.Random, text: bytes) -> bytes:
    at = chance.randrange(len(text))
    end = min(len(text), at + chance.choice((1, 8, 40, 200)))
    return text[:at] + text[at:end] * chance.choice((2, 3, 50, 2000)) + text[end:]


def _noise(chance: random.Random, text: bytes) -> bytes:
    at = chance.randrange(len(text))
    return text[:at] + chance.randbytes(chance.choice((1, 3, 9))) + text[at:]


_WAYS: list[Callable[[random.Random, bytes], bytes]] = [_flip, _cut, _drop, _insert, _overwrite, _repeat, _noise]
SIZE_MAX = 1_100_000  # a little more than a record may have


def mutated(texts: list[bytes]) -> st.SearchStrategy[bytes]:
    """One of the texts with up to four things done to its bytes. Everything is drawn from one number, for speed."""

    def make(number: int) -> bytes:
        chance = random.Random(number)
        text = chance.choice(texts)
        for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 4))):
            text = chance.choice(_WAYS)(chance, text or b" ")[:SIZE_MAX]
        return text

    return st.integers(0, 2**64 - 1).map(make)


_LEAVES: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 2**63, -(2**63) - 1, 10**40, 10**400, 1e308, -0.0, 5e-324, "", " ", "x", "\0"),
    *("\x1b[2J", "\u202e", "\x85", "é", "\U0001f600", "x" * 1000, "y" * 200_000, "\u200b" * 70_000, "a.b", ".", ".."),
    *("2016-12-31T23:59:60Z", "0000-01-01T00:00:00Z", "2026-11-22T10:00:00.123456789012345678901234567890Z"),
    *("9999-12-31T23:59:59.999999-23:59", "2026-11-22T10:00:00+99:99", "2026-11-22T10:00:00", "20261122T100000Z"),
    *("2026-W47-7T10:00:00.000001Z", "2026-11-22T24:00:00.000000Z", "\uff12026-11-22T10:00:00.000001Z"),
    *("application/json", "application/json; charset=latin-1", "text/plain", "windchill.x", "com.other", "1.0", 1.0),
]


def values(chance: random.Random, depth: int = 3) -> Any:
    """Any JSON value; now and then one that is nested far too deeply."""
    kind = chance.random()
    if depth == 0 or kind < 0.6:
        return chance.choice(_LEAVES)
    if kind < 0.63:
        return json.loads("[" * 200 + "]" * 200) if kind < 0.615 else nested(chance.choice((31, 32, 33, 300)))
    if kind < 0.8:
        return [values(chance, depth - 1) for _ in range(chance.randrange(4))]
    return {str(chance.choice(_LEAVES))[:300]: values(chance, depth - 1) for _ in range(chance.randrange(4))}


def nested(depth: int, innermost: Any = None, name: str = "a") -> Any:
    """An object within an object within …"""
    value = innermost
    for _ in range(depth):
        value = {name: value}
    return value


def changed(chance: random.Random, document: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """A JSON object with some members replaced, added or taken away."""
    found = dict(document)
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        name = chance.choice(names)
        if chance.random() < 0.15:
            found.pop(name, None)
        else:
            found[name] = values(chance)
    return found


def as_json(value: object, chance: random.Random) -> bytes:
    """JSON as one library or another writes it, now and then with a member said twice."""
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5, separators=chance.choice([(",", ":"), (", ", ": ")]))
    if chance.random() < 0.1 and text.startswith("{") and len(text) > 2:
        text = text[:-1] + "," + text[1:]
    return text.encode(errors="replace")
