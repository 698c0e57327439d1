import time
from datetime import UTC, datetime

import httpx
import pytest

from reconciler.simulator import seeds
from reconciler.simulator.documents import Documents
from reconciler.simulator.history import Entry, Writer, lost_updates, stale_writes
from reconciler.simulator.rivals import RivalUsers
from reconciler.simulator.settings import Behaviour, Rivals
from tests.patience import HANG_S
from tests.simulator.conftest import Fetch, patch, tag


def documents() -> Documents:
    made = Documents(Behaviour(), lambda: datetime(2026, 11, 22, tzinfo=UTC), 10_000)
    made.load(seeds.generated(20, seed=1))
    return made


def edits(seed: int, settings: Rivals, count: int = 300) -> list[Entry]:
    where = documents()
    rivals = RivalUsers(seed, settings)
    for _ in range(count):
        rivals.edit(where)
    return where.history.after(0)


def test_the_same_seed_gives_the_same_edits() -> None:
    assert edits(3, Rivals()) == edits(3, Rivals())
    assert edits(3, Rivals()) != edits(4, Rivals())


def test_every_edit_changes_one_of_the_stated_fields_of_the_stated_documents() -> None:
    settings = Rivals(fields=("owner", "attributes.Keywords"), users=("akim",), documents=("0000000002",))
    made = edits(1, settings)
    assert len(made) == 300
    assert {entry.who for entry in made} == {"akim"}
    assert {entry.document for entry in made} == {"0000000002"}
    assert {path for entry in made for path in entry.changes} == {"owner", "attributes.Keywords"}
    assert all(entry.changes for entry in made)


def test_the_status_moves_seldom() -> None:
    moved = sum("status" in entry.changes for entry in edits(1, Rivals(), 1000))
    assert 0 < moved < 100


def test_an_edit_differs_from_what_others_wrote_meanwhile() -> None:
    where, rivals = documents(), RivalUsers(1, Rivals(fields=("owner",), documents=("0000000001",)))
    assert all(entry.changes["owner"][0] != entry.changes["owner"][1] for entry in edits(1, rivals.settings))
    where.delete("0000000001", Writer("administrator", "control"))
    assert rivals.edit(where) is None


def test_what_someone_else_checked_out_is_left_alone() -> None:
    where, rivals = documents(), RivalUsers(1, Rivals(users=("akim",)))
    where.locks.update(dict.fromkeys(where.keys(), "jdoe"))
    assert rivals.edit(where) is None
    where.locks.update(dict.fromkeys(where.keys(), "akim"))
    assert rivals.edit(where) is not None


def test_edits_keep_to_the_rate_and_sleep_is_not_made_up_for() -> None:
    where, rivals = documents(), RivalUsers(1, Rivals(per_second=10))
    assert [rivals.step(where, 0.25) for _ in range(4)] == [2, 3, 2, 3]
    assert rivals.step(where, 86_400) == 1000


def test_rivals_edit_at_run_time_until_they_are_stopped(server: httpx.Client, history: Fetch) -> None:
    given = {"per_second": 200, "fields": ["attributes.Note"], "users": ["lchen"]}
    server.put("/_control/rivals", json=given).raise_for_status()
    deadline = time.monotonic() + HANG_S
    while len(history()) < 5:
        assert time.monotonic() < deadline, "no edits are made"
    server.put("/_control/rivals", json={}).raise_for_status()
    made = history()
    assert {(entry.kind, entry.who, *entry.changes) for entry in made} == {("rival", "lchen", "attributes.Note")}
    assert len(history()) == len(made)


@pytest.mark.parametrize("enforced", [True, False])
def test_guarded_writes_lose_nothing_to_rivals_unless_the_guard_is_ignored(
    server: httpx.Client, history: Fetch, enforced: bool
) -> None:
    server.put("/_control/behaviour", json={"if_match_enforced": enforced}).raise_for_status()
    server.put("/_control/faults", json={"version_conflict": 0.5}).raise_for_status()
    server.put("/_control/rivals", json={"fields": ["owner"]}).raise_for_status()
    answers = [patch(server, {"owner": f"owner {turn}"}, tag(server)).status_code for turn in range(40)]
    made = history()
    conflicts = sum(entry.kind == "rival" for entry in made)
    assert 0 < conflicts < 40
    assert answers.count(409) == (conflicts if enforced else 0)
    lost = 0 if enforced else conflicts
    assert (len(lost_updates(made, "integration")), len(stale_writes(made, "integration"))) == (lost, lost)
