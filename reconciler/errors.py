"""
Errors: unexpected failures, named by what a person can do about them.

Expected results (a version conflict, a bad record) are values in `model`, never raised.
"""


class ReconcilerError(Exception):
    """The root of our errors. The message is one line: what is wrong, and what to do."""


class ConfigError(ReconcilerError):
    """The configuration is unusable."""


class StoreError(ReconcilerError):
    """The state store can't be opened, read or written."""


class StoreDamagedError(StoreError):
    """The state store's file is damaged: rebuild it from the logs, or restore it."""


class StoreFullError(StoreError):
    """The disk is full, so nothing can be written to the state store; the stored data is intact."""


class EvictedError(StoreError):
    """Other replicas took us for dead, and have gone on with our work: end, and start anew."""


class ReplacedError(EvictedError):
    """The database is another one than before, or in an earlier state: all replicas begin anew, with a recovery."""


class LostError(StoreError):
    """What we decided on a document does not count: another replica has it now, or another policy is in force."""


class MovedError(StoreError):
    """Another replica has read on in a partition: what we have read there is stored already, or will be."""


class ArchiveError(ReconcilerError):
    """An archive can't be written, so what is old stays in the store; or it can't be used."""


class LogError(ReconcilerError):
    """The change log can't be read or appended to."""


class RecordTooLargeError(LogError):
    """A record is larger than the log allows; none of the records given with it was sent, or all may be sent again."""


class LogTruncatedError(LogError):
    """The log no longer holds the next offsets: events may be lost, so we stop instead of skipping them."""


class ReadingChangedError(LogError):
    """The log would be read by other sources, or in another part, than what the store has of it."""


class ClockBehindError(LogError):
    """The broker's own timestamps show that this host's clock is behind, so it would refuse good events."""


class UsageError(ReconcilerError):
    """A command can't do what its arguments request; exit code 2."""
