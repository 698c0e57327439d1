"""
The flows over the dialect `wrs` on a real socket: attempts, a store, the adapter, and a simulated Windchill.

`Wire` is what the adapter sends through. It names every request by the step of a write that it belongs to, and can lose
it, lose its reply, let it arrive late, or end the whole client side right before or right after it; a test's own
actions can be put before any step, such as a person's who checks the document in at that very moment.
"""

import asyncio
import enum
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.credentials import Headers
from reconciler.adapters.http import HttpClient
from reconciler.adapters.replies import Exchange, Lost
from reconciler.adapters.wrs.windchill import WrsWindchill
from reconciler.core.scheduling.breaker import Breaker
from reconciler.core.scheduling.limiter import Limiter, RetryQuota
from reconciler.flows.attempt import Attempt
from reconciler.flows.gate import Gate, HeldUpError
from reconciler.model.answer import WriteAnswer
from reconciler.model.document import Agreement
from reconciler.model.policy import Policy
from reconciler.model.snapshot import Snapshot
from tests import defaults
from tests.adapters.simulated import Simulated
from tests.checks import expect
from tests.fakes.journal import MemoryJournal
from tests.fakes.memory_store import MemoryStore
from tests.flows.world import BODY, KEY, World
from tests.windchills import write_on

ME = "integration"
ACCOUNT = "Integration, Reconciler"


class Died(BaseException):
    """The client side ends here."""


class Fault(enum.Enum):
    """What happens at one step."""

    REQUEST_LOST = "request lost"
    REPLY_LOST = "reply lost"
    DIED_BEFORE = "died before"
    DIED_AFTER = "died after"
    CANCELLED = "cancelled"
    """The attempt is given up while the reply is under way; the process lives on."""
    LATE = "late"
    """Lost as it seems; it arrives when the test lets it."""
    OUTLIVED = "outlived"
    """From here on another replica may have our place."""


class Wire(HttpClient):
    """An HTTP client with faults. `asked` are the steps of all requests, in order."""

    def __init__(self, timeout_s: float = 30) -> None:
        super().__init__(defaults.http(timeout_s=timeout_s), SystemClock(), may_send=lambda: not self.outlived)
        self.outlived = False
        self.asked: list[str] = []
        self.faults: dict[str, Fault] = {}
        """Step → what happens the next time."""
        self.before: dict[str, Callable[[], Awaitable[None] | None]] = {}
        """Step → what someone does right before it, once."""
        self.late: list[Callable[[], Awaitable[Exchange]]] = []
        self._copies: set[str] = set()

    async def exchange(self, method: str, url: str, headers: Headers, content: bytes = b"") -> Exchange:
        step = self._step(method, url)
        self.asked.append(step)
        fault = self.faults.pop(step, None)
        if (action := self.before.pop(step, None)) is not None and (waited := action()) is not None:
            await waited
        if fault is Fault.DIED_BEFORE:
            raise Died(step)
        if fault is Fault.REQUEST_LOST:
            return Lost("the connection broke")
        if fault is Fault.LATE:
            self.late.append(lambda: super(Wire, self).exchange(method, url, headers, content))
            return Lost("no whole answer in time")
        self.outlived |= fault is Fault.OUTLIVED
        reply = await super().exchange(method, url, headers, content)
        if fault is Fault.DIED_AFTER:
            raise Died(step)
        if fault is Fault.CANCELLED:
            raise asyncio.CancelledError
        return Lost("the connection broke") if fault is Fault.REPLY_LOST else reply

    async def arrive(self) -> None:
        """Let what is late arrive."""
        for send in self.late:
            await send()
        self.late.clear()

    def _step(self, method: str, url: str) -> str:
        """Name a request: `CheckOut`, `GET copy` after it, `PATCH`, `CheckIn`, `GET new` after it, `GET list`, …"""
        path = url.partition("?")[0]
        if path.endswith("GetCSRFToken()"):
            return "nonce"
        if path.endswith("$metadata"):
            return "metadata"
        last = path.rpartition("/")[2]
        if last.startswith("PTC.DocMgmt."):
            return last.removeprefix("PTC.DocMgmt.").removesuffix("()")
        if method != "GET":
            return method
        before = self.asked[-1] if self.asked else ""
        if before in ("SetState", "UpdateCommonProperties"):
            return "GET new"  # by its number or by its ID
        return (
            "GET list" if last == "Documents" else {"CheckOut": "GET copy", "CheckIn": "GET new"}.get(before, "GET one")
        )


class Person:
    """Someone who works with documents in Windchill."""

    def __init__(self, simulated: Simulated, name: str = "jdoe") -> None:
        self._control = simulated._control
        self.name = name

    def does(self, *actions: str, document: str = KEY, **more: Any) -> None:
        given = {"document": document, "user": self.name, "do": list(actions), **more}
        reply = self._control.post("/wrs/act", json=given)
        assert reply.status_code == 200, reply.text

    def edits(self, **fields: Any) -> None:
        """Check out, edit, check in."""
        self.does("checkout", "edit", "checkin", set=fields)

    def sets(self, path: str, value: str) -> None:
        """Give the document a state or a name, by an action, outside of any check-out."""
        self.does("setstate", state=value) if path == "status" else self.does("rename", name=value)

    def renames(self, document: str, number: str) -> None:
        """Give a document another Number, which makes no iteration."""
        root = str(self._control.base_url).removesuffix("/_control/") + "/Windchill/servlet/odata"
        latest = self._control.get("/documents/" + document).json()["latest"]
        as_person = {"X-Simulated-User": self.name}
        nonce = self._control.get(f"{root}/PTC/GetCSRFToken()", headers=as_person).json()
        reply = self._control.post(
            f"{root}/v6/DocMgmt/Documents('{latest}')/PTC.DocMgmt.UpdateCommonProperties",
            json={"Updates": {"Number": number}},
            headers={**as_person, nonce["NonceKey"]: nonce["NonceValue"]},
        )
        assert reply.is_success, reply.text

    def may_edit(self, **fields: Any) -> bool:
        """Check out, edit, check in, unless someone is at work on it; return whether it went through."""
        given = {"document": KEY, "user": self.name, "do": ["checkout", "edit", "checkin"], "set": fields}
        return self._control.post("/wrs/act", json=given).status_code == 200


