"""Groups: every key there is, with its default, its limits and the reason for both (DESIGN section 8)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import attrs

from reconciler.config.values import TOPIC, TOPIC_SAYS, ChangeTopic, key
from reconciler.model.policy import Policy
from reconciler.model.signing import KEY

_PORT = r"([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_OCTET = r"(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_BROKER = rf"(\[[0-9A-Fa-f:.]+\]|[^\s,:/@\[\]]+):{_PORT}"
LOOPBACK = rf"(127(\.{_OCTET}){{3}}|localhost|\[::1\]):{_PORT}"
_URL = r"https?://[^\s/?#@\\]+(/[^\s?#]*)?"  # no user:password@ either: credentials have keys of their own
_URL_SAYS = "an http:// or https:// address without credentials or query in it"
_URL_OR_NONE = rf"({_URL}(\?[^\s#]*)?)?"
_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,127}"
_NAME_SAYS = "a name of letters, digits and _"
_MIB = 1024 * 1024
_WEBHOOK_KEY = r"whsec_[A-Za-z0-9+/]{32,}={0,2}"
_NETWORK_4 = rf"{_OCTET}(\.{_OCTET}){{3}}(/(3[0-2]|[12]?[0-9]))?"
_NETWORK_6 = r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?"


@attrs.frozen(kw_only=True)
class Log:
    """Where change events are read from, and outcomes and dead letters go to."""

    kind: Literal["kafka", "file"] = key("kafka")
    """`kafka`, or `file`: one structured-mode event a line."""
    path: str = key("events.jsonl", filled=True)
    """The file, for `kind = "file"`: .jsonl, also .gz and .zst."""
    brokers: tuple[str, ...] = key(("localhost:9092",), filled=True, pattern=_BROKER, says="a broker's host:port")
    """Bootstrap brokers, each host:port. The default is a broker on this machine, so that a first try needs no file."""
    topic: str = key("windchill.document.changes", pattern=TOPIC, says=TOPIC_SAYS)
    """The change log. It is read from its beginning at first: keep all of it. Never compact it, since each event names
    only the fields it changes. Any source but `//reconciler/…` may speak in it."""
    topics: tuple[ChangeTopic, ...] = key(())
    """Several change topics in place of `topic`, each `[[log.topics]]` with a name and its sources: an event of another
    source is a dead letter. Empty: the one `topic`. Bind sources where systems must not speak for each other: an event
    names its own source, and only the broker knows who wrote it. Keep a topic listed as long as its events count."""
    decisions_topic: str = key("windchill.document.decisions", pattern=TOPIC, says=TOPIC_SAYS)
    """What operators decide (`//reconciler/operators`), which overrides every rule: taken from here and from nowhere
    else. Let nobody else write to it. Keep all of it, as of the change log. A file log has a file beside it for that,
    `path` with `.decisions` behind."""
    outcomes_topic: str = key("windchill.document.outcomes", pattern=TOPIC, says=TOPIC_SAYS)
    """What the reconciler publishes; replaying it gives back what was agreed with Windchill."""
    dead_letter_topic: str = key("windchill.document.dead-letters", pattern=TOPIC, says=TOPIC_SAYS)
    """Events that can't be used: original bytes, key and headers."""
    group: str = key("windchill-reconciler", filled=True)
    """What brokers call us, and the name that outcomes carry as their source: two installations need two groups."""
    order: Literal["time", "log"] = key("time")
    """What ranks two claims first: the events' time, which makes re-published old events harmless, or when their
    records were appended, for sources whose clocks can't be trusted. `log` needs a topic with
    `message.timestamp.type=LogAppendTime`, or a file whose lines have `recordedtime`."""
    max_clock_skew_s: float = key(300.0, least=0)
    """Seconds by which an event's time may be later than its record's timestamp, and than this host's clock when it is
    first read; 0: not at all. Five minutes are what badly kept clocks are off by; more would let one wrong clock win
    against everybody for that long."""
    record_bytes_max: int = key(_MIB, least=1024, most=64 * _MIB)
    """Bytes of one record's value; larger ones are dead letters. 1 MiB is also what brokers accept by default."""
    fetch_records_max: int = key(5_000, least=1, most=100_000)
    """Records of one batch, which is one transaction. Larger batches fold faster, smaller ones take less memory."""
    security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = key("plaintext")
    """How brokers are spoken to. The default fits the default broker, on this machine."""
    plain_sasl: bool = key(default=False)
    """Whether `sasl_plaintext` may be used to brokers on other machines. Anyone in between can then read all events,
    with `PLAIN` the password too. For networks that are encrypted by other means."""
    ca_file: str = key("")
    """PEM file of the authorities that may sign the brokers' certificates; empty: the system's."""
    cert_file: str = key("")
    """PEM file of our client certificate; empty: none is shown."""
    key_file: str = key("")
    """PEM file of that certificate's private key; empty: none."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = key("SCRAM-SHA-512")
    """Used with `sasl_…` security. The default is the one that never sends the password."""
    sasl_username: str = key("")
    """Needed with `sasl_…` security."""
    sasl_password: str = key("", secret=True)
    """Needed with `sasl_…` security."""
    signing_key: str = key("", secret=True, pattern=rf"({KEY})?", says="32 bytes or more in base64, or empty for none")
    """What operators' decisions and our outcomes are signed with (HMAC-SHA-256), made by `openssl rand -base64 32`;
    empty: nothing is signed. From the first start with a key on, what is not signed is refused."""
    signing_key_previous: str = key(
        "", secret=True, pattern=rf"({KEY}(\s+{KEY})*)?", says="keys in base64, one a line, or empty"
    )
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

    url: str = key(
        "sqlite:///state.db",
        pattern=r"sqlite:///[^?#]+",
        says="sqlite:///FILE (a fourth slash starts an absolute path)",
        unavailable=dict.fromkeys(("postgresql:", "postgres:", "postgresql+"), "use sqlite:///FILE and one replica"),
    )
    """`sqlite:///FILE`, relative to the current directory; `sqlite:////FILE` is absolute. A local disk, not a share."""

    @property
    def path(self) -> Path:
        """The database's file."""
        return Path(self.url.removeprefix("sqlite:///"))


