"""Documents that are only observed: everything is decided and shown, and nothing reaches Windchill."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.cli.program import Program, event

pytestmark = pytest.mark.e2e

KEYS = [f"{number:010d}" for number in range(1, 11)]


@pytest.fixture
def program(tmp_path: Any, windchill: str) -> Program:
    program = Program(tmp_path, windchill)
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    program.append(*(event(key, "//erp/prod", {"title": "Cover", "status": "RELEASED"}, time=now) for key in KEYS))
    return program


def observe(program: Program, write: str = "observe", canary: str = "") -> None:
    """Say which documents are written from now on."""
    program.reconfigure("[windchill]", f'[windchill]\nwrite = "{write}"')
    if canary:
        program.reconfigure("[admin]", f"[canary]\n{canary}\n[admin]")


def requests(program: Program, *methods: str) -> int:
    """How many requests of these methods have reached Windchill."""
    asked = httpx.get(f"{program.windchill}/_control/stats").raise_for_status().json()["requests"]
    return sum(sum(asked.get(method, {}).values()) for method in methods)


def statuses(program: Program) -> dict[str, int]:
    return {name: count for name, count in program.json("status")["documents"].items() if count}


def test_an_observed_document_is_decided_and_not_written(program: Program) -> None:
    observe(program)
    ended = program.run("run", "--once")
    assert ended.returncode == 3
    assert "observed: decided, and not written" in ended.stdout
    assert requests(program, "PATCH", "POST", "PUT", "DELETE") == 0
    assert requests(program, "GET") == len(KEYS)
    assert statuses(program) == {"observed": len(KEYS)}
    assert not (program.folder / "events.jsonl.outcomes").exists()
    assert "would write" in program.say("docs", "list")
    assert "only observed" in program.say("explain", KEYS[0])
    assert "would_write" in program.say("audit", "list")
    program.say("audit", "verify")


def test_what_was_observed_is_adopted_when_it_is_written(program: Program) -> None:
    """An edit that a person made meanwhile, after the event, stands: nobody had agreed on another value."""
    observe(program)
    program.run("run", "--once")
    program.edit(KEYS[0], title="Lid")
    program.reconfigure('write = "observe"', 'write = "all"')
    program.run("run", "--once")
    assert program.document(KEYS[0])["title"] == "Lid"
    assert [program.document(key)["title"] for key in KEYS[1:]] == ["Cover"] * (len(KEYS) - 1)
    assert statuses(program) == {"synced": len(KEYS)}


def test_a_larger_share_contains_the_smaller_one(program: Program) -> None:
    written: set[str] = set()
    observe(program, "canary", 'documents = ["000000000*"]\npercent = 0')
    for percent, before in ((30, 0), (60, 30), (100, 60)):
        program.reconfigure(f"percent = {before}", f"percent = {percent}")
        program.run("run", "--once")
        now = {key for key in KEYS if program.document(key)["title"] == "Cover"}
        assert written <= now
        assert len(now) + statuses(program).get("observed", 0) == len(KEYS)
        written = now
    assert written == set(KEYS[:9])  # the globs do not cover the last one


def test_a_difference_that_stays_is_recorded_once(program: Program) -> None:
    observe(program)
    for _ in range(3):
        program.run("run", "--once")
        program.say("docs", "compare", *KEYS)
    assert len(program.json("audit", "list")) == len(KEYS)


def test_the_report_compares_with_what_people_did(program: Program) -> None:
    observe(program)
    program.run("run", "--once")
    program.edit(KEYS[0], title="Cover")  # by hand what we would have done
    program.edit(KEYS[1], title="Lid")
    program.say("docs", "compare", *KEYS)
    program.run("run", "--once")
    rows = {(row["document"], row["field"]): row for row in program.json("observed")}
    titles = {key: rows[key, "title"]["meanwhile"] for key in KEYS}
    assert titles == {KEYS[0]: "same", KEYS[1]: "other"} | dict.fromkeys(KEYS[2:], "open")
    assert (rows[KEYS[1], "title"]["ours"], rows[KEYS[1], "title"]["now"]) == ("Cover", "Lid")
    said = program.say("observed")
    assert "People wrote another value" in said
    assert KEYS[1] in said
    assert KEYS[2] not in said
