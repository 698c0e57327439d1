"""The flows and the program over the second server: attempts by hand on a virtual clock, or the real `reconciler`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.http import HttpClient
from reconciler.adapters.wrs.windchill import WrsWindchill
from reconciler.core.scheduling.breaker import Breaker
from reconciler.core.scheduling.limiter import Limiter, RetryQuota
from reconciler.core.settling.cases import Pace
from reconciler.flows.attempt import Attempt
from reconciler.flows.gate import Gate
from reconciler.model.policy import Policy
from reconciler.model.snapshot import Snapshot
from tests import defaults
from tests.cli.program import Ended, Program
from tests.flows.world import KEY, World
from tests.patience import HANG_S
from tests.stock.server import ACCOUNT, DISPLAY, Stock, drop

PERSON = "jdoe"
SETTINGS = """\
dialect = "wrs"
base_url = "{root}"
account = "{account}"
{more}
"""


class StockWorld(World):
    """`tests.flows.world.World` with the real adapter and the second server. Server and flows have one clock."""

    def __init__(self, stock: Stock, policy: Policy | None = None, *, pace: Pace | None = None, **options: Any) -> None:
        super().__init__(policy, pace=pace)
        self.stock, self.vault = stock, stock.vault
        self.options = {"account": DISPLAY, "base_url": stock.root, **options}
        self.vault.now = lambda: self.clock.now_us() / 1e6
        self.vault.make(KEY, Owner="sgarcia", CostCenter="4000", Title="Bracket")
        self.connect()

    def connect(self) -> None:
        """Begin as a new process does, with nothing but the store."""
        self.adapter = WrsWindchill(
            HttpClient(defaults.http(timeout_s=20), SystemClock()), defaults.wrs(**self.options), self.clock
        )
        self.gate = Gate(
            self.adapter, self.clock, limiter=Limiter(16), breaker=Breaker(documents_max=1000), quota=RetryQuota()
        )
        self.attempts = Attempt(self.gate, self.store, self.clock, self.attempt_options, self.budget)

    async def restarted(self) -> None:
        await self.adapter.close()
        self.connect()

    async def known(self) -> StockWorld:
        """Let the document be written once, so that the next write begins with what is remembered of it."""
        await self.emit({"Title": "Known"})
        await self.settle()
        self.stock.asked.clear()
        return self

    async def snapshot_of(self, key: str) -> Snapshot:
        """What a read of it shows."""
        shown = await self.adapter.read(key)
        assert isinstance(shown, Snapshot)
        return shown

    def live(self, key: str = KEY) -> dict[str, Any]:
        return self.vault.current(key)

    def ours(self, key: str = KEY) -> list[str]:
        """What we have carried out on a document, in order."""
        return self.vault.done(key, ACCOUNT)


class Real(Program):
    """The real program over the second server, in a folder of its own."""

    def __init__(
        self, folder: Path, stock: Stock, *, account: str = DISPLAY, more: str = "", real: bool = True
    ) -> None:
        super().__init__(folder, stock.url, real=real)
        self.stock = stock
        text = self.config.read_text(encoding="utf-8")
        given = f'base_url = "{stock.url}"\n'
        assert given in text
        settings = SETTINGS.format(root=stock.root, account=DISPLAY, more=more)
        self.config.write_text(text.replace(given, settings), encoding="utf-8")

    def sets(self, number: str, **fields: Any) -> None:
        """Let a system say what a document should be."""
        self.emits(number, *(f"--set={name}={json.dumps(value)}" for name, value in fields.items()))

    def pass_once(self) -> Ended:
        """`run --once`; how it ends is for the test to say."""
        ended = self.run("run", "--once")
        assert ended.returncode in (0, 3), ended
        return ended

    def killed_at(self, step: str, when: Any, nth: int = 1) -> None:
        """`run --once`, killed by SIGKILL when the server is at a step."""
        command = [sys.executable, "-m", "reconciler", "run", "--once", "-c", str(self.config)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("RECONCILER_")}
        silent = subprocess.DEVNULL
        with subprocess.Popen(command, cwd=self.folder, env=environ, stdout=silent, stderr=silent) as child:
            self.stock.at(step, when, lambda: self._kill(child, when), nth)
            assert child.wait(HANG_S) == -signal.SIGKILL, f"the program never came to {when} {step}"

    def _kill(self, child: subprocess.Popen[bytes], when: str) -> None:
        child.send_signal(signal.SIGKILL)
        child.wait(HANG_S)
        if when == "before":  # what is not sent is not carried out
            drop()
