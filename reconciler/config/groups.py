"""Every configuration key, with its default, its limits and the reason for both (docs/configuration.md)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import attrs
from msgspec import Meta

from reconciler.config import notifying, windows
from reconciler.config.values import (
    FILLED,
    TEN_YEARS_D,
    TEN_YEARS_S,
    Bytes,
    ChangeTopic,
    File,
    Filled,
    Folder,
    Seconds,
    Secret,
    Topic,
    text,
    unshown,
)
from reconciler.core.events.mapping import Source
from reconciler.model.limits import CLOCK_SKEW_S_MAX, EVENT_BYTES_MAX, GIB, MIB, SESSION_S
from reconciler.model.policy import Policy
from reconciler.model.signing import KEY

_PORT = r"([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_OCTET = r"(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_PLACE = rf"(\[[0-9A-Fa-f:.]+\]|[^\s,:/@\[\]]+):{_PORT}"
LOOPBACK = rf"(127(\.{_OCTET}){{3}}|localhost|\[::1\]):{_PORT}"
_URL = r"https?://[^\s/?#@\\]+(/[^\s?#]*)?"  # no user:password@: credentials have keys of their own
_URL_SAYS = "an http:// or https:// address without credentials or query"
_URL_OR_NONE = rf"({_URL}(\?[^\s#]*)?)?"
_WEBHOOK_KEY = r"whsec_[A-Za-z0-9+/]{32,}={0,2}"
_NETWORK_4 = rf"{_OCTET}(\.{_OCTET}){{3}}(/(3[0-2]|[12]?[0-9]))?"
_NETWORK_6 = r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?"

_Broker = Annotated[str, text(_PLACE, "a broker's host:port")]
_SERVER = rf"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:{_PORT})?"
_StoreUrl = Annotated[
    str,
    text(
        rf"sqlite:///[^?#]+|postgres(ql)?://([^\s:/?#@,]+@)?{_SERVER}(,{_SERVER})*/[^\s:/?#@,]+",
        "sqlite:///FILE (a fourth slash starts an absolute path), or postgresql://USER@HOST:PORT/DATABASE without a"
        " password or options, for which there are store.password_file (or PGPASSFILE) and store.sslmode",
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
_Scopes = Annotated[str, text(r"openid( [!-~]+)*", "openid, and more scopes separated by spaces")]
_Algorithm = Annotated[
    str, text(r"(RS|PS|ES)(256|384|512)|EdDSA", "RS256, ES256 or another algorithm that signs with a private key")
]
_WordSource = Annotated[str, text(r"\S(.*\S)?\s+\S+", 'WORD SOURCE, such as "erp-export //erp/*"')]
_PathSecret = Annotated[
    Secret, text(r"([A-Za-z0-9_-]{16,})?", "at least 16 letters, digits, '-' or '_', or empty for no hook")
]
_WebhookKeys = Annotated[
    Secret,
    text(
        rf"({_WEBHOOK_KEY}( {_WEBHOOK_KEY}){{0,4}})?",
        '"whsec_" and a key in base64 of at least 24 bytes, or up to five of these separated by spaces',
    ),
]
_Window = Annotated[str, text(windows.PATTERN, windows.SAYS)]
_SourceWindow = Annotated[str, text(rf"\S+: {windows.PATTERN}", f"SOURCE: {windows.SAYS}")]
_Network = Annotated[str, text(f"{_NETWORK_4}|{_NETWORK_6}", "a network such as 10.1.0.0/16")]


@attrs.frozen(kw_only=True, field_transformer=unshown)
class Log:
    """The logs: change events are read from them, outcomes and dead letters are written to them."""

    kind: Literal["kafka", "file"] = "kafka"
    """`kafka`, or `file`: one structured-mode event a line."""
    path: Filled = "events.jsonl"
    """The file, for `kind = "file"`: .jsonl, also compressed as .gz or .zst."""
    brokers: Annotated[tuple[_Broker, ...], FILLED] = ("localhost:9092",)
    """Bootstrap brokers, each host:port. The default is a broker on this machine, so that a first try needs no file."""
    topic: Topic = "windchill.document.changes"
    """The change log. It is read from its beginning, so keep all of it. Never compact it, since each event names only
    the fields it changes. Any source but `//reconciler/…` may write to it."""
    topics: tuple[ChangeTopic, ...] = ()
    """Several change topics in place of `topic`, each `[[log.topics]]` with a name and its sources: an event of another
    source becomes a dead letter. Empty: the one `topic`. Use this if systems must not speak for each other: an event
    names its own source, and only the broker knows who wrote it. Keep a topic listed as long as its events count."""
    subjects: tuple[Filled, ...] = ()
    """Globs over the documents that are ours, such as PRJ-*, for several reconcilers that share the topics, one for
    each Windchill; empty: all. Events of other documents are counted and skipped. Each reconciler needs a `group`, an
    `outcomes_topic` and a `dead_letter_topic` of its own."""
    sources: tuple[Filled, ...] = ()
    """The same for sources, such as //plant-1/*. Operators may decide in each part."""
    windows: tuple[_SourceWindow, ...] = ()
    """Maintenance windows of sources, each a glob and a window, such as "//erp/*: 0 2 * * * for 1h in UTC". In them a
    document waits, whole, if a value of such a source is to be written: what a system says while it is being maintained
    is often not its last word."""
    decisions_topic: Topic = "windchill.document.decisions"
    """What operators decide (`//reconciler/operators`). Decisions override every rule, and are accepted from this topic
    only. Let no one else write to it, and keep all of it, like the change log. A file log has a second file for
    decisions: `path` with `.decisions` appended."""
    outcomes_topic: Topic = "windchill.document.outcomes"
    """What the reconciler publishes. Replaying it restores what was agreed with Windchill."""
    dead_letter_topic: Topic = "windchill.document.dead-letters"
    """Events that can't be used: original bytes, key and headers."""
    group: Filled = "windchill-reconciler"
    """Our consumer group, whose committed offsets tell lag tools how far is folded; our client name on the brokers, and
    the source of our outcomes. Two installations need two groups. The positions that count are in the store: offsets of
    the group are never read back, and resetting them changes nothing."""
    order: Literal["time", "log"] = "time"
    """What ranks two claims first. `time`: the events' time, so that old events do no harm when they are published
    again. `log`: the time at which their records were appended, for sources whose clocks can't be trusted. `log` needs
    a topic with `message.timestamp.type=LogAppendTime`, or a file whose lines have `recordedtime`."""
    max_clock_skew_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = CLOCK_SKEW_S_MAX
    """Seconds by which an event's time may be later than its record's timestamp, and than this host's clock when it is
    first read; 0: not at all. Badly kept clocks are off by up to five minutes; more would let one wrong clock win
    against all others for that long."""
    record_bytes_max: Annotated[Bytes, Meta(ge=1024, le=64 * MIB)] = EVENT_BYTES_MAX
    """Bytes of one record's value; larger ones become dead letters. Brokers accept 1 MiB by default too."""
    fetch_records_max: Annotated[int, Meta(ge=1, le=100_000)] = 5_000
    """Records of one batch, which is one transaction. Larger batches fold faster, smaller ones take less memory."""
    security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    """How to connect to the brokers. The default fits the default broker, on this machine."""
    plain_sasl: bool = False
    """Whether `sasl_plaintext` is allowed for brokers on other machines. Anyone in between can then read all events,
    and with `PLAIN` the password too. For networks that are encrypted by other means."""
    ca_file: File = ""
    """PEM file of the authorities that may sign the brokers' certificates; empty: the system's."""
    cert_file: File = ""
    """PEM file of our client certificate; empty: none is sent."""
    key_file: File = ""
    """PEM file of that certificate's private key; empty: none."""
    key_password: Secret = ""
    """The password of `key_file`, if it is encrypted."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM", "GSSAPI"] = (
        "SCRAM-SHA-512"
    )
    """For `sasl_…` security. The default never sends the password. `OAUTHBEARER`: tokens of an identity provider, by
    client credentials. `AWS_MSK_IAM`: an IAM role of Amazon MSK (extra `aws`). `GSSAPI`: Kerberos, with the ticket that
    `kinit` or KRB5_CLIENT_KTNAME provides (extra `kerberos`)."""
    sasl_username: str = ""
    """Needed for `PLAIN` and `SCRAM-…`."""
    sasl_password: Secret = ""
    """Needed for `PLAIN` and `SCRAM-…`."""
    oauth_token_url: Annotated[str, text(_URL_OR_NONE, _URL_SAYS)] = ""
    """For `OAUTHBEARER`: the address that issues tokens."""
    oauth_client_id: str = ""
    """For `OAUTHBEARER`."""
    oauth_client_secret: Secret = ""
    """For `OAUTHBEARER`. Its file is read again for each token."""
    oauth_scope: str = ""
    """For `OAUTHBEARER`: the scopes to ask for, separated by spaces; empty: the server's default."""
    oauth_ca_file: File = ""
    """PEM file of the authorities that may sign the token server's certificate; empty: the system's."""
    aws_region: Annotated[str, text(r"([a-z0-9-]{1,32})?", "a region such as eu-central-1, or empty")] = ""
    """For `AWS_MSK_IAM`: the region of the cluster."""
    kerberos_service: Filled = "kafka"
    """For `GSSAPI`: the first part of the brokers' principals, as in kafka/broker-1.example.com@REALM."""
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    """Of the records that we write; all but gzip need the extra `compression`. Outcomes shrink to a third or less, but
    each reader of them needs the same codec."""
    signing_key: Annotated[Secret, text(rf"({KEY})?", "32 bytes or more in base64, or empty for none")] = ""
    """The key that signs operators' decisions and our outcomes (HMAC-SHA-256), made by `openssl rand -base64 32`;
    empty: nothing is signed. From the first start with a key, unsigned ones are refused."""
    signing_key_previous: Annotated[
        Secret, text(rf"({KEY}(\s+{KEY})*)?", "keys in base64, one a line, or empty", lines=True)
    ] = ""
    """Earlier keys, whose signatures are still accepted. Keep a key as long as a log holds records that it signed."""
    session_s: Annotated[Seconds, Meta(ge=6, le=1800)] = 30.0
    """Seconds without a sign of life after which Kafka gives the partitions of a replica to others. Brokers accept 6 s
    to 30 min by default. Shorter takes over sooner, but a busy network then moves partitions to and fro."""

    @property
    def change_topics(self) -> tuple[str, ...]:
        """The topics to which systems append."""
        return tuple(one.name for one in self.topics) or (self.topic,)

    @property
    def read_topics(self) -> tuple[str, ...]:
        """The topics of events; a log that is not the change log has no decisions."""
        return (*self.change_topics, *([self.decisions_topic] if self.decisions_topic else []))


