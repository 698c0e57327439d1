"""How audit records and messages are packed, and how much of the disk they take."""

import asyncio
import hashlib
import random
import sqlite3
import threading
import uuid
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from reconciler.adapters import packing
from reconciler.adapters.sqlite import SqliteStore
from reconciler.model import codec
from reconciler.model.audit import AuditRecord, Settlement
from reconciler.model.desired import Claims, Desired, Field, Register
from reconciler.model.document import NO_AGREEMENT, Agreement, Lane, Status
from reconciler.model.event import Outgoing
from reconciler.model.stamp import Stamp
from reconciler.ports import FoldBatch
from tests.adapters.conftest import Opens


@given(st.binary() | st.text().map(str.encode))
@example(b'{"decision":{}}' * 1000)
def test_what_is_packed_comes_back(text: bytes) -> None:
    assert packing.unpack(packing.pack(text)) == text


@given(st.data())
def test_a_damaged_frame_gives_other_bytes_or_a_value_error_and_never_anything_else(data: st.DataObject) -> None:
    packed = bytearray(packing.pack(packing.DICTIONARY[100:400]))
    for place in data.draw(st.lists(st.integers(4, len(packed) - 1), min_size=1, max_size=4)):
        packed[place] = data.draw(st.integers(0, 255))
    with suppress(ValueError):
        packing.unpack(bytes(packed[: data.draw(st.integers(4, len(packed)))]))


def test_threads_do_not_meet() -> None:
    texts = [bytes(random.Random(seed).choices(packing.DICTIONARY, k=20_000)) for seed in range(4)]
    wrong: list[int] = []

    def work(text: bytes) -> None:
        wrong.extend(1 for _ in range(200) if packing.unpack(packing.pack(text)) != text)

    threads = [threading.Thread(target=work, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_another_dictionary_needs_another_schema() -> None:
    """If this fails, give `opening._SCHEMA` another number: a store's blobs are read with this dictionary only."""
    assert hashlib.blake2b(packing.DICTIONARY, digest_size=8).hexdigest() == "7882629714036ba2"


# ---------------------------------------------------------------------------------------------------------------- bytes

_ATTEMPTS = 400
_BYTES_MAX = 800  # in whole pages, with links and indexes


def ordinary(number: int) -> AuditRecord:
    """An attempt that writes two fields, as unlike the last one as in life."""
    chance = random.Random(number)
    at_us = 1_780_000_000_000_000 + number * 1_234_567
    earlier, event = (str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(2))
    key, modified = f"OR-{chance.randrange(10**8)}", "2026-05-28T20:26:40.000000Z"
    fields = {"attributes.Supplier": "Nordstahl GmbH", "attributes.Mass_kg": round(chance.uniform(1, 90), 3)}
    stamps = [["", f"2026-05-2{n}T08:00:{number % 60:02}.{number:06}Z", "", "plm.changes", n, number, "//sap/p01", uid]
              for n, uid in enumerate((earlier, event))]  # fmt: skip
    base = {name: [0, stamps[0], {}, "", {"": [at_us - 10**9]}] for name in fields}
    verdicts = [
        {
            "field": name, "verb": "write", "reasons": [{"code": "ours_only"}], "rule": "from sap", "strategy": "merge",
            "desired": value, "base": 0, "has_base": True, "live": 0, "event": event, "source": "//sap/p01",
        }
        for name, value in fields.items()
    ]  # fmt: skip
    snapshot = {"key": key, "body": dict.fromkeys(fields, 0), "token": f'"{number}-7"', "last_modified": modified}
    record = {
        "document": key, "at_us": at_us, "cause": "event", "attempt": 1,
        "desired": [{name: [[stamps[1], value, True, [], "mweber", ""]] for name, value in fields.items()}, None],
        "base": {"fields": base, "wrote": {"token": f'"{number}-7"', "modified_before": modified}},
        "snapshot": snapshot, "policy": "5976d5c0d8dcf0990f790da498c7e560", "decisions": verdicts, "patch": fields,
        "result": "written", "message": "", "status": None, "token_after": f'"{number}-8"',
    }  # fmt: skip
    return codec.decode_decision(codec.encode({"decision": record}))


def bytes_of_pages(path: Path) -> int:
    with closing(sqlite3.connect(path)) as other:
        ((bytes_,),) = other.execute("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
    return int(bytes_)


@pytest.mark.parametrize("what", ["audit", "outbox", "agreement"])
async def test_an_ordinary_attempt_leaves_few_bytes(path: Path, store: SqliteStore, opens: Opens, what: str) -> None:
    records = [ordinary(number) for number in range(_ATTEMPTS)]
    wish = Claims.of(Desired({"status": Field(Register(Stamp("", "", "", "changes", 0, 1, "", ""), 1))}))
    await store.fold(FoldBatch({one.document: wish for one in records}, {}, (), Lane.EVENT, 1000))
    sizes = []
    for kept in (False, True):  # without and with what is measured
        ends = []
        for one in records:
            agreed = Agreement(one.base, one.snapshot) if kept and what == "agreement" else NO_AGREEMENT
            fixed = (one.document, 1, agreed, Status.SYNCED, "", Lane.RESYNC, None, one.at_us)
            message = Outgoing("plm.outcomes", one.document.encode(), codec.encode(one))
            more = {"audit": {"audit": (one,)}, "outbox": {"outcomes": (message,)}}.get(what, {})
            ends.append(store.settle(Settlement(*fixed, **(more if kept else {}))))
        await asyncio.gather(*ends)
        await store.close()
        sizes.append(bytes_of_pages(path))
        store = await opens(path)
    each = (sizes[1] - sizes[0]) / _ATTEMPTS
    assert each <= _BYTES_MAX, f"{each:.0f} bytes"
    if what == "audit":
        told = await store.audit(limit=_ATTEMPTS)
        assert told == [structs.replace(one, id=number) for number, one in reversed([*enumerate(records, 1)])]


async def test_messages_that_do_not_pack_are_published_in_smaller_batches(store: SqliteStore) -> None:
    large = Outgoing("letters", None, random.Random(1).randbytes(2**20))
    wish = Claims.of(Desired({"status": Field(Register(Stamp("", "", "", "changes", 0, 1, "", ""), 1))}))
    await store.fold(FoldBatch({"d1": wish}, {}, (), Lane.EVENT, 1000))
    fixed = ("d1", 1, NO_AGREEMENT, Status.SYNCED, "", Lane.RESYNC, None, 2000)
    await store.settle(Settlement(*fixed, outcomes=(large,) * 18))
    sizes = []
    while messages := await store.waiting(500):
        assert all(message.record == large for message in messages)
        sizes.append(len(messages))
        await store.published([message.number for message in messages], {})
    assert sizes == [16, 2]
