"""A real PgBouncer for tests: Debian's program, in transaction mode, on loopback, in front of one server at a time."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.patience import HANG_S
from tests.postgres import HOST, USER, Server

_OWN = Path(__file__).parents[2] / ".venv" / "pgbouncer"  # where `scripts/real-parts` unpacks it
_CONFIG = """\
[databases]
* = host={host} port={to}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
ignore_startup_parameters = extra_float_digits
server_login_retry = 1
"""


def program() -> str | None:
    """PgBouncer on this machine; None if there is none."""
    own = _OWN / "usr/sbin/pgbouncer"
    return str(own) if own.exists() else shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


class Bouncer:
    """A PgBouncer in front of a server, or of another one from some moment on."""

    def __init__(self, server: Server) -> None:
        found = program()
        assert found is not None, "no PgBouncer (Debian's package pgbouncer; `scripts/real-parts` gets it)"
        self._folder = Path(tempfile.mkdtemp(prefix="reconciler-pgbouncer-"))
        with contextlib.closing(socket.create_server((HOST, 0))) as probe:
            self.port: int = probe.getsockname()[1]
        (self._folder / "users").write_text(f'"{USER}" ""\n')
        self._lead(server)
        user = USER if os.getuid() == 0 else None
        if user is not None:
            entry = pwd.getpwnam(user)
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        libraries = ":".join(str(path) for path in _OWN.glob("usr/lib/*"))
        self._process = subprocess.Popen(
            [found, "--quiet", str(self._folder / "pgbouncer.ini")],
            env={**os.environ, "LD_LIBRARY_PATH": libraries},
            cwd=self._folder,
            stderr=subprocess.DEVNULL,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        end_s = time.monotonic() + HANG_S
        while not self._answers():
            assert time.monotonic() < end_s, "waited in vain for PgBouncer"
            time.sleep(0.05)

    def lead_to(self, server: Server) -> None:
        """Send everyone to another server from here on."""
        self._lead(server)
        self._process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)

    def _lead(self, server: Server) -> None:
        settings = _CONFIG.format(host=HOST, to=server.port, port=self.port, folder=self._folder)
        (self._folder / "pgbouncer.ini").write_text(settings)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1):
            return True
        return False


@contextlib.contextmanager
def bouncing(server: Server) -> Iterator[Bouncer]:
    """A PgBouncer in front of a server, until the block ends."""
    with contextlib.closing(Bouncer(server)) as bouncer:
        yield bouncer
