# ruff: noqa: S608 - the SQL is put together from our own names
"""
Arriving: a store of another kind that moves into a database, in one transaction: it is there as a whole, or not at all.

Meanwhile nobody can take a slot or act as a guest, because the transaction has the table `slot`. Before it ends,
everything is read back and compared with what was sent, and each record of the audit trail has followed the one before.
The trail becomes chain 0, under its own numbers.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import attrs
import msgspec

from reconciler.adapters import packing
from reconciler.adapters.postgres.server import TIMEOUTS, Server
from reconciler.errors import StoreDamagedError, StoreError
from reconciler.model import chain, codec
from reconciler.model.chain import BEGIN, Head
from reconciler.model.event import DeadLetter
from reconciler.ports import BUCKETS
from reconciler.ports.moving import TABLES, Cargo, Line
from reconciler.ports.store_admin import Tell

_COPY_S = 300.0  # for a page of some megabytes
_PREFETCH = 50  # lines read back at once: a dead letter may have a megabyte
_DIGEST_BYTES = 16
_TEXTS = frozenset(  # columns of the type text; all other texts are bytea
    {"document.status", "dead_letter.status", "contention_hour.kind", "policy.digest", "position.anchor_digest"}
)
_MADE = ("spent", "checkpoint", "duty", "arrived")  # tables of a store on PostgreSQL alone, which must be empty too

_letter = msgspec.json.Decoder(DeadLetter).decode


class _Into(NamedTuple):
    """Lines for a table."""

    table: str
    columns: tuple[str, ...]
    lines: Sequence[Line]


def _plain(table: str, page: list[Line]) -> Iterator[_Into]:
    columns = TABLES[table]
    texts = [f"{table}.{name}" in _TEXTS for name in columns]

    def encoded(cell: Any, is_text: Any) -> Any:
        return cell.encode() if isinstance(cell, str) and not is_text else cell

    yield _Into(table, columns, [tuple(map(encoded, line, texts)) for line in page])


def _documents(page: list[Line], ordinal: int) -> Iterator[_Into]:
    """Documents, desired states and agreements; records of each to come are later than all there are."""
    columns = (*TABLES["document"][:-2], "version", "ordinal")
    rows = [
        (key.encode(), revision, status, reason.encode(), *numbers, 1, ordinal)
        for key, revision, status, reason, *numbers, _, _ in page
    ]
    yield _Into("document", columns, rows)
    desired = [(line[0].encode(), 1, line[-2]) for line in page if line[-2] is not None]
    yield _Into("desired", ("key", "folds", "desired"), desired)
    agreed = [(line[0].encode(), 1, line[-1]) for line in page if line[-1] is not None]
    yield _Into("agreement", ("key", "version", "agreement"), agreed)


def _records(page: list[Line]) -> Iterator[_Into]:
    (into,) = _plain("audit", page)
    yield into._replace(columns=(*into.columns, "ordinal"), lines=[(*line, line[0]) for line in into.lines])


def _messages(page: list[Line]) -> Iterator[_Into]:
    """The outbox; messages of one document stay in order, in its bucket."""
    lines = []
    for (message,) in page:
        record = codec.decode_message(packing.unpack(message))
        lines.append((zlib.crc32(record.key or b"") % BUCKETS, message))
    yield _Into("outbox", ("bucket", "message"), lines)


def _letters(page: list[Line]) -> Iterator[_Into]:
    lines = []
    for number, letter_id, status, text in page:
        letter = _letter(text)
        outline = codec.encode(attrs.evolve(letter, key=None, value=None, headers=()))
        lines.append((number, letter_id.encode(), status, letter.stage == "clock", outline, bytes(text)))
    yield _Into("dead_letter", ("number", "id", "status", "clock", "outline", "letter"), lines)


_CONTROL: Final = "write_stop"  # not a table here


class _Sum:
    """Adds up lines so that their order does not matter, to compare what was sent with what is there."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0

    def add(self, lines: Iterable[Line]) -> None:
        for line in lines:
            digest = hashlib.blake2b(repr(tuple(line)).encode(), digest_size=_DIGEST_BYTES).digest()
            self._sum = (self._sum + int.from_bytes(digest)) % 2 ** (8 * _DIGEST_BYTES)
            self.count += 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Sum) and (self.count, self._sum) == (other.count, other._sum)

    __hash__ = None  # type: ignore[assignment]  # it changes


