"""Dead letters in the store: listed, and which of them our clock has refused."""

import attrs

from reconciler.adapters.sqlite import queries
from reconciler.adapters.sqlite.damage import Lines
from reconciler.adapters.sqlite.database import Database
from reconciler.model.event import DeadLetter
from reconciler.model.stamp import Place

_letter_line = Lines(tuple[str, DeadLetter])
_numbered_line = Lines(tuple[int, str, DeadLetter])
_number_line = Lines(int)
_id_line = Lines(str)


class Letters:
    """The part of `ports.Views` and `ports.Projection` that is about dead letters."""

    _database: Database

    async def refused(self) -> frozenset[Place]:
        """See `ports.Projection`."""
        return frozenset(map(Place.parse, map(_id_line.decode, await self._database.read(queries.REFUSED))))

    async def dead_letters(self, status: str | None = "open", limit: int = 1000) -> list[DeadLetter]:
        """See `ports.Views`."""
        if status is None:
            lines = await self._database.read(queries.ALL_LETTERS, limit)
        else:
            lines = await self._database.read(queries.LETTERS, limit, status)
        return list(map(_letter, lines))

    async def list_dead_letters(self, status: str | None, after: str, limit: int) -> list[DeadLetter]:
        """See `ports.Views`."""
        return list(map(_letter, await self._database.read(queries.LETTER_PAGE, limit, after, status)))

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """See `ports.Views`."""
        lines = await self._database.read(queries.LETTER, letter_id)
        return _letter(lines[0]) if lines else None

    async def letters_after(self, number: int, limit: int) -> list[tuple[int, DeadLetter]]:
        """See `ports.Views`."""
        found = map(_numbered_line.decode, await self._database.read(queries.LETTERS_AFTER, limit, number))
        return [(place, attrs.evolve(letter, status=status)) for place, status, letter in found]

    async def last_letter(self) -> int:
        """See `ports.Views`."""
        (line,) = await self._database.read(queries.LAST_LETTER)
        return _number_line.decode(line)

    async def count_dead_letters(self) -> int:
        """See `ports.Views`."""
        (line,) = await self._database.read(queries.COUNT_LETTERS)
        return _number_line.decode(line)


def _letter(line: bytes) -> DeadLetter:
    status, letter = _letter_line.decode(line)
    return attrs.evolve(letter, status=status)