@attrs.frozen(kw_only=True, field_transformer=unshown)
class Store:
    """Where folded state and agreements are kept. Only `url` has a meaning for SQLite."""

    url: _StoreUrl = "sqlite:///state.db"
    """`sqlite:///FILE`, relative to the current directory; `sqlite:////FILE` is absolute. Use a local disk, not a
    share. One process at a time uses it. `postgresql://USER@HOST:PORT/DATABASE`, for several replicas; for a standby,
    more hosts between commas. `reconciler store migrate` makes its schema."""
    password: Secret = ""
    """PostgreSQL's password; empty: that of the file PGPASSFILE or ~/.pgpass, or none. Never in `url`, which
    people see."""
    sslmode: Literal["", "disable", "prefer", "require", "verify-ca", "verify-full"] = ""
    """TLS to PostgreSQL, in its own words. `prefer` and `require` believe any server. Empty: `verify-full`, or `prefer`
    for a server on this machine."""
    ca_file: File = ""
    """PEM file of the authorities that may sign PostgreSQL's certificate; empty: the system's."""
    cert_file: File = ""
    """PEM file of our client certificate; empty: none is sent."""
    key_file: File = ""
    """PEM file of that certificate's private key; empty: none."""
    pooled: bool = False
    """Whether a PgBouncer in transaction mode is between. Then give the role its timeouts (`ALTER ROLE … SET`): see the
    message when it has none."""
    evict_s: Annotated[Seconds, Meta(ge=3, le=600)] = 15.0
    """Seconds without a sign of life after which others take over a replica's documents. A replica sends nothing to
    Windchill once it has not reached PostgreSQL for two thirds of this. Shorter takes over sooner; longer outlasts a
    longer outage."""


