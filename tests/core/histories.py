"""Invented histories: a document, its users and a reconciler, played through the real plan and settlements."""

from __future__ import annotations

from typing import Any

import attrs
from msgspec import structs

from reconciler.core.folding import fold
from reconciler.core.planning import plan as planning
from reconciler.core.settling import settle
from reconciler.core.settling.cases import Case
from reconciler.model import codec, instant
from reconciler.model.answer import Locked, Refused, Throttled, VersionConflict
from reconciler.model.audit import AuditRecord, Settlement
from reconciler.model.desired import NOTHING_DESIRED
from reconciler.model.document import Conflict, Document, Intent, Lane
from reconciler.model.event import Event
from reconciler.model.plan import InSync, Patch, Plan
from reconciler.model.policy import Policy, Rule
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.stamp import Stamp
from reconciler.model.value import canonical
from tests import defaults

START_US = instant.to_us("2026-11-22T10:00:00.000000Z")
MINUTE_US = 60_000_000
DOC = "0000012345"


class History:
    """Each step takes a minute. `live` is what Windchill has; every edit and write gives it another token."""

    def __init__(self, *rules: Rule, **live: Any) -> None:
        named = tuple(attrs.evolve(rule, name=f"policy[{number}]") for number, rule in enumerate(rules, 1))
        self.policy = Policy(named)
        self.policies = {codec.policy_digest(self.policy): self.policy}
        self.live = dict(live)
        self.version = 1
        self.modified: tuple[int, str] = (START_US - 60 * MINUTE_US, "bmuller")
        self.minute = 0
        self.document = Document(DOC)
        self.records: list[AuditRecord] = []
        self.opened: list[Conflict] = []
        self.later_portions: tuple[tuple[str, ...], ...] = ()

    @property
    def now_us(self) -> int:
        return START_US + self.minute * MINUTE_US

    def snapshot(self) -> Snapshot:
        at_us, by = self.modified
        token = Token(f'"{self.version}"')
        return Snapshot(DOC, dict(self.live), token, instant.from_us(at_us), by, later_portions=self.later_portions)

    def event(self, source: str = "//erp/prod", actor: str = "", reason: str = "", **said: Any) -> History:
        """An event comes: `set`, `expect`, `release`, `add`, `remove`, `released`."""
        self.minute += 1
        number = self.document.revision + 1
        stamp = Stamp("", instant.from_us(self.now_us), "", "changes", 0, number, source, f"e{number}")
        elements: dict[str, dict[str, bool]] = {}
        for kind, present in (("add", True), ("remove", False)):
            for name, listed in said.pop(kind, {}).items():
                elements.setdefault(name, {}).update({canonical(one): present for one in listed})
        said["release"] = tuple(said.get("release", ()))
        event = Event.of(DOC, stamp, actor=actor, reason=reason, elements=elements, **said)
        desired = fold.join(self.document.desired or NOTHING_DESIRED, fold.lift(event))
        self.document = structs.replace(self.document, desired=desired, revision=number)
        return self

    def edit(self, user: str, **fields: Any) -> History:
        """A user changes the document."""
        self.minute += 1
        self.live |= fields
        self.version += 1
        self.modified = self.now_us, user
        return self

    def attempt(self, answer: object = None, lane: Lane = Lane.EVENT, **more: Any) -> History:
        """The reconciler reads, decides, and is answered: `None` is yes, a text is what failed."""
        self.minute += 1
        snapshot = self.snapshot()
        plan = planning.draft(self.document.desired, self.document.agreement.base, snapshot, self.policy)
        options = defaults.attempt_options(
            policy=self.policy, policy_digest=codec.policy_digest(self.policy), pace=defaults.pace()
        )
        case = Case(self.document, lane, options, self.now_us, 0.5, snapshot, plan, **more)
        ended = self._ended(case, plan, answer)
        for record in ended.audit:
            kept = codec.decode_record(codec.encode_record(record))  # as it is read from a store
            self.records.append(structs.replace(kept, id=len(self.records) + 1))
        self.opened += ended.opened
        self.document = structs.replace(
            self.document, agreement=ended.agreement, status=ended.status, reason=ended.reason
        )
        return self

    def _ended(self, case: Case, plan: Plan, answer: object) -> Settlement:
        snapshot = case.snapshot
        assert snapshot is not None
        if not isinstance(plan, Patch):
            return settle.agreed(case, snapshot, "in_sync" if isinstance(plan, InSync) else "held")
        match answer:
            case VersionConflict():
                return settle.version_conflict(case, answer)
            case Refused():
                return settle.refused(case, answer)
            case Locked():
                return settle.locked(case, answer)
            case Throttled():
                return settle.throttled(case, answer)
            case "lost":
                self._written(plan)
                settled = planning.agreed_if_written(plan, snapshot, self.policy)
                assert snapshot.token is not None
                return settle.unknown(case, Intent(plan.fields, snapshot.token, self.now_us, settled), "timed out")
            case str():
                return settle.failed(case, answer)
            case _:
                self._written(plan)
                return settle.agreed(case, self.snapshot(), "written")

    def _written(self, plan: Patch) -> None:
        self.live |= plan.fields
        self.version += 1
        self.modified = self.now_us, "integration"

    def confirm(self) -> History:
        """A read finds that the write whose answer was lost was applied."""
        agreement = self.document.agreement
        intent = agreement.intent
        assert intent is not None
        base = structs.replace(agreement.base, fields={**agreement.base.fields, **intent.agreed})
        self.document = structs.replace(self.document, agreement=structs.replace(agreement, base=base, intent=None))
        return self.attempt(lane=Lane.RETRY, confirmed=intent.fields)
