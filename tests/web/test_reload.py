"""The real program reloading its policy on SIGHUP while it works on the simulated Windchill."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Settings
from tests.cli.program import Program, event
from tests.web.test_program import Daemon, started, until

DOC, OTHER = "0000000001", "0000000002"
IN_FORCE = "policy reloaded"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with Simulator(Settings(port=0, documents=5)) as simulator:
        yield Program(tmp_path, simulator.url)


def hang_up(daemon: Daemon) -> None:
    daemon.process.send_signal(signal.SIGHUP)


def said(daemon: Daemon, event: str) -> dict[str, Any]:
    return dict(until(lambda: daemon.heard(event)))


def count(daemon: Daemon, result: str) -> bool:
    return f'policy_reloads_total{{result="{result}"}} 1.0' in daemon.get("/metrics").text


def hold_the_title(program: Program, daemon: Daemon) -> None:
    """Let both sides move a field whose overlap is held."""
    program.emits(DOC, "--set", "title=ours")
    until(lambda: program.document(DOC)["title"] == "ours")
    program.edit(DOC, title="theirs")
    program.emits(DOC, "--set", "title=ours again")
    until(lambda: daemon.get("/api/v1/conflicts").json()["items"])


def test_a_new_policy_turns_a_held_conflict_into_a_write(program: Program) -> None:
    with started(program) as daemon:
        before = daemon.get("/api/v1/policy").json()
        hold_the_title(program, daemon)
        with program.config.open("a", encoding="utf-8") as config:
            config.write('[[policy]]\nfields = ["title"]\nstrategy = "external"\n')
        hang_up(daemon)
        until(lambda: program.document(DOC)["title"] == "ours again")
        told = said(daemon, IN_FORCE)
        assert told["added"] == ["title: external"]
        assert (told["removed"], told["changed"], told["before"]) == ([], [], before["digest"])
        after = daemon.get("/api/v1/policy").json()
        assert after["digest"] == told["digest"]
        assert after["rules"][-1]["fields"] == ["title"]
        until(lambda: not daemon.get("/api/v1/conflicts").json()["items"])
        newest = daemon.get(f"/api/v1/documents/{DOC}/audit").json()["items"][0]
        assert (newest["policy"], newest["result"], newest["cause"]) == (told["digest"], "written", "resync")
        settings = daemon.get("/api/v1/config").json()["items"]
        assert {"section": "policy[5]", "key": "strategy", "value": "external", "origin": "file"} in settings
        assert count(daemon, "loaded")
        daemon.stop()
    program.say("audit", "verify")  # the policy is in the store under the digest that the records name


def test_a_policy_that_cannot_be_used_leaves_the_old_one_in_force(program: Program) -> None:
    with started(program) as daemon:
        digest = daemon.get("/api/v1/policy").json()["digest"]
        whole = program.config.read_text(encoding="utf-8")
        program.reconfigure('strategy = "preserve"', 'strategy = "perserve"\nfeilds = 1')
        hang_up(daemon)
        told = said(daemon, "can't reload the policy; the old one stays in force")
        assert "policy[2].strategy" in told["reason"]
        assert "policy[2].feilds: unknown key" in told["reason"]
        assert count(daemon, "refused")
        assert "reconciler_policy_refused 1.0" in daemon.get("/metrics").text
        assert daemon.get("/api/v1/policy").json()["digest"] == digest
        program.config.write_text(whole, encoding="utf-8")
        hang_up(daemon)
        said(daemon, "policy reloaded, no change")
        assert "reconciler_policy_refused 0.0" in daemon.get("/metrics").text
        program.emits(DOC, "--set", "status=RELEASED")
        until(lambda: program.document(DOC)["status"] == "RELEASED")
        daemon.stop()


def test_other_settings_are_named_and_wait_for_a_restart(program: Program) -> None:
    with started(program) as daemon:
        program.reconfigure("backoff_base_s = 0.05", "backoff_base_s = 0.06\ncooldown_base_s = 61")
        hang_up(daemon)
        told = said(daemon, "other settings have changed too; restart to use them")
        assert told["settings"] == ["retry.backoff_base_s", "retry.cooldown_base_s"]
        shown = {(one["section"], one["key"]): one["value"] for one in daemon.get("/api/v1/config").json()["items"]}
        assert shown["retry", "cooldown_base_s"] == 60.0
        daemon.stop()


def test_who_may_set_a_field_changes_with_the_policy(program: Program) -> None:
    said_by_mes = event(DOC, "//mes/line", {"attributes.Secret": "x"})
    with started(program) as daemon:
        send = {"headers": {"content-type": "application/cloudevents+json"}, "timeout": 10}
        address = f"{daemon.address}/api/v1/events"
        assert httpx.post(address, content=json.dumps(said_by_mes), **send).status_code == 422
        program.reconfigure('sources = ["//erp/*", "//kafka/*"]', 'sources = ["//erp/*", "//mes/*"]')
        hang_up(daemon)
        assert said(daemon, IN_FORCE)["changed"] == ["attributes.Secret: sources //erp/*+//kafka/* → //erp/*+//mes/*"]
        assert httpx.post(address, content=json.dumps(said_by_mes), **send).status_code == 202
        until(lambda: program.document(DOC)["attributes"].get("Secret") == "x")
        assert daemon.get("/api/v1/dead-letters").json()["items"] == []
        daemon.stop()


def test_a_changed_policy_file_is_taken_up_without_a_signal(program: Program) -> None:
    """It changes as in Kubernetes: a link leads to another folder from one moment to the next."""
    mounted = program.folder / "mounted"
    mounted.mkdir()

    def mount(name: str, text: str) -> None:
        (mounted / name).mkdir()
        (mounted / name / "policy.toml").write_text(text, encoding="utf-8")
        (mounted / "fresh").symlink_to(name)
        (mounted / "fresh").rename(mounted / "..data")

    whole = program.config.read_text(encoding="utf-8")
    settings, _, rules = whole.partition("[[policy]]")
    mount("1", f"[[policy]]{rules}")
    (mounted / "policy.toml").symlink_to("..data/policy.toml")
    program.config.write_text(f'policy_file = "{mounted}/policy.toml"\n{settings}', encoding="utf-8")
    with started(program) as daemon:
        hold_the_title(program, daemon)
        mount("2", f'[[policy]]{rules}[[policy]]\nfields = ["title"]\nstrategy = "external"\n')
        until(lambda: program.document(DOC)["title"] == "ours again")
        assert said(daemon, IN_FORCE)["added"] == ["title: external"]
        (mounted / "policy.toml").unlink()
        told = said(daemon, "can't reload the policy; the old one stays in force")
        assert told["reason"].endswith("policy.toml: can't be read: No such file or directory")
        (mounted / "policy.toml").symlink_to("..data/policy.toml")
        said(daemon, "policy reloaded, no change")
        daemon.stop()


def test_a_hangup_before_the_log_is_open_waits_and_ends_nothing(program: Program) -> None:
    """Until now it would have ended the process: that is what SIGHUP does where no one listens for it."""
    program.reconfigure(f'kind = "file"\npath = "{program.log}"', 'brokers = ["127.0.0.1:9"]')
    with started(program, after="listening") as daemon:
        until(lambda: daemon.probe("/readyz")[1]["status"] in {"recovering", "connecting"})
        hang_up(daemon)
        assert daemon.probe("/livez")[0] == 200
        daemon.stop()
