"""Resolution: a decision on a conflict does what it says, to what is managed and nothing else."""

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from reconciler.core.folding import fold
from reconciler.core.planning import resolution
from reconciler.errors import UsageError
from reconciler.model.action import Other, Preview, Side, Step, Take
from reconciler.model.base import NO_BASE
from reconciler.model.document import Conflict, Document, Status
from reconciler.model.event import Event
from reconciler.model.plan import Hold
from reconciler.model.policy import OPERATORS, ListMode, Normaliser, Policy, Rule, Strategy
from reconciler.model.value import Json
from tests.core.histories import DOC, History

WHOLE = Rule(("*",), Strategy.MERGE)
SET = Rule(("*",), Strategy.MERGE, list=ListMode.SET)
TAGS = "tags"


def conflict(history: History) -> Conflict:
    """The one thing that waits for a person."""
    (found,) = history.document.agreement.held
    return found


def choice(history: History, take: Take) -> resolution.Choice:
    return resolution.choose(history.document, conflict(history), take, history.policy, "because")


def decide(history: History, take: Take) -> History:
    """Say what a choice says, as an operator; the reconciler does the rest."""
    for said in choice(history, take).said:
        parts = {name: value for name, value in said.items() if name != "reason"}
        history.event(OPERATORS, "jdoe", str(said["reason"]), **parts)
    return history.attempt()


def shown(history: History, take: Take) -> Preview:
    """What a choice would do, by the events that `decide` would append."""
    aside, found = History(*history.policy.rules), choice(history, take)
    aside.document, aside.minute = structs.replace(history.document), history.minute
    events: list[Event] = []
    for said in found.said:
        parts = {name: value for name, value in said.items() if name != "reason"}
        events.append(event_of(aside, **parts))
    written = tuple({"id": "x", "time": "x", "data": said} for said in found.said)
    open_now = conflict(history)
    return resolution.preview(
        history.document, open_now, take, history.policy, choice=found, events=events, written=written
    )


def event_of(history: History, **said: Any) -> Event:
    taken: list[Event] = []
    lift = fold.lift

    def kept(event: Event) -> Any:
        taken.append(event)
        return lift(event)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold, "lift", kept)
        history.event(OPERATORS, "jdoe", **said)
    return taken[-1]


# --------------------------------------------------------------------------------------------------------- whole values


def both_moved() -> History:
    history = History(WHOLE, owner="akim", title="Cover").event(set={"owner": "akim", "title": "Cover"}).attempt()
    return history.edit("jdoe", owner="theirs").event(set={"owner": "ours"}).attempt()


@pytest.mark.parametrize(
    ("take", "after"), [(Side.DESIRED, "ours"), (Side.LIVE, "theirs"), (Other("third"), "third"), (Other(None), None)]
)
def test_a_decision_on_a_value_leaves_the_value_that_was_decided_and_no_conflict(take: Take, after: object) -> None:
    history = both_moved()
    assert history.document.status.value == "held"
    told = shown(history, take)
    decide(history, take)
    assert history.live["owner"] == after
    assert history.document.status.value == "synced"
    assert told.steps == (() if take is Side.LIVE else (Step("owner", "theirs", after),))
    assert (told.wanted, told.live, told.desired) == (after, "theirs", "ours")
    assert (told.document, told.field, told.token) == (DOC, "owner", history.records[-2].snapshot.token)


def test_a_preview_shows_the_events_that_will_be_appended_but_for_id_and_time() -> None:
    (event,) = shown(both_moved(), Side.DESIRED).events
    assert event == {"data": {"set": {"owner": "ours"}, "expect": {"owner": "theirs"}, "reason": "because"}}


def test_a_preview_without_a_snapshot_shows_the_whole_step() -> None:
    history = both_moved()
    unread = structs.replace(history.document, agreement=structs.replace(history.document.agreement, snapshot=None))
    history.document = unread
    told = shown(history, Side.DESIRED)
    assert told.steps == (Step("owner", "theirs", "ours"),)
    assert told.token is None