@attrs.frozen(kw_only=True)
class Windchill:
    """The server that is written to, and how hard."""

    dialect: Literal["documents", "wrs"] = key("documents")
    """`documents`: plain JSON resources with ETags. `wrs`: Windchill REST Services (OData)."""
    base_url: str = key("http://localhost:8085", pattern=_URL, says=_URL_SAYS)
    """What document addresses start with; for `wrs` the OData root, https://host/Windchill/servlet/odata. The default
    is where `reconciler simulate` listens."""
    service: str = key(
        "v6/DocMgmt", pattern=r"([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?", says="a path such as v6/DocMgmt"
    )
    """`wrs`: the domain with its version, below base_url; empty: base_url is the root of a plain OData service."""
    entity_set: str = key("Documents", pattern=_NAME, says=_NAME_SAYS)
    """`wrs`: the entity set of the documents."""
    key_property: str = key("Number", pattern=_NAME, says=_NAME_SAYS)
    """`wrs`: the property that events name a document by."""
    expand: tuple[str, ...] = key((), pattern=_NAME, says=_NAME_SAYS)
    """`wrs`: navigations to read along, such as "Context": their properties are shown as `Context/Name`, read-only.
    None by default, because each makes every read dearer for the server."""
    account: str = key("")
    """`wrs`: the name of our account as Windchill shows it in ModifiedBy. Check-outs by that name are shown as "our
    own account's"; it proves none of them ours. A wrong name makes us wait for ourselves after a crash."""
    auth: Literal["none", "basic", "bearer", "oauth2"] = key("none")
    """`basic` needs username and password, `bearer` token, `oauth2` (client credentials) oauth2_token_url, client_id
    and client_secret. The default fits the simulated server."""
    plain_http: bool = key(default=False)
    """Whether credentials may go to another machine by http://, where anyone in between can read them. For networks
    that are encrypted by other means."""
    username: str = key("")
    """For `basic`."""
    password: str = key("", secret=True)
    """For `basic`."""
    token: str = key("", secret=True)
    """For `bearer`."""
    oauth2_token_url: str = key("", pattern=_URL_OR_NONE, says=_URL_SAYS)
    """For `oauth2`: where tokens are issued."""
    client_id: str = key("")
    """For `oauth2`."""
    client_secret: str = key("", secret=True)
    """For `oauth2`."""
    scope: str = key("")
    """For `oauth2`: the scopes asked for, separated by spaces; empty: the server's default."""
    ca_file: str = key("")
    """PEM file of the authorities that may sign the server's certificate; empty: the system's."""
    cert_file: str = key("")
    """PEM file of our client certificate; empty: none is shown."""
    key_file: str = key("")
    """PEM file of that certificate's private key, without a password; empty: none."""
    write_method: Literal["patch", "put"] = key("patch")
    """Documents dialect: `put` sends the whole document, for servers without PATCH. Only `patch` leaves fields alone
    that the server hides from us."""
    lock: Literal["auto", "etag", "checkout"] = key("auto")
    """`wrs`: what guards a write. `auto` checks out wherever the server can; `etag` relies on `If-Match` alone."""
    etag_proven: bool = key(default=False)
    """`wrs`: whether this server was seen to refuse a stale `If-Match`. `lock = "etag"` is not accepted without it:
    a server that ignores the condition lets us overwrite people. `reconciler doctor --probe` tells."""
    page_size: int = key(200, least=1, most=2000)
    """`wrs`: rows of one page; a server may give fewer. 2000 is the most that Windchill gives by default."""
    time_filters: Literal["date", "time"] = key("date")
    """`wrs`: whether filters on LastModified honour the time of day. `date` is what a stock server does: each poll
    then returns all of the day's changes."""
    nonce_s: float = key(86_400.0, least=0)
    """`wrs`: seconds for which a nonce of the server is good; 0: for ever. It is renewed when nine tenths are over: a
    write under one that has ended is refused, and that is an entry in the server's security audit log."""
    in_flight_max: int = key(16, least=1, most=1000)
    """Requests at one time, at most; the limit adapts below it. A Windchill method server has a few dozen threads for
    all its users."""
    timeout_s: float = key(30.0, above=0, most=3600)
    """Seconds for one request, everything included. A check-in on a busy server takes several."""
    retry_after_max_s: float = key(60.0, above=0, most=3600)
    """Seconds that everything waits at most, when several documents in a row are answered with 429, 503 or not at all
    and probes of other documents are too; then a probe tells whether that is over. A minute is the longest that a
    recovery goes unnoticed. A single document waits by itself, as long as its `Retry-After` says, an hour at most."""
    body_bytes_max: int = key(16 * _MIB, least=1024, most=1024 * _MIB)
    """Bytes of one answer; more is an error, never data. Metadata is thousands of times smaller: this only bounds
    memory."""
    fields_max: int = key(2000, least=1, most=4096)
    """Managed fields of one document; one with more is parked with that reason until some are released. Real documents
    have dozens; each field costs about a kilobyte in the store, and all of them are read and decided at each event."""
    contested_window_s: float = key(86_400.0, least=0)
    """Seconds within which three writes of one value to a field, each of them found changed, make the field contested:
    it is shown as a conflict, and tried again after half of that, then more rarely, up to once a day. 0: writes are not
    counted. A day, so that a job that sets a field back every few hours is found out."""
    quiet_s: float = key(10.0, least=0, most=900)
    """`wrs` with check-out: seconds without an event for a document before attributes are written, so that bursts make
    one iteration; 0: none. A stream goes out after 15 minutes. State, Name and what goes out with them don't wait."""
    checkin_interval_s: float = key(300.0, least=0, most=900)
    """`wrs` with check-out: seconds between two check-ins of one document, at least; 0: none. Five minutes make a dozen
    iterations an hour at most. Operators, `run --once` and tries after a version conflict don't wait."""
    maintenance: bool = key(default=False)
    """true: events are folded, but Windchill is neither read nor written until it is false again."""