@attrs.define(eq=False, slots=False)
class _Arrival:
    """One transaction."""

    server: Server
    connection: Any  # asyncpg has no types
    cargo: Cargo
    tell: Callable[[int], None]
    head: Head = BEGIN
    documents: int = 0
    sent: dict[tuple[str, tuple[str, ...]], _Sum] = attrs.field(factory=dict)

    async def require_unused(self) -> None:
        await self.connection.execute("LOCK TABLE slot IN EXCLUSIVE MODE")
        if found := await self.connection.fetch("SELECT name FROM slot WHERE held ORDER BY id"):
            names = ", ".join(name.rpartition(" ")[0] or name for (name,) in found)
            raise StoreError(f"{self.server.address} is in use by {names}; stop them first")
        tables = {*TABLES, *_MADE, "desired", "agreement"} - {_CONTROL}
        for table in sorted(tables):
            ((some,),) = await self.connection.fetch(f"SELECT EXISTS (SELECT FROM {table})")
            if some:
                raise StoreError(
                    f"{self.server.address} holds something already ({table}); move into a database of its own, on"
                    " which only `reconciler store migrate` was run"
                )

    async def bring(self) -> None:
        """Copy everything."""
        cuts = await self._small()
        for page in self.cargo.pages("audit"):
            self._follow(page, cuts)
            await self._put(_records(page), len(page))
        for page in self.cargo.pages("document"):
            self.documents += len(page)
            await self._put(_documents(page, self.head.number), len(page))
        for page in self.cargo.pages("outbox"):
            await self._put(_messages(page), len(page))
        for page in self.cargo.pages("dead_letter"):
            await self._put(_letters(page), len(page))
        await self.connection.execute(
            "UPDATE slot SET chain_number = $1, chain_link = $2 WHERE id = 0", self.head.number, self.head.link
        )
        await self.connection.execute("UPDATE folding SET documents = $1 WHERE slot = 0", self.documents)

    async def _small(self) -> Mapping[int, bytes]:
        """Copy what has the same columns on both sides; return the links at which the trail was cut, by number."""
        cuts: dict[int, bytes] = {}
        for table in TABLES.keys() - {"audit", "document", "outbox", "dead_letter", _CONTROL}:
            for page in self.cargo.pages(table):
                cuts |= {line[0]: line[1] for line in page} if table == "cut" else {}
                await self._put(_plain(table, page), len(page))
        for page in self.cargo.pages(_CONTROL):
            await self.connection.execute("UPDATE control SET stops = $1, stop = $2", *page[0])
        return cuts

    def _follow(self, page: list[Line], cuts: Mapping[int, bytes]) -> None:
        """Check that each record follows the one before."""
        for number, *_, link, record in page:
            if self.head is BEGIN and number - 1 in cuts:
                self.head = Head(number - 1, cuts[number - 1])
            if chain.extend(self.head, packing.unpack(record)) != (number, link):
                raise StoreDamagedError(
                    f"record {number} does not follow the one before; see `reconciler audit verify`"
                )
            self.head = Head(number, link)

    async def _put(self, parts: Iterable[_Into], count: int) -> None:
        for table, columns, lines in parts:
            self.sent.setdefault((table, columns), _Sum()).add(lines)
            if lines:
                await self.connection.copy_records_to_table(table, records=lines, columns=columns, timeout=_COPY_S)
        self.tell(count)

    async def verify(self) -> None:
        """Read everything back."""
        for (table, columns), sent in self.sent.items():
            there, lines = _Sum(), []
            async for line in self.connection.cursor(f"SELECT {', '.join(columns)} FROM {table}", prefetch=_PREFETCH):
                lines.append(tuple(line))
                if len(lines) >= _PREFETCH:
                    there.add(lines)
                    self.tell(len(lines))
                    lines = []
            there.add(lines)
            if there != sent:
                raise StoreDamagedError(f"{self.server.address} has not stored {table} as it was sent; nothing moved")


async def receive(server: Server, cargo: Cargo, move: str, tell: Tell) -> int:
    """Store all of a cargo, which is told just before that is final; return how many documents it has."""
    total = 2 * cargo.count()
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        tell(min(done, total), total)

    async def work(connection: Any) -> int:
        for name in TIMEOUTS:
            if name != "lock_timeout":
                await connection.execute(f"SET LOCAL {name} = 0")
        arrival = _Arrival(server, connection, cargo, count)
        await arrival.require_unused()
        await arrival.bring()
        await arrival.verify()
        await connection.execute("INSERT INTO arrived VALUES ($1)", move)
        cargo.leave(str(server.address), move)
        return arrival.documents

    return await server.transact("move a store", work)


async def has_arrived(server: Server, move: str) -> bool:
    """Whether a move was stored."""
    found = await server.fetch("read which store has arrived", "SELECT FROM arrived WHERE move = $1", move)
    return bool(found)
