"""
An embedded broker that speaks Kafka's protocol, for demos and tests: nothing to install but a Python wheel.

It is librdkafka's mock cluster, which the `confluent-kafka` wheel carries, held by a small process of its own:

    python -m reconciler.simulator.broker [--until-stdin-closes] [--groups]

prints one line, `listening 127.0.0.1:PORT`, and stops on SIGTERM or when stdin closes. `Broker` starts that process and
ends it. What to know before relying on it, measured with librdkafka 2.16 and aiokafka 0.14:

- Memory only, one broker, loopback only, plaintext only; its port is chosen by the system and cannot be asked for.
- **It forgets.** A partition keeps its newest 5 MiB of batches as sent, or 100,000 batches, whichever is less, and
  drops older batches without a word. That is about 10,000 records of 500 bytes, some times more if the producer
  compresses. Reading below that end gives OffsetOutOfRange. Only more partitions keep more. A batch that pushes out the
  last older one is lost itself (one of 3 MiB was), so keep records below 2 MiB.
- It checks no record size: 50 MiB pass where Apache Kafka refuses more than 1 MiB. At 100 MB it hangs up.
- Topics are made on first use, with 4 partitions, or earlier by `Broker.make_topic`. There is no topic admin:
  aiokafka's `create_topics` fails with an AttributeError, because no controller is announced.
- Right: idempotent producers, acks, keys, headers, null values, the records' timestamps, end offsets, seeking, groups
  of one member; with `--groups` also of several (`groups.py`).
- Wrong or missing: the timestamp that a producer is told (always 1234), offsets by timestamp (always none), compaction,
  quotas.
- A fetch brings one batch a partition, so a producer that sends record by record makes for slow readers. A fetch that
  finds nothing is answered only after the client's whole `fetch_max_wait_ms` (aiokafka: 500), even if a record arrives
  meanwhile; 100 makes a demo feel live. Requests on that connection wait behind it.
"""

import argparse
import contextlib
import ctypes
import importlib.machinery
import importlib.util
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Self

MISSING_WHEEL = "the embedded broker needs confluent-kafka: pip install 'windchill-reconciler[demo]'"
START_S_MAX = 20.0  # it takes a tenth of a second; this bounds a machine that swaps
STOP_S_MAX = 5.0
PARTITIONS_DEFAULT = 4  # librdkafka's, for topics made on first use; it offers no way to change it

_PRODUCER = 0  # rd_kafka_type_t
_ERROR_SIZE = 512


class Unavailable(Exception):
    """The embedded broker cannot run here, or refused what it was asked; the message says why and what to do."""


# ------------------------------------------------------------------------------------------ inside the broker's process


def _extension() -> str:
    """Find the wheel's extension module without importing it: starting stays quick, and the parent can check too."""
    package = importlib.util.find_spec("confluent_kafka")
    if package is None:
        raise Unavailable(MISSING_WHEEL)
    module = importlib.machinery.PathFinder.find_spec("cimpl", package.submodule_search_locations)
    if module is None or module.origin is None:
        raise Unavailable(MISSING_WHEEL)
    return module.origin


