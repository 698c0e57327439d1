"""
Where the processor time of each side goes, by package, from what py-spy has seen.

    pip install py-spy
    py-spy record --subprocesses --rate 100 --format raw --output seen.txt -- python -m benchmarks engine --rounds 1
    python -m benchmarks.layers seen.txt benchmarks.engine.engine=726

A side is named by its module and function; the number is its processor time for each piece of work in µs, as the
benchmark printed it. A sample counts for the innermost package of ours, or of a library, that is running: what Python's
own library or one in C does counts for its caller.
"""

import collections
import re
import sys
from pathlib import Path

_SIDE = re.compile(r"benchmarks\.side (\S+ \S+)")
_PACKAGE = re.compile(r"\((?:\S*site-packages/)?(?:reconciler/((?:core/|adapters/(?=sqlite|wrs))?\w+)|(\w+)(?:/|\.py))")
_OUTSIDE = ("importlib", "digest_of", "export_projection", "<module> (reconciler")  # before and after what is measured
_SHOWN_MIN = 0.01


def main() -> None:
    """Print a table for each side that is named."""
    path, *named = sys.argv[1:]
    each_us = {side: float(number) for side, _, number in (one.partition("=") for one in named)}
    seen: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        stack, _, count = line.rpartition(" ")
        side = _SIDE.search(stack)
        if side and not any(word in stack for word in _OUTSIDE):
            seen[side[1].replace(" ", ".")][_package(stack)] += int(count)
    for name, number in each_us.items():
        print(f"\n{name}: {number:.1f} µs")
        for package, samples in seen[name].most_common():
            share = samples / seen[name].total()
            if share >= _SHOWN_MIN:
                print(f"  {package:<24} {share * number:>6.1f} µs  {share:>4.0%}")


def _package(stack: str) -> str:
    for frame in reversed(stack.split(";")):
        found = _PACKAGE.search(frame)
        if found and (found[1] or found[2] not in sys.stdlib_module_names):
            return found[1] or found[2]
    return "python"


if __name__ == "__main__":
    main()
