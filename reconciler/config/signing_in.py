"""What settings of signing in go together."""

import re
from collections.abc import Iterator

from reconciler.config.groups import LOOPBACK
from reconciler.config.in_the_clear import At, Given, is_open

_ONLY_WITH_ISSUER = ("oidc_audience", "oidc_client_id", "oidc_client_secret", "oidc_sources")


def contradictions(given: Given, at: At) -> Iterator[str]:
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
