"""The program as tests run it: commands in a folder of its own, over a file log and a simulator."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import structlog
from click.testing import CliRunner

from reconciler import cli
from reconciler.adapters import packing
from tests.brokers.fixtures import MakeTopic
from tests.patience import HANG_S

CONFIG = """\
[log]
{log}
[store]
url = "sqlite:///{folder}/state.db"
[windchill]
base_url = "{windchill}"
[admin]
bind = "127.0.0.1:0"
[retry]
backoff_base_s = 0.05
[[policy]]
fields = ["status"]
strategy = "external"
[[policy]]
fields = ["owner"]
strategy = "preserve"
[[policy]]
fields = ["attributes.Keywords"]
strategy = "merge"
list = "set"
[[policy]]
fields = ["attributes.Secret"]
strategy = "external"
sources = ["//erp/*", "//kafka/*"]
"""


class Topics(NamedTuple):
    """The topics of one program."""

    changes: str
    decisions: str
    outcomes: str
    letters: str

    @classmethod
    def made(cls, topic: MakeTopic, partitions: int = 2) -> Topics:
        """Make all four; `partitions` of the change log."""

        async def make() -> list[str]:
            return [await topic(partitions if name == "changes" else 1, name) for name in cls._fields]

        return cls(*asyncio.run(make()))

    def log(self, brokers: Iterable[str]) -> str:
        """Return the settings of the section `log`."""
        return (
            f'brokers = {json.dumps(list(brokers))}\ntopic = "{self.changes}"\ndecisions_topic = "{self.decisions}"\n'
            f'outcomes_topic = "{self.outcomes}"\ndead_letter_topic = "{self.letters}"'
        )


def event(document: str, source: str, fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a change event as any producer may write it."""
    said = {"id": str(uuid.uuid4()), "source": source, "type": "windchill.document.changed.v1", "subject": document}
    return {"specversion": "1.0", **said, "time": "2026-01-01T00:00:00Z", "data": {"set": fields}} | more


def invoked(*arguments: str) -> str:
    """Run a command in this process and folder; return what it printed."""
    ended = CliRunner().invoke(cli.main, list(arguments))
    assert not ended.exit_code, ended.output
    return ended.stdout


class Ended(NamedTuple):
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


class Program:
    """A folder with a configuration, and the program run in it: in processes of its own if `real`, else in this one."""

    def __init__(self, folder: Path, windchill: str, log: str = "", *, real: bool = False) -> None:
        self.folder = folder
        self.windchill = windchill
        self.real = real
        self.log = folder / "events.jsonl"
        self.decisions = folder / "events.jsonl.decisions"
        log = log or f'kind = "file"\npath = "{self.log}"'
        self.config = folder / "reconciler.toml"
        self.config.write_text(CONFIG.format(folder=folder, windchill=windchill, log=log), encoding="utf-8")

    def run(self, *arguments: str, given: str = "", configured: bool = True) -> Ended:
        """Run a command to its end; no traceback may ever be seen."""
        told = [*arguments, "-c", str(self.config)] if configured else list(arguments)
        ended = self._spawned(told, given) if self.real else self._within(told, given)
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended

    def _spawned(self, told: list[str], given: str) -> Ended:
        command = [sys.executable, "-m", "reconciler", *told]
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("RECONCILER_", "COLUMNS"))}
        ended = subprocess.run(
            command,
            cwd=self.folder,
            env=environ,
            input=given,
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def _within(self, told: list[str], given: str) -> Ended:
        """Run a command in this process, which saves it a second, and leave no trace of it."""
        root = logging.getLogger()
        handlers, level, threshold = root.handlers, root.level, gc.get_threshold()
        gc.freeze()  # the collection with which a daemon begins is not over all tests
        try:
            with contextlib.chdir(self.folder):
                ended = CliRunner().invoke(cli.main, told, input=given)
        finally:
            root.handlers, root.level = handlers, level
            structlog.reset_defaults()
            gc.unfreeze()
            gc.set_threshold(*threshold)
        return Ended(ended.exit_code, ended.stdout, ended.stderr)

    def reconfigure(self, old: str, new: str) -> None:
        """Say something else in the configuration, the first time that it says this."""
        text = self.config.read_text(encoding="utf-8")
        assert old in text
        self.config.write_text(text.replace(old, new, 1), encoding="utf-8")

    def append(self, *lines: dict[str, Any] | str) -> None:
        """Write to the log as anyone may who can write to its file: events, or whatever else."""
        with self.log.open("a", encoding="utf-8") as log:
            log.writelines(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)

    def lose_store(self) -> None:
        """Delete the files of the store."""
        for file in self.folder.glob("state.db*"):
            file.unlink()

    def tamper(self, *statements: str) -> None:
        """
        Change the store behind the program's back, and the audit trail in spite of its triggers.

        Statements may use `plain(record)` and `packed(text)`.
        """
        with contextlib.closing(sqlite3.connect(self.folder / "state.db")) as store:
            store.create_function("plain", 1, lambda stored: packing.unpack(stored).decode())
            store.create_function("packed", 1, lambda text: packing.pack(text.encode()))
            for trigger in ("audit_is_never_changed", "audit_is_never_deleted", "audit_has_no_gaps"):
                store.execute(f"DROP TRIGGER {trigger}")
            for statement in statements:
                store.execute(statement)
            store.commit()

    def say(self, *arguments: str, code: int = 0, given: str = "") -> str:
        """Return what a command prints; it must end with `code`."""
        ended = self.run(*arguments, given=given)
        assert ended.returncode == code, (arguments, ended.returncode, ended.stdout, ended.stderr)
        return ended.stdout

    def emits(self, *arguments: str) -> str:
        """Let a system append a change event, unless the arguments name another source."""
        return self.say("emit", "--source", "//erp/prod", *arguments)

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Return what a command says to programs."""
        return json.loads(self.say(*arguments, "-o", "json", code=code))

    def checks(self, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
        """Return what the doctor finds, by the names of its checks."""
        return {row["check"]: row for row in self.json("doctor", *arguments, code=code)}

    def fails(self, *arguments: str, code: int = 1, given: str = "") -> str:
        """Return the one error line of a command that must fail with `code`."""
        ended = self.run(*arguments, given=given)
        assert ended.returncode == code, (arguments, ended.returncode, ended.stdout, ended.stderr)
        errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
        assert errors, ended.stderr
        return "\n".join(errors)

    def switch(self, what: str, **switches: Any) -> None:
        """Set switches of the simulated Windchill: of its `behaviour`, its `faults` or of the dialect `wrs`."""
        httpx.patch(f"{self.windchill}/_control/{what}", json=switches).raise_for_status()

    def edit(self, document: str, **fields: Any) -> None:
        """Let someone else edit a document."""
        told = {"document": document, "user": "jdoe", "set": {name.replace("__", "."): v for name, v in fields.items()}}
        httpx.post(f"{self.windchill}/_control/edit", json=told).raise_for_status()

    def document(self, key: str) -> dict[str, Any]:
        """Return a document as Windchill has it."""
        return dict(httpx.get(f"{self.windchill}/documents/{key}").raise_for_status().json())

    def writes(self) -> int:
        """Return how many writes Windchill has accepted."""
        shown = httpx.get(f"{self.windchill}/_control/history").raise_for_status().json()
        return sum(1 for entry in shown["items"] if entry["who"] == "integration")
