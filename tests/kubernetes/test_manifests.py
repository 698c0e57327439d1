"""Each overlay, and the customer's of docs/kubernetes.md, before a real API server; and mistakes that it refuses."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import absences
from tests.kubernetes import cluster
from tests.kubernetes.cluster import ROOT, Cluster, Refused

pytestmark = pytest.mark.slow

MANIFESTS = ROOT / "deploy" / "kubernetes"
WORKLOADS = {"sqlite": "StatefulSet", "postgres": "Deployment", "customer": "Deployment", "plant-1": "StatefulSet"}
SHOWN = re.compile(r"^`([\w./-]+)`:\n\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LABEL = "app.kubernetes.io/name: windchill-reconciler"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where each overlay is; the customer's is written from the page that shows it."""
    customers = tmp_path_factory.mktemp("customer")
    (customers / "windchill-reconciler").symlink_to(ROOT)
    page = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
    shown = SHOWN.findall(page)
    assert {"kustomization.yaml", "reconciler.toml", "policy.toml"} <= {name for name, _ in shown}
    for name, text in shown:
        (customers / name).write_text(text, encoding="utf-8")
    plant = customers / "plant-1"
    plant.mkdir()
    for name, text in SHOWN.findall((ROOT / "docs/howto.md").read_text(encoding="utf-8")):
        (customers / name).write_text(text, encoding="utf-8")
    return {
        "plant-1": plant,
        "sqlite": MANIFESTS / "overlays/sqlite",
        "postgres": MANIFESTS / "overlays/postgres",
        "customer": customers,
    }


@pytest.fixture(scope="module")
def api(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Iterator[Cluster]:
    """A server that has the overlays' namespaces, which comes first in each; all else is only tried."""
    parts = cluster.parts()
    if parts is None:
        absences.note(request.config, "the Kubernetes manifests (no Go) were not tested")
        pytest.skip("there is no Go to build an API server with")
    with cluster.running(parts) as running:
        for folder in folders.values():
            namespace = running.render(folder).partition("\n---\n")[0]
            assert "kind: Namespace\n" in namespace
            running.kubectl("apply", "--server-side", "-f", "-", given=namespace)
        yield running


def kinds(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in found if one["kind"] == kind]


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    """The pod that a controller would make of a workload."""
    spec = workload["spec"]["jobTemplate"]["spec"] if workload["kind"] == "CronJob" else workload["spec"]
    template, claims = spec["template"], spec.get("volumeClaimTemplates", [])
    names = [claim["metadata"]["name"] for claim in claims]
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": f"{name}-0"}} for name in names]
    name = {"name": "tried", "namespace": workload["metadata"]["namespace"]}
    spec = template["spec"] | {"volumes": [*template["spec"]["volumes"], *volumes]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"] | name, "spec": spec}


@pytest.mark.parametrize("name", WORKLOADS)
def test_an_overlay_is_admitted_without_a_warning_and_its_pods_too(
    name: str, api: Cluster, folders: dict[str, Path]
) -> None:
    found, warned = api.tried(api.render(folders[name]))
    assert warned == ""
    (workload,) = kinds(found, WORKLOADS[name])
    (pod,), warned = api.tried(json.dumps(pod_of(workload)))
    assert warned == ""
    assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_monitoring_is_admitted(api: Cluster, folders: dict[str, Path]) -> None:
    found, _ = api.tried(api.render(folders["customer"]))
    (rule,), (monitor,) = kinds(found, "PrometheusRule"), kinds(found, "ServiceMonitor")
    alerts = re.findall(r"- alert: (\w+)", (ROOT / "deploy/alerts.yml").read_text(encoding="utf-8"))
    assert [one["alert"] for group in rule["spec"]["groups"] for one in group["rules"]] == alerts
    (service,) = kinds(found, "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    dashboards = [one for one in kinds(found, "ConfigMap") if one["metadata"]["name"].endswith("-dashboard")]
    shown = json.loads(dashboards[0]["data"]["windchill-reconciler.json"])
    assert shown == json.loads((ROOT / "deploy/grafana.json").read_text(encoding="utf-8"))


def test_the_backup_that_the_page_on_recovery_shows_is_admitted(api: Cluster) -> None:
    page = (ROOT / "docs/recovery.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(apiVersion: batch.*?)```", page, re.DOTALL)
    (job,), warned = api.tried(shown)
    assert (job["kind"], warned) == ("CronJob", "")
    (pod,), warned = api.tried(json.dumps(pod_of(job)))
    assert warned == ""
    (state,) = [one["persistentVolumeClaim"] for one in pod["spec"]["volumes"] if one["name"] == "state"]
    rendered = api.render(MANIFESTS / "overlays/sqlite")
    (workload,) = kinds(api.tried(rendered)[0], "StatefulSet")
    (claim,) = workload["spec"]["volumeClaimTemplates"]
    assert state["claimName"] == f"{claim['metadata']['name']}-{workload['metadata']['name']}-0"
    with pytest.raises(Refused, match="snapshott"):
        api.tried(shown.replace("restartPolicy", "snapshott"))


def test_settings_are_rolled_out_and_a_policy_is_not(api: Cluster, folders: dict[str, Path], tmp_path: Path) -> None:
    def sources(folder: Path) -> list[str]:
        (workload,) = kinds(api.tried(api.render(folder))[0], "Deployment")
        (config,) = [one for one in workload["spec"]["template"]["spec"]["volumes"] if one["name"] == "config"]
        return [one["configMap"]["name"] for one in config["projected"]["sources"]]

    settings, policy = sources(folders["customer"])
    for file in folders["customer"].iterdir():
        target = tmp_path / file.name
        if file.is_symlink():
            target.symlink_to(ROOT)
        elif file.is_file():  # the folder in it is another customer's
            target.write_text(f"{file.read_text(encoding='utf-8')}\n# changed\n", encoding="utf-8")
    settings_then, policy_then = sources(tmp_path)
    assert settings_then != settings
    assert policy_then == policy


MISTAKES = [
    ("sqlite", "readOnlyRootFilesystem: true", "readOnlyRootFilesystm: true", "readOnlyRootFilesystm"),
    ("postgres", f"  selector:\n    matchLabels:\n      {LABEL}\n  strategy", "  strategy", "spec.selector"),
    ("postgres", "unhealthyPodEvictionPolicy: AlwaysAllow", "unhealthyPodEvictionPolicy: Allways", "Allways"),
    ("postgres", 'lagThreshold: "50000"', "lagThreshold: 50000", "lagThreshold"),
    ("customer", "credentials:\n", "credential:\n", "credential"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[-1])
def test_a_mistake_is_refused_by_name(
    mistake: tuple[str, str, str, str], api: Cluster, folders: dict[str, Path]
) -> None:
    of, right, wrong, expected = mistake
    rendered = api.render(folders[of])
    assert right in rendered
    with pytest.raises(Refused, match=re.escape(expected)):
        api.tried(rendered.replace(right, wrong))


RIGHTS = [
    {"privileged": True, "allowPrivilegeEscalation": True},
    {"allowPrivilegeEscalation": True},
    {"runAsNonRoot": False},
]


@pytest.mark.parametrize("wrong", RIGHTS, ids=list)
def test_a_pod_with_more_rights_is_refused(wrong: dict[str, bool], api: Cluster, folders: dict[str, Path]) -> None:
    (workload,) = kinds(api.tried(api.render(folders["postgres"]))[0], "Deployment")
    pod = pod_of(workload)
    pod["spec"]["containers"][0]["securityContext"] |= wrong
    with pytest.raises(Refused, match='violates PodSecurity "restricted'):
        api.tried(json.dumps(pod))
