"""
Golden cases: a folder each with the events, the base, the live document and the policy, and what is to come of them.

Each folder reads as a story without any code. In `base.json` an event is named by its `id`: "agreed" says up to which
event both sides had agreed, `null` that nothing was settled yet. A case that has no `base.json` is a first sight.
"""

import json
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from reconciler import config
from reconciler.core.events import decode
from reconciler.core.folding import fold
from reconciler.core.planning import plan
from reconciler.model import codec
from reconciler.model.base import NO_BASE, Agreed, Base, RefusedField, Wrote
from reconciler.model.desired import NOTHING_DESIRED
from reconciler.model.event import Event, PlainRecord, Refusal
from reconciler.model.plan import Decision, Held, InSync, Patch
from reconciler.model.policy import Policy
from reconciler.model.snapshot import Snapshot
from reconciler.model.stamp import Stamp
from reconciler.model.value import canonical

CASES = sorted(path.parent for path in Path(__file__).parent.glob("*/expected.json"))
NAMES = {InSync: "in_sync", Held: "held", Patch: "patch"}


@pytest.fixture(params=CASES, ids=lambda folder: folder.name)
def case(request) -> Path:
    return request.param


def test_a_case_comes_out_as_it_is_written(case):
    policy = config.load(case / "policy.toml", {}).policy
    events, refusals = read_events(case, policy)
    snapshot = read_live(case)
    drafted = plan.draft(fold.steps(NOTHING_DESIRED, events), read_base(case, events), snapshot, policy)
    outcome = {
        "plan": NAMES[type(drafted)],
        "decisions": {decision.field: shown(decision) for decision in drafted.decisions},
        "patch": drafted.fields if isinstance(drafted, Patch) else None,
        "dead_letters": [refusal.reason for refusal in refusals],
    }
    assert canonical(outcome) == canonical(read_expected(case)), json.dumps(outcome, indent=2)


def test_the_order_of_the_lines_does_not_matter(case):
    policy = config.load(case / "policy.toml", {}).policy
    events, _ = read_events(case, policy)
    assert fold.steps(NOTHING_DESIRED, events[::-1] + events) == fold.steps(NOTHING_DESIRED, events)


def test_after_the_patch_there_is_nothing_left_to_write(case):
    policy = config.load(case / "policy.toml", {}).policy
    events, _ = read_events(case, policy)
    desired, before = fold.steps(NOTHING_DESIRED, events), read_live(case)
    drafted = plan.draft(desired, read_base(case, events), before, policy)
    after = before.with_fields(drafted.fields, before.token) if isinstance(drafted, Patch) else before
    again = plan.draft(desired, plan.agree(drafted, before, after, policy), after, policy)
    assert not isinstance(again, Patch)


def test_there_is_a_case_for_every_part_of_the_table():
    assert len(CASES) >= 20


def shown(decision: Decision) -> dict[str, object]:
    held = {"held_elements": [json.loads(text) for text in decision.held_elements]} if decision.held_elements else {}
    reason = "; ".join(", ".join(msgspec.to_builtins(one).values()) for one in decision.reasons)
    return {"verb": decision.verb, "reason": reason, **held}


def read_events(case: Path, policy: Policy) -> tuple[list[Event], list[Refusal]]:
    options = decode.Options(archived=True, policy=policy)
    records = [
        PlainRecord(file.name, 0, number, 0, None, line)
        for file in sorted(case.glob("events.jsonl*"))  # what operators decide stands in a file of its own
        for number, line in enumerate(file.read_bytes().splitlines())
    ]
    outcomes = [decode.record(record, options) for record in records]
    return [one for one in outcomes if isinstance(one, Event)], [one for one in outcomes if isinstance(one, Refusal)]


def read_base(case: Path, events: list[Event]) -> Base:
    if not (case / "base.json").exists():
        return NO_BASE
    stored = json.loads((case / "base.json").read_text())
    stamps: dict[str | None, Stamp | None] = {event.stamp.id: event.stamp for event in events}
    stamps[None] = None
    fields = {name: agreed(stamps=stamps, **one) for name, one in stored["fields"].items()}
    refused = {
        # Its time has not come; what is contested is known by its digest.
        name: RefusedField(stamps[one.pop("event")], wanted=codec.digest(one.pop("wanted", None)), due_us=1, **one)
        for name, one in stored.get("refused", {}).items()
    }
    return Base(fields, refused, Wrote(**stored["wrote"]) if "wrote" in stored else None)


def agreed(value, agreed, stamps, elements=()) -> Agreed:
    """`elements` pairs each managed element with the event that was settled for it."""
    return Agreed(value, stamps[agreed], {canonical(element): stamps[event] for element, event in elements})


def read_live(case: Path) -> Snapshot:
    stored = json.loads((case / "live.json").read_text())
    stored["unreadable"] = frozenset(stored.get("unreadable", ()))
    assert stored.keys() <= {field.name for field in structs.fields(Snapshot)}
    return Snapshot("0000012345", **stored)


def read_expected(case: Path) -> dict[str, object]:
    return {"patch": None, "dead_letters": [], **json.loads((case / "expected.json").read_text())}
