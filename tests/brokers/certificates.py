"""
Certificates for tests, made when they are needed by the `openssl` program: an authority, and what it has signed.

They are good for loopback and for two days.
"""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.patience import HANG_S

_MAKE = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2")


class Signed(NamedTuple):
    """A certificate and its private key, each a PEM file; `both` holds one after the other, as Kafka wants them."""

    certificate: Path
    key: Path
    both: Path


def available() -> bool:
    """Whether certificates can be made here."""
    return shutil.which("openssl") is not None


class Authority:
    """An authority of its own in a folder of its own. `certificate` is what vouches for all that it signs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self.certificate, self._key = folder / "ca.pem", folder / "ca.key"
        _run("-nodes", "-subj", f"/CN=Authority {folder.name}", "-keyout", self._key, "-out", self.certificate)

    def sign(self, name: str, passphrase: str = "") -> Signed:
        """Return a new certificate with its key, for a server at 127.0.0.1 or for a client called `name`."""
        locking = ("-passout", f"pass:{passphrase}") if passphrase else ("-nodes",)
        made = Signed(*(self._folder / f"{name}.{ending}" for ending in ("pem", "key", "both.pem")))
        extensions = ("subjectAltName=IP:127.0.0.1", "basicConstraints=critical,CA:FALSE")
        _run(
            *locking, "-subj", f"/CN={name}", "-CA", self.certificate, "-CAkey", self._key, "-keyout", made.key,
            "-out", made.certificate, *(word for extension in extensions for word in ("-addext", extension)),
        )  # fmt: skip
        made.both.write_bytes(made.key.read_bytes() + made.certificate.read_bytes())
        return made


def _run(*arguments: str | Path) -> None:
    done = subprocess.run([*_MAKE, *map(str, arguments)], capture_output=True, text=True, timeout=HANG_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl made no certificate: {done.stderr}")
