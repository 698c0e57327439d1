"""Alerts, runbook and dashboard: they speak of metrics that exist, and the alerts do what they say."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.adapters.metrics import CATALOG, PREFIX
from reconciler.core.explain.notices import Kind
from tests.nodes import texts
from tests.patience import HANG_S

ROOT = Path(__file__).parent.parent.parent
ALERTS = (ROOT / "deploy/alerts.yml").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
CASES = Path(__file__).parent / "alerts.test.yml"
DASHBOARD = json.loads((ROOT / "deploy/grafana.json").read_text(encoding="utf-8"))
_SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
KNOWN = {PREFIX + metric.name + suffix: metric for metric in CATALOG for suffix in _SUFFIXES[metric.kind]}
METRIC = re.compile(rf"\b({PREFIX}\w+)(?:\{{([^}}]*)\}})?")
GIVEN = {"instance", "le"}  # by Prometheus itself, and by histograms


def alerts() -> dict[str, str]:
    """Each alert's text, by name."""
    pieces = re.split(r"^      - alert: (\w+)$", ALERTS, flags=re.MULTILINE)[1:]
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


def promtool() -> str:
    own = Path(sys.prefix) / "promtool/usr/bin/promtool"
    found = str(own) if own.exists() else shutil.which("promtool")
    if found is None:
        missing = "there is no promtool (Debian's package prometheus; `scripts/real-parts` gets it)"
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def run(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [promtool(), *map(str, arguments)], check=False, capture_output=True, text=True, timeout=HANG_S
    )
    return done.returncode, done.stdout + done.stderr


def unknown(expression: str) -> list[str]:
    """What an expression says of metrics that there are not, or of labels that they have not."""
    wrong = []
    for name, selector in METRIC.findall(expression):
        if name not in KNOWN:
            wrong.append(name)
            continue
        labels = set(re.findall(r"(\w+)\s*[=!]", selector))
        wrong += [f"{name}{{{label}}}" for label in labels - GIVEN - set(KNOWN[name].labels)]
    return wrong


def test_the_rules_are_rules() -> None:
    status, said = run("check", "rules", ROOT / "deploy/alerts.yml")
    assert status == 0, said
    assert f"{len(alerts())} rules found" in said


def test_every_alert_fires_when_it_should_and_not_before() -> None:
    status, said = run("test", "rules", CASES)
    assert status == 0, said


def test_every_alert_is_tested_both_ways() -> None:
    cases = CASES.read_text(encoding="utf-8")
    quiet = set(re.findall(r"alertname: (\w+), exp_alerts: \[\]", cases))
    fired = set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n", cases))
    assert quiet == fired == set(alerts())


@pytest.mark.parametrize("expression", [*alerts().values(), *texts(DASHBOARD, "expr")])
def test_what_every_replica_exports_is_not_added_up_over_them(expression: str) -> None:
    for name in ("documents", "dead_letters", "oldest_pending_seconds", "log_lag"):
        for found in re.finditer(rf"\b{PREFIX}{name}\b", expression):
            before = expression[: found.start()]
            assert re.search(r"max(?: by \(namespace, job[\w, ]*\) |)\((?:count by \([^)]*\) \()?$", before) or (
                before.endswith("!= ")  # the second side of a comparison with itself
            ), expression


@pytest.mark.parametrize("name", alerts())
def test_an_alert_speaks_of_metrics_that_exist_and_says_what_it_is(name: str) -> None:
    text = alerts()[name]
    assert METRIC.search(text)
    assert unknown(text) == []
    assert re.search(r"severity: (critical|warning)$", text, re.MULTILINE)
    assert re.search(r"summary: \S", text)
    assert re.search(r"description: \S", text)
    assert f"runbook_url: docs/runbook.md#{name.lower()}\n" in text


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    chapter = RUNBOOK.partition("## Alerts\n")[2].partition("\n## ")[0]
    assert re.findall(r"^### (\w+)$", chapter, re.MULTILINE) == list(alerts())


def test_the_runbook_has_a_line_for_each_notification() -> None:
    table = RUNBOOK.partition("## Notifications\n")[2]
    lines = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert {name for line in lines for name in re.findall("`([^`]+)`", line)} == set(Kind)


def test_links_within_the_runbook_lead_to_its_sections() -> None:
    titles = re.findall(r"^#+ (.+)$", RUNBOOK, re.MULTILINE)
    headings = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK)) <= headings


def test_the_dashboard_shows_metrics_that_exist_and_every_one_of_them() -> None:
    expressions = texts(DASHBOARD, "expr")
    assert [wrong for expression in expressions for wrong in unknown(expression)] == []
    shown = METRIC.findall(" ".join([*expressions, *texts(DASHBOARD, "query")]))
    assert {KNOWN[name].name for name, _ in shown} == {metric.name for metric in CATALOG}


def test_every_expression_of_the_dashboard_is_one(tmp_path: Path) -> None:
    rules = {"groups": [{"name": "g", "rules": []}]}
    for number, expression in enumerate(texts(DASHBOARD, "expr")):
        plain = expression.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$instance", ".*")
        rules["groups"][0]["rules"].append({"record": f"panel:{number}", "expr": plain})
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps(rules), encoding="utf-8")
    status, said = run("check", "rules", file)
    assert status == 0, said


def test_the_dashboard_can_be_imported_anywhere() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert set(texts(panels, "uid")) == {"${datasource}"}
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"datasource", "instance"}
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not taken & cells, f"{panel['title']} lies over another panel"
        taken |= cells