@attrs.frozen(kw_only=True, field_transformer=unshown)
class Windchill:
    """The server to write to, and how much load to put on it."""

    dialect: Literal["documents", "wrs"] = "documents"
    """`documents`: plain JSON resources with ETags. `wrs`: Windchill REST Services (OData)."""
    base_url: Annotated[str, text(_URL, _URL_SAYS)] = "http://localhost:8085"
    """The beginning of document addresses; for `wrs` the OData root, https://host/Windchill/servlet/odata. The default
    is the address of `reconciler simulate`."""
    service: _Path = "v6/DocMgmt"
    """`wrs`: the domain with its version, below base_url; empty: base_url is the root of a plain OData service."""
    entity_set: _Name = "Documents"
    """`wrs`: the entity set of the documents."""
    key_property: _Name = "Number"
    """`wrs`: the property by which events name a document."""
    expand: tuple[_Name, ...] = ()
    """`wrs`: navigations to read as well, such as "Context": their properties are shown as `Context/Name`, read-only.
    None by default, because each makes every read more expensive for the server."""
    link_template: Annotated[str, text(rf"({_URL}([?#]\S*)?)?", "an http:// or https:// address, or empty")] = ""
    """The address of a document in Windchill's own pages, shown on our page and in messages; empty: none. `{key}` is
    the document's key, `{id}` (`wrs`) the ID of its iteration, such as OR:wt.doc.WTDocument:12345."""
    account: str = ""
    """`wrs`: the name of our account as Windchill shows it in ModifiedBy. Check-outs by that name are shown as "our own
    account's"; the name does not prove them ours. With a wrong name we wait for ourselves after a crash. Both dialects:
    after a failover of PostgreSQL that lost commits, a last write by that name counts as ours."""
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
    """For `oauth2`: the address that issues tokens."""
    client_id: str = ""
    """For `oauth2`."""
    client_secret: Secret = ""
    """For `oauth2`."""
    scope: str = ""
    """For `oauth2`: the scopes to ask for, separated by spaces; empty: the server's default."""
    ca_file: File = ""
    """PEM file of the authorities that may sign the server's certificate; empty: the system's."""
    cert_file: File = ""
    """PEM file of our client certificate; empty: none is sent."""
    key_file: File = ""
    """PEM file of that certificate's private key, without a password; empty: none."""
    write_method: Literal["patch", "put"] = "patch"
    """`documents`: `put` sends the whole document, for servers without PATCH. Only `patch` leaves fields alone that the
    server hides from us."""
    lock: Literal["auto", "etag", "checkout"] = "auto"
    """`wrs`: what guards a write. `auto` checks out if the server can; `etag` relies on `If-Match` alone."""
    etag_proven: bool = False
    """`wrs`: whether this server has been seen to refuse a stale `If-Match`. `lock = "etag"` is not accepted without
    it, because a server that ignores the condition lets us overwrite people. `reconciler doctor --probe` finds out."""
    page_size: Annotated[int, Meta(ge=1, le=2000)] = 200
    """`wrs`: rows of one page; a server may give fewer. Windchill gives at most 2000 by default."""
    time_filters: Literal["date", "time"] = "date"
    """`wrs`: whether filters on LastModified respect the time of day. A stock server does `date`: each poll then
    returns all of the day's changes."""
    nonce_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = 86_400.0
    """`wrs`: seconds for which a nonce of the server is valid; 0: forever. It is renewed after nine tenths of that
    time, because each write with an expired one is an entry in the server's security audit log."""
    in_flight_max: Annotated[int, Meta(ge=1, le=1000)] = 16
    """Requests at one time, at most; the limit adapts below it. A Windchill method server has a few dozen threads for
    all its users."""
    timeout_s: Annotated[Seconds, Meta(gt=0, le=3600)] = 30.0
    """Seconds for one request, everything included. A check-in on a busy server takes several."""
    retry_after_max_s: Annotated[Seconds, Meta(gt=0, le=3600)] = 60.0
    """Seconds for which all requests pause at most, when several documents in a row and probes of other documents get
    429, 503 or no answer; then a probe tests whether that is over. With a minute, a recovery is noticed within a
    minute. A single document waits by itself, as long as its `Retry-After` says, an hour at most."""
    body_bytes_max: Annotated[Bytes, Meta(ge=1024, le=GIB)] = 16 * MIB
    """Bytes of one answer; a larger one is an error. Metadata is thousands of times smaller: this only limits memory.
    """
    fields_max: Annotated[int, Meta(ge=1, le=4096)] = 2000
    """Managed fields of one document; one with more is parked until some are released. Real documents have dozens; each
    field takes about a kilobyte in the store, and all of them are read and decided at each event."""
    contested_window_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = 86_400.0
    """Seconds within which three writes of one value to a field, each of them found changed, make the field contested:
    it is shown as a conflict, and tried again after half of that time, then less and less often, down to once a day. 0:
    writes are not counted. With a day, a job that resets a field every few hours is noticed."""
    quiet_s: Annotated[Seconds, Meta(ge=0, le=900)] = 10.0
    """`wrs` with check-out: seconds without an event for a document before attributes are written, so that a burst
    makes one iteration; 0: none. A constant stream is written after 15 minutes. State, Name and attributes written with
    them don't wait."""
    checkin_interval_s: Annotated[Seconds, Meta(ge=0, le=900)] = 300.0
    """`wrs` with check-out: the least number of seconds between two check-ins of one document; 0: none. Five minutes
    make at most a dozen iterations an hour. Operators, `run --once` and tries after a version conflict don't wait."""
    write: Literal["all", "canary", "observe"] = "all"
    """`all`: every document is written as the policy decides. `observe`: every document is read, decided and shown, and
    none is written; nothing counts as agreed. `canary`: those that `[canary]` covers are written, all others observed.
    Belongs to the policy: SIGHUP takes it up."""
    windows: tuple[_Window, ...] = ()
    """Maintenance windows, in which no request to Windchill begins: a cron expression, how long each lasts (m or h, 7
    days at most) and a time zone, such as "0 22 * * SAT for 4h in Europe/Berlin". Events are still folded. `reconciler
    maintenance` opens and closes one without a restart."""
    maintenance: bool = False
    """true: events are folded, but Windchill is neither read nor written until it is false again."""


