"""The options of a fresh configuration, for tests that change one of them."""

from typing import Any

import attrs
from msgspec import structs

from reconciler import factory
from reconciler.adapters.documents import DocumentsOptions
from reconciler.adapters.http import HttpOptions
from reconciler.adapters.oidc import OidcOptions
from reconciler.adapters.wrs.options import WrsOptions
from reconciler.config import Config
from reconciler.core.settling.cases import AttemptOptions, Pace
from reconciler.flows.notifier import Thresholds
from reconciler.flows.notify import NotifyOptions

CONFIG = Config()
OPTIONS = factory.attempt_options(CONFIG)


def pace(**changes: Any) -> Pace:
    """Return the default waits, but without collecting changes before a check-in."""
    return structs.replace(OPTIONS.pace, **{"quiet_s": 0.0, "checkin_interval_s": 0.0, **changes})


def attempt_options(**changes: Any) -> AttemptOptions:
    return structs.replace(OPTIONS, **changes)


def http(**changes: Any) -> HttpOptions:
    known = CONFIG.windchill
    return HttpOptions(**{"timeout_s": known.timeout_s, "body_bytes_max": known.body_bytes_max, **changes})


def notify_options(**changes: Any) -> NotifyOptions:
    return attrs.evolve(factory.notify_options(CONFIG), **changes)


def notify_thresholds(**changes: Any) -> Thresholds:
    return attrs.evolve(factory.notify_thresholds(CONFIG), **changes)


def oidc(**changes: Any) -> OidcOptions:
    """Return options for the provider's tokens."""
    known = CONFIG.admin
    names = ("scope", "algorithms", "roles_claim", "name_claim")
    return OidcOptions(**{name: getattr(known, f"oidc_{name}") for name in names} | changes)


def wrs(**changes: Any) -> WrsOptions:
    names = [field.name for field in attrs.fields(WrsOptions)]
    return WrsOptions(**{name: getattr(CONFIG.windchill, name) for name in names} | changes)


def documents(**changes: Any) -> DocumentsOptions:
    return DocumentsOptions(**{"write_method": CONFIG.windchill.write_method, **changes})