@attrs.frozen(kw_only=True)
class Retry:
    """How long to wait before trying a document again."""

    conflict_attempts_max: int = key(5, least=1, most=100)
    """Version conflicts in a row, after which a document is contended and cools down. With waits of 1, 2, 4 and 8
    seconds five attempts outlast a person who saves twice."""
    backoff_base_s: float = key(1.0, above=0)
    """Seconds before the second attempt; doubled, with jitter, before each further one."""
    backoff_max_s: float = key(60.0, above=0)
    """Seconds that one wait never exceeds, so that a server that is back is noticed within a minute."""
    cooldown_base_s: float = key(60.0, above=0)
    """Seconds of a contended document's first cool-down; doubled each time it is contended again."""
    cooldown_max_s: float = key(900.0, above=0)
    """Seconds that a cool-down never exceeds: whoever edits the document all day delays us by a quarter of an hour at
    most."""


@attrs.frozen(kw_only=True)
class Resync:
    """How often settled documents are compared with Windchill again, and how much that may write."""

    interval_s: float = key(600.0, least=0)
    """Seconds between two comparisons of a document that drifts; 0: off. A comparison mostly costs one 304."""
    interval_factor_max: float = key(6.0, least=1, most=10_000)
    """How many times longer the interval may grow while a document is stable; 1: not at all. With the default, drift is
    found within the hour."""
    poll_s: float = key(60.0, least=0)
    """`wrs`: seconds between two looks at the server's list of changes; 0: off. An edit in Windchill is then noticed
    within that time, at one request for all documents."""
    poll_overlap_s: float = key(120.0, least=0)
    """`wrs`: seconds by which each look reaches back before the last one, for changes that were committed late and
    for clocks that differ."""
    writes_max_per_window: int = key(0, least=0)
    """Documents that resync or replay may write to within `window_s`; the others wait for room, and an operator is
    told. 0: no threshold, since any number guessed here would stop a first load. Set it once you know your usual
    drift."""
    window_s: float = key(600.0, above=0)
    """Seconds over which those documents are counted: one resync interval."""


