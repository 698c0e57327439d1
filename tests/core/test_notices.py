"""Notices: what is told of, under which name, and what hostile text can do to it."""

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from reconciler.core.explain import notices
from reconciler.core.explain.notices import Batch, Kind, Notice, Notification
from reconciler.model import chain, instant
from reconciler.model.chain import BEGIN, Entry, Head
from reconciler.model.document import NO_AGREEMENT, Conflict, Document, Status
from reconciler.model.event import DeadLetter
from reconciler.model.plan import Reason, ReasonCode
from reconciler.model.stamp import Place, Stamp

AT_US = 1_795_341_600_000_000
SOURCE = "//reconciler/test"
KEY = "0000012345"
STAMP = Stamp("", "2026-11-22T10:00:00.000000Z", "", "t", 0, 0, "//erp", "e1")
HOSTILE = "\x1b[31m<b>\u202e\n'; rm -rf /"


def opened(key: str = KEY, *, at_us: int = AT_US, closed_at_us: int | None = None, **changes: Any) -> Notice:
    reasons = (Reason(ReasonCode.BOTH),)
    conflict = Conflict("c1a7c1a7c1a7", "owner", reasons, "a", True, "secret-b", "secret-c", STAMP, at_us)
    return notices.of_conflict(key, structs.replace(conflict, **changes), closed_at_us)


def parked(status: str, key: str = KEY, reason: str = "404") -> Notice:
    agreement = structs.replace(NO_AGREEMENT, aside_us=AT_US)
    return notices.put_aside(Document(key, status=Status(status), reason=reason, agreement=agreement))