def test_a_decision_that_an_edit_has_overtaken_is_a_conflict_again() -> None:
    history = both_moved()
    said = choice(history, Side.DESIRED).said[0]
    history.edit("mary", owner="another")
    history.event(OPERATORS, "jdoe", set=said["set"], expect=said["expect"]).attempt()
    assert history.document.status.value == "held"
    assert history.live["owner"] == "another"


def test_a_decision_on_a_field_that_is_not_there_names_null_as_what_is_replaced() -> None:
    history = History(Rule(("*",), Strategy.HOLD)).event(set={"owner": "ours"})
    history.edit("jdoe", title="x").attempt()
    assert choice(history, Side.DESIRED).said[0]["expect"] == {"owner": None}
    decide(history, Side.DESIRED)
    assert history.live["owner"] == "ours"


def test_a_claim_on_a_group_is_decided_for_windchill_by_dropping_it() -> None:
    history = History(WHOLE, attributes={"A": 1}).event(set={"attributes": "x"}).attempt()
    assert choice(history, Side.LIVE).said == ({"release": ["attributes"], "reason": "because"},)
    with pytest.raises(UsageError, match="is a group of fields"):
        choice(history, Side.DESIRED)


def test_a_preview_of_a_list_says_which_elements_come_and_go() -> None:
    history = History(SET, tags=["x"]).event(set={TAGS: ["a", 1.5]}).attempt()
    history.edit("jdoe", tags=["x", 1.5]).event(add={TAGS: ["a"]}).attempt()
    assert shown(history, Other(["x", "a"])).steps == (
        Step(TAGS, True, False, element=1.5),
        Step(TAGS, False, True, element="a"),
    )


def test_a_value_shown_as_an_enumeration_is_decided_by_its_value() -> None:
    enum = attrs.evolve(WHOLE, normalise=(Normaliser.ENUM,))
    history = History(enum, state={"Value": "A", "Display": "In work"}).event(set={"state": "A"}).attempt()
    history.edit("jdoe", state={"Value": "B", "Display": "Done"}).event(set={"state": "C"}).attempt()
    assert choice(history, Side.LIVE).said[0]["set"] == {"state": "B"}
    with pytest.raises(UsageError, match="not a JSON object"):
        choice(history, Other({"a": 1}))


# --------------------------------------------------------------------------------------------- lists, by their elements


@pytest.mark.parametrize("element", ["b", 7, 1.5, True])
def test_a_decision_for_windchill_takes_away_an_element_that_was_never_agreed_on(element: Json) -> None:
    """Leaving it out of the list does not say that it has to go: only a second event does."""
    history = History(SET, tags=["mine"]).event(add={TAGS: ["a"]}).attempt()
    history.edit("jdoe", tags=["mine", "a", element]).event(remove={TAGS: [element]}).attempt()
    told = shown(history, Other(["a", "mine"]))
    assert told.steps == (Step(TAGS, True, False, element=element),)
    decide(history, Other(["a", "mine"]))
    assert history.live[TAGS] == ["mine", "a"]
    assert history.document.status.value == "synced"


def test_an_element_that_was_agreed_on_and_that_a_person_keeps_is_kept_though_no_event_names_it_now() -> None:
    history = History(SET, tags=[]).event(set={TAGS: ["a", "b"]}).attempt()
    history.edit("jdoe", tags=["b"]).event(set={TAGS: ["a"]}).attempt()
    history.edit("jdoe", tags=["b"]).attempt()
    assert choice(history, Other(["b"])).said[0]["set"] == {TAGS: ["b"]}
    decide(history, Other(["b"]))
    assert history.live[TAGS] == ["b"]


def test_elements_that_no_event_has_named_stay_the_users() -> None:
    history = History(SET, tags=["mine", "a"]).event(set={TAGS: ["a"]}).attempt()
    history.edit("jdoe", tags=["mine"]).event(add={TAGS: ["a"]}).attempt()
    (said,) = choice(history, Side.DESIRED).said
    assert said["set"] == {TAGS: ["a"]}
    decide(history, Side.DESIRED)
    assert history.live[TAGS] == ["mine", "a"]
    history.edit("jdoe", tags=["a"]).attempt()
    assert history.live[TAGS] == ["a"], "what a user takes away of their own stays away"
    decided = History(SET, tags=["mine", "a"]).event(set={TAGS: ["a"]}).attempt()
    decided.edit("jdoe", tags=["mine"]).event(add={TAGS: ["a"]}).attempt()
    decide(decided, Other([]))
    assert decided.live[TAGS] == ["mine"]