@attrs.frozen(kw_only=True, field_transformer=unshown)
class Schemas:
    """Where the schemas are with which `[[source]]` reads Avro: in a directory, in a registry, or both."""

    dir: Folder = ""
    """A directory with a file NUMBER.avsc for each schema, asked first; empty: none. With all schemas there, the log
    can be read again without the registry."""
    registry_url: Annotated[str, text(rf"({_URL})?", f"{_URL_SAYS}, or empty")] = ""
    """The schema registry; empty: none. While it does not answer, topics wait whose schemas are not known yet."""
    username: str = ""
    """For basic authentication; empty: none."""
    password: Secret = ""
    """For basic authentication."""
    plain_http: bool = False
    """Whether the password may go to another machine by http://, where anyone in between can read it."""
    ca_file: File = ""
    """PEM file of the authorities that may sign the registry's certificate; empty: the system's."""


@attrs.frozen(kw_only=True)
class Canary:
    """With windchill.write = "canary", the documents that are written: those that all of this covers."""

    documents: Annotated[tuple[Filled, ...], FILLED] = ("*",)
    """Globs over documents' keys, case-sensitive."""
    types: Annotated[tuple[Filled, ...], FILLED] = ("*",)
    """Globs over document types, case-sensitive. `*` covers documents without a type too."""
    percent: Annotated[float, Meta(ge=0, le=100)] = 5.0
    """Percent of these documents, chosen by their keys: a larger share contains a smaller one. Five show what happens,
    and can still be set right by hand."""


