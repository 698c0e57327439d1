"""Jobs: long pieces of work that somebody asks a running reconciler for, and can watch."""

import enum

import attrs


class JobKind(enum.StrEnum):
    """What there is to be done."""

    RESYNC = "resync"  # compare every document with Windchill again
    REPLAY = "replay"  # fold the whole change log again
    CATCH_UP = "catch-up"  # fold what came while we were away; begins by itself at every start


class JobState(enum.StrEnum):
    """How far it has come."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"  # before its end, by a person or by a stop
    FAILED = "failed"


@attrs.frozen(kw_only=True)
class Job:
    """A job as it stands."""

    id: str
    kind: JobKind
    state: JobState
    by: str  # who asked for it
    started_us: int
    ended_us: int | None
    done: int  # documents looked at, or records folded
    total: int | None  # None: not known yet
    estimate_s: float | None  # until it is done, at the pace so far; None: nothing to tell it from
    message: str


@attrs.frozen
class NotNow:
    """Why a job is not started, or not cancelled."""

    reason: str
