"""The audit chain: any change to a trail is found, and told where."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from reconciler.core.explain.trail import Fault, Scope, Verifier
from reconciler.core.planning import plan as planning
from reconciler.model import chain, codec
from reconciler.model.action import OperatorAction
from reconciler.model.audit import AuditRecord
from reconciler.model.base import NO_BASE, Agreed, Base
from reconciler.model.chain import Checkpoint, Entry, Head
from reconciler.model.desired import Desired, Field, Register
from reconciler.model.plan import Patch
from reconciler.model.policy import Policy, Rule, Strategy
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.stamp import Stamp

STAMP = Stamp("", "2026-11-22T10:00:00.000001Z", "7", "changes", 0, 1, "//erp/prod", "e1")
RULES = Policy((Rule(("*",), Strategy.EXTERNAL),))
TEXT = codec.encode(RULES)
POLICIES = {codec.policy_digest(RULES): TEXT}


def decided(document: str, at_us: int, live: str, agreed: str | None) -> AuditRecord:
    """A decision as an attempt records it."""
    desired = Desired({"status": Field(Register(STAMP, "RELEASED"))})
    base = NO_BASE if agreed is None else Base({"status": Agreed(agreed, None)})
    snapshot = Snapshot(document, {"status": live}, Token('W/"1"'))
    plan = planning.draft(desired, base, snapshot, RULES)
    patch = dict(plan.fields) if isinstance(plan, Patch) else None
    inputs = (document, at_us, "event", 1, desired, base, snapshot, codec.policy_digest(RULES), (), patch)
    return AuditRecord(*inputs, result="written", message="", status=200, token_after=None)


records = st.builds(
    decided,
    st.sampled_from(["d", "e", "Größe 🧾"]),
    st.integers(0, 2**62),
    st.sampled_from(["INWORK", "RELEASED"]),
    st.sampled_from([None, "INWORK"]),
)
ACTION = OperatorAction(7000, "jdoe", "operator", "pause", "d", "d", {"reason": "audit"}, "done")
actions = st.builds(
    lambda at_us, document: structs.replace(ACTION, at_us=at_us, target=document or "c1", document=document),
    st.integers(0, 2**62),
    st.sampled_from(["", "d", "Größe 🧾"]),
)
trails = st.lists(records | actions, min_size=3, max_size=8).map(
    lambda told: chained(list(map(codec.encode_record, told)))
)


def chained(texts: list[bytes]) -> list[Entry]:
    head, entries = chain.BEGIN, []
    for text in texts:
        before, head = head, chain.extend(head, text)
        columns = chain.columns_of(codec.decode_record(text))
        entries.append(Entry(head.number, before.link if before.number else None, head.link, text, columns))
    return entries


def several(entries: list[Entry], *chains: int) -> list[Entry]:
    """The same records in several chains, one after the other."""
    parts = []
    for place, number in enumerate(chains):
        head = chain.begin(number)
        for entry in entries[place :: len(chains)]:
            before, head = head, chain.extend(head, entry.record)
            previous = before.link if before.records else None
            columns = chain.columns_of(codec.decode_record(entry.record))
            parts.append(Entry(head.number, previous, head.link, entry.record, columns))
    return parts


def told_again(entries: list[Entry]) -> list[Entry]:
    """The entries as a store gives them after a change: each has the link of the record that is before it now."""
    links = {entry.number: entry.link for entry in entries}
    return [structs.replace(entry, previous=links.get(entry.number - 1)) for entry in entries]


def faults(entries: list[Entry], *heads: Head, scope: Scope | None = None) -> list[Fault]:
    verifier = Verifier(scope or Scope(), POLICIES, heads)
    return [*(fault for entry in entries for fault in verifier.faults(entry)), *verifier.missing()]


def test_a_link_is_what_the_description_says() -> None:
    first = hashlib.sha256(b"windchill-reconciler/audit/2\n" + bytes(32) + b"\0\0\0\0\0\0\0\1" + b"{}").digest()
    second = hashlib.sha256(b"windchill-reconciler/audit/2\n" + first + b"\0\0\0\0\0\0\0\2" + b"[1]").digest()
    assert chain.extend(chain.extend(chain.BEGIN, b"{}"), b"[1]") == (2, second)
    # Links that were written must verify for ever.
    assert second.hex() == "8a3a85be12e3399b5c93471437c330728d23b41a3fdd1449a0dd45867afb57fd"


@pytest.mark.parametrize("number", [0, 1, 15])
def test_a_head_is_read_as_it_is_printed(number: int) -> None:
    head = chain.extend(chain.begin(number), b"{}")
    assert chain.parse_head(str(head)) == head
    assert (head.chain, head.records) == (number, 1)


def test_chains_are_numbered_apart() -> None:
    head = chain.extend(chain.begin(3), b"{}")
    number = 3_000_000_000_001
    text = b"windchill-reconciler/audit/2\n" + bytes(32) + number.to_bytes(8, "big") + b"{}"
    assert head == (number, hashlib.sha256(text).digest())


@pytest.mark.parametrize(
    "text", ["", "7", "7:", "7:ab", f"0:{'0' * 64}", f"7:{'g' * 64}", f" 7:{'0' * 64}", f"-1:{'0' * 64}"]
)
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NUMBER:HASH"):
        chain.parse_head(text)


@given(trails)
def test_a_trail_as_it_was_written_has_no_faults(entries: list[Entry]) -> None:
    heads = [Head(entry.number, entry.link) for entry in entries]
    verifier = Verifier(Scope(), POLICIES, heads)
    assert [fault for entry in entries for fault in verifier.faults(entry)] == []
    assert verifier.missing() == []
    assert (verifier.firsts, verifier.heads) == ({0: heads[0]}, {0: heads[-1]})
    assert (verifier.recomputed + verifier.actions, verifier.differing) == (len(entries), 0)
    assert verifier.actions == sum(entry.record.startswith(b'{"act":') for entry in entries)


@given(trails, st.data())
def test_each_of_several_chains_is_verified_by_itself(entries: list[Entry], data: st.DataObject) -> None:
    chains = several(entries, 0, 3)
    verifier = Verifier(Scope(), POLICIES, [Head(entry.number, entry.link) for entry in chains])
    assert [fault for entry in chains for fault in verifier.faults(entry)] + verifier.missing() == []
    assert {number: head.chain for number, head in verifier.heads.items()} == {0: 0, 3: 3}
    mixed = sorted(chains, key=lambda entry: (entry.number % chain.SPAN, entry.number))
    assert faults(mixed) == [], "in whichever order they come"
    place = data.draw(st.integers(0, len(chains) - 1))
    changed = [
        *chains[:place],
        structs.replace(chains[place], record=chains[place].record + b" "),
        *chains[place + 1 :],
    ]
    found = faults(told_again(changed))
    assert {fault.number for fault in found} == {chains[place].number}
    assert all(fault.text.startswith("chain 3: ") == (chains[place].chain == 3) for fault in found)
    of_chain = [entry for entry in chains if entry.chain == 3]
    kept = Head(of_chain[-1].number, of_chain[-1].link)
    assert [fault.number for fault in faults(chains[:-1], kept)] == [kept.number]


def noted(*trails: list[Entry]) -> list[Entry]:
    """A checkpoint of each of these trails, one after the other."""
    entries, head = list[Entry](), chain.begin(chain.CHECKPOINTS)
    for trail in trails:
        heads = {entry.chain: str(Head(entry.number, entry.link)) for entry in trail}
        before, text = head, codec.encode_checkpoint(Checkpoint(7, tuple(heads.values())))
        head = chain.extend(before, text)
        entries.append(Entry(head.number, before.link if before.records else None, head.link, text))
    return entries


@given(trails, st.data())
def test_the_head_of_a_checkpoint_proves_all_chains_up_to_then(entries: list[Entry], data: st.DataObject) -> None:
    before, after = several(entries, 0, 3), several([*entries, *entries], 0, 3)
    checkpoints = noted(before, after)
    kept = Head(checkpoints[0].number, checkpoints[0].link)
    assert faults([*checkpoints, *after]) == []
    assert faults([*checkpoints, *after], kept) == []
    place = data.draw(st.integers(0, len(entries) - 1))
    texts = [entry.record for entry in entries]
    texts[place] = codec.encode_record(decided("d", 1, "INWORK", None)).replace(b'"message":""', b'"message":"forged"')
    forged = several([structs.replace(entry, record=text) for entry, text in zip(entries, texts, strict=True)], 0, 3)
    others = noted(before, forged)
    assert faults([*others, *forged]) == [], "whoever can change the store can make all agree"
    assert faults([*others, *forged], kept)
    number = data.draw(st.sampled_from([0, 3]))
    cut = [entry for entry in before if entry.chain != number or entry.number % chain.SPAN == 0]
    assert {(fault.number or 0) // chain.SPAN for fault in faults([*checkpoints[:1], *cut], kept)} == {number}
    assert faults(after, kept)[0].number == kept.number, "without checkpoints"


def test_a_checkpoint_that_was_changed_is_found() -> None:
    entries = chained([codec.encode_record(ACTION)])
    checkpoints = noted(entries, entries, entries)
    for change in ({"record": b"{}"}, {"record": checkpoints[1].record + b" "}, {"link": bytes(32)}):
        changed = [checkpoints[0], structs.replace(checkpoints[1], **change), checkpoints[2]]
        assert faults(told_again([*changed, *entries]))[0].number == checkpoints[1].number
    gap = told_again([checkpoints[0], checkpoints[2], *entries])
    assert faults(gap)[0].text == f"chain 99: missing before it: {checkpoints[1].number}"


@given(trails)
def test_a_gap_in_a_chain_is_named_with_it(entries: list[Entry]) -> None:
    chains = several([*entries, *entries], 0, 3)
    first = next(entry for entry in chains if entry.chain == 3)
    (found,) = faults(told_again([entry for entry in chains if entry is not first]))
    assert (found.number, found.text) == (first.number + 1, f"chain 3: missing before it: {first.number}")


@given(trails)
def test_a_record_cannot_be_moved_to_another_chain(entries: list[Entry]) -> None:
    moved = [structs.replace(entry, number=entry.number + chain.SPAN) for entry in entries]
    assert [fault.number for fault in faults(told_again(moved))] == [entry.number for entry in moved]


@given(trails, st.data())
def test_any_changed_byte_is_found_at_its_record(entries: list[Entry], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(entries) - 1))
    entry = entries[place]
    member = data.draw(st.sampled_from(["record", "link"]))
    old = {"record": entry.record, "link": entry.link}[member]
    at = data.draw(st.integers(0, len(old) - 1))
    new = old[:at] + bytes([old[at] ^ data.draw(st.integers(1, 255))]) + old[at + 1 :]
    changed = structs.replace(entry, **{member: new})
    found = faults(told_again([*entries[:place], changed, *entries[place + 1 :]]))
    assert found
    assert found[0].number == entry.number
    assert {fault.number for fault in found} <= {entry.number, entry.number + 1}


@given(trails, st.data())
def test_a_record_that_is_filed_under_something_else_is_found(entries: list[Entry], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(entries) - 1))
    columns = list(entries[place].columns or ())
    column = data.draw(st.integers(0, len(columns) - 1))
    old = columns[column]
    columns[column] = old + 1 if isinstance(old, int) else f"{old}\udcff" if old else None if old == "" else "x"
    entries[place] = structs.replace(entries[place], columns=data.draw(st.sampled_from([(), tuple(columns)])))
    assert [fault.number for fault in faults(entries)] == [entries[place].number]


@given(trails, st.data())
def test_an_entry_of_one_kind_that_is_passed_off_as_the_other_is_found(
    entries: list[Entry], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(entries) - 1))
    forged = entries[place].record
    for kind, other in ((b'{"act":', b'{"decision":'), (b'{"decision":', b'{"act":'), (b'{"', b'{"act":null,"')):
        if forged.startswith(kind):
            changed = structs.replace(entries[place], record=forged.replace(kind, other, 1))
            found = faults(told_again([*entries[:place], changed, *entries[place + 1 :]]))
            assert "its link does not follow from its content" in found[0].text
            assert found[0].number == entries[place].number


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b'{"act":null}',
        b"[]",
        b"",
        b'{"decision":%b,"act":%b}',
        b'{"act":%b,"more":1}',
        b"\xff",
        b'{"decision":null,"act":%b}',
        b'{"act":%b,"act":%b}',
        b'{"act":%b}\n',
    ],
)
def test_a_record_that_is_neither_kind_or_both_is_found_even_if_its_link_is_right(text: bytes) -> None:
    said = codec.encode(decided("d", 1, "INWORK", None)), codec.encode(ACTION)
    made = text % said[2 - text.count(b"%b") :]
    head = chain.extend(chain.BEGIN, made)
    (found,) = faults([Entry(1, None, head.link, made)])
    assert found[:2] == (1, None)
    assert "it is no record of the trail" in found.text


@given(trails, st.data())
def test_any_removal_before_the_end_is_found_after_the_gap(entries: list[Entry], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(entries) - 2))
    end = data.draw(st.integers(start + 1, len(entries) - 1))
    found = faults(told_again(entries[:start] + entries[end:]))
    assert [fault.number for fault in found] == [entries[end].number]
    assert "missing" in found[0].text


@given(trails, st.data())
def test_removal_at_the_end_is_found_with_a_head_that_was_kept(entries: list[Entry], data: st.DataObject) -> None:
    rest = entries[: data.draw(st.integers(0, len(entries) - 1))]
    kept = Head(entries[-1].number, entries[-1].link)
    assert faults(rest) == []
    assert [fault.number for fault in faults(rest, kept)] == [kept.number]


@given(trails, st.data())
def test_any_exchange_of_two_records_is_found(entries: list[Entry], data: st.DataObject) -> None:
    one, other = sorted(data.draw(st.lists(st.integers(0, len(entries) - 1), min_size=2, max_size=2, unique=True)))
    numbered = [entry.number for entry in entries]
    left, right = entries[one], entries[other]
    moved = list(entries)
    moved[one], moved[other] = right, left
    assert faults(moved), "in a file, where lines can change their places"
    moved = [structs.replace(entry, number=number) for number, entry in zip(numbered, moved, strict=True)]
    assert numbered[one] in {fault.number for fault in faults(told_again(moved))}, "in a store, where numbers can"
    if left.record != right.record:
        contents = list(entries)
        contents[one] = structs.replace(left, record=right.record, columns=right.columns)
        contents[other] = structs.replace(right, record=left.record, columns=left.columns)
        assert {fault.number for fault in faults(contents)} == {left.number, right.number}


@given(trails, records, st.data())
def test_any_insertion_is_found(entries: list[Entry], record: AuditRecord, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(entries) - 1))
    before = Head(entries[place - 1].number, entries[place - 1].link) if place else chain.BEGIN
    forged = chain.extend(before, codec.encode_record(record))
    entry = Entry(forged.number, None, forged.link, codec.encode_record(record), chain.columns_of(record))
    later = [structs.replace(one, number=one.number + 1) for one in entries[place:]]
    found = faults(told_again([*entries[:place], entry, *later]))
    assert forged.number + 1 in {fault.number for fault in found}
    assert faults([*entries[:place], entry, *entries[place:]]), "in a file, without new numbers"


@given(trails, records, st.data())
def test_a_trail_rewritten_from_some_record_on_is_found_with_a_head_that_was_kept(
    entries: list[Entry], record: AuditRecord, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(entries) - 1))
    texts = [entry.record for entry in entries]
    texts[place] = codec.encode_record(structs.replace(record, message="forged"))
    forged = chained(texts)
    assert faults(forged) == []
    kept = Head(entries[-1].number, entries[-1].link)
    assert [fault.number for fault in faults(forged, kept)] == [kept.number]


@pytest.mark.parametrize("number", [0, -1, -(2**63), chain.SPAN])
def test_a_number_that_no_chain_has_is_found(number: int) -> None:
    entries = chained([codec.encode_record(decided("d", 1, "INWORK", None))])
    found = faults([structs.replace(entries[0], number=number), *entries])
    assert [fault.number for fault in found] == [number]


def test_a_decision_that_does_not_come_out_again_is_found() -> None:
    record = structs.replace(decided("d", 1, "INWORK", None), patch={"status": "CANCELLED"})
    (found,) = faults(chained([codec.encode_record(record)]))
    assert "patch was" in found.text
    assert found[:2] == (1, "d")


def test_inputs_that_no_attempt_has_written_are_a_fault_and_no_crash() -> None:
    record = decided("d", 1, "INWORK", None)
    odd = structs.replace(record, base=Base({"status": Agreed("x", STAMP._replace(time="never"))}), patch={})
    assert faults(chained([codec.encode_record(odd)]))


def test_a_policy_that_was_changed_or_is_missing_is_told_once() -> None:
    texts = [codec.encode_record(decided("d", at_us, "INWORK", None)) for at_us in range(3)]
    for policies in ({}, {digest: text.replace(b"external", b"preserve") for digest, text in POLICIES.items()}):
        verifier = Verifier(Scope(), policies)
        found = [fault for entry in chained(texts) for fault in verifier.faults(entry)]
        assert [fault.number for fault in found] == [1]
        assert "policy" in found[0].text
        assert verifier.recomputed == 0


@given(trails, st.data())
def test_a_piece_of_the_chain_is_verified_from_where_it_begins(entries: list[Entry], data: st.DataObject) -> None:
    start = data.draw(st.integers(1, len(entries) - 2))
    piece = entries[start:]
    assert faults(piece, scope=Scope(whole=False)) == []
    assert faults(piece, scope=Scope(whole=True))
    forged = structs.replace(piece[0], record=piece[0].record + b" ")
    assert faults([forged, *piece[1:]], scope=Scope(whole=False))
    assert faults([structs.replace(piece[0], previous=None), *piece[1:]], scope=Scope(whole=False))


@given(trails)
def test_the_records_of_one_document_are_verified_one_by_one(entries: list[Entry]) -> None:
    of_d = [entry for entry in entries if b'"document":"d"' in entry.record]
    scope = Scope("d", whole=False)
    assert faults(of_d, scope=scope) == []
    for place, entry in enumerate(of_d):
        forged = structs.replace(entry, record=entry.record + b" ")
        assert faults([*of_d[:place], forged, *of_d[place + 1 :]], scope=scope)[0].number == entry.number
    others = [entry for entry in entries if entry not in of_d]
    assert {fault.number for fault in faults(others, scope=scope)} == {entry.number for entry in others}