@pytest.mark.parametrize(
    ("rule", "take", "after"),
    [
        (rule, take, after)
        for rule in (WHOLE, SET)
        for take, after in ((Side.DESIRED, ["mine", "a"]), (Side.LIVE, ["mine"]), (Other(["mine", "b"]), ["mine", "b"]))
    ],
)
def test_a_decision_on_elements_alone_takes_away_none_that_is_the_users(rule: Rule, take: Take, after: list) -> None:
    """No event has claimed a whole value, or it was released: then elements are managed under any rule."""
    for released in (False, True):
        history = History(rule, tags=["mine"])
        if released:
            history.event(set={TAGS: ["old"]}).event(release=[TAGS])
        history.event(add={TAGS: ["a"]}).attempt()
        history.edit("jdoe", tags=["mine"]).event(add={TAGS: ["a"]}).attempt()
        decide(history, take)
        assert history.live[TAGS] == after
        assert history.document.status.value == "synced"


def test_elements_that_count_as_the_same_are_one_to_a_decision() -> None:
    history = History(attrs.evolve(SET, normalise=(Normaliser.CASE,)), tags=["Mine"]).event(add={TAGS: ["A"]}).attempt()
    history.edit("jdoe", tags=["Mine"]).event(add={TAGS: ["a"]}).attempt()
    (said,) = choice(history, Other(["MINE", "a"])).said
    assert said["set"] == {TAGS: ["a"]}


def test_a_list_is_decided_by_a_list() -> None:
    history = History(SET, tags=["a"]).event(set={TAGS: ["a"]}).attempt()
    history.edit("jdoe", tags=[]).event(add={TAGS: ["a"]}).attempt()
    with pytest.raises(UsageError, match="JSON list"):
        choice(history, Other("a"))
    decide(history, Other(None))
    assert history.live[TAGS] in ([], None)


NAMED, USERS = ["a", "b", "c"], ["mine", "yours"]
lists = st.lists(st.sampled_from(NAMED), unique=True, max_size=3)
moves = st.lists(
    st.one_of(
        st.builds(lambda value: {"set": {TAGS: value}}, lists),
        st.builds(lambda value: {"add": {TAGS: value}}, lists.filter(bool)),
        st.builds(lambda value: {"remove": {TAGS: value}}, lists.filter(bool)),
        st.builds(lambda named, own: [*own, *named], lists, st.lists(st.sampled_from(USERS), unique=True)),
    ),
    min_size=2,
    max_size=5,
)
takes = st.sampled_from([Side.DESIRED, Side.LIVE]) | st.builds(Other, st.lists(st.sampled_from(NAMED), unique=True))


@given(first=moves, then=moves, live=st.lists(st.sampled_from([*NAMED, *USERS]), unique=True), take=takes)
def test_after_a_decision_the_managed_elements_are_those_that_were_wanted(
    first: list, then: list, live: list, take: Take
) -> None:
    history = History(SET, tags=live)
    for moved in (first, then):
        for one in moved:
            history.edit("jdoe", tags=one) if isinstance(one, list) else history.event(**one)
        history.attempt()
    if not history.document.agreement.held:
        return
    before, wanted = list(history.live[TAGS]), choice(history, take).wanted
    assert isinstance(wanted, list)
    told, asked = shown(history, take), managed(history)
    decide(history, take)
    after = history.live[TAGS] or []
    assert history.document.status.value == "synced"
    assert set(wanted) <= set(after), "what was wanted is there"
    assert not {one for one in after if one not in wanted} & asked, "what was not wanted and is managed has gone"
    assert [one for one in after if one in USERS] == [one for one in before if one in USERS]
    came, went = set(after) - set(before), set(before) - set(after)
    assert {step.element for step in told.steps if step.after} == came
    assert {step.element for step in told.steps if not step.after} == went


