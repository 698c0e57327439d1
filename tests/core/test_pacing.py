"""When a write that makes an iteration goes out."""

from typing import Any

import pytest
from msgspec import structs

from reconciler.core.settling import pacing
from reconciler.core.settling.cases import Case, Pace
from reconciler.model.base import NO_BASE
from reconciler.model.document import Agreement, Document, Lane, Status
from reconciler.model.plan import Decision, InSync, Patch, Verb
from reconciler.model.policy import OPERATORS
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.stamp import Stamp
from tests import defaults

S = 1_000_000
NOW = 1_795_341_600 * S
PACE = defaults.pace(quiet_s=10, checkin_interval_s=300)


def case(
    *fields: str,
    status: Status = Status.PENDING,
    lane: Lane = Lane.EVENT,
    pending_s: float = 0,
    checked_in_s: float | None = None,
    source: str = "//erp/prod",
    pace: Pace = PACE,
    iterates: bool = True,
    **agreement: Any,
) -> Case:
    """An attempt of `pending_s` after the first event, `checked_in_s` after our last check-in."""
    shown = Snapshot("D-1", {}, Token("t"), iterates=iterates, later_portions=(("Name",), ("State",)))
    known = Agreement(checked_in_us=None if checked_in_s is None else NOW - round(checked_in_s * S), **agreement)
    document = Document("D-1", agreement=known, status=status, pending_since_us=NOW - round(pending_s * S))
    options = defaults.attempt_options(pace=pace)
    names = fields or ("Owner",)
    first = min(map(shown.portion, names))
    stamp = Stamp("", "2026-11-22T10:00:00.000000Z", "", "t", 0, 0, source, "e1")
    decisions = tuple(
        Decision(n, Verb.WRITE, (), "", "", 1, None, None, stamp, ours=True, later=shown.portion(n) > first)
        for n in names
    )
    patch = Patch(decisions, NO_BASE, {n: 1 for n in names if shown.portion(n) == first}, Token("t"))
    return Case(document, lane, options, NOW, 0.0, shown, patch)


def waits_s(found: Case) -> float | None:
    until_us = pacing.until_us(found)
    return None if until_us is None else (until_us - NOW) / S


def test_an_event_waits_for_others_until_none_has_come_for_the_quiet_time() -> None:
    assert waits_s(case()) == 10
    assert waits_s(case(pending_s=8)) == 10, "an event began the quiet time again"
    assert waits_s(case(status=Status.COLLECTING, pending_s=10)) is None, "nothing has come since"


def test_check_ins_of_one_document_keep_their_distance() -> None:
    assert waits_s(case(checked_in_s=100)) == 200
    assert waits_s(case(checked_in_s=295)) == 10
    assert waits_s(case(checked_in_s=100, status=Status.COLLECTING)) == 200
    assert waits_s(case(checked_in_s=100, status=Status.SYNCED, lane=Lane.RESYNC)) == 200, "drift makes iterations too"
    assert waits_s(case(checked_in_s=300, status=Status.COLLECTING)) is None
    assert waits_s(case(checked_in_s=-50)) == 10, "a check-in of a time to come was told by a wrong clock"


def test_a_stream_without_a_pause_goes_out_after_a_quarter_of_an_hour() -> None:
    assert waits_s(case(pending_s=895)) == 5
    assert waits_s(case(pending_s=900)) is None
    assert waits_s(case(pending_s=5000, checked_in_s=1)) == 299, "what went out before is no part of the stream"
    longest = structs.replace(PACE, checkin_interval_s=900)
    assert waits_s(case(pending_s=5000, checked_in_s=1, pace=longest)) == 899


@pytest.mark.parametrize(
    "pressing",
    [
        case(lane=Lane.ASKED, checked_in_s=1),
        case(lane=Lane.OPERATOR, checked_in_s=1),
        case(source=OPERATORS, lane=Lane.RETRY, checked_in_s=1),
        case(clashes=1, checked_in_s=1),
        case("Owner", "State", checked_in_s=1),
        case("State", checked_in_s=1),
        case("Name", checked_in_s=1),
        case(iterates=False, checked_in_s=1),
        case(pace=defaults.pace(), checked_in_s=1),
    ],
)
def test_operators_conflicts_states_and_servers_without_iterations_do_not_wait(pressing: Case) -> None:
    assert pacing.until_us(pressing) is None


@pytest.mark.parametrize("failed", [case(failures=2), case(lane=Lane.RETRY), case(status=Status.LOCKED)])
def test_a_retry_has_had_its_quiet_time(failed: Case) -> None:
    assert pacing.until_us(failed) is None


def test_nothing_to_write_waits_for_nothing() -> None:
    assert pacing.until_us(structs.replace(case(), plan=InSync((), NO_BASE))) is None
