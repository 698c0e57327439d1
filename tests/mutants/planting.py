"""
The pytest plugin that loads a mistaken source in place of one module: `-p tests.mutants.planting`.

The environment tells it what to plant, since it has to work before anything of the program is imported.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import resource
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path

import hypothesis
import pytest

MODULE, SOURCE = "MUTANT_MODULE", "MUTANT_SOURCE"  # a module's dotted name, and the file with its mistaken text
CPU_S_MAX, CPU_S_USED = "MUTANT_CPU_S_MAX", "MUTANT_CPU_S_USED"  # the limit, and the file that tells what was used
PROFILE = "mutants"
_MEMORY_BYTES_MAX = 6 * 1024**3
NOT_LOADED = 70  # exit status when no test has imported the module: then it was not tested

# Always the same examples, so that a run can be repeated, and no memory of what failed under some mistake. Nothing is
# shrunk: that something fails is all that is asked.
hypothesis.settings.register_profile(
    PROFILE,
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    suppress_health_check=list(hypothesis.HealthCheck),
)


class _Planted(importlib.machinery.SourceFileLoader):
    """Compiles the mistaken text under the module's own name; tracebacks show the file that it stands for."""

    def __init__(self, name: str, path: str, source: Path) -> None:
        super().__init__(name, path)
        self._source = source
        self.loaded = False

    def get_code(self, fullname: str) -> types.CodeType:
        """Return what is to be run; never from a cache of compiled files, nor into one."""
        self.loaded = True
        return compile(self._source.read_text(), self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Answers for one module, before anything else is asked."""

    def __init__(self, name: str, source: Path) -> None:
        self._name = name
        self.loader: _Planted | None = None
        self._source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where the module is to be loaded from, `None` for every other one."""
        if fullname != self._name:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert found is not None, f"there is no module {fullname}"
        assert found.origin is not None
        self.loader = _Planted(fullname, found.origin, self._source)
        return importlib.util.spec_from_file_location(fullname, found.origin, loader=self.loader)


_finder = _Finder(os.environ[MODULE], Path(os.environ[SOURCE])) if MODULE in os.environ else None
if _finder is not None:
    assert os.environ[MODULE] not in sys.modules, "the module was imported before the mistake was planted"
    sys.meta_path.insert(0, _finder)
    _cpu_s_max = int(os.environ[CPU_S_MAX])
    resource.setrlimit(resource.RLIMIT_CPU, (_cpu_s_max, _cpu_s_max + 5))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES_MAX, _MEMORY_BYTES_MAX))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Say what time it took, and tell a mistake that no test has loaded from one that every test has passed."""
    if _finder is None:
        return
    Path(os.environ[CPU_S_USED]).write_text(str(time.process_time()))
    if _finder.loader is None or not _finder.loader.loaded:
        session.exitstatus = NOT_LOADED