@attrs.frozen(kw_only=True)
class Admin:
    """Probes, metrics, API and the operators' page."""

    bind: str = key(
        "127.0.0.1:8090",
        pattern=rf"({_BROKER})?",
        says="a host:port such as 127.0.0.1:8090, or empty for none",
    )
    """host:port to listen on; port 0: any free one; empty: don't listen. Anything but loopback needs `tokens_file` or
    `oidc_issuer`."""
    tokens_file: str = key("")
    """A file that says who may use the API and what they may do, a line each (`reconciler token` makes them); empty:
    nobody is asked, and only this machine is answered. It is read again when it changes."""
    external_url: str = key(
        "",
        pattern=r"(https?://[^\s/?#@\\]+/?)?",
        says="an address without a path, such as https://reconciler.example.com, or empty",
    )
    """How browsers reach us where that is not `bind` by http, a proxy with TLS for instance; empty: by http. With
    https:// cookies are sent by https only."""
    session_key: str = key(
        "",
        secret=True,
        pattern=r"([!-~]{32,})?",
        says="at least 32 characters without spaces, or empty for a random one",
    )
    """What the cookies of browsers are sealed with; empty: a random key, so that everybody signs in again after a
    restart. 32 characters of chance are not guessed."""
    session_s: float = key(28_800.0, least=60, most=2_592_000)
    """Seconds from signing in with a browser to having to do it again, whatever is done meanwhile: a working day."""
    oidc_issuer: str = key("", pattern=rf"({_URL})?", says="an https:// address without credentials or query, or empty")
    """An identity provider (OpenID Connect) whose tokens are taken, exactly as it spells its own name; empty: none."""
    oidc_audience: str = key("")
    """Whom the tokens that programs show must be meant for (their `aud`); empty: programs show none of the provider's.
    """
    oidc_client_id: str = key("")
    """What the provider knows us by, so that people can sign in with it; needs external_url. Empty: they can't."""
    oidc_client_secret: str = key("", secret=True)
    """What we show the provider then; empty: we are a public client, and PKCE has to do."""
    oidc_scope: str = key(
        "openid profile", pattern=r"openid( [!-~]+)*", says="openid, and more scopes with spaces between"
    )
    """What is asked of the provider when people sign in; the roles must come of it, in the ID token."""
    oidc_algorithms: tuple[str, ...] = key(
        ("RS256", "ES256"),
        filled=True,
        pattern=r"(RS|PS|ES)(256|384|512)|EdDSA",
        says="RS256, ES256 or another that signs with a private key",
    )
    """By which tokens may be signed. Never `none`, nor by a shared secret."""
    oidc_roles_claim: str = key("roles", filled=True)
    """The claim that has the provider's words for what somebody may do: a list or words. Dots lead into objects."""
    oidc_viewer: tuple[str, ...] = key(("reconciler-viewer",))
    """Which of those words mean viewer."""
    oidc_operator: tuple[str, ...] = key(("reconciler-operator",))
    """Which mean operator."""
    oidc_admin: tuple[str, ...] = key(("reconciler-admin",))
    """Which mean admin. Whoever has none of them may do nothing, except by oidc_sources."""
    oidc_sources: tuple[str, ...] = key(
        (), pattern=r"\S(.*\S)?\s+\S+", says='WORD SOURCE, such as "erp-export //erp/*"'
    )
    """Of which event sources (globs) those who have a word may append events by the API. A word that means no role
    makes them producers, who may do nothing else. A word of operators or admins binds those who have no other."""
    oidc_name_claim: str = key("preferred_username", filled=True)
    """The claim with the name that acts are written down under; where it is missing, `sub`. Choose one that people
    can't change themselves."""
    oidc_ca_file: str = key("")
    """PEM file of the authorities that may sign the provider's certificate; empty: the system's."""
    hook_secret: str = key(
        "",
        secret=True,
        pattern=r"([A-Za-z0-9_-]{16,})?",
        says="at least 16 letters, digits, '-' or '_', or empty for no hook",
    )
    """The last part of the address under which Windchill may say that something has changed there
    (`POST /hooks/windchill/SECRET`); empty: there is no such address. Sixteen characters are not guessed."""


