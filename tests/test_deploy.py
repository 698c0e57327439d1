"""What the container files say must be what the program understands."""

import re
from pathlib import Path

from reconciler import config
from tests.brokers import apache

ROOT = Path(__file__).parent.parent
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def test_the_deployed_configuration_is_accepted_and_keeps_the_store_on_the_volume() -> None:
    deployed = config.load(ROOT / "deploy/reconciler.toml", {})
    assert deployed.store.path.parent == Path("/var/lib/reconciler")
    assert ":/var/lib/reconciler\n" in COMPOSE


def test_compose_makes_the_topics_that_the_configuration_names() -> None:
    log = config.load(ROOT / "deploy/reconciler.toml", {}).log
    listed = re.search(r"for topic in ([\w -]+);", COMPOSE)
    assert listed
    made = {f"windchill.document.{topic}" for topic in listed[1].split()}
    assert made == {log.topic, log.outcomes_topic, log.dead_letter_topic}


def test_compose_asks_for_health_where_the_daemon_answers() -> None:
    bind = config.load(ROOT / "deploy/reconciler.toml", {}).admin.bind
    asked = re.search(r'urlopen\("http://([^/]+)/readyz"', COMPOSE)
    assert asked
    assert asked[1] == bind


def test_compose_runs_the_kafka_that_the_tests_run_against() -> None:
    assert set(re.findall(r"image: apache/kafka:(\S+)", COMPOSE)) == {apache.version()}
