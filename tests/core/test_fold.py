"""The fold is a join: any order, any duplicates, any split of the records give the same bytes (docs/explanation.md)."""

import contextlib
import functools
from collections.abc import Iterable
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.folding import accepting, fold, gathering
from reconciler.model import codec
from reconciler.model.desired import NOTHING_DESIRED, Accepted, Claims, Desired, Element, Field, Register
from reconciler.model.event import Event
from reconciler.model.stamp import Stamp
from tests.core import strategies

logs = st.lists(strategies.events(), max_size=8)
# As many events of one time and fields of one row as there may be. The small limits are reached by the logs here.
limits = st.sampled_from([(fold.EVENTS_MAX, fold.FIELDS_MAX), (1, 2), (2, 1), (1, 1)])
rows = logs.map(lambda log: fold.steps(NOTHING_DESIRED, log))


def stamp(second: int, offset: int = 0) -> Stamp:
    return Stamp("", f"2026-11-22T10:00:{second:02}.000000Z", "", "changes", 0, offset, "//erp", str(second))


def event(second: int, offset: int = 0, **content) -> Event:
    name = content.pop("id", str(second))
    return Event.of(strategies.KEY, stamp(second, offset)._replace(id=name), **content)


def folded(*events: Event) -> Desired:
    return fold.steps(NOTHING_DESIRED, events)


@contextlib.contextmanager
def limited(events_max: int, fields_max: int):
    with mock.patch.object(fold, "EVENTS_MAX", events_max), mock.patch.object(fold, "FIELDS_MAX", fields_max):
        yield


def copies(log: list[Event], names: st.DataObject) -> list[Event]:
    """The same events again, each at some other place: later, earlier, in another partition or topic."""
    places = [
        (topic, partition, offset) for topic in ("a", "changes", "z") for partition in (0, 3) for offset in (0, 9)
    ]
    drawn = names.draw(st.lists(st.tuples(st.sampled_from(log), st.sampled_from(places)), max_size=4)) if log else []
    return [one._replace(topic=topic, partition=partition, offset=offset) for one, (topic, partition, offset) in drawn]


def register(row: Desired, name: str) -> Register:
    found = row.fields[name].register
    assert found is not None
    return found


# ---------------------------------------------------------------------------------------------------------- properties


@given(logs, limits, st.data())
def test_every_order_with_any_duplicates_gives_the_same_bytes(log, limit, data):
    again = data.draw(st.lists(st.sampled_from(log), max_size=4)) if log else []
    shuffled = data.draw(st.permutations(log + again))
    with limited(*limit):
        assert codec.encode(folded(*shuffled)) == codec.encode(folded(*log))


@given(logs, limits, st.data())
def test_every_split_into_two_folds_joins_to_the_same_bytes(log, limit, data):
    sides = [data.draw(st.sampled_from(["left", "right", "both"])) for _ in log]
    with limited(*limit):
        left = folded(*(one for one, side in zip(log, sides, strict=True) if side != "right"))
        right = folded(*(one for one, side in zip(log, sides, strict=True) if side != "left"))
        assert codec.encode(fold.join(left, right)) == codec.encode(folded(*log))


@given(logs, st.data())
def test_a_copy_at_a_later_place_changes_no_byte(log, data):
    later = [one._replace(topic="z", offset=99 + number) for number, one in enumerate(log)]
    row = folded(*log)
    for one in data.draw(st.permutations(later)):
        assert fold.step(row, one) is row
    whole_log_again = folded(*log, *later)
    assert codec.encode(whole_log_again) == codec.encode(row)


@given(logs, st.data())
def test_copies_at_any_place_leave_one_outcome_in_every_order(log, data):
    together = log + copies(log, data)
    assert codec.encode(folded(*data.draw(st.permutations(together)))) == codec.encode(folded(*together))


@given(logs, st.data())
def test_folding_in_batches_gives_the_same_bytes_as_folding_at_once(log, data):
    cut = data.draw(st.integers(0, len(log)))
    assert codec.encode(fold.steps(folded(*log[:cut]), log[cut:])) == codec.encode(folded(*log))


@given(logs)
def test_steps_equal_joining_what_each_event_says(log):
    joined = functools.reduce(lambda row, one: fold.join(row, fold.lift(one)), log, NOTHING_DESIRED)
    stepped = functools.reduce(fold.step, log, NOTHING_DESIRED)
    assert codec.encode(folded(*log)) == codec.encode(joined) == codec.encode(stepped)


