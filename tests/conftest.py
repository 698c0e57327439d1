"""What all tests share: which broker they run against, how hard Hypothesis tries, and what was missing."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests import brokers
from tests.brokers import apache

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_plugins = ["tests.brokers.fixtures"]

USED = pytest.StashKey[str]()
STATUS = pytest.StashKey[int]()

# No deadline: on shared cores single examples are slow by chance. CI looks further, and prints what reproduces a find.
hypothesis.settings.register_profile("dev", max_examples=100, deadline=None, derandomize=False)
hypothesis.settings.register_profile("ci", max_examples=300, deadline=None, derandomize=False, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if brokers.must_be_apache() else "dev"))


def pytest_report_header() -> str:
    """Name the broker before the first test."""
    return brokers.describe()


def pytest_sessionstart() -> None:
    """In CI a missing real part is a failure: a green run must mean that Apache Kafka was tested."""
    if brokers.must_be_apache() and (absent := apache.missing()):
        pytest.exit(f"CI needs Apache Kafka, and there is {absent}", returncode=1)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Remember which broker was really started: Java and Maven may be there and Kafka's jars still not to be had."""
    made = yield
    if fixturedef.argname == "broker":
        request.config.stash[USED] = str(getattr(made, "name", made))
    return made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say after the last test, before pytest's closing line, what the tests did without."""
    used = config.stash.get(USED, "")
    if used and not used.startswith("Apache Kafka"):
        absent = apache.missing() or "no way to get its jars"
        terminalreporter.write_line(
            f"missing: Apache Kafka ({absent}); the Kafka tests ran against {used}", yellow=True, bold=True
        )


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End even if a failed test has left a connection open: its thread would keep the interpreter waiting for ever."""
    left = [
        thread.name for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon
    ]
    if left and config.stash.get(STATUS, 0):
        sys.stdout.flush()
        os._exit(config.stash[STATUS])


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remember how it went, for the hook above."""
    session.config.stash[STATUS] = int(exitstatus)
