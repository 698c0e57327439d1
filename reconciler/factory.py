"""
Makes what a configuration names: the store, the logs, Windchill, and what the daemon needs besides.

For the daemon, and for commands that need one of these. Only the store is opened here; nothing else connects yet.
"""

import gc
import re
import socket
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote
from zoneinfo import ZoneInfo

import attrs

from reconciler.adapters import (
    avro,
    credentials,
    disk,
    documents,
    file_log,
    framed_log,
    http,
    kafka,
    kafka_client,
    kafka_group,
    kafka_tokens,
    message_template,
    schema_registry,
    stores,
    webhook,
)
from reconciler.adapters.archive import FileArchive
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.files import WatchedFile
from reconciler.adapters.wrs import tokens
from reconciler.adapters.wrs.options import WrsOptions
from reconciler.adapters.wrs.windchill import WrsWindchill
from reconciler.config import Config, Log, deciding_by, needing_restart, notifying, shown, windows, with_policy
from reconciler.core.events import decode, framing, mapping
from reconciler.core.events.part import Part
from reconciler.core.explain.messages import Links
from reconciler.core.explain.notices import Notice
from reconciler.core.scheduling.windows import Period
from reconciler.core.settling.cases import AttemptOptions, Pace
from reconciler.errors import ConfigError
from reconciler.flows import notify, reload, retention
from reconciler.flows.actions import OperatorActions
from reconciler.flows.checkpoint import Checkpoints
from reconciler.flows.maintenance import Maintenance
from reconciler.flows.messages import Channel, Messages
from reconciler.flows.notifier import Thresholds
from reconciler.flows.watchdog import IdleClock
from reconciler.model import codec, notified, signing
from reconciler.model.document import Document
from reconciler.model.event import ChangeTopic, Record, Topics
from reconciler.model.limits import EVENT_BYTES_MAX
from reconciler.model.policy import Policy
from reconciler.model.signing import Keys
from reconciler.model.standing import Space
from reconciler.ports import Clock, EventLog, ReaderGroup, Slots, Store, StoreAdmin, Telemetry, Windchill
from reconciler.tracing import NO_TRACING, Tracing
from reconciler.web.access import AccessControl
from reconciler.web.page import links
from reconciler.web.principal import Provider
from reconciler.web.sessions import Browsing
from reconciler.web.tokens import TokenFile

if TYPE_CHECKING:
    from reconciler.adapters.oidc import Oidc


_SCHEMAS_S = 30.0  # for which a command asks for a schema before it gives up


def store_admin(config: Config) -> StoreAdmin:
    """Return the configured state store as a whole, not yet opened."""
    settings = config.store
    options = stores.Options(
        password=settings.password,
        sslmode=settings.sslmode,
        ca_file=settings.ca_file,
        cert_file=settings.cert_file,
        key_file=settings.key_file,
        pooled=settings.pooled,
        evict_s=settings.evict_s,
        name=socket.gethostname(),
    )
    return stores.admin(settings.url, options, IdleClock(SystemClock()))


async def open_store(config: Config, *, owner: bool) -> Store:
    """Open the configured state store."""
    return await store_admin(config).open(owner=owner)


def outcome_log(config: Config) -> Config:
    """Return the configuration with its outcome log in place of its change log."""
    path = file_log.beside(Path(config.log.path), file_log.OUTCOMES)
    return alone(attrs.evolve(config, log=attrs.evolve(config.log, path=str(path))), config.log.outcomes_topic)


def alone(config: Config, topic: str, *, order: Literal["time", "log"] = "time") -> Config:
    """Return the configuration with a single topic, or file, as its log, without a topic of decisions."""
    one = attrs.evolve(config.log, topic=topic, topics=(), decisions_topic="", order=order)
    return attrs.evolve(config, log=one)


def make_outcome_log(config: Config, clock: Clock) -> EventLog:
    """Return the outcome log for reading, not yet opened; a missing file is created."""
    outcomes = outcome_log(config)
    if outcomes.log.kind == "file":
        file_log.create(Path(outcomes.log.path))
    return make_log(outcomes, clock, grows=False)


def make_letter_log(config: Config, clock: Clock) -> EventLog | None:
    """Return the dead-letter log for reading, not yet opened; None if its file does not exist yet."""
    log = config.log
    if log.kind == "kafka":
        return make_log(alone(config, log.dead_letter_topic), clock)
    path = file_log.beside(Path(log.path), file_log.DEAD_LETTERS)
    return file_log.FileLog(path, clock, grows=False, alone=True) if path.exists() else None


