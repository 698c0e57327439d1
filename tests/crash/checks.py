"""What must hold at the end: the simulation's promises, asked of a real broker, a real server and a real file."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from reconciler import factory
from reconciler.core.events import outcomes
from reconciler.model import chain, instant
from reconciler.model.audit import AuditRecord
from reconciler.model.document import Document, Status
from reconciler.model.policy import Strategy
from reconciler.model.value import canonical
from reconciler.ports import Store
from reconciler.simulator import history as witness
from tests.checks import check_audit, check_outcomes, opened, projection
from tests.crash.evidence import ME, Evidence, same
from tests.crash.plan import KEYWORDS, SCALARS
from tests.crash.trail import Trail, plain_base
from tests.sim import naive
from tests.sim.server import elements

REPLAYED = "replayed.db"
_EVER = 1_000_000
_RECONCILED = "windchill.document.reconciled.v1"
_OPENED, _CLOSED = "windchill.conflict.opened.v1", "windchill.conflict.closed.v1"


async def check(evidence: Evidence, folder: Path, *, lost: bool = False) -> tuple[list[str], dict[str, int]]:
    """
    Return every broken promise, and what there was to judge.

    `lost`: the store has lost commits. Then nobody can tell of all decisions; what others see must still be right.
    """
    store = await factory.open_store(evidence.config, owner=False)
    try:
        checks = Checks(evidence, store)
        await checks.all(folder, lost=lost)
        return checks.violations, checks.counts
    finally:
        await store.close()


class Checks:
    """The end of one run."""

    def __init__(self, evidence: Evidence, store: Store) -> None:
        self._evidence = evidence
        self._store = store
        self.violations: list[str] = []
        self.counts: dict[str, int] = {}

    async def all(self, folder: Path, *, lost: bool) -> None:
        rows = {row.key: row for row in await self._store.list_documents(None, "", _EVER)}
        expected = {key: naive.project(facts)[key] for key, facts in self._evidence.facts.items()}
        self._history()
        await self._projection(expected)
        await self._dead_letters()
        for row in rows.values():
            self._settled(row)
            self._agrees(row, expected[row.key])
        self._expect(not await self._store.waiting(1), "something is left in the outbox")
        if lost:
            return
        await self._conflicts(rows)
        self._outcomes_recover(rows)
        await self._rebuilt(rows, folder)
        await self._audit()

    def _expect(self, holds: object, message: str) -> None:
        if not holds:
            self.violations.append(message)

    def _history(self) -> None:
        """No update lost, no write unguarded, stale or without effect."""
        entries = self._evidence.history
        self._expect(not (found := witness.lost_updates(entries, ME)), f"lost updates: {found[:3]}")
        self._expect(not (bad := witness.unguarded(entries)), f"unguarded writes: {bad[:3]}")
        self._expect(not (bad := witness.stale_writes(entries, ME)), f"stale writes: {bad[:3]}")
        idle = [entry for entry in entries if entry.who == ME and not entry.changes]
        self._expect(not idle, f"writes that change nothing: {idle[:3]}")
        self.counts["writes of ours"] = sum(entry.who == ME for entry in entries)
        self.counts["edits of rivals"] = sum(entry.who != ME for entry in entries)

    async def _projection(self, expected: dict[str, naive.Row]) -> None:
        """Every event is reflected or superseded: by a naive fold of the topic."""
        missing = sorted(self._evidence.missing)
        self._expect(not missing, f"events that are not in the topic: {missing[:5]}")
        stored = {key: desired async for key, desired in self._store.export_projection()}
        self._expect(stored.keys() == expected.keys(), f"rows of {sorted(stored)}, not of {sorted(expected)}")
        for key, row in expected.items():
            if key in stored:
                shown = naive.plain(stored[key])
                self._expect(shown == row.plain(), f"{key}: the log says {row.plain()}, the store {shown}")

    async def _rebuilt(self, rows: dict[str, Document], folder: Path) -> None:
        """What `reconciler replay` has made of the topics in an empty store is what the killed ones have left."""
        async with opened(folder / REPLAYED, owner=True) as store:
            self._expect(await projection(store) == await projection(self._store), "rebuilt, the rows are others")
            for key, rebuilt in (await store.documents(rows)).items():
                base, kept = rebuilt.agreement.base, rows[key].agreement.base
                self._expect(plain_base(base) == plain_base(kept), f"{key}: rebuilt, the base is {base}, not {kept}")

    async def _dead_letters(self) -> None:
        """Every unusable record is kept once and was announced with its original bytes; nothing else was."""
        kept = sorted((one.place.partition, one.place.offset) for one in await self._store.dead_letters(None, _EVER))
        poison = self._evidence.poison
        self._expect(kept == sorted(poison), f"dead letters {kept}, not {sorted(poison)}")
        told: dict[tuple[int, int], set[bytes | None]] = defaultdict(set)
        for record in self._evidence.letters:
            headers = dict(record.headers)
            place = int(headers[outcomes.ERRORS + "partition"]), int(headers[outcomes.ERRORS + "offset"])
            told[place].add(record.value)
        wanted = {place: {value} for place, value in poison.items()}
        self._expect(told == wanted, f"announced dead letters {sorted(told)}, not {sorted(wanted)}")
        self.counts["dead letters"] = len(kept)
        self.counts["dead letters announced more than once"] = len(self._evidence.letters) - len(told)

    async def _conflicts(self, rows: dict[str, Document]) -> None:
        """The list of conflicts and the documents agree, and the outcomes tell the same story."""
        listed = {(row.document, row.conflict.id) for row in await self._store.conflicts(limit=_EVER)}
        held = {(row.key, one.id) for row in rows.values() for one in row.agreement.held}
        self._expect(listed == held, f"conflicts listed {listed}, held {held}")
        told: Counter[tuple[str, str]] = Counter()
        for outcome in self._evidence.outcomes:
            pair = (outcome["subject"], outcome["data"].get("conflict"))
            told[pair] += {"windchill.conflict.opened.v1": 1, "windchill.conflict.closed.v1": -1}.get(
                outcome["type"], 0
            )
        self._expect({pair for pair, count in told.items() if count} == held, f"conflicts told {told}, held {held}")
        self.counts["conflicts opened"] = sum(one["type"] == _OPENED for one in self._evidence.outcomes)
        self.counts["conflicts open at the end"] = len(held)

    def _settled(self, row: Document) -> None:
        current, agreement = self._evidence.chains[row.key].versions[-1], row.agreement
        self._expect(row.status in (Status.SYNCED, Status.HELD), f"{row.key}: {row.status}, {row.reason}")
        gone = agreement.intent is None or agreement.intent.token.strip('"') == current.token
        gone |= row.reason == "nothing managed"  # who would look whether the token has moved?
        self._expect(gone, f"{row.key}: settled, and a write is still in doubt: {agreement.intent}")
        self._expect(bool(agreement.held) is (row.status is Status.HELD), f"{row.key}: held or not?")

    def _agrees(self, row: Document, wanted: naive.Row) -> None:
        """Windchill shows what was last agreed; under `external` that is what the log says."""
        live = self._evidence.chains[row.key].versions[-1].fields
        held = {conflict.field for conflict in row.agreement.held}
        policy = self._evidence.config.policy
        for name, agreed in row.agreement.base.fields.items():
            shown = live.get(name)
            told = f"{row.key}: `{name}` is {shown!r}, agreed on {agreed.value!r}"
            self._expect(name in held or _text(name, agreed.value) == _text(name, shown), told)
        for name, claims in wanted.managed().items():
            known = name in row.agreement.base.fields or name in held
            self._expect(known, f"{row.key}: `{name}` was never decided")
            if name in SCALARS and policy.rule(name, None).strategy is Strategy.EXTERNAL and claims.whole:
                self._expect(same(claims.whole.value, live.get(name)), f"{row.key}: `{name}`: {claims.whole}")

    def _outcomes_recover(self, rows: dict[str, Document]) -> None:
        """The outcome log alone gives back every base."""
        check_outcomes(self._evidence.outcomes)
        numbers: Counter[str] = Counter()
        for outcome in self._evidence.outcomes:
            if outcome["type"] == _RECONCILED:
                key, number = outcome["subject"], int(outcome["sequence"])
                self._expect(number > numbers[key], f"{key}: outcome {number} comes after {numbers[key]}")
                numbers[key] = number
        bases = {}
        for record in self._evidence.outcome_records:
            found = outcomes.told(record.value or b"")
            if found is not None:
                bases[found.key] = found.base
        for row in rows.values():
            base, told = row.agreement.base, bases.get(row.key)
            if told is None:
                self._expect(not base.fields and not base.refused, f"{row.key}: no outcome tells of {base}")
            else:
                holds = plain_base(told) == plain_base(base)
                self._expect(holds, f"{row.key}: the outcomes give {told}, the store has {base}")
        self.counts["outcomes"] = len(self._evidence.outcomes)
        self.counts["outcomes published again"] = len(self._evidence.outcome_records) - len(self._evidence.outcomes)

    # ----------------------------------------------------------------------------------------------------------- audit

    async def _audit(self) -> None:
        """Audit, outcomes and history agree one to one, and every decision was right."""
        records = sorted(await check_audit(self._store), key=chain.place)
        by_document: dict[str, list[AuditRecord]] = defaultdict(list)
        for record in records:
            by_document[record.document].append(record)
        told = Counter[str]()
        for key in self._evidence.chains:
            trail = Trail(key, self._evidence, self.violations.append)
            trail.follow(by_document[key])
            self._told(key, trail, by_document[key])
            told["told"] += sum(write.told for write in trail.ours)
            told["unseen"] += sum(not write.told for write in trail.ours)
            told["of others"] += trail.confirmed_of_others
        self.counts["audit records"] = len(records)
        self.counts["writes told of"] = told["told"]
        self.counts["writes found by the next process"] = sum(record.result == "confirmed" for record in records)
        self.counts["writes covered by a rival before anyone looked"] = told["unseen"]
        self.counts["rivals' edits taken for the write in doubt"] = told["of others"]

    def _told(self, key: str, trail: Trail, records: list[AuditRecord]) -> None:
        """Each write of ours is in exactly one outcome, and no outcome tells of a write that was not."""
        reconciled: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for outcome in self._evidence.outcomes:
            if outcome["subject"] == key and outcome["type"] == _RECONCILED:
                reconciled[outcome["time"]].append(outcome["data"])
        for write in trail.ours:
            if write.by is None:
                continue
            found = reconciled[instant.from_us(write.by.at_us)]
            self._expect(len(found) == 1, f"{key}: {len(found)} outcomes tell of write {write.entry.sequence}")
            for data in found:
                if write.by.result == "written":
                    agree = same(data["written"], write.by.patch) and data["token_before"] == f'"{write.entry.before}"'
                    self._expect(agree, f"{key}: an outcome tells otherwise of write {write.entry.sequence}: {data}")
        telling = {instant.from_us(record.at_us) for record in records if record.result in ("written", "confirmed")}
        for at, found in reconciled.items():
            idle = at in telling or not any(data["written"] for data in found)
            self._expect(idle, f"{key}: an outcome tells of a write that the audit does not know, at {at}")


def _text(name: str, value: Any) -> str:
    return canonical(sorted(elements(value)) if name == KEYWORDS else value)