@given(logs, limits)
def test_the_hot_path_builds_byte_for_byte_what_joining_gives(log, limit):
    with limited(*limit):
        assert codec.encode(built(log).desired()) == codec.encode(folded(*log))


@given(logs, logs, limits)
def test_joining_rows_by_event_gives_byte_for_byte_what_joining_them_by_field_gives(one, other, limit):
    with limited(*limit):
        for left in (built(one), Claims.of(folded(*one)), stored(built(one))):
            joined = gathering.join(left, built(other))
            assert codec.encode_claims(joined) == codec.encode_desired(folded(*one, *other))
            assert (joined is left) is (codec.encode_claims(joined) == codec.encode_claims(left))
            assert gathering.join(joined, left) is joined
            known, new = left.desired(), folded(*one, *other)
            lost = gathering.superseded(left, built(other), joined)
            assert lost == fold.superseded(known, built(other).desired(), new)


@pytest.mark.parametrize("first", [0, 1], ids=["newest first", "oldest first"])
@pytest.mark.parametrize("special", ["released", "elements", "release", "accept", "rival"])
def test_the_hot_path_takes_no_special_event_for_a_plain_one(special, first):
    said = {
        "released": {"released": True},
        "elements": {"elements": {"owner": {'"a"': True}}},
        "release": {"release": ("owner",)},
        "accept": {"set": {"owner": "x"}, "accept": {"owner": "X"}},
        "rival": {"set": {"owner": "x"}},
    }[special]
    plain = [event(second, second, id=f"p{second}", set={"owner": second, "status": "A"}) for second in (1, 3)]
    log = [event(3 if special == "rival" else 2, 2, id="s", **said), *plain]
    for order in (log, log[::-1], [plain[first], log[0], plain[1 - first]]):
        assert codec.encode(built(order).desired()) == codec.encode(functools.reduce(fold.join, map(fold.lift, order)))


def built(log: list[Event]) -> Claims:
    """The row of a log as one replay builds it, without any join at its end."""
    gathered = gathering.Gathered()
    gathered.add(log)
    return gathered.get(strategies.KEY, Claims({}))


def stored(row: Claims) -> Claims:
    """The row as it comes back from a store."""
    return codec.decode_claims(codec.encode_claims(row))


@given(rows, rows)
def test_join_is_commutative(left, right):
    assert codec.encode(fold.join(left, right)) == codec.encode(fold.join(right, left))


@given(rows, rows, rows)
def test_join_is_associative(one, two, three):
    left_first = fold.join(fold.join(one, two), three)
    right_first = fold.join(one, fold.join(two, three))
    assert codec.encode(left_first) == codec.encode(right_first)


@given(rows)
def test_join_is_idempotent_and_hands_the_same_object_back(row):
    stored = codec.decode_desired(codec.encode_desired(row))
    assert fold.join(row, row) is row
    assert fold.join(row, stored) is row
    assert fold.join(row, NOTHING_DESIRED) is row


@given(logs, st.data())
def test_what_is_known_already_gives_the_very_same_row_back(log, data):
    row = folded(*log)
    known = data.draw(st.lists(st.sampled_from(log), max_size=4)) if log else []
    assert fold.steps(row, known) is row


@given(rows, logs)
def test_folding_never_changes_the_row_it_started_from(row, log):
    before = codec.encode(row)
    fold.steps(row, log)
    fold.join(row, folded(*log))
    assert codec.encode(row) == before


@given(rows)
def test_a_row_survives_its_stored_form(row):
    stored = codec.encode_desired(row)
    assert codec.encode(codec.decode_desired(stored)) == codec.encode(row)
    assert codec.encode_desired(codec.decode_desired(stored)) == stored


def test_what_an_event_says_of_itself_is_stored_once_for_all_its_fields():
    row = folded(event(1, id="first", set={"status": "A", "owner": "a", "title": "t"}, reason="ECN-1"))
    assert codec.encode_desired(row).count(b"first") == 1
    assert codec.decode_desired(codec.encode_desired(row)) == row


@given(logs, logs)
def test_going_on_from_a_stored_row_equals_going_on_from_memory(first, second):
    stored = codec.decode_desired(codec.encode_desired(folded(*first)))
    assert codec.encode(fold.steps(stored, second)) == codec.encode(folded(*first, *second))


