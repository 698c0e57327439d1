"""Contradictions: keys that are each allowed, but not together."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol
from urllib.parse import urlsplit

from reconciler.config.groups import LOOPBACK
from reconciler.model.topics import is_ours

# -------------------------------------------------------------------------------------------------------- in the clear
# What would travel readable for whoever is on the way, and is refused unless somebody has said that it may.


class Given(Protocol):
    """Returns the value of a key."""

    def __call__(self, section: str, key: str) -> Any: ...


class At(Protocol):
    """Returns the place of the first of these keys that somebody gave."""

    def __call__(self, section: str, *keys: str) -> str: ...


def in_the_clear(given: Given, at: At) -> Iterator[str]:
    """Yield what is wrong with addresses and protocols that credentials would go by."""
    auth, url = given("windchill", "auth"), given("windchill", "base_url")
    do = "use https://, or set windchill.plain_http = true"
    if not given("windchill", "plain_http"):
        if auth != "none" and is_open(url):
            yield f'{at("windchill", "base_url")}: anyone in between can read the credentials of auth = "{auth}"; {do}'
        if auth == "oauth2" and is_open(given("windchill", "oauth2_token_url") or "https:"):
            yield f"{at('windchill', 'oauth2_token_url')}: anyone in between can read windchill.client_secret; {do}"
    outside = [broker for broker in given("log", "brokers") if not re.fullmatch(LOOPBACK, broker, re.IGNORECASE)]
    if given("log", "security") == "sasl_plaintext" and outside and not given("log", "plain_sasl"):
        do = 'use "sasl_ssl", or set log.plain_sasl = true'
        yield f"{at('log', 'security')}: anyone between us and {outside[0]} can read along and try passwords; {do}"
    if str(given("notify", "webhook_url")).lower().startswith("http:") and not given("notify", "plain_http"):
        yield f"{at('notify', 'webhook_url')}: must be https://, or set notify.plain_http = true"


def is_open(url: str) -> bool:
    """Whether what goes to an address can be read on the way: no TLS, and not to this machine."""
    try:
        parts = urlsplit(url)
        place = f"{parts.hostname if ':' not in (parts.hostname or '') else f'[{parts.hostname}]'}:{parts.port or 80}"
    except ValueError:
        return True
    return parts.scheme.lower() != "https" and re.fullmatch(LOOPBACK, place) is None


# ---------------------------------------------------------------------------------------------------------- log topics
# What settings of the log's topics go together.

_KEYS = ("topics", "topic", "decisions_topic", "outcomes_topic", "dead_letter_topic")


def log_topics(given: Given, at: At, *, one_said: bool) -> Iterator[str]:
    """Return what is wrong with topics that are each allowed; `one_said`: `topic` does not just have its default."""
    several = given("log", "topics")
    names = [one.name for one in several] or [given("log", "topic")]
    names += [given("log", key) for key in _KEYS[2:]]
    for name in (name for name, count in Counter(names).items() if count > 1):
        yield (
            f"{at('log', *_KEYS)}: {name} is named twice; change topics, decisions_topic, outcomes_topic and"
            " dead_letter_topic must all be different topics"
        )
    if several and one_said:
        yield f"{at('log', 'topic')}: give either log.topic or [[log.topics]], and list the one topic there to keep it"
    if several and given("log", "kind") == "file":
        yield f'{at("log", "topics")}: needs log.kind = "kafka": whoever may write to a file may write anything there'
    for glob in (glob for one in several for glob in one.sources if is_ours(glob)):
        yield f"{at('log', 'topics')}: {glob} is taken from log.decisions_topic only; leave it out"


# ---------------------------------------------------------------------------------------------------------- signing in
# What settings of signing in go together.

_ONLY_WITH_ISSUER = ("oidc_audience", "oidc_client_id", "oidc_client_secret", "oidc_sources")


def signing_in(given: Given, at: At) -> Iterator[str]:
    """Return what is wrong with keys that are each allowed, but not together."""
    bind, issuer = given("admin", "bind"), given("admin", "oidc_issuer")
    if bind and not given("admin", "tokens_file") and not issuer and not re.fullmatch(LOOPBACK, bind):
        yield (
            f"{at('admin', 'bind')}: others can reach {bind}, so it needs admin.tokens_file (see `reconciler token`) "
            "or admin.oidc_issuer"
        )
    if not issuer:
        for key in _ONLY_WITH_ISSUER:
            if given("admin", key):
                yield f"{at('admin', key)}: needs admin.oidc_issuer"
        return
    yield from _provider(given, at)


def _provider(given: Given, at: At) -> Iterator[str]:
    outside = given("admin", "external_url")
    if is_open(given("admin", "oidc_issuer")):
        yield f"{at('admin', 'oidc_issuer')}: must be https://, unless the provider is on this machine"
    if not given("admin", "oidc_audience") and not given("admin", "oidc_client_id"):
        yield (
            f"{at('admin', 'oidc_issuer')}: needs admin.oidc_audience (for programs), or admin.oidc_client_id with "
            "admin.external_url (for people)"
        )
    if given("admin", "oidc_client_secret") and not given("admin", "oidc_client_id"):
        yield f"{at('admin', 'oidc_client_secret')}: needs admin.oidc_client_id"
    if given("admin", "oidc_client_id") and not outside:
        yield f"{at('admin', 'oidc_client_id')}: needs admin.external_url, where the provider leads people back to"
    if given("admin", "oidc_client_id") and outside and is_open(outside):
        yield f"{at('admin', 'external_url')}: must be https:// when people sign in with a provider"
    if not any(given("admin", f"oidc_{role}") for role in ("viewer", "operator", "admin", "sources")):
        yield f"{at('admin', 'oidc_viewer')}: with no word for any role nobody could come in"
