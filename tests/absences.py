"""What tests did without: processes that share a run tell it to the one that reports. The hooks are in conftest.py."""

from typing import Any

import pytest

_NOTED = pytest.StashKey[list[str]]()


def note(config: pytest.Config, line: str) -> None:
    """Keep a line for the end of the run; the same line is said once."""
    noted = config.stash.setdefault(_NOTED, [])
    if line not in noted:
        noted.append(line)


def noted(config: pytest.Config) -> list[str]:
    return config.stash.get(_NOTED, [])


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs a share of the tests for another one."""
    return hasattr(config, "workerinput")


def hand_over(config: Any) -> None:
    """Give a worker's lines to the process that reports."""
    config.workeroutput["absences"] = noted(config)


def take(node: Any) -> None:
    """Take the lines of a worker that has ended; one that crashed tells nothing."""
    for line in getattr(node, "workeroutput", {}).get("absences", []):
        note(node.config, line)
