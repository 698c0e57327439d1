"""
The rules of the house that no linter knows, checked on the syntax tree of every file.

A rule that makes one place worse is broken there in the open: `EXCEPTIONS` names the place and the reason, and an
exception that nothing needs any more is an offence too.
"""

import ast
import graphlib
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import grimp
import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("reconciler", "tests", "benchmarks", "schemas", "docs", "deploy")

MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60

CLOCK = "reconciler/adapters/clock.py"
APP = "reconciler/app.py"

# Ids from `uuid` and `secrets` are not listed: nothing is decided by them, so a run with other ids is the same run.
CLOCK_AND_CHANCE = re.compile(
    r"datetime\.(datetime|date)\.(now|utcnow|today)"
    r"|time\.(time|monotonic|perf_counter|process_time|thread_time)(_ns)?|time\.(sleep|gmtime|localtime)"
    r"|asyncio\.sleep"
    r"|random\.\w+(\.\w+)*"
)
SPAWNS = frozenset({"create_task", "ensure_future"})
FORBIDDEN_WORDS = frozenset({"common", "handler", "helper", "manager", "misc", "util"})
SILENT = frozenset({"", "Exception", "BaseException"})
FROZEN_DECORATORS = frozenset({"attrs.frozen", "attr.frozen"})
CLOSED_BASES = re.compile(r"typing\.(NamedTuple|Protocol|TypedDict)|enum\.\w*(Enum|Flag)|\w*(Error|Exception|Warning)")
DIRECTIVE = re.compile(
    r"#\s*(?:noqa(?::\s*[A-Z]+\d+(?:[,\s]+[A-Z]+\d+)*)?|type:\s*ignore(?:\[[\w\-, ]*\])?)(?P<rest>.*)"
)


RULES = (
    "clock",
    "empty-name",
    "long-function",
    "long-module",
    "no-docstring",
    "no-reason",
    "not-frozen",
    "print",
    "stray-task",
    "swallowed",
)


class Offence(NamedTuple):
    """One broken rule at one place; `name` is what an exception must name."""

    rule: str
    path: str
    name: str
    line: int


EXCEPTIONS: dict[tuple[str, str, str], str] = {
    # (rule, path, name): why the place is better with the rule broken
}


# ---------------------------------------------------------------------------------------------------------- the checker


def offences(path: str, source: str) -> Iterator[Offence]:
    """Every offence in one file; `path` is relative to the root, with slashes."""
    yield from check_name(path)
    yield from check_directives(path, source)
    if path.startswith("reconciler/"):
        tree = ast.parse(source)
        imported = names_imported(tree)
        yield from check_length(path, source, tree)
        yield from check_docstrings(path, tree)
        yield from check_swallowing(path, tree)
        yield from check_prints(path, tree)
        if path.startswith("reconciler/model/"):
            yield from check_frozen(path, tree, imported)
        if not path.startswith("reconciler/simulator/"):  # a program of its own, which imitates users in real time
            yield from check_clock(path, tree, imported)
            yield from check_tasks(path, tree)


def check_name(path: str) -> Iterator[Offence]:
    """File names that say nothing about what is in the file."""
    words = {word.removesuffix("s") for part in PurePosixPath(path).parts for word in re.split(r"[._]", part)}
    for word in sorted(words & FORBIDDEN_WORDS):
        yield Offence("empty-name", path, word, 1)


def check_directives(path: str, source: str) -> Iterator[Offence]:
    """Each silenced finding says why, after the directive: `# noqa: X100  because …`."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        rest = token.string
        silenced = False
        while found := DIRECTIVE.search(rest):
            silenced, rest = True, found["rest"]
        if silenced and not re.search(r"[A-Za-z]{2}", rest):
            yield Offence("no-reason", path, token.string, token.start[0])


def check_length(path: str, source: str, tree: ast.Module) -> Iterator[Offence]:
    """Modules and functions that can't be taken in at one sitting."""
    lines = source.count("\n")
    if lines > MODULE_LINES_MAX:
        yield Offence("long-module", path, PurePosixPath(path).name, lines)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            if node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX:
                yield Offence("long-function", path, node.name, node.lineno)


def check_docstrings(path: str, tree: ast.Module) -> Iterator[Offence]:
    """Every module, public class and public function at the top of a module says what it is."""
    if not ast.get_docstring(tree):
        yield Offence("no-docstring", path, PurePosixPath(path).name, 1)
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            overloads = any(dotted(decorator).endswith("overload") for decorator in node.decorator_list)
            if not ast.get_docstring(node) and not overloads:
                yield Offence("no-docstring", path, node.name, node.lineno)


