"""
Output: tables for people, JSON for programs.

A row is one of `views`, or a mapping. JSON shows all its members, a table the named columns. On a terminal, a table
that does not fit the width is shown as blocks. In a pipe, each row is one line without colour. Control characters
in text from outside are escaped, so that they can't steer the terminal.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import msgspec
import orjson
from rich import markup
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from reconciler.model.value import MISSING

Row = Mapping[str, Any] | msgspec.Struct

_GAP = 2
_PIPE_WIDTH = 100_000  # in a pipe, each row is one line, for `grep` and the like
_WRAPPED_MIN = 14  # narrower columns of wrapped text are worse to read than blocks
_WORD_MAX = 24  # words up to this long are not broken either: names of fields, mostly
_STYLES = {
    "synced": "green",
    "pending": "cyan",
    "collecting": "cyan",
    "observed": "cyan",
    "absent": "cyan",
    "held": "yellow",
    "contended": "yellow",
    "locked": "yellow",
    "parked": "red",
    "write": "cyan",
    "yield": "magenta",
    "hold": "yellow",
    "ok": "green",
    "failed": "red",
    "warning": "yellow",
}


def words(value: object) -> str:
    """Return text as it is, anything else as JSON, and a dash for what is missing."""
    if value is None or value is MISSING:
        return "–"
    return plain(value) if isinstance(value, str) else of_json(value)


def of_json(value: object) -> str:
    """
    Return a JSON value as an option would take it: plain text without quotes if it can't be mistaken, else JSON.

    A missing value is a dash; a dash as a value is in quotes.
    """
    if value is MISSING:
        return "–"
    if isinstance(value, str) and value == value.strip() and value not in ("", "–") and not _parses(value):
        return plain(value)
    return plain(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, in the plural if need be."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def when(value: object) -> str:
    """Return a canonical instant, to the second, for people."""
    return f"{value[:10]} {value[11:19]}Z" if isinstance(value, str) else "–"


def stopped(stop: Row | None) -> str:
    """Say since when all writes are stopped, by whom and why."""
    at, by, reason = (None if stop is None else _member(stop, name) for name in ("at", "by", "reason"))
    return f"stopped since {when(at)} by {words(by)} ({plain(reason) if reason else 'no reason given'})"


def plain(text: str) -> str:
    """Return text with control and other invisible characters escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


@attrs.frozen
class Column:
    """One column of a table: a row's member, its title and format, and whether it may wrap."""

    key: str
    title: str
    show: Callable[[Any], str] = words
    whole: bool = False  # ids and the like, which never wrap
    right: bool = False


def report(form: str, rows: Sequence[Row], columns: Sequence[Column], nothing: str) -> None:
    """Print rows in the form asked for; `nothing` is printed for people if there are none."""
    if form == "json":
        as_json(rows)
    elif rows:
        table(rows, columns)
    else:
        print(nothing)


def as_json(value: object) -> None:
    """Print one JSON text."""
    sys.stdout.flush()
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=_default).decode() + "\n")


def table(rows: Sequence[Row], columns: Sequence[Column]) -> None:
    """Print a table for people."""
    cells = [[column.show(_member(row, column.key)) for column in columns] for row in rows]
    console = _console()
    if sum(_widths_least(cells, columns)) + _GAP * (len(columns) - 1) > console.width:
        for line in cells:
            _block(console, line, columns)
        return
    grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column, width in zip(columns, _widths_least(cells, columns), strict=True):
        grid.add_column(
            column.title.upper(),
            justify="right" if column.right else "left",
            no_wrap=column.whole,
            min_width=width,
            overflow="fold",
        )
    for line in cells:
        grid.add_row(*(_styled(cell) for cell in line))
    _print(console, grid)


def facts(pairs: Iterable[tuple[str, str | Sequence[str]]]) -> None:
    """Print names and values, one below the other; a value may be several lines."""
    grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=False)
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for name, value in pairs:
        lines = [value] if isinstance(value, str) else value
        grid.add_row(name, _styled("\n".join(plain(text) for text in lines)))
    _print(_console(), grid)


def heading(text: str) -> None:
    """Print a line in bold."""
    _print(_console(), Text(plain(text), style="bold"))


def line(text: str) -> None:
    """Print a sentence, filled to the terminal's width."""
    _print(_console(), Text(plain(text)))


@contextlib.contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int, int | None], None]]:
    """
    Show a progress bar on stderr, if that is a terminal.

    Yields a function that takes how much is done, and the total if that is known only now.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)

        def tell(done: int, of: int | None) -> None:
            bar.update(task, completed=done, total=of if of is not None else total)

        yield tell


def console() -> Console:
    """Return a console for prose with markup of our own; text from outside goes through `escape`."""
    return Console(highlight=False, emoji=False)


def escape(text: str) -> str:
    """Return text from outside as it may stand between markup."""
    return markup.escape(plain(text))


def _console() -> Console:
    terminal = sys.stdout.isatty()
    return Console(highlight=False, markup=False, emoji=False, width=None if terminal else _PIPE_WIDTH)


def _print(console: Console, what: Table | Text) -> None:
    with console.capture() as captured:
        console.print(what)
    # Rich fills every line up to the table's width.
    print(*(row.rstrip() for row in captured.get().splitlines()), sep="\n")


def _styled(cell: str) -> Text:
    return Text(cell, style=_STYLES.get(cell, ""))


def _widths_least(cells: Sequence[Sequence[str]], columns: Sequence[Column]) -> list[int]:
    """Return the least width of each column."""
    widths = []
    for number, column in enumerate(columns):
        texts = [column.title, *(line[number] for line in cells)]
        width = max(map(cell_len, texts))
        if not column.whole:
            longest = max(cell_len(word) for text in texts for word in text.split(" "))
            width = min(width, max(_WRAPPED_MIN, min(longest, _WORD_MAX)))
        widths.append(width)
    return widths


def _block(console: Console, cells: Sequence[str], columns: Sequence[Column]) -> None:
    grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=False)
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for column, cell in zip(columns, cells, strict=True):
        if cell != "–":
            grid.add_row(column.title.upper(), _styled(cell))
    _print(console, grid)
    print()


def _parses(text: str) -> bool:
    try:
        orjson.loads(text)
    except ValueError:
        return False
    return True


def _member(row: Row, name: str) -> Any:
    value = row.get(name, MISSING) if isinstance(row, Mapping) else getattr(row, name, MISSING)
    return MISSING if value is msgspec.UNSET else value


def _default(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    return None if value is MISSING else str(value)
