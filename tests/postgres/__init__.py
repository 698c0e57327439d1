"""
A real PostgreSQL for tests: Debian's, made by `initdb` in a temporary folder, on loopback, as a user without rights.

It is started once a process, when the first test asks for it. Each test gets a database of its own, copied from one
that was migrated. Nothing is synced to the disk: tests of crashes start one that does (`durable`).
"""

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.brokers.certificates import Signed
from tests.patience import HANG_S

HOST = "127.0.0.1"
USER = "postgres"  # whom the server runs as if we are root, which it refuses
TEMPLATE = "migrated"
_OFF = "fsync=off synchronous_commit=off full_page_writes=off"


def programs() -> Path | None:
    """The folder of the newest PostgreSQL on this machine, of at least 15; None if there is none."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if debian and float(debian[-1].parts[-3]) >= 15:
        return debian[-1].parent
    found = shutil.which("initdb")
    return Path(found).parent if found else None


def missing() -> str | None:
    """What is missing to run one; None if nothing is."""
    if importlib.util.find_spec("asyncpg") is None:
        return "no asyncpg (`make` installs it)"
    if programs() is None:
        return "no PostgreSQL of at least 15 (Debian's package postgresql; `scripts/real-parts` gets it)"
    return None


class Server:
    """One server; `url()` names a new database. One that `follows` another one begins as its standby."""

    def __init__(
        self,
        *,
        durable: bool = False,
        shown: Signed | None = None,
        follows: "Server | None" = None,
        base: Path | None = None,
    ) -> None:
        found = programs()
        assert found is not None, missing()
        self._programs = found
        self._numbers = itertools.count(1)
        self._folder = Path(tempfile.mkdtemp(prefix="reconciler-postgres-"))
        self._data = self._folder / "data"
        with contextlib.closing(socket.create_server((HOST, 0))) as probe:
            self.port: int = probe.getsockname()[1]
        self._settings = [] if durable else _OFF.split()
        if shown is not None:  # over TLS, with this certificate
            copies = [shutil.copy(path, self._folder) for path in (shown.certificate, shown.key)]
            for copy in copies:
                Path(copy).chmod(0o600)
            self._settings += ["ssl=on", f"ssl_cert_file={copies[0]}", f"ssl_key_file={copies[1]}"]
        if base is not None:
            shutil.copytree(base, self._data)
        if os.getuid() == 0:
            entry = pwd.getpwnam(USER)
            for path in (self._folder, *self._folder.rglob("*")):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        if base is not None:
            return
        if follows is None:
            whose = "--auth", "trust", "--username", USER
            self._run("initdb", "--pgdata", self._data, "--no-sync", "--encoding", "UTF8", *whose)
        else:
            self._copy(follows, self._data, "--write-recovery-conf")

    def _copy(self, origin: "Server", to: Path, *more: str) -> None:
        how = "--wal-method=stream", "--checkpoint=fast", "--no-sync", *more
        self._run("pg_basebackup", "--dbname", origin.url("postgres"), "--pgdata", to, *how)

    def back_up(self) -> Path:
        """Copy all data while it runs, for `restore`."""
        to = self._folder / f"backup{next(self._numbers)}"
        self._copy(self, to)
        return to

    def restore(self, backup: Path, *, new_timeline: bool) -> None:
        """Put a backup in the place of all data; without a new timeline it seems to have crashed at that time."""
        with contextlib.suppress(subprocess.CalledProcessError):  # it may have stopped before
            self.stop()
        shutil.rmtree(self._data)
        backup.rename(self._data)
        if new_timeline:
            signal = self._data / "recovery.signal"
            signal.touch()
            if os.getuid() == 0:
                os.chown(signal, *self._data.stat()[4:6])
            self._settings.append("restore_command=false")
        self.start()
        self._until(lambda: self.sql("SELECT pg_is_in_recovery()") == "f")

    def dump(self, database: str) -> Path:
        """Write a database into a file, for `restore_dump`."""
        dump = self._folder / f"{database}.dump"
        self._run("pg_dump", "--format=custom", "--file", dump, self.url(database))
        return dump

    def restore_dump(self, database: str, dump: Path) -> None:
        """Put what was dumped in the place of a database."""
        self.sql(f"DROP DATABASE {database} WITH (FORCE)")
        self.sql(f"CREATE DATABASE {database}")
        self._run("pg_restore", "--dbname", self.url(database), dump)

    def stall(self, primary: "Server") -> None:
        """Catch up with the primary for the last time, and receive nothing more of it."""
        end = primary.sql("SELECT pg_current_wal_lsn()")
        self._until(lambda: self.sql(f"SELECT pg_last_wal_replay_lsn() >= '{end}'") == "t")
        self.sql("ALTER SYSTEM SET primary_conninfo = ''")
        self.sql("SELECT pg_reload_conf()")
        self._until(lambda: self.sql("SELECT count(*) FROM pg_stat_wal_receiver") == "0")

    def promote(self) -> None:
        """Become a primary."""
        self.sql("SELECT pg_promote()")

    @staticmethod
    def _until(true: Callable[[], bool]) -> None:
        end_s = time.monotonic() + HANG_S
        while not true():
            assert time.monotonic() < end_s, "waited in vain for PostgreSQL"
            time.sleep(0.1)

    def start(self) -> None:
        settings = [
            *("listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self._folder}"),
            *("shared_buffers=32MB", "max_connections=60", "log_min_messages=fatal"),
            *self._settings,
        ]
        options = " ".join(f"-c {setting}" for setting in settings)
        log = self._folder / "log"
        self._run("pg_ctl", "start", "--pgdata", self._data, "--wait", "--log", log, "--options", options)

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "stop", "--pgdata", self._data, "--mode", mode, "--wait")

    @property
    def pid(self) -> int:
        """Of the process that all others are children of."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def remove(self) -> None:
        """Stop it for good."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@{HOST}:{self.port}/{database}"

    def new(self, template: str = TEMPLATE) -> str:
        """Make a database like another one, and return its URL."""
        name = f"t{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY WAL_LOG")
        return self.url(name)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as a stranger; return what it prints."""
        order = ("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--dbname", self.url(database))
        return self._run(*order, "--command", statement).strip()

    def _run(self, program: str, *arguments: object) -> str:
        order = [str(self._programs / program), *map(str, arguments)]
        # As another user only if we are root. A pipe would stay open with the server that `pg_ctl` leaves behind.
        user = USER if os.getuid() == 0 else None
        done = subprocess.run(
            order,
            check=True,
            stdout=subprocess.PIPE if program == "psql" else subprocess.DEVNULL,
            text=True,
            timeout=HANG_S,
            cwd=self._folder,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        return done.stdout or ""


@contextlib.contextmanager
def running(
    *, durable: bool = False, shown: Signed | None = None, follows: Server | None = None, base: Path | None = None
) -> Iterator[Server]:
    """A server, until the block ends; `base`: on a copy of this base backup."""
    server = Server(durable=durable, shown=shown, follows=follows, base=base)
    try:
        server.start()
        yield server
    finally:
        server.remove()
