"""
Output: tables for people, JSON for programs.

A row is one of `views`, or a mapping. JSON shows every member of it, and a table the named columns. On a terminal a
table is as wide as the terminal; one that does not fit even so is shown as blocks. In a pipe each row is one line,
uncut and without colour. Text that came from outside is stripped of what would steer a terminal.

Lines: records of a log as lines of a file that fold to the very same state (docs/topics.md).

A line is one structured-mode event, with the record's place and timestamp as extension attributes. Values are copied
byte for byte, never decoded and written anew: a number must not change its last digit on its way through an archive.
A record in binary mode becomes a structured one; a tombstone becomes a released event with the stamp of the tombstone.
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
_PIPE_WIDTH = 100_000  # in a pipe lines are for `grep` and the like, which want each row on one
_WRAPPED_MIN = 14  # narrower columns of wrapped text are worse to read than blocks
_WORD_MAX = 24  # words up to this long are not broken either: names of fields, mostly
_STYLES = {
    "synced": "green",
    "pending": "cyan",
    "collecting": "cyan",
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
    """Return text as it is, anything else as JSON; nothing that is not there."""
    if value is None or value is MISSING:
        return "–"
    return plain(value) if isinstance(value, str) else of_json(value)


def of_json(value: object) -> str:
    """
    Return a JSON value as an option would take it: text bare where it reads as text, else as JSON.

    What is not there at all shows as a dash, which as a value would stand in quotes.
    """
    if value is MISSING:
        return "–"
    if isinstance(value, str) and value == value.strip() and value not in ("", "–") and not _parses(value):
        return plain(value)
    return plain(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))


def counted(count: int, noun: str) -> str:
    """Return how many there are of something, its name in the plural where that is due."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def when(value: object) -> str:
    """Return a canonical instant, to the second, for people."""
    return f"{value[:10]} {value[11:19]}Z" if isinstance(value, str) else "–"


def plain(text: str) -> str:
    """Return text in which control characters, and what else cannot be seen, are spelled out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


@attrs.frozen
class Column:
    """One column of a table: a row's member, how it is shown, and whether it may be broken over lines."""

    key: str
    title: str
    show: Callable[[Any], str] = words
    whole: bool = False  # ids and the like: never broken, never cut
    right: bool = False


def report(form: str, rows: Sequence[Row], columns: Sequence[Column], nothing: str) -> None:
    """Print rows as asked for; `nothing` is what people read when there are none."""
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
    """Print a line that stands out."""
    _print(_console(), Text(plain(text), style="bold"))


def line(text: str) -> None:
    """Print a sentence, filled to the terminal's width."""
    _print(_console(), Text(plain(text)))


@contextlib.contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int, int | None], None]]:
    """
    Show a bar on stderr while something long goes on, if that is a terminal.

    What it yields is told how much is done, and the total where that is known only now.
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
    """Return how narrow each column may become."""
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
