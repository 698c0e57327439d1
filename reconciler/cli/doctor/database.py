"""What `reconciler doctor` says of a database server: what a crash, a failover or a restore of it may lose."""

from collections.abc import Iterator

from reconciler.cli import output
from reconciler.cli.doctor.check import OK, WARNING, Check
from reconciler.ports.store_admin import Durability

_OLD_S = 600.0
_WAITS = ("on", "remote_apply", "remote_write")  # commits wait for a synchronous standby, if there is one
_READ = "docs/recovery.md says what comes back"


def server_checks(found: Durability) -> Iterator[Check]:
    """Yield what the server's settings mean for the store."""
    yield _crash(found)
    yield _failover(found)
    yield _restore(found)
    if found.oldest_s > _OLD_S:
        yield Check(
            "old transactions",
            WARNING,
            f"one has been open for {found.oldest_s / 60:.0f} min, so PostgreSQL can't remove dead rows, and the store"
            " grows and slows down; find it in pg_stat_activity or pg_prepared_xacts, and end it",
        )


def _crash(found: Durability) -> Check:
    server = f"PostgreSQL {found.version}"
    if not found.safe:
        said = "fsync or full_page_writes is off: a crash of its host can damage the whole database; turn both on"
        return Check("database", WARNING, f"{server}; {said}")
    if found.commit == "off":
        said = "synchronous_commit is off: a crash loses the last moments, although replicas rely on them; set it to on"
        return Check("database", WARNING, f"{server}; {said}")
    return Check("database", OK, f"{server}, a crash of it loses nothing that was stored")


def _failover(found: Durability) -> Check:
    """Say what is lost if a standby takes over."""
    names = ", ".join(f"{name} ({state})" for name, state in found.standbys)
    if found.wanted and found.commit not in _WAITS:
        said = f"synchronous_commit is {found.commit}, so commits wait for no standby; set it to on"
        return Check("failover", WARNING, f"may lose the last moments: {said}; {_READ}")
    if found.wanted:
        shown = output.plain(names or "none is connected")
        return Check("failover", OK, f"to a synchronous standby loses nothing ({output.plain(found.wanted)}: {shown})")
    if found.standbys:
        said = f"no standby is synchronous ({output.plain(names)}); set synchronous_standby_names, or accept that"
        return Check("failover", WARNING, f"loses what the standby has not received: {said}; {_READ}")
    return Check("failover", OK, "there is no standby: without its disk, the store has to be rebuilt from the logs")


def _restore(found: Durability) -> Check:
    """Say what is lost if a backup is put back."""
    if found.archive_fails:
        said = "archive_command fails, so a restore would lose what came since; see pg_stat_archiver"
        return Check("backups", WARNING, said)
    if found.archive == "off":
        return Check("backups", OK, f"WAL is not archived, so a restore loses what came after the backup; {_READ}")
    return Check("backups", OK, "WAL is archived, so a restore can go to any time")
