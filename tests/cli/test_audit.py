"""`reconciler audit verify` and `export`, over a store of the program's that someone has changed."""

import gzip
import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zstandard

from reconciler.adapters import packing
from reconciler.model import chain
from tests.cli.program import Program

pytestmark = pytest.mark.e2e

DOC, OTHER = "0000000001", "0000000002"


@pytest.fixture
def living(program: Program) -> Program:
    """Six decisions in the trail: three of each document."""
    return decided(program)


@pytest.fixture(scope="module")
def made(untouched: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of such a program, made once."""
    return decided(Program(tmp_path_factory.mktemp("made"), untouched)).folder / "state.db"


@pytest.fixture
def trailed(made: Path, tmp_path: Path) -> Program:
    """A program with a copy of that store, for looking at it."""
    shutil.copy(made, tmp_path)
    return Program(tmp_path, "http://127.0.0.1:9")


def decided(program: Program) -> Program:
    decide(program)
    assert [entry[0] for entry in rows(program)] == [1, 2, 3, 4, 5, 6]
    return program


def decide(program: Program) -> None:
    for owner in ("akim", "sgarcia", "bmuller"):
        with pytest.MonkeyPatch.context() as elsewhere:  # no store is at hand there, so no action stands between
            elsewhere.setenv("RECONCILER_STORE__URL", "sqlite:///nowhere.db")
            for document in (DOC, OTHER):
                program.emits(document, "--set", f"owner={owner}", "--set", "status=RELEASED")
        program.say("run", "--once")


def rows(program: Program) -> list[Any]:
    with closing(sqlite3.connect(program.folder / "state.db")) as store:
        found = store.execute("SELECT id, document, at_us, link, record FROM audit ORDER BY id").fetchall()
    return [(*columns, packing.unpack(record)) for *columns, record in found]


def head_of(program: Program) -> str:
    (line,) = [line for line in program.say("audit", "verify").splitlines() if line.startswith("head ")]
    return line.removeprefix("head ")


def test_a_whole_trail_is_verified_and_its_head_is_told(trailed: Program) -> None:
    told = trailed.say("audit", "verify")
    number, _, _, link, _ = rows(trailed)[-1]
    assert "6 decisions recomputed; differing: 0." in told
    assert f"head {number}:{link.hex()}" in told.splitlines()
    assert trailed.json("audit", "verify", "--head", head_of(trailed)) == []


def test_programs_get_an_array_and_the_head_beside_it(trailed: Program) -> None:
    ended = trailed.run("audit", "verify", "-o", "json")
    assert json.loads(ended.stdout) == []
    assert f"head {head_of(trailed)}" in ended.stderr.splitlines()


def test_a_store_without_records_is_whole_and_has_no_head(program: Program) -> None:
    program.log.touch()
    program.say("run", "--once")
    assert "There are no records." in program.say("audit", "verify")
    assert program.json("audit", "verify", "--head", f"1:{'0' * 64}", code=1)[0]["id"] == 1


TAMPERINGS: dict[str, tuple[str, set[int]]] = {
    "a record": ("UPDATE audit SET record = packed(replace(plain(record), 'akim', 'eve1')) WHERE id = 1", {1}),
    "a blank in a record": ("UPDATE audit SET record = packed(plain(record) || ' ') WHERE id = 3", {3}),
    "a record into one not packed": ("UPDATE audit SET record = plain(record) || ' ' WHERE id = 3", {3}),
    "a byte after a packed record": ("UPDATE audit SET record = CAST(record || ' ' AS BLOB) WHERE id = 3", {3}),
    "a packed record into half of it": ("UPDATE audit SET record = substr(record, 1, 60) WHERE id = 3", {3}),
    "a packed record into a huge one": ("UPDATE audit SET record = x'28b52ffde0ffffffffffffff7f00' WHERE id = 3", {3}),
    "a record into nothing": ("UPDATE audit SET record = x'' WHERE id = 3", {3}),
    "a record into another type": ("UPDATE audit SET record = 42 WHERE id = 3", {3}),
    "a record into bytes that break lines": ("UPDATE audit SET record = x'0a00ff200a' WHERE id = 3", {3}),
    "a link": ("UPDATE audit SET link = zeroblob(32) WHERE id = 4", {4, 5}),
    "a link into nothing": ("UPDATE audit SET link = '' WHERE id = 4", {4, 5}),
    "the document it is filed under": ("UPDATE audit SET document = 'else' WHERE id = 2", {2}),
    "the document's type": ("UPDATE audit SET document = CAST(document AS BLOB) WHERE id = 2", {2}),
    "the time it is filed under": ("UPDATE audit SET at_us = at_us + 1 WHERE id = 2", {2}),
    "the time's type": ("UPDATE audit SET at_us = 'noon' WHERE id = 2", {2}),
    "its kind": ("UPDATE audit SET target = 'd', who = 'eve', kind = 'pause' WHERE id = 2", {2}),
    "a record away": ("DELETE FROM audit WHERE id = 3", {4}),
    "the first records away": ("DELETE FROM audit WHERE id <= 2", {3}),
    "a number": ("UPDATE audit SET id = -5 WHERE id = 3", {-5, 4}),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_whatever_is_changed_in_the_middle_is_found_and_told_where(trailed: Program, name: str) -> None:
    statement, places = TAMPERINGS[name]
    trailed.tamper(statement)
    found = trailed.json("audit", "verify", code=1)
    assert {fault["id"] for fault in found} == places
    assert found[0].keys() == {"id", "document", "fault"}
    told = trailed.say("audit", "verify", code=1)
    assert "The trail was changed or is damaged" in told
    assert "head " not in told, "no one should keep the head of a broken chain"
    trailed.say("audit", "export", "--to", "audit.jsonl")
    filed = name.startswith(("the document", "the time", "its kind"))  # columns are not exported
    assert bool(trailed.json("audit", "verify", "--file", "audit.jsonl", code=int(not filed))) is not filed


def test_records_that_changed_places_are_found(trailed: Program) -> None:
    trailed.tamper(*(f"UPDATE audit SET id = {new} WHERE id = {old}" for old, new in ((2, 99), (5, 2), (99, 5))))
    assert {2, 5} <= {fault["id"] for fault in trailed.json("audit", "verify", code=1)}


def test_a_record_slipped_in_is_found(trailed: Program) -> None:
    shift = "UPDATE audit SET id = -id - 1 WHERE id > 3", "UPDATE audit SET id = -id WHERE id < 0"
    copy = "INSERT INTO audit SELECT 4, document, at_us, target, who, kind, link, record FROM audit WHERE id = 3"
    trailed.tamper(*shift, copy)
    assert 4 in {fault["id"] for fault in trailed.json("audit", "verify", code=1)}


def test_the_newest_records_are_missed_with_a_head_that_was_kept(trailed: Program) -> None:
    kept = head_of(trailed)
    trailed.tamper("DELETE FROM audit WHERE id > 4")
    assert trailed.json("audit", "verify") == []
    (found,) = trailed.json("audit", "verify", "--head", kept, code=1)
    assert found["id"] == 6
    assert "no such record" in found["fault"]


def test_a_trail_that_went_on_after_a_removal_is_not_the_one_whose_head_was_kept(living: Program) -> None:
    kept = head_of(living)
    living.tamper("DELETE FROM audit WHERE id > 4")
    for owner in ("mnovak", "akim"):
        living.emits(DOC, "--set", f"owner={owner}")
        living.say("run", "--once")
    assert living.json("audit", "verify") == []
    assert [fault["id"] for fault in living.json("audit", "verify", "--head", kept, code=1)] == [6]


def test_a_head_that_was_kept_holds_while_the_trail_grows(living: Program) -> None:
    kept = head_of(living)
    living.emits(DOC, "--set", "owner=mnovak")
    living.say("run", "--once")
    assert living.json("audit", "verify", "--head", kept, "--head", head_of(living)) == []


def test_a_policy_that_was_changed_is_found(trailed: Program) -> None:
    trailed.tamper("UPDATE policy SET policy = CAST(replace(policy, 'preserve', 'external') AS BLOB)")
    (found,) = trailed.json("audit", "verify", code=1)
    assert found["id"] == 1
    assert "does not match its digest" in found["fault"]


def test_a_decision_that_was_forged_with_its_chain_does_not_come_out_again(
    trailed: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, statements = chain.BEGIN, []
    for number, _, _, _, record in rows(trailed):
        forged = record.replace(b'"patch":{"owner":"sgarcia"}', b'"patch":{"owner":"eve"}')
        head = chain.extend(head, forged)
        statements.append(
            f"UPDATE audit SET record = x'{forged.hex()}', link = x'{head.link.hex()}' WHERE id = {number}"
        )
    trailed.tamper(*statements)
    found = trailed.json("audit", "verify", code=1)
    assert len(found) == 2
    assert all("patch was" in fault["fault"] for fault in found)


# ------------------------------------------------------------------------------------------------- spans and documents


def test_a_documents_records_are_verified_and_what_that_leaves_open_is_said(trailed: Program) -> None:
    told = trailed.say("audit", "verify", "--document", DOC)
    assert "3 decisions recomputed; differing: 0." in told
    assert "shows only when the whole trail is verified" in told
    assert "head " not in told
    trailed.tamper(f"UPDATE audit SET record = CAST(record || ' ' AS BLOB) WHERE document = '{DOC}'")
    assert len({fault["id"] for fault in trailed.json("audit", "verify", "--document", DOC, code=1)}) == 3


def test_a_span_is_verified_from_where_it_begins(trailed: Program) -> None:
    since = trailed.json("audit", "list")[3]["at"]  # newest first: the third of six
    assert "The chain holds from record 3 to record 6; earlier records were not checked." in trailed.say(
        "audit", "verify", "--since", since
    )
    trailed.tamper("UPDATE audit SET record = CAST(record || ' ' AS BLOB) WHERE id IN (2, 4)")
    assert {fault["id"] for fault in trailed.json("audit", "verify", "--since", since, code=1)} == {4}


@pytest.mark.parametrize("option", [("--document", DOC), ("--since", "2h"), ("--until", "2999-01-01")])
def test_a_head_is_about_the_whole_trail(program: Program, option: tuple[str, str]) -> None:
    assert "leave out" in program.fails("audit", "verify", "--head", f"1:{'0' * 64}", *option, code=2)
    assert "leave out" in program.fails("audit", "verify", "--file", "x.jsonl", *option, code=2)


def test_what_is_no_head_is_refused(program: Program) -> None:
    assert "NUMBER:HASH" in program.fails("audit", "verify", "--head", "7:ab", code=2)


# --------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("name", ["audit.jsonl", "audit.jsonl.gz", "audit.jsonl.zst"])
def test_an_export_is_verified_without_the_store(trailed: Program, name: str) -> None:
    told = trailed.say("audit", "verify")
    trailed.say("audit", "export", "--to", name)
    (trailed.folder / "state.db").unlink()
    ended = trailed.run("audit", "verify", "--file", name, configured=False)
    assert (ended.returncode, ended.stdout) == (0, told)


def test_an_export_holds_each_record_as_it_is_stored_oldest_first(trailed: Program) -> None:
    trailed.say("audit", "export", "--to", "audit.jsonl")
    lines = (trailed.folder / "audit.jsonl").read_bytes().splitlines()
    records = [line for line in lines if line.startswith(b'{"number":')]
    assert [json.loads(line)["number"] for line in records] == [1, 2, 3, 4, 5, 6]
    assert [line.split(b',"record":', 1)[1][:-1] for line in records] == [row[4] for row in rows(trailed)]
    assert [json.loads(line)["link"] for line in records] == [row[3].hex() for row in rows(trailed)]


def exported(program: Program, *span: str) -> Path:
    program.say("audit", "export", "--to", "audit.jsonl", *span)
    return program.folder / "audit.jsonl"


EDITS: dict[str, Callable[[list[bytes]], object]] = {
    "a value": lambda lines: lines.__setitem__(3, lines[3].replace(b"RELEASED", b"RELEASEX", 1)),
    "a number": lambda lines: lines.__setitem__(3, lines[3].replace(b'"number":2', b'"number":3')),
    "a huge number": lambda lines: lines.__setitem__(3, lines[3].replace(b'"number":2', b'"number":%d' % 2**99)),
    "the link told of the record before": lambda lines: lines.__setitem__(
        3, lines[3].replace(json.loads(lines[3])["previous"].encode(), b"0" * 64)
    ),
    "a link": lambda lines: lines.__setitem__(3, lines[3].replace(json.loads(lines[3])["link"].encode(), b"0" * 64)),
    "a member more": lambda lines: lines.__setitem__(3, lines[3][:-1] + b',"approved":true}'),
    "a blank more": lambda lines: lines.__setitem__(3, lines[3] + b" "),
    "a line away": lambda lines: lines.pop(3),
    "two lines exchanged": lambda lines: lines.insert(3, lines.pop(4)),
    "a line twice": lambda lines: lines.insert(3, lines[3]),
    "a line slipped in": lambda lines: lines.insert(3, b"{}"),
    "an empty line": lambda lines: lines.insert(3, b""),
    "bytes that are no text": lambda lines: lines.insert(3, b"\xff"),
    "the policy": lambda lines: lines.__setitem__(1, lines[1].replace(b"preserve", b"external")),
    "the policy away": lambda lines: lines.pop(1),
    "a blank in the policy's line": lambda lines: lines.__setitem__(1, lines[1].replace(b":", b": ", 1)),
    "what the file says it is": lambda lines: lines.__setitem__(0, lines[0].replace(b"null", b'"%b"' % DOC.encode())),
}


@pytest.mark.parametrize("name", EDITS)
def test_whatever_is_changed_in_a_file_is_found(trailed: Program, name: str) -> None:
    path = exported(trailed)
    lines = path.read_bytes().splitlines()
    assert [line for line in lines if line.startswith(b'{"number":')] == lines[2:8]
    before = list(lines)
    EDITS[name](lines)
    assert lines != before
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert trailed.json("audit", "verify", "--file", "audit.jsonl", code=1)


def test_a_file_cut_short_is_found_with_a_head_that_was_kept(trailed: Program) -> None:
    kept = head_of(trailed)
    path = exported(trailed)
    assert trailed.json("audit", "verify", "--file", "audit.jsonl", "--head", kept) == []
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:7], *lines[8:]]))
    assert trailed.json("audit", "verify", "--file", "audit.jsonl") == []
    assert [
        fault["id"] for fault in trailed.json("audit", "verify", "--file", "audit.jsonl", "--head", kept, code=1)
    ] == [6]


def test_an_export_of_a_span_says_that_it_begins_in_mid_chain(trailed: Program) -> None:
    since = trailed.json("audit", "list")[3]["at"]
    ended = trailed.run("audit", "export", "--to", "audit.jsonl", "--since", since)
    assert "begins with record 3;" in ended.stderr
    told = trailed.say("audit", "verify", "--file", "audit.jsonl")
    assert "holds from record 3 to record 6; earlier records were not checked" in told
    lines = (trailed.folder / "audit.jsonl").read_bytes().splitlines(keepends=True)
    (trailed.folder / "audit.jsonl").write_bytes(b"".join([*lines[:3], *lines[4:]]))
    (found,) = trailed.json("audit", "verify", "--file", "audit.jsonl", code=1)
    assert (found["id"], found["fault"]) == (5, "missing before it: 4")


def test_an_export_of_a_document_is_verified_record_by_record(trailed: Program) -> None:
    exported(trailed, "--document", OTHER)
    told = trailed.say("audit", "verify", "--file", "audit.jsonl")
    assert "3 decisions recomputed; differing: 0." in told
    assert f"Each record of {OTHER} matches its link" in told


def programs() -> list[str]:
    """The programs in the documentation: one verifies an export, the other reads a store."""
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    verifies, reads = sorted(re.findall(r"```python\n(.*?)```", page, re.DOTALL), key=lambda text: "sqlite3" in text)
    return [verifies, reads]


def test_the_program_in_the_documentation_verifies_an_export(trailed: Program) -> None:
    program, _ = programs()
    path = exported(trailed)
    command = [sys.executable, "-W", "ignore", "-c", program, str(path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"head {head_of(trailed)}\n"
    path.write_bytes(path.read_bytes().replace(b"akim", b"eve1", 1))
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "broken at record 1\n")


def test_the_store_and_a_packed_export_are_read_with_nothing_but_sqlite_and_zstd(trailed: Program) -> None:
    trailed.say("docs", "pause", DOC)
    trailed.say("audit", "export", "--to", "audit.jsonl.zst")
    with (trailed.folder / "audit.jsonl.zst").open("rb") as file:
        lines = [json.loads(line) for line in zstandard.ZstdDecompressor().stream_reader(file).read().splitlines()]
    exported = [(str(line["number"]), line["link"], line["record"]) for line in lines if "record" in line]
    _, program = programs()
    command = [sys.executable, "-W", "ignore", "-c", program]
    said = subprocess.run(command, cwd=trailed.folder, capture_output=True, text=True, check=True).stdout
    link, found = bytes(32), []
    for number, told, record in (line.split(" ", 2) for line in said.splitlines()):
        text = b"windchill-reconciler/audit/2\n" + link + int(number).to_bytes(8, "big") + record.encode()
        link = hashlib.sha256(text).digest()
        assert link.hex() == told
        found.append((number, told, json.loads(record)))
    assert len(found) == 7
    assert found == exported


def test_a_file_that_is_no_export_is_refused(program: Program) -> None:
    for name, content in (("a.jsonl", b'{"specversion":"1.0"}\n'), ("b.jsonl", b""), ("c.jsonl", b"\xff\x00")):
        (program.folder / name).write_bytes(content)
        assert "was not written by `reconciler audit export`" in program.fails("audit", "verify", "--file", name)
    (program.folder / "old.jsonl").write_bytes(b'{"format":"windchill-reconciler/audit/1","document":null}\n')
    assert "exported by another version" in program.fails("audit", "verify", "--file", "old.jsonl")
    (program.folder / "d.jsonl.gz").write_bytes(gzip.compress(b"x" * 100)[:-9])
    assert "d.jsonl.gz" in program.fails("audit", "verify", "--file", "d.jsonl.gz")
    assert "can't be read" in program.fails("audit", "verify", "--file", "nowhere.jsonl")
