"""What all tests share: which broker they run against, how hard Hypothesis tries, and what was missing."""

import os
import sys
import threading

import hypothesis
import pytest

from tests import absences, brokers, openings
from tests.brokers import apache

pytest_plugins = ["tests.brokers.fixtures", "tests.postgres.fixtures"]

STATUS = pytest.StashKey[int]()

# No deadline: on shared cores single examples are slow by chance. CI looks further, and prints what reproduces a find.
hypothesis.settings.register_profile("dev", max_examples=100, deadline=None, derandomize=False)
# In CI one commit has one result. New examples are looked for by every other run, and by HYPOTHESIS_PROFILE=search.
hypothesis.settings.register_profile("ci", max_examples=300, deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("search", max_examples=3000, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if brokers.must_be_apache() else "dev"))


def pytest_report_header() -> str:
    """Name the broker before the first test."""
    return brokers.describe()


def pytest_sessionstart() -> None:
    """Watch over openings; in CI a missing real part is a failure: green must mean that Apache Kafka was tested."""
    openings.watch()
    if brokers.must_be_apache() and (absent := apache.missing()):
        pytest.exit(f"CI needs Apache Kafka, and there is {absent}", returncode=1)


@pytest.hookimpl(optionalhook=True)  # xdist's
def pytest_testnodedown(node: object) -> None:
    """Learn what a worker did without."""
    absences.take(node)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say after the last test, before pytest's closing line, what the tests did without."""
    for line in absences.noted(config):
        terminalreporter.write_line(f"missing: {line}", yellow=True, bold=True)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """
    End even if a failed test has left a connection open: its thread would keep the interpreter waiting for ever.

    A process that runs a share of the tests is ended by the one that reports.
    """
    if absences.is_worker(config):
        return
    left = [
        thread.name for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon
    ]
    if left and config.stash.get(STATUS, 0):
        sys.stdout.flush()
        os._exit(config.stash[STATUS])


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remember how it went, for the hook above; a worker tells what it did without."""
    if absences.is_worker(session.config):
        absences.hand_over(session.config)
    session.config.stash[STATUS] = int(exitstatus)
