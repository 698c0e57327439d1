"""
Two replicas while PostgreSQL is away for long, fails over to a standby that has lost commits, or is restored to an
earlier state, with and without a PgBouncer in between.

A person has set a document back meanwhile. In the store's older state that looks as if nobody but us had changed it:
only the outcome log knows better.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from reconciler.adapters.clock import SystemClock
from reconciler.model import instant
from reconciler.simulator import history
from tests import absences, postgres
from tests.adapters.simulated import Simulated, simulating
from tests.cli.program import Program, event
from tests.crash.launch import NO_RECOVERY
from tests.crash.strikes import Strike
from tests.patience import HANG_S
from tests.postgres import bouncer as bouncers
from tests.replicas.zombies import OTHER, ZOMBIE, Pair

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ME, UNDONE, WRITTEN, LATER = "integration", "0000000001", "0000000002", "0000000003"
DATABASE = "store"
STANDBY, TIME, DISK, DUMP = "an asynchronous standby", "a time", "an older disk", "a dump"
BOUNCED, AWAY, AWAY_BOUNCED = "a standby behind PgBouncer", "away", "away behind PgBouncer"
AWAY_S = 15.0  # seven times as long as a lease holds


class Cluster:
    """A database that goes back to the state that it had at `mark`, in one of several ways, or stays as it is."""

    def __init__(
        self,
        way: str,
        primary: postgres.Server,
        standby: postgres.Server | None = None,
        bouncer: bouncers.Bouncer | None = None,
    ) -> None:
        self._way, self._primary, self._standby = way, primary, standby
        self.bouncer = bouncer
        self._kept = Path()

    @property
    def url(self) -> str:
        if self.bouncer:
            return f"postgresql://{postgres.USER}@{postgres.HOST}:{self.bouncer.port}/{DATABASE}"
        if self._standby is None:
            return self._primary.url(DATABASE)
        hosts = ",".join(f"{postgres.HOST}:{one.port}" for one in (self._primary, self._standby))
        return f"postgresql://{postgres.USER}@{hosts}/{DATABASE}"

    def mark(self) -> None:
        if self._standby:
            self._standby.stall(self._primary)
        elif self._way == DUMP:
            self._kept = self._primary.dump(DATABASE)
        else:
            self._kept = self._primary.back_up()

    def fail(self) -> None:
        if self._way != DUMP:
            self._primary.stop()

    def go_back(self) -> None:
        if self._standby:
            self._standby.promote()
            if self.bouncer:
                self.bouncer.lead_to(self._standby)
        elif self._way in (AWAY, AWAY_BOUNCED):
            self._primary.start()
        elif self._way == DUMP:
            self._primary.restore_dump(DATABASE, self._kept)
        else:
            self._primary.restore(self._kept, new_timeline=self._way == TIME)


@pytest.fixture
def primary() -> Iterator[postgres.Server]:
    if absent := postgres.missing():
        pytest.skip(absent)
    from reconciler.adapters.postgres import Address, migrate_store

    with postgres.running(durable=True) as server:
        server.sql(f"CREATE DATABASE {DATABASE}")
        asyncio.run(migrate_store(Address(server.url(DATABASE)), SystemClock()))
        yield server


@pytest.fixture
def windchill() -> Iterator[Simulated]:
    with simulating(documents=3) as steering:
        yield steering


@pytest.fixture(params=[STANDBY, TIME, DISK, DUMP, BOUNCED])
def cluster(request: pytest.FixtureRequest, primary: postgres.Server) -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        standby = bouncer = None
        if request.param in (BOUNCED, AWAY_BOUNCED):
            if bouncers.program() is None:
                absences.note(request.config, "a store behind PgBouncer (no PgBouncer) was not tested")
                pytest.skip("there is no PgBouncer")
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
                primary.sql(f"ALTER ROLE {postgres.USER} SET {name} = '30s'")
            bouncer = stack.enter_context(bouncers.bouncing(primary))
        if request.param in (STANDBY, BOUNCED):
            standby = stack.enter_context(postgres.running(durable=True, follows=primary))
        yield Cluster(request.param, primary, standby, bouncer)


def until(true: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + HANG_S
    while not true():
        assert time.monotonic() < end_s, f"waited in vain until {what}"
        time.sleep(0.1)


@pytest.fixture
def program(cluster: Cluster, windchill: Simulated, tmp_path: Path) -> Program:
    """The program for two replicas, with short waits."""
    program = Program(tmp_path, windchill.url)
    pooled = "\npooled = true" if cluster.bouncer else ""
    program.reconfigure(f'url = "sqlite:///{tmp_path}/state.db"', f'url = "{cluster.url}"\nevict_s = 3{pooled}')
    program.reconfigure("[windchill]", "[windchill]\ntimeout_s = 3")
    program.reconfigure("[retry]", "[resync]\ninterval_s = 2\n[retry]")
    program.reconfigure('bind = "127.0.0.1:0"', 'bind = ""')
    return program


def is_settled(program: Program, windchill: Simulated, key: str, owner: str) -> bool:
    """Whether Windchill shows the owner of a document, and that is known."""
    if windchill.document(key)["owner"] != owner:
        return False
    return bool(program.json("docs", "show", key)["status"] == "synced")


def check_that_agreements_are_recovered(
    cluster: Cluster, program: Program, windchill: Simulated, replicas: Pair
) -> None:
    names, settled = (ZOMBIE, OTHER), partial(is_settled, program, windchill)

    def writes(key: str) -> list[object]:
        return [entry.changes["owner"][1] for entry in windchill.history(key) if entry.who == ME]

    for key in (UNDONE, WRITTEN):
        program.emits(key, "--set", "owner=akim")
    for name in names:
        replicas.start(name, program)
    until(lambda: settled(UNDONE, "akim") and settled(WRITTEN, "akim"), "the first events are written")
    cluster.mark()
    for key in (UNDONE, WRITTEN):
        program.emits(key, "--set", "owner=lchen")
    until(lambda: settled(UNDONE, "lchen") and settled(WRITTEN, "lchen"), "what will be lost is written")
    outcomes = program.folder / "events.outcomes.jsonl"
    until(lambda: sum("lchen" in line for line in outcomes.read_text().splitlines()) >= 2, "it is published")
    cluster.fail()
    if cluster._way == DUMP:
        assert {replicas.end(name, signal.SIGTERM)[0] for name in names} == {0}
    windchill.edit({"owner": "akim"}, UNDONE)
    cluster.go_back()
    program.emits(LATER, "--set", "owner=later")
    if cluster._way == DUMP:
        for name in names:
            replicas.start(name, program)
    until(lambda: settled(LATER, "later"), "what comes after it is written")
    until(lambda: settled(WRITTEN, "lchen"), "it is known what was written")
    until(lambda: settled(UNDONE, "akim") or settled(UNDONE, "lchen"), "all is settled")
    assert writes(UNDONE) == ["akim", "lchen"], "a person's edit was overwritten"
    assert writes(WRITTEN) == ["akim", "lchen"], "something was written twice"
    program.emits(UNDONE, "--set", "status=RELEASED")
    until(lambda: windchill.document(UNDONE)["status"] == "RELEASED", "it goes on")
    ended = [replicas.end(name, signal.SIGTERM) for name in names]
    assert [status for status, _ in ended] == [0, 0], ended
    # Both, if the duty moved to the second one while the first one waited: taking agreements twice changes nothing.
    assert any("recovering a generation of the store" in said for _, said in ended)
    assert not history.lost_updates(windchill.whole_history(), ME)
    program.say("audit", "verify")


def test_what_was_agreed_in_lost_commits_is_recovered_before_anything_is_written(
    cluster: Cluster, program: Program, windchill: Simulated
) -> None:
    with contextlib.closing(Pair()) as replicas:
        check_that_agreements_are_recovered(cluster, program, windchill, replicas)


@pytest.mark.parametrize("cluster", [STANDBY], indirect=True)
def test_without_recovery_a_persons_edit_is_overwritten(
    cluster: Cluster, program: Program, windchill: Simulated
) -> None:
    """So the test before can fail."""
    with contextlib.closing(Pair(NO_RECOVERY)) as replicas, pytest.raises(AssertionError, match="edit was overwritten"):
        check_that_agreements_are_recovered(cluster, program, windchill, replicas)


@pytest.mark.parametrize("cluster", [STANDBY], indirect=True)
def test_a_write_that_was_lost_with_its_intent_is_ours_and_an_edit_is_a_persons(
    cluster: Cluster, program: Program, windchill: Simulated
) -> None:
    settled = partial(is_settled, program, windchill)
    with contextlib.closing(Pair()) as replicas:
        for key in (WRITTEN, UNDONE):
            program.emits(key, "--set", "owner=akim")
        replicas.start(OTHER, program)
        until(lambda: settled(WRITTEN, "akim") and settled(UNDONE, "akim"), "the first events are written")
        assert replicas.end(OTHER, signal.SIGTERM)[0] == 0
        cluster.mark()
        program.emits(WRITTEN, "--set", "owner=lchen")
        replicas.start(ZOMBIE, program, Strike("store.settle", "before", 1, sleeps=True))
        until(lambda: replicas.is_asleep(ZOMBIE), "it is written, and no one is told")
        assert windchill.document(WRITTEN)["owner"] == "lchen"
        replicas.end(ZOMBIE, signal.SIGKILL)
        windchill.edit({"owner": "jdoe"}, UNDONE)
        for key in (WRITTEN, UNDONE):
            program.emits(key, "--set", "owner=mrossi")
        cluster.fail()
        cluster.go_back()
        for name in (ZOMBIE, OTHER):
            replicas.start(name, program)
        until(lambda: settled(UNDONE, "jdoe"), "the person's edit is kept")
        until(lambda: settled(WRITTEN, "mrossi"), "what is wanted now follows our own write")
        for name in (ZOMBIE, OTHER):
            assert replicas.end(name, signal.SIGTERM)[0] == 0
        assert windchill.document(UNDONE)["owner"] == "jdoe"
        assert not history.lost_updates(windchill.whole_history(), ME)
        program.say("audit", "verify")


@pytest.mark.parametrize("cluster", [AWAY, AWAY_BOUNCED], indirect=True)
def test_replicas_wait_for_a_database_that_is_away_for_long_and_go_on_by_themselves(
    cluster: Cluster, program: Program, windchill: Simulated
) -> None:
    names, settled = (ZOMBIE, OTHER), partial(is_settled, program, windchill)
    with contextlib.closing(Pair()) as replicas:
        for key in (UNDONE, WRITTEN):
            program.emits(key, "--set", "owner=akim")
        for name in names:
            replicas.start(name, program)
        until(lambda: settled(UNDONE, "akim") and settled(WRITTEN, "akim"), "the first events are written")
        program.emits(WRITTEN, "--set", "owner=lchen")
        cluster.fail()
        now = instant.from_us(time.time_ns() // 1000)
        program.append(event(LATER, "//erp/prod", {"owner": "later"}, time=now))
        time.sleep(AWAY_S / 2)
        windchill.edit({"owner": "jdoe"}, UNDONE)
        windchill.forget_requests()
        time.sleep(AWAY_S / 2)
        assert not windchill.requests(), "something was sent although the lease is over"
        assert all(map(replicas.is_alive, names))
        cluster.go_back()
        until(lambda: settled(LATER, "later") and settled(WRITTEN, "lchen"), "they go on")
        until(lambda: settled(UNDONE, "jdoe"), "the person's edit is kept")
        for name in names:
            status, said = replicas.end(name, signal.SIGTERM)
            assert status == 0, said
            assert "waiting for PostgreSQL" in said
            assert "could not tell the store that we are alive" in said
        assert not history.lost_updates(windchill.whole_history(), ME)
        assert len([entry for entry in windchill.whole_history() if entry.who == ME]) == 4, "something came twice"
        program.say("audit", "verify")
