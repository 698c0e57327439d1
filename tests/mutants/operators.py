"""
Every small mistake that can be made in a module, as exact replacements in its text.

What explains but does not act is left alone: annotations, docstrings, texts of messages, log lines, asserts.
"""

import ast
import difflib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

_SWAPPED: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add,),
    ast.FloorDiv: (ast.Mult,),
    ast.Div: (ast.Mult,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
_RENAMED = {"min": "max", "max": "min", "any": "all", "all": "any"}
_LEAVE_ALONE = (ast.Import, ast.ImportFrom, ast.Assert, ast.AnnAssign)
_LOG = "_log"


class Mutant(NamedTuple):
    """One mistake: what of a module's text is replaced by what."""

    path: str  # of the module, from the root, with slashes
    function: str  # the innermost one, dotted; "" at the top of the module
    line: int
    operator: str
    start: int  # bytes of the source
    end: int
    before: str
    after: str

    @property
    def place(self) -> str:
        """Where it is, as an editor opens it."""
        return f"{self.path}:{self.line}"

    def planted(self, source: str) -> str:
        """Return the module's text with the mistake."""
        text = source.encode()
        return (text[: self.start] + self.after.encode() + text[self.end :]).decode()

    def diff(self, source: str) -> str:
        """Return the mistake as a reader of patches knows it."""
        lines, changed = source.splitlines(), self.planted(source).splitlines()
        return "\n".join(difflib.unified_diff(lines, changed, self.path, self.operator, lineterm="", n=1))


def mutants(path: str, source: str) -> list[Mutant]:
    """Return every mistake that can be made in a module, in the order of its text."""
    found = _Finder(path, source).found()
    return sorted(found, key=lambda one: (one.start, one.end, one.operator, one.after))


class _Finder:
    """Walks one module's syntax tree."""

    def __init__(self, path: str, source: str) -> None:
        self._path = path
        self._source = source
        self._tree = ast.parse(source)
        lines = source.encode().splitlines(keepends=True)
        self._starts = [0]
        for line in lines:
            self._starts.append(self._starts[-1] + len(line))

    def found(self) -> Iterator[Mutant]:
        seen: set[tuple[int, int, str]] = set()
        unchanged = ast.dump(self._tree)
        for one in self._inside(self._tree, ()):
            written = ast.dump(ast.parse(one.planted(self._source)))
            if (one.start, one.end, one.after) not in seen and written != unchanged:
                seen.add((one.start, one.end, one.after))
                yield one

    def _inside(self, node: ast.AST, within: tuple[str, ...]) -> Iterator[Mutant]:
        """Yield the mistakes in a node and below it."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            within = (*within, node.name)
        yield from self._of(node, within)
        for child in _acting(node):
            yield from self._inside(child, within)

    def _of(self, node: ast.AST, within: tuple[str, ...]) -> Iterator[Mutant]:
        for operator, target, after in _mistakes(node):
            yield self._mutant(within, operator, target, after)

    def _mutant(self, within: tuple[str, ...], operator: str, node: Any, after: str) -> Mutant:
        start = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[node.end_lineno - 1] + node.end_col_offset
        before = self._source.encode()[start:end].decode()
        return Mutant(self._path, ".".join(within), node.lineno, operator, start, end, before, after)


def _acting(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the children of a node that do something."""
    if isinstance(node, _LEAVE_ALONE) and not (isinstance(node, ast.AnnAssign) and node.value is not None):
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "type_params"):
            continue
        if name == "slice" and isinstance(value, ast.Tuple):  # a key of several parts, or the parameters of a type
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _explains(child):
                yield child


