"""Files under fire: logs torn, cut and damaged, configurations of any text; and what a terminal is shown."""

import contextlib
import gzip
import io
import random
import tempfile
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from reconciler import config
from reconciler.adapters.file_lines import LineReader
from reconciler.cli import log_output, output
from reconciler.core.events import decode
from reconciler.errors import ConfigError, LogError
from reconciler.model.event import Refusal
from tests.fuzz import mutating, test_decode

FOLDER = Path(tempfile.gettempdir())
LINES = [b'{"n":%d,"x":"%s"}' % (number, b"ab" * (number % 40)) for number in range(400)]
numbers = st.integers(0, 2**64 - 1)


def packed(suffix: str, lines: list[bytes], chance: random.Random) -> bytes:
    """A log as `.jsonl`, `.gz` or `.zst`, the packed ones as one frame or several."""
    text = b"\n".join(lines) + chance.choice([b"\n", b""])
    pack = {".jsonl": bytes, ".gz": lambda part: gzip.compress(part, 1), ".zst": zstandard.compress}[suffix]
    at = chance.randrange(len(text))
    return pack(text[:at]) + pack(text[at:]) if chance.random() < 0.5 else pack(text)


def damaged(suffix: str, whole: bytes, chance: random.Random) -> bytes:
    """The same, cut short, with a byte changed, or with something after it."""
    at = chance.randrange(len(whole))
    match chance.randrange(4):
        case 0:
            return whole[:at]
        case 1:
            return whole[:at] + bytes([whole[at] ^ (1 << chance.randrange(8))]) + whole[at + 1 :]
        case 2:
            return whole + chance.choice([b"\0" * 9, b"x", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", chance.randbytes(40)])
    return chance.choice(mutating.TOKENS) + whole


def read_all(path: Path, *, grows: bool) -> tuple[list[bytes], LogError | None]:
    """Every line, and the error that ended it; the error must stay."""
    found: list[bytes] = []
    reader = LineReader(path, grows=grows)
    try:
        while (lines := reader.read()) is not None:
            found += lines
            assert reader.line == len(found)
    except LogError as error:
        for _ in range(3):
            with pytest.raises(LogError):
                reader.read()
        return found, error
    finally:
        reader.close()
    return found, None


@given(numbers, st.sampled_from([".jsonl", ".gz", ".zst"]), st.booleans())
def test_a_damaged_log_gives_its_lines_up_to_the_damage_and_then_says_so_for_good(number, suffix, grows):
    chance = random.Random(number)
    whole = packed(suffix, LINES[: chance.choice((1, 7, 400))], chance)
    text = damaged(suffix, whole, chance)
    with tempfile.TemporaryDirectory() as folder, mutating.bounded():
        path = Path(folder) / f"events{suffix}"
        path.write_bytes(text)
        found, error = read_all(path, grows=grows)
        if error is None:
            counter = LineReader(path, grows=grows)
            with contextlib.closing(counter):
                while counter.skip(None):
                    pass
                assert counter.line == len(found)
    if whole.startswith(text) and suffix != ".jsonl":  # cut short: what is there is right, and the rest is missed
        assert found == LINES[: len(found)] or found[:-1] == LINES[: len(found) - 1]
        assert error is not None or not text or _ends_with_a_frame(suffix, text)


def _ends_with_a_frame(suffix: str, text: bytes) -> bool:
    """Whether a cut fell between two frames, where it can't be seen."""
    try:
        return bool(gzip.decompress(text)) if suffix == ".gz" else bool(zstandard.decompress(text))
    except (OSError, EOFError, zlib.error, zstandard.ZstdError):
        return False


@given(mutating.mutated(mutating.seeds("config/*/*.toml", "config/*.toml")))
def test_no_configuration_gets_past(text):
    with tempfile.TemporaryDirectory() as folder, mutating.bounded():
        path = Path(folder) / "reconciler.toml"
        path.write_bytes(text)
        with contextlib.suppress(ConfigError):  # the only error there is
            assert isinstance(config.load(path, {}), config.Config)


@given(numbers)
def test_no_reason_steers_a_terminal(number):
    record = test_decode.hostile_event(number)
    refusal = decode.record(record, decode.Options())
    if not isinstance(refusal, Refusal):
        return
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        columns = (output.Column("id", "id", whole=True), output.Column("reason", "reason"))
        output.report("table", [{"id": "t/0/1", "reason": refusal.reason}], columns, "")
        output.facts([("reason", refusal.reason), ("value", (record.value or b"")[:2000].decode("utf-8", "replace"))])
    assert said.getvalue().replace("\n", "").isprintable()


# --------------------------------------------------------------------------------------------------------------- finds


def test_a_small_file_that_stands_for_gigabytes_is_read_a_piece_at_a_time(tmp_path):
    path = tmp_path / "events.zst"
    packer = zstandard.ZstdCompressor().compressobj()
    with path.open("wb") as file:
        for _ in range(300):
            file.write(packer.compress(b"a" * 999_999 + b"\n"))
        file.write(packer.flush())
    reader = LineReader(path, grows=False)
    with contextlib.closing(reader):
        sizes = []
        while (lines := reader.read()) is not None:
            sizes.append(sum(map(len, lines)))
    assert sum(sizes) == 300 * 999_999
    assert max(sizes) < 200 * 1024 * 1024


def test_damage_that_was_met_once_is_met_for_good(tmp_path):
    first, second = (zstandard.compress(random.Random(seed).randbytes(100_000).hex().encode()) for seed in (1, 2))
    path = tmp_path / "events.zst"
    whole = first + b"no frame" + second
    path.write_bytes(whole)
    _, error = read_all(path, grows=False)
    assert error is not None


def test_a_document_s_key_does_not_steer_the_terminal_that_logs_go_to(monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(said, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", said)
    renderer = log_output._renderer()
    shown = str(renderer(None, "info", {"event": "document settled", "document": "\x1b[2J\x9b0m\u202ex", "count": 1}))
    assert "\\x1b[2J\\x9b0m\\u202ex" in shown
    assert not {"\x1b[2J", "\x9b", "\u202e"} & {shown[at : at + size] for size in (1, 4) for at in range(len(shown))}
