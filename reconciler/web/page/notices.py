"""The notice at the top of a page after an action: what was done, or why nothing was done."""

from collections.abc import Mapping
from typing import Final, Literal

import attrs

from reconciler.web import inputs
from reconciler.web.endpoint import Page, Query
from reconciler.web.responses import HttpError

DONE: Final = {
    "retried": "The document is due now, ahead of all others.",
    "paused": "Paused. The document is not read or written until someone resumes it.",
    "resumed": "Resumed. The document is due now.",
    "released": "Released. The reconciler stops managing the document as soon as it reads the event from the log.",
    "decided": "Resolved. The decision takes effect as soon as the reconciler reads it from the log.",
    "decided-many": "Resolved: {n}. The decisions take effect as soon as the reconciler reads them from the log.",
    "replayed": "Appended to the log again. It counts as replayed once the reconciler reads it.",
    "discarded": "Discarded. It stays in the list of discarded dead letters.",
    "resent": "The corrected event is in the log. The dead letter counts as replayed once the reconciler reads it.",
    "stopped": "All writes are stopped. Nothing changes Windchill any more.",
    "stopping": "No write begins any more. Replicas that are still ending one: {n}.",
    "writing": "All replicas write again.",
    "compared": "Documents due for a comparison, after all more urgent work: {n}.",
}

Code = Literal["", *DONE]  # type: ignore[valid-type]  # a key of the table above, or empty


class WithNotice(Query, frozen=True, kw_only=True):
    """Query parameters that make the next page show a notice; only notices of the table can be shown."""

    done: Code = ""
    n: int = 0


class PageWithNotice(Page, frozen=True, kw_only=True):
    """The same parameters, for a list."""

    done: Code = ""
    n: int = 0


@attrs.frozen
class Notice:
    """A notice and its colour."""

    tone: str
    text: str


def of(query: Query) -> Notice | None:
    """Return the notice that a query asks for."""
    if isinstance(query, WithNotice | PageWithNotice) and query.done:
        return Notice("good", DONE[query.done].format(n=query.n))
    return None


def refused(reason: str) -> Notice:
    """Return the notice that says why an action was refused."""
    return Notice("bad", f"Not done: {reason}.")


def reason(form: Mapping[str, str]) -> str:
    """Return the reason given in a form; raises HttpError if it is too long."""
    said = form.get("reason", "").strip()
    if len(said) > inputs.REASON_MAX:
        raise HttpError(422, f"a reason has at most {inputs.REASON_MAX} characters")
    return said
