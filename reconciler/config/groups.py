"""Groups: every key there is, with its default, its limits and the reason for both (docs/configuration.md)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import attrs
from msgspec import Meta

from reconciler.config.values import (
    FILLED,
    TEN_YEARS_S,
    Bytes,
    ChangeTopic,
    File,
    Filled,
    Seconds,
    Secret,
    Topic,
    text,
    unshown,
)
from reconciler.model.limits import GIB, MIB
from reconciler.model.policy import Policy
from reconciler.model.signing import KEY

_PORT = r"([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_OCTET = r"(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_PLACE = rf"(\[[0-9A-Fa-f:.]+\]|[^\s,:/@\[\]]+):{_PORT}"
LOOPBACK = rf"(127(\.{_OCTET}){{3}}|localhost|\[::1\]):{_PORT}"
_URL = r"https?://[^\s/?#@\\]+(/[^\s?#]*)?"  # no user:password@ either: credentials have keys of their own
_URL_SAYS = "an http:// or https:// address without credentials or query in it"
_URL_OR_NONE = rf"({_URL}(\?[^\s#]*)?)?"
_WEBHOOK_KEY = r"whsec_[A-Za-z0-9+/]{32,}={0,2}"
_NETWORK_4 = rf"{_OCTET}(\.{_OCTET}){{3}}(/(3[0-2]|[12]?[0-9]))?"
_NETWORK_6 = r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?"

_Broker = Annotated[str, text(_PLACE, "a broker's host:port")]
_StoreUrl = Annotated[
    str,
    text(
        r"sqlite:///[^?#]+",
        "sqlite:///FILE (a fourth slash starts an absolute path)",
        later=dict.fromkeys(("postgresql:", "postgres:", "postgresql+"), "use sqlite:///FILE and one replica"),
    ),
]
_Path = Annotated[str, text(r"([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?", "a path such as v6/DocMgmt")]
_Name = Annotated[str, text(r"[A-Za-z_][A-Za-z0-9_]{0,127}", "a name of letters, digits and _")]
_Bind = Annotated[str, text(rf"({_PLACE})?", "a host:port such as 127.0.0.1:8090, or empty for none")]
_Origin = Annotated[
    str,
    text(r"(https?://[^\s/?#@\\]+/?)?", "an address without a path, such as https://reconciler.example.com, or empty"),
]
_SealingKey = Annotated[
    Secret, text(r"([!-~]{32,})?", "at least 32 characters without spaces, or empty for a random one")
]
_Issuer = Annotated[str, text(rf"({_URL})?", "an https:// address without credentials or query, or empty")]
_Scopes = Annotated[str, text(r"openid( [!-~]+)*", "openid, and more scopes with spaces between")]
_Algorithm = Annotated[
    str, text(r"(RS|PS|ES)(256|384|512)|EdDSA", "RS256, ES256 or another that signs with a private key")
]
_WordSource = Annotated[str, text(r"\S(.*\S)?\s+\S+", 'WORD SOURCE, such as "erp-export //erp/*"')]
_PathSecret = Annotated[
    Secret, text(r"([A-Za-z0-9_-]{16,})?", "at least 16 letters, digits, '-' or '_', or empty for no hook")
]
_WebhookKeys = Annotated[
    Secret,
    text(
        rf"({_WEBHOOK_KEY}( {_WEBHOOK_KEY}){{0,4}})?",
        '"whsec_" and a key in base64 of at least 24 bytes, or up to five of these with spaces between',
    ),
]
_Network = Annotated[str, text(f"{_NETWORK_4}|{_NETWORK_6}", "a network such as 10.1.0.0/16")]


@attrs.frozen(kw_only=True, field_transformer=unshown)
class Log:
    """Where change events are read from, and outcomes and dead letters go to."""

    kind: Literal["kafka", "file"] = "kafka"
    """`kafka`, or `file`: one structured-mode event a line."""
    path: Filled = "events.jsonl"
    """The file, for `kind = "file"`: .jsonl, also .gz and .zst."""
    brokers: Annotated[tuple[_Broker, ...], FILLED] = ("localhost:9092",)
    """Bootstrap brokers, each host:port. The default is a broker on this machine, so that a first try needs no file."""
    topic: Topic = "windchill.document.changes"
    """The change log. It is read from its beginning at first: keep all of it. Never compact it, since each event names
    only the fields it changes. Any source but `//reconciler/…` may speak in it."""
    topics: tuple[ChangeTopic, ...] = ()
    """Several change topics in place of `topic`, each `[[log.topics]]` with a name and its sources: an event of another
    source is a dead letter. Empty: the one `topic`. Bind sources where systems must not speak for each other: an event
    names its own source, and only the broker knows who wrote it. Keep a topic listed as long as its events count."""
    decisions_topic: Topic = "windchill.document.decisions"
    """What operators decide (`//reconciler/operators`), which overrides every rule: taken from here and from nowhere
    else. Let nobody else write to it. Keep all of it, as of the change log. A file log has a file beside it for that,
    `path` with `.decisions` behind."""
    outcomes_topic: Topic = "windchill.document.outcomes"
    """What the reconciler publishes; replaying it gives back what was agreed with Windchill."""
    dead_letter_topic: Topic = "windchill.document.dead-letters"
    """Events that can't be used: original bytes, key and headers."""
    group: Filled = "windchill-reconciler"
    """What brokers call us, and the name that outcomes carry as their source: two installations need two groups."""
    order: Literal["time", "log"] = "time"
    """What ranks two claims first: the events' time, which makes re-published old events harmless, or when their
    records were appended, for sources whose clocks can't be trusted. `log` needs a topic with
    `message.timestamp.type=LogAppendTime`, or a file whose lines have `recordedtime`."""
    max_clock_skew_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = 300.0
    """Seconds by which an event's time may be later than its record's timestamp, and than this host's clock when it is
    first read; 0: not at all. Five minutes are what badly kept clocks are off by; more would let one wrong clock win
    against everybody for that long."""
    record_bytes_max: Annotated[Bytes, Meta(ge=1024, le=64 * MIB)] = MIB
    """Bytes of one record's value; larger ones are dead letters. 1 MiB is also what brokers accept by default."""
    fetch_records_max: Annotated[int, Meta(ge=1, le=100_000)] = 5_000
    """Records of one batch, which is one transaction. Larger batches fold faster, smaller ones take less memory."""
    security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    """How brokers are spoken to. The default fits the default broker, on this machine."""
    plain_sasl: bool = False
    """Whether `sasl_plaintext` may be used to brokers on other machines. Anyone in between can then read all events,
    with `PLAIN` the password too. For networks that are encrypted by other means."""
    ca_file: File = ""
    """PEM file of the authorities that may sign the brokers' certificates; empty: the system's."""
    cert_file: File = ""
    """PEM file of our client certificate; empty: none is shown."""
    key_file: File = ""
    """PEM file of that certificate's private key; empty: none."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """Used with `sasl_…` security. The default is the one that never sends the password."""
    sasl_username: str = ""
    """Needed with `sasl_…` security."""
    sasl_password: Secret = ""
    """Needed with `sasl_…` security."""
    signing_key: Annotated[Secret, text(rf"({KEY})?", "32 bytes or more in base64, or empty for none")] = ""
    """What operators' decisions and our outcomes are signed with (HMAC-SHA-256), made by `openssl rand -base64 32`;
    empty: nothing is signed. From the first start with a key on, what is not signed is refused."""
    signing_key_previous: Annotated[
        Secret, text(rf"({KEY}(\s+{KEY})*)?", "keys in base64, one a line, or empty", lines=True)
    ] = ""
    """Keys of before, which are believed and never signed with. Keep a key as long as a log holds what it signed."""

    @property
    def change_topics(self) -> tuple[str, ...]:
        """The topics that systems append to."""
        return tuple(one.name for one in self.topics) or (self.topic,)

    @property
    def read_topics(self) -> tuple[str, ...]:
        """The topics that events are read from; a log that is no change log has no decisions."""
        return (*self.change_topics, *([self.decisions_topic] if self.decisions_topic else []))


@attrs.frozen(kw_only=True)
class Store:
    """Where folded state and agreements are kept."""

    url: _StoreUrl = "sqlite:///state.db"
    """`sqlite:///FILE`, relative to the current directory; `sqlite:////FILE` is absolute. A local disk, not a share."""

    @property
    def path(self) -> Path:
        """The database's file."""
        return Path(self.url.removeprefix("sqlite:///"))