def make_log(config: Config, clock: Clock, *, grows: bool = True) -> EventLog:
    """Return the configured change log, not yet opened; `grows` says whether a file is followed past its end."""
    log = config.log
    if log.kind == "file":
        named = file_log.FileTopics(
            outcomes=log.outcomes_topic, dead_letters=log.dead_letter_topic, foreign=bool(config.sources)
        )
        stamped, single = log.order == "log", not log.decisions_topic
        return file_log.FileLog(Path(log.path), clock, grows=grows, topics=named, stamped=stamped, alone=single)
    found = kafka.KafkaLog(kafka_options(config), clock)
    framed = {topic: several for topic, several in mappings(config).items() if topic in log.read_topics}
    registry = make_registry(config, clock) if framed else None
    if registry is None:
        return found

    def numbers(record: Record) -> list[int]:
        return mapping.schema_ids(framed.get(record.topic, ()), record)

    return framed_log.FramedLog(found, registry, numbers, clock, None if grows else _SCHEMAS_S)


def make_registry(config: Config, clock: Clock) -> schema_registry.Registry | None:
    """Return who knows the schemas of `[[source]]`, None if none needs one. Raises ConfigError without the extra."""
    readers = [source for source in config.sources if source.format == framing.AVRO]
    if not readers:
        return None
    avro.require()
    settings = config.schemas
    options = schema_registry.RegistryOptions(
        url=settings.registry_url,
        username=settings.username,
        password=_secret(config, "schemas.password", settings.password),
        ca_file=Path(settings.ca_file) if settings.ca_file else None,
        folder=Path(settings.dir) if settings.dir else None,
    )
    return schema_registry.Registry(options, readers[0].schemas, clock)


def make_reader_group(config: Config, clock: Clock, *, divided: bool) -> ReaderGroup | None:
    """Return the consumer group, None for a log in files; `divided`: it tells each replica what to read."""
    log = config.log
    if log.kind == "file":
        return None
    return kafka_group.KafkaGroup(kafka_options(config), log.group, clock, divided=divided, session_s=log.session_s)


def make_receivers(config: Config, clock: Clock, store: Store | None) -> list[notify.Receiver]:
    """
    Return everyone who is told by notifications: the webhook, and for each rule its e-mail and its targets.

    Call it inside a running event loop. Without a store they can send samples only. Raises ConfigError without a
    library that one of them needs.
    """
    settings = config.notify
    made = []
    if settings.webhook_url:
        made.append(notify.Receiver(notified.WEBHOOK, _webhook(config, clock), notify_options(config)))
    for rule in settings.rules:
        zone = ZoneInfo(rule.time_zone)
        template = message_template.Template(Path(rule.template) if rule.template else None, zone)
        options = attrs.evolve(
            notify_options(config), most=1, window_s=rule.window_s, first=_SHOWN_MAX, look_s=_RULES_LOOK_S
        )
        for name, channel in _channels(config, rule, clock):
            teller = Messages(store, clock, channel, template.render, _links(config))
            made.append(notify.Receiver(f"{rule.name}/{name}", teller, options, notifying.route(rule)))
    return made


def _channels(config: Config, rule: notifying.Rule, clock: Clock) -> Iterator[tuple[str, Channel]]:
    """Yield who carries a rule's messages, each by its name."""
    settings, targets = config.notify, notifying.targets(config.notify.targets)
    emails = tuple(filter(notifying.is_email, rule.to))
    if emails:
        try:
            from reconciler.adapters import mail  # noqa: PLC0415  its library is an extra
        except ImportError as error:
            install = "pip install 'windchill-reconciler[email]'"
            raise ConfigError(f"notify.smtp_host: needs what is not installed ({error.name}): {install}") from error
        options = mail.MailOptions(
            host=settings.smtp_host,
            port=settings.smtp_port,
            security=settings.smtp_security,
            username=settings.smtp_username,
            password=settings.smtp_password,
            sender=settings.email_from,
            ca_file=Path(settings.ca_file) if settings.ca_file else None,
        )
        yield "email", mail.Mail(options, emails, clock)
    for name in (to for to in rule.to if not notifying.is_email(to)):
        try:
            from reconciler.adapters import services  # noqa: PLC0415  its library is an extra, and takes a while to load
        except ImportError as error:
            install = "pip install 'windchill-reconciler[apprise]'"
            raise ConfigError(f"notify.targets: needs what is not installed ({error.name}): {install}") from error
        yield name, services.Service(name, targets[name])


def _links(config: Config) -> Links:
    """Return where people find what a notification is about."""
    outside = config.admin.external_url.rstrip("/")

    def page(notice: Notice) -> str:
        if not outside or not notice.document:
            return outside
        conflict = notice.conflict
        return outside + (links.document(notice.document) if conflict is None else links.conflict(conflict.id))

    return Links(page, windchill_link(config))


