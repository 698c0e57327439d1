"""
What must hold once the faults have stopped, rivals rest and everything has been compared once more.

Each check asks the world (log, server) and what the program left to others (store, audit, outcomes).
"""

import json
from typing import Any

from reconciler.core.events import outcomes
from reconciler.core.events.outcomes import Told
from reconciler.core.folding import fold
from reconciler.model.document import Document, Status
from reconciler.model.policy import Strategy
from reconciler.model.snapshot import Token
from reconciler.model.stamp import Place
from reconciler.model.value import canonical
from tests.checks import check_audit, check_outcomes
from tests.fakes.memory_log import MemoryBroker
from tests.sim import comparing, naive, oracle
from tests.sim.logs import LETTERS, OUTCOMES, read
from tests.sim.options import KEYWORDS, SCALARS
from tests.sim.server import ME, Server, Write, elements, token_of
from tests.sim.witness import Witness
from tests.sim.workload import Workload
from tests.sim.world import World


class Checks:
    """The end of one world."""

    def __init__(
        self,
        world: World,
        store: Any,
        broker: MemoryBroker,
        server: Server,
        workload: Workload,
        *,
        witness: Witness,
        may_stay_open: set[tuple[str, str]],
    ) -> None:
        self._world = world
        self._store = store
        self._broker = broker
        self._server = server
        self._workload = workload
        self._witness = witness
        self._may_stay_open = may_stay_open
        self.counts = {"told": 0, "untold": 0}  # accepted writes that the audit tells of, and those it can't

    async def all(self) -> None:
        rows = {row.key: row for row in await self._store.list_documents(None, "", 1000)}
        self._unlocked()
        await self._projection()
        await self._dead_letters()
        await self._conflicts(rows)
        for row in rows.values():
            self._settled(row)
            self._agrees(row)
        self._recovers(rows)
        if self._world.options.replicas > 1:
            self._in_order()
        await self._trail()

    def _expect(self, holds: object, message: str) -> None:
        self._world.expect(holds, message)

    def _unlocked(self) -> None:
        self._expect(not self._server.locks, f"locks of ours are left: {self._server.locks}")

    async def _projection(self) -> None:
        """Every event is reflected or superseded: the rows are what a naive fold of the whole log gives."""
        expected = self._expected()
        stored = {key: desired async for key, desired in self._store.export_projection()}
        self._expect(stored.keys() == expected.keys(), f"rows of {sorted(stored)}, not of {sorted(expected)}")
        for key, row in expected.items():
            if key in stored:
                shown = naive.plain(stored[key])
                self._expect(shown == row.plain(), f"{key}: the log says {row.plain()}, the store {shown}")

    def _expected(self) -> dict[str, naive.Row]:
        facts = self._workload.facts
        known = self._witness.folding.folded_or_in(read(self._broker), facts)
        return naive.project((*self._witness.folding.of_before, *(facts[at] for at in known)))

    async def _dead_letters(self) -> None:
        """Every unusable record is kept and was announced with its original bytes; nothing else was."""
        letters = await self._store.dead_letters(None)
        poison = self._workload.poison
        expected = self._witness.folding.folded_or_in(read(self._broker), poison)
        again = {one.place for one in letters if one.status == "replayed"}
        replayed = {*self._workload.replayed.values()} & expected
        self._expect(again == replayed, f"replayed are {sorted(again)}, not {sorted(replayed)}")
        kept = {one.place for one in letters}
        self._expect(kept == expected, f"dead letters {sorted(kept)}, not {sorted(expected)}")
        told: dict[Place, bytes | None] = {}
        for record in self._broker.records(LETTERS):
            headers = dict(record.headers)
            topic, partition, offset = (headers[outcomes.ERRORS + name] for name in ("topic", "partition", "offset"))
            told[Place((topic or b"").decode(), int(partition or b""), int(offset or b""))] = record.value
        shown = f"announced dead letters {sorted(told)}, not {sorted(expected)}"
        self._expect(expected <= told.keys() <= poison.keys(), shown)
        self._expect(all(told[at] == poison[at] for at in told), "a dead letter is announced with other bytes")

    async def _conflicts(self, rows: dict[str, Document]) -> None:
        """The list of conflicts and the documents agree, and the outcomes tell the same story."""
        listed = {(row.document, row.conflict.id) for row in await self._store.conflicts()}
        held = {(row.key, one.id) for row in rows.values() for one in row.agreement.held}
        self._expect(listed == held, f"conflicts listed {listed}, held {held}")
        told: set[tuple[str, str]] = set()
        for outcome in self._outcomes():
            pair = (outcome["subject"], outcome["data"].get("conflict"))
            if outcome["type"] == "windchill.conflict.opened.v1":
                told.add(pair)
            elif outcome["type"] == "windchill.conflict.closed.v1":
                told.discard(pair)
        more = told - held - self._may_stay_open
        self._expect(held <= told and not more, f"conflicts told {sorted(told)}, held {sorted(held)}")

    def _settled(self, row: Document) -> None:
        agreement = row.agreement
        self._expect(row.status in (Status.SYNCED, Status.HELD), f"not settled: {row}")
        # A document that is not managed is not read, so nothing shows that a write can't come any more.
        unread = not fold.managed(row.desired)
        gone = unread or agreement.intent is None or agreement.intent.token == self._server.current[row.key].token
        self._expect(gone, f"{row.key}: settled, and a write is still in doubt that can't come any more: {row}")
        self._expect(bool(agreement.held) is (row.status is Status.HELD), f"held or not? {row}")

    def _agrees(self, row: Document) -> None:
        """Windchill shows what was last agreed; under `external` that is what the log says."""
        live = self._server.current[row.key].fields
        held = {conflict.field for conflict in row.agreement.held}
        for name, agreed in row.agreement.base.fields.items():
            if name not in held and not self._witness.is_unseen(name):
                told = f"{row.key}: `{name}` is {live[name]!r}, agreed on {agreed.value!r}"
                self._expect(_text(name, agreed.value) == _text(name, live[name]), told)
        wanted = self._expected()[row.key].managed()
        assert self._world.life is not None
        for name in wanted:
            rule = oracle.rule_of(self._world.life.policy, name, self._server.type_of(row.key))
            strategy = rule.strategy
            known = name in row.agreement.base.fields or name in held
            self._expect(known or strategy is Strategy.IGNORE, f"{row.key}: `{name}` was never decided")
            claim = wanted[name].whole
            unseen = self._witness.is_unseen(name)
            if name in SCALARS and strategy is Strategy.EXTERNAL and name not in held and claim is not None:
                agrees = unseen or comparing.alike(claim.value, live[name], rule.normalise)
                self._expect(agrees, f"{row.key}: `{name}` = {live[name]!r}: {claim}")

    def _in_order(self) -> None:
        """Each outcome of a document comes after those with lower numbers, whoever published which; copies may come."""
        last: dict[str, int] = {}
        seen: set[bytes] = set()
        for record in self._broker.records(OUTCOMES):
            told = outcomes.told(record.value or b"")
            if told is not None and record.value not in seen:
                before = last.get(told.key, 0)
                self._expect(told.number > before, f"{told.key}: outcome {told.number} comes after {before}")
                last[told.key] = told.number
            seen.add(record.value or b"")

    def _outcomes(self) -> list[dict[str, Any]]:
        return [json.loads(record.value or b"") for record in self._broker.records(OUTCOMES)]

    def _recovers(self, rows: dict[str, Document]) -> None:
        """The outcome log alone gives back every base."""
        check_outcomes(self._outcomes())
        last: dict[str, Told] = {}
        for record in self._broker.records(OUTCOMES):
            found = outcomes.told(record.value or b"")
            if found is not None and (found.key not in last or last[found.key].number <= found.number):
                last[found.key] = found
        for row in rows.values():
            base, told = row.agreement.base, last[row.key].base if row.key in last else None
            if told is None:
                self._expect(not base.fields and not base.refused, f"{row.key}: no outcome tells of {base}")
            else:
                same = (told.fields, told.refused) == (base.fields, base.refused)
                self._expect(same, f"{row.key}: the outcomes give {told}, the store has {base}")

    async def _trail(self) -> None:
        """Audit records recompute, and tell of every accepted write of ours exactly once."""
        records = await check_audit(self._store)
        written: dict[tuple[str, str], int] = {}
        confirmed: dict[tuple[str, str], int] = {}
        for record in records:
            if record.result == "written":
                place = (record.document, str(record.snapshot.token))
                written[place] = written.get(place, 0) + 1
            if record.result == "confirmed":
                place = (record.document, str(record.snapshot.token))
                confirmed[place] = confirmed.get(place, 0) + 1
        for write in self._witness.writes:
            told = written.pop((write.key, str(write.token)), 0) if write.accepted is not None else 0
            self._told_once(write, told, confirmed)
        self._expect(not written, f"audit records of writes that the server never accepted: {written}")
        for key, token in confirmed:
            shown = self._server.versions[key, Token(token)].fields
            meant = [one.fields for one in self._witness.writes if one.key == key]
            there = [one for one in meant if all(canonical(one[name]) == canonical(shown[name]) for name in one)]
            self._expect(there, f"{key} {token}: confirmed, and no write of ours left what is there: {shown}")

    def _told_once(self, write: Write, told: int, confirmed: dict[tuple[str, str], int]) -> None:
        if write.accepted is None:
            return
        told += confirmed.pop((write.key, str(write.accepted.token)), 0)
        self._expect(told <= 1, f"{told} audit records tell of one write: {write}")
        if told:
            self.counts["told"] += 1
        else:
            lost = write.unrecorded or not self._confirmable(write)
            self._expect(lost, f"no audit record tells of a write that was applied: {write}")
            self.counts["untold"] += 1

    def _confirmable(self, write: Write) -> bool:
        """Whether a read must have shown what was written: managed, not altered, and no rival came right after."""
        assert write.accepted is not None
        if any(canonical(value) != canonical(write.accepted.fields[name]) for name, value in write.fields.items()):
            return False
        after = self._server.versions.get((write.key, token_of(write.key, write.accepted.number + 1)))
        return not write.released and (after is None or after.who == ME)


def _text(name: str, value: Any) -> str:
    return canonical(sorted(elements(value)) if name == KEYWORDS else value)