@attrs.frozen(kw_only=True, field_transformer=unshown)
class Windchill:
    """The server that is written to, and how hard."""

    dialect: Literal["documents", "wrs"] = "documents"
    """`documents`: plain JSON resources with ETags. `wrs`: Windchill REST Services (OData)."""
    base_url: Annotated[str, text(_URL, _URL_SAYS)] = "http://localhost:8085"
    """What document addresses start with; for `wrs` the OData root, https://host/Windchill/servlet/odata. The default
    is where `reconciler simulate` listens."""
    service: _Path = "v6/DocMgmt"
    """`wrs`: the domain with its version, below base_url; empty: base_url is the root of a plain OData service."""
    entity_set: _Name = "Documents"
    """`wrs`: the entity set of the documents."""
    key_property: _Name = "Number"
    """`wrs`: the property that events name a document by."""
    expand: tuple[_Name, ...] = ()
    """`wrs`: navigations to read along, such as "Context": their properties are shown as `Context/Name`, read-only.
    None by default, because each makes every read dearer for the server."""
    account: str = ""
    """`wrs`: the name of our account as Windchill shows it in ModifiedBy. Check-outs by that name are shown as "our
    own account's"; it proves none of them ours. A wrong name makes us wait for ourselves after a crash."""
    auth: Literal["none", "basic", "bearer", "oauth2"] = "none"
    """`basic` needs username and password, `bearer` token, `oauth2` (client credentials) oauth2_token_url, client_id
    and client_secret. The default fits the simulated server."""
    plain_http: bool = False
    """Whether credentials may go to another machine by http://, where anyone in between can read them. For networks
    that are encrypted by other means."""
    username: str = ""
    """For `basic`."""
    password: Secret = ""
    """For `basic`."""
    token: Secret = ""
    """For `bearer`."""
    oauth2_token_url: Annotated[str, text(_URL_OR_NONE, _URL_SAYS)] = ""
    """For `oauth2`: where tokens are issued."""
    client_id: str = ""
    """For `oauth2`."""
    client_secret: Secret = ""
    """For `oauth2`."""
    scope: str = ""
    """For `oauth2`: the scopes asked for, separated by spaces; empty: the server's default."""
    ca_file: File = ""
    """PEM file of the authorities that may sign the server's certificate; empty: the system's."""
    cert_file: File = ""
    """PEM file of our client certificate; empty: none is shown."""
    key_file: File = ""
    """PEM file of that certificate's private key, without a password; empty: none."""
    write_method: Literal["patch", "put"] = "patch"
    """Documents dialect: `put` sends the whole document, for servers without PATCH. Only `patch` leaves fields alone
    that the server hides from us."""
    lock: Literal["auto", "etag", "checkout"] = "auto"
    """`wrs`: what guards a write. `auto` checks out wherever the server can; `etag` relies on `If-Match` alone."""
    etag_proven: bool = False
    """`wrs`: whether this server was seen to refuse a stale `If-Match`. `lock = "etag"` is not accepted without it:
    a server that ignores the condition lets us overwrite people. `reconciler doctor --probe` tells."""
    page_size: Annotated[int, Meta(ge=1, le=2000)] = 200
    """`wrs`: rows of one page; a server may give fewer. 2000 is the most that Windchill gives by default."""
    time_filters: Literal["date", "time"] = "date"
    """`wrs`: whether filters on LastModified honour the time of day. `date` is what a stock server does: each poll
    then returns all of the day's changes."""
    nonce_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = 86_400.0
    """`wrs`: seconds for which a nonce of the server is good; 0: for ever. It is renewed when nine tenths are over: a
    write under one that has ended is refused, and that is an entry in the server's security audit log."""
    in_flight_max: Annotated[int, Meta(ge=1, le=1000)] = 16
    """Requests at one time, at most; the limit adapts below it. A Windchill method server has a few dozen threads for
    all its users."""
    timeout_s: Annotated[Seconds, Meta(gt=0, le=3600)] = 30.0
    """Seconds for one request, everything included. A check-in on a busy server takes several."""
    retry_after_max_s: Annotated[Seconds, Meta(gt=0, le=3600)] = 60.0
    """Seconds that everything waits at most, when several documents in a row are answered with 429, 503 or not at all
    and probes of other documents are too; then a probe tells whether that is over. A minute is the longest that a
    recovery goes unnoticed. A single document waits by itself, as long as its `Retry-After` says, an hour at most."""
    body_bytes_max: Annotated[Bytes, Meta(ge=1024, le=GIB)] = 16 * MIB
    """Bytes of one answer; more is an error, never data. Metadata is thousands of times smaller: this only bounds
    memory."""
    fields_max: Annotated[int, Meta(ge=1, le=4096)] = 2000
    """Managed fields of one document; one with more is parked with that reason until some are released. Real documents
    have dozens; each field costs about a kilobyte in the store, and all of them are read and decided at each event."""
    contested_window_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = 86_400.0
    """Seconds within which three writes of one value to a field, each of them found changed, make the field contested:
    it is shown as a conflict, and tried again after half of that, then more rarely, up to once a day. 0: writes are not
    counted. A day, so that a job that sets a field back every few hours is found out."""
    quiet_s: Annotated[Seconds, Meta(ge=0, le=900)] = 10.0
    """`wrs` with check-out: seconds without an event for a document before attributes are written, so that bursts make
    one iteration; 0: none. A stream goes out after 15 minutes. State, Name and what goes out with them don't wait."""
    checkin_interval_s: Annotated[Seconds, Meta(ge=0, le=900)] = 300.0
    """`wrs` with check-out: seconds between two check-ins of one document, at least; 0: none. Five minutes make a dozen
    iterations an hour at most. Operators, `run --once` and tries after a version conflict don't wait."""
    maintenance: bool = False
    """true: events are folded, but Windchill is neither read nor written until it is false again."""