def windchill_link(config: Config) -> Callable[[Document], str]:
    """Return what makes the address of a document in Windchill's own pages, empty while it is not known."""
    template = config.windchill.link_template

    def link(document: Document) -> str:
        snapshot = document.agreement.snapshot
        token = None if snapshot is None else snapshot.token
        place = None if token is None or config.windchill.dialect != "wrs" else tokens.place(token)
        if "{id}" in template and place is None:
            return ""
        named = {"key": document.key, "id": "" if place is None else place.id}
        return re.sub(r"\{(key|id)\}", lambda found: quote(named[found[1]], safe=""), template)

    return link


def _webhook(config: Config, clock: Clock) -> webhook.Webhook:
    settings = config.notify
    options = webhook.WebhookOptions(
        url=settings.webhook_url,
        secrets=tuple(settings.webhook_secret.split()),
        networks=settings.networks,
        plain=settings.plain_http,
        ca_file=Path(settings.ca_file) if settings.ca_file else None,
    )
    return webhook.Webhook(options, clock)


def notify_options(config: Config) -> notify.NotifyOptions:
    """Return how notifications are told."""
    settings = config.notify
    return notify.NotifyOptions(f"//reconciler/{config.log.group}", settings.digest_above, settings.window_s)


_SHOWN_MAX = 20  # notices that one message shows whole
_RULES_LOOK_S = 5.0  # people need not know within the second, and each rule looks by itself


def notify_thresholds(config: Config) -> Thresholds:
    """Return how long things are let be before they are told."""
    return Thresholds(config.notify.locked_s, config.notify.audit_s)


def actions(config: Config, store: Store, log: EventLog, clock: Clock) -> OperatorActions:
    """Return the actions of operators, in the role of commands; `as_role` gives another one."""
    marks = config.log.kind == "file"  # a line has no headers
    options = decoding(config)
    return OperatorActions(store=store, log=log, clock=clock, decoding=lambda: options, marks=marks)


def make_housekeeping(
    config: Config,
    store: Store,
    clock: Clock,
    slots: Slots | None,
    *,
    duty: Callable[[str], Callable[[], bool]],
    wake: Callable[[], None],
    telemetry: Telemetry,
) -> dict[str, Checkpoints | retention.Retention]:
    """Return the loops beside all work, by name: checkpoints where there are slots, and what prunes if told to."""
    made: dict[str, Checkpoints | retention.Retention] = {}
    if slots is not None:
        options = attempt_options(config)
        made["checkpoints"] = Checkpoints(
            slots=slots,
            views=store,
            clock=clock,
            topic=options.outcomes_topic,
            source=options.source,
            mine=duty("checkpoint"),
            wake=wake,
        )
    settings = config.retention
    days = retention.Days(settings.audit_d, settings.conflicts_d, settings.dead_letters_d)
    if days != retention.Days():
        archive = FileArchive(Path(settings.archive))
        pruner = retention.Pruner(store=store, archive=archive, clock=clock, who="retention", role="daemon")
        made["retention"] = retention.Retention(pruner=pruner, days=days, telemetry=telemetry, mine=duty("retention"))
    return made


def make_windows(config: Config) -> Callable[[int], list[Period]]:
    """Return what finds Windchill's maintenance windows around a moment."""
    return partial(windows.around, [windows.parse(text) for text in config.windchill.windows])


def make_maintenance(config: Config, store: Store, clock: Clock, changed: Callable[[], None]) -> Maintenance:
    """Return what knows when Windchill, or a source, is in maintenance."""
    known = [windows.of_source(text) for text in config.log.windows]
    return Maintenance(
        store,
        clock,
        make_windows(config),
        lambda source, now_us: windows.around([one for glob, one in known if fnmatchcase(source, glob)], now_us),
        always=config.windchill.maintenance,
        changed=changed,
    )


def spaces(config: Config) -> list[Space]:
    """Return how much is free where the store, and a log in a file, are."""
    paths = {"log": Path(config.log.path)} if config.log.kind == "file" else {}
    if files := store_admin(config).files:
        paths["store"] = files[0]
    return disk.spaces(paths)


