"""The tool itself: mistakes are made where it says, noticed by tests that look, and not by tests that don't."""

import ast
from pathlib import Path

import pytest

from tests.mutants import bugs, choosing, operators, running
from tests.mutants.running import BrokenTestsError, End, Trial
from tests.mutants.targets import TESTS

SOURCE = '''\
"""A module."""

LIMITS = {"low": 1, "high": 9}


def within(value: int, *, strict: bool = False) -> bool:
    """Whether a value lies within the limits – both of them."""
    if strict and value == LIMITS["high"]:
        return False
    return LIMITS["low"] <= value <= LIMITS["high"]
'''
TESTS_OF_IT = """\
from sample.limits import within


def test_within():
    assert within(5)
    assert not within(10)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project of one module with tests that leave much to be desired."""
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "__init__.py").touch()
    (tmp_path / "sample" / "limits.py").write_text(SOURCE)
    (tmp_path / "test_limits.py").write_text(TESTS_OF_IT)
    return tmp_path


def trial(before: str, after: str, tests: str = "test_limits.py") -> Trial:
    assert SOURCE.count(before) == 1
    return Trial(f"{before} → {after}", "sample/limits.py", SOURCE.replace(before, after), (tests,))


def test_a_mistake_is_caught_by_tests_that_look_and_survives_those_that_do_not(root: Path) -> None:
    caught, survived = trial("<= LIMITS", ">= LIMITS"), trial("if strict and", "if not strict and")
    endless = trial("if strict and", "while True:\n        pass\n    if strict and")
    results = running.run([caught, survived, endless], root, workers=2, more_s=1)
    assert [one.end for one in results] == [End.CAUGHT, End.SURVIVED, End.ENDLESS]
    assert results[0].test == "test_limits.py::test_within"
    assert (root / "sample" / "limits.py").read_text() == SOURCE


def test_a_mistake_that_keeps_the_module_from_loading_is_caught(root: Path) -> None:
    (result,) = running.run([trial('{"low": 1, "high": 9}', "1 / 0")], root, workers=1)
    assert result.end is End.CAUGHT


@pytest.mark.parametrize("content", ["def test_nothing(): pass", "import sample.limits\ndef test_no(): assert 0"])
def test_tests_that_do_not_load_the_module_or_fail_anyway_prove_nothing(root: Path, content: str) -> None:
    (root / "test_other.py").write_text(content)
    with pytest.raises(BrokenTestsError):
        running.run([trial("<= LIMITS", ">= LIMITS", "test_other.py")], root, workers=1)


def test_each_mutant_changes_what_it_says_and_nothing_else() -> None:
    found = operators.mutants("sample/limits.py", SOURCE)
    changes = {(one.before, one.after) for one in found}
    assert ("False", "True") in changes
    assert ('{"low": 1, "high": 9}', "{'low': 1}") in changes
    assert ("return False", "pass") in changes
    assert ('strict and value == LIMITS["high"]', "strict or value == LIMITS['high']") in changes
    assert ('LIMITS["low"] <= value <= LIMITS["high"]', "LIMITS['low'] < value <= LIMITS['high']") in changes
    for one in found:
        assert SOURCE.encode()[one.start : one.end].decode() == one.before
        assert SOURCE.splitlines()[one.line - 1].find(one.before.splitlines()[0]) >= 0
        assert ast.dump(ast.parse(one.planted(SOURCE))) != ast.dump(ast.parse(SOURCE))


def test_what_only_explains_is_left_alone() -> None:
    source = (
        '__all__ = ["f"]\n'
        "def f(a: int | None, b: bool) -> int | None:\n"
        '    """Docstring."""\n'
        "    assert a != 1\n"
        '    _log.info("one", two=a)\n'
        '    return f"{a + 1}"\n'
    )
    assert {one.operator for one in operators.mutants("m.py", source)} == {"return"}


def test_the_same_seed_takes_the_same_mutants_and_a_change_elsewhere_hardly_another_one() -> None:
    before = operators.mutants("m.py", SOURCE)
    after = operators.mutants("m.py", SOURCE.replace('"high": 9}', '"high": 9, "middle": 4}'))
    assert choosing.chosen(before, 8, seed=1) == choosing.chosen(reversed(before), 8, seed=1)
    assert choosing.chosen(before, 8, seed=1) != choosing.chosen(before, 8, seed=2)
    told = [
        {(one.function, one.before, one.after) for one in choosing.chosen(some, 8, seed=1)} for some in (before, after)
    ]
    assert len(told[0] & told[1]) >= 5


@pytest.mark.parametrize("bug", bugs.BUGS, ids=lambda bug: bug.name)
def test_each_named_bug_still_fits_the_code(bug: bugs.Bug) -> None:
    planted = bug.planted((choosing.ROOT / bug.path).read_text())
    ast.parse(planted)
    assert bug.tests or bug.path in TESTS


def test_what_is_listed_as_equivalent_is_a_mutant_of_todays_code() -> None:
    same = choosing.equivalents()
    assert all(one.reason.strip().endswith(".") for one in same)
    assert choosing.stale(choosing.every({one.path for one in same}), same) == []


def test_each_module_and_each_test_of_it_is_there() -> None:
    for path, tests in TESTS.items():
        assert all((choosing.ROOT / name).exists() for name in (path, *tests))
