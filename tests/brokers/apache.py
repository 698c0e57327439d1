"""
A real Apache Kafka for tests, without Docker: one KRaft node from the jars that pom.xml pins, run by the Java at hand.

The jars come from Maven's repository once and stay in `.cache/kafka/` at the repository's root. Everything else (data,
configuration, `kafka.log`) lives in a temporary folder that `stop` removes. Loopback only.
"""

import asyncio
import base64
import contextlib
import hashlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from xml.etree import ElementTree as ET

from aiokafka import client, errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.patience import HANG_S

HOST = "127.0.0.1"
DOWNLOAD_S_MAX = 600.0
STOP_S_MAX = 20.0  # an orderly stop takes half a second, with many topics some seconds
POLL_S = 0.1
LOG_TAIL_LINES = 20
# Linux gives away 32768 and up, other systems 49152 and up.
_LASTING_PORTS = range(20_000, 32_768)
_MARKS: list[socket.socket] = []  # which of these are ours, for other test runs on this machine

_POM = Path(__file__).with_name("pom.xml")
_CACHE = Path(__file__).parents[2] / ".cache" / "kafka"
# The C1 compiler alone and the serial collector start a JVM soonest, and keep it off the tests' cores.
_JVM = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
)


class Unavailable(Exception):
    """Apache Kafka cannot run here; the message says why."""


def version() -> str:
    """Kafka's version as pom.xml pins it."""
    found = ET.parse(_POM).findtext(".//{*}properties/{*}kafka.version")
    assert found is not None
    return found


def missing() -> str | None:
    """Which program is missing for Apache Kafka; None if all are at hand (the jars may still be unobtainable)."""
    absent = [program for program in ("java", "mvn") if shutil.which(program) is None]
    return f"no {' and no '.join(absent)} on PATH" if absent else None