@attrs.frozen(kw_only=True)
class Retry:
    """How long to wait before trying a document again."""

    conflict_attempts_max: Annotated[int, Meta(ge=1, le=100)] = 5
    """Version conflicts in a row, after which a document is contended and cools down. With waits of 1, 2, 4 and 8
    seconds five attempts outlast a person who saves twice."""
    backoff_base_s: Annotated[Seconds, Meta(gt=0, le=TEN_YEARS_S)] = 1.0
    """Seconds before the second attempt; doubled, with jitter, before each further one."""
    backoff_max_s: Annotated[Seconds, Meta(gt=0, le=TEN_YEARS_S)] = 60.0
    """Seconds that one wait never exceeds, so that a server that is back is noticed within a minute."""
    cooldown_base_s: Annotated[Seconds, Meta(gt=0, le=TEN_YEARS_S)] = 60.0
    """Seconds of a contended document's first cool-down; doubled each time it is contended again."""
    cooldown_max_s: Annotated[Seconds, Meta(gt=0, le=TEN_YEARS_S)] = 900.0
    """Seconds that a cool-down never exceeds: whoever edits the document all day delays us by a quarter of an hour at
    most."""


@attrs.frozen(kw_only=True)
class Resync:
    """How often settled documents are compared with Windchill again, and how much that may write."""

    interval_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = 600.0
    """Seconds between two comparisons of a document that drifts; 0: off. A comparison mostly costs one 304."""
    interval_factor_max: Annotated[float, Meta(ge=1, le=10_000)] = 6.0
    """How many times longer the interval may grow while a document is stable; 1: not at all. With the default, drift is
    found within the hour."""
    poll_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = 60.0
    """`wrs`: seconds between two looks at the server's list of changes; 0: off. An edit in Windchill is then noticed
    within that time, at one request for all documents."""
    poll_overlap_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = 120.0
    """`wrs`: seconds by which each look reaches back before the last one, for changes that were committed late and
    for clocks that differ."""
    writes_max_per_window: Annotated[int, Meta(ge=0)] = 0
    """Documents that resync or replay may write to within `window_s`; the others wait for room, and an operator is
    told. 0: no threshold, since any number guessed here would stop a first load. Set it once you know your usual
    drift."""
    window_s: Annotated[Seconds, Meta(gt=0, le=TEN_YEARS_S)] = 600.0
    """Seconds over which those documents are counted: one resync interval."""


