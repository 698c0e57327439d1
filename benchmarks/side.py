"""`python -m benchmarks.side MODULE NAME …`: one side of a measurement in a process of its own; prints its sample."""

import importlib
import json
import os
import sys
import traceback
from types import TracebackType
from typing import NoReturn

import attrs


def main() -> None:
    """Run the side and print what it measured."""
    sys.excepthook = _fail
    module, name, *arguments = sys.argv[1:]
    sample = getattr(importlib.import_module(module), name)(*arguments)
    print(json.dumps(attrs.asdict(sample)))


def _fail(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> NoReturn:
    """End at once: the thread of a store that was left open would keep the process alive."""
    traceback.print_exception(kind, error, trace)
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    main()
