# ruff: noqa: S608 - the SQL is put together from our own names and constants; what comes from outside is a parameter
"""
Rows as one parameter: how a whole batch reaches SQLite in a single statement.

Theory. Every call into SQLite gives the interpreter lock away and has to win it back from a busy event loop, which can
take milliseconds. `executemany` does that for every row; one statement over `json_each` does it once a batch. JSON has
no blobs, and SQLite cuts JSON strings at NUL, so the JSON holds numbers only: every text and blob of the batch lies in
one byte string, and a row says where each of its cells begins and how long it is.
"""

from collections.abc import Iterable

import msgspec

Cell = int | str | bytes | None
Row = tuple[Cell, ...]

_encode = msgspec.json.Encoder().encode


class Packer:
    """Collects the cells of several tables into one byte string. Used once, for one statement."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._end = 1  # substr() counts from 1

    def table(self, rows: Iterable[Row]) -> str:
        """Return rows as JSON arrays in an array: a number or null as it is, a text or blob (never null) as two."""
        index: list[list[int | None]] = []
        append, end = self._pieces.append, self._end
        for row in rows:
            numbers: list[int | None] = []
            for cell in row:
                if cell is None or isinstance(cell, int):
                    numbers.append(cell)
                    continue
                piece = cell.encode() if isinstance(cell, str) else cell
                append(piece)
                numbers += (end, len(piece))
                end += len(piece)
            index.append(numbers)
        self._end = end
        return _encode(index).decode()  # as text: json_each takes no blob

    def packed(self) -> bytes:
        """Return the byte string that the tables point into."""
        return b"".join(self._pieces)


def unpack(table: str, *columns: str, packed: str) -> str:
    """
    Return the SQL that reads a packed table: each column is `"name text"`, `"name blob"` or `"name int"`.

    `table` and `packed` are SQL expressions of the two parameters. `json_extract` and not `->>`, which SQLite has only
    since 3.38.
    """
    position, selected = 0, []
    for column in columns:
        name, kind = column.split()
        here = f"json_extract(value, '$[{position}]')"
        expression = here if kind == "int" else f"substr({packed}, {here}, json_extract(value, '$[{position + 1}]'))"
        selected.append(f"{f'CAST({expression} AS TEXT)' if kind == 'text' else expression} AS {name}")
        position += 1 if kind == "int" else 2
    return f"(SELECT {', '.join(selected)} FROM json_each({table}))"
