"""
Errors: the unexpected, named by what a person can do about it.

Expected things (a version conflict, a bad record) are values in `model`, never raised.
"""


class ReconcilerError(Exception):
    """The root of ours. The message is one line: what is wrong, and what to do."""


class ConfigError(ReconcilerError):
    """The configuration can't be used as it is."""


class StoreError(ReconcilerError):
    """The state store can't be opened, read or written."""


class StoreDamagedError(StoreError):
    """The state store's file is not as it was left: it has to be rebuilt from the logs, or restored."""


class StoreFullError(StoreError):
    """There is no room to write to the state store; what was stored before is whole."""


class LogError(ReconcilerError):
    """The change log can't be read or appended to."""


class RecordTooLargeError(LogError):
    """A record is larger than the log takes; none of the records given with it was sent, or all may be sent again."""


class LogTruncatedError(LogError):
    """The log no longer holds the offsets we need next: events may be lost, so we stop instead of jumping."""


class ClockBehindError(LogError):
    """The broker's own timestamps show that this host's clock is behind: by it, good events would be refused."""


class UsageError(ReconcilerError):
    """A command was asked for something it can't do; exit code 2."""
