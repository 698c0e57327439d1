"""Lost writes: what our own account modified last is ours where that is sure, and a person's edit where it is not."""

import pytest
from msgspec import structs

from reconciler.core.folding import fold
from reconciler.core.planning import lost, plan
from reconciler.model.base import NO_BASE, Base
from reconciler.model.desired import NOTHING_DESIRED, Desired
from reconciler.model.plan import Patch, Verb
from reconciler.model.policy import Policy, Rule, Strategy
from reconciler.model.snapshot import Snapshot, Token
from tests.core.test_plan import LATE, applied, event, reading

ME = "integration"


def agreed(policy: Policy, **fields: str) -> tuple[Desired, Base, Snapshot]:
    """A document on whose fields both sides agree, by a write of ours."""
    desired, live = fold.step(NOTHING_DESIRED, event(1, set=fields)), reading(**dict.fromkeys(fields, "before"))
    adopting = Policy((Rule(("*",), Strategy.EXTERNAL),))
    after, base = applied(plan.draft(desired, NO_BASE, live, adopting), live, adopting)
    return desired, base, structs.replace(after, modified_by=ME)


def shown(snapshot: Snapshot, by: str = ME, **fields: str) -> Snapshot:
    return structs.replace(snapshot.with_fields(dict(fields), Token('"later"')), modified_by=by, modified_at=LATE)


def policy_of(strategy: Strategy) -> Policy:
    return Policy((Rule(("*",), strategy),))


@pytest.mark.parametrize("strategy", [Strategy.PRESERVE, Strategy.MERGE, Strategy.NEWEST, Strategy.HOLD])
def test_a_newer_claim_replaces_a_write_that_was_lost(strategy: Strategy) -> None:
    policy = policy_of(strategy)
    desired, base, before = agreed(policy, owner="akim")
    desired = fold.step(desired, event(9, set={"owner": "mrossi"}))
    read = shown(before, owner="lchen")  # of an event in between
    assert lost.by_our_account(base, before, read, "")
    assert not isinstance(plan.draft(desired, base, read, policy), Patch)
    drafted = plan.draft(desired, lost.taken_for_ours(desired, base, read, policy), read, policy)
    assert isinstance(drafted, Patch)
    assert drafted.fields == {"owner": "mrossi"}


@pytest.mark.parametrize(
    "moved",
    [
        {"owner": "lchen", "title": "a person's"},  # no claim asks for another title: whose is the owner?
        {"owner": "lchen", "status": "RELEASED"},  # the status is surely ours, so the owner may be a person's
    ],
)
def test_a_value_stays_a_persons_if_our_write_may_have_been_of_another_field(moved: dict[str, str]) -> None:
    policy = policy_of(Strategy.PRESERVE)
    desired, base, before = agreed(policy, owner="akim", title="Cover", status="INWORK")
    desired = fold.step(desired, event(9, set={"owner": "mrossi", "status": "RELEASED"}))
    read = shown(before, **moved)
    assert lost.taken_for_ours(desired, base, read, policy) == base
    (owner,) = [one for one in plan.draft(desired, base, read, policy).decisions if one.field == "owner"]
    assert owner.verb is Verb.YIELD


def test_a_field_without_a_base_is_adopted_as_ever() -> None:
    policy = policy_of(Strategy.PRESERVE)
    desired, base, before = agreed(policy, owner="akim")
    desired = fold.step(desired, event(9, set={"title": "Cover"}))
    assert lost.taken_for_ours(desired, base, shown(before, title="a person's"), policy) == base


def test_whose_a_document_is_follows_from_the_account_and_the_token() -> None:
    _, base, before = agreed(policy_of(Strategy.PRESERVE), owner="akim")
    later = shown(before, owner="lchen")
    assert lost.by_our_account(base, before, later, "")
    assert lost.by_our_account(base, None, later, "Integration")
    assert not lost.by_our_account(base, None, later, ""), "nothing tells our name"
    assert not lost.by_our_account(base, None, before, ME), "it is the write that the base knows"
    assert not lost.by_our_account(base, before, shown(before, "jdoe", owner="lchen"), ME)
    assert not lost.by_our_account(NO_BASE, structs.replace(later, modified_by="jdoe"), later, ME), "nothing has moved"
    edited = structs.replace(before, token=Token('"edited"'), modified_by="jdoe")
    assert not lost.by_our_account(base, edited, shown(before, "jdoe", owner="lchen"), "")
