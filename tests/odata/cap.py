"""
SAP's CAP for tests: an OData v4 server that is not ours, run by the Node at hand.

Its packages come from npm once and stay in `.cache/odata/` at the repository's root. Everything else lives in memory
and in a temporary folder, which goes when the server stops. Loopback only.
"""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from tests.patience import HANG_S

NODE_MAJOR_MIN = 18
INSTALL_S_MAX = 300.0
STOP_S_MAX = 10.0
POLL_S = 0.05

USERS = ("integration", "jdoe")
PASSWORD = "secret"
PATH = "/docs"  # of the service, as services.cds says

_HERE = Path(__file__).parent
_CACHE = _HERE.parents[1] / ".cache" / "odata"
_PINNED = ("package.json", "package-lock.json")
_RUN = ("package.json", "services.cds", "server.js", "sqlite.js")
_LISTENING = re.compile(r"^port (\d+)$", re.MULTILINE)  # what server.js says


class Unavailable(Exception):
    """CAP cannot run here; the message says why."""


def missing() -> str | None:
    """Which program is missing for CAP; None if all are at hand (its packages may still be unobtainable)."""
    absent = [program for program in ("node", "npm") if shutil.which(program) is None]
    if absent:
        return f"no {' and no '.join(absent)} on PATH"
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    major = re.match(r"v(\d+)", said)
    if major is None or int(major[1]) < NODE_MAJOR_MIN:
        return f"no Node of at least {NODE_MAJOR_MIN} on PATH (found: {said.strip() or 'none'})"
    return None


def modules() -> Path:
    """
    The folder of CAP's packages, obtained once for each content of package.json and its lock; raises `Unavailable`.

    The folder gets its name only when it is complete, so an interrupted download is never taken for a whole one and two
    runs at once cannot mix theirs.
    """
    digest = hashlib.sha256(b"".join((_HERE / name).read_bytes() for name in _PINNED)).hexdigest()[:16]
    folder = _CACHE / digest / "node_modules"
    if absent := missing():
        raise Unavailable(absent)
    if folder.is_dir():
        return folder
    _CACHE.mkdir(parents=True, exist_ok=True)
    (_CACHE / ".gitignore").write_text("*\n")
    with tempfile.TemporaryDirectory(dir=_CACHE, prefix="incomplete-") as scratch:
        _install(Path(scratch))
        # Another run may have been quicker; its folder is as good.
        with contextlib.suppress(OSError):
            Path(scratch).rename(folder.parent)
            Path(scratch).mkdir()  # for the context manager, which removes it
    if not folder.is_dir():
        raise Unavailable(f"CAP's packages could not be moved to {folder}")
    return folder


def _install(folder: Path) -> None:
    for name in _PINNED:
        shutil.copyfile(_HERE / name, folder / name)
    # Nothing that is installed gets to run: no package of ours needs its scripts. Without a network, give up soon.
    quick = ("--prefer-offline", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--no-update-notifier")
    order = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", *quick]
    try:
        done = subprocess.run(order, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"npm took more than {INSTALL_S_MAX:g} s") from error
    if done.returncode != 0:
        complaint = next((line for line in done.stderr.splitlines() if "error" in line), "it does not say why")
        raise Unavailable(f"npm brought no packages: {complaint}")


class Cap:
    """
    One CAP server, its `Documents` empty. `url` is the service's root.

    It runs inside a `with`, and leaves nothing behind. Everyone in USERS may do everything.
    """

    def __init__(self) -> None:
        self.url = ""
        self._node: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        packages = modules()
        self._folder = tempfile.TemporaryDirectory(prefix="reconciler-odata-")
        try:
            self._start(packages, Path(self._folder.name))
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and remove what it leaves behind."""
        if self._node is not None:
            self._node.terminate()
            try:
                self._node.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self._node.kill()
                self._node.wait(STOP_S_MAX)
            self._node = None
        self._folder.cleanup()

    def _start(self, packages: Path, folder: Path) -> None:
        (folder / "node_modules").symlink_to(packages)
        for name in _RUN:
            shutil.copyfile(_HERE / name, folder / name)
        order = ["node", packages / "@sap" / "cds" / "bin" / "serve.js", "all", "--in-memory", "--port", "0"]
        # CAP notes its address in the home folder, where other CAPs would find it.
        environment = {**os.environ, "HOME": str(folder), "NODE_ENV": "test", "NO_COLOR": "1"}
        log = folder / "cap.log"
        with log.open("wb") as written:
            self._node = subprocess.Popen(
                order, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.STDOUT
            )
        until_s = time.monotonic() + HANG_S
        while (found := _LISTENING.search(log.read_text(errors="replace"))) is None:
            if self._node.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(f"CAP does not answer:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(POLL_S)
        self.url = f"http://127.0.0.1:{found[1]}{PATH}"
