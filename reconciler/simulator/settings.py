"""
What can be chosen before and while the simulated Windchill runs, as frozen groups.

`Settings` is fixed when the program starts; `Behaviour`, `Faults`, `Rivals` and `Wrs` can be replaced at run time
through the control API. Each is built from JSON by `validation.chosen`, which refuses unknown names: a test that
misspells a fault must not pass because nothing happened.
"""

from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import validators

from reconciler.simulator.validation import (
    flag,
    mapping,
    none_or,
    not_negative,
    probability,
    status,
    text,
    texts,
    tuple_of,
    within,
)
from reconciler.simulator.wrs.options import Wrs


@attrs.frozen(kw_only=True)
class Behaviour:
    """How this server reads the protocol, where real servers differ."""

    etag: Literal["strong", "weak", "gzip", "absent"] = attrs.field(
        default="strong", validator=validators.in_(("strong", "weak", "gzip", "absent"))
    )
    """`gzip`: like strong, but replies to a client that accepts gzip are compressed and tagged `"…-gzip"`."""
    gzip_suffix_accepted: bool = attrs.field(default=True, validator=flag)
    """Whether `"…-gzip"` matches in conditions. Some front ends append it and then don't know it again."""
    weak_if_match_accepted: bool = attrs.field(default=True, validator=flag)
    """Whether `W/"…"` matches in `If-Match`, as OData services do. Off: RFC 9110, 13.1.1 (strong comparison)."""
    if_match_enforced: bool = attrs.field(default=True, validator=flag)
    """Off: `If-Match` is ignored, the false success that a doctor must find."""
    require_if_match: bool = attrs.field(default=False, validator=flag)
    """Whether a write without `If-Match` is answered 428 (RFC 6585, 3)."""
    conflict_status: Literal[409, 412] = attrs.field(default=409, validator=validators.in_((409, 412)))
    """How a version conflict is answered."""
    write_reply: Literal["document", "none"] = attrs.field(
        default="document", validator=validators.in_(("document", "none"))
    )
    """200 with the whole document, or 204."""
    write_etag: bool = attrs.field(default=True, validator=flag)
    """Whether the reply to a write carries the new token."""
    cleared_fields: Literal["removed", "null"] = attrs.field(
        default="removed", validator=validators.in_(("removed", "null"))
    )
    """What a merge patch's `null` leaves behind: nothing (RFC 7396), or a field that shows `null`."""
    version_on_no_change: bool = attrs.field(default=True, validator=flag)
    """Whether a write that changes nothing makes a version all the same, as each check-in does."""
    modified_on_precision: Literal["seconds", "microseconds"] = attrs.field(
        default="seconds", validator=validators.in_(("seconds", "microseconds"))
    )
    """Precision of `modifiedOn`. Whole seconds are what real servers show."""
    refused_fields: dict[str, str] = attrs.field(factory=dict, validator=mapping)
    """Dotted path → message: a write naming the field is refused, naming it."""
    refused_status: Literal[400, 422] = attrs.field(default=400, validator=validators.in_((400, 422)))
    """How a refused field is answered."""
    business_rules: dict[str, list[Any]] = attrs.field(factory=dict, validator=mapping)
    """Dotted path → values that can't be written: a 409 that is no version conflict."""
    business_rule_message: str = attrs.field(default="Lifecycle transition not allowed", validator=text)
    """What that 409 says."""
    ignored_fields: tuple[str, ...] = attrs.field(default=(), converter=tuple_of, validator=texts)
    """Dotted paths that a write may name and that it does not change."""
    capitalised_fields: tuple[str, ...] = attrs.field(default=(), converter=tuple_of, validator=texts)
    """Dotted paths whose texts, also within lists, are stored in capitals."""
    set_back_fields: dict[str, Any] = attrs.field(factory=dict, validator=mapping)
    """Dotted path → the value that another program, `plm-batch`, sets it to right after each write that changes it."""
    write_shows: Literal["stored", "sent"] = attrs.field(default="stored", validator=validators.in_(("stored", "sent")))
    """What the document shows that answers a write: what is stored, or what was sent as if that were stored."""
    lock_status: int = attrs.field(default=423, validator=status)
    """How a write to a document that someone else checked out is answered."""
    auth: Literal["none", "basic", "bearer"] = attrs.field(
        default="none", validator=validators.in_(("none", "basic", "bearer"))
    )
    """With `none`, the header `X-Simulated-User` says who is writing."""
    default_user: str = attrs.field(default="integration", validator=text)
    """Who writes when nothing says who."""
    users: dict[str, str] = attrs.field(factory=lambda: {"integration": "secret"}, validator=mapping)
    """Name → password, for basic authentication and for `POST /oauth/token` (client credentials)."""
    tokens: dict[str, str] = attrs.field(factory=lambda: {"simulated-token": "integration"}, validator=mapping)
    """Fixed bearer tokens → name. They never expire; issued ones do."""
    token_lifetime_s: float = attrs.field(default=3600.0, validator=not_negative)
    """Lifetime in seconds of the tokens that `/oauth/token` issues. 0: they are born expired."""
    unauthorized_body: Literal["json", "html"] = attrs.field(default="json", validator=validators.in_(("json", "html")))
    """What a 401 carries: some servers show a page."""


