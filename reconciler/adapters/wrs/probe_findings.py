"""Findings of the probe: what it asked, what came back in a few words, and what that means for the settings."""

import enum
from collections.abc import Mapping

import attrs

from reconciler.adapters import replies
from reconciler.adapters.replies import Reply
from reconciler.adapters.wrs import signatures
from reconciler.adapters.wrs.functions import Told, Unreadable
from reconciler.adapters.wrs.results import Unfulfilled
from reconciler.model.answer import Trouble
from reconciler.model.value import Json


class Result(enum.StrEnum):
    """How a question was answered."""

    OK = "ok"
    WARNING = "warning"  # worth knowing; writing is still safe
    FAILED = "failed"  # writing would not be safe or possible
    SKIPPED = "skipped"  # not asked


@attrs.frozen
class Finding:
    """One question to the server and its answer."""

    check: str
    result: Result
    message: str  # what it means
    sent: str = ""
    answer: str = ""
    setting: Mapping[str, Json] = attrs.field(factory=dict)  # that follows: "windchill.account" → "Integration"


class Halt(Exception):
    """The probe can't go on; the finding says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


def answered(answer: Reply | Unfulfilled | Trouble) -> str:
    """Return an answer in a few words: `204 without content`, `400 INVALID_REQUEST: …`."""
    if isinstance(answer, Reply):
        body = replies.json_object(answer)
        if body is None:
            return f"{answer.status} without content"
        shown = [name for name in body if "@" not in name]
        what = "the whole entity" if len(shown) > 3 else f"{', '.join(shown) or 'nothing'} alone"
        return f"{answer.status} with {what}" + (f", {body['ID']}" if isinstance(body.get("ID"), str) else "")
    status = getattr(answer, "status", None)
    return f"{status}, {answer.message}" if status else answer.message


def listed(words: list[str]) -> str:
    """Return words as a sentence lists them: `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def plain(value: object) -> str:
    """Return a value as a sentence can hold it."""
    if isinstance(value, dict):
        value = value.get("Value", value)
    return "nothing" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def finding(told: Told) -> Finding:
    """Return what the server's answer means for writing State."""
    check, sent = "transitions", signatures.TRANSITIONS
    match told:
        case None:
            said = "the server does not say which states can follow; it decides when one is set"
            return Finding(check, Result.WARNING, said)
        case list():
            named = listed([str(one["Value"]) for one in told]) or "none"
            return Finding(check, Result.OK, "the states that can follow are understood", sent, named)
        case Unreadable(message):
            return Finding(check, Result.FAILED, f"State can't be written: {message}", sent, "200")
        case trouble:
            return Finding(check, Result.WARNING, "no usable answer", sent, answered(trouble))
