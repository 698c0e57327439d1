"""Backtest: what another policy would have made of audited decisions."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from reconciler.core.explain.backtest import Backtest, Otherwise, Turn, Unjudged
from reconciler.core.planning import plan as planning
from reconciler.model import codec
from reconciler.model.audit import AuditRecord, Verdict
from reconciler.model.base import Agreed, Base
from reconciler.model.desired import Desired, Element, Field, Register
from reconciler.model.plan import Patch
from reconciler.model.policy import ListMode, Normaliser, Policy, Rule, Strategy
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.stamp import Stamp
from reconciler.model.value import MISSING

S, MODES = Strategy, [s for s in Strategy if s is not Strategy.IGNORE]


def stamp(second: int, source: str = "//erp/prod") -> Stamp:
    return Stamp("", f"2026-11-22T10:00:{second:02}.000000Z", "", "changes", 0, second, source, f"e{second}")


def policy(*rules: Rule) -> Policy:
    return Policy(tuple(attrs.evolve(rule, name=f"policy[{n}]") for n, rule in enumerate(rules, 1)))


EXTERNAL, PRESERVE = policy(Rule(("*",), S.EXTERNAL)), policy(Rule(("*",), S.PRESERVE))
BOTH_MOVED = {"owner": ("jdoe", "bmuller", 1)}


def decided(under: Policy, fields: dict[str, tuple], body: dict | None = None, desired: dict | None = None):
    """A record of `fields`: live, agreed value, the second it was agreed at. Each should be "akim" by now."""
    wanted = {name: Field(Register(stamp(5), "akim")) for name in fields} | (desired or {})
    base = Base({name: Agreed(agreed, stamp(second)) for name, (_, agreed, second) in fields.items()})
    shown = {name: live for name, (live, _, _) in fields.items()} | (body or {})
    snapshot = Snapshot("d", shown, Token('"3"'), "2026-11-22T10:00:03.500000Z", "jdoe")
    return record_of(under, Desired(wanted), base, snapshot)


def record_of(under: Policy, desired: Desired, base: Base, snapshot: Snapshot) -> AuditRecord:
    plan = planning.draft(desired, base, snapshot, under)
    verdicts = tuple(
        Verdict(
            d.field, d.verb, d.reasons, d.rule, d.strategy, d.desired, None, False, None, d.stamp.id, d.stamp.source
        )
        for d in plan.decisions
    )
    shown = {name: value for name, value in snapshot.body.items() if name in {d.field for d in plan.decisions}}
    kept = structs.replace(snapshot, body=shown)  # as it is recorded: nothing but the decided fields
    patch = dict(plan.fields) if isinstance(plan, Patch) else None
    digest = codec.policy_digest(under)
    return AuditRecord("d", 7, "event", 1, desired, base, kept, digest, verdicts, patch, "written", "", None, None)


def judged(record: AuditRecord, then: Policy, now: Policy) -> list[Otherwise]:
    test = Backtest(now, {codec.policy_digest(then): codec.encode(then)})
    found = test.judge(4, codec.encode_record(record))
    assert not isinstance(found, Unjudged), found
    return found


def test_a_field_that_would_be_decided_otherwise_is_told_with_both_rulings() -> None:
    (found,) = judged(decided(PRESERVE, BOTH_MOVED), PRESERVE, EXTERNAL)
    assert (found.record, found.document, found.field, found.at_us) == (4, "d", "owner", 7)
    assert (found.was.verb, found.was.rule, found.was.strategy) == ("yield", "policy[1]", "preserve")
    assert (found.would.verb, found.would.strategy, found.would.writes) == ("write", "external", "akim")
    assert (found.desired, found.live, found.event, found.source) == ("akim", "jdoe", "e5", "//erp/prod")


def test_the_same_policy_decides_nothing_otherwise_whatever_its_rules_are_called() -> None:
    renamed = Policy((Rule(("own*",), S.PRESERVE, name="owners"), Rule(("*",), S.EXTERNAL, name="rest")))
    assert judged(decided(PRESERVE, BOTH_MOVED), PRESERVE, renamed) == []


@given(st.sampled_from(MODES), st.sampled_from(MODES), st.booleans(), st.booleans())
def test_what_is_told_is_what_a_draft_under_the_other_policy_gives(old, new, ours, theirs) -> None:
    then, now = policy(Rule(("*",), old)), policy(Rule(("*",), new))
    record = decided(then, {"owner": ("jdoe" if theirs else "bmuller", "bmuller", 1 if ours else 5)})
    (drafted,) = planning.draft(record.desired, record.base, record.snapshot, now).decisions
    found = judged(record, then, now)
    assert [one.would.verb for one in found] == [drafted.verb for _ in found]
    assert bool(found) is (drafted.verb != record.decisions[0].verb)


def test_another_value_to_write_is_a_difference_too() -> None:
    trimming = policy(Rule(("*",), S.EXTERNAL, normalise=(Normaliser.TRIM,)))
    record = decided(EXTERNAL, {}, {"owner": "jdoe"}, {"owner": Field(Register(stamp(5), " akim "))})
    (found,) = judged(record, EXTERNAL, trimming)
    assert (found.was.verb, found.was.writes, found.would.verb, found.would.writes) == (
        "write",
        " akim ",
        "write",
        "akim",
    )


def test_elements_that_would_be_held_are_a_difference_although_others_are_written() -> None:
    claims = {f'"{word}"': Element(stamp(second), True) for word, second in (("a", 5), ("b", 2))}
    desired = Desired({"tags": Field(None, claims)})
    base = Base({"tags": Agreed(["b"], stamp(2), {'"b"': stamp(2)})})
    snapshot = Snapshot("d", {"tags": []}, Token('"3"'), "2026-11-22T10:00:03.500000Z")
    then = policy(Rule(("*",), S.MERGE, list=ListMode.SET))
    now = policy(Rule(("*",), S.HOLD, list=ListMode.SET))
    (found,) = judged(record_of(then, desired, base, snapshot), then, now)
    assert (found.was.verb, found.was.holds) == ("write", ())
    assert (found.would.verb, found.would.holds) == ("write", ('"b"',))


def test_a_field_that_would_be_ignored_was_decided_otherwise() -> None:
    now = policy(Rule(("own*",), S.IGNORE), Rule(("*",), S.EXTERNAL))
    (found,) = judged(decided(EXTERNAL, BOTH_MOVED), EXTERNAL, now)
    assert (found.was.verb, found.would.verb, found.would.rule) == ("write", "ignore", "policy[1]")


def test_the_decision_on_a_field_that_was_ignored_is_unknown() -> None:
    """Its value in Windchill is not recorded: deciding on "there is none" would say "write" whatever stood there."""
    then = policy(Rule(("own*",), S.IGNORE), Rule(("*",), S.EXTERNAL))
    record = decided(then, BOTH_MOVED | {"status": ("INWORK", "INWORK", 1)})
    (found,) = judged(record, then, EXTERNAL)
    assert (found.field, found.was.verb, found.would.verb) == ("owner", "ignore", "unknown")
    assert found.live is MISSING


def test_a_claim_of_a_source_that_may_no_longer_set_the_field_would_be_a_dead_letter() -> None:
    now = policy(Rule(("owner",), S.EXTERNAL, sources=("//mes/*",)), Rule(("*",), S.EXTERNAL))
    (found,) = judged(decided(EXTERNAL, BOTH_MOVED), EXTERNAL, now)
    assert (found.would.verb, found.would.rule) == ("refuse", "policy[1]")
    assert judged(decided(now, BOTH_MOVED), now, now) == []  # it was so then already


def test_with_one_field_all_others_of_its_event_would_be_lost() -> None:
    now = policy(Rule(("status",), S.EXTERNAL, sources=("//mes/*",)), Rule(("*",), S.EXTERNAL))
    title = Field(Register(stamp(4), "x"))
    record = decided(EXTERNAL, BOTH_MOVED | {"status": ("INWORK", "INWORK", 1)}, {"title": "x"}, {"title": title})
    found = judged(record, EXTERNAL, now)
    assert [(one.field, one.would.verb, one.would.rule) for one in found] == [
        ("owner", "refuse", "policy[1]"),
        ("status", "refuse", "policy[1]"),
    ]
    assert "//erp/prod may not set status" in found[0].would.reason


def test_an_older_claim_that_would_be_lost_is_told_beside_a_newer_one_that_would_not() -> None:
    rule = Rule(("tags",), S.EXTERNAL, list=ListMode.SET, sources=("//mes/*",))
    added = {'"bolt"': Element(stamp(6, "//mes/1"), present=True)}
    tags = Field(Register(stamp(5), ["nut"]), added)
    then = policy(attrs.evolve(rule, sources=()), Rule(("*",), S.EXTERNAL))
    record = decided(then, {}, {"tags": []}, {"tags": tags})
    (found,) = judged(record, then, policy(rule, Rule(("*",), S.EXTERNAL)))
    assert (found.would.verb, found.event, found.source) == ("refuse", "e5", "//erp/prod")


def test_differences_are_counted_by_rule_and_verb() -> None:
    test = Backtest(EXTERNAL, {codec.policy_digest(PRESERVE): codec.encode(PRESERVE)})
    for _ in range(3):
        test.judge(1, codec.encode_record(decided(PRESERVE, BOTH_MOVED | {"title": ("x", "y", 1)})))
    test.judge(1, codec.encode_record(decided(PRESERVE, {"owner": ("bmuller", "bmuller", 1)})))
    assert (test.judged, test.differing) == (4, 3)
    assert test.turns == {Turn("yield", "policy[1]", "write", "policy[1]"): 6}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"patch": {"owner": "someone"}}, "another patch"),
        ({"decisions": ()}, "other decisions"),
        ({"policy": "gone"}, "policy gone is missing"),
    ],
)
def test_a_record_that_its_own_policy_does_not_give_is_not_judged(changed, reason) -> None:
    record = structs.replace(decided(PRESERVE, BOTH_MOVED), **changed)
    test = Backtest(EXTERNAL, {codec.policy_digest(PRESERVE): codec.encode(PRESERVE)})
    found = test.judge(4, codec.encode_record(record))
    assert isinstance(found, Unjudged)
    assert reason in found.reason
    assert (test.judged, test.unjudged, test.turns) == (0, 1, {})


@pytest.mark.parametrize("text", [b"", b"{}", b"\xff", b'{"document":1}'])
def test_what_is_no_record_is_counted_and_told(text: bytes) -> None:
    test = Backtest(EXTERNAL, {})
    assert isinstance(test.judge(4, text), Unjudged)
    assert test.unjudged == 1
