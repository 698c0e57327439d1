"""What the doctor says of a database server: what may be lost, and what to do about it."""

from typing import Any

import attrs
import pytest

from reconciler.adapters.clock import SystemClock
from reconciler.cli.doctor.check import OK, WARNING
from reconciler.cli.doctor.database import server_checks
from reconciler.ports.store_admin import Durability
from tests import postgres

SAFE = Durability("15.4", True, "on", "FIRST 1 (b)", (("b", "sync"),), "on", False, 5.0)


def said(**other: Any) -> dict[str, tuple[str, str]]:
    return {one.check: (one.result, one.message) for one in server_checks(attrs.evolve(SAFE, **other))}


def test_a_server_that_keeps_everything_is_praised_for_it() -> None:
    found = said()
    assert {result for result, _ in found.values()} == {OK}
    assert found["database"][1] == "PostgreSQL 15.4, a crash of it loses nothing that was stored"
    assert found["failover"][1] == "to a synchronous standby loses nothing (FIRST 1 (b): b (sync))"
    assert "old transactions" not in found


@pytest.mark.parametrize(
    ("other", "check", "says"),
    [
        ({"safe": False}, "database", "fsync or full_page_writes is off"),
        ({"commit": "off"}, "database", "synchronous_commit is off"),
        ({"commit": "local"}, "failover", "commits wait for no standby; set it to on"),
        ({"wanted": "", "standbys": (("b", "async"),)}, "failover", r"no standby is synchronous \(b \(async\)\)"),
        ({"archive_fails": True}, "backups", "archive_command fails"),
        ({"oldest_s": 840.0}, "old transactions", "open for 14 min"),
    ],
)
def test_what_may_be_lost_is_a_warning(other: dict[str, Any], check: str, says: str) -> None:
    result, message = said(**other)[check]
    assert result == WARNING
    assert pytest.raises(AssertionError, match=says).matches(AssertionError(message))


def test_one_server_without_standby_or_archive_is_told_what_that_means() -> None:
    found = said(wanted="", standbys=(), archive="off")
    assert [found[check][0] for check in ("failover", "backups")] == [OK, OK]
    assert "there is no standby" in found["failover"][1]
    assert "WAL is not archived" in found["backups"][1]


async def test_a_real_server_is_asked(postgres_server: postgres.Server, postgres_url: str) -> None:
    from reconciler.adapters.postgres import Address, Terms
    from reconciler.adapters.postgres.admin import PostgresAdmin

    found = await PostgresAdmin(Address(postgres_url), SystemClock(), Terms()).durability()
    assert (found.safe, found.commit, found.wanted, found.standbys) == (False, "off", "", ()), "as these tests start it"
    assert found.version.split(".")[0].isdigit()
    assert 0 <= found.oldest_s < 600
