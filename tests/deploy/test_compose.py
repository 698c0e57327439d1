"""
What the profiles of docker-compose.yml start, as far as it can be told without Docker.

Each service's files exist, its settings are accepted, what it waits for is started with it, and its scripts run.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import config
from reconciler.web.tokens import TokenFile
from tests.deploy.test_observing import run
from tests.patience import HANG_S

ROOT = Path(__file__).parent.parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
REPLICAS = [name for name in SERVICES if name.startswith("replica-")]
PROFILES = {"single": {"reconciler"}, "replicas": {*REPLICAS}}


def started(profile: str) -> dict[str, dict[str, Any]]:
    """Return the services that a profile starts: its own, and those without any."""
    return {name: one for name, one in SERVICES.items() if profile in one.get("profiles", [profile])}


def daemons(profile: str) -> set[str]:
    return {name for name, one in started(profile).items() if one.get("command", [""])[0] == "run"}


def test_each_profile_starts_its_own_reconcilers_and_the_default_is_a_single_one() -> None:
    assert {profile: daemons(profile) for profile in PROFILES} == PROFILES
    assert len(REPLICAS) == 3
    assert "COMPOSE_PROFILES=single\n" in (ROOT / ".env").read_text(encoding="utf-8")


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_service_waits_for_is_started_and_can_come(profile: str) -> None:
    known = started(profile)
    for name, one in known.items():
        for other, wanted in one.get("depends_on", {}).items():
            assert other in known, f"{name} waits for {other}, which {profile} does not start"
            if wanted["condition"] == "service_completed_successfully":
                assert known[other]["restart"] == "no"
            else:
                assert known[other]["healthcheck"]["test"]


def test_every_mounted_file_exists_and_every_volume_is_declared() -> None:
    for name, one in SERVICES.items():
        for volume in one.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"], (name, volume)


def test_no_port_is_open_to_others_or_taken_twice() -> None:
    ports = [port.split(":") for one in SERVICES.values() for port in one.get("ports", [])]
    assert {host for host, _, _ in ports} == {"127.0.0.1"}
    assert len({port for _, port, _ in ports}) == len(ports)


@pytest.mark.parametrize("name", [*REPLICAS, "migration"])
def test_a_replicas_settings_are_accepted_and_lead_to_the_services_that_are_there(name: str, tmp_path: Path) -> None:
    environ = SERVICES[name]["environment"]
    loaded = config.load(ROOT / "deploy/reconciler.toml", environ)
    database = SERVICES["postgres"]["environment"]
    assert loaded.store.url == f"postgresql://{database['POSTGRES_USER']}@postgres:5432/{database['POSTGRES_DB']}"
    assert loaded.store.password == database["POSTGRES_PASSWORD"]
    assert [broker.split(":")[0] for broker in loaded.log.brokers] == ["kafka"]
    assert loaded.admin.tokens_file == "/var/lib/reconciler/tokens"
    assert loaded.admin.bind.endswith(":8090"), "the ports lead there"


def test_the_tokens_are_made_once_and_accepted(tmp_path: Path) -> None:
    entrypoint = SERVICES["tokens"]["entrypoint"]
    script = entrypoint[-1].replace("$$", "$").replace("/var/lib/reconciler", str(tmp_path))
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"

    def make() -> str:
        done = subprocess.run(
            [*entrypoint[:-1], script], env={"PATH": path}, check=True, capture_output=True, text=True, timeout=HANG_S
        )
        return done.stdout

    first = make()
    assert make() == first
    file = TokenFile((tmp_path / "tokens").read_text, "tokens")
    assert {(token.who.name, token.who.role.name.lower()) for token in file.tokens()} == {
        ("you", "admin"),
        ("prometheus", "viewer"),
    }
    assert first.split()[-1] == (tmp_path / "you").read_text().strip()
    assert {path.name for path in tmp_path.iterdir()} == {"tokens", "you", "prometheus"}


def test_prometheus_asks_each_replica_and_knows_the_alerts(tmp_path: Path) -> None:
    text = (ROOT / "deploy/compose/prometheus.yml").read_text(encoding="utf-8")
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert sorted(target.split(":")[0] for target in job["static_configs"][0]["targets"]) == sorted(REPLICAS)
    (tmp_path / "prometheus").write_text("token")
    text = text.replace("/run/tokens", str(tmp_path)).replace("/etc/prometheus", str(ROOT / "deploy"))
    (tmp_path / "prometheus.yml").write_text(text)
    status, said = run("check", "config", tmp_path / "prometheus.yml")
    assert status == 0, said


def test_grafana_gets_our_dashboard_and_a_source_of_the_kind_that_it_asks_for() -> None:
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    (provider,) = yaml.safe_load((ROOT / "deploy/compose/dashboards.yml").read_text(encoding="utf-8"))["providers"]
    assert Path(mounts["./deploy/grafana.json"]).parent == Path(provider["options"]["path"])
    (source,) = yaml.safe_load((ROOT / "deploy/compose/grafana.yml").read_text(encoding="utf-8"))["datasources"]
    dashboard = json.loads((ROOT / "deploy/grafana.json").read_text(encoding="utf-8"))
    (asked,) = [one["query"] for one in dashboard["templating"]["list"] if one["type"] == "datasource"]
    assert source["type"] == asked
    assert re.fullmatch(r"http://prometheus:\d+", source["url"])