def managed(history: History) -> set[str]:
    """The elements that an event now asks for or against."""
    field = history.document.desired.fields[TAGS]
    named = {text.strip('"') for text in field.elements}
    if field.register is not None and isinstance(field.register.value, list):
        named |= {str(element) for element in field.register.value}
    return named


# --------------------------------------------------------------------------------------------- what a decision rests on


def test_a_newer_event_and_a_newer_live_value_are_told_apart() -> None:
    history = both_moved()
    found = conflict(history)

    def since() -> tuple[bool, bool]:
        document = history.document
        return resolution.asked_since(document, found), resolution.moved_since(document, found)

    assert since() == (False, False)
    assert resolution.asked_us(history.document, found) == history.now_us - 60_000_000
    history.edit("mary", owner="another").attempt()
    assert since() == (False, True)
    history.event(set={"owner": "newer"})
    assert since() == (True, True)
    assert resolution.asked_us(history.document, found) == history.now_us
    history.event(release=["owner"])
    assert since()[0]
    history.document = Document(DOC)
    assert since() == (True, False)
    assert resolution.live(history.document, found) == "theirs", "as the conflict knew it"


@pytest.mark.parametrize(
    ("status", "still_held", "asked"),
    [
        (Status.HELD, True, False),
        (Status.HELD, False, True),
        (Status.PENDING, True, True),
        (Status.SYNCED, False, True),
    ],
)
def test_a_contested_value_is_overtaken_once_its_document_waits_for_no_one(
    status: Status, still_held: bool, asked: bool
) -> None:
    """A repeated event does not overtake it; an attempt that is still to come, or an ended conflict, does."""
    history = both_moved()
    found = structs.replace(conflict(history), hold=Hold.CONTESTED)
    held = structs.replace(history.document.agreement, held=(found,) if still_held else ())
    document = structs.replace(history.document, agreement=held, status=status)
    assert resolution.asked_since(document, found) is asked


def test_what_was_seen_changes_with_every_input_of_a_decision() -> None:
    history = both_moved()
    found, document = conflict(history), history.document
    agreement = document.agreement
    snapshot = agreement.snapshot
    assert snapshot is not None
    others: Sequence[tuple[Document, Conflict, Policy]] = [
        (document, found, history.policy),
        (document, structs.replace(found, id="other"), history.policy),
        (document, found, Policy((attrs.evolve(WHOLE, on_overlap=Strategy.EXTERNAL),))),
        (with_snapshot(document, snapshot.with_fields({"owner": "moved"}, snapshot.token)), found, history.policy),
        (with_snapshot(document, structs.replace(snapshot, token=None)), found, history.policy),
        (structs.replace(document, agreement=structs.replace(agreement, base=NO_BASE)), found, history.policy),
        (both_moved().event(set={"owner": "newer"}).document, found, history.policy),
    ]
    assert len({resolution.seen(*one) for one in others}) == len(others)
    assert resolution.seen(document, found, history.policy) == resolution.seen(both_moved().document, found, WITH_NAME)


WITH_NAME = Policy((attrs.evolve(WHOLE, name="policy[1]"),))


def with_snapshot(document: Document, snapshot: Any) -> Document:
    return structs.replace(document, agreement=structs.replace(document.agreement, snapshot=snapshot))


@pytest.mark.parametrize(
    ("take", "option"),
    [
        (Side.LIVE, "--take live"),
        (Side.DESIRED, "--take desired"),
        (Other("it's $HOME"), """--value '"it'"'"'s $HOME"'"""),
        (Other(["a", 1]), """--value '["a",1]'"""),
        (Other(None), "--value null"),
    ],
)
def test_the_command_that_decides_the_same_can_be_pasted(take: Take, option: str) -> None:
    found = conflict(both_moved())
    assert resolution.command(found, take) == f"reconciler conflicts resolve {found.id} {option}"
