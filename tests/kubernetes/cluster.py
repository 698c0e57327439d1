"""
A real Kubernetes API server on loopback with its etcd, and nothing else: no node, no scheduler, no controller.

It checks and admits what it is given as in any cluster: fields, limits, defaults, pod security, and the resources that
KEDA and the Prometheus operator define. `scripts/kubernetes-parts` makes its programs.
"""

import contextlib
import json
import secrets
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.patience import HANG_S

ROOT = Path(__file__).parent.parent.parent
HOST = "127.0.0.1"


def parts() -> Path | None:
    """Return the folder of the programs, made if they are not there; None where they can't be."""
    command = [ROOT / "scripts" / "kubernetes-parts"]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return Path(said) if said else None


class Refused(Exception):
    """The API server refuses what it was given."""


class Cluster:
    """One API server, and kubectl to speak with it."""

    def __init__(self, parts: Path, folder: Path, address: str, token: str) -> None:
        self._kubectl = [
            *(str(parts / "bin/kubectl"), "--server", address, "--token", token, "--insecure-skip-tls-verify"),
            *("--cache-dir", str(folder / "cache"), "--kubeconfig", "/dev/null"),
        ]

    def kubectl(self, *arguments: str | Path, given: str | None = None) -> tuple[str, str]:
        """Return what it prints, and what it warns of; raises Refused."""
        done = subprocess.run(
            [*self._kubectl, *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
            input=given,
            timeout=HANG_S,
        )
        if done.returncode:
            raise Refused(done.stderr)
        return done.stdout, done.stderr

    def render(self, overlay: Path) -> str:
        """Return what a customer's kubectl makes of an overlay."""
        return self.kubectl("kustomize", overlay)[0]

    def tried(self, manifests: str) -> tuple[list[dict[str, Any]], str]:
        """Return what would be stored, with all defaults, and warnings; nothing is stored. Raises Refused."""
        said, warned = self.kubectl(
            *("apply", "--server-side", "--dry-run=server", "-f", "-", "-o", "json"), given=manifests
        )
        found = json.loads(said)
        return found["items"] if found["kind"] == "List" else [found], warned


@contextlib.contextmanager
def running(parts: Path) -> Iterator[Cluster]:
    """Start both programs; the cluster knows KEDA's and the operator's resources."""
    with tempfile.TemporaryDirectory(prefix="reconciler-kubernetes-") as name, contextlib.ExitStack() as stack:
        folder, token = Path(name), secrets.token_hex(16)
        key = ec.generate_private_key(ec.SECP256R1())
        form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        (folder / "accounts.key").write_bytes(key.private_bytes(*form))
        (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n", encoding="utf-8")
        client, peer, serving = _ports(3)
        etcd, server = f"http://{HOST}:{client}", f"https://{HOST}:{serving}"
        programs = {
            "etcd": [
                *("--data-dir", folder / "etcd", "--listen-client-urls", etcd, "--advertise-client-urls", etcd),
                *("--listen-peer-urls", f"http://{HOST}:{peer}"),
            ],
            "kube-apiserver": [
                *(f"--etcd-servers={etcd}", f"--bind-address={HOST}", f"--secure-port={serving}"),
                *(f"--cert-dir={folder}/certificates", f"--token-auth-file={folder}/tokens.csv"),
                *("--authorization-mode=RBAC", "--service-account-issuer=https://tests.invalid"),
                f"--service-account-key-file={folder}/accounts.key",
                f"--service-account-signing-key-file={folder}/accounts.key",
                "--allow-privileged=true",  # as in most clusters: a namespace's standard has to refuse them
                "--disable-admission-plugins=ServiceAccount",  # a controller would have to make one for each namespace
            ],
        }
        for program, arguments in programs.items():
            log = folder / f"{program}.log"
            process = stack.enter_context(_started(parts / "bin" / program, arguments, log))
        _until_ready(server, token, process, log)
        cluster = Cluster(parts, folder, server, token)
        cluster.kubectl("apply", "--server-side", "-f", parts / "definitions")
        cluster.kubectl("wait", "--for=condition=established", f"--timeout={HANG_S:.0f}s", "crd", "--all")
        yield cluster


def _ports(count: int) -> list[int]:
    """Return free ports, all different."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


@contextlib.contextmanager
def _started(program: Path, arguments: list[object], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as said:
        process = subprocess.Popen([program, *map(str, arguments)], stdout=said, stderr=said, cwd=log.parent)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_ready(server: str, token: str, process: subprocess.Popen[bytes], log: Path) -> None:
    anyone = ssl._create_unverified_context()  # it made its certificate itself a second ago
    asked = urllib.request.Request(f"{server}/readyz", headers={"Authorization": f"Bearer {token}"})
    give_up_s = time.monotonic() + HANG_S
    while True:
        try:
            urllib.request.urlopen(asked, timeout=5, context=anyone).close()
        except (urllib.error.URLError, OSError) as error:
            if process.poll() is not None or time.monotonic() > give_up_s:
                said = log.read_text(encoding="utf-8", errors="replace")
                raise AssertionError(f"the API server is not ready ({error}): {said[-2000:]}") from error
            time.sleep(0.2)
        else:
            return