@attrs.frozen(kw_only=True, field_transformer=unshown)
class Admin:
    """Probes, metrics, API and the operators' page."""

    bind: _Bind = "127.0.0.1:8090"
    """host:port to listen on; port 0: any free one; empty: don't listen. Anything but loopback needs `tokens_file` or
    `oidc_issuer`."""
    tokens_file: File = ""
    """A file that says who may use the API and what they may do, a line each (`reconciler token` makes them); empty:
    nobody is asked, and only this machine is answered. It is read again when it changes."""
    external_url: _Origin = ""
    """How browsers reach us where that is not `bind` by http, a proxy with TLS for instance; empty: by http. With
    https:// cookies are sent by https only."""
    session_key: _SealingKey = ""
    """What the cookies of browsers are sealed with; empty: a random key, so that everybody signs in again after a
    restart. 32 characters of chance are not guessed."""
    session_s: Annotated[Seconds, Meta(ge=60, le=2_592_000)] = 28_800.0
    """Seconds from signing in with a browser to having to do it again, whatever is done meanwhile: a working day."""
    oidc_issuer: _Issuer = ""
    """An identity provider (OpenID Connect) whose tokens are taken, exactly as it spells its own name; empty: none."""
    oidc_audience: str = ""
    """Whom the tokens that programs show must be meant for (their `aud`); empty: programs show none of the provider's.
    """
    oidc_client_id: str = ""
    """What the provider knows us by, so that people can sign in with it; needs external_url. Empty: they can't."""
    oidc_client_secret: Secret = ""
    """What we show the provider then; empty: we are a public client, and PKCE has to do."""
    oidc_scope: _Scopes = "openid profile"
    """What is asked of the provider when people sign in; the roles must come of it, in the ID token."""
    oidc_algorithms: Annotated[tuple[_Algorithm, ...], FILLED] = ("RS256", "ES256")
    """By which tokens may be signed. Never `none`, nor by a shared secret."""
    oidc_roles_claim: Filled = "roles"
    """The claim that has the provider's words for what somebody may do: a list or words. Dots lead into objects."""
    oidc_viewer: tuple[str, ...] = ("reconciler-viewer",)
    """Which of those words mean viewer."""
    oidc_operator: tuple[str, ...] = ("reconciler-operator",)
    """Which mean operator."""
    oidc_admin: tuple[str, ...] = ("reconciler-admin",)
    """Which mean admin. Whoever has none of them may do nothing, except by oidc_sources."""
    oidc_sources: tuple[_WordSource, ...] = ()
    """Of which event sources (globs) those who have a word may append events by the API. A word that means no role
    makes them producers, who may do nothing else. A word of operators or admins binds those who have no other."""
    oidc_name_claim: Filled = "preferred_username"
    """The claim with the name that actions are written down under; where it is missing, `sub`. Choose one that people
    can't change themselves."""
    oidc_ca_file: File = ""
    """PEM file of the authorities that may sign the provider's certificate; empty: the system's."""
    hook_secret: _PathSecret = ""
    """The last part of the address under which Windchill may say that something has changed there
    (`POST /hooks/windchill/SECRET`); empty: there is no such address. Sixteen characters are not guessed."""


