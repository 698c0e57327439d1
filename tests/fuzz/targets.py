"""What a fuzzer that knows only bytes is pointed at: each target takes any, and fails when something does not hold."""

from collections.abc import Callable

from reconciler.adapters.replies import Reply
from tests.core.strategies import RECORDED_MS, structured
from tests.fuzz import mutating, test_decode, test_outcomes, test_replies

Target = Callable[[bytes], None]


def record(text: bytes) -> None:
    """A structured event; its first byte says by which rules it is read."""
    options = test_decode.OPTIONS[text[0] % len(test_decode.OPTIONS)] if text else test_decode.OPTIONS[0]
    test_decode.check(structured(text[1:]), options)


def headers(text: bytes) -> None:
    """A record in binary mode: lines of `name: value`, an empty line, the value."""
    head, _, value = text.partition(b"\n\n")
    lines = [line.partition(b": ") for line in head.split(b"\n")]
    named = [(name.decode(errors="ignore"), said) for name, _, said in lines]
    test_decode.check(structured(value, headers=named, timestamp=RECORDED_MS), test_decode.OPTIONS[0])


def reply(text: bytes) -> None:
    """A reply as it would stand on the wire, its status and headers already parsed."""
    head, _, body = text.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    digits = first[9:12]
    pairs = [line.partition(b": ") for line in lines]
    named = {name.lower(): said.strip() for name, _, said in reversed(pairs)}
    status = int(digits) if digits.isdigit() and int(digits) >= 200 else 200
    test_replies.check(Reply(status, named, body[:65_536]))


def outcome(text: bytes) -> None:
    """A record of the outcome log."""
    test_outcomes.check(text)


TARGETS: dict[str, tuple[Target, tuple[str, ...]]] = {
    "record": (record, ("event/*/*.json", "events/*")),
    "headers": (headers, ("headers/*",)),
    "reply": (reply, ("replies/*",)),
    "outcome": (outcome, ("outcome/*/*.json", "outcomes/*")),
}
"""Each with the files it begins with."""


def seeds(name: str) -> list[bytes]:
    """What a target begins with."""
    texts = mutating.seeds(*TARGETS[name][1])
    return [b"\0" + text for text in texts] if name == "record" else texts