@given(rows)
def test_nothing_that_is_covered_is_kept(row):
    for field in row.fields.values():
        assert field.register is not None or field.elements, "a field without any claim is kept"
        whole = None if field.register is None else field.register.stamp.level
        assert all(rival.claim.stamp.level >= (whole or rival.claim.stamp.level) for rival in field.rivals)
        newest = [one for one in (row.released, field.register and field.register.stamp) if one is not None]
        assert all(element.stamp > cover for element in field.elements.values() for cover in newest)
        assert field.register is None or row.released is None or field.register.stamp > row.released


def least(stamps: Iterable[Stamp]) -> list[Stamp]:
    """Each event once, at the least of its places."""
    found: dict[tuple, Stamp] = {}
    for one in sorted(stamps):
        found.setdefault((one.time, one.sequence, one.source, one.id), one)
    return list(found.values())


@given(logs)
def test_a_fields_register_is_the_greatest_event_at_its_least_place_that_no_release_covers(log):
    """Said in a second way, straight from docs/explanation.md, without a fold."""
    row = folded(*log)
    release = max(least(one.stamp for one in log if one.more and one.more.released), default=None)
    for name in strategies.FIELDS:
        claims = least(one.stamp for one in log if name in one.set or (one.more and name in one.more.release))
        standing = [one for one in claims if release is None or one > release]
        greatest = row.fields[name].register if name in row.fields else None
        assert (greatest.stamp if greatest else None) == max(standing, default=None)
    assert row.released == release


@given(rows)
def test_a_managed_field_has_a_newest_stamp(row):
    for field in fold.managed(row).values():
        stamps = [element.stamp for element in field.elements.values()]
        assert fold.newest_stamp(field) == max(stamps + ([field.register.stamp] if field.register else []))


# ------------------------------------------------------------------------------------------------------------ examples


def test_the_later_event_wins_whichever_came_first():
    early, late = event(1, set={"status": "INWORK"}), event(2, set={"status": "RELEASED"})
    for order in ((early, late), (late, early)):
        assert register(folded(*order), "status").value == "RELEASED"


def test_events_of_one_coarse_timestamp_rank_as_their_producer_wrote_them():
    first = event(1, offset=1, id="a", set={"status": "A"})
    second = event(1, offset=2, id="b", set={"status": "B"})
    assert register(folded(second, first), "status").value == "B"


def test_a_copy_of_the_first_of_two_events_of_one_time_does_not_bring_it_back():
    first = event(1, offset=1, id="a", set={"status": "A"})
    second = event(1, offset=2, id="b", set={"status": "B"})
    again = event(1, offset=3, id="a", set={"status": "A"})
    row = folded(first, second)
    assert fold.step(row, again) is row
    assert codec.encode(folded(again, second, first)) == codec.encode(row)


def test_a_copy_of_a_release_covers_nothing_that_came_after_the_release():
    released, wanted = event(1, offset=1, id="r", released=True), event(1, offset=2, id="w", set={"status": "A"})
    again = event(1, offset=3, id="r", released=True)
    for order in ((released, wanted, again), (again, wanted, released), (wanted, again, released)):
        assert register(folded(*order), "status").value == "A"


def test_too_many_events_of_one_time_on_one_field_are_bounded_and_said():
    log = [event(1, offset=number, id=f"{number:03}", set={"status": number}) for number in range(200)]
    row = folded(*log)
    assert fold.crowded(row.fields["status"])
    assert len(row.fields["status"].rivals) == fold.EVENTS_MAX
    assert codec.encode(folded(*reversed(log))) == codec.encode(row)
    assert not fold.crowded(folded(*log[: fold.EVENTS_MAX]).fields["status"])
    assert not fold.crowded(fold.step(row, event(2, set={"status": "later"})).fields["status"])


def test_a_row_keeps_no_more_fields_than_it_may_have_until_a_release_clears_it():
    with limited(fold.EVENTS_MAX, 3):
        row = folded(*(event(second, set={f"f{second}": second}) for second in range(9)))
        assert row.cut is not None
        assert sorted(row.fields) == ["f6", "f7", "f8"]
        freed = folded(*(event(s, set={f"f{s}": s}) for s in range(9)), event(7, id="r", released=True))
        assert freed.cut is None
        assert sorted(freed.fields) == ["f8"]


