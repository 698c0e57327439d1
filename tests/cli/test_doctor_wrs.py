"""`doctor` on Windchill REST Services: what it reads, what it proves with --probe, and the report for us."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler import config
from reconciler.cli.doctor import wrs_probe
from tests.cli.program import Program

DOC, OTHER = "0000000001", "0000000002"
ACCOUNT = 'Integration, "Reconciler"'


@pytest.fixture
def wrs(program: Program) -> Program:
    program.log.touch()
    root = f'dialect = "wrs"\nbase_url = "{program.windchill}/Windchill/servlet/odata"'
    program.reconfigure(f'base_url = "{program.windchill}"', root)
    program.switch("wrs", display_names={"integration": ACCOUNT})
    return program


def script(program: Program, *faults: Any) -> None:
    """Say what becomes of the next PATCHes."""
    said = {"document": None, "method": "PATCH", "faults": faults}
    httpx.post(f"{program.windchill}/_control/script", json=said).raise_for_status()


def add(program: Program, lines: str) -> None:
    program.reconfigure("[windchill]\n", f"[windchill]\n{lines}\n")


def cycles(program: Program) -> list[str]:
    shown = httpx.get(f"{program.windchill}/_control/wrs/checkouts").raise_for_status().json()
    return [step["event"] for step in shown["items"]]


def copies(program: Program) -> list[Any]:
    return list(httpx.get(f"{program.windchill}/_control/wrs/working-copies").raise_for_status().json()["items"])


# ------------------------------------------------------------------------------------------------------------- reading


def test_without_a_probe_nothing_is_written(wrs: Program) -> None:
    rows = wrs.checks("--document", DOC)
    assert rows["lock"]["message"].startswith("by check-out")
    assert rows["type"]["message"].endswith("attributes, then Name, Number, Organization, then State")
    assert (rows["account"]["result"], "ETag" in rows) == ("warning", False)
    audit = httpx.get(f"{wrs.windchill}/_control/wrs/audit").json()
    assert (cycles(wrs), wrs.writes(), audit) == ([], 0, {"items": [], "issued": 0})


def test_a_named_account_is_no_warning(wrs: Program) -> None:
    add(wrs, 'account = "Integration"')
    assert wrs.checks("--document", DOC)["account"]["result"] == "ok"


def test_a_server_that_can_neither_check_out_nor_show_etags_fails(wrs: Program) -> None:
    wrs.switch("wrs", actions=[])
    assert wrs.checks("--document", DOC, code=1)["lock"]["result"] == "failed"
    wrs.switch("wrs", etags="strong", etag_in="header")
    assert wrs.checks("--document", DOC)["lock"]["result"] == "warning"
    add(wrs, "etag_proven = true")
    assert wrs.checks("--document", DOC)["lock"]["result"] == "ok"
    add(wrs, 'lock = "checkout"')
    assert wrs.checks("--document", DOC, code=1)["lock"]["result"] == "failed"


def test_a_server_that_wants_credentials_answers_though_no_document_is_named(wrs: Program) -> None:
    wrs.switch("behaviour", auth="basic")
    add(wrs, 'auth = "basic"\nusername = "integration"\npassword = "secret"')
    found = wrs.checks()["Windchill"]
    assert found["result"] == "warning"
    assert "answers; give --document" in found["message"]


def test_a_certificate_that_can_not_be_used_is_a_finding_like_any_other(wrs: Program, tmp_path: Path) -> None:
    add(wrs, f'ca_file = "{tmp_path / "missing.pem"}"')
    found = wrs.checks(code=1)
    assert found["log"]["result"] == "ok"
    assert found["Windchill"]["result"] == "failed"
    assert found["Windchill"]["message"].startswith(f"ca_file {tmp_path / 'missing.pem'} can't be used")


# ------------------------------------------------------------------------------------------------------------- probing


def test_what_a_probe_prints_can_be_loaded(wrs: Program, tmp_path: Path) -> None:
    said = wrs.say("doctor", "--probe", DOC)
    printed = said[said.index("[windchill]") : said.index("A report for us")]
    path = tmp_path / "printed.toml"
    path.write_text(printed, encoding="utf-8")
    loaded = config.load(path, {}).windchill
    found = (loaded.account, loaded.lock, loaded.etag_proven, loaded.time_filters)
    assert found == (ACCOUNT, "checkout", False, "time")


GUARDED = {"etags": "weak", "etag_in": "both", "if_match": "enforced", "patch_without_checkout": "accepted"}
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "etag proven": (GUARDED, {"lock": "checkout", "etag_proven": True}),
    "etag alone": ({**GUARDED, "actions": []}, {"lock": "etag", "etag_proven": True}),
    "small pages": ({"page_size_max": 7}, {"lock": "checkout", "page_size": 7}),
}


@pytest.mark.parametrize(("switches", "follows"), SETTINGS.values(), ids=SETTINGS)
def test_every_setting_that_can_follow_can_be_loaded(
    wrs: Program, tmp_path: Path, switches: dict[str, Any], follows: dict[str, Any]
) -> None:
    wrs.switch("wrs", **switches)
    report = wrs.json("doctor", "--probe", DOC)
    assert report["settings"]["windchill"] | follows == report["settings"]["windchill"]
    assert tomllib.loads(report["toml"]) == report["settings"]
    path = tmp_path / "printed.toml"
    path.write_text(report["toml"], encoding="utf-8")
    assert config.load(path, {}).windchill.lock == follows["lock"]


def test_polling_that_can_not_work_is_turned_off(wrs: Program) -> None:
    wrs.switch("wrs", next_link_base="http://elsewhere.example", page_size_max=7)
    assert wrs.json("doctor", "--probe", DOC)["settings"]["resync"] == {"poll_s": 0}


def test_what_is_going_to_be_done_is_said_before(wrs: Program) -> None:
    said = wrs.say("doctor", "--probe", DOC)
    assert said.index("So far nothing was changed") < said.index("✓ write without check-out")
    assert said.index("✓ ETags") < said.index("So far nothing was changed")
    ended = wrs.run("doctor", "--probe", DOC, "-o", "json")
    assert "going to check it out and undo that" in ended.stderr


def test_a_report_names_no_host_and_no_secret(wrs: Program) -> None:
    add(wrs, 'auth = "basic"\nusername = "integration"\npassword = "s3cret-password"')
    wrs.switch("behaviour", users={"integration": "s3cret-password"})
    body = '{"error":{"message":"see http://plm.inside.example:8080/x or 10.1.2.3, not 127.0.0.1"}}'
    script(wrs, {"status": 400, "headers": {"content-type": "application/json"}, "body": body})
    ended = wrs.run("doctor", "--probe", DOC, "-o", "json")
    assert "see https://…/x or …, not …" in ended.stdout
    for hidden in ("127.0.0.1", "plm.inside", "10.1.2.3", "s3cret", str(wrs.folder)):
        assert hidden not in ended.stdout
    assert '"auth": "basic"' in ended.stdout


def test_a_host_of_one_word_hides_no_other_words(wrs: Program) -> None:
    told = wrs.config.read_text(encoding="utf-8").replace("http://127.0.0.1", "http://localhost")
    wrs.config.write_text(told, encoding="utf-8")
    settings = config.load(wrs.config, {})
    hosts = wrs_probe._hosts(settings)
    assert hosts.sub("…", "localhost is a word, and host localhost:8080 is none") == (
        "localhost is a word, and host …:8080 is none"
    )
    far = Program(wrs.folder, "http://127.0.0.1:9/Windchill")
    far.config.write_text(told.replace(wrs.windchill.rpartition(":")[2], "9"), encoding="utf-8")
    ended = far.run("doctor", "--probe", DOC, "-o", "json")
    assert "reachable: no answer" in ended.stderr
    assert "localhost" not in ended.stdout


def test_a_document_of_ours_is_not_probed(wrs: Program) -> None:
    wrs.emits(DOC, "--set", "Title=ours")
    wrs.say("run", "--once")
    before = cycles(wrs)
    (found,) = wrs.json("doctor", "--probe", DOC, code=1)["findings"]
    assert (found["check"], found["result"]) == ("document", "failed")
    assert found["message"] == f"{DOC} is in the reconciler's store; take one that no one needs"
    assert cycles(wrs) == before
    wrs.say("writes", "stop", "--reason", "an emergency")
    assert "all writes are stopped" in wrs.say("doctor", "--probe", OTHER, code=1)
    wrs.say("writes", "resume")
    wrs.json("doctor", "--probe", OTHER)


def test_a_store_that_can_not_be_read_protects_every_document(wrs: Program) -> None:
    (wrs.folder / "state.db").write_bytes(b"no database at all" * 100)
    assert "the store can't be read" in wrs.say("doctor", "--probe", DOC, code=1)
    assert cycles(wrs) == []


def test_a_document_that_is_not_there_is_not_made(wrs: Program) -> None:
    said = wrs.say("doctor", "--probe", "no-such", code=1)
    assert "there is no document" in said
    assert "So far nothing was changed" not in said


def test_a_lock_that_does_not_hold_makes_the_exit_code_1(wrs: Program) -> None:
    wrs.switch("wrs", etags="weak", etag_in="both", patch_without_checkout="accepted")
    add(wrs, 'lock = "etag"\netag_proven = true')
    said = wrs.say("doctor", "--probe", DOC, code=1)
    assert "Don't let the reconciler write" in said
    assert "etag_proven = false" in said


def test_wrong_credentials_are_named_before_anything_is_sent(wrs: Program) -> None:
    wrs.switch("behaviour", auth="basic", unauthorized_body="html")
    assert "✗ credentials: refused" in wrs.say("doctor", "--probe", DOC, code=1)


def test_with_a_bearer_token_it_is_tried_whether_the_nonce_is_needed(wrs: Program) -> None:
    add(wrs, 'auth = "bearer"\ntoken = "simulated-token"')
    for needed in (True, False):
        wrs.switch("wrs", nonce_for_bearer=needed)
        found = {row["check"]: row for row in wrs.json("doctor", "--probe", DOC)["findings"]}
        assert found["write without a nonce"]["message"].startswith("refused" if needed else "accepted")
        assert len(httpx.get(f"{wrs.windchill}/_control/wrs/audit").json()["items"]) == 1, "of the first"
    assert copies(wrs) == []


def test_a_probe_goes_alone(wrs: Program) -> None:
    assert "can't be combined" in wrs.fails("doctor", "--probe", DOC, "--deep", code=2)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_undoes_the_check_out(wrs: Program) -> None:
    script(wrs, "ok", "slow")
    wrs.switch("faults", slow_ms=30_000, slow=0)
    command = [sys.executable, "-m", "reconciler", "doctor", "--probe", DOC, "-c", str(wrs.config)]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=wrs.folder, env=environ, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if "✓ undo" in line:
                break
        while not copies(wrs):
            pass
        running.send_signal(signal.SIGINT)
        assert running.wait(30) != 0
        rest = running.stdout.read()
    assert copies(wrs) == []
    assert "✓ put back" in rest
    assert "configuration that follows" not in rest
