"""Routing: which notices a rule takes, and when it is quiet."""

from datetime import datetime
from zoneinfo import ZoneInfo

import attrs
import pytest
from msgspec import structs

from reconciler.core.explain import messages, notices
from reconciler.core.explain.notices import Kind, Notice
from reconciler.core.explain.routing import Quiet, Route
from reconciler.model.desired import Desired, Field, Register
from reconciler.model.document import NO_AGREEMENT, Document, Status

BERLIN = ZoneInfo("Europe/Berlin")
SAMPLE, DOCUMENT = messages.sample(1)  # attributes.CostCenter, SampleDocument, //erp/sample, mrossi
CONFLICT = attrs.evolve(SAMPLE, kind=Kind.CONFLICT)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000_000)


@pytest.mark.parametrize(
    ("moment", "quiet"),
    [
        ("2026-12-01T17:59:59+01:00", False),
        ("2026-12-01T18:00:00+01:00", True),
        ("2026-12-02T00:30:00+01:00", True),
        ("2026-12-02T07:29:59+01:00", True),
        ("2026-12-02T07:30:00+01:00", False),
        ("2026-07-01T16:00:00+00:00", True),  # 18:00 in summer
        ("2026-12-05T12:00:00+01:00", True),  # a Saturday
        ("2026-12-06T23:30:00+00:00", True),  # a Monday there already, but not yet half past seven
    ],
)
def test_quiet_hours_go_by_the_clock_of_their_zone_and_over_midnight(moment: str, quiet: bool) -> None:
    hours = Quiet(since_min=18 * 60, until_min=7 * 60 + 30, days=frozenset((5, 6)), zone=BERLIN)
    assert hours.covers(at(moment)) is quiet


def test_hours_within_a_day_and_no_hours_at_all() -> None:
    noon, night = at("2026-12-01T12:00:00+00:00"), at("2026-12-01T00:00:00+00:00")
    within = Quiet(since_min=11 * 60, until_min=13 * 60)
    assert (within.covers(noon), within.covers(night)) == (True, False)
    assert (Quiet().covers(noon), Quiet().covers(night)) == (False, False)


def takes(route: Route, notice: Notice, document: Document | None = DOCUMENT) -> bool:
    return route.may_take(notice) and (not route.asks_document or route.takes(notice, document))


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({}, True),
        ({"kinds": ("conflict.*",)}, True),
        ({"kinds": ("document.*",)}, False),
        ({"fields": ("title", "attributes.*")}, True),
        ({"fields": ("title",)}, False),
        ({"types": ("Sample*",)}, True),
        ({"types": ("sample*",)}, False),
        ({"sources": ("//erp/*",)}, True),
        ({"sources": ("//mes/*",)}, False),
        ({"modified_by": ("mrossi",)}, True),
        ({"modified_by": ("m?",)}, False),
        ({"fields": ("attributes.*",), "modified_by": ("akim",)}, False),
    ],
)
def test_a_conflict_goes_where_all_globs_of_a_rule_fit(given: dict[str, tuple[str, ...]], taken: bool) -> None:
    assert takes(Route(**given), CONFLICT) is taken


def test_what_is_over_and_what_is_about_no_document_goes_only_where_it_belongs() -> None:
    assert not takes(Route(), attrs.evolve(CONFLICT, over=True))
    down = notices.breaker_opened(1)
    assert takes(Route(), down, None)
    assert not takes(Route(modified_by=("*",)), down, None)
    assert not takes(Route(fields=("*",)), down, None)


def test_a_parked_document_goes_by_the_sources_of_all_its_claims() -> None:
    assert CONFLICT.conflict is not None
    claimed = Desired({"title": Field(Register(CONFLICT.conflict.stamp, "x"))})
    aside = structs.replace(NO_AGREEMENT, aside_us=1)
    parked = Document("42", desired=claimed, agreement=aside, status=Status.PARKED)
    notice = notices.put_aside(parked)
    assert takes(Route(sources=("//erp/*",)), notice, parked)
    assert not takes(Route(sources=("//mes/*",)), notice, parked)
    assert not takes(Route(modified_by=("*",)), notice, parked)
