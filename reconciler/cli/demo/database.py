"""A PostgreSQL of the demonstration's own: made in a temporary folder, on loopback, and removed at the end."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from reconciler.errors import ReconcilerError

VERSION_MIN = 15
_HOST, _USER = "127.0.0.1", "postgres"
_START_S_MAX = 60.0  # `initdb` takes two seconds
_DEBIAN = Path("/usr/lib/postgresql")
_SETTINGS = ("listen_addresses=127.0.0.1", "shared_buffers=32MB", "log_min_messages=fatal")


def programs() -> Path:
    """Return the folder of the newest PostgreSQL here. Raises ReconcilerError if there is none that is new enough."""
    numbers = sorted(int(path.parts[-3]) for path in _DEBIAN.glob("*/bin/initdb") if path.parts[-3].isdigit())
    if numbers and numbers[-1] >= VERSION_MIN:
        return _DEBIAN / str(numbers[-1]) / "bin"
    if found := shutil.which("initdb"):
        return Path(found).parent
    raise ReconcilerError(
        f"the demo with replicas needs PostgreSQL of at least {VERSION_MIN}, and found none."
        " Install Debian's or Ubuntu's package `postgresql`, Fedora's `postgresql-server`, or on a Mac"
        " `brew install postgresql`; it needs no configuration, because the demo starts a server of its own"
    )


class Database:
    """One server with one empty database. A context manager; `url` names the database."""

    def __init__(self) -> None:
        self._programs = programs()
        self._user = _USER if os.getuid() == 0 else None  # PostgreSQL refuses to run as root
        self._folder = Path(tempfile.mkdtemp(prefix="reconciler-demo-postgres-"))
        with contextlib.closing(socket.create_server((_HOST, 0))) as probe:
            port: int = probe.getsockname()[1]
        self.url = f"postgresql://{_USER}@{_HOST}:{port}/reconciler"
        self._settings = (*_SETTINGS, f"port={port}", f"unix_socket_directories={self._folder}")

    def __enter__(self) -> "Database":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ReconcilerError):
            self._run("pg_ctl", "stop", "--pgdata", self._folder / "data", "--mode", "immediate", "--wait")
        shutil.rmtree(self._folder, ignore_errors=True)

    def ask(self, query: str) -> str:
        """Return what a query answers, as text."""
        words = ("--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--dbname", self.url, "--command", query)
        return self._run("psql", *words).strip()

    def _start(self) -> None:
        if self._user is not None:
            try:
                shutil.chown(self._folder, self._user)
            except LookupError as error:
                raise ReconcilerError(
                    f"PostgreSQL refuses to run as root, and there is no user {_USER}: run the demo as another user"
                ) from error
        data = self._folder / "data"
        self._run("initdb", "--pgdata", data, "--auth", "trust", "--username", _USER, "--no-sync", "--encoding", "UTF8")
        options = " ".join(f"-c {setting}" for setting in self._settings)
        log = self._folder / "log"
        self._run("pg_ctl", "start", "--pgdata", data, "--wait", "--log", log, "--options", options)
        self._run("createdb", "--maintenance-db", self.url.rpartition("/")[0] + "/postgres", "reconciler")

    def _run(self, program: str, *arguments: object) -> str:
        asked = program == "psql"  # the server that `pg_ctl` leaves behind would keep a pipe open
        try:
            done = subprocess.run(  # noqa: S603 - PostgreSQL's own programs
                [str(self._programs / program), *map(str, arguments)],
                check=True,
                stdout=subprocess.PIPE if asked else subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                timeout=_START_S_MAX,
                cwd=self._folder,
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else [],
                start_new_session=True,  # Ctrl-C is for the demo alone
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ReconcilerError(f"the demo's PostgreSQL: {program} failed: {error}") from error
        return done.stdout or ""
