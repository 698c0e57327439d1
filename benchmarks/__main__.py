"""`python -m benchmarks [NAME|all] [--rounds N] [--write]`."""

import argparse
import importlib

from benchmarks import measure, report

_MODULES = {
    "fold-file": "fold_file",
    "fold-kafka": "fold_kafka",
    "engine": "engine",
    "latency": "latency",
    "bytes": "bytes",
    "million": "million",
    "replicas": "replicas",
}
# Half an hour and some gigabytes: only when asked for by name.
_LONG = {"backlog": "backlog", "growth": "growth"}


def main() -> int:
    """Run what was asked for; 0 when every target was met, 1 when one was not."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="What the program costs, as ratios.")
    parser.add_argument("name", nargs="?", default="all", choices=[*_MODULES, *_LONG, "all"])
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is measured")
    parser.add_argument("--write", action="store_true", help="put what was found into benchmarks/RESULTS.md")
    given = parser.parse_args()
    print(measure.machine())
    reports = []
    for name in _MODULES if given.name == "all" else [given.name]:
        print(f"\n{name}")
        measure.await_calm(print)
        reports.append(importlib.import_module(f"benchmarks.{(_MODULES | _LONG)[name]}").run(given.rounds, print))
        report.print_out(reports[-1])
        if given.write:
            report.write(reports[-1:])
    return 0 if all(one.met for one in reports) else 1


if __name__ == "__main__":
    raise SystemExit(main())
