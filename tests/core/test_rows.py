"""Changes of a document's row: every event and settlement over every possible row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.folding import rows
from reconciler.model.action import Change
from reconciler.model.audit import Settlement
from reconciler.model.document import NO_AGREEMENT, SETTLED, Lane, Row, Status

NOW_US = 1000
TIMES = st.none() | st.integers(0, 2 * NOW_US)
LANES, COUNTS = st.sampled_from(Lane), st.integers(0, 5)
ROWS = st.builds(
    Row, st.just("d"), COUNTS, st.sampled_from(Status), st.text(), LANES, TIMES, TIMES, COUNTS, COUNTS
).map(lambda row: row._replace(pending_since_us=None) if row.status in (*rows.DONE, Status.PAUSED) else row)
ENDS = st.builds(
    Settlement,
    *(st.just("d"), COUNTS, st.just(NO_AGREEMENT), st.sampled_from(Status), st.text(), LANES, TIMES, st.just(NOW_US)),
    conflicts=COUNTS,
    attempts=COUNTS,
)


@given(ROWS, LANES, ENDS)
def test_a_pause_holds_against_all_but_the_person_who_ends_it(row: Row, lane: Lane, end: Settlement) -> None:
    row = row._replace(revision=1, status=Status.PAUSED, pending_since_us=None)
    after = [
        rows.folded(row, lane, NOW_US),
        rows.refolded(row, NOW_US),
        rows.settled(row, end),
        rows.rebased(row, NOW_US),
    ]
    assert all(
        one and (one.status, one.reason, one.pending_since_us) == (Status.PAUSED, row.reason, None) for one in after
    )
    assert rows.requeued(row, lane, NOW_US) is None
    assert rows.after_action(Change.PAUSE, row, NOW_US, "again") is None
    resumed = rows.after_action(Change.RESUME, row, NOW_US, "")
    assert resumed
    assert (resumed.status, resumed.due_us) == (Status.PENDING, NOW_US)


@given(ROWS, LANES)
def test_events_leave_a_document_due_and_shorten_no_wait_after_trouble(row: Row, lane: Lane) -> None:
    after = rows.folded(row, lane, NOW_US)
    assert after.revision == row.revision + 1
    if row.status in (Status.PENDING, Status.PAUSED):
        assert after.lane == min(row.lane, lane), "of several claims the most urgent counts"
    if row.status is not Status.PAUSED:
        waits = row.status in rows.COOLING and row.due_us is not None and row.due_us > NOW_US
        assert after.due_us == row.due_us if waits else after.due_us is not None and after.due_us <= NOW_US
        assert after.pending_since_us is not None


@given(ROWS, ENDS)
def test_the_end_of_an_older_attempt_only_adds_a_wait(row: Row, end: Settlement) -> None:
    after = rows.settled(row, end)
    assert (after.conflicts, after.attempts) == (row.conflicts + end.conflicts, row.attempts + end.attempts)
    assert after.revision == row.revision
    if row.revision != end.revision and row.status is not Status.PAUSED:
        waits = end.status in rows.COOLING and end.due_us is not None and end.due_us > NOW_US
        assert (after.status, after.due_us) == ((end.status, end.due_us) if waits else (row.status, row.due_us))
        assert after.lane <= row.lane
        assert after.pending_since_us == (NOW_US if row.pending_since_us is None else row.pending_since_us)


@given(ROWS, LANES)
def test_whatever_people_and_events_do_outlives_an_attempt_under_way(row: Row, lane: Lane) -> None:
    changed = [
        rows.folded(row, lane, NOW_US),
        rows.refolded(row, NOW_US),
        rows.requeued(row, lane, NOW_US),
        rows.compared(row, tuple(Status), NOW_US),
        *(rows.after_action(change, row, NOW_US, "") for change in (Change.RETRY, Change.PAUSE, Change.RESUME)),
    ]
    assert all(after.revision == row.revision + 1 for after in changed if after is not None)


@given(ROWS, st.integers(0, 2 * NOW_US))
def test_no_wait_is_longer_than_the_longest_once_it_is_brought_forward(row: Row, longest_us: int) -> None:
    after = rows.brought_forward(row, NOW_US, longest_us)
    assert after.due_us is None or after.due_us <= NOW_US + longest_us
    assert after.pending_since_us is None or after.pending_since_us <= NOW_US
    assert rows.brought_forward(after, NOW_US, longest_us) == after


# ------------------------------------------------------------------------------------------------------------ examples


TROUBLED = (Status.CONTENDED, Status.LOCKED)
CALM = [status for status in Status if status not in (*rows.COOLING, Status.PAUSED)]


def row(status: Status, revision: int = 1, lane: Lane = Lane.RETRY, due_us: int | None = 5000, **rest: object) -> Row:
    return Row("d", revision, status, "why", lane, due_us, None, 0, 0)._replace(**rest)


def test_what_was_folded_by_a_clock_an_hour_ahead_does_not_wait_for_that_hour() -> None:
    hour_us = 3_600_000_000
    ahead = row(Status.PENDING, due_us=NOW_US + hour_us + 5, pending_since_us=NOW_US + hour_us)
    after = rows.brought_forward(ahead, NOW_US, hour_us)
    assert (after.due_us, after.pending_since_us) == (NOW_US + 5, NOW_US)


def ended(status: Status, lane: Lane, due_us: int, at_us: int) -> Settlement:
    return Settlement("d", 1, NO_AGREEMENT, status, "wait", lane, due_us, at_us)


@pytest.mark.parametrize(
    ("before", "lane", "at_us", "after"),
    [
        *((row(status), Lane.REPLAY, 3000, (Status.PENDING, "", Lane.REPLAY, 3000)) for status in CALM),
        (row(Status.PENDING), Lane.EVENT, 3000, (Status.PENDING, "why", Lane.EVENT, 5000)),
        (row(Status.PENDING, lane=Lane.EVENT), Lane.REPLAY, 3000, (Status.PENDING, "why", Lane.EVENT, 5000)),
        (row(Status.PENDING, due_us=1000), Lane.EVENT, 1500, (Status.PENDING, "", Lane.EVENT, 1000)),
        *((row(status), Lane.EVENT, 4999, (status, "why", Lane.EVENT, 5000)) for status in TROUBLED),
        *((row(status), Lane.RESYNC, 5000, (Status.PENDING, "", Lane.RESYNC, 5000)) for status in TROUBLED),
        *((row(status, due_us=None), Lane.EVENT, 7, (Status.PENDING, "", Lane.EVENT, 7)) for status in TROUBLED),
        (row(Status.COLLECTING, due_us=9000), Lane.EVENT, 1500, (Status.PENDING, "", Lane.EVENT, 1500)),
        (row(Status.PAUSED), Lane.EVENT, 1500, (Status.PAUSED, "why", Lane.EVENT, 5000)),
    ],
)
def test_an_event_makes_a_document_pending_unless_it_waits_after_trouble_or_is_paused(
    before: Row, lane: Lane, at_us: int, after: tuple[object, ...]
) -> None:
    found = rows.folded(before, lane, at_us)
    assert (found.status, found.reason, found.lane, found.due_us) == after


@pytest.mark.parametrize(
    ("before", "end", "after"),
    [
        (row(Status.SYNCED), ended(Status.PENDING, Lane.RETRY, 9000, 2500), (Status.PENDING, Lane.RETRY, 9000, 2500)),
        (
            row(Status.PENDING, pending_since_us=2500),
            ended(Status.PARKED, Lane.RESYNC, 9000, 2600),
            (Status.PARKED, Lane.RESYNC, 9000, 2500),
        ),
        *(
            (
                row(Status.PENDING, 2, Lane.EVENT, 1000, pending_since_us=1000),
                ended(status, Lane.RETRY, 9000, 2000),
                (status, Lane.EVENT, 9000, 1000),
            )
            for status in rows.COOLING
        ),
        *(
            (
                row(Status.PENDING, 2, Lane.OPERATOR, 1500, pending_since_us=1000),
                ended(status, Lane.EVENT, 9000, 1600),
                (Status.PENDING, Lane.OPERATOR, 1500, 1000),
            )
            for status in CALM
        ),
    ],
)
def test_an_attempt_sets_where_a_document_is_unless_a_later_event_came(
    before: Row, end: Settlement, after: tuple[object, ...]
) -> None:
    found = rows.settled(before, end)
    assert (found.status, found.lane, found.due_us, found.pending_since_us) == after


@pytest.mark.parametrize("status", Status)
def test_a_document_is_compared_unless_its_status_forbids_it_or_it_is_due_earlier(status: Status) -> None:
    for due_us in (5000, None):
        after = row(status, 2, Lane.RESYNC, 3000) if status in SETTLED else None
        assert rows.compared(row(status, due_us=due_us), SETTLED, 3000) == after
    assert rows.compared(row(status, due_us=3000), SETTLED, 3000) is None
