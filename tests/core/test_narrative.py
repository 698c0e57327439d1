"""
Stories: the narrative of invented histories, word for word.

Each file under `stories/` is the narrative of one history. The test writes a missing one, and fails that once.
"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from reconciler.core.explain import narrative, phrases
from reconciler.core.explain.backtest import Backtest
from reconciler.core.explain.narrative import Story
from reconciler.model import codec
from reconciler.model.action import ActionKind, OperatorAction
from reconciler.model.answer import Locked, Refused, Throttled, VersionConflict
from reconciler.model.document import Lane, Status
from reconciler.model.plan import Reason, ReasonCode
from reconciler.model.policy import Adopt, ListMode, Rule, Strategy
from tests.core.histories import DOC, MINUTE_US, History

S = Strategy
STORIES = Path(__file__).parent / "stories"
CLASH = VersionConflict(412, "Precondition Failed")
STRATEGIES = [s for s in S if s is not S.IGNORE]


def told(history: History, only: str | None = None, **more) -> Story:
    now_us = history.now_us + 90 * MINUTE_US
    return narrative.tell(DOC, history.records, history.policies, now_us, only=only, **more)


def text_of(found: Story) -> str:
    lines = ["Now"]
    for sentence in found.now:
        lines += [f"- {sentence.text}", *(f"    {kind} {value}" for kind, value in sentence.references)]
    for chapter in found.chapters:
        lines += ["", chapter.title]
        for sentence in chapter.sentences:
            lines += [f"- {sentence.text}", *(f"    {kind} {value}" for kind, value in sentence.references)]
    return "\n".join(lines) + "\n"


def moved(strategy: Strategy, *, ours: bool, theirs: bool, **rule) -> History:
    """A field that both sides had agreed on, and then the moves."""
    history = History(Rule(("*",), strategy, **rule), owner="akim")
    history.event(set={"owner": "akim"}).attempt()
    if theirs:
        history.edit("jdoe", owner="jdoe")
    if ours:
        history.event(set={"owner": "sgarcia"}, actor="wf-7", reason="ECN-2231 approved")
    return history.attempt()


def one_rule(strategy: Strategy = S.MERGE, **rule) -> Rule:
    return Rule(("*",), strategy, **rule)


def adopted(strategy: Strategy, **rule) -> History:
    history = History(one_rule(strategy, **rule), owner="bmuller")
    return history.event(set={"owner": "akim"}).edit("jdoe", owner="jdoe").attempt()


def tags(strategy: Strategy = S.MERGE) -> History:
    history = History(one_rule(strategy, list=ListMode.SET), tags=["bolt"])
    return history.event(add={"tags": ["bracket"]}, remove={"tags": ["draft"]}).attempt()


def held_and_resolved() -> History:
    history = moved(S.MERGE, ours=True, theirs=True)
    decision = {"set": {"owner": "jdoe"}, "expect": {"owner": "jdoe"}}
    return history.event("//reconciler/operators", "mlee", "asked jdoe", **decision).attempt(lane=Lane.OPERATOR)


def clashes() -> History:
    history = History(one_rule(S.EXTERNAL), status="INWORK", title="x")
    history.event(set={"status": "RELEASED"})
    for user in ("jdoe", "bmuller"):
        history.attempt(CLASH).edit(user, title=user)
    return history.attempt(CLASH).attempt(lane=Lane.RETRY)


def refused() -> History:
    history = History(one_rule(), status="INWORK", title="x")
    history.event(set={"status": "RELAESED", "title": "y"})
    history.attempt(Refused(422, "RELAESED is not a status", ("status",)))
    return history.attempt(lane=Lane.RETRY)


def lost_and_confirmed() -> History:
    history = History(one_rule(), status="INWORK").event(set={"status": "RELEASED"}).attempt("lost")
    return history.confirm()


def in_portions() -> History:
    history = History(one_rule(), status="INWORK", title="x")
    history.later_portions = (("status",),)
    return history.event(set={"status": "RELEASED", "title": "y"}).attempt().attempt(lane=Lane.RETRY)


def obstacles() -> History:
    history = History(one_rule(), status="INWORK", title="x").event(set={"status": "RELEASED"})
    history.attempt(Locked(423, "checked out by jdoe", "jdoe")).attempt(Throttled(503, "busy"), Lane.RETRY)
    for _ in range(3):
        history.attempt("connection refused", Lane.RETRY)
    return history.attempt(lane=Lane.RETRY)


def released_field() -> History:
    history = moved(S.EXTERNAL, ours=True, theirs=False).event(set={"title": "y"}).attempt()
    return history.event(release=["owner"], reason="HR owns it now").attempt()


def edit_war() -> History:
    history = moved(S.EXTERNAL, ours=False, theirs=True)
    for _ in range(3):
        history.edit("jdoe", owner="jdoe").attempt(lane=Lane.RESYNC)
    return history


def everything_odd() -> History:
    history = History(one_rule(), owner="\x1b[31mred")
    evil = {"source": "//erp/\u202eprod", "actor": "a\nb", "reason": "<script>\u2066" + "x" * 500}
    return history.event(**evil, set={"owner": "\u202e" + "long " * 50}).attempt()


HISTORIES = (
    {
        "adopted-agreeing": lambda: History(one_rule(), owner="akim").event(set={"owner": "akim"}).attempt(),
        "adopted-later": lambda: History(one_rule(), owner="bmuller").event(set={"owner": "akim"}).attempt(),
        "adopted-as-the-rule-says": lambda: adopted(S.MERGE, on_adopt=Adopt.HOLD),
        "cleared": lambda: History(one_rule(), owner="akim").event(set={"owner": None}).attempt(),
        "expecting": lambda: adopted(S.MERGE).event(set={"owner": "li"}, expect={"owner": "jdoe"}).attempt(),
        "held-and-resolved": held_and_resolved,
        "yielded-then-newer-event": lambda: (
            moved(S.PRESERVE, ours=True, theirs=True).event(set={"owner": "li"}).attempt()
        ),
        "yielded-then-left": lambda: moved(S.MERGE, ours=False, theirs=True).event(set={"title": "y"}).attempt(),
        "overlap-newest": lambda: moved(S.MERGE, ours=True, theirs=True, on_overlap=S.NEWEST),
        "list-added": tags,
        "list-taken-out": lambda: tags().edit("jdoe", tags=["bolt"]).attempt(lane=Lane.RESYNC),
        "list-held": lambda: tags(S.HOLD).edit("jdoe", tags=["bolt"]).event(add={"tags": ["steel"]}).attempt(),
        "version-conflicts": clashes,
        "refused": refused,
        "lost-and-confirmed": lost_and_confirmed,
        "lost": lambda: History(one_rule(), status="INWORK").event(set={"status": "RELEASED"}).attempt("lost"),
        "in-portions": in_portions,
        "locked-throttled-failed": obstacles,
        "released-field": released_field,
        "edit-war": edit_war,
        "hostile-values": everything_odd,
    }
    | {
        f"{strategy}-{moves}": lambda s=strategy, o=ours, t=theirs: moved(s, ours=o, theirs=t)
        for strategy in STRATEGIES
        for moves, ours, theirs in (("ours", True, False), ("theirs", False, True), ("both", True, True))
    }
    | {f"adopted-{strategy}": lambda s=strategy: adopted(s) for strategy in STRATEGIES}
)


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_is_told_as_it_is_written(name: str) -> None:
    path = STORIES / f"{name}.txt"
    found = text_of(told(HISTORIES[name]()))
    if not path.exists():
        path.write_text(found, encoding="utf-8")
        pytest.fail(f"{path.name} is new; read it")
    assert found == path.read_text(encoding="utf-8")


def test_looks_that_came_to_the_same_since_the_last_record_are_told_too() -> None:
    history = History(one_rule(), status="INWORK").event(set={"status": "RELEASED"})
    for number in range(4):
        history.attempt(Locked(423, f"checked out, look {number}", "jdoe"), Lane.RETRY)
    again = [s.text for s in told(history, row=history.document).chapters[-1].sentences if s.kind == "again"]
    assert again == ["3 more attempts ended the same way."]


def test_the_conflict_that_is_named_is_the_one_that_was_opened() -> None:
    for name in ("hold-theirs", "merge-both", "adopted-hold", "refused"):
        history = HISTORIES[name]()
        named = [value for sentence in told(history).now for kind, value in sentence.references if kind == "conflict"]
        assert named == [conflict.id for conflict in history.document.agreement.held] != []


def test_a_sole_refused_field_is_named_with_its_conflict_before_it_was_decided_again() -> None:
    history = History(one_rule(), status="INWORK").event(set={"status": "RELAESED"}).attempt(Refused(422, "no status"))
    (sentence,) = told(history).now
    assert ("conflict", history.opened[0].id) in sentence.references
    assert "was not written" in sentence.text


def test_of_several_refused_fields_none_is_named_as_the_one_that_waits() -> None:
    history = History(one_rule(), status="INWORK", title="x").event(set={"status": "RELAESED", "title": "y"})
    history.attempt(Refused(422, "no status", ("status",)))
    for sentence in told(history).now:
        assert sentence.references == (("command", "reconciler conflicts list"),)
        assert "Each refused field waits for a retry" in sentence.text


def test_without_the_policy_no_conflict_is_guessed() -> None:
    history = moved(S.HOLD, ours=True, theirs=True)
    found = narrative.tell(DOC, history.records, {}, history.now_us)
    (waits,) = [sentence for sentence in found.now if sentence.kind == "waits"]
    assert waits.references == (("command", "reconciler conflicts list"),)


def test_of_one_field_only_what_happened_to_it_is_told() -> None:
    history = moved(S.EXTERNAL, ours=True, theirs=False)
    for title in ("a", "b", "c"):
        history.event(set={"title": title}).attempt()
    found = told(history, only="owner")
    assert [chapter.records for chapter in found.chapters] == [(1,), (2,)]
    assert "title" not in text_of(found)
    assert [chapter.records for chapter in told(history, only="title").chapters] == [(3,), (4,), (5,)]


def test_the_newest_chapters_tell_of_claims_that_older_ones_would_have_told_of() -> None:
    history = moved(S.PRESERVE, ours=False, theirs=True)
    found = told(history, chapters_max=1)
    assert ([chapter.records for chapter in found.chapters], found.left_out) == ([(2,)], 1)
    assert 'to set owner to "akim"' in found.chapters[0].sentences[0].text


def test_what_the_log_has_asked_for_since_is_told_as_undecided() -> None:
    history = moved(S.MERGE, ours=False, theirs=False).event(actor="li", set={"owner": "li"})
    (undecided,) = [s for s in told(history, row=history.document).now if s.kind == "waits"]
    assert undecided.text.startswith("//erp/prod (li) asked at 2026-11-22 10:04:00Z (1 hour ago) to set owner to")
    assert "The reconciler has not decided this yet" in undecided.text
    assert ("event", "e2") in undecided.references


def test_a_document_that_was_released_stands_as_it_is() -> None:
    history = moved(S.EXTERNAL, ours=True, theirs=False).event(released=True)
    (found,) = told(history, row=history.document).now
    assert "released the document" in found.text
    assert "leaves it as it is in Windchill" in found.text


def test_who_released_a_document_and_why_is_told_where_the_act_is_known() -> None:
    history = moved(S.EXTERNAL, ours=True, theirs=False).event("//reconciler/operators", released=True)
    details = {"reason": "moved to archive", "events": ["e3"]}
    action = OperatorAction(history.now_us, "mlee", "operator", ActionKind.RELEASE, DOC, DOC, details, "appended")
    (found,) = told(history, row=history.document, released=action).now
    assert found.text.startswith("mlee released the document at ")
    assert "(“moved to archive”). The reconciler does not manage it any more" in found.text


def test_what_people_did_is_told_between_the_attempts_unless_an_event_says_it() -> None:
    history = moved(S.EXTERNAL, ours=True, theirs=False)
    history.records[1] = structs.replace(history.records[1], id=8)

    def action(number: int, kind: ActionKind, result: str) -> OperatorAction:
        return OperatorAction(
            0, "m\u202elee", "operator", kind, DOC, DOC, {"reason": "an\x1b audit"}, result, id=number
        )

    actions = [action(9, ActionKind.RESOLVE, "appended"), action(7, ActionKind.PAUSE, "done")]
    chapters = told(history, actions=actions).chapters
    assert [chapter.records for chapter in chapters] == [(1,), (), (8,)]
    (sentence,) = chapters[1].sentences
    assert sentence.text == "m\\u202elee paused the document, as operator (“an\\x1b audit”)."
    assert (sentence.kind, sentence.references) == ("acted", (("act", "7"),))
    assert len(told(history, actions=actions, chapters_max=2).chapters) == 2
    assert [chapter.records for chapter in told(history, only="owner", actions=actions).chapters] == [(1,), (8,)]


def test_the_order_is_that_of_the_chain_where_a_clock_went_back() -> None:
    history = moved(S.EXTERNAL, ours=True, theirs=False)
    first, second = (structs.replace(one, id=one.id * 2) for one in history.records)
    history.records = [structs.replace(second, at_us=first.at_us - 1), first]  # as lists by time have them
    actions = [
        OperatorAction(at_us, "mlee", "cli", ActionKind.PAUSE, DOC, DOC, {}, "done", id=5 - at_us)
        for at_us in (0, 2, 4)
    ]
    found = told(history, actions=actions)
    assert [chapter.records for chapter in found.chapters] == [(), (2,), (), (4,), ()]
    assert 'owner is "sgarcia", as requested' in found.now[0].text
    assert len(told(history, actions=actions, older=True).chapters) == 4, "older actions are left out"


@pytest.mark.parametrize("status", [Status.ABSENT, Status.PARKED, Status.CONTENDED, Status.LOCKED])
def test_why_nothing_is_decided_on_a_document_that_is_stopped_is_told_before_what_is_asked_of_it(status) -> None:
    history = History(one_rule()).event(set={"owner": "akim"})
    row = structs.replace(history.document, status=status, reason="404: there is no\x1b such document")
    stop, undecided = told(history, row=row).now
    assert "“404: there is no\\x1b such document”" in stop.text
    assert ("command", f"reconciler docs retry {DOC}") in stop.references
    assert undecided.text.endswith("The reconciler has not decided this yet.")


def test_a_document_whose_changes_wait_says_until_when_and_how_not_to() -> None:
    history = History(one_rule()).event(set={"owner": "akim"})
    row = structs.replace(
        history.document, status=Status.COLLECTING, reason="waits for further changes until 10:00:05 UTC"
    )
    waits, undecided = told(history, row=row).now
    assert waits.text.startswith("The reconciler waits for further changes until 10:00:05 UTC, ")
    assert ("command", f"reconciler docs retry {DOC}") in waits.references
    assert undecided.text.endswith("It is not written yet.")


def test_a_value_that_is_asked_to_be_another_by_now_is_not_called_as_asked_for() -> None:
    history = moved(S.MERGE, ours=False, theirs=False)
    stands = history.attempt().document
    (now,) = told(history, row=stands).now
    assert ", as requested. If someone" in now.text
    history.event(set={"owner": "li"})
    before, _ = told(history, row=history.document).now
    assert before.text.endswith(", as requested before.")


def test_what_was_only_seen_at_the_first_look_is_not_told_as_agreed() -> None:
    history = History(one_rule(), owner="akim").event(set={"owner": "li"}).attempt(Locked(423, "Locked", "jdoe"))
    history.edit("jdoe", owner="sgarcia").attempt()
    said = text_of(told(history))
    assert 'Windchill had "akim" when first seen and "sgarcia" now, and "li" was requested.' in said
    assert "agreed" not in said


def test_a_document_without_decisions_has_no_chapters() -> None:
    history = History(one_rule()).event(set={"owner": "akim"})
    found = told(history, row=history.document)
    assert found.chapters == ()
    assert [sentence.kind for sentence in found.now] == ["waits"]


def test_what_the_server_said_is_told_on_one_line_and_with_all_that_is_unseen() -> None:
    history = moved(S.MERGE, ours=True, theirs=True)
    (verdict,) = history.records[-1].decisions
    held = structs.replace(verdict, reasons=(Reason(ReasonCode.NOT_AN_OBJECT, about="the moon\u202e"),))
    history.records[-1] = structs.replace(history.records[-1], decisions=(held,), result="eclipsed", message="dark")
    assert "No rule can decide it: `the moon\\u202e` is not an object" in text_of(told(history))
    assert "The attempt failed: “dark”." in text_of(told(history))


@pytest.mark.parametrize("name", HISTORIES)
def test_nothing_that_can_not_be_seen_is_in_any_sentence(name: str) -> None:
    for line in text_of(told(HISTORIES[name]())).splitlines():
        assert line.isprintable() or "decision" in line


@pytest.mark.parametrize(
    ("passed_us", "said"),
    [
        (0, "just now"),
        (999_999, "just now"),
        (1_000_000, "1 second ago"),
        (119 * 1_000_000, "1 minute ago"),
        (2 * 60 * MINUTE_US, "2 hours ago"),
        (49 * 60 * MINUTE_US, "2 days ago"),
        (-3 * MINUTE_US, "in 3 minutes"),
    ],
)
def test_how_long_ago_something_was_is_told_in_one_unit(passed_us: int, said: str) -> None:
    assert phrases.ago(passed_us) == said


def test_every_story_that_is_kept_has_its_history() -> None:
    assert {path.stem for path in STORIES.iterdir()} == set(HISTORIES)


words = st.sampled_from(["a", "b", "c", None])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.sampled_from(["owner", "title"]), words, st.booleans()),
        st.tuples(st.just("element"), st.sampled_from(["a", "b"]), st.booleans(), st.none()),
        st.tuples(st.just("release"), st.sampled_from(["owner", "tags"]), st.none(), st.none()),
        st.tuples(st.just("edit"), st.sampled_from(["owner", "title"]), words, st.none()),
        st.tuples(st.just("retag"), st.lists(st.sampled_from(["a", "b", "z"]), unique=True), st.none(), st.none()),
        st.tuples(
            st.just("attempt"),
            st.sampled_from([None, None, None, CLASH, Refused(422, "no", ("owner",)), Locked(423, "x"), "broken"]),
            st.sampled_from(Lane),
            st.none(),
        ),
    ),
    min_size=3,
    max_size=12,
)


def played(rules: tuple[Rule, ...], moves: list[tuple]) -> History:
    history = History(*rules, owner="a", tags=["a"])
    for kind, what, more, expecting in moves:
        match kind:
            case "event":
                expect = {what: history.live.get(what)} if expecting else {}
                history.event(set={what: more}, expect=expect)
            case "element":
                history.event(**{"add" if more else "remove": {"tags": [what]}})
            case "release":
                history.event(release=[what])
            case "edit":
                history.edit("jdoe", **{what: more})
            case "retag":
                history.edit("jdoe", tags=what)
            case _:
                history.attempt(what, more)
    return history.event(set={"title": "end"}).attempt()


@given(st.sampled_from(STRATEGIES), st.sampled_from(STRATEGIES), steps)
def test_whatever_has_happened_every_field_is_told_of_and_no_conflict_is_named_that_is_not_open(
    one, two, moves
) -> None:
    history = played((Rule(("tags",), one, list=ListMode.SET), Rule(("*",), two)), moves)
    found = told(history, row=history.document)
    named = {value for sentence in found.now for kind, value in sentence.references if kind == "conflict"}
    assert named <= {conflict.id for conflict in history.document.agreement.held}
    standing = {sentence.field for sentence in found.now if sentence.kind in ("stands", "waits")}
    assert {verdict.field for verdict in history.records[-1].decisions} <= standing
    test = Backtest(history.policy, {name: codec.encode(policy) for name, policy in history.policies.items()})
    assert [test.judge_record(record.id, record) for record in history.records] == [[] for _ in history.records]
