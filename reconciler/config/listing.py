"""Every effective value with its origin, secrets masked, and the settings that changed when they were read again."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import attrs
import msgspec

from reconciler.config import rules
from reconciler.config.groups import GROUPS, Canary, Config, Windchill
from reconciler.config.values import is_secret
from reconciler.model.policy import EVERYTHING, FALLBACK, NOTHING, Policy
from reconciler.model.value import Json

MASK = "********"


class Shown(NamedTuple):
    """One line of `config show`; `origin` is "default", "file", "env VARIABLE" or "secret file PATH"."""

    section: str
    key: str
    value: Json
    origin: str


def shown(config: Config) -> list[Shown]:
    """
    Return every value of a configuration with its origin.

    Sections are those of the file; a rule of the policy is a section with the rule's name. The last rule is the
    fallback for fields that no rule covers.
    """
    return [*_settings(config), *_sources(config), *_policy(config)]


def _settings(config: Config) -> Iterator[Shown]:
    for section, group in GROUPS.items():
        for field in attrs.fields(group):
            value = getattr(getattr(config, section), field.name)
            masked = is_secret(field.type) and value
            yield _line(config, section, field.name, MASK if masked else value)


def _sources(config: Config) -> Iterator[Shown]:
    for number, source in enumerate(config.sources, 1):
        for key, value in source.definition.items():
            yield _line(config, f"source[{number}]", key, value)
        yield _line(config, f"source[{number}]", "tables", {name: len(table) for name, table in source.tables.items()})


def _policy(config: Config) -> Iterator[Shown]:
    for rule in (*config.policy.rules, FALLBACK):
        for key in rules.KEYS:
            yield _line(config, rule.name, key, getattr(rule, key))


def _line(config: Config, section: str, key: str, value: object) -> Shown:
    return Shown(
        section, key, msgspec.json.decode(msgspec.json.encode(value)), config.origins.get(f"{section}.{key}", "default")
    )


# ------------------------------------------------------------------------------------------------------------- changes

# Secrets whose files are read again when they change, without a restart.
_READ_AGAIN: Final = ("windchill.password", "windchill.token", "windchill.client_secret")


def needing_restart(running: Config, fresh: Config) -> tuple[str, ...]:
    """Return the names of the settings, except the policy, that have changed and need a restart."""
    names = [(section, field.name) for section, group in GROUPS.items() for field in attrs.fields(group)]
    marks = [[source.mark for source in one.sources] for one in (running, fresh)]
    changed = [f"{section}.{key}" for section, key in names if _differs(running, fresh, section, key)]
    changed = [name for name in changed if not _of_policy(name)]
    return tuple(changed + (["source"] if marks[0] != marks[1] else []))


def with_policy(running: Config, fresh: Config) -> Config:
    """Return the running configuration with the policy of another one, which documents it writes, and their origins."""
    origins = {name: origin for name, origin in running.origins.items() if not _of_policy(name)}
    origins |= {name: origin for name, origin in fresh.origins.items() if _of_policy(name)}
    windchill = attrs.evolve(running.windchill, write=fresh.windchill.write)
    return attrs.evolve(running, policy=fresh.policy, windchill=windchill, canary=fresh.canary, origins=origins)


def deciding_by(policy: Policy) -> Config:
    """Return the configuration of a policy that is in no file; all other settings have their defaults."""
    scope = policy.writes
    write = {EVERYTHING: "all", NOTHING: "observe"}.get(scope, "canary")
    canary = Canary(documents=scope.documents or ("*",), types=scope.types or ("*",), percent=scope.percent)
    return Config(policy=policy, windchill=Windchill(write=write), canary=canary)  # type: ignore[arg-type]  # one of three


def _differs(running: Config, fresh: Config, section: str, key: str) -> bool:
    name = f"{section}.{key}"
    was, now = running.secret_files.get(name), fresh.secret_files.get(name)
    if was != now:
        return True
    if was is not None and name in _READ_AGAIN:
        return False
    return bool(getattr(getattr(running, section), key) != getattr(getattr(fresh, section), key))


def _of_policy(name: str) -> bool:
    return name.startswith(("policy[", "canary.")) or name == "windchill.write"
