"""Topics: which sources may write where (docs/topics.md)."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.events import change_events, decode, decode_fast
from reconciler.core.events.part import ELSEWHERE, Part
from reconciler.model.event import ChangeTopic, Event, Foreign, PlainRecord, Refusal, Topics
from reconciler.model.policy import OPERATORS, Policy, Rule, Strategy
from tests.core import strategies
from tests.core.strategies import binary, envelope, structured

ERP, MES, DECISIONS = "erp.documents", "mes.documents", "plm.decisions"
BOUND = Topics((ChangeTopic(ERP, ("//erp/*",)), ChangeTopic(MES, ("//mes/line-?", "//mes/[0-9]"))), DECISIONS)
OPEN = Topics((ChangeTopic("changes"),), DECISIONS)
IN_FILES = Topics((ChangeTopic("events.jsonl"),), "events.jsonl.decisions")


def said(source: str, topic: str, options: decode.Options, **more: object) -> Event | Refusal | Foreign:
    event = envelope(source=source) | more
    found = decode.record(structured(event, topic=topic), options)
    assert decode.record(binary(event, topic=topic), options) == found or options.archived, (
        "the mode makes no difference"
    )
    return found


def reason(found: object) -> str:
    assert isinstance(found, Refusal), found
    assert found.stage == "policy", "a matter of configuration: what was read before it is left as it is"
    return found.reason


# --------------------------------------------------------------------------------------------------------- operators


@pytest.mark.parametrize("source", [OPERATORS, "//reconciler/emit", "//reconciler/", "//RECONCILER/operators"])
@pytest.mark.parametrize(("topics", "topic"), [(OPEN, "changes"), (BOUND, ERP), (OPEN, "unknown")])
def test_our_own_sources_are_refused_outside_of_the_decisions(topics: Topics, topic: str, source: str) -> None:
    told = reason(said(source, topic, decode.Options(topics=topics)))
    assert source in told
    assert f"taken from {DECISIONS} only" in told


@pytest.mark.parametrize("type_", [decode.CHANGED, decode.RELEASED])
def test_decisions_are_accepted_from_operators_only(type_: str) -> None:
    options, more = decode.Options(topics=BOUND), dict[str, object](type=type_)
    if type_ == decode.RELEASED:
        more["data"] = {}
    assert isinstance(said(OPERATORS, DECISIONS, options, **more), Event)
    for source in (
        "//erp/prod",
        "//reconciler/emit",
        "//reconciler/Operators",
        "//reconciler/operators/x",
        "operators",
    ):
        assert "takes decisions of operators" in reason(said(source, DECISIONS, options, **more))


def test_what_we_publish_ourselves_is_met_in_any_topic_and_skipped() -> None:
    for topic in ("changes", DECISIONS):
        found = said("//reconciler/prod", topic, decode.Options(topics=OPEN), type="windchill.document.reconciled.v1")
        assert isinstance(found, Foreign)


# ------------------------------------------------------------------------------------------------------ bound topics


def test_each_source_speaks_where_it_is_bound() -> None:
    options = decode.Options(topics=BOUND)
    assert isinstance(said("//erp/prod", ERP, options), Event)
    assert isinstance(said("//mes/line-3", MES, options), Event)
    assert reason(said("//erp/prod", MES, options)) == (
        f"source '//erp/prod' may not write to {MES}: [[log.topics]] allows //mes/line-?, //mes/[0-9] there"
    )
    for source in ("//ERP/prod", "//erp", "erp/x", "//mes/line-3", "//mes/line-33"):
        reason(said(source, ERP, options))


def test_without_bound_topics_any_source_but_ours_speaks() -> None:
    options = decode.Options(topics=OPEN)
    for source in ("//erp/prod", "urn:x", "//reconciler", "//reconciler-test/operators", "//kafka/changes"):
        assert isinstance(said(source, "changes", options), Event)


def test_events_are_refused_where_outcomes_are_published() -> None:
    """It is not read for events; an archive of it is, and must give its writers no more rights."""
    closed = attrs.evolve(BOUND, closed=("outcomes", "letters"))
    for source in ("//erp/prod", OPERATORS, "//kafka/outcomes"):
        assert "not for events" in reason(said(source, "outcomes", decode.Options(topics=closed)))
    found = said("//reconciler/x", "outcomes", decode.Options(topics=closed), type="windchill.document.reconciled.v1")
    assert isinstance(found, Foreign)


def test_an_event_is_appended_where_its_source_may_speak() -> None:
    assert [BOUND.of(source) for source in (OPERATORS, "//mes/7", "//erp/x")] == [DECISIONS, MES, ERP]
    nowhere = change_events.given(b'{"source":"//wf/x"}', BOUND)  # to be refused there, with the reason
    assert nowhere.topic == ERP
    assert change_events.given(b"no JSON", BOUND).topic == ERP
    assert [OPEN.again(topic) for topic in ("changes", DECISIONS, "old", "old.decisions")] == [
        "changes", DECISIONS, "changes", DECISIONS,
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------- whole documents

ONLY_ERP = Policy(
    (
        Rule(("owner",), Strategy.PRESERVE, name="policy[1]"),
        Rule(("status", "attributes.*"), Strategy.EXTERNAL, sources=("//erp/*", "//wf/*"), name="policy[2]"),
        Rule(("attributes.Cost",), Strategy.EXTERNAL, sources=("//erp/*",), types=("Drawing",), name="policy[3]"),
    )
)


def test_a_document_is_released_only_by_a_source_that_no_rule_keeps_out() -> None:
    options, released = decode.Options(topics=OPEN, policy=ONLY_ERP), {"type": decode.RELEASED, "data": {}}
    assert isinstance(said("//erp/prod", "changes", options, **released), Event)
    assert isinstance(said(OPERATORS, DECISIONS, options, **released), Event)
    told = reason(said("//mes/line-3", "changes", options, **released))
    assert told == (
        "source '//mes/line-3' may not release a whole document: policy[2] (status, attributes.*) allows //erp/*,"
        " //wf/*; release fields by name, or let an operator release the document"
    )
    assert "policy[3]" in reason(said("//wf/7", "changes", options, **released)), "of any type it could turn out to be"
    assert isinstance(said("//mes/line-3", "changes", options, data={"release": ["owner"]}), Event)
    assert "`status`" in reason(said("//mes/line-3", "changes", options, data={"release": ["status"]}))
    unlimited = attrs.evolve(options, policy=Policy())
    assert isinstance(said("//mes/line-3", "changes", unlimited, **released), Event)


def test_a_tombstone_is_the_word_of_its_topic_and_rules_have_to_name_that() -> None:
    tombstone = structured(None, topic=ERP)
    assert isinstance(decode.record(tombstone, decode.Options(topics=BOUND)), Event)
    told = reason(decode.record(tombstone, decode.Options(topics=BOUND, policy=ONLY_ERP)))
    assert f"source '//kafka/{ERP}' may not release a whole document: policy[2]" in told
    named = Policy((Rule(("status",), Strategy.EXTERNAL, sources=("//erp/*", f"//kafka/{ERP}")),))
    assert isinstance(decode.record(tombstone, decode.Options(topics=BOUND, policy=named)), Event)
    assert "takes decisions" in reason(decode.record(structured(None, topic=DECISIONS), decode.Options(topics=BOUND)))
    assert isinstance(decode.record(structured(None), decode.Options(topics=OPEN)), Event)
    elsewhere = said(f"//kafka/{ERP}", MES, decode.Options(topics=BOUND))
    assert "may not write to" in reason(elsewhere), "no one else writes another topic's tombstones"


# ---------------------------------------------------------------------------------------------------------- archives


def line(source: str, file: str, topic: str | None = None) -> PlainRecord:
    place = {} if topic is None else {"kafkatopic": topic, "kafkapartition": 0, "kafkaoffset": 3}
    return structured(envelope(source=source) | place, topic=file, timestamp=0)


LIVE = decode.Options(archived=True, topics=IN_FILES)
ARCHIVE = decode.Options(archived=True, vouched=True, topics=BOUND)


def test_a_line_of_the_log_stands_in_its_file_whatever_it_says_itself() -> None:
    assert isinstance(decode.record(line(OPERATORS, "events.jsonl.decisions"), LIVE), Event)
    assert isinstance(decode.record(line("//erp/x", "events.jsonl", DECISIONS), LIVE), Event)
    for claimed in (None, "events.jsonl.decisions", DECISIONS, "windchill.document.decisions"):
        found = decode.record(line(OPERATORS, "events.jsonl", claimed), LIVE)
        reason(found)
        assert isinstance(found, Refusal)
        assert found.place.topic == "events.jsonl", "a letter that is replayed goes back to where it really was"
    assert reason(decode.record(line("//erp/x", "events.jsonl.decisions", "events.jsonl"), LIVE))


def test_an_archive_tells_where_its_records_stood() -> None:
    assert isinstance(decode.record(line(OPERATORS, "2025.jsonl", DECISIONS), ARCHIVE), Event)
    assert isinstance(decode.record(line(OPERATORS, "2025.jsonl", "events.jsonl.decisions"), ARCHIVE), Event)
    assert isinstance(decode.record(line("//erp/x", "2025.jsonl", ERP), ARCHIVE), Event)
    reason(decode.record(line(OPERATORS, "2025.jsonl", ERP), ARCHIVE))
    reason(decode.record(line("//erp/x", "2025.jsonl", MES), ARCHIVE))
    reason(decode.record(line("//erp/x", "2025.jsonl", DECISIONS), ARCHIVE))


def test_a_plain_file_takes_any_source_and_decisions_only_if_its_name_says_so() -> None:
    assert isinstance(decode.record(line("//wf/x", "load.jsonl"), ARCHIVE), Event)
    reason(decode.record(line(OPERATORS, "load.jsonl"), ARCHIVE))
    for file in ("events.jsonl.decisions", "events.jsonl.decisions.gz", "events.jsonl.decisions.zst"):
        assert isinstance(decode.record(line(OPERATORS, file), ARCHIVE), Event)
        reason(decode.record(line("//erp/x", file), ARCHIVE))


# ---------------------------------------------------------------------------------------------------------- both ways

OPTIONS = [
    decode.Options(topics=BOUND),
    decode.Options(topics=OPEN),
    decode.Options(topics=BOUND, policy=ONLY_ERP),
    LIVE,
    ARCHIVE,
]
SOURCES = st.sampled_from(["//erp/prod", "//mes/line-3", OPERATORS, "//reconciler/x", f"//kafka/{ERP}", "//wf/x"])
TOPICS = st.sampled_from([ERP, MES, DECISIONS, "changes", "events.jsonl", "events.jsonl.decisions"])


@st.composite
def records(draw: st.DrawFn) -> PlainRecord:
    event = {**draw(strategies.envelopes), "source": draw(SOURCES)}
    if draw(st.booleans()):
        event |= {"kafkatopic": draw(TOPICS), "kafkapartition": 0, "kafkaoffset": draw(st.integers(0, 9))}
    return structured(event, topic=draw(TOPICS), offset=draw(st.integers(0, 99)))


@given(st.lists(records(), max_size=5), st.sampled_from(OPTIONS))
def test_the_fast_way_accepts_no_source_that_the_long_way_refuses(
    given_: list[PlainRecord], options: decode.Options
) -> None:
    events, left = decode_fast.events(given_, options)
    taken = [one for one in given_ if not any(one is other for other in left)]
    assert events == [decode.record(one, options) for one in taken]


# ---------------------------------------------------------------------------------------------------------------- parts


@given(st.lists(st.sampled_from(["PRJ-1", "prj-1", "P1", "Q\n"])), st.sampled_from(["//erp/1", "//mes/1", OPERATORS]))
def test_a_part_has_its_documents_and_sources_and_no_other(keys: list[str], source: str) -> None:
    options = decode.Options(part=Part(("PRJ-*", "P?"), ("//erp/*",)))
    topic = options.topics.decisions if source == OPERATORS else options.topics.changes[0].name
    records = [
        structured(envelope(source=source, subject=key, id=str(number)), topic=topic, offset=number)
        for number, key in enumerate(keys)
    ]
    ours = [key for key in keys if key in ("PRJ-1", "P1") and source != "//mes/1"]
    fast, left = decode_fast.events(records, options)
    slow = [decode.record(record, options) for record in records]
    assert sorted(event.key for event in fast) == sorted(ours)
    assert not left
    assert [found.key for found in slow if isinstance(found, Event)] == ours
    assert {found.type for found in slow if isinstance(found, Foreign)} <= {ELSEWHERE}


def test_a_tombstone_of_another_part_releases_nothing() -> None:
    options = decode.Options(part=Part(("PRJ-*",)))
    found = [decode.record(PlainRecord("t", 0, 0, 1, key, None), options) for key in (b"PRJ-1", b"X")]
    assert isinstance(found[0], Event)
    assert isinstance(found[1], Foreign)
