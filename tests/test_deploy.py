"""What the container files say must be what the program understands."""

import re
import tomllib
from pathlib import Path

import pytest

from reconciler import __version__, app, config
from reconciler.adapters.sqlite import path_of
from tests.brokers import apache

ROOT = Path(__file__).parent.parent
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def test_the_deployed_configuration_is_accepted_and_keeps_the_store_on_the_volume() -> None:
    deployed = config.load(ROOT / "deploy/reconciler.toml", {})
    assert path_of(deployed.store.url).parent == Path("/var/lib/reconciler")
    assert ":/var/lib/reconciler\n" in COMPOSE


def test_compose_makes_the_topics_that_the_configuration_names() -> None:
    log = config.load(ROOT / "deploy/reconciler.toml", {}).log
    listed = re.search(r"for topic in ([\w -]+);", COMPOSE)
    assert listed
    made = {f"windchill.document.{topic}" for topic in listed[1].split()}
    assert made == {*log.read_topics, log.outcomes_topic, log.dead_letter_topic}


def test_compose_asks_for_health_where_the_daemon_answers() -> None:
    bind = config.load(ROOT / "deploy/reconciler.toml", {}).admin.bind
    asked = re.search(r'urlopen\("http://([^/]+)/readyz"', COMPOSE)
    assert asked
    assert asked[1] == bind


def test_compose_runs_the_kafka_that_the_tests_run_against() -> None:
    assert set(re.findall(r"image: apache/kafka:(\S+)", COMPOSE)) == {apache.version()}


def test_whoever_stops_the_program_waits_longer_than_it_takes_and_every_page_says_the_same() -> None:
    kubernetes = (ROOT / "deploy/kubernetes/base/deployment.yaml").read_text(encoding="utf-8")
    pages = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("kubernetes.md", "observing.md")]
    named = r"(?:terminationGracePeriodSeconds`?(?: is|:)|stop_grace_period:) (\d+)"
    graces = [int(given) for text in (kubernetes, COMPOSE, *pages) for given in re.findall(named, text)]
    assert len(graces) >= 4
    assert len(set(graces)) == 1
    assert graces[0] >= app.STOP_S_MAX + 10, "connections have to be closed, too"
    said = [int(given) for text in (kubernetes, *pages) for given in re.findall(r"takes (\d+) s(?:econds)?\b", text)]
    assert said == [app.STOP_S_MAX] * 3


@pytest.mark.parametrize("name", ["sqlite", "postgres"])
def test_the_configuration_in_kubernetes_is_accepted_and_fits_its_manifests(name: str, tmp_path: Path) -> None:
    folder = ROOT / "deploy/kubernetes"
    text = (folder / "overlays" / name / "reconciler.toml").read_text(encoding="utf-8")
    deployment = (folder / "base/deployment.yaml").read_text(encoding="utf-8")
    for path in ("/etc/reconciler", "/run/secrets/reconciler"):
        assert f"mountPath: {path}, readOnly: true" in deployment
        assert f'"{path}/' in text
    secret = tmp_path / "secret"
    secret.write_text("x" * 32, encoding="utf-8")
    there = re.sub(r'"/run/secrets/[^"]+"', f'"{secret}"', text)
    (tmp_path / "c.toml").write_text(there.replace("/etc/reconciler", str(folder / "base")), encoding="utf-8")
    deployed = config.load(tmp_path / "c.toml", {})
    assert deployed.policy.rules
    port = deployed.admin.bind.rpartition(":")[2]
    assert f"containerPort: {port}\n" in deployment
    scaled = (folder / "overlays/postgres/scaledobject.yaml").read_text(encoding="utf-8")
    for value in (*deployed.log.brokers, deployed.log.group, deployed.log.topic):
        assert re.search(rf": {value}\b", scaled)
    if name == "sqlite":
        mounted = (folder / "overlays/sqlite/statefulset.yaml").read_text(encoding="utf-8")
        assert f"mountPath: {path_of(deployed.store.url).parent}}}" in mounted


def locked(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return what a lock has: package → its version and the hashes of its files."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    pins = {line: re.match(r"([a-z0-9._-]+)(?:\[[a-z,-]+\])?==(\S+)", line) for line in lines}
    assert all(pins.values()), f"{name} has a line that pins nothing"
    return {pin[1]: (pin[2], frozenset(re.findall(r"--hash=(\S+)", line))) for line, pin in pins.items() if pin}


def test_every_locked_package_has_hashes_and_image_and_benchmarks_have_what_was_tested() -> None:
    tested = locked("requirements.lock")
    for packages in (tested, locked("requirements-image.lock"), locked("requirements-build.lock")):
        assert all(hashes for _, hashes in packages.values())
        assert packages.items() <= tested.items(), "run make lock"
    peers = locked("requirements-bench.lock")
    assert all(hashes for _, hashes in peers.values())
    ours = {name: pin for name, pin in peers.items() if name in tested and name != "confluent-kafka"}
    assert ours.items() <= tested.items(), "run make lock"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = {re.split(r"[^A-Za-z0-9._-]", one)[0] for one in (*project["dependencies"], *extras["simulator"])}
    assert needed <= locked("requirements-image.lock").keys(), "run make lock"


def test_every_installation_compares_hashes_or_fetches_nothing() -> None:
    for name in ("Dockerfile", "scripts/venv"):
        text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
        installs = re.findall(r"pip [^&\n]*\binstall [^&\n]*", text)
        assert len(installs) >= 2
        assert all("--require-hashes" in install or "--no-index" in install for install in installs), installs


def test_the_changelog_begins_with_the_version_of_the_program() -> None:
    first = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first is not None
    assert first[1] == __version__
