"""What must hold after any test that makes decisions, whatever the test was about."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types

from reconciler.core import plan as planning
from reconciler.model.plan import Patch
from reconciler.model.value import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reconciler.model.audit import AuditRecord
    from reconciler.ports import Store

_SCHEMAS = Path(__file__).parent.parent / "schemas"


async def check_audit(store: Store) -> list[AuditRecord]:
    """Law 6: each audit record holds every input of its decision, so recomputing it gives the same patch."""
    records = await store.audit(limit=1_000_000)
    for record in records:
        policy = await store.policy(record.policy)
        assert policy is not None, f"the policy {record.policy} that decided {record.document} is not kept"
        plan = planning.draft(record.desired, record.base, record.snapshot, policy)
        patch = dict(plan.fields) if isinstance(plan, Patch) else None
        assert canonical(patch) == canonical(record.patch), f"another patch when recomputed: {record}"
        verbs = {decision.field: decision.verb.value for decision in plan.decisions}
        assert verbs == {verdict.field: verdict.verb for verdict in record.decisions}, f"other decisions: {record}"
    return records


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    schema = json.loads((_SCHEMAS / "outcome.schema.json").read_text())
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def check_outcomes(outcomes: Iterable[dict[str, Any]]) -> None:
    """Every outcome keeps the published contract."""
    for outcome in outcomes:
        mistakes = [error.message for error in _validator().iter_errors(outcome)]
        assert not mistakes, f"{mistakes} in {json.dumps(outcome, indent=1)}"