def kafka_options(config: Config) -> kafka_client.KafkaOptions:
    """Return the options of a client of the configured broker. Raises ConfigError without a library that it needs."""
    log = config.log
    tokens = _kafka_tokens(config)
    return kafka_client.KafkaOptions(
        brokers=log.brokers,
        topics=log.read_topics,
        append_time=log.order == "log",
        client_id=log.group,
        security=log.security,
        ca_file=log.ca_file or None,
        cert_file=log.cert_file or None,
        key_file=log.key_file or None,
        key_password=log.key_password,
        sasl_mechanism="OAUTHBEARER" if tokens is not None else log.sasl_mechanism,
        tokens=tokens,
        kerberos_service=log.kerberos_service,
        compression=log.compression,
        sasl_username=log.sasl_username or None,
        sasl_password=log.sasl_password or None,
        append_bytes_max=max(log.record_bytes_max, EVENT_BYTES_MAX),
    )


def _kafka_tokens(config: Config) -> kafka_tokens.OidcTokens | kafka_tokens.MskTokens | None:
    """Return who gives us tokens for Kafka, None if it lets us in by other means."""
    log, clock = config.log, SystemClock()
    match log.sasl_mechanism if log.security.startswith("sasl") else None:
        case "OAUTHBEARER":
            secret = _secret(config, "log.oauth_client_secret", log.oauth_client_secret)
            client = credentials.ClientCredentials(log.oauth_token_url, log.oauth_client_id, secret, log.oauth_scope)
            return kafka_tokens.OidcTokens(client, clock, Path(log.oauth_ca_file) if log.oauth_ca_file else None)
        case "AWS_MSK_IAM":
            kafka_tokens.require_msk()
            return kafka_tokens.MskTokens(log.aws_region, clock)
        case "GSSAPI":
            kafka_tokens.require_kerberos()
    return None


def make_identity(config: Config, clock: Clock) -> "Oidc | None":
    """Return the identity provider, None where there is none. Call it inside a running event loop."""
    settings = config.admin
    if not settings.oidc_issuer:
        return None
    try:
        from reconciler.adapters import oidc  # noqa: PLC0415  its library is an extra, and takes a while to import
    except ImportError as error:
        install = "pip install 'windchill-reconciler[oidc]'"
        raise ConfigError(f"admin.oidc_issuer: needs what is not installed ({error.name}): {install}") from error
    options = oidc.OidcOptions(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        client_id=settings.oidc_client_id,
        client_secret=settings.oidc_client_secret,
        scope=settings.oidc_scope,
        algorithms=settings.oidc_algorithms,
        roles_claim=settings.oidc_roles_claim,
        name_claim=settings.oidc_name_claim,
        ca_file=Path(settings.oidc_ca_file) if settings.oidc_ca_file else None,
    )
    return oidc.Oidc(options, clock)


def make_access_control(config: Config, clock: Clock, identity: "Oidc | None" = None) -> AccessControl:
    """Return who may use the admin server. Raises ConfigError if the tokens can't be used."""
    settings = config.admin
    file, token_file = settings.tokens_file, None
    if file:
        token_file = TokenFile(WatchedFile(Path(file)).text, file)
        token_file.tokens()  # an unusable file is reported at once
    browsing = Browsing(
        external_url=settings.external_url.rstrip("/"), key=settings.session_key, lasts_s=settings.session_s
    )
    provider = None
    if identity is not None:
        bound: dict[str, tuple[str, ...]] = {}
        for word, source in (one.rsplit(maxsplit=1) for one in settings.oidc_sources):
            bound[word] = (*bound.get(word, ()), source)
        provider = Provider(identity, settings.oidc_viewer, settings.oidc_operator, settings.oidc_admin, bound)
    return AccessControl(clock, token_file, browsing, provider)


def make_windchill(
    config: Config,
    clock: Clock,
    telemetry: Telemetry,
    tracing: Tracing = NO_TRACING,
    *,
    may_send: Callable[[], bool] = lambda: True,
) -> Windchill:
    """Return the configured Windchill; it sends only while it `may_send`. Call it inside a running event loop."""
    settings = config.windchill
    options = http.HttpOptions(
        timeout_s=settings.timeout_s,
        body_bytes_max=settings.body_bytes_max,
        ca_file=Path(settings.ca_file) if settings.ca_file else None,
        cert_file=Path(settings.cert_file) if settings.cert_file else None,
        key_file=Path(settings.key_file) if settings.key_file else None,
    )
    client = http.HttpClient(options, clock, _auth(config), telemetry, tracing, may_send=may_send)
    if settings.dialect == "wrs":
        names = [field.name for field in attrs.fields(WrsOptions)]  # each is a key of the configuration
        return WrsWindchill(client, WrsOptions(**{name: getattr(settings, name) for name in names}), clock)
    dialect = documents.DocumentsOptions(base_url=settings.base_url, write_method=settings.write_method)
    return documents.DocumentsWindchill(client, dialect)


