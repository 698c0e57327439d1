"""Changes: what a configuration that was read again says otherwise than the one that runs."""

from typing import Final

import attrs

from reconciler.config.groups import GROUPS, Config

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