def jars() -> Path:
    """
    The folder of Kafka's jars, obtained once for each content of pom.xml; raises `Unavailable`.

    The folder gets its name (pom.xml's digest) only when it is complete, so an interrupted download is never taken for
    a whole one and two runs at once cannot mix theirs.
    """
    folder = _CACHE / hashlib.sha256(_POM.read_bytes()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    if absent := missing():
        raise Unavailable(absent)
    _CACHE.mkdir(parents=True, exist_ok=True)
    (_CACHE / ".gitignore").write_text("*\n")
    with tempfile.TemporaryDirectory(dir=_CACHE, prefix="incomplete-") as scratch:
        _download(Path(scratch) / "jars")
        # Another run may have been quicker; its folder is as good.
        with contextlib.suppress(FileExistsError, OSError):
            (Path(scratch) / "jars").rename(folder)
    if not folder.is_dir():
        raise Unavailable(f"the jars could not be moved to {folder}")
    return folder


def _download(folder: Path) -> None:
    order = ["mvn", "--batch-mode", "--quiet", "--file", str(_POM), "dependency:copy-dependencies"]
    try:
        done = subprocess.run(
            [*order, f"-DoutputDirectory={folder}"], capture_output=True, text=True, timeout=DOWNLOAD_S_MAX, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"Maven took more than {DOWNLOAD_S_MAX:g} s") from error
    if done.returncode != 0 or not any(folder.glob("kafka_*.jar")):
        complaint = next((line for line in done.stdout.splitlines() if "ERROR" in line), "it does not say why")
        raise Unavailable(f"Maven brought no jars: {complaint}")


class Apache:
    """
    One Apache Kafka node, broker and controller in one.

    `listeners` names further listeners with their security protocol (`{"TLS": "SSL"}`), each on a port of its own:
    `address("TLS")`. `advertised` gives the addresses at which clients of a listener are to find it, where that is not
    its own: a proxy's, since a client follows what it is told. `properties` are added to server.properties last, so
    they win. `format_arguments` go to the storage tool, which is where SCRAM users are made before the first start.
    `brokers` is the plaintext listener.
    """

    def __init__(
        self,
        *,
        partitions: int = 4,
        listeners: Mapping[str, str] | None = None,
        advertised: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        format_arguments: Sequence[str] = (),
        jvm: Sequence[str] = (),
    ) -> None:
        self.name = f"Apache Kafka {version()}"
        self._protocols = {"PLAINTEXT": "PLAINTEXT", **(listeners or {})}
        self._advertised = dict(advertised or {})
        self._partitions = partitions
        self._properties = dict(properties or {})
        self._format_arguments = tuple(format_arguments)
        self._jvm = (*_JVM, *jvm)
        self._ports: dict[str, int] = {}
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def brokers(self) -> list[str]:
        return [self.address()]

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def folder(self) -> Path:
        """Where its data, `server.properties` and `kafka.log` are while it runs."""
        assert self._folder is not None, "start the broker first"
        return self._folder

    def address(self, listener: str = "PLAINTEXT") -> str:
        return f"{HOST}:{self._ports[listener]}"

    def start(self) -> None:
        """Start empty and wait until it answers; raises `Unavailable` without jars, RuntimeError if Kafka fails."""
        assert self._folder is None, "the broker runs already"
        jars()
        self._folder = Path(tempfile.mkdtemp(prefix="kafka-"))
        names = [*self._protocols, "CONTROLLER"]
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        (self._folder / "server.properties").write_text(self._settings())
        try:
            self._format()
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process and remove its data; harmless if it has ended already."""
        self._end()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    # What follows takes seconds, so never call it in a coroutine.

    def restart(self) -> None:
        """Stop in good order and start again with the same data and ports."""
        self._end()
        self._launch()

    def halt(self) -> None:
        """Stop in good order and keep the data for `resume`."""
        self._end()

    def kill(self) -> None:
        """Kill it as a power cut would, save for what the operating system holds, and keep the data for `resume`."""
        process, self._process = self._process, None
        assert process is not None, "start the broker first"
        process.kill()
        process.wait()

    def resume(self) -> None:
        """Start again with the same data and ports."""
        assert self._process is None, "the broker runs"
        self._launch()

    async def create_topic(self, name: str, partitions: int, **configs: str) -> None:
        """Make a topic; `configs` are its own settings, with underscores for dots."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.brokers)
        await admin.start()
        given = {key.replace("_", "."): value for key, value in configs.items()}
        try:
            answer = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=given)])
            for _, code, *_ in answer.topic_errors:
                if code:
                    raise errors.for_code(code)(name)
        finally:
            await admin.close()

    def _settings(self) -> str:
        protocols = {**self._protocols, "CONTROLLER": "PLAINTEXT"}
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{self.address('CONTROLLER')}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": ",".join(f"{name}://{self.address(name)}" for name in protocols),
            # The controller's own is told by itself.
            "advertised.listeners": ",".join(
                f"{name}://{self._advertised.get(name, self.address(name))}" for name in self._protocols
            ),
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "log.dirs": str(self.folder / "data"),
            "num.partitions": str(self._partitions),
            "auto.create.topics.enable": "true",
            # There is one node, so nothing can be kept twice.
            "default.replication.factor": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # Fifty partitions each cost a second and fifty files at the first group; tests have a handful of groups.
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "4",
            # The default of 3 s waits for members that tests do not have.
            "group.initial.rebalance.delay.ms": "0",
            **self._properties,
        }
        return "".join(f"{key}={setting}\n" for key, setting in settings.items())

    def _java(self, *arguments: str) -> list[str]:
        # The classpath's wildcard is Java's own, not the shell's.
        logging = "-Dorg.slf4j.simpleLogger.showDateTime=true"
        return ["java", *self._jvm, logging, "-cp", f"{jars()}{os.sep}*", *arguments]

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        settings = str(self.folder / "server.properties")
        # With "=", because an id may start with "-".
        order = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", f"--config={settings}"]
        order = self._java(*order, *self._format_arguments)
        with (self.folder / "kafka.log").open("ab") as log:
            done = subprocess.run(order, stdout=log, stderr=log, timeout=HANG_S, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"Kafka's storage could not be formatted:\n{self._log_tail()}")

    def _launch(self) -> None:
        with (self.folder / "kafka.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self.folder / "server.properties")),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + HANG_S
        while not (_listens(self._ports["PLAINTEXT"]) and asyncio.run(_answers(self.address()))):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Apache Kafka did not start:\n{self._log_tail()}")
            time.sleep(POLL_S)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _log_tail(self) -> str:
        lines = (self.folder / "kafka.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_ports(count: int) -> list[int]:
    """
    Ports that are free now, and that no one gets by chance before the broker has them, or while it is down.

    They lie below those that the system gives away: a client that tries a closed port among them again and again may
    end up connected to itself, and the broker then can't have its port back. No one else but another test run picks
    ports there. So that two runs never pick the same, each keeps the UDP port of that number while its process lasts.
    """
    ports: list[int] = []
    for port in random.sample(_LASTING_PORTS, len(_LASTING_PORTS)):
        mark = socket.socket(type=socket.SOCK_DGRAM)
        try:
            mark.bind((HOST, port))
            with socket.socket() as free:
                free.bind((HOST, port))
        except OSError:
            mark.close()
            continue
        _MARKS.append(mark)
        ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError("no port is free")


def _listens(port: int) -> bool:
    """Whether the port is open, asked first because aiokafka logs every refusal as an error."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


async def _answers(address: str) -> bool:
    """Whether clients are served: the port alone opens before the node has registered itself."""
    probe = client.AIOKafkaClient(bootstrap_servers=address)
    try:
        await probe.bootstrap()
        return bool(probe.cluster.brokers())
    except errors.KafkaError:
        return False
    finally:
        await probe.close()