class DyingStore(MemoryStore):
    """A store in memory whose owner can die at a commit. The rows stay."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = 0
        self.dies_before = self.dies_after = 0
        """At which intent from the beginning: the first is stored before anything is sent."""

    async def intend(self, key: str, agreement: Agreement, policy: str = "") -> bool:
        self.commits += 1
        if self.commits == self.dies_before:
            raise Died("before an intent is stored")
        stands = await super().intend(key, agreement, policy)
        if self.commits == self.dies_after:
            raise Died("after an intent was stored")
        return stands


class WrsWorld(World):
    """`tests.flows.world.World` with the real adapter and the simulator in place of the fake."""

    def __init__(self, simulated: Simulated, policy: Policy | None = None, **options: Any) -> None:
        super().__init__(policy)
        self.simulated = simulated
        self._control = simulated._control
        self.options = {"account": ACCOUNT, "base_url": f"{simulated.url}/Windchill/servlet/odata", **options}
        self.person = Person(simulated)
        simulated.make({"id": KEY, **BODY})
        self.store = DyingStore()
        self.connect()
        self.ingest = self.make_ingest()

    def connect(self, timeout_s: float = 30) -> None:
        """Begin as a new process does, with nothing but the store."""
        self.wire = Wire(timeout_s)
        self.adapter = WrsWindchill(self.wire, defaults.wrs(**self.options), SystemClock())
        self.gate = Gate(
            self.adapter, self.clock, limiter=Limiter(16), breaker=Breaker(documents_max=1000), quota=RetryQuota()
        )
        self.attempts = Attempt(self.gate, self.store, self.clock, self.attempt_options, self.budget)

    async def opened(self) -> Self:
        """Let the clock of our side be later than anything that people have done on the server."""
        await self.clock.advance((SystemClock().now_us() - self.clock.now_us()) / 1e6 + 3600)
        return self

    async def reconcile(self, fields: Mapping[str, Any], **more: Any) -> None:
        """Emit an event, and make attempts until the document is settled."""
        await self.emit(fields, **more)
        await self.settle()

    async def try_once(self, fields: Mapping[str, Any]) -> None:
        """Emit an event, and make one attempt."""
        await self.emit(fields)
        await self.attempt()

    async def known(self) -> Self:
        """Write the document once, so that the next write begins with its check-out."""
        await self.reconcile({"Owner": "lchen"})
        self.wire.asked.clear()
        return self

    async def write(
        self, shown: Snapshot, fields: Mapping[str, Any], journal: MemoryJournal | None = None
    ) -> WriteAnswer:
        """Write to the document that was shown; under a lock the same is decided again."""
        return await write_on(self.adapter, shown, fields, journal or MemoryJournal(fields))

    async def cut_short(self, *, restarted: bool = False) -> None:
        """Make one attempt, whatever comes of it; begin again if it dies, or if that is asked for."""
        try:
            await self.attempt()
        except Died:
            restarted = True
        except (asyncio.CancelledError, HeldUpError):
            pass
        if restarted:
            await self.adapter.close()
            self.connect()

    # ------------------------------------------------------------------------------------------------------- what came

    async def snapshot(self, key: str = KEY) -> Snapshot:
        return expect(Snapshot, await self.adapter.read(key))

    def live(self, key: str = KEY) -> dict[str, Any]:
        return self.simulated.document(key)

    def switch(self, **switches: Any) -> Self:
        self.simulated.switch(**switches)
        return self

    def cycles(self, user: str = ME, document: str = KEY) -> list[str]:
        """The check-outs, check-ins and undone check-outs of a user, in order."""
        shown = self._control.get("/wrs/checkouts", params={"document": document, "user": user})
        return [step["event"] for step in shown.raise_for_status().json()["items"]]

    def notes(self, event: str) -> list[str]:
        shown = self._control.get("/wrs/checkouts", params={"user": ME})
        return [step["note"] for step in shown.raise_for_status().json()["items"] if step["event"] == event]

    def where(self, document: str = KEY) -> dict[str, Any]:
        """By which IDs the document goes now, its version, how many iterations it has, and who holds it."""
        shown = self._control.get(f"/documents/{document}").raise_for_status().json()
        return {name: shown[name] for name in ("latest", "version", "iterations", "working_copy", "locked_by")}

    def iterations(self) -> int:
        return int(self.where()["iterations"])

    def holder(self) -> str | None:
        holder: str | None = self.where()["locked_by"]
        return holder

    def written(self) -> list[set[str]]:
        """The fields of each write of ours that was accepted."""
        return [set(entry.changes) for entry in self.simulated.history(KEY) if entry.who == ME]
