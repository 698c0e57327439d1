"""Signatures: any change of content breaks one, and another spelling of the same JSON does not."""

import base64
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.events import change_events, decode, outcomes, signing
from reconciler.model import signing as model
from reconciler.model.event import Event, Outgoing, PlainRecord, Refusal, Topics
from reconciler.model.policy import OPERATORS
from reconciler.model.signing import Keys
from reconciler.model.stamp import Partition, Place

KEYS = Keys(b"k" * 32)
OTHER = Keys(b"o" * 32)
TOPIC = Topics().decisions
DECISION: dict[str, Any] = {
    "specversion": "1.0",
    "id": "d1",
    "source": OPERATORS,
    "type": decode.CHANGED,
    "subject": "0000012345",
    "time": "2026-11-22T10:00:00.000000Z",
    "sequence": "7",
    "actor": "jdoe",
    "data": {"set": {"rank": 10.0, "owner": "é\u2028"}, "expect": {"owner": None}, "reason": "ECN-1"},
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
REQUIRED = signing.Required(KEYS, {Partition(TOPIC, 0): 5})


def text(event: object) -> bytes:
    return json.dumps(event).encode()


def signed(event: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(signing.signed(text(event), KEYS))
    return found


def read(value: bytes, offset: int = 9, topic: str = TOPIC, **options: Any) -> Any:
    return decode.record(PlainRecord(topic, 0, offset, 0, None, value, ()), decode.Options(signed=REQUIRED, **options))


# ---------------------------------------------------------------------------------------------------------- signatures


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_what_was_signed_is_believed_and_says_what_it_said(event: dict[str, Any]) -> None:
    written = signing.signed(text(event), KEYS)
    assert signing.fault(written, KEYS) is None
    assert signing.fault(written, OTHER) is not None
    assert json.loads(written) == event | {"signature": json.loads(written)["signature"]}
    assert signing.signed(written, KEYS) == written


def rewritten(value: Any, rng: random.Random) -> str:
    """The same JSON as another program may write it: white space, order, escapes, forms of numbers."""
    match value:
        case dict():
            items = rng.sample(list(value.items()), len(value))
            return (
                "{ " + " ,\n".join(f"{rewritten(name, rng)}:\t{rewritten(inner, rng)}" for name, inner in items) + "}"
            )
        case list():
            return "[" + ", ".join(rewritten(inner, rng) for inner in value) + " ]"
        case str():
            return json.dumps(value, ensure_ascii=rng.random() < 0.5)
        case bool() | None:
            return json.dumps(value)
        case int():
            return f"{value}.0" if abs(value) < 2**53 and rng.random() < 0.5 else str(value)
        case _:
            return str(int(value)) if value.is_integer() else f"{value:.17e}"


@given(st.dictionaries(st.text(), JSON, max_size=4), st.randoms(use_true_random=False))
def test_writing_it_again_breaks_no_signature(event: dict[str, Any], rng: random.Random) -> None:
    archived = {"kafkatopic": "t", "kafkapartition": 0, "kafkaoffset": 7, "recordedtime": "2026-11-22T10:00:00Z"}
    written = rewritten(signed(event) | archived | {"partitionkey": "x", "traceparent": "y"}, rng)
    assert signing.fault(written.encode(), KEYS) is None


@given(st.dictionaries(st.sampled_from(["id", "data", "a"]), JSON, max_size=3), JSON, st.data())
def test_no_member_can_be_changed_added_or_taken_away(event: dict[str, Any], value: Any, data: st.DataObject) -> None:
    written = signed(event)
    name = data.draw(st.sampled_from([*sorted(event), "b", "time"]))
    for changed in ({**written, name: value}, {at: said for at, said in written.items() if at != name}):
        same = json.dumps(_plain(changed), sort_keys=True) == json.dumps(_plain(written), sort_keys=True)
        assert (signing.fault(text(changed), KEYS) is None) is same


def _plain(value: Any) -> Any:
    """Numbers by their value, which is all that a signature tells apart."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "value",
    [b"", b"null", b"[]", b"{", b'"x"', b"\xff", b'{"signature":1}', b'{"signature":""}', b'{"signature":null}',
     b'{"signature":"\\u00e9"}', b'{"signature":"v1.aa","x":' + b"[" * 5000, b'{"signature":"v1.aa","n":1e999}'],
)  # fmt: skip
def test_what_bears_no_signature_of_ours_is_not_believed_and_raises_nothing(value: bytes) -> None:
    assert signing.fault(value, KEYS) is not None


def test_a_key_of_before_is_believed_and_not_signed_with() -> None:
    before = signing.signed(text(DECISION), OTHER)
    rotated = Keys(KEYS.key, (OTHER.key, b"x" * 32))
    assert signing.fault(before, rotated) is None
    assert signing.fault(signing.signed(text(DECISION), rotated), KEYS) is None
    assert (rotated.id, OTHER.id) == (KEYS.id, Keys(b"o" * 32).id)
    assert rotated.id != OTHER.id
    assert "kkkk" not in repr(rotated)


def test_keys_are_spelled_in_base64_of_either_kind() -> None:
    raw = bytes(range(224, 256))
    plain, url = base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode().rstrip("=")
    assert model.keys(plain) == model.keys(url) == Keys(raw)
    assert model.keys(plain, f"{url}\n{plain}") == Keys(raw, (raw, raw))
    assert model.keys("") is None


# ------------------------------------------------------------------------------------------------------------ decisions


def test_a_decision_is_believed_if_it_is_signed_or_stands_before_all_are() -> None:
    assert isinstance(read(signing.signed(text(DECISION), KEYS)), Event)
    assert isinstance(read(text(DECISION), offset=4), Event)
    for forged in (text(DECISION), signing.signed(text(DECISION), OTHER), text(signed(DECISION) | {"actor": "x"})):
        refusal = read(forged, offset=5)
        assert isinstance(refusal, Refusal)
        assert (refusal.stage, refusal.place) == ("signature", Place(TOPIC, 0, 5))
        assert "this decision of an operator is not accepted: " in refusal.reason
    assert isinstance(decode.record(PlainRecord("new", 0, 0, 0, None, text(DECISION), ()), _options()), Refusal)


def _options() -> decode.Options:
    return decode.Options(signed=REQUIRED)


def test_what_systems_say_needs_no_signature() -> None:
    assert isinstance(read(text(DECISION | {"source": "//erp/prod"}), topic="changes"), Event)


@pytest.mark.parametrize("name", sorted(DECISION))
def test_a_member_given_twice_says_what_was_signed_or_nothing(name: str) -> None:
    written = signing.signed(text(DECISION), KEYS)
    honest = read(written)
    forged = {"source": OPERATORS, "data": {"set": {"owner": "rival"}}, "type": decode.RELEASED}.get(name, "forged")
    member = f"{json.dumps(name)}:{json.dumps(forged)}".encode()
    for twice in (b"{" + member + b"," + written[1:], written[:-1] + b"," + member + b"}"):
        assert read(twice) == honest or isinstance(read(twice), Refusal)


def test_a_decision_in_binary_mode_may_be_signed_too() -> None:
    whole = signed(DECISION)
    headers = tuple((f"ce_{name}", str(said).encode()) for name, said in whole.items() if name != "data")
    headers += (("content-type", b"application/json"),)
    record = PlainRecord(TOPIC, 0, 9, 0, None, json.dumps(whole["data"], indent=1).encode(), headers)
    assert isinstance(decode.record(record, _options()), Event)
    assert isinstance(decode.record(record._replace(value=b'{"set":{"owner":"rival"}}'), _options()), Refusal)


def test_what_we_append_as_an_operator_is_signed_where_there_is_a_key_and_nothing_else_is() -> None:
    for source, signs in ((OPERATORS, True), ("//erp/prod", False)):
        bare = Outgoing(TOPIC, b"k", text(DECISION | {"source": source}))
        made = change_events.signed(bare, decode.Options(keys=KEYS))
        assert (made != bare) is signs
        assert (signing.fault(made.value or b"", KEYS) is None) is signs
        assert change_events.signed(bare, decode.Options()) == bare
    for odd in (b"", b"[]", b"\xff", None):
        assert change_events.signed(Outgoing(TOPIC, None, odd), decode.Options(keys=KEYS)).value == odd


# ------------------------------------------------------------------------------------------------------------- outcomes


def test_what_began_is_told_and_read_again() -> None:
    noted = model.noted({Partition("é", 1): 7, Partition("a", 0): 0}, KEYS.id)
    record = outcomes.signed(outcomes.signing_began(noted, 1, "outcomes", "//reconciler/x"), "outcomes", KEYS)
    assert record.value is not None
    assert signing.fault(record.value, KEYS) is None
    assert outcomes.signing_since(record.value) == noted.places
    for odd in (b"", b"{}", b"[", text(DECISION)):
        assert outcomes.signing_since(odd) is None
    assert outcomes.signed(Outgoing("letters", None, b"x"), "outcomes", KEYS).value == b"x"