def check_swallowing(path: str, tree: ast.Module) -> Iterator[Offence]:
    """Nothing is dropped silently: no bare `except:`, no `except Exception: pass`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = dotted(node.type) if node.type else ""
            passes = all(isinstance(step, ast.Pass | ast.Continue) or is_ellipsis(step) for step in node.body)
            if not caught or (caught in SILENT and passes):
                yield Offence("swallowed", path, f"except {caught}".strip(), node.lineno)
        elif isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] == "suppress":
            for broad in SILENT & {dotted(argument) for argument in node.args}:
                yield Offence("swallowed", path, f"suppress {broad}", node.lineno)


def check_prints(path: str, tree: ast.Module) -> Iterator[Offence]:
    """Only commands speak to a terminal, and the simulator, which is a program of its own."""
    if path.startswith(("reconciler/cli/", "reconciler/simulator/")) or path == "reconciler/__main__.py":
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func) == "print":
            yield Offence("print", path, "print", node.lineno)


def check_frozen(path: str, tree: ast.Module, imported: dict[str, str]) -> Iterator[Offence]:
    """Every class of the model is a frozen value: attrs.frozen, NamedTuple, an enumeration, a frozen msgspec.Struct."""
    frozen: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        bases = {resolve(dotted(base), imported) for base in node.bases}
        decorators = {resolve(dotted(decorator), imported) for decorator in node.decorator_list}
        keywords = [*node.keywords, *(k for d in node.decorator_list if isinstance(d, ast.Call) for k in d.keywords)]
        says_frozen = any(
            keyword.arg == "frozen" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
            for keyword in keywords
        )
        inherits = bool(bases & frozen) and not decorators
        closed = any(CLOSED_BASES.fullmatch(base) for base in bases)
        if decorators & FROZEN_DECORATORS or says_frozen or inherits or closed:
            frozen.add(node.name)
        else:
            yield Offence("not-frozen", path, node.name, node.lineno)


def check_clock(path: str, tree: ast.Module, imported: dict[str, str]) -> Iterator[Offence]:
    """Time, waiting and chance come through the clock port, so that a run can be repeated."""
    if path == CLOCK:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            name = dotted(node)
            whole = resolve(name, imported)
            if name.split(".")[0] in imported and CLOCK_AND_CHANCE.fullmatch(whole):
                yield Offence("clock", path, whole, node.lineno)


def check_tasks(path: str, tree: ast.Module) -> Iterator[Offence]:
    """Every task belongs to the TaskGroup of `app.py`; a task that no one owns dies unseen."""
    if path == APP:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := dotted(node.func).split(".")[-1]) in SPAWNS:
            yield Offence("stray-task", path, name, node.lineno)


def names_imported(tree: ast.Module) -> dict[str, str]:
    """Local name → the dotted name it was imported as, for resolving `dt.now` to `datetime.datetime.now`."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def resolve(name: str, imported: dict[str, str]) -> str:
    """Replace the first part of a dotted name with what it was imported as; a name that was not imported stays."""
    first, dot, rest = name.partition(".")
    return imported.get(first, first) + dot + rest


def dotted(node: ast.AST) -> str:
    """`a.b.c` for attributes, names and calls of them; a placeholder in front where an expression stands."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{dotted(value)}.{attr}"
        case ast.Call(func=func):
            return dotted(func)
        case ast.Subscript(value=value):
            return dotted(value)
        case _:
            return "?"


def is_ellipsis(node: ast.stmt) -> bool:
    """Whether a statement is `...` alone."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is ...


# ------------------------------------------------------------------------------------------------------------ the tests


