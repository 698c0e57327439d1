"""
What can be chosen before and while the simulated Windchill runs, as frozen groups.

`Settings` is fixed when the program starts; `Behaviour`, `Faults`, `Rivals` and `Wrs` can be replaced at run time
through the control API. Each is built from JSON by `validation.chosen`, which refuses unknown names: a test that
misspells a fault must not pass because nothing happened.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import validators

from reconciler.simulator.validation import chance, chosen, none_or, not_negative, number, one_of, switch, table, texts
from reconciler.simulator.wrs.options import Wrs


@attrs.frozen(kw_only=True)
class Behaviour:
    """How this server reads the protocol, where real servers differ."""

    etag: Literal["strong", "weak", "gzip", "absent"] = one_of("strong", "weak", "gzip", "absent")
    """`gzip`: like strong, but replies to a client that accepts gzip are compressed and tagged `"…-gzip"`."""
    gzip_suffix_accepted: bool = switch(True)
    """Whether `"…-gzip"` matches in conditions. Some front ends append it and then don't know it again."""
    if_match_enforced: bool = switch(True)
    """Off: `If-Match` is ignored, a false success that `doctor` must find."""
    conflict_status: Literal[409, 412] = one_of(409, 412)
    """How a version conflict is answered."""
    write_reply: Literal["document", "none"] = one_of("document", "none")
    """200 with the whole document, or 204."""
    write_etag: bool = switch(True)
    """Whether the reply to a write carries the new token."""
    cleared_fields: Literal["removed", "null"] = one_of("removed", "null")
    """What a merge patch's `null` leaves behind: nothing (RFC 7396), or a field that shows `null`."""
    modified_on_precision: Literal["seconds", "microseconds"] = one_of("seconds", "microseconds")
    """Precision of `modifiedOn`. Whole seconds are what real servers show."""
    refused_fields: Mapping[str, str] = table({})
    """Dotted path → message: a write to the field is refused with this message."""
    ignored_fields: tuple[str, ...] = texts()
    """Dotted paths that a write may name and that it does not change."""
    capitalised_fields: tuple[str, ...] = texts()
    """Dotted paths whose texts, also within lists, are stored in capitals."""
    set_back_fields: Mapping[str, Any] = table({})
    """Dotted path → the value that another program, `plm-batch`, sets it to right after each write that changes it."""
    write_shows: Literal["stored", "sent"] = one_of("stored", "sent")
    """What the reply to a write shows: the stored document, or the sent one as if it were stored."""
    auth: Literal["none", "basic", "bearer"] = one_of("none", "basic", "bearer")
    """With `none`, the header `X-Simulated-User` says who is writing."""
    users: Mapping[str, str] = table({"integration": "secret"})
    """Name → password, for basic authentication and for `POST /oauth/token` (client credentials)."""
    tokens: Mapping[str, str] = table({"simulated-token": "integration"})
    """Fixed bearer tokens → name. They never expire; issued ones do."""
    token_lifetime_s: float = number(3600.0)
    """Lifetime in seconds of the tokens that `/oauth/token` issues. 0: they have expired at once."""
    unauthorized_body: Literal["json", "html"] = one_of("json", "html")
    """The body of a 401: some servers send a page."""


@attrs.frozen(kw_only=True)
class Faults:
    """Probabilities (0 to 1) of each fault for each request, drawn from one seeded source, and their sizes."""

    version_conflict: float = chance(0.0)
    """A rival really edits the document right before a guarded write is evaluated."""
    lost_reply: float = chance(0.0)
    """The request is applied, then the connection drops without a reply."""
    dropped_request: float = chance(0.0)
    """The connection drops before anything is applied."""
    cut_reply: float = chance(0.0)
    """The request is applied, then the connection drops in the middle of the reply's body."""
    unavailable: float = chance(0.0)
    """503, nothing applied."""
    throttle: float = chance(0.0)
    """429, nothing applied."""
    login_page: float = chance(0.0)
    """200 with an HTML login page, nothing applied."""
    expired_token: float = chance(0.0)
    """401 for this request; an issued bearer token is revoked, so that only a new one helps."""
    slow: float = chance(1.0)
    """How many requests are delayed by `slow_ms`."""
    slow_ms: float = number(0.0)
    """Delay in milliseconds before a request is looked at. 0: none (a scripted `slow` then takes 500)."""
    drip: float = chance(0.0)
    """The request is applied; the reply's body comes in small pieces, `drip_ms` apart."""
    drip_ms: float = number(100.0)
    """Milliseconds between two pieces."""
    wrong_type: float = chance(0.0)
    """The request is applied; the reply says `text/plain`."""
    too_large: float = chance(0.0)
    """The request is applied; the reply is valid JSON of `too_large_bytes`."""
    too_large_bytes: int = number(64 * 1024 * 1024)
    """Size of that reply in bytes."""
    too_large_declared: bool = switch(True)
    """Whether that reply announces its length. Off: chunked, so that clients must count."""
    bad_json: float = chance(0.0)
    """The request is applied; the reply's JSON ends in the middle."""
    retry_after_s: float | None = attrs.field(default=1, validator=none_or(not_negative))
    """Seconds in the `Retry-After` of 429 and 503; null: no such header."""
    retry_after_form: Literal["seconds", "date"] = one_of("seconds", "date")
    """RFC 9110, 10.2.3 allows both."""
    drop_with: Literal["close", "reset"] = one_of("close", "reset")
    """How a connection drops: FIN or RST."""


@attrs.frozen(kw_only=True)
class Rivals:
    """People who edit documents in the GUI."""

    per_second: float = number(0.0, 0, 10_000)
    """Edits a second over all documents. 0: none."""
    fields: tuple[str, ...] = texts("owner", "title", "attributes.Note", "attributes.Keywords", "status", some=True)
    """Dotted paths they edit; `status` is changed rarely, as in reality."""
    users: tuple[str, ...] = texts("jdoe", "akim", "mrossi", "lchen", "pnovak", some=True)
    """Who they are."""
    documents: tuple[str, ...] = texts()
    """The documents they edit; empty: all. A short list makes hot spots."""


@attrs.frozen(kw_only=True)
class Settings:
    """What is fixed when the program starts."""

    host: str = "127.0.0.1"
    port: int = number(8085, 0, 65535)
    """0 takes a free port; the line printed when listening names it."""
    documents: int = number(300, 0, 10_000_000)
    """How many documents to generate, `0000000001` onwards. Ignored with a seed file."""
    seed: int = 1
    """Of everything random: documents, faults, rivals."""
    seed_file: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    """Documents as JSON lines, each with its `id`."""
    base_path: str = attrs.field(default="/", validator=validators.matches_re(r"/.*"))
    """Where `/documents` begins. The control API stays at `/_control/`."""
    history_max: int = number(1_000_000, 1)
    """Writes to remember; the oldest are dropped first, and the history says so."""
    until_stdin_closes: bool = False
    """Stop when stdin closes, so that the program ends with its parent."""
    behaviour: Behaviour = Behaviour()
    faults: Faults = Faults()
    rivals: Rivals = Rivals()
    wrs: Wrs = attrs.field(factory=Wrs)


def from_json(given: Mapping[str, Any]) -> Settings:
    """Settings from members by name, each group an object; ValueError names what is unknown or impossible."""
    groups = {
        "behaviour": chosen(Behaviour(), given.get("behaviour", {})),
        "faults": chosen(Faults(), given.get("faults", {})),
        "rivals": chosen(Rivals(), given.get("rivals", {})),
        "wrs": chosen(Wrs(), given.get("wrs", {})),
    }
    return chosen(Settings(), {**given, **groups})
