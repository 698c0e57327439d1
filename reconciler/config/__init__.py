"""
Configuration: one TOML file and the environment, as frozen groups (docs/configuration.md).

`load` gives the groups or raises one ConfigError with every fault; `origins` says where each effective value came from.
The environment overrides the file, the file overrides the defaults: `RECONCILER_LOG__TOPIC` is `[log] topic`, lists are
separated by commas or written as JSON, and `RECONCILER_POLICY` is the whole policy as a JSON list. A secret can be
given as `<key>_file` instead, naming a file that holds it. Relative paths start from the current directory.

Never here: defaults that depend on the machine, reading the environment behind the caller's back, or connections.
"""

from reconciler.config.groups import Admin, Config, Log, Notify, Resync, Retry, Store, Windchill
from reconciler.config.listing import MASK, Shown, needing_restart, origins, shown, with_policy
from reconciler.config.loading import load

__all__ = [
    "MASK",
    "Admin",
    "Config",
    "Log",
    "Notify",
    "Resync",
    "Retry",
    "Shown",
    "Store",
    "Windchill",
    "load",
    "needing_restart",
    "origins",
    "shown",
    "with_policy",
]
