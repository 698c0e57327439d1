"""What would travel readable for whoever is on the way, and is refused unless somebody has said that it may."""

import re
from collections.abc import Iterator
from typing import Any, Protocol
from urllib.parse import urlsplit

from reconciler.config.groups import LOOPBACK


class Given(Protocol):
    """Returns the value of a key."""

    def __call__(self, section: str, key: str) -> Any: ...


class At(Protocol):
    """Returns the place of the first of these keys that somebody gave."""

    def __call__(self, section: str, *keys: str) -> str: ...


def contradictions(given: Given, at: At) -> Iterator[str]:
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