@pytest.fixture(scope="module")
def found() -> list[Offence]:
    """Every offence in every file of ours."""
    files = [
        path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")) if "__pycache__" not in path.parts
    ]
    assert len(files) > 100
    return [
        offence
        for path in files
        for offence in offences(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("rule", RULES)
def test_all_files_keep_a_rule_of_the_house(found: list[Offence], rule: str) -> None:
    broken = [offence for offence in found if offence.rule == rule and offence[:3] not in EXCEPTIONS]
    assert not broken, "\n".join(f"{o.path}:{o.line}: {o.rule}: {o.name}" for o in broken)


def test_every_exception_is_still_needed_and_has_a_reason(found: list[Offence]) -> None:
    assert set(EXCEPTIONS) <= {offence[:3] for offence in found}
    assert all(EXCEPTIONS.values())


def test_every_rule_has_a_planted_offence() -> None:
    assert {rule for rule, _, _ in PLANTED} == set(RULES)


CORE, MODEL, CLI = "reconciler/core/x.py", "reconciler/model/x.py", "reconciler/cli/x.py"

PLANTED = [
    ("empty-name", "reconciler/core/retry_helpers.py", '"""."""\n'),
    ("empty-name", "tests/utils/x.py", ""),
    ("no-reason", "tests/x.py", "a = 1  # noqa: E501\n"),
    ("no-reason", "tests/x.py", "a = 1  # type: ignore[attr-defined]  # noqa: E501, S101\n"),
    ("long-module", CORE, '"""."""\n' + "a = 1\n" * 600),
    ("long-function", CORE, '"""."""\ndef _f():\n' + "    a = 1\n" * 60),
    ("no-docstring", CORE, "a = 1\n"),
    ("no-docstring", CORE, '"""."""\nclass Public: ...\n'),
    ("no-docstring", CORE, '"""."""\nasync def public(): ...\n'),
    ("swallowed", CORE, '"""."""\ntry: ...\nexcept: raise\n'),
    ("swallowed", CORE, '"""."""\ntry: ...\nexcept Exception:\n    pass\n'),
    ("swallowed", CORE, '"""."""\nfor a in b:\n    try: ...\n    except BaseException as e:\n        continue\n'),
    ("swallowed", CORE, '"""."""\nimport contextlib\nwith contextlib.suppress(Exception): ...\n'),
    ("print", CORE, '"""."""\nprint("x")\n'),
    ("not-frozen", MODEL, '"""."""\nimport attrs\n@attrs.define\nclass _A: ...\n'),
    ("not-frozen", MODEL, '"""."""\nimport msgspec\nclass _A(msgspec.Struct): ...\n'),
    ("not-frozen", MODEL, '"""."""\nfrom dataclasses import dataclass\n@dataclass(frozen=False)\nclass _A: ...\n'),
    ("clock", CORE, '"""."""\nimport datetime as dt\na = dt.datetime.now(dt.UTC)\n'),
    ("clock", CORE, '"""."""\nfrom datetime import datetime\na = datetime.utcnow\n'),
    ("clock", CORE, '"""."""\nfrom time import monotonic as now\na = now()\n'),
    ("clock", CORE, '"""."""\nimport asyncio\nasync def _f(): await asyncio.sleep(1)\n'),
    ("clock", CORE, '"""."""\nimport random\na = random.Random(1)\n'),
    ("stray-task", CORE, '"""."""\nimport asyncio\na = asyncio.create_task(b())\n'),
    ("stray-task", CORE, '"""."""\nasync def _f(group): group.create_task(b())\n'),
]

ALLOWED = [
    (CLI, '"""."""\nprint("x")\n'),
    ("reconciler/__main__.py", '"""."""\nprint("x")\n'),
    ("reconciler/simulator/x.py", '"""."""\nprint("x")\n'),
    (CLOCK, '"""."""\nimport random, time\na = random.random() + time.time()\n'),
    (APP, '"""."""\nasync def _f(group): group.create_task(b())\n'),
    (CORE, '"""."""\ndef _f(time, random): return time.time, random.seed\n'),
    (CORE, '"""."""\ntry: ...\nexcept Exception as error:\n    raise ValueError from error\n'),
    (CORE, '"""."""\ntry: ...\nexcept KeyError:\n    pass\n'),
    (CORE, '"""."""\ndef _f():\n' + "    a = 1\n" * 59),
    ("tests/x.py", "a = 1  # noqa: E501  the URL is one word\n"),
    ("tests/x.py", "a = 1  # type: ignore[attr-defined]  # set by the plugin\n"),
    (MODEL, '"""."""\nimport attrs\n@attrs.frozen(order=True)\nclass _A: ...\n'),
    (MODEL, '"""."""\nfrom typing import NamedTuple\nclass _A(NamedTuple): ...\n'),
    (MODEL, '"""."""\nimport enum\nclass _A(enum.StrEnum): ...\n'),
    (MODEL, '"""."""\nimport msgspec\nclass _A(msgspec.Struct, frozen=True): ...\nclass _B(_A, tag="b"): ...\n'),
    ("reconciler/simulator/x.py", '"""."""\nimport random\na = random.random()\n'),
]


@pytest.mark.parametrize(("rule", "path", "source"), PLANTED)
def test_a_planted_offence_is_found(rule: str, path: str, source: str) -> None:
    assert [offence.rule for offence in offences(path, source)] == [rule]


@pytest.mark.parametrize(("path", "source"), ALLOWED)
def test_what_the_rules_allow_is_not_reported(path: str, source: str) -> None:
    assert list(offences(path, source)) == []


def test_no_module_imports_itself_through_others() -> None:
    """Imports for type checking count as well: what they hide is still a circle to a reader of the code."""
    graph = grimp.build_graph("reconciler", exclude_type_checking_imports=False)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle
