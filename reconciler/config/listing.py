"""Listing: every effective value with its origin, for `config show`; secrets are masked."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import attrs

from reconciler.config import rules
from reconciler.config.groups import GROUPS
from reconciler.config.loading import Effective, effective
from reconciler.config.values import limits_of
from reconciler.model.policy import FALLBACK, Rule
from reconciler.model.value import Json

MASK = "********"


class Shown(NamedTuple):
    """One line of `config show`; `origin` is "default", "file", "env VARIABLE" or "secret file PATH"."""

    section: str
    key: str
    value: Json
    origin: str


def origins(path: Path | None, environ: Mapping[str, str]) -> list[Shown]:
    """
    Return every effective value with its origin; raises ConfigError as `load` does.

    Sections are those of the file; a rule of the policy is a section with the rule's name, the last one being the
    fallback for fields that no rule covers.
    """
    found = effective(path, environ)
    return [*_settings(found), *_policy(found)]


def _settings(found: Effective) -> Iterator[Shown]:
    for section, group in GROUPS.items():
        for field in attrs.fields(group):
            setting = found.settings[section, field.name]
            masked = limits_of(field).secret and setting.value
            yield Shown(section, field.name, MASK if masked else _plain(setting.value), setting.origin)


def _policy(found: Effective) -> Iterator[Shown]:
    given = found.policy_layer
    rows = given.policy if given and isinstance(given.policy, list) else []
    for number, rule in enumerate(found.config.policy.rules):
        for key in rules.KEYS:
            from_layer = given is not None and key in rows[number]
            yield _rule_line(rule, key, given.origin("policy") if given and from_layer else "default")
    for key in rules.KEYS:
        yield _rule_line(FALLBACK, key, "default")


def _rule_line(rule: Rule, key: str, origin: str) -> Shown:
    return Shown(rule.name, key, _plain(getattr(rule, key)), origin)


def _plain(value: object) -> Json:
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return value if isinstance(value, bool | int | float | None) else str(value)
