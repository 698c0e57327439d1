"""What the step from one policy to another changes."""

from reconciler.core.explain import policies
from reconciler.model.desired import Desired, Field, Register
from reconciler.model.document import Agreement, Document
from reconciler.model.policy import ListMode, Policy, Rule, Strategy
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.stamp import Stamp

STAMP = Stamp("", "2026-11-22T10:00:00.000000Z", "", "t", 0, 0, "//erp", "e1")
STATUS, OWNER = Rule(("status",), Strategy.HOLD), Rule(("owner",), Strategy.PRESERVE)


def document(*fields: str, managed: bool = True, of_type: str | None = None) -> Document:
    desired = Desired({name: Field(Register(STAMP, "x", managed)) for name in fields})
    snapshot = None if of_type is None else Snapshot("d", {}, Token("t"), type=of_type)
    return Document("d", desired, agreement=Agreement(snapshot=snapshot))


def test_rules_that_came_went_and_changed_are_told_by_what_they_cover() -> None:
    old = Policy((STATUS, OWNER))
    new = Policy((Rule(("title", "Name"), Strategy.FILL, types=("Part",)), Rule(("status",), Strategy.EXTERNAL)))
    assert policies.difference(old, new) == policies.Difference(
        added=("title, Name of Part: fill",),
        removed=("owner: preserve",),
        changed=("status: strategy hold → external",),
        reordered=False,
    )


def test_a_rules_number_is_no_difference_but_the_order_is() -> None:
    named = [Rule(("status",), Strategy.HOLD, name="policy[7]"), OWNER]
    nothing = policies.Difference((), (), (), reordered=False)
    assert policies.difference(Policy((STATUS, OWNER)), Policy(tuple(named))) == nothing
    assert policies.difference(Policy((STATUS, OWNER)), Policy((OWNER, STATUS))).reordered


def test_sources_are_told_and_concern_no_decision() -> None:
    old, new = Policy((STATUS,)), Policy((Rule(("status",), Strategy.HOLD, sources=("//erp/*", "//mes/*")),))
    assert policies.difference(old, new).changed == ("status: sources none → //erp/*+//mes/*",)
    assert not policies.Comparison([old], new).concerns(document("status"))


def test_a_document_is_concerned_by_its_managed_fields_under_its_type() -> None:
    new = Policy(
        (Rule(("status",), Strategy.EXTERNAL), Rule(("k",), Strategy.MERGE, list=ListMode.SET, types=("Part",)))
    )
    compared = policies.Comparison([Policy((STATUS,))], new)
    assert compared.concerns(document("status", "owner"))
    assert not compared.concerns(document("owner"))
    assert not compared.concerns(document("status", managed=False))
    assert not compared.concerns(document("k"))
    assert compared.concerns(document("k", of_type="Part"))


def test_every_policy_that_may_have_decided_counts() -> None:
    first, second = Policy((STATUS,)), Policy((Rule(("status",), Strategy.EXTERNAL),))
    assert not policies.Comparison([first], first).concerns(document("status"))
    assert policies.Comparison([first, second], first).concerns(document("status"))
