"""Listing: every effective value with its origin, secrets masked, and what differs when it is read again."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import attrs
import msgspec

from reconciler.config import rules
from reconciler.config.groups import GROUPS, Config
from reconciler.config.loading import load
from reconciler.config.values import is_secret
from reconciler.model.policy import FALLBACK
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
    return shown(load(path, environ))


def shown(config: Config) -> list[Shown]:
    """Return every value of a configuration with its origin."""
    return [*_settings(config), *_policy(config)]


def _settings(config: Config) -> Iterator[Shown]:
    for section, group in GROUPS.items():
        for field in attrs.fields(group):
            value = getattr(getattr(config, section), field.name)
            masked = is_secret(field.type) and value
            yield _line(config, section, field.name, MASK if masked else value)


def _policy(config: Config) -> Iterator[Shown]:
    for rule in (*config.policy.rules, FALLBACK):
        for key in rules.KEYS:
            yield _line(config, rule.name, key, getattr(rule, key))


def _line(config: Config, section: str, key: str, value: object) -> Shown:
    return Shown(
        section, key, msgspec.json.decode(msgspec.json.encode(value)), config.origins.get(f"{section}.{key}", "default")
    )


# ------------------------------------------------------------------------------------------------------------- changes
# Changes: what a configuration that was read again says otherwise than the one that runs.

# Their files are read again when they change: no restart is needed for what these say.
_READ_AGAIN: Final = ("windchill.password", "windchill.token", "windchill.client_secret")


def needing_restart(running: Config, fresh: Config) -> tuple[str, ...]:
    """Return the names of the settings, the policy excepted, that only a restart would take up."""
    names = [(section, field.name) for section, group in GROUPS.items() for field in attrs.fields(group)]
    return tuple(f"{section}.{key}" for section, key in names if _differs(running, fresh, section, key))


def with_policy(running: Config, fresh: Config) -> Config:
    """Return the configuration that runs, with the policy of another one and where that came from."""
    origins = {name: origin for name, origin in running.origins.items() if not _of_policy(name)}
    origins |= {name: origin for name, origin in fresh.origins.items() if _of_policy(name)}
    return attrs.evolve(running, policy=fresh.policy, origins=origins)


def _differs(running: Config, fresh: Config, section: str, key: str) -> bool:
    name = f"{section}.{key}"
    was, now = running.secret_files.get(name), fresh.secret_files.get(name)
    if was != now:
        return True
    if was is not None and name in _READ_AGAIN:
        return False
    return bool(getattr(getattr(running, section), key) != getattr(getattr(fresh, section), key))


def _of_policy(name: str) -> bool:
    return name.startswith("policy[")