def test_null_is_a_value_and_release_is_not():
    cleared = folded(event(1, set={"owner": None})).fields["owner"]
    released = folded(event(1, release=("owner",))).fields["owner"]
    assert fold.is_managed(cleared)
    assert not fold.is_managed(released)


def test_elements_later_than_the_register_stand_on_top_and_earlier_ones_are_covered():
    row = folded(
        event(1, elements={"attributes.Keywords": {'"old"': True}}),
        event(2, set={"attributes.Keywords": ["bracket"]}),
        event(3, elements={"attributes.Keywords": {'"new"': True, '"bracket"': False}}),
    )
    field = row.fields["attributes.Keywords"]
    assert register(row, "attributes.Keywords").value == ["bracket"]
    assert {text: element.present for text, element in field.elements.items()} == {'"new"': True, '"bracket"': False}


def test_releasing_a_document_forgets_what_came_before_and_nothing_after():
    row = folded(
        event(3, set={"owner": "jdoe"}), event(2, released=True), event(1, set={"owner": "x", "status": "RELEASED"})
    )
    assert list(row.fields) == ["owner"]
    assert row.released == stamp(2)


def test_provenance_and_expectation_stay_with_the_register():
    row = folded(event(1, set={"status": "A", "owner": "b"}, expect={"status": None}, actor="jdoe", reason="ECN"))
    assert register(row, "status") == Register(stamp(1), "A", True, (None,), "jdoe", "ECN")
    assert register(row, "owner").expect == ()


def test_a_forged_duplicate_has_one_outcome_in_either_order():
    one, other = event(1, set={"status": 1}), event(1, set={"status": True})
    assert codec.encode(folded(one, other)) == codec.encode(folded(other, one))
    whole, part = event(1, set={"status": []}), event(1, elements={"status": {'"a"': True}})
    assert codec.encode(folded(whole, part)) == codec.encode(folded(part, whole))


# ------------------------------------------------------------------------------------------------ accepted forms


def accepted(row: Desired, name: str = "owner") -> dict[str, object]:
    return {wanted: one.stored for wanted, one in row.accepted.get(name, {}).items()}


def test_an_accepted_form_outlives_events_with_the_same_or_another_value():
    first = event(1, set={"owner": "x"}, accept={"owner": "X"})
    later = event(2, set={"owner": "x"}), event(3, set={"owner": "y"}), event(4, release=("owner",))
    assert accepted(folded(first, *later)) == accepted(folded(*later, first)) == {'"x"': "X"}


def test_the_later_acceptance_of_a_value_wins_and_the_release_of_the_document_ends_all():
    first = event(1, set={"owner": "x"}, accept={"owner": "X"})
    second = event(2, set={"owner": "x"}, accept={"owner": "x"})
    assert accepted(folded(second, first)) == {'"x"': "x"}
    assert accepted(folded(event(3, released=True), first, second)) == {}
    assert accepted(folded(event(1, released=True), second)) == {'"x"': "x"}


def test_the_accepted_forms_that_are_kept_do_not_depend_on_the_order():
    events = [event(n % 60, n, id=f"{n:03}", set={"owner": n}, accept={"owner": str(n)}) for n in range(100)]
    row = folded(*events)
    assert len(row.accepted["owner"]) == 64
    assert codec.encode(row) == codec.encode(folded(*events[::-1])) == codec.encode(folded(*events[50:], *events))


def test_accepted_pairs_come_in_one_order_whichever_came_first() -> None:
    one, other = Accepted(stamp(1), "x"), Accepted(stamp(1), None)
    first, second = ({'"a"': one, "null": other}, {"null": other, '"a"': one})
    assert accepting.pairs(Desired({}, None, accepted={"owner": first}), "owner") == accepting.pairs(
        Desired({}, None, accepted={"owner": second}), "owner"
    )


@pytest.mark.parametrize(
    ("field", "managed"),
    [
        (Field(None, {}), False),
        (Field(Register(stamp(1), "x"), {}), True),
        (Field(Register(stamp(1), None, managed=False), {}), False),
        (Field(None, {'"a"': Element(stamp(1), False)}), True),
    ],
)
def test_a_field_is_managed_by_its_register_or_by_any_element(field: Field, managed: bool) -> None:
    assert fold.is_managed(field) is managed