@attrs.frozen(kw_only=True)
class Retry:
    """How long to wait before a document is tried again."""

    conflict_attempts_max: Annotated[int, Meta(ge=1, le=100)] = 5
    """Version conflicts in a row after which a document is contended and cools down. With waits of 1, 2, 4 and 8
    seconds, five attempts outlast a person who saves twice."""
    backoff_base_s: Annotated[Seconds, Meta(gt=0, le=TEN_YEARS_S)] = 1.0
    """Seconds before the second attempt; doubled, with jitter, before each further one."""
    backoff_max_s: Annotated[Seconds, Meta(gt=0, le=TEN_YEARS_S)] = 60.0
    """The longest of these waits in seconds, so that a server that is back is noticed within a minute."""
    cooldown_base_s: Annotated[Seconds, Meta(gt=0, le=TEN_YEARS_S)] = 60.0
    """Seconds of a contended document's first cool-down; doubled each time it is contended again."""
    cooldown_max_s: Annotated[Seconds, Meta(gt=0, le=TEN_YEARS_S)] = 900.0
    """The longest cool-down in seconds: a person who edits the document all day delays us by a quarter of an hour at
    most."""
    absent_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = 604_800.0
    """Seconds for which a document is awaited that events name and Windchill does not know yet. It is looked for after
    1, 2, 5, 10, 20 and 30 minutes, then hourly; then it is parked, people are told, and it is looked for once a day. 0:
    it is parked at once. A week outlasts a release process with holidays in it."""


