"""
Folding by two replicas: rows that both join at once, and positions that move when all of a batch is stored.

Two partitions, two rows, and records that name them. A replica may believe for a while that it reads what another one
reads. A statement that its client gave up may run later.
"""

from collections.abc import Iterator
from typing import NamedTuple

import attrs

from tests.models.explore import Model, Step

LOST = "a position has passed a record that is in no row"

Record = tuple[int, int]  # partition and offset


class Row(NamedTuple):
    """The records joined in a row, and how often it was folded."""

    records: frozenset[Record] = frozenset()
    folds: int = 0


class Piece(NamedTuple):
    """What a batch has for one row; `read` is the row that it is joined with, once it is read."""

    row: int
    records: frozenset[Record]
    read: Row | None = None


class Batch(NamedTuple):
    """A part of a partition, and the pieces that are not stored yet."""

    partition: int
    since: int
    until: int
    left: tuple[Piece, ...]


class Statement(NamedTuple):
    """The store's statement for one piece; the last one moves the position as well."""

    row: int
    joined: frozenset[Record]
    folds: int
    moves: tuple[int, int, int] | None  # partition, from, to


class State(NamedTuple):
    """The world at one moment."""

    rows: tuple[Row, ...]
    positions: tuple[int, ...]
    batches: tuple[Batch | None, ...]
    given_up: Statement | None = None


@attrs.frozen(kw_only=True)
class Scene:
    """The rules, each of which may be left out, and how large the world is."""

    rows_compared: bool = True  # a row is written only if no one has folded it since it was read
    positions_compared: bool = True  # a position moves only from where the batch began (S7)
    losers_first: bool = True  # …and only with the last outstanding row of its batch
    late_statements: bool = True
    folds_max: int = 2
    topics: tuple[tuple[int, ...], ...] = ((0, 1), (0,))  # by partition and offset: the row that a record names


def model(scene: Scene) -> Model[State]:
    """Return the model of a scene."""
    begin = State((Row(), Row()), (0,) * len(scene.topics), (None, None))
    return Model(begin, _World(scene).steps)


class _World:
    """What may happen next in a scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def _records(self, partition: int, since: int, until: int, row: int) -> frozenset[Record]:
        topic = self._scene.topics[partition]
        return frozenset((partition, offset) for offset in range(since, until) if topic[offset] == row)

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Yield all that may happen next."""
        for partition, position in enumerate(state.positions):
            for number, row in enumerate(state.rows):
                if not self._records(partition, 0, position, number) <= row.records:
                    yield Step("so far", LOST)
        if state.given_up is not None:
            yield Step("an old statement is lost", state._replace(given_up=None))
            ran, _ = self._run(state, state.given_up)
            yield Step("an old statement runs", ran._replace(given_up=None))
        for i, batch in enumerate(state.batches):
            yield from self._gathers(state, i) if batch is None else self._folds(state, i, batch)

    def _gathers(self, state: State, i: int) -> Iterator[Step[State]]:
        """Anyone may begin anywhere, at the stored position."""
        if sum(row.folds for row in state.rows) >= self._scene.folds_max:
            return
        for partition, since in enumerate(state.positions):
            for until in range(since + 1, len(self._scene.topics[partition]) + 1):
                found = (Piece(row, self._records(partition, since, until, row)) for row in range(len(state.rows)))
                batch = Batch(partition, since, until, tuple(piece for piece in found if piece.records))
                yield Step(f"{i} gathers {since} to {until} of partition {partition}", _put(state, i, batch))

    def _folds(self, state: State, i: int, batch: Batch) -> Iterator[Step[State]]:
        yield Step(f"{i} drops its batch", _put(state, i, None))
        for number, piece in enumerate(batch.left):
            before, after = batch.left[:number], batch.left[number + 1 :]
            again = _put(state, i, batch._replace(left=(*before, piece._replace(read=None), *after)))
            if piece.read is None:
                read = piece._replace(read=state.rows[piece.row])
                yield Step(f"{i} reads row {piece.row}", _put(state, i, batch._replace(left=(*before, read, *after))))
                continue
            last = not before and not after if self._scene.losers_first else not after
            moves = (batch.partition, batch.since, batch.until) if last else None
            row_folds = state.rows[piece.row].folds
            statement = Statement(piece.row, piece.read.records | piece.records, piece.read.folds, moves)
            ran, won = self._run(state, statement)
            match won:
                case None:  # the position has moved: all of the batch is for someone else
                    yield Step(f"{i} finds the position moved", _put(state, i, None))
                case False:
                    yield Step(f"{i} finds row {piece.row} folded by another", again)
                case True:
                    left = (*before, *after)
                    done = _put(ran, i, batch._replace(left=left) if left else None)
                    yield Step(f"{i} folds row {piece.row}{' and moves the position' if moves else ''}", done)
            if self._scene.late_statements and state.given_up is None and row_folds < self._scene.folds_max:
                yield Step(f"{i} gives up a statement, and reads again", again._replace(given_up=statement))

    def _run(self, state: State, statement: Statement) -> tuple[State, bool | None]:
        """Return the world after a statement, and whether it won; None: the position had moved."""
        row = state.rows[statement.row]
        if self._scene.rows_compared and row.folds != statement.folds:
            return state, False
        positions = list(state.positions)
        if statement.moves is not None:
            partition, since, until = statement.moves
            if self._scene.positions_compared and positions[partition] != since:
                return state, None
            positions[partition] = until
        rows = list(state.rows)
        rows[statement.row] = Row(statement.joined, row.folds + 1)
        return state._replace(rows=tuple(rows), positions=tuple(positions)), True


def _put(state: State, i: int, batch: Batch | None) -> State:
    return state._replace(batches=(*state.batches[:i], batch, *state.batches[i + 1 :]))
