"""What must hold after any test that makes decisions, whatever the test was about."""

import functools
import hashlib
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import jsonschema  # type: ignore[import-untyped]  # it ships no types

from reconciler.adapters import sqlite
from reconciler.core.planning import plan as planning
from reconciler.model import codec
from reconciler.model.audit import AuditRecord
from reconciler.model.chain import CHECKPOINTS
from reconciler.model.plan import Patch
from reconciler.model.value import canonical
from reconciler.ports import Store

T = TypeVar("T")
_SCHEMAS = Path(__file__).parent.parent / "schemas"


def expect(kind: type[T], found: object) -> T:
    """This is of that kind; return it as such."""
    assert isinstance(found, kind), found
    return found


@asynccontextmanager
async def opened(path: Path, *, owner: bool = False) -> AsyncIterator[sqlite.SqliteStore]:
    """A store in a file, closed when the block ends."""
    store = await sqlite.open_store(path, owner=owner)
    try:
        yield store
    finally:
        await store.close()


async def projection(store: Store) -> bytes:
    """The canonical bytes of everything folded."""
    return b"\n".join([codec.encode([key, desired]) async for key, desired in store.export_projection()])


async def check_audit(store: Store) -> list[AuditRecord]:
    """Law 6: each audit record holds every input of its decision, so recomputing it gives the same patch."""
    records = await store.audit(limit=1_000_000)
    await check_chain(store, {record.id for record in records})
    policies = codec.readable_policies(await store.policy_texts())
    for record in records:
        assert record.policy in policies, f"the policy {record.policy} that decided {record.document} is not kept"
        plan = planning.draft(record.desired, record.base, record.snapshot, policies[record.policy])
        patch = dict(plan.fields) if isinstance(plan, Patch) else None
        assert canonical(patch) == canonical(record.patch), f"another patch when recomputed: {record}"
        verbs = {decision.field: decision.verb.value for decision in plan.decisions}
        assert verbs == {verdict.field: verdict.verb for verdict in record.decisions}, f"other decisions: {record}"
    return records


async def check_chain(store: Store, decided: set[int]) -> None:
    """The trail is chains of decisions and actions, from genesis to head, reckoned from their description alone."""
    actions = {action.id: action for action in await store.actions(limit=1_000_000)}
    cuts = {cut.chain: cut.end for cut in await store.cuts()}
    heads = {chain: (end.number, end.link) for chain, end in cuts.items()}
    async for entry in store.audit_chain():
        chain = entry.number // 10**12
        if chain in cuts and entry.number <= cuts[chain].number:
            continue
        before, link = heads.get(chain, (chain * 10**12, bytes(32)))
        number = before + 1
        assert entry.number == number, f"audit record {entry.number} stands where {number} should"
        text = b"windchill-reconciler/audit/2\n" + link + number.to_bytes(8, "big") + entry.record
        link = hashlib.sha256(text).digest()
        assert entry.link == link, f"the link of audit record {number} is not that of what came before"
        heads[chain] = number, link
        ((kind, record),) = json.loads(entry.record).items()
        if kind == "checkpoint":
            continue
        said = ["target", "who", "kind"] if kind == "act" else []
        columns = (record["document"], record["at_us"], *(map(record.get, said) if said else [None] * 3))
        assert entry.columns == columns, f"audit record {number} is misfiled"
        assert (number in actions, number in decided) == (kind == "act", kind == "decision"), f"{number} is no {kind}"
    archived = sum(end.records for chain, end in cuts.items() if chain != CHECKPOINTS)
    count = sum(number % 10**12 for chain, (number, _) in heads.items() if chain != CHECKPOINTS) - archived
    assert count == len(actions) + len(decided), f"{len(actions)} acts, decisions {decided}, {count} in the chain"
    assert [head for head in await store.audit_heads() if head.number % 10**12] == sorted(heads.values())


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    schema = json.loads((_SCHEMAS / "outcome.schema.json").read_text())
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def check_outcomes(outcomes: Iterable[dict[str, Any]]) -> None:
    """Every outcome keeps the published contract."""
    for outcome in outcomes:
        mistakes = [error.message for error in _validator().iter_errors(outcome)]
        assert not mistakes, f"{mistakes} in {json.dumps(outcome, indent=1)}"