def letter(reason: str = "data.set is missing") -> DeadLetter:
    return DeadLetter(Place("changes", 2, 41), AT_US // 1000, b"k", b"{}", (("h", b"1"),), "decode", reason, AT_US)


def told(*found: Notice | None, most: int = 5) -> list[dict]:
    return [json.loads(one.body) for one in notifications(*found, most=most)]


def notifications(*found: Notice | None, most: int = 5) -> list[Notification]:
    batch = Batch(SOURCE, most)
    for notice in found:
        assert notice is not None
        batch.add(notice)
    return batch.notifications()


def test_a_conflict_is_told_with_the_command_that_shows_it_and_without_its_values() -> None:
    (body,) = told(opened())
    assert body == {
        "type": "conflict.opened",
        "timestamp": "2026-11-22T10:00:00.000000Z",
        "data": {
            "document": KEY,
            "field": "owner",
            "conflict": "c1a7c1a7c1a7",
            "reason": "events and Windchill both changed it",
            "command": "reconciler conflicts show c1a7c1a7c1a7",
            "source": SOURCE,
        },
    }
    assert "secret" not in json.dumps(body)


@pytest.mark.parametrize(("status", "kind"), [("parked", Kind.PARKED), ("contended", Kind.CONTENDED)])
def test_a_document_put_aside_is_told_as_what_it_is(status: str, kind: Kind) -> None:
    (body,) = told(parked(status))
    assert (body["type"], body["data"]["reason"]) == (kind, "404")
    assert body["data"]["command"] == f"reconciler docs show {KEY}"


def test_what_is_closed_already_is_told_as_closed() -> None:
    (conflict,) = told(opened(closed_at_us=AT_US + 1))
    assert conflict["data"]["closed"] == "2026-11-22T10:00:00.000001Z"
    (refused,) = told(notices.of_letter(attrs.evolve(letter(), status="discarded")))
    assert refused["data"]["status"] == "discarded"


def test_a_dead_letter_is_told_with_the_command_that_shows_it_and_without_its_bytes() -> None:
    (body,) = told(notices.of_letter(letter()))
    assert body["data"] == {
        "dead_letter": "changes/2/41",
        "stage": "decode",
        "reason": "data.set is missing",
        "command": "reconciler dead-letters show changes/2/41",
        "source": SOURCE,
    }


def test_the_same_happening_has_the_same_id_and_another_has_another() -> None:
    def name(found: Notice) -> str:
        (one,) = notifications(found)
        return one.id

    assert name(opened()) == name(opened())
    assert len({name(opened()), name(opened(at_us=AT_US + 1)), name(opened(id="other"))}) == 3
    assert "." not in name(opened()), "it is what the parts of the signed text are told apart by"


def test_two_installations_never_use_the_same_id() -> None:
    found = notices.breaker_opened(AT_US)
    ids = set()
    for source in ("//reconciler/a", "//reconciler/b"):
        batch = Batch(source)
        batch.add(found)
        ids |= {one.id for one in batch.notifications()}
    assert len(ids) == 2


@pytest.mark.parametrize("key", [HOSTILE, "-rf", "a b", "$(id)", "é", "x" * 600, "\ud7ff\u2028"])
def test_no_key_gets_anything_into_a_terminal_or_a_shell(key: str) -> None:
    import shlex

    for found in (parked("parked", key, HOSTILE), opened(key, field=key)):
        assert all(str(fact).isprintable() for fact in found.facts.values())
        words = shlex.split(str(found.facts["command"]))
        assert words[0] == "reconciler"
        assert words[-1] in {key, "c1a7c1a7c1a7", "parked"}
        assert words[-1] != "-rf" or words[-2] == "--"


def test_what_is_long_is_cut() -> None:
    (one,) = notifications(
        opened("k" * 512, reasons=(Reason(ReasonCode.REFUSED, message="r" * 100_000),), field="f" * 9000)
    )
    assert len(one.body) < 2_500


def make(number: int) -> Notice:
    return notices.locked(Document(f"d{number:04}", status=Status.LOCKED, reason="locked"), AT_US + number)


def test_up_to_the_limit_each_is_told_and_above_it_one_digest_counts_them() -> None:
    assert [body["type"] for body in told(*map(make, range(3)), most=3)] == ["document.locked"] * 3
    found = [*map(make, range(40)), notices.breaker_opened(AT_US + 99)]
    (body,) = told(*found, most=3)
    assert body["type"] == "digest"
    assert body["data"]["total"] == 41
    assert body["data"]["counts"] == {"document.locked": 40, "breaker.opened": 1}
    assert [one["data"]["document"] for one in body["data"]["first"]] == [f"d{n:04}" for n in range(5)]
    assert body["timestamp"] == instant.from_us(AT_US + 99)


@given(order=st.permutations(range(12)), again=st.lists(st.integers(0, 11)), most=st.integers(1, 14))
def test_a_lot_gives_the_same_whatever_the_order_and_however_often(order: Any, again: list[int], most: int) -> None:
    expected = notifications(*map(make, range(12)), most=most)
    assert notifications(*map(make, [*order, *again]), most=most) == expected


def test_another_digest_has_another_id() -> None:
    one, other = (notifications(*map(make, numbers), most=2)[0] for numbers in (range(9), range(10)))
    assert one.id != other.id


def entries(count: int) -> list[Entry]:
    made, head = [], BEGIN
    for number in range(1, count + 1):
        text = f'{{"n":{number}}}'.encode()
        after = chain.extend(head, text)
        made.append(Entry(number, head.link, after.link, text))
        head = after
    return made


def broken(found: list[Entry]) -> list[str]:
    before, said = BEGIN, []
    for entry in found:
        notice = notices.chain_broken(before, entry, AT_US)
        if notice is not None:
            said.append(str(notice.facts["reason"]))
        before = Head(entry.number, entry.link)
    return said


def test_a_trail_that_is_whole_is_not_told_and_one_that_was_changed_is() -> None:
    whole = entries(5)
    assert broken(whole) == []
    changed = [*whole[:2], structs.replace(whole[2], record=b"{}"), *whole[3:]]
    assert broken(changed) == ["the audit trail was changed: record 3 is not what was written"]
    assert broken([*whole[:2], *whole[3:]]) == ["the audit trail was changed: record 3 is missing"]
    assert broken(whole[1:])[0] == "the audit trail was changed: record 1 is missing"


def test_a_broken_chain_is_named_if_it_is_not_the_first() -> None:
    head = chain.extend(chain.begin(3), b"{}")
    assert notices.chain_broken(chain.begin(3), Entry(head.number, None, head.link, b"{}"), AT_US) is None
    notice = notices.chain_broken(chain.begin(3), Entry(head.number, None, head.link, b"{ }"), AT_US)
    assert notice is not None
    reason = "the audit trail was changed: chain 3: record 3000000000001 is not what was written"
    assert notice.facts["reason"] == reason
