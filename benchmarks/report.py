"""Reports: what a benchmark found, on the terminal and in `RESULTS.md`."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs

from benchmarks import measure
from benchmarks.measure import Figures

_VERDICTS = {(False, True): "yes", (False, False): "no", (True, True): "–"}
RESULTS = Path(__file__).with_name("RESULTS.md")

_INTRODUCTION = """\
# Results

Last results of `make bench` (`python -m benchmarks`), each a ratio to a rival measured in turn with it, in the same
run, in processes of their own. Figures are least / median / most over the rounds; the median counts. Numbers of other
machines differ; the ratios should not differ much.
"""


@attrs.frozen
class Finding:
    """One figure with its target. `at_least` false: the figure is to stay below the target."""

    what: str
    figures: Figures
    target: float | None = None
    at_least: bool = True
    form: str = ".2f"

    @property
    def met(self) -> bool:
        """Whether the median keeps the target; true when there is none."""
        if self.target is None:
            return True
        return self.figures.middle >= self.target if self.at_least else self.figures.middle <= self.target

    @property
    def shown_target(self) -> str:
        """The target, in words."""
        if self.target is None:
            return "–"
        return f"{'at least' if self.at_least else 'at most'} {self.target:g}"


@attrs.frozen
class Report:
    """What one benchmark found. `short` says why a target is missed; it is shown only if one is."""

    name: str
    about: str
    findings: Sequence[Finding]
    notes: Sequence[str] = ()
    short: str = ""
    load: float = attrs.field(factory=measure.load)

    @property
    def met(self) -> bool:
        """Whether every target is kept."""
        return all(finding.met for finding in self.findings)


def print_out(report: Report) -> None:
    """Print a report for people."""
    print(f"\n{report.name}: {report.about}")
    for finding in report.findings:
        verdict = "" if finding.target is None else "  ok" if finding.met else "  SHORT"
        print(f"  {finding.what}: {finding.figures.shown(finding.form)} (target: {finding.shown_target}){verdict}")
    for note in [*report.notes, *([report.short] if not report.met else [])]:
        print(f"  {note}")


def write(reports: Iterable[Report]) -> None:
    """Put reports into `RESULTS.md`; the sections of benchmarks that were not run stay as they are."""
    sections = _sections(RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "")
    sections |= {report.name: _section(report) for report in reports}
    RESULTS.write_text("\n".join([_INTRODUCTION, *(sections[name] for name in sorted(sections))]), encoding="utf-8")


def _sections(text: str) -> dict[str, str]:
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return {name: f"## {name}\n{body.rstrip()}\n" for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def _section(report: Report) -> str:
    today = datetime.now(UTC).date().isoformat()
    rows = [
        f"| {one.what} | {one.figures.shown(one.form)} | {one.shown_target} |"
        f" {_VERDICTS[one.target is None, one.met]} |"
        for one in report.findings
    ]
    notes = [*report.notes, *([f"**Short of its target:** {report.short}"] if not report.met else [])]
    return "\n".join(
        [
            f"## {report.name}\n",
            f"{report.about}\n",
            (
                f"`python -m benchmarks {report.name} --write`, {today}. {measure.machine()}."
                f" Load before: {report.load:.1f}.\n"
            ),
            "| figure | least / median / most | target | met |",
            "|---|---|---|---|",
            *rows,
            *(f"\n{note}" for note in notes),
            "",
        ]
    )