@attrs.frozen(kw_only=True)
class Notify:
    """Whom to tell when a person is needed."""

    webhook_url: str = key(
        "", secret=True, pattern=_URL_OR_NONE, says="an http:// or https:// address, or empty for none"
    )
    """Where notifications are posted, signed per Standard Webhooks; empty: nowhere. Kept secret, because such addresses
    often are the only credential."""
    webhook_secret: str = key(
        "",
        secret=True,
        pattern=rf"({_WEBHOOK_KEY}( {_WEBHOOK_KEY}){{0,4}})?",
        says='"whsec_" and a key in base64 of at least 24 bytes, or up to five of these with spaces between',
    )
    """The key they are signed with; needed when `webhook_url` is set. With several, each signs: so the receiver can
    take up a new one before the old one goes."""
    plain_http: bool = key(default=False)
    """Whether `webhook_url` may be http://. Signatures keep notifications from being forged, not from being read."""
    ca_file: str = key("")
    """PEM file of the authorities that may sign the receiver's certificate; empty: the system's."""
    networks: tuple[str, ...] = key((), pattern=f"{_NETWORK_4}|{_NETWORK_6}", says="a network such as 10.1.0.0/16")
    """Networks outside of the public internet that may be connected to. None by default: loopback, private, link-local
    and metadata addresses are refused, also when a name leads there."""
    digest_above: int = key(5, least=1, most=100)
    """Notifications at one time, at most; more become one digest with counts and the first few."""
    window_s: float = key(60.0, least=0, most=86_400)
    """Seconds from telling what there was to telling what has come since. The first of a flood comes at once, the rest
    as one digest a minute."""
    locked_s: float = key(3600.0, least=0)
    """Seconds that a document may wait for somebody's lock before it is told; 0: never. Most people check in within the
    hour."""
    audit_s: float = key(86_400.0, least=0)
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
