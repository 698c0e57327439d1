"""
Each benchmark starts, and its sides fold or write the same. Numbers are tiny, and no time is looked at.

A side's process is forked from one that has imported everything already, and is kept on no core of its own: that is
enough to see that it works. Quix Streams is left out where `make bench` has not installed it.
"""

import contextlib
import importlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from benchmarks import backlog, engine, events, fold_file, fold_kafka, measure, million, report
from benchmarks.measure import Figures, Sample
from benchmarks.peers import quix
from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Settings
from tests import brokers

EVENTS, DOCUMENTS = 300, 40


in_a_fresh_process, on_core = measure.side, measure.on_core  # replaced in these tests


def quiet(_: str) -> None:
    """Say nothing."""


def forked(module: str, name: str, *arguments: object, python: Path | str = sys.executable) -> Sample:
    """Stand in for `measure.side`, which would spend a second on imports each time."""
    if python != sys.executable:
        return in_a_fresh_process(module, name, *arguments, python=python)
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([engine.__name__, fold_file.__name__, fold_kafka.__name__, million.__name__])
    with ProcessPoolExecutor(1, server) as pool:
        return pool.submit(called, module, name, *map(str, arguments)).result()


def called(module: str, name: str, *arguments: str) -> Sample:
    """Run a side in this process."""
    sample = getattr(importlib.import_module(module), name)(*arguments)
    assert isinstance(sample, Sample)
    return sample


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run sides where imports are done already, on any core."""
    monkeypatch.setattr(measure, "side", forked)
    monkeypatch.setattr(measure, "on_core", contextlib.nullcontext)


@pytest.fixture
def server() -> Iterator[brokers.Server]:
    """The embedded broker: it starts at once, and three hundred events fit."""
    with brokers.Embedded() as started:
        yield started


def test_folding_a_file_gives_what_a_bare_loop_gives(tmp_path: Path) -> None:
    found = fold_file.measured(tmp_path, 1, quiet, count=EVENTS, documents=DOCUMENTS)
    assert {name: [sample.count for sample in samples] for name, samples in found.items()} == {
        "only in memory": [EVENTS],
        "replay": [EVENTS],
    }
    assert len({sample.more["digest"] for samples in found.values() for sample in samples}) == 1


def test_all_who_fold_a_topic_keep_the_same_values(server: brokers.Server, tmp_path: Path) -> None:
    found = fold_kafka.measured(server, tmp_path, 1, quiet, count=EVENTS, documents=DOCUMENTS, with_quix=False)
    assert {sample.count for samples in found.values() for sample in samples} == {EVENTS}
    folded = {name for name, (sample,) in found.items() if "digest" in sample.more}
    assert folded == {"ours", "by hand, rows in memory", "by hand, rows read", "only in memory"}


@pytest.mark.kafka
@pytest.mark.skipif(not quix.PYTHON.exists(), reason="make bench installs Quix Streams")
def test_quix_keeps_the_same_values(broker: brokers.Server, tmp_path: Path) -> None:
    if isinstance(broker, brokers.Embedded):
        pytest.skip("Quix Streams asks for the settings of topics, which only Apache Kafka tells")
    found = fold_kafka.measured(broker, tmp_path, 1, quiet, count=EVENTS, documents=DOCUMENTS)
    assert {"Quix", "Quix with changelog"} < found.keys()


def test_each_client_of_the_engine_benchmark_writes_every_document(tmp_path: Path) -> None:
    found = engine.measured(tmp_path, 1, quiet, documents=DOCUMENTS)
    assert {name: sample.count for name, (sample,) in found.items()} == dict.fromkeys(
        ("aiohttp", "httpx over aiohttp", "our adapter", "engine"), DOCUMENTS
    )


def test_a_daemon_starts_and_changes_documents_in_stores_of_two_sizes(tmp_path: Path) -> None:
    starts, found = million.measured(tmp_path, 1, quiet, small=40, large=80, count=15, idle_s=0.1)
    assert len(starts) == 1
    assert {name: sample.count for name, (sample,) in found.items()} == {"small": 5, "large": 5}


def test_the_daemon_is_watched_while_it_folds_a_backlog(server: brokers.Server, tmp_path: Path) -> None:
    (address,) = server.brokers
    backlog.fill_topic(address, "few", events.generated(EVENTS, DOCUMENTS))
    with Simulator(Settings(port=0, documents=DOCUMENTS)) as windchill:
        seen = backlog.watched(address, "few", windchill.url, tmp_path, count=EVENTS, in_flight=4, writing_s=0.1)
    assert seen.writing[-1].folded == EVENTS


def test_a_side_that_fails_says_why_even_if_it_leaves_a_thread_behind() -> None:
    with pytest.raises(RuntimeError, match="nothing to measure"):
        in_a_fresh_process(__name__, "failing")


def failing() -> None:
    """Fail as a side does that has not closed its store: the store's thread lives on."""
    threading.Thread(target=threading.Event().wait).start()
    raise LookupError("nothing to measure")


def test_a_server_and_a_worker_are_kept_on_different_cores() -> None:
    before = os.sched_getaffinity(0)
    cores = []
    for number in (0, 1):
        with on_core(number):
            cores.append(os.sched_getaffinity(0))
    assert cores[0] != cores[1] or len(before) == 1
    assert os.sched_getaffinity(0) == before


def test_sides_that_fold_different_values_are_told_apart() -> None:
    found = {name: [Sample(1, 1.0, 1.0, {"digest": digest})] for name, digest in (("ours", "a"), ("theirs", "b"))}
    with pytest.raises(AssertionError, match="different values"):
        measure.require_equal_digests(found)


def test_a_report_shows_each_side_with_what_it_needed() -> None:
    samples = {"ours": [Sample(100, 2.0, 1.0, {"rss_mib": 12.3})]}
    ratio = report.Finding("ratio", Figures(1, 1, 1), 2.0)
    text = report.section(report.Report("name", "About.", [ratio], short="Why.", sides=samples))
    assert "| ours | 50 / 50 / 50 | 10000.0 / 10000.0 / 10000.0 | 12 | – |" in text
    assert "**Short of its target:** Why." in text
