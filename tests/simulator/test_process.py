"""The server as a program: how it starts, where it is, how it ends."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.simulator import seeds
from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Behaviour, Faults, Rivals, Settings
from reconciler.simulator.wrs.options import Wrs
from tests.patience import HANG_S

PROGRAM = [sys.executable, "-m", "reconciler.simulator"]


def started(**settings: Any) -> tuple["subprocess.Popen[bytes]", str]:
    given = json.dumps({"port": 0, "documents": 2, **settings})
    child = subprocess.Popen([*PROGRAM, given], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    word, url = child.stdout.readline().decode().split()
    assert word == "listening"
    return child, url


def ended(child: "subprocess.Popen[bytes]") -> int:
    """Its exit status; and it has said nothing more."""
    said, _ = child.communicate(timeout=HANG_S)
    assert said == b""
    return child.returncode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_even_with_a_connection_open(number: signal.Signals) -> None:
    child, url = started()
    with httpx.Client(base_url=url) as client:
        assert client.get("/documents/0000000001").status_code == 200
        child.send_signal(number)
        assert ended(child) == 0


def test_it_does_not_outlive_the_program_that_started_it() -> None:
    child, _ = started(until_stdin_closes=True)
    assert child.stdin is not None
    child.stdin.close()
    child.stdin = None
    assert ended(child) == 0


def test_a_base_path_comes_before_every_path_but_the_control_apis() -> None:
    chosen = {"faults": {"unavailable": 1}, "behaviour": {"etag": "weak"}}
    child, url = started(base_path="/Windchill/rest/", **chosen)
    assert httpx.get(f"{url}/Windchill/rest/documents/0000000001").status_code == 503
    assert httpx.put(f"{url}/_control/faults", json={}).status_code == 200
    assert httpx.get(f"{url}/Windchill/rest/documents/0000000001").headers["ETag"] == 'W/"v1.1.1"'
    assert httpx.get(f"{url}/documents/0000000001").status_code == 404
    child.terminate()
    assert ended(child) == 0


@pytest.mark.parametrize(
    "given",
    [
        *('{"faults": {"lost": 1}}', "{", '{"rivals": {"per_second": -1}}', '{"wrs": {"etags": 1}}'),
        *('{"documents": -1}', '{"documants": 1}'),
    ],
)
def test_a_mistaken_setting_is_one_line_and_status_2(given: str) -> None:
    ended = subprocess.run([*PROGRAM, given], capture_output=True, timeout=HANG_S, check=False)
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert len(ended.stderr.splitlines()) == 1


def test_documents_can_come_from_a_file(tmp_path: Path) -> None:
    seed = tmp_path / "documents.jsonl"
    given = {"id": "WT-7", "owner": "a", "modifiedOn": "2026-01-01T12:00:00+02:00", "modifiedBy": "b"}
    seed.write_text(json.dumps(given) + "\n\n" + json.dumps({"id": "WT-8"}) + "\n")
    with Simulator(Settings(port=0, seed_file=seed)) as running:
        reply = httpx.get(f"{running.url}/documents/WT-7")
        assert reply.json() == given
        assert reply.headers["Last-Modified"] == "Thu, 01 Jan 2026 10:00:00 GMT"
        assert httpx.get(f"{running.url}/documents/WT-8").json().keys() == {"id", "modifiedBy", "modifiedOn"}


def test_the_settings_of_a_started_simulator_arrive_whole() -> None:
    settings = Settings(
        port=0,
        documents=3,
        seed=9,
        base_path="/x",
        history_max=5,
        behaviour=Behaviour(etag="gzip", set_back_fields={"status": ["X", None]}),
        faults=Faults(lost_reply=0.25, retry_after_s=None),
        rivals=Rivals(per_second=0, users=("akim",), documents=("0000000001",)),
        wrs=Wrs(checkout_conflict=423, transitions={"INWORK": []}, page_size=2),
    )
    running = Simulator(settings)
    url = running.start()
    assert httpx.get(f"{url}/_control/behaviour").json()["set_back_fields"] == {"status": ["X", None]}
    assert httpx.get(f"{url}/_control/faults").json()["lost_reply"] == 0.25
    assert httpx.get(f"{url}/_control/faults").json()["retry_after_s"] is None
    assert httpx.get(f"{url}/_control/rivals").json()["documents"] == ["0000000001"]
    switches = httpx.get(f"{url}/_control/wrs").json()
    page = httpx.get(f"{url}/x/Windchill/servlet/odata/DocMgmt/Documents").json()
    assert [len(httpx.get(page["@odata.nextLink"]).json()["value"]), len(page["value"])] == [1, 2]
    assert (switches["checkout_conflict"], switches["transitions"]) == (423, {"INWORK": []})
    assert running.stop() == 0
    assert running.stop() == 0


def test_a_simulator_that_cannot_start_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="did not start"):
        Simulator(Settings(port=0, seed_file=tmp_path / "missing.jsonl")).start()


def test_the_same_seed_gives_the_same_documents() -> None:
    first, second = (list(seeds.generated(5, seed=4)) for _ in range(2))
    assert first == second
