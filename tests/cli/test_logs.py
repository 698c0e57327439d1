"""Log lines: whatever they hold, one event is one line, and saying it never fails."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.cli import log_output

NASTY = ["a\nb", "a\r\x00\x1b[31m", "\u202etxt.exe", "a\u2028b\u2029c\x85d", "\ud800", "\U000e0041", "😀", '"\\', ""]
CANARY = "canary-in-a-variable"


class Stream(io.StringIO):
    terminal = False

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stream]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = Stream()
    monkeypatch.setattr(sys, "stderr", stream)
    log_output.configure("info", asked_for=True)
    yield stream
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def line(stream: Stream) -> dict[str, Any]:
    """The only line there is."""
    said = stream.getvalue()
    assert said.count("\n") == 1
    assert said.endswith("\n")
    assert said[:-1].isprintable()
    stream.truncate(0)
    stream.seek(0)
    return dict(json.loads(said))


def fails() -> None:
    password = CANARY
    raise RuntimeError(f"two\nlines of {len(password)}")


@pytest.mark.parametrize("value", [*NASTY, 2**70, float("nan"), b"\xff", {"a": NASTY}, {1: 2}, object(), [{"\ud800"}]])
def test_an_event_is_one_line_whatever_it_holds(stderr: Stream, value: Any) -> None:
    structlog.get_logger().warning("something", value=value, last=1)
    said = line(stderr)
    assert (said["event"], said["level"], said["last"]) == ("something", "warning", 1)
    if isinstance(value, str):
        assert said["value"] == value


@given(st.text() | st.recursive(st.text() | st.integers() | st.floats() | st.binary(), st.lists))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_makes_two_lines_or_an_error(stderr: Stream, value: Any) -> None:
    structlog.get_logger().info("something", value=value)
    assert line(stderr)["event"] == "something"


def test_an_error_is_one_line_with_its_traceback_and_without_the_values_of_variables(stderr: Stream) -> None:
    try:
        fails()
    except RuntimeError:
        structlog.get_logger().exception("it failed")
        said = line(stderr)
        logging.getLogger("asyncio").exception("they\nfailed")
        foreign = line(stderr)
    for one in (said, foreign):
        assert "RuntimeError: two\nlines" in one["exception"]
        assert CANARY not in str(one)
    assert foreign["event"] == "they\nfailed"


def test_on_a_terminal_an_error_is_told_without_the_values_of_variables(
    stderr: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr.terminal = True
    monkeypatch.setattr(sys, "stderr", stderr)  # a capturing pytest has put its own in the place of ours
    log_output.configure("info", asked_for=True)
    try:
        fails()
    except RuntimeError:
        structlog.get_logger().exception("it failed", value=NASTY[2])
        logging.getLogger("asyncio").exception("they failed")
    said = stderr.getvalue()
    assert said.count("RuntimeError: two") == 2
    assert "it failed" in said
    assert CANARY not in said
    assert NASTY[2] not in said
