"""`python -m benchmarks.side MODULE NAME …`: one side of a measurement in a process of its own; prints its sample."""

import importlib
import json
import sys

import attrs


def main() -> None:
    """Run the side and print what it measured."""
    module, name, *arguments = sys.argv[1:]
    sample = getattr(importlib.import_module(module), name)(*arguments)
    print(json.dumps(attrs.asdict(sample)))


if __name__ == "__main__":
    main()
