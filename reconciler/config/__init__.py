"""
The configuration: one TOML file and the environment, as frozen groups (docs/configuration.md).

`load` returns the groups or raises one ConfigError with every fault; `shown` lists each value with its origin. The
environment overrides the file, and the file overrides the defaults: `RECONCILER_LOG__TOPIC` is `[log] topic`, lists
are separated by commas or written as JSON, and `RECONCILER_POLICY` is the whole policy as a JSON list, as
`RECONCILER_SOURCE` is all sources. `policy_file` names a file of its own for the policy, `<key>_file` one that holds a
secret. Relative paths start from the current directory.

Never here: defaults that depend on the machine, reading the environment unless the caller passes it, or connections.
"""

from reconciler.config.groups import Admin, Config, Log, Notify, Resync, Retry, Store, Windchill
from reconciler.config.listing import MASK, Shown, deciding_by, needing_restart, shown, with_policy
from reconciler.config.loading import load, policy_of

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
    "deciding_by",
    "load",
    "needing_restart",
    "policy_of",
    "shown",
    "with_policy",
]