@attrs.frozen(kw_only=True, field_transformer=unshown)
class Notify:
    """Whom to tell when a person is needed."""

    webhook_url: Annotated[Secret, text(_URL_OR_NONE, "an http:// or https:// address, or empty for none")] = ""
    """Where notifications are posted, signed per Standard Webhooks; empty: nowhere. Kept secret, because such addresses
    often are the only credential."""
    webhook_secret: _WebhookKeys = ""
    """The key they are signed with; needed when `webhook_url` is set. With several, each signs: so the receiver can
    take up a new one before the old one goes."""
    plain_http: bool = False
    """Whether `webhook_url` may be http://. Signatures keep notifications from being forged, not from being read."""
    ca_file: File = ""
    """PEM file of the authorities that may sign the receiver's certificate; empty: the system's."""
    networks: tuple[_Network, ...] = ()
    """Networks outside of the public internet that may be connected to. None by default: loopback, private, link-local
    and metadata addresses are refused, also when a name leads there."""
    digest_above: Annotated[int, Meta(ge=1, le=100)] = 5
    """Notifications at one time, at most; more become one digest with counts and the first few."""
    window_s: Annotated[Seconds, Meta(ge=0, le=86_400)] = 60.0
    """Seconds from telling what there was to telling what has come since. The first of a flood comes at once, the rest
    as one digest a minute."""
    locked_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = 3600.0
    """Seconds that a document may wait for somebody's lock before it is told; 0: never. Most people check in within the
    hour."""
    audit_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = 86_400.0
    """Seconds between two checks of the audit trail's chain while `webhook_url` is set; 0: none. Each reads all of it,
    a thousand records a second at most."""


@attrs.frozen(kw_only=True)
class Config:
    """The whole configuration."""

    log: Log = attrs.field(factory=Log)
    store: Store = attrs.field(factory=Store)
    windchill: Windchill = attrs.field(factory=Windchill)
    retry: Retry = attrs.field(factory=Retry)
    resync: Resync = attrs.field(factory=Resync)
    policy: Policy = attrs.field(factory=Policy)
    admin: Admin = attrs.field(factory=Admin)
    notify: Notify = attrs.field(factory=Notify)
    secret_files: Mapping[str, Path] = attrs.field(factory=dict)
    """Where secrets came from that were given as `…_file`: "section.key" → file. The groups hold what these said at the
    start; whoever can make use of a new secret without a restart reads the file again."""
    origins: Mapping[str, str] = attrs.field(factory=dict, eq=False)
    """Where each value came from that is not a default: "section.key", of a rule its name and key → origin."""


GROUPS: dict[str, type[attrs.AttrsInstance]] = {
    "log": Log,
    "store": Store,
    "windchill": Windchill,
    "retry": Retry,
    "resync": Resync,
    "admin": Admin,
    "notify": Notify,
}
