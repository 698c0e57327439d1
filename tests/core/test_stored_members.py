"""
Two releases use one store at the same time during an upgrade, so a release does not write what the last one would lose.

An older program passes over members that it does not know, and leaves them out when it writes the row again. So release
N only reads a new member, which has a default, and release N+1 writes it (docs/release.md).
"""

import json
import re
from pathlib import Path

import pytest

import reconciler
from tests.core import stored_members

READ: dict[str, str] = {}  # new members that this release reads and does not write: TYPE.MEMBER → why it comes
SOURCE = Path(reconciler.__file__).parent
RECORD = json.loads(stored_members.FILE.read_text(encoding="utf-8"))


def release(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:3]))


def test_the_last_release_can_live_with_what_this_one_writes() -> None:
    if release(reconciler.__version__) < release(RECORD["release"]):
        pytest.skip("releases share a store from the recorded one on")
    faults = stored_members.faults(RECORD["members"], stored_members.present(), set(READ))
    assert faults == [], (
        "release N only reads a new member, N+1 writes it: give it a default, set it nowhere, and name it in READ;"
        " when a release is cut, `python -m tests.core.stored_members` records what is there"
    )


def test_what_is_only_read_may_be_missing_and_is_set_nowhere() -> None:
    assert set(READ) <= stored_members.optional()
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    assert [member for member in READ if re.search(rf"\b{member.partition('.')[2]}=", text)] == []


def test_the_record_is_that_of_the_last_release() -> None:
    assert release(RECORD["release"]) >= release(reconciler.__version__), "run `python -m tests.core.stored_members`"


def test_a_member_that_is_added_or_taken_away_is_noticed() -> None:
    now = stored_members.present()
    assert {"Agreement", "Base", "Agreed", "Event", "Stamp", "Verdict", "Rule", "DeadLetter"} <= now.keys()
    assert stored_members.faults(now, now, set()) == []
    more = now | {"Base": [*now["Base"], "extra"]}
    assert stored_members.faults(now, more, set()) == ["Base.extra is new"]
    assert stored_members.faults(now, more, {"Base.extra"}) == []
    assert stored_members.faults(more, now, set()) == ["Base.extra is gone"]
    assert {"Base.wrote", "Agreement.held"} <= stored_members.optional()
    assert "Agreed.writes" not in stored_members.optional(), "an older program refuses a longer array"
