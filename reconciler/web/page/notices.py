"""Notices: what a page says after an action, and when an action was refused."""

from collections.abc import Mapping
from typing import Final, Literal

import attrs

from reconciler.web import bodies
from reconciler.web.answers import HttpError
from reconciler.web.endpoint import Page, Query

DONE: Final = {
    "retried": "It is due now, before all others.",
    "paused": "Paused: it is neither read nor written until somebody resumes it.",
    "resumed": "Resumed: it is looked at now.",
    "released": "Released: as soon as the log is read, nothing of it is managed any more.",
    "decided": "Decided: as soon as the log is read, the document is brought to it.",
    "decided-many": "Decided: {n}. They are brought to it as soon as the log is read.",
    "replayed": "Appended to the log again: it counts as replayed once it has come round.",
    "discarded": "Discarded. It stays listed as such.",
    "resent": "The mended event is in the log: the letter counts as replayed once it has come round.",
    "compared": "Documents that are due for a comparison now, after everything more urgent: {n}.",
}

Code = Literal["", *DONE]  # type: ignore[valid-type]  # the keys of the table above, and none


class Told(Query, frozen=True, kw_only=True):
    """What was done just now, for the page that is shown next; nothing but these words can be said so."""

    done: Code = ""
    n: int = 0


class ToldPage(Page, frozen=True, kw_only=True):
    """The same, for a list."""

    done: Code = ""
    n: int = 0


@attrs.frozen
class Notice:
    """A sentence with its tone."""

    tone: str
    text: str


def of(told: Told | ToldPage) -> Notice | None:
    """Return what a page says first."""
    return Notice("good", DONE[told.done].format(n=told.n)) if told.done else None


def refused(reason: str) -> Notice:
    """Return why something was not done."""
    return Notice("bad", f"Not done: {reason}.")


def reason(form: Mapping[str, str]) -> str:
    """Return why somebody acts; raises HttpError when it is longer than is kept, as the API does."""
    said = form.get("reason", "").strip()
    if len(said) > bodies.REASON_MAX:
        raise HttpError(422, f"a reason has at most {bodies.REASON_MAX} characters")
    return said