def _explains(node: ast.AST) -> bool:
    """Whether a node is for readers only: a docstring, a log line, a message's text, `__all__`."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) or _logs(node.value)
    if isinstance(node, ast.keyword):
        return node.arg == "strict"  # of `zip`: an assert in another dress
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    return isinstance(node, ast.JoinedStr)


def _logs(node: ast.expr) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return isinstance(node.func.value, ast.Name) and node.func.value.id == _LOG


def _mistakes(node: ast.AST) -> Iterator[tuple[str, Any, str]]:
    """Yield mistakes in one node itself: which operator, what is replaced, and by what."""
    match node:
        case ast.Compare():
            for number, op in enumerate(node.ops):
                for kind in _SWAPPED.get(type(op), ()):
                    ops = [*node.ops[:number], kind(), *node.ops[number + 1 :]]
                    yield "compare", node, _text(_changed(node, ops=ops))
        case ast.BoolOp():
            yield "and/or", node, _text(_changed(node, op=_SWAPPED[type(node.op)][0]()))
            for left in _one_less(node.values):
                yield "operand", node, _text(_changed(node, values=left) if len(left) > 1 else left[0])
        case ast.UnaryOp(op=ast.Not()):
            yield "not", node, f"({_text(node.operand)})"
        case ast.BinOp(op=ast.BitOr() | ast.BitAnd()):
            yield "operand", node, f"({_text(node.left)})"
            yield "operand", node, f"({_text(node.right)})"
        case ast.BinOp() | ast.AugAssign() if type(node.op) in _SWAPPED:
            yield "arithmetic", node, _text(_changed(node, op=_SWAPPED[type(node.op)][0]()))
        case ast.Constant(value=bool() as value):
            yield "constant", node, str(not value)
        case ast.Constant(value=int() as value):
            yield "constant", node, str(value + 1)
        case ast.IfExp():
            yield "branch", node, f"({_text(node.body)})"
            yield "branch", node, f"({_text(node.orelse)})"
        case ast.List() | ast.Tuple() | ast.Set() if isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            for left in _one_less(node.elts):
                yield "member", node, _text(_changed(node, elts=left)) if left else _EMPTY[type(node)]
        case ast.Dict():
            for keys, values in zip(_one_less(node.keys), _one_less(node.values), strict=True):
                yield "member", node, _text(_changed(node, keys=keys, values=values))
        case ast.Call():
            yield from _calls(node)
        case ast.comprehension():
            for test in node.ifs:
                yield "condition", test, "True"
                yield "condition", test, f"(not ({_text(test)}))"
        case ast.MatchOr():
            for left in _one_less(node.patterns):
                yield "pattern", node, _text(ast.MatchOr(left) if len(left) > 1 else left[0])
        case ast.match_case(guard=ast.expr() as guard):
            yield "condition", guard, "True"
            yield "condition", guard, f"not ({_text(guard)})"
        case _:
            yield from _statements(node)


_EMPTY: dict[type[ast.AST], str] = {ast.List: "[]", ast.Tuple: "()", ast.Set: "set()"}


def _calls(node: ast.Call) -> Iterator[tuple[str, Any, str]]:
    if isinstance(node.func, ast.Name) and node.func.id in _RENAMED:
        yield "call", node, _text(_changed(node, func=ast.Name(_RENAMED[node.func.id])))
    for number in range(len(node.args) - 1):
        args = list(node.args)
        args[number], args[number + 1] = args[number + 1], args[number]
        yield "swap", node, _text(_changed(node, args=args))
    for keyword, left in zip(node.keywords, _one_less(node.keywords), strict=True):
        if not _explains(keyword):
            yield "keyword", node, _text(_changed(node, keywords=left))


def _statements(node: ast.AST) -> Iterator[tuple[str, Any, str]]:
    match node:
        case ast.If() | ast.While():
            yield "condition", node.test, f"not ({_text(node.test)})"
            if isinstance(node, ast.If):
                yield "condition", node.test, "False"
        case ast.Return(value=ast.expr() as value):
            if not (isinstance(value, ast.Constant) and value.value is None):
                yield "return", node, "return None"
        case ast.Expr(value=ast.Yield() | ast.YieldFrom() | ast.Call() | ast.Await()):
            yield "delete", node, "pass"
        case ast.Return() | ast.Raise() | ast.Continue() | ast.Break() | ast.AugAssign() | ast.Delete():
            yield "delete", node, "pass"
        case ast.Assign() if any(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
            yield "delete", node, "pass"
    body = getattr(node, "body", None)
    if isinstance(body, list) and not isinstance(node, ast.Module | ast.ClassDef):
        yield from _early(body)


def _early(body: Sequence[ast.AST]) -> Iterator[tuple[str, Any, str]]:
    """Yield the early returns and rebindings of a block that can be left out without the code losing its sense."""
    bound: set[str] = set()
    for statement in body:
        if isinstance(statement, ast.If) and len(statement.body) == 1 and isinstance(statement.body[0], ast.Return):
            yield "delete", statement.body[0], "pass"
        if isinstance(statement, ast.Assign):
            names = {name.id for target in statement.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
            if names <= bound:
                yield "delete", statement, "pass"
            bound |= names


def _one_less(values: Sequence[Any]) -> list[list[Any]]:
    return [[*values[:number], *values[number + 1 :]] for number in range(len(values))]


def _changed(node: ast.AST, **fields: Any) -> ast.AST:
    return type(node)(**{**dict(ast.iter_fields(node)), **fields})


def _text(node: ast.AST) -> str:
    return ast.unparse(ast.fix_missing_locations(node))


__all__ = ["Mutant", "mutants"]
