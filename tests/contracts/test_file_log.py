"""What only a file does to a log: lines without an end, blank lines, damage, several writers."""

# ruff: noqa: ASYNC240  a test is alone on its event loop

import asyncio
import base64
import gzip
import os
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import orjson
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.adapters import file_lines
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.file_log import OUTCOMES, FileLog, FileTopics, beside, decisions_of
from reconciler.core.events import anchoring
from reconciler.errors import LogError, LogTruncatedError
from reconciler.model import instant
from reconciler.model.event import Outgoing, PlainRecord
from reconciler.model.stamp import Partition
from tests.fakes.virtual_clock import VirtualClock

PLACE = Partition("events.jsonl", 0)
TOPICS = FileTopics()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture(params=[".gz", ".zst"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"events.jsonl{request.param}"


@pytest.fixture
async def log(path: Path) -> AsyncIterator[FileLog]:
    client = FileLog(path, SystemClock())
    yield client
    await client.close()


def event(number: int) -> bytes:
    return orjson.dumps({"specversion": "1.0", "id": str(number)})


def places(records: Iterable[PlainRecord]) -> list[tuple[int, bytes | None]]:
    return [(record.offset, record.value) for record in records]


async def lines_of(path: Path, start: int = 0) -> list[tuple[int, bytes | None]]:
    """Read a file whose end is the end, a few records at a time."""
    log = FileLog(path, SystemClock(), grows=False)
    await log.open({Partition(path.name, 0): start})
    found: list[tuple[int, bytes | None]] = []
    while records := await log.fetch(3, 1):
        found += places(records)
    assert await log.positions() == await log.ends()
    await log.close()
    return found


def packed(path: Path, lines: bytes) -> bytes:
    return {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}.get(path.suffix, bytes)(lines)


# ---------------------------------------------------------------------------------------------------------------- lines


@given(
    lines=st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b""))),
    ends=st.booleans(),
    piece=st.integers(1, 50),
    start=st.integers(0, 100),
    suffix=st.sampled_from(["", ".gz", ".zst"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_lines_in_any_pieces_from_any_position(
    tmp_path: Path, *, lines: list[bytes], ends: bool, piece: int, start: int, suffix: str
) -> None:
    path = tmp_path / f"any.jsonl{suffix}"
    whole = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    path.write_bytes(packed(path, whole))
    expected = whole.split(b"\n")
    if not expected[-1]:
        del expected[-1]
    start = min(start, len(expected))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_lines, "PIECE_BYTES", piece)
        patch.setattr(file_lines, "PACKED_PIECE_BYTES", piece)
        found = asyncio.run(lines_of(path, start))
    assert found == [(number, line) for number, line in enumerate(expected) if number >= start and line.strip()]


async def test_blank_lines_keep_their_number_and_are_no_records(path: Path) -> None:
    path.write_bytes(b"\n" + event(1) + b"\r\n\r\n  \n" + event(4) + b"\n\n")
    assert await lines_of(path) == [(1, event(1) + b"\r"), (4, event(4))]


async def test_a_file_of_blank_lines_only_is_read_to_its_end(path: Path) -> None:
    path.write_bytes(b"\n\n\n")
    assert await lines_of(path) == []


async def test_a_record_is_the_line_of_its_number(path: Path, log: FileLog) -> None:
    path.write_bytes(event(0) + b"\n" + event(1) + b"\n")
    await log.open({PLACE: 1})
    records = await log.fetch(10, 1)
    assert list(records) == [records[0]] == [PlainRecord("events.jsonl", 0, 1, 0, None, event(1), ())]
    assert list(records[:1]) == list(records)
    assert list(records[1:]) == []


async def test_a_line_without_end_waits_for_it_while_the_file_grows(path: Path) -> None:
    clock = VirtualClock()
    log = FileLog(path, clock)
    path.write_bytes(event(0) + b"\n" + event(1)[:5])
    await log.open({})
    assert places(await log.fetch(10, 0)) == [(0, event(0))]
    assert await log.ends() == await log.positions() == {PLACE: 1}
    fetching = asyncio.ensure_future(log.fetch(10, 60))
    await clock.advance(30)
    assert not fetching.done()
    with path.open("ab") as file:
        file.write(event(1)[5:] + b"\n")
    await clock.advance(1)
    assert places(await fetching) == [(1, event(1))]
    assert await log.ends() == await log.positions() == {PLACE: 2}
    await log.close()


async def test_a_line_without_end_counts_if_the_file_does_not_grow(path: Path) -> None:
    path.write_bytes(event(0) + b"\n" + event(1))
    assert await lines_of(path) == [(0, event(0)), (1, event(1))]
    assert await lines_of(path, start=2) == []


async def test_a_line_that_never_ends_is_an_error(path: Path, log: FileLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_lines, "LINE_BYTES_MAX", 1000)
    monkeypatch.setattr(file_lines, "PIECE_BYTES", 100)
    path.write_bytes(event(0) + b"\n" + b"x" * 2000)
    await log.open({})
    assert places(await log.fetch(10, 0)) == [(0, event(0))]
    with pytest.raises(LogError, match="line 1 never ends"):
        await log.fetch(10, 0)


# --------------------------------------------------------------------------------------------------------------- damage


async def test_a_missing_file_is_named(log: FileLog, path: Path) -> None:
    with pytest.raises(LogError, match=r"events.jsonl can't be read: No such file or directory; create it"):
        await log.open({})


async def test_an_archive_that_was_cut_short_gives_its_lines_and_then_an_error(archive: Path) -> None:
    whole = packed(archive, b"".join(orjson.dumps({"id": os.urandom(300).hex()}) + b"\n" for _ in range(2000)))
    archive.write_bytes(whole[: len(whole) // 2])
    log = FileLog(archive, SystemClock(), grows=False)
    await log.open({})
    assert len(await log.fetch(100_000, 1)) > 500
    for _ in range(2):
        with pytest.raises(LogError, match="ends in the middle of its compressed bytes, after line"):
            await log.fetch(100_000, 1)
    await log.close()


async def test_a_file_that_is_not_an_archive_is_an_error(archive: Path) -> None:
    archive.write_bytes(event(0) + b"\n")
    log = FileLog(archive, SystemClock(), grows=False)
    await log.open({})
    with pytest.raises(LogError, match=r"can't be read after line 0: .*; is it damaged"):
        await log.fetch(1, 1)
    await log.close()


async def test_concatenated_archives_are_one_log(archive: Path) -> None:
    padding = b"\0" * 512 if archive.suffix == ".gz" else b""
    archive.write_bytes(
        packed(archive, event(0) + b"\n" + event(1)[:4]) + packed(archive, event(1)[4:] + b"\n") + padding
    )
    assert await lines_of(archive) == [(0, event(0)), (1, event(1))]


@pytest.mark.parametrize("fate", ["cut short", "replaced", "deleted"])
async def test_a_file_that_loses_lines_while_it_is_read_stops_the_reader(path: Path, log: FileLog, fate: str) -> None:
    path.write_bytes(event(0) + b"\n")
    await log.open({})
    assert await log.fetch(10, 0)
    if fate == "cut short":
        os.truncate(path, 3)
    elif fate == "replaced":
        path.rename(path.with_suffix(".1"))
        path.write_bytes(event(7) + b"\n" + event(8) + b"\n")
    else:
        path.unlink()
    with pytest.raises(LogTruncatedError, match="was replaced or cut short after line 1 was read"):
        await log.fetch(10, 0)


async def test_a_file_replaced_by_a_longer_one_is_recognised(path: Path, log: FileLog) -> None:
    path.write_bytes(event(0) + b"\n" + event(1) + b"\n")
    await log.open({})
    last = (await log.fetch(10, 0))[-1]
    path.write_bytes(b"".join(event(number) + b"\n" for number in range(10, 20)))
    anchors = {PLACE: anchoring.of(last)}
    for at in (2, 3):  # also where blank lines came after it
        with pytest.raises(LogTruncatedError, match=f"{path}: the record at 1 is not the one that was read"):
            await FileLog(path, SystemClock()).open({PLACE: at}, anchors=anchors)
    again = FileLog(path, SystemClock())
    await again.open({PLACE: 2}, accept_truncation=True, anchors=anchors)
    assert len(await again.fetch(100, 0)) == 10
    await again.close()


# ------------------------------------------------------------------------------------------------------------ appending


async def test_outcomes_and_dead_letters_go_to_files_beside_the_log(path: Path, log: FileLog) -> None:
    reasons = [("__reconciler.errors.stage", b"decode"), ("__reconciler.errors.message", "nicht gültig".encode())]
    letter = Outgoing(TOPICS.dead_letters, b"\xff", b"\x00 no JSON\n", [("content-type", b"\xfe"), *reasons])
    await log.append([Outgoing(TOPICS.outcomes, b"d", event(1)), letter, Outgoing(TOPICS.changes, b"d", event(2))])
    assert path.read_bytes() == event(2) + b"\n"
    assert path.with_name("events.outcomes.jsonl").read_bytes() == event(1) + b"\n"
    (line,) = path.with_name("events.dead-letters.jsonl").read_bytes().splitlines()
    kept = orjson.loads(line)
    assert base64.b64decode(kept["key"]) == b"\xff"
    assert base64.b64decode(kept["value"]) == b"\x00 no JSON\n"
    assert [(name, base64.b64decode(text)) for name, text in kept["headers"]] == [("content-type", b"\xfe")]
    assert kept["reasons"] == {name: text.decode() for name, text in reasons}


async def test_beside_an_archive_outcomes_are_kept_plain(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(gzip.compress(event(0) + b"\n"))
    await FileLog(path, SystemClock()).append([Outgoing(TOPICS.outcomes, b"d", event(1))])
    assert (tmp_path / "events.outcomes.jsonl").read_bytes() == event(1) + b"\n"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Outgoing(TOPICS.changes, b"d", None), "is not JSON"),
        (Outgoing(TOPICS.changes, b"d", b"{"), "is not JSON"),
        (Outgoing(TOPICS.changes, b"d", b'{"set":{}}', [("ce_id", b"1")]), "has no specversion"),
        (Outgoing(TOPICS.outcomes, b"d", b"[]"), "has no specversion"),
        (Outgoing("another-topic", b"d", event(1)), "a file log has no topic another-topic"),
    ],
)
async def test_a_record_that_is_not_a_structured_event_is_refused_and_nothing_is_written(
    path: Path, log: FileLog, record: Outgoing, message: str
) -> None:
    with pytest.raises(LogError, match=message):
        await log.append([Outgoing(TOPICS.changes, b"d", event(1)), record])
    assert not list(path.parent.iterdir())


async def test_a_pretty_printed_event_becomes_one_line(path: Path, log: FileLog) -> None:
    await log.append([Outgoing(TOPICS.changes, b"d", b'{\r\n  "specversion": "1.0",\n "id": "a\\nb"}')])
    ((_, line),) = await lines_of(path)
    assert orjson.loads(line or b"") == {"specversion": "1.0", "id": "a\nb"}


async def test_an_event_gets_its_time_of_recording_if_the_log_ranks_claims(path: Path) -> None:
    clock = VirtualClock()
    log = FileLog(path, clock, stamped=True)
    given = b'{"specversion":"1.0","id":"1","data":{"set":{"weight":1.000e0}},"recordedtime":"2001-01-01T00:00:00Z"}'
    await log.append([Outgoing("windchill.document.changes", None, given)])
    await log.append([Outgoing("windchill.document.outcomes", None, given)])
    (line,) = path.read_bytes().splitlines()
    assert orjson.loads(line)["recordedtime"] == instant.from_us(clock.now_us())
    assert b'"weight":1.000e0' in line
    assert beside(path, OUTCOMES).read_bytes() == given + b"\n"


async def test_an_event_is_not_glued_to_a_line_that_has_no_end(path: Path, log: FileLog) -> None:
    path.write_bytes(event(0))
    await log.append([Outgoing(TOPICS.changes, b"d", event(1))])
    assert await lines_of(path) == [(0, event(0)), (1, event(1))]


async def test_many_writers_at_once_lose_nothing_and_mix_nothing(path: Path) -> None:
    large = orjson.dumps({"specversion": "1.0", "padding": "x" * 200_000})

    async def write(writer: int) -> None:
        log = FileLog(path, SystemClock())
        for number in range(10):
            await log.append(
                [Outgoing(TOPICS.changes, b"d", event(writer * 100 + number)), Outgoing(path.name, b"", large)]
            )

    await asyncio.gather(*[write(writer) for writer in range(5)])
    found = [line for _, line in await lines_of(path)]
    assert found[1::2] == [large] * 50
    appended = [event(writer * 100 + number) for writer in range(5) for number in range(10)]
    assert sorted(filter(None, found[::2])) == sorted(appended)


async def test_a_disk_that_is_full_leaves_no_half_line(
    path: Path, log: FileLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.append([Outgoing(TOPICS.changes, b"d", event(0))])
    write = os.write
    answers: Sequence[int] = [7, 0]
    remaining = list(answers)

    def fill_up(descriptor: int, lines: bytes) -> int:
        if room := remaining.pop(0):
            return write(descriptor, lines[:room])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", fill_up)
    with pytest.raises(LogError, match=r"events.jsonl can't be appended to: No space left on device"):
        await log.append([Outgoing(TOPICS.changes, b"d", event(1))])
    monkeypatch.undo()
    assert path.read_bytes() == event(0) + b"\n"


async def test_a_lock_that_is_never_released_is_an_error(path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    clock = VirtualClock()
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        appending = asyncio.ensure_future(FileLog(path, clock).append([Outgoing(TOPICS.changes, b"d", event(1))]))
        while not appending.done():
            await asyncio.sleep(0.001)  # the attempt itself runs in a thread
            await clock.advance(1)
        with pytest.raises(LogError, match="another process has held its lock for 10 s"):
            await appending
    assert path.read_bytes() == b""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell; the file is looked at now and then")
async def test_a_line_is_read_as_soon_as_it_is_written(path: Path) -> None:
    path.touch()
    clock = VirtualClock()
    log = FileLog(path, clock)
    await log.open({})
    for number, file in enumerate([path, decisions_of(path), path, decisions_of(path)]):
        fetching = asyncio.create_task(log.fetch(10, 60))
        await asyncio.sleep(0.02)
        with file.open("ab") as growing:
            growing.write(event(number) + b"\n")
        if number == 1:  # this file was not there yet
            await clock.advance(1.1)
        records = await asyncio.wait_for(fetching, 10)
        assert [record.value for record in records] == [event(number)]
    assert clock.monotonic_s() == 1.1
    await log.close()