class Cluster:
    """
    librdkafka's mock cluster of one broker, through ctypes.

    The wheel's Python API can start one (`test.mock.num.brokers`) but cannot make topics in it, which the C API can.
    The extension module is what is loaded, because a symbol is looked up in its dependencies too (on Linux and macOS),
    and the file name of the bundled librdkafka differs in every build. Lives as long as the process.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(_extension())
        try:
            self._declare(library)
        except AttributeError as error:
            raise Unavailable(f"this build of confluent-kafka hides librdkafka's mock cluster ({error})") from error
        self._library = library
        self._cluster = library.rd_kafka_handle_mock_cluster(self._client(library))
        if not self._cluster:
            raise Unavailable("librdkafka started no mock cluster: is confluent-kafka at least 2.16?")

    @staticmethod
    def _declare(library: ctypes.CDLL) -> None:
        """Name the pointers: by default ctypes takes every result for an `int`, which cuts addresses in half."""
        library.rd_kafka_conf_new.restype = ctypes.c_void_p
        library.rd_kafka_conf_set.argtypes = [
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_size_t,
        ]
        library.rd_kafka_new.restype = ctypes.c_void_p
        library.rd_kafka_new.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
        library.rd_kafka_handle_mock_cluster.restype = ctypes.c_void_p
        library.rd_kafka_handle_mock_cluster.argtypes = [ctypes.c_void_p]
        library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        library.rd_kafka_mock_cluster_bootstraps.argtypes = [ctypes.c_void_p]
        library.rd_kafka_mock_topic_create.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
        library.rd_kafka_err2str.restype = ctypes.c_char_p

    @staticmethod
    def _client(library: ctypes.CDLL) -> int:
        """A mock cluster belongs to a client; this one does nothing else."""
        reason = ctypes.create_string_buffer(_ERROR_SIZE)
        configuration = library.rd_kafka_conf_new()
        # Level 0 silences a line on stderr for every client that disconnects.
        for name, setting in ((b"test.mock.num.brokers", b"1"), (b"log_level", b"0")):
            if library.rd_kafka_conf_set(configuration, name, setting, reason, _ERROR_SIZE):
                raise Unavailable(f"librdkafka refused {name.decode()}: {reason.value.decode()}")
        client = library.rd_kafka_new(_PRODUCER, configuration, reason, _ERROR_SIZE)
        if not client:
            raise Unavailable(f"librdkafka did not start: {reason.value.decode()}")
        assert isinstance(client, int)
        return client

    @property
    def address(self) -> str:
        """Where clients bootstrap, as `host:port`."""
        address: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return address.decode()

    def make_topic(self, name: str, partitions: int) -> None:
        """Make a topic; raises `Unavailable` if it exists."""
        if fault := self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1):
            reason: bytes = self._library.rd_kafka_err2str(fault)
            raise Unavailable(f"topic {name!r}: {reason.decode()}")


def _obey(order: str, cluster: Cluster) -> str:
    """Carry out one line, `topic PARTITIONS NAME`; the answer is `ok` or `error …`."""
    match order.split():
        case ["topic", partitions, name] if partitions.isdecimal() and int(partitions) > 0:
            try:
                cluster.make_topic(name, int(partitions))
            except Unavailable as error:
                return f"error {error}"
            return "ok"
        case _:
            return "error: the only command is topic PARTITIONS NAME"


def main(arguments: Sequence[str] | None = None) -> int:
    """Hold a broker until told to stop; exit code 0 then, 1 if it could not start."""
    parser = argparse.ArgumentParser(prog="reconciler.simulator.broker", description="an embedded Kafka broker")
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="stop when stdin closes, so that the broker cannot outlive the program that started it",
    )
    parser.add_argument("--groups", action="store_true", help="serve consumer groups of several members too")
    options = parser.parse_args(arguments)
    # There is nothing to save.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        cluster = Cluster()
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 1
    if options.until_stdin_closes:
        # Ctrl-C reaches the whole foreground group; the program that owns the broker decides when it goes.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    address = cluster.address
    if options.groups:
        from reconciler.simulator import groups  # noqa: PLC0415  only where it is needed, so that the broker starts fast

        address = groups.Front(address).start()
    print(f"listening {address}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        if options.until_stdin_closes:
            for order in sys.stdin:
                print(_obey(order, cluster), flush=True)
        else:
            threading.Event().wait()
    return 0


# ----------------------------------------------------------------------------------- in the program that wants a broker


class Broker:
    """
    The embedded broker as a child process: `with Broker() as broker: … broker.brokers`.

    The broker ends with `stop`, or with this process however that ends; it can be started again, empty and elsewhere.
    With `groups`, consumer groups may have several members. Not for use by several threads at once.
    """

    def __init__(self, *, groups: bool = False) -> None:
        self._options = ["--groups"] if groups else []
        self.brokers: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int | None:
        """The broker's process id, to measure or kill it; None while there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the broker; raises `Unavailable` if the wheel is missing or nothing listens within `START_S_MAX`."""
        assert self._process is None, "the broker runs already"
        _extension()  # reports a missing wheel without starting a process
        # A file, because a pipe that is not read would fill up and stop the broker.
        with tempfile.TemporaryFile("w+") as complaints:
            self._process = self._spawn(complaints)
            word, _, address = self._hear().partition(" ")
            if word != "listening":
                self.stop()
                complaints.seek(0)
                complaint = complaints.read().strip() or f"it said nothing within {START_S_MAX:g} s"
                raise Unavailable(f"the embedded broker did not start: {complaint}")
        self.brokers = [address]

    def _spawn(self, complaints: IO[str]) -> subprocess.Popen[str]:
        # By path, with -P: neither the working directory nor this folder's modules can get in the way of the library's.
        return subprocess.Popen(  # noqa: S603 (our own file, run by our own interpreter)
            [sys.executable, "-P", __file__, "--until-stdin-closes", *self._options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            start_new_session=True,  # Ctrl-C is for the program that started it, and that ends it
        )

    def make_topic(self, name: str, partitions: int = PARTITIONS_DEFAULT) -> None:
        """Make a topic; raises `Unavailable` if it exists already, has no partitions, or the broker is gone."""
        assert self._process is not None, "start the broker first"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"topic {partitions} {name}\n")
            self._process.stdin.flush()
            answer = self._hear()
        except BrokenPipeError:
            answer = ""
        if answer != "ok":
            raise Unavailable(answer.removeprefix("error ") or "the embedded broker is gone; start it again")

    def stop(self) -> None:
        """End the broker and drop its content; harmless if it has ended already."""
        process, self._process, self.brokers = self._process, None, []
        if process is None:
            return
        process.terminate()
        try:
            process.communicate(timeout=STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    def _hear(self) -> str:
        """The next line from the broker; empty if it has ended, or was ended for being silent too long."""
        assert self._process is not None
        assert self._process.stdout is not None
        watchdog = threading.Timer(START_S_MAX, self._process.kill)
        watchdog.start()
        try:
            return self._process.stdout.readline().strip()
        finally:
            watchdog.cancel()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


if __name__ == "__main__":
    sys.exit(main())