@attrs.frozen(kw_only=True)
class Resync:
    """How often settled documents are compared with Windchill again, and how much that may write."""

    interval_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = 600.0
    """Seconds between two comparisons of a document that drifts; 0: off. A comparison usually costs one 304."""
    interval_factor_max: Annotated[float, Meta(ge=1, le=10_000)] = 6.0
    """How many times longer the interval may grow while a document is stable; 1: not at all. With the default, drift is
    found within the hour."""
    poll_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = 60.0
    """`wrs`: seconds between two polls of the server's list of changes; 0: off. We notice an edit in Windchill within
    that time, at one request for all documents."""
    poll_overlap_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = 120.0
    """`wrs`: seconds by which each poll reaches back before the last one, for changes that were committed late and for
    clocks that differ."""
    writes_max_per_window: Annotated[int, Meta(ge=0)] = 0
    """Documents that resync or replay may write to within `window_s`, all replicas together; the others wait until the
    window has room, and an operator is told. 0: no limit, since any number guessed here would stop a first load. Set it
    once you know your usual drift."""
    window_s: Annotated[Seconds, Meta(gt=0, le=TEN_YEARS_S)] = 600.0
    """Seconds over which those documents are counted: one resync interval."""


@attrs.frozen(kw_only=True, field_transformer=unshown)
class Admin:
    """Probes, metrics, API and the operators' page."""

    bind: _Bind = "127.0.0.1:8090"
    """host:port to listen on; port 0: any free one; empty: don't listen. Any address but loopback needs `tokens_file`
    or `oidc_issuer`."""
    tokens_file: File = ""
    """A file with one line for each person or program that may use the API, and what they may do (`reconciler token`
    makes the lines); empty: no sign-in, and the server answers only this machine. It is read again when it changes."""
    external_url: _Origin = ""
    """The address that browsers use if it is not `bind` by http, for example that of a proxy with TLS; empty: `bind` by
    http. With https://, cookies are sent by https only."""
    session_key: _SealingKey = ""
    """The key that seals the cookies of browsers; empty: a random key, so that everyone signs in again after a restart.
    32 random characters can't be guessed."""
    session_s: Annotated[Seconds, Meta(ge=60, le=2_592_000)] = SESSION_S
    """Seconds after which a person must sign in again, regardless of activity: a working day."""
    oidc_issuer: _Issuer = ""
    """An identity provider (OpenID Connect) whose tokens are accepted, spelled exactly as in its own metadata; empty:
    none."""
    oidc_audience: str = ""
    """The audience (`aud`) that programs' tokens must have; empty: programs can't use the provider's tokens."""
    oidc_client_id: str = ""
    """Our client ID at the provider, so that people can sign in with it; needs external_url. Empty: they can't."""
    oidc_client_secret: Secret = ""
    """Our client secret at the provider; empty: we are a public client, and rely on PKCE."""
    oidc_scope: _Scopes = "openid profile"
    """The scopes to ask for when people sign in. The ID token must then contain the roles."""
    oidc_algorithms: Annotated[tuple[_Algorithm, ...], FILLED] = ("RS256", "ES256")
    """Accepted signature algorithms of tokens. Never `none`, nor one with a shared secret."""
    oidc_roles_claim: Filled = "roles"
    """The claim with the provider's words for a person's roles: a list or words. Dots lead into objects."""
    oidc_viewer: tuple[str, ...] = ("reconciler-viewer",)
    """Words that mean viewer."""
    oidc_operator: tuple[str, ...] = ("reconciler-operator",)
    """Words that mean operator."""
    oidc_admin: tuple[str, ...] = ("reconciler-admin",)
    """Words that mean admin. A person with none of these words may do nothing, except by oidc_sources."""
    oidc_sources: tuple[_WordSource, ...] = ()
    """Event sources (globs) for which people with a word may append events by the API. A word that means no role makes
    them producers, who may do nothing else. A word of operators or admins limits those who have no other."""
    oidc_name_claim: Filled = "preferred_username"
    """The claim with the name under which actions are recorded; if it is missing, `sub`. Choose one that people can't
    change themselves."""
    oidc_ca_file: File = ""
    """PEM file of the authorities that may sign the provider's certificate; empty: the system's."""
    hook_secret: _PathSecret = ""
    """The last part of the address at which Windchill may report a change (`POST /hooks/windchill/SECRET`); empty:
    there is no such address. Sixteen characters can't be guessed."""


