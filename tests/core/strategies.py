"""
Hypothesis strategies for the core's values.

Names, times and values come from small pools, so that claims meet: the same field, the same stamp, the same element.
"""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import strategies as st

from reconciler.core.events import decode
from reconciler.model.event import Event, PlainRecord
from reconciler.model.policy import Adopt, ListMode, Normaliser, Policy, Rule, Strategy
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.stamp import Stamp
from reconciler.model.value import Json, canonical

KEY = "0000012345"
FIELDS = ("status", "owner", "attributes.Note", "attributes.Keywords")
# Two spellings of one letter, right to left, beyond the basic plane; and groups together with their fields.
ODD_FIELDS = (
    "attributes.Größe",
    "attributes.Gro\u0308ße",
    "attributes.שם",
    "attributes.𝔘",
    "group",
    "group.x",
    "group.x.y",
)
TIMES = tuple(f"2026-11-22T10:00:0{second}.000000Z" for second in range(6))
RECORDED_MS = 1_795_341_700_000  # some minutes after every one of TIMES

# `1`, `1.0`, `true` and `"1"` are four values: Python's `==` must not be what tells them apart.
ODD: list[Json] = [
    "é",
    "e\u0301",
    "É",
    "ß",
    "SS",
    "אב",
    "ﬁ",
    "FI",
    "\u00a0a",
    "𝔘",
    2**63 - 1,
    -(2**63) + 1,
    2**53 + 1,
    2.0**63,
]
scalars = st.sampled_from([None, "", "a", "A", " a ", "b", 0, 1, 1.0, True, False, "1", "1.0"]) | st.sampled_from(ODD)
elements_of_lists = st.sampled_from(["a", "A", " a", "b", "c", 1, 1.0, True, "1"]) | st.sampled_from(ODD)
lists = st.lists(elements_of_lists, max_size=4)
values = scalars | lists | st.dictionaries(st.sampled_from(["Value", "Display", "x"]), scalars, max_size=2)
field_names = st.sampled_from(FIELDS) | st.sampled_from(ODD_FIELDS)

all_stamps = [
    Stamp("", time, sequence, topic, partition, offset, source, name)
    for time in TIMES
    for sequence in ("", "1")
    for topic in ("changes", "old")
    for partition, offset in ((0, 0), (0, 1), (1, 0))
    for source, name in (("//erp/prod", "1"), ("//erp/prod", "2"), ("//mes", "1"))
]
stamps = st.sampled_from(all_stamps)


SAID: list[Json] = [None, "a", ["b"], "", "A", " a ", 1, 1.0, True, "1", [], ["A", "b"], [1, "c"], {"Value": "a"}]


def _contents() -> Iterator[Event]:
    """Every kind of thing that an event can say. Drawing one from a list is far quicker than drawing its parts."""

    def said(**content: Any) -> Event:
        return Event.of(KEY, all_stamps[0], **content)

    texts = [canonical(element) for element in ("a", "A", " a", "b", 1, 1.0, True)]
    odd = [canonical(element) for element in ODD]
    few: list[Json] = ["a", None, ["b", "é", 2**63 - 1], {"x": {"y": 1}}]
    yield said(released=True)
    yield said(released=True, reason="obsolete")
    for name in FIELDS:
        yield said(release=(name,))
        for value in SAID:
            yield said(set={name: value})
        for expected in SAID[:3]:
            yield said(set={name: "x"}, expect={name: expected}, actor="jdoe", reason="ECN-1")
            yield said(set={name: expected}, accept={name: "X"}, actor="jdoe")
            yield said(set={name: "x"}, expect={name: expected}, accept={name: expected})
        for text in texts:
            yield said(elements={name: {text: True}})
            yield said(elements={name: {text: False, '"c"': True}}, actor="jdoe")
    for name in ODD_FIELDS:
        yield said(release=(name,))
        for value in few:
            yield said(set={name: value})
        yield said(elements={name: {'"a"': True, '"b"': False}})
    for text in odd:
        yield said(set={"attributes.Note": msgspec.json.decode(text)})
        yield said(elements={"attributes.Keywords": {text: True}})
        yield said(elements={"attributes.Keywords": {text: False, odd[0]: True}})
    yield said(set={"status": "b", "owner": None}, release=("attributes.Note",))
    yield said(set={"owner": "a"}, elements={"attributes.Keywords": {'"a"': True, '"b"': False}})


def events(stamped: st.SearchStrategy[Stamp] = stamps) -> st.SearchStrategy[Event]:
    """An event as `decode` gives it. Equal stamps with different content do happen: forged duplicates."""
    return st.builds(lambda said, stamp: said._replace(**stamp._asdict()), st.sampled_from(list(_contents())), stamped)


