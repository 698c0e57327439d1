"""How far the log was folded, and so what the rows may show at a moment: the witness's memory of ingest."""

from collections.abc import Collection, Iterable, Mapping

from reconciler.model.document import Document
from reconciler.model.stamp import Partition, Place
from reconciler.ports import FoldBatch
from tests.sim import naive
from tests.sim.logs import EVENTS
from tests.sim.naive import Fact, Row


class Folding:
    """The states of the projection, one for each batch; `facts` are the usable records by their places."""

    def __init__(self, facts: Mapping[Place, Fact]) -> None:
        self._facts = facts
        self._reached: list[dict[Partition, int]] = [{}]  # the next offset by partition; the last may not be durable
        self._positions: dict[Partition, int] = {}  # as acknowledged; they go back where a log is read again
        self._acknowledged = 0
        self._before: list[tuple[int, dict[Partition, int]]] = []  # what the next loss of power may bring back
        self._under_way: FoldBatch | None = None
        self._aside = False  # whether it is one of a replay
        self.lost: dict[Partition, int] = {}  # where a log begins that has lost records, until someone gives them up
        self._moving: dict[Partition, int] | None = None  # to where someone has decided to go on
        self._rows: dict[int, dict[str, Row]] = {}
        self._of_before: list[Fact] = []  # folded from logs that others have replaced
        self.made_again: set[Partition] = set()  # logs that were replaced, until someone accepts that
        self.unread: set[Partition] = set()  # of which nothing was folded since someone decided to go on there

    def begins(self, positions: Mapping[Partition, int], documents: Iterable[Document]) -> str | None:
        """
        A process starts and finds this: positions tell whether a fold that was under way was stored.

        Returns what is wrong with it: positions and rows must both be of the last fold that was acknowledged, or of
        that one.
        """
        stored = {place: offset for place, offset in positions.items() if place.topic in EVENTS}
        if self._moving is not None and self._moving.items() <= stored.items():
            self.moved()
        self._moving = None
        batch, documents = self._under_way, list(documents)
        if batch is not None and self._aside:  # it stores no position: only the rows can tell
            state = len(self._reached) - 1
            if all(self.match(one, state) for one in documents if one.revision):
                self._seen()
            else:
                self._reached[-1] = dict(self._reached[self._acknowledged])
                self._rows.pop(state, None)
                self._under_way = None
        elif batch is not None and all(positions.get(place) == offset for place, offset in batch.positions.items()):
            self._seen()
        elif batch is not None:
            self._reached[-1] = dict(self._reached[self._acknowledged])
            self._under_way = None
        for place in [place for place, begin in self.lost.items() if stored.get(place, 0) >= begin]:
            del self.lost[place]  # they had been folded, and no one had been told yet
        # A topic that is not read any more may have left its position behind.
        if not self._is_at(stored):
            self._falls_back(stored)
        if not self._is_at(stored):
            return f"positions {stored}, not {self._positions}"
        for document in documents:
            if document.revision and self.match(document, self._acknowledged) is None:
                return f"{document.key} is {naive.plain(document.desired)}"
        return None

    def stored(self, place: Partition) -> int:
        """The least offset that may be stored as the next one."""
        known = self._positions.get(place, 0)
        under_way = known if self._under_way is None else self._under_way.positions.get(place, known)
        return min(known, under_way)

    def reached(self, place: Partition) -> int:
        """Up to where the rows hold what the log said, also if the position was moved back since."""
        return self._reached[self._acknowledged].get(place, 0)

    def moves(self, positions: Mapping[Partition, int]) -> None:
        """Someone has decided to go on there."""
        if positions and all(place.topic in EVENTS for place in positions):
            self._moving = dict(positions)

    def moved(self) -> None:
        if self._moving is not None:
            reached = dict(self._reached[self._acknowledged])
            for place, offset in self._moving.items():
                reached[place] = max(offset, reached.get(place, 0))
            self.made_again -= self._moving.keys()
            self.unread |= self._moving.keys()
            self._reached.append(reached)
            self._acknowledged = len(self._reached) - 1
            self._positions = self._moving
        self._moving = None

    def copy(self) -> tuple[dict[Partition, int], dict[Partition, int]]:
        """What a copy of the store shows that is made now."""
        return dict(self._reached[self._acknowledged]), dict(self._positions)

    def starts_over(self, reached: dict[Partition, int], positions: dict[Partition, int]) -> None:
        """Another store takes the place of the one that was."""
        self._reached.append(dict(reached))
        self._acknowledged = len(self._reached) - 1
        self._positions, self._under_way, self._moving = dict(positions), None, None
        self._before.clear()

    def jumps(self, batch: FoldBatch) -> bool:
        """Whether a batch goes past records that the log has lost and no one has given up."""
        return any(place in self.lost and offset > self.stored(place) for place, offset in batch.positions.items())

    def folds(self, batch: FoldBatch, aside: Mapping[Partition, int] | None = None) -> None:
        """
        A batch is handed to the store. Rows never forget, even where a log is read again.

        `aside` is how far a replay has come that stores no positions. It may be ahead of what was folded so far.
        """
        reached = dict(self._reached[self._acknowledged])
        self._aside = aside is not None
        for place, offset in (aside or {}).items():
            reached[place] = max(offset, reached.get(place, 0))
        for place, offset in batch.positions.items():
            reached[place] = max(offset, reached.get(place, 0))
        self._reached.append(reached)
        self._under_way = batch

    def durable(self) -> None:
        """A commit was acknowledged. One log holds all of them: whatever came before it is durable as well."""
        self._before.clear()

    def folded(self) -> None:
        """The batch is stored, and that was acknowledged."""
        self._store()

    def _seen(self) -> None:
        """The batch is stored, as a process sees that begins. It may not be durable: nothing was acknowledged."""
        self._before.append((self._acknowledged, dict(self._positions)))
        self._store()

    def _is_at(self, stored: Mapping[Partition, int]) -> bool:
        return {place: stored.get(place) for place in self._positions} == self._positions

    def _falls_back(self, stored: Mapping[Partition, int]) -> None:
        """The power was lost, and with it what was seen and never acknowledged: it will be folded again."""
        for state, positions in reversed(self._before):
            if {place: stored.get(place) for place in positions} == positions:
                self._reached.append(dict(self._reached[state]))
                self._acknowledged = len(self._reached) - 1
                self._positions = positions
                return

    def _store(self) -> None:
        self._acknowledged = len(self._reached) - 1
        if self._under_way is not None:
            read = self._under_way.positions
            self.unread -= {place for place, offset in read.items() if offset != self._positions.get(place)}
            self._positions.update(read)
        self._under_way = None

    @property
    def of_before(self) -> list[Fact]:
        """What was folded from logs that others have replaced."""
        return self._of_before

    def folded_or_in(self, topics: Collection[str], places: Iterable[Place]) -> set[Place]:
        """Those of these places that are read now, or were folded before their topic was given up."""
        reached = self._reached[self._acknowledged]
        return {
            at for at in places if at.topic in topics or at.offset < reached.get(Partition(at.topic, at.partition), 0)
        }

    def replaced(self, place: Partition, facts: Mapping[int, Fact]) -> None:
        """Another log stands in the place of one, under its name: what was folded of the first stays in the rows."""
        reached = dict(self._reached[self._acknowledged])
        self._of_before += [fact for offset, fact in facts.items() if offset < reached.get(place, 0)]
        self.lost.pop(place, None)  # what the first log had lost
        if reached.pop(place, 0):
            self.made_again.add(place)
        self._reached.append(reached)
        self._acknowledged = len(self._reached) - 1
        self._rows.clear()

    def mark(self) -> int:
        """The state that a read which begins now shows at least."""
        return self._acknowledged

    def match(self, document: Document, mark: int) -> Row | None:
        """The row that a naive fold gives at one of the states since `mark`, if one is what the store shows."""
        shown = naive.plain(document.desired)
        for state in range(mark, len(self._reached)):
            row = self._row(document.key, state)
            if row.plain() == shown:
                return row
        return None

    def _row(self, key: str, state: int) -> Row:
        if state not in self._rows:
            reached = self._reached[state]
            folded = (
                fact
                for (topic, partition, offset), fact in self._facts.items()
                if offset < reached.get(Partition(topic, partition), 0)
            )
            self._rows[state] = naive.project((*self._of_before, *folded))
        return self._rows[state].get(key) or naive.Row()
