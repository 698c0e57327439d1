"""Reports: what a benchmark found, on the terminal and in `RESULTS.md`."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs

from benchmarks import measure
from benchmarks.measure import Figures, Sample

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
    """
    What one benchmark found. `short` says why a target is missed; it is shown only if one is. `sides` are shown with
    what each needed, in the order given.
    """

    name: str
    about: str
    findings: Sequence[Finding]
    notes: Sequence[str] = ()
    short: str = ""
    load: float = attrs.field(factory=measure.load)
    sides: Mapping[str, Sequence[Sample]] = attrs.field(factory=dict)

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
    for row in _table(report.sides):
        print(f"  {row[0]:<{max(map(len, report.sides))}}" + "".join(f"  {cell:>27}" for cell in row[1:]))
    for note in [*report.notes, *([report.short] if not report.met else [])]:
        print(f"  {note}")


def _table(sides: Mapping[str, Sequence[Sample]]) -> Iterator[list[str]]:
    """Yield a row of headings, and one for each side; none if there are no sides."""
    if sides:
        yield ["side", "a second", "processor, µs each", "peak memory, MiB", "disk, MB"]
    for name, samples in sides.items():
        yield [
            name,
            Figures.of([sample.rate for sample in samples]).shown(",.0f"),
            Figures.of([sample.cpu_us for sample in samples]).shown(".1f"),
            *(_most(samples, what, form) for what, form in (("rss_mib", ".0f"), ("disk_mb", ".1f"))),
        ]


def _most(samples: Sequence[Sample], what: str, form: str) -> str:
    return format(max(sample.more[what] for sample in samples), form) if what in samples[0].more else "–"


def write(reports: Iterable[Report]) -> None:
    """Put reports into `RESULTS.md`; the sections of benchmarks that were not run stay as they are."""
    sections = _sections(RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "")
    sections |= {report.name: section(report) for report in reports}
    RESULTS.write_text("\n".join([_INTRODUCTION, *(sections[name] for name in sorted(sections))]), encoding="utf-8")


def _sections(text: str) -> dict[str, str]:
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return {name: f"## {name}\n{body.rstrip()}\n" for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def section(report: Report) -> str:
    """Return a report as a section of `RESULTS.md`."""
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
            *_markdown(report.sides),
            *(f"\n{note}" for note in notes),
            "",
        ]
    )


def _markdown(sides: Mapping[str, Sequence[Sample]]) -> Iterator[str]:
    for number, row in enumerate(_table(sides)):
        yield ("" if number else "\n") + f"| {' | '.join(row)} |"
        if not number:
            yield "|---" * len(row) + "|"