CONTRADICTORY = {(Strategy.EXTERNAL, Adopt.YIELD), (Strategy.FILL, Adopt.WRITE)}  # only the first attempt obeys them


def rules(fields: tuple[str, ...] = ("*",)) -> st.SearchStrategy[Rule]:
    """Every rule there can be for these fields, but for those that contradict themselves."""
    every = st.builds(
        Rule,
        fields=st.just(fields),
        strategy=st.sampled_from(Strategy),
        on_overlap=st.sampled_from([Strategy.HOLD, Strategy.EXTERNAL, Strategy.PRESERVE, Strategy.NEWEST]),
        on_adopt=st.sampled_from([None, *Adopt]),
        list=st.sampled_from(ListMode),
        normalise=st.lists(st.sampled_from(Normaliser), max_size=3, unique=True).map(tuple),
        types=st.sampled_from([(), (), (), ("Draw*",)]),
        name=st.just("policy[1]"),
    )
    return every.filter(lambda rule: (rule.strategy, rule.on_adopt) not in CONTRADICTORY)


# Also of whole groups; the first rule that covers a field decides it.
policies = st.lists(
    (field_names | st.sampled_from(["attributes.*", "*"])).flatmap(lambda name: rules((name,))), max_size=3
).map(lambda rs: Policy(tuple(rs)))


def body(fields: dict[str, Any]) -> dict[str, Any]:
    """A document's body from dotted names; a group with a field in it is an object, whatever else it is said to be."""
    made: dict[str, Any] = {}
    for name, value in sorted(fields.items()):
        *groups, last = name.split(".")
        inner = made
        for group in groups:
            if not isinstance(inner.get(group), dict):
                inner[group] = {}
            inner = inner[group]
        inner[last] = value
    return made


types_of_fields = st.sampled_from([(Normaliser.NUMBER,), (Normaliser.INSTANT,), (Normaliser.ENUM,)])
modification_times = st.sampled_from([None, "2026-11-22T09:00:00.000000Z", TIMES[2], "2026-11-22T11:00:00.000000Z"])
snapshots = st.builds(
    Snapshot,
    key=st.just(KEY),
    body=st.dictionaries(field_names | st.just("title"), values, max_size=5).map(body),
    token=st.sampled_from(['"v1"', '"v2"']).map(Token),
    modified_at=modification_times,
    type=st.sampled_from([None, "Drawing", "Part"]),
    type_normalisers=st.dictionaries(st.sampled_from(FIELDS), types_of_fields, max_size=1),
)


# ------------------------------------------------------------------------------------------------------------- records


def envelope(**changes: Any) -> dict[str, Any]:
    """A valid structured event as JSON, with some members changed; `...` takes one away."""
    whole = {
        "specversion": "1.0",
        "id": "8f1c",
        "source": "//erp/prod",
        "type": decode.CHANGED,
        "subject": KEY,
        "time": "2026-11-22T10:00:00.000001Z",
        "data": {"set": {"status": "RELEASED"}},
    }
    return {name: value for name, value in {**whole, **changes}.items() if value is not ...}


def structured(event: object, **record: Any) -> PlainRecord:
    """A record in structured mode without headers."""
    value = event if isinstance(event, bytes | None) else json.dumps(event).encode()
    place = {"topic": "changes", "partition": 0, "offset": 7, "timestamp": RECORDED_MS, "key": KEY.encode()}
    return PlainRecord(**{**place, "value": value, **record})


def binary(event: dict[str, Any], **record: Any) -> PlainRecord:
    """The same event in binary mode: attributes as headers, `data` as the value."""
    headers = [(f"ce_{name}", str(value).encode()) for name, value in event.items() if name != "data"]
    value = json.dumps(event["data"]).encode() if "data" in event else None
    return structured(value, headers=[("content-type", b"application/json"), *headers], **record)


event_data = st.one_of(
    st.builds(lambda given: {"set": given}, st.dictionaries(field_names, values, min_size=1)),
    st.builds(
        lambda given, added, reason: {
            "set": {"status": given},
            "add": {"attributes.Keywords": added},
            "reason": reason,
        },
        values,
        lists,
        st.text(max_size=5),
    ),
    st.builds(lambda taken: {"remove": {"attributes.Keywords": taken}, "release": ["owner"]}, lists),
    st.builds(lambda given, old: {"set": {"status": given}, "expect": {"status": old}}, values, values),
)
envelopes = st.builds(
    envelope,
    id=st.text(min_size=1, max_size=5),
    source=st.sampled_from(["//erp/prod", "//mes"]),
    subject=st.text(min_size=1, max_size=9),
    time=st.sampled_from([*TIMES, "2026-11-22T11:00:00+01:00", "2026-11-22T10:00:00.1234567Z"]),
    data=event_data,
    sequence=st.sampled_from([..., "1"]),
    actor=st.sampled_from([..., "jdoe"]),
)
