"""
The file of an exported audit trail, as `audit export` writes it and `audit verify --file` reads it.

- one header, `{"format":"windchill-reconciler/audit/2","document":D}`: D is null for a piece of the chain, which has no
  gaps, else the document whose records these are;
- the policies, `{"policy":DIGEST,"rules":{…}}`;
- the records, oldest first, `{"number":N,"previous":HASH,"link":HASH,"record":{…}}`.

Of a trail with several chains, one chain follows the other, and `"ordinal":O` after `previous` says which of its
document's records this is; those of one document are in that order. `"part":true` in the header: the chains' pieces may
begin after their first records.

The record's bytes, from after `"record":` to before the last `}`, are those that were hashed (see `model/chain.py`);
a policy's are those from after `"rules":`. `previous` is null where the record before is missing. A record that is
not JSON, because someone has changed it, is written as `"damaged":"…"` in hexadecimal; a policy that is none is left
out, which verification notices. Lines are compared with what an export would have written, so that nothing can be added
to a line that its link does not cover.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain as chained
from typing import Annotated

import msgspec

from reconciler.core.explain.trail import Fault, Scope
from reconciler.errors import ArchiveError, ReconcilerError
from reconciler.model import chain, codec
from reconciler.model.audit import AuditRecord
from reconciler.model.chain import CHECKPOINTS, GENESIS, Entry, Head
from reconciler.model.codec import UNREADABLE

_FORMAT = "windchill-reconciler/audit/2"
_NOT_OURS = "was not written by `reconciler audit export`; give a file that was"

_encode = msgspec.json.encode


class _Header(msgspec.Struct, frozen=True, omit_defaults=True):
    format: str
    document: str | None
    part: bool = False


class _Policy(msgspec.Struct, frozen=True):
    policy: str
    rules: msgspec.Raw


class _Record(msgspec.Struct, frozen=True):
    number: Annotated[int, msgspec.Meta(le=2**63 - 1)]
    previous: str | None
    link: str
    record: msgspec.Raw = msgspec.Raw()
    damaged: str = ""
    ordinal: int | msgspec.UnsetType = msgspec.UNSET


_header = msgspec.json.Decoder(_Header).decode
_policy = msgspec.json.Decoder(_Policy).decode
_record = msgspec.json.Decoder(_Record).decode


def header(document: str | None, *, part: bool = False) -> bytes:
    """Return the first line."""
    return _encode(_Header(_FORMAT, document, part)) + b"\n"


def policy(digest: str, text: bytes) -> bytes:
    """Return the line of a policy, empty if the text is not JSON."""
    if not _is_json_line(text):
        return b""
    return b'{"policy":%b,"rules":%b}\n' % (_encode(digest), text)


def record(entry: Entry) -> bytes:
    """Return the line of a record."""
    previous = GENESIS if entry.is_first else entry.previous
    told = _encode(None if previous is None else previous.hex())
    ordinal = b"" if isinstance(entry.ordinal, msgspec.UnsetType) else b',"ordinal":%d' % entry.ordinal
    start = b'{"number":%d,"previous":%b%b,"link":"%b",' % (entry.number, told, ordinal, entry.link.hex().encode())
    if _is_json_line(entry.record):
        return start + b'"record":%b}\n' % entry.record
    return start + b'"damaged":"%b"}\n' % entry.record.hex().encode()


def archived(entries: Sequence[Entry], policies: Mapping[str, bytes]) -> bytes:
    """Return the file that an archive keeps of a piece of one chain, with the policies of its decisions."""
    used = {digest for digest in map(_policy_of, entries) if digest is not None}
    lines = [header(None, part=not entries[0].is_first)]
    lines += [policy(digest, policies[digest]) for digest in sorted(used & policies.keys())]
    return b"".join((*lines, *map(record, entries)))


def archive_name(begin: Head, end: Head) -> str:
    """Return the name of the archive of a piece: the chain, and the places in it of the first and the last record."""
    return f"audit-{end.chain}-{begin.records + 1}-{end.records}.jsonl.zst"


def require_piece(content: bytes, begin: Head, end: Head) -> None:
    """Raise ArchiveError unless a file holds, by the links, the records after one head up to another."""
    exported = Exported("the archive", content.splitlines())
    head = begin
    for entry in exported.entries():
        if not isinstance(entry, Entry) or chain.extend(head, entry.record) != (entry.number, entry.link):
            at = entry.number if isinstance(entry, Entry) else entry.text
            raise ArchiveError(f"the audit trail is damaged at record {at}; `reconciler audit verify` says more")
        head = Head(entry.number, entry.link)
    if head != end or exported.faults:
        raise ArchiveError(f"the audit trail changed while it was archived, before record {end.number}")


class Exported:
    """A file that is read: scope and policies at once, then the entries one by one."""

    def __init__(self, name: str, lines: Iterable[bytes]) -> None:
        """Read up to the first record; raises ReconcilerError if the file, called `name`, is of another kind."""
        self._lines: Iterator[tuple[int, bytes]] = enumerate(lines, start=1)
        _, line = next(self._lines, (1, b""))
        try:
            found = _header(line)
        except UNREADABLE as error:
            raise ReconcilerError(f"{name} {_NOT_OURS}") from error
        if found.format.startswith(_FORMAT[:-1]) and found.format != _FORMAT:
            raise ReconcilerError(
                f"{name} was exported by another version ({found.format}); that version can verify it"
            )
        if found.format != _FORMAT or line + b"\n" != header(found.document, part=found.part):
            raise ReconcilerError(f"{name} {_NOT_OURS} (its first line says {found.format!r})")
        self.faults: list[Fault] = []  # of lines before the first record
        self.policies: Mapping[str, bytes] = dict(self._take_policies())
        self.scope = Scope(found.document, not found.part and self._begins())

    def entries(self) -> Iterator[Entry | Fault]:
        """Yield the records, and a fault for each line that no export has written."""
        return (_entry(number, line) for number, line in self._lines)

    def _begins(self) -> bool:
        """Whether the next line is the first of its chain, as far as can be told."""
        for number, line in self._lines:
            self._put_back(number, line)
            first = _entry(number, line)
            return not isinstance(first, Entry) or first.is_first
        return True

    def _put_back(self, number: int, line: bytes) -> None:
        self._lines = chained([(number, line)], self._lines)

    def _take_policies(self) -> Iterator[tuple[str, bytes]]:
        for number, line in self._lines:
            if not line.startswith(b'{"policy":'):
                self._put_back(number, line)
                return
            try:
                found = _policy(line)
            except UNREADABLE:
                self.faults.append(_strange(number))
                continue
            text = bytes(found.rules)
            if policy(found.policy, text) != line + b"\n":
                self.faults.append(_strange(number))
            yield found.policy, text


def _entry(number: int, line: bytes) -> Entry | Fault:
    try:
        found = _record(line)
        text = bytes.fromhex(found.damaged) if found.damaged else bytes(found.record)
        previous = None if found.previous is None else bytes.fromhex(found.previous)
        entry = Entry(found.number, previous, bytes.fromhex(found.link), text, ordinal=found.ordinal)
    except UNREADABLE:
        return _strange(number)
    return entry if record(entry) == line + b"\n" else _strange(number)


def _strange(line: int) -> Fault:
    return Fault(None, None, f"line {line} of the file was not written by an export")


def _policy_of(entry: Entry) -> str | None:
    if entry.chain == CHECKPOINTS:
        return None
    try:
        found = codec.decode_record(entry.record)
    except UNREADABLE:
        return None
    return found.policy if isinstance(found, AuditRecord) else None


def _is_json_line(text: bytes) -> bool:
    if b"\n" in text or b"\r" in text:
        return False
    try:
        msgspec.json.decode(text)
    except UNREADABLE:
        return False
    return True
