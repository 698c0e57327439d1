"""What all tests share: which broker they run against, how hard Hypothesis tries, and what was missing."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

HAVE_BROKERS = importlib.util.find_spec("tests.brokers") and importlib.util.find_spec("tests.brokers.fixtures")
pytest_plugins = ["tests.brokers.fixtures"] if HAVE_BROKERS else []

IN_CI = os.environ.get("CI") == "true"

# No deadline: on shared cores single examples are slow by chance. CI looks further, and prints what reproduces a find.
hypothesis.settings.register_profile("dev", max_examples=100, deadline=None, derandomize=False)
hypothesis.settings.register_profile("ci", max_examples=300, deadline=None, derandomize=False, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if IN_CI else "dev"))


def missing_parts() -> Sequence[str]:
    """The real parts that this machine lacks, each with what would bring it."""
    return [] if "Apache Kafka" in broker() else ["Apache Kafka (Java of at least 17 and Maven bring it)"]


def broker() -> str:
    """The broker that the Kafka tests run against, as `tests.brokers` describes it."""
    if not HAVE_BROKERS:
        return "none"
    from tests import brokers

    return str(brokers.describe())


def pytest_sessionstart() -> None:
    """In CI a missing real part is a failure: a green run must mean that Apache Kafka was tested."""
    if IN_CI and (missing := missing_parts()):
        pytest.exit(f"missing in CI: {', '.join(missing)}", returncode=1)


def pytest_report_header() -> str:
    """Name the broker before the first test."""
    return f"broker: {broker()}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was missing after the last test, before pytest's closing line."""
    for part in missing_parts():
        terminalreporter.write_line(f"not tested for want of a real part: {part}", yellow=True)