@attrs.frozen(kw_only=True, field_transformer=unshown)
class Notify:
    """Whom to tell when something needs a person."""

    webhook_url: Annotated[Secret, text(_URL_OR_NONE, "an http:// or https:// address, or empty for none")] = ""
    """The address that notifications are posted to, signed per Standard Webhooks; empty: none. It is kept secret,
    because such addresses often are the only credential."""
    webhook_secret: _WebhookKeys = ""
    """The key that signs them; needed if `webhook_url` is set. With several keys, each signs, so that the receiver can
    change to a new one before the old one is removed."""
    plain_http: bool = False
    """Whether `webhook_url` may be http://. Signatures keep notifications from being forged, not from being read."""
    ca_file: File = ""
    """PEM file of the authorities that may sign the receiver's certificate; empty: the system's."""
    networks: tuple[_Network, ...] = ()
    """Networks outside the public internet that we may connect to. None by default: loopback, private, link-local and
    metadata addresses are refused, also if a name leads there."""
    digest_above: Annotated[int, Meta(ge=1, le=100)] = 5
    """Notifications at one time, at most; more become one digest with counts and the first few."""
    window_s: Annotated[Seconds, Meta(ge=0, le=86_400)] = 60.0
    """Seconds between two rounds of notifications. The first of a flood comes at once, the rest as one digest a minute.
    """
    locked_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = 3600.0
    """Seconds that a document may wait for another user's lock before we notify; 0: never. Most people check in within
    the hour."""
    audit_s: Annotated[Seconds, Meta(ge=0, le=TEN_YEARS_S)] = 86_400.0
    """Seconds between two checks of the audit trail's chain while anyone is notified; 0: none. Each reads the whole
    trail, a thousand records a second at most."""
    rules: notifying.RULES = ()
    """Which people are told of what, each `[[notify.rules]]` by itself (docs/notifications.md). Messages have values of
    documents, and who changed them last."""
    targets: Annotated[Secret, notifying.TARGETS] = ""
    """The addresses that rules name, one a line: a name and an address of apprise (extra `apprise`), such as
    `plm slack://TokenA/TokenB/TokenC`. Kept secret, because such addresses are credentials."""
    smtp_host: Annotated[str, text(r"[A-Za-z0-9.:_-]*", "a host's name, or empty for none")] = ""
    """The mail server for rules with e-mail addresses (extra `email`); empty: none."""
    smtp_port: Annotated[int, Meta(ge=1, le=65_535)] = 587
    """Its port. 587 is the one for submission with STARTTLS, 465 that with TLS from the start."""
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    """How to connect to it. With `none` anyone in between can read messages, so it takes no password."""
    smtp_username: str = ""
    """The name to sign in with; empty: without."""
    smtp_password: Secret = ""
    """The password to sign in with."""
    email_from: Annotated[str, text(rf"({notifying.EMAIL})?", "an e-mail address, or empty")] = ""
    """The sender of our mail; needed for rules with e-mail addresses."""


@attrs.frozen(kw_only=True)
class Retention:
    """What the store gives away to archives once it is old; nothing by default, since how long is for you to decide."""

    audit_d: Annotated[int, Meta(ge=0, le=TEN_YEARS_D)] = 0
    """Days that records of the audit trail stay in the store; 0: for good. `explain` and `policy test` know only those
    that are there."""
    conflicts_d: Annotated[int, Meta(ge=0, le=TEN_YEARS_D)] = 0
    """Days that a closed conflict stays, from when it closed; 0: for good."""
    dead_letters_d: Annotated[int, Meta(ge=0, le=TEN_YEARS_D)] = 0
    """Days that a replayed or discarded dead letter stays, from when it was refused; 0: for good."""
    archive: Folder = ""
    """The directory that archives go to, needed by each of these. All replicas need the same one. The reconciler never
    makes it, since a disk that is not mounted must not become a directory, and never deletes in it."""
    projection: File = ""
    """The latest archive of the projection, as `export projection --with-positions` makes it. `rebuild` begins with it,
    and `doctor` lets a change topic lose the records before its positions."""


@attrs.frozen(kw_only=True)
class Config:
    """The whole configuration."""

    log: Log = attrs.field(factory=Log)
    schemas: Schemas = attrs.field(factory=Schemas)
    store: Store = attrs.field(factory=Store)
    windchill: Windchill = attrs.field(factory=Windchill)
    canary: Canary = attrs.field(factory=Canary)
    retry: Retry = attrs.field(factory=Retry)
    resync: Resync = attrs.field(factory=Resync)
    policy: Policy = attrs.field(factory=Policy)
    policy_file: Path | None = None
    """The path of a file for the policy alone, with `[[policy]]` tables and nothing else; written above all sections.
    The daemon looks at that file every five seconds, and takes up a changed policy without a restart or a signal."""
    sources: tuple[Source, ...] = ()
    """What records of another shape mean, in the order in which they are asked."""
    admin: Admin = attrs.field(factory=Admin)
    notify: Notify = attrs.field(factory=Notify)
    retention: Retention = attrs.field(factory=Retention)
    secret_files: Mapping[str, Path] = attrs.field(factory=dict)
    """Files of the secrets that were given as `…_file`: "section.key" → file. The groups hold their content at the
    start; code that can use a new secret without a restart reads the file again."""
    origins: Mapping[str, str] = attrs.field(factory=dict, eq=False)
    """Origin of each value that is not a default: "section.key", or a rule's name and key → origin."""


GROUPS: dict[str, type[attrs.AttrsInstance]] = {
    "log": Log,
    "schemas": Schemas,
    "store": Store,
    "windchill": Windchill,
    "canary": Canary,
    "retry": Retry,
    "resync": Resync,
    "admin": Admin,
    "notify": Notify,
    "retention": Retention,
}
