"""Values that are each allowed, but not together."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from reconciler.config import notifying, windows
from reconciler.config.groups import LOOPBACK
from reconciler.core.events import framing
from reconciler.core.events.mapping import Source
from reconciler.model import signing
from reconciler.model.event import is_ours

Given = Callable[[str, str], Any]  # section and key → value
At = Callable[..., str]  # section and keys → the place of the first of these keys that is set


@attrs.frozen
class Setting:
    """One effective value, its origin, and the place to name if it is wrong."""

    value: Any = attrs.field(repr=False)
    origin: str
    where: str
    secret_file: Path | None = None


# (section, key, its value, keys that the value needs)
_NEEDS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("windchill", "auth", "basic", ("username", "password")),
    ("windchill", "auth", "bearer", ("token",)),
    ("windchill", "auth", "oauth2", ("oauth2_token_url", "client_id", "client_secret")),
)
_BY_PASSWORD = ("sasl_username", "sasl_password")
_SASL_NEEDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"), _BY_PASSWORD),
    "OAUTHBEARER": ("oauth_token_url", "oauth_client_id", "oauth_client_secret"),
    "AWS_MSK_IAM": ("aws_region",),
}
# (section, key, the key that it needs if it is set, why)
_PAIRS = (
    ("log", "signing_key_previous", "signing_key", ", to sign with"),
    ("notify", "webhook_url", "webhook_secret", ", to sign with"),
    ("schemas", "username", "registry_url", ""),
    ("schemas", "username", "password", ""),
    ("admin", "oidc_audience", "oidc_issuer", ""),
    ("admin", "oidc_client_id", "oidc_issuer", ""),
    ("admin", "oidc_client_secret", "oidc_issuer", ""),
    ("admin", "oidc_sources", "oidc_issuer", ""),
    *(("retention", key, "archive", ", to archive in") for key in ("audit_d", "conflicts_d", "dead_letters_d")),
)
_ORDERED = (("retry", "backoff_base_s", "backoff_max_s"), ("retry", "cooldown_base_s", "cooldown_max_s"))


def found(settings: Mapping[tuple[str, str], Setting]) -> Iterator[str]:
    """Yield what is wrong with values that are each allowed, but not together."""

    def given(section: str, key: str) -> Any:
        return settings[section, key].value

    def at(section: str, *keys: str) -> str:
        """Return the place of the first of these keys that is set: a default is not to blame."""
        asked = [settings[section, key] for key in keys]
        return next((setting for setting in asked if setting.origin != "default"), asked[0]).where

    needs, security = [*_NEEDS], given("log", "security")
    if security.startswith("sasl"):
        needs.append(("log", "security", security, _SASL_NEEDS.get(given("log", "sasl_mechanism"), ())))
    for section, key, value, needed in needs:
        missing = [name for name in needed if not given(section, name)]
        if given(section, key) == value and missing:
            yield f'{at(section, key)}: "{value}" needs {section}.{f" and {section}.".join(missing)}'
    for section, key, needed_key, why in _PAIRS:
        if given(section, key) and not given(section, needed_key):
            yield f"{at(section, key)}: needs {section}.{needed_key}{why}"
    for section, low, high in _ORDERED:
        if given(section, low) > given(section, high):
            yield f"{at(section, low, high)}: {section}.{low} must not be above {section}.{high}"
    for section in ("log", "store", "windchill"):
        if bool(given(section, "cert_file")) != bool(given(section, "key_file")):
            yield f"{at(section, 'cert_file', 'key_file')}: cert_file and key_file are given together or not at all"
    if given("windchill", "lock") == "etag" and not given("windchill", "etag_proven"):
        yield f'{at("windchill", "lock")}: "etag" needs windchill.etag_proven = true: see `reconciler doctor --probe`'
    yield from _signing_in(given, at)
    try:
        signing.keys(given("log", "signing_key"), given("log", "signing_key_previous"))
    except ValueError:
        where = at("log", "signing_key_previous", "signing_key")
        yield f"{where}: a key is not valid base64, as if it was cut off; `openssl rand -base64 32` makes one"
    yield from (
        f"{at('windchill', 'windows')}: {why}" for why in map(windows.fault, given("windchill", "windows")) if why
    )
    yield from (
        f"{at('log', 'windows')}: {why}" for why in map(windows.fault_of_source, given("log", "windows")) if why
    )
    yield from _log_topics(given, at, topic_is_set=settings["log", "topic"].origin != "default")
    yield from _in_the_clear(given, at)
    said = notifying.faults(given("notify", "rules"), given("notify", "targets"), lambda key: given("notify", key))
    yield from (f"{at('notify', 'rules')}: {fault}" for fault in said)


# -------------------------------------------------------------------------------------------------------- in the clear
# Credentials that anyone on the way could read are refused, unless a setting allows it.


def _in_the_clear(given: Given, at: At) -> Iterator[str]:
    """Yield what is wrong with the addresses and protocols that credentials would use."""
    auth, url = given("windchill", "auth"), given("windchill", "base_url")
    do = "use https://, or set windchill.plain_http = true"
    if not given("windchill", "plain_http"):
        if auth != "none" and _is_open(url):
            yield f'{at("windchill", "base_url")}: anyone in between can read the credentials of auth = "{auth}"; {do}'
        if auth == "oauth2" and _is_open(given("windchill", "oauth2_token_url") or "https:"):
            yield f"{at('windchill', 'oauth2_token_url')}: anyone in between can read windchill.client_secret; {do}"
    if not given("log", "plain_sasl") and _is_open(given("log", "oauth_token_url") or "https:"):
        do = "use https://, or set log.plain_sasl = true"
        yield f"{at('log', 'oauth_token_url')}: anyone in between can read log.oauth_client_secret; {do}"
    if (
        given("schemas", "username")
        and not given("schemas", "plain_http")
        and _is_open(given("schemas", "registry_url"))
    ):
        do = "use https://, or set schemas.plain_http = true"
        yield f"{at('schemas', 'registry_url')}: anyone in between can read schemas.password; {do}"
    outside = [broker for broker in given("log", "brokers") if not re.fullmatch(LOOPBACK, broker, re.IGNORECASE)]
    if given("log", "security") == "sasl_plaintext" and outside and not given("log", "plain_sasl"):
        do = 'use "sasl_ssl", or set log.plain_sasl = true'
        yield f"{at('log', 'security')}: anyone between us and {outside[0]} can read along and try passwords; {do}"
    if given("notify", "smtp_security") == "none" and given("notify", "smtp_password"):
        do = 'use smtp_security = "starttls" or "tls"'
        yield f"{at('notify', 'smtp_security')}: anyone in between can read notify.smtp_password; {do}"
    if str(given("notify", "webhook_url")).lower().startswith("http:") and not given("notify", "plain_http"):
        yield f"{at('notify', 'webhook_url')}: needs https://, or notify.plain_http = true"


def _is_open(url: str) -> bool:
    """Whether anyone on the way to an address could read along: no TLS, and not this machine."""
    try:
        parts = urlsplit(url)
        place = f"{parts.hostname if ':' not in (parts.hostname or '') else f'[{parts.hostname}]'}:{parts.port or 80}"
    except ValueError:
        return True
    return parts.scheme.lower() != "https" and re.fullmatch(LOOPBACK, place) is None


# ---------------------------------------------------------------------------------------------------------- log topics
_KEYS = ("topics", "topic", "decisions_topic", "outcomes_topic", "dead_letter_topic")


def _log_topics(given: Given, at: At, *, topic_is_set: bool) -> Iterator[str]:
    """Yield what is wrong with topics that are each allowed."""
    several = given("log", "topics")
    names = [one.name for one in several] or [given("log", "topic")]
    names += [given("log", key) for key in _KEYS[2:]]
    for name in (name for name, count in Counter(names).items() if count > 1):
        yield (
            f"{at('log', *_KEYS)}: {name} is named twice; change topics, decisions_topic, outcomes_topic and"
            " dead_letter_topic must all be different topics"
        )
    if several and topic_is_set:
        yield f"{at('log', 'topic')}: give either log.topic or [[log.topics]], and list the one topic there to keep it"
    if several and given("log", "kind") == "file":
        yield f'{at("log", "topics")}: needs log.kind = "kafka", because a file does not tell its writers apart'
    for glob in (glob for one in several for glob in one.sources if is_ours(glob)):
        yield f"{at('log', 'topics')}: {glob} is accepted from log.decisions_topic only; leave it out"


def of_sources(sources: Sequence[Source], settings: Mapping[tuple[str, str], Setting]) -> Iterator[str]:
    """Yield what is wrong with the topics and formats of `[[source]]`."""
    in_file, known = settings["log", "kind"].value == "file", ("registry_url", "dir")
    for number, source in enumerate(sources, 1):
        if source.format == framing.AVRO and not any(settings["schemas", key].value for key in known):
            yield f'source[{number}].format: "avro" needs schemas.registry_url or schemas.dir'
        if source.format != framing.JSON and in_file:
            yield f'source[{number}].format: "{source.format}" needs log.kind = "kafka", because lines are text'
    if in_file:
        if sources and settings["log", "order"].value == "log":
            yield f'{settings["log", "order"].where}: "log" needs Kafka once there is a [[source]]: lines have no times'
        return
    ours = {settings["log", key].value: key for key in _KEYS[2:]}
    for number, source in enumerate(sources, 1):
        if not source.topic and settings["log", "topics"].value:
            yield f"source[{number}].topic: is needed, because [[log.topics]] takes the place of log.topic"
        if source.topic in ours:
            yield f"source[{number}].topic: {source.topic} is log.{ours[source.topic]}; name a topic of that system"


# ---------------------------------------------------------------------------------------------------------- signing in


def _signing_in(given: Given, at: At) -> Iterator[str]:
    """Yield what is wrong with settings of signing in."""
    bind, issuer = given("admin", "bind"), given("admin", "oidc_issuer")
    if bind and not given("admin", "tokens_file") and not issuer and not re.fullmatch(LOOPBACK, bind):
        yield (
            f"{at('admin', 'bind')}: others can reach {bind}, so it needs admin.tokens_file (see `reconciler token`) "
            "or admin.oidc_issuer"
        )
    if issuer:
        yield from _provider(given, at)


def _provider(given: Given, at: At) -> Iterator[str]:
    outside = given("admin", "external_url")
    if _is_open(given("admin", "oidc_issuer")):
        yield f"{at('admin', 'oidc_issuer')}: needs https://, unless the provider is on this machine"
    if not given("admin", "oidc_audience") and not given("admin", "oidc_client_id"):
        yield (
            f"{at('admin', 'oidc_issuer')}: needs admin.oidc_audience (for programs), or admin.oidc_client_id with "
            "admin.external_url (for people)"
        )
    if given("admin", "oidc_client_secret") and not given("admin", "oidc_client_id"):
        yield f"{at('admin', 'oidc_client_secret')}: needs admin.oidc_client_id"
    if given("admin", "oidc_client_id") and not outside:
        yield f"{at('admin', 'oidc_client_id')}: needs admin.external_url, to which the provider sends people back"
    if given("admin", "oidc_client_id") and outside and _is_open(outside):
        yield f"{at('admin', 'external_url')}: needs https:// when people sign in with a provider"
    if not any(given("admin", f"oidc_{role}") for role in ("viewer", "operator", "admin", "sources")):
        yield f"{at('admin', 'oidc_viewer')}: without a word for any role no one could sign in"