@attrs.frozen(kw_only=True)
class Faults:
    """Probabilities (0 to 1) of each fault for each request, drawn from one seeded source, and their sizes."""

    version_conflict: float = attrs.field(default=0.0, validator=probability)
    """A rival really edits the document right before a guarded write is evaluated."""
    lost_reply: float = attrs.field(default=0.0, validator=probability)
    """The request is applied, then the connection drops without a reply."""
    dropped_request: float = attrs.field(default=0.0, validator=probability)
    """The connection drops before anything is applied."""
    cut_reply: float = attrs.field(default=0.0, validator=probability)
    """The request is applied, then the connection drops in the middle of the reply's body."""
    unavailable: float = attrs.field(default=0.0, validator=probability)
    """503, nothing applied."""
    throttle: float = attrs.field(default=0.0, validator=probability)
    """429, nothing applied."""
    login_page: float = attrs.field(default=0.0, validator=probability)
    """200 with an HTML login page, nothing applied."""
    expired_token: float = attrs.field(default=0.0, validator=probability)
    """401 for this request; an issued bearer token is revoked, so that only a new one helps."""
    slow: float = attrs.field(default=1.0, validator=probability)
    """How many requests are delayed by `slow_ms`."""
    slow_ms: float = attrs.field(default=0.0, validator=not_negative)
    """Delay in milliseconds before a request is looked at. 0: none (a scripted `slow` then takes 500)."""
    drip: float = attrs.field(default=0.0, validator=probability)
    """The request is applied; the reply's body comes in small pieces, `drip_ms` apart."""
    drip_ms: float = attrs.field(default=100.0, validator=not_negative)
    """Milliseconds between two pieces."""
    drip_bytes: int = attrs.field(default=8, validator=within(1))
    """Size of a piece."""
    wrong_type: float = attrs.field(default=0.0, validator=probability)
    """The request is applied; the reply says `text/plain`."""
    too_large: float = attrs.field(default=0.0, validator=probability)
    """The request is applied; the reply is valid JSON of `too_large_bytes`."""
    too_large_bytes: int = attrs.field(default=64 * 1024 * 1024, validator=not_negative)
    """Size of that reply in bytes."""
    too_large_declared: bool = attrs.field(default=True, validator=flag)
    """Whether that reply announces its length. Off: chunked, so that only counting finds out."""
    bad_json: float = attrs.field(default=0.0, validator=probability)
    """The request is applied; the reply's JSON ends in the middle."""
    retry_after_s: float | None = attrs.field(default=1, validator=none_or(not_negative))
    """Seconds in the `Retry-After` of 429 and 503; null: no such header."""
    retry_after_form: Literal["seconds", "date"] = attrs.field(
        default="seconds", validator=validators.in_(("seconds", "date"))
    )
    """RFC 9110, 10.2.3 allows both."""
    drop_with: Literal["close", "reset"] = attrs.field(default="close", validator=validators.in_(("close", "reset")))
    """How a connection drops: FIN or RST."""


@attrs.frozen(kw_only=True)
class Rivals:
    """People who edit documents in the GUI, not asking anyone."""

    per_second: float = attrs.field(default=0.0, validator=within(0, 10_000))
    """Edits a second over all documents. 0: none."""
    fields: tuple[str, ...] = attrs.field(
        default=("owner", "title", "attributes.Note", "attributes.Keywords", "status"),
        converter=tuple_of,
        validator=(texts, validators.min_len(1)),
    )
    """Dotted paths they edit; `status` is taken rarely, as in life."""
    users: tuple[str, ...] = attrs.field(
        default=("jdoe", "akim", "mrossi", "lchen", "pnovak"),
        converter=tuple_of,
        validator=(texts, validators.min_len(1)),
    )
    """Who they are."""
    documents: tuple[str, ...] = attrs.field(default=(), converter=tuple_of, validator=texts)
    """The documents they edit; empty: all. A short list makes hot spots."""
    hold_s: float = attrs.field(default=0.0, validator=not_negative)
    """Seconds for which they keep a document checked out before they check it in. 0: check-out, edit and check-in are
    one step."""
    undo: float = attrs.field(default=0.0, validator=probability)
    """How many of the check-outs that last end without an edit."""


@attrs.frozen(kw_only=True)
class Settings:
    """What is fixed when the program starts."""

    host: str = "127.0.0.1"
    port: int = attrs.field(default=8085, validator=within(0, 65535))
    """0 takes a free port; the line printed when listening names it."""
    documents: int = attrs.field(default=300, validator=within(0, 10_000_000))
    """How many documents to generate, `0000000001` onwards. Ignored with a seed file."""
    seed: int = 1
    """Of everything left to chance: documents, faults, rivals."""
    seed_file: Path | None = None
    """Documents as JSON lines, each with its `id`."""
    base_path: str = attrs.field(default="/", validator=validators.matches_re(r"/.*"))
    """Where `/documents` begins. The control API stays at `/_control/`."""
    history_max: int = attrs.field(default=1_000_000, validator=within(1))
    """Writes remembered; older ones are forgotten first, and the history says that it forgot."""
    until_stdin_closes: bool = False
    """Stop when stdin closes, so that a killed parent leaves no orphan."""
    behaviour: Behaviour = Behaviour()
    faults: Faults = Faults()
    rivals: Rivals = Rivals()
    wrs: Wrs = attrs.field(factory=Wrs)