def topics(log: Log) -> Topics:
    """Return the topics of the change log, and the sources that may write to each."""
    several = tuple(ChangeTopic(one.name, one.sources) for one in log.topics)
    return Topics(
        several or (ChangeTopic(log.topic),), log.decisions_topic, (log.outcomes_topic, log.dead_letter_topic)
    )


def file_topics(log: Log) -> Topics:
    """Return the same for a log in files, by their names."""
    path = Path(log.path)
    return Topics((ChangeTopic(path.name),), file_log.decisions_of(path).name)


def decoding(config: Config, *, archive: bool = False) -> decode.Options:
    """
    Return the rules by which records are decoded.

    `archive`: the log is a file that a person has given, not the configured one.
    """
    in_files = config.log.kind == "file" and not archive
    return decode.Options(
        record_bytes_max=config.log.record_bytes_max,
        clock_skew_us_max=round(config.log.max_clock_skew_s * 1_000_000),
        by_position=config.log.order == "log",
        archived=config.log.kind == "file",
        vouched=archive,
        topics=file_topics(config.log) if in_files else topics(config.log),
        policy=config.policy,
        keys=signing_keys(config),
        part=Part(config.log.subjects, config.log.sources),
        sources={} if archive else mappings(config),
    )


def mappings(config: Config) -> mapping.Sources:
    """Return what says how records of another shape are read, by topic."""
    found: dict[str, list[mapping.Source]] = {}
    for source in config.sources:
        topic = Path(config.log.path).name if config.log.kind == "file" else source.topic or config.log.topic
        found.setdefault(topic, []).append(source)
    return found


def attempt_options(config: Config) -> AttemptOptions:
    """Return what every attempt shares."""
    retry, resync = config.retry, config.resync
    pace = Pace(
        conflict_attempts_max=retry.conflict_attempts_max,
        backoff_base_s=retry.backoff_base_s,
        backoff_max_s=retry.backoff_max_s,
        cooldown_base_s=retry.cooldown_base_s,
        cooldown_max_s=retry.cooldown_max_s,
        absent_s=retry.absent_s,
        interval_s=resync.interval_s,
        interval_factor_max=resync.interval_factor_max,
        writes_window_s=resync.window_s,
        contested_window_s=config.windchill.contested_window_s,
        quiet_s=config.windchill.quiet_s,
        checkin_interval_s=config.windchill.checkin_interval_s,
    )
    digest = codec.policy_digest(config.policy)
    source, fields_max = f"//reconciler/{config.log.group}", config.windchill.fields_max
    return AttemptOptions(config.policy, digest, pace, config.log.outcomes_topic, source, fields_max)


def signing_keys(config: Config) -> Keys | None:
    """Return the keys that decisions and outcomes are signed with, `None` without any."""
    return signing.keys(config.log.signing_key, config.log.signing_key_previous)


def in_force(config: Config, *, restart: tuple[str, ...] = ()) -> reload.InForce:
    """Return the policy and rules of a configuration."""
    return reload.InForce(attempt_options(config), decoding(config), shown(config), restart)


def by_policy(running: Config, policy: Policy) -> reload.InForce:
    """Return the same with a policy that is in no file: other replicas have put it in force."""
    return in_force(with_policy(running, deciding_by(policy)))


def policy_source(running: Config, again: Callable[[], Config]) -> reload.PolicySource:
    """Return how to reload the policy; all other settings stay those of `running`."""

    def read() -> reload.InForce:
        fresh = again()
        return in_force(with_policy(running, fresh), restart=needing_restart(running, fresh))

    return reload.PolicySource(read, WatchedFile(running.policy_file).changes() if running.policy_file else None)


def _auth(config: Config) -> credentials.Auth:
    settings = config.windchill

    match settings.auth:
        case "basic":
            return credentials.Basic(settings.username, _secret(config, "windchill.password", settings.password))
        case "bearer":
            return credentials.Bearer(_secret(config, "windchill.token", settings.token))
        case "oauth2":
            client_secret = _secret(config, "windchill.client_secret", settings.client_secret)
            return credentials.ClientCredentials(
                settings.oauth2_token_url, settings.client_id, client_secret, settings.scope
            )
        case _:
            return credentials.NoAuth()


def _secret(config: Config, key: str, value: str) -> credentials.Secret:
    """Prefer the file that a secret came from: its content may change while we run."""
    path = config.secret_files.get(key)
    return credentials.SecretFile(path) if path else value


def settle_memory() -> None:
    """
    Run the garbage collector more rarely, and not over what is loaded already.

    Our values have no reference cycles, so reference counts free them. At its default pace the collector takes a
    quarter of a replay's time and finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
