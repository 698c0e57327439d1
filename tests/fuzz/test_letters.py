"""Dead letters of records that fill their log to the brim: with what is told of them they are larger than it takes."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from reconciler.core.events import decode, outcomes
from reconciler.errors import RecordTooLargeError
from reconciler.flows.outbox import Publisher
from reconciler.model.event import DeadLetter, Header, Outgoing, Refusal
from reconciler.model.stamp import Partition
from reconciler.ports import OutboxMessage
from tests.core.strategies import structured
from tests.fakes.virtual_clock import VirtualClock

LOG_BYTES_MAX = 1024 * 1024


class Narrow:
    """An outbox of given messages and a log that takes records up to a size."""

    def __init__(self, *records: Outgoing) -> None:
        self.left = dict(enumerate(records, start=1))
        self.taken: list[Outgoing] = []

    async def waiting(self, count: int) -> list[OutboxMessage]:
        return [OutboxMessage(number, record) for number, record in list(self.left.items())[:count]]

    async def published(self, numbers: Sequence[int], positions: Mapping[Partition, int]) -> None:
        for number in numbers:
            del self.left[number]

    async def append(self, records: Sequence[Outgoing]) -> Mapping[Partition, int]:
        if any(size(record) > LOG_BYTES_MAX for record in records):
            raise RecordTooLargeError("too large")
        self.taken += records
        return {}


def size(record: Outgoing) -> int:
    headers = sum(len(name.encode()) + len(said or b"") for name, said in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


CASES: list[tuple[bytes | None, bytes | None, tuple[Header, ...]]] = [
    (b"k", b"{" * (LOG_BYTES_MAX - 1), ()),
    (b"k" * LOG_BYTES_MAX, None, ()),
    (None, b"{", (("x", b"h" * (LOG_BYTES_MAX - 2)),)),
    (b"k", b"{", tuple((f"x{number}", b"h" * 104_850) for number in range(10))),
]


@pytest.mark.parametrize(("key", "value", "headers"), CASES, ids=["value", "key", "header", "headers"])
async def test_no_dead_letter_keeps_what_is_behind_it_from_going_out(key, value, headers):
    record = structured(value, key=key, headers=headers)
    refusal = decode.record(record, decode.Options())
    assert isinstance(refusal, Refusal)
    letter = DeadLetter(refusal.place, 0, key, value, headers, refusal.stage, refusal.reason, 0)
    narrow = Narrow(outcomes.dead_letter(letter, "dead"), Outgoing("outcomes", b"k", b"behind"))
    assert await Publisher(narrow, narrow, VirtualClock(), asyncio.Event()).publish() == 2
    first, second = narrow.taken
    assert second.value == b"behind"
    said = dict(first.headers)
    assert said[outcomes.ERRORS + "message"] == refusal.reason.encode()
    assert said[outcomes.ERRORS + "offset"] == b"7"
    assert b"left out" in (said[outcomes.ERRORS + "value"] or b"")
