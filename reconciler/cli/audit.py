"""
`reconciler audit`: every decision with its inputs, and whether it is still the one that was recorded.

The exported trail: what `audit export` writes and `audit verify --file` reads.

A file is JSON lines, in this order:

- one header, `{"format":"windchill-reconciler/audit/2","document":D}`: D is null for a piece of the chain, which has no
  gaps, else the document whose records these are;
- the policies, `{"policy":DIGEST,"rules":{…}}`;
- the records, oldest first, `{"number":N,"previous":HASH,"link":HASH,"record":{…}}`.

The record's bytes, from after `"record":` to before the last `}`, are those that were hashed (see `model/chain.py`);
a policy's are those from after `"rules":`. `previous` is null where the record before is missing. A record that is no
JSON, which somebody must have made of it, is written as `"damaged":"…"` in hexadecimal instead; a policy that is none
is left out, and will be missed. Lines are compared with what an export would have written, so that nothing can be added
to one which its link does not cover.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain as chained
from pathlib import Path
from typing import Annotated, Any

import attrs
import click
import msgspec

from reconciler import views
from reconciler.cli import commands, exits, files, looking, options, output
from reconciler.config import Config
from reconciler.core.explain.trail import Fault, Scope, Verifier
from reconciler.errors import ReconcilerError, UsageError
from reconciler.model import chain, codec
from reconciler.model.action import OperatorAction
from reconciler.model.audit import AuditRecord
from reconciler.model.chain import GENESIS, Entry, Head, Recorded
from reconciler.model.codec import UNREADABLE

audit = commands.family(
    "audit", "The trail of decisions and acts: list it, show or export it, verify that it is whole."
)

_COLUMNS = (
    output.Column("id", "id", whole=True, right=True),
    output.Column("at", "at", output.when, whole=True),
    output.Column("document", "document", whole=True),
    output.Column("result", "result", whole=True),
    output.Column("repeats", "same before", lambda times: f"{times} more" if times else "–"),
    output.Column("written", "written", lambda fields: ", ".join(fields) or "–"),
)
_ACTION_COLUMNS = (
    output.Column("id", "id", whole=True, right=True),
    output.Column("at", "at", output.when, whole=True),
    output.Column("who", "who", whole=True),
    output.Column("role", "role", whole=True),
    output.Column("kind", "what", whole=True),
    output.Column("target", "on", whole=True),
    output.Column("details", "details", lambda details: output.of_json(details) if details else ""),
)
_DECISION_COLUMNS = (
    output.Column("field", "field", whole=True),
    output.Column("decision", "decision", whole=True),
    output.Column("desired", "desired", output.of_json),
    output.Column("base", "base", output.of_json),
    output.Column("live", "live", output.of_json),
    output.Column("reason", "reason"),
)
_FAULT_COLUMNS = (
    output.Column("id", "id", whole=True, right=True),
    output.Column("document", "document", whole=True),
    output.Column("fault", "fault"),
)


class _Kept(click.ParamType[Head]):
    """A head of the chain, as `audit verify` has printed it."""

    name = "number:hash"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Head:
        try:
            return value if isinstance(value, Head) else chain.parse_head(value)
        except ValueError as error:
            return self.fail(f"{value!r}: {error}", param, ctx)


def _spanned(function: Any) -> Any:
    """Give a command `--document`, `--since` and `--until`."""
    moment = options.Moment()
    for option in (
        click.option("--until", "until_us", type=moment, default=None, help="Before this time."),
        click.option("--since", "since_us", type=moment, default=0, help="From this time on, or how long ago: 2h."),
        click.option("--document", default=None, metavar="DOC", help="Only of this document."),
    ):
        function = option(function)
    return function


@audit.command("list", epilog=commands.example("reconciler audit list --document 0000012345 --since 2h"))
@_spanned
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many, at most.")
@options.reporting
@options.configured(store=True)
def list_(config: Config, document: str | None, since_us: int, until_us: int | None, *, limit: int, form: str) -> None:
    """List decisions, newest first."""
    found = exits.run(_list(config, document, since_us, until_us, limit))
    output.report(form, [views.history.attempt(record) for record in found], _COLUMNS, "No decisions.")


@audit.command("acts", epilog=commands.example("reconciler audit acts --document 0000012345 -o json"))
@click.option("--document", default=None, metavar="DOC", help="Only on this document.")
@click.option("--actor", default=None, help="Only of this person.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many, at most.")
@options.reporting
@options.configured(store=True)
def actions(config: Config, document: str | None, *, actor: str | None, limit: int, form: str) -> None:
    """List what people did, newest first: who, when, on what, and why."""
    found = exits.run(_actions(config, document, actor, limit))
    output.report(form, [views.actions.action(one) for one in found], _ACTION_COLUMNS, "No acts.")


@audit.command("show", epilog=commands.example("reconciler audit show 4711 -o json -c reconciler.toml"))
@click.argument("id", type=click.IntRange(1, 2**63 - 1))
@options.reporting
@options.configured(store=True)
def show(config: Config, id: int, form: str) -> None:
    """Show one record, a decision or an act; as JSON with all that it holds."""
    record = exits.run(_one(config, id))
    if isinstance(record, OperatorAction):
        action = views.actions.action(record)
        if form == "json":
            output.as_json(action)
        else:
            output.facts([(column.title, column.show(getattr(action, column.key))) for column in _ACTION_COLUMNS])
    elif form == "json":
        output.as_json(msgspec.json.decode(codec.encode(record)))
    else:
        _show_decision(record)


def _show_decision(record: AuditRecord) -> None:
    row = views.history.attempt(record)
    output.facts(
        [
            ("decision", f"{record.id}, attempt {record.attempt}, at {output.when(row.at)}"),
            ("document", record.document),
            ("cause", record.cause),
            ("result", record.result + (f" (status {record.status})" if record.status is not None else "")),
            *([("message", record.message)] if record.message else []),
            *([("before", _before(record))] if record.repeats else []),
            ("token", [f"{record.snapshot.token or 'none'} when read", f"{record.token_after or 'not known'} after"]),
            ("modified", f"{output.when(record.snapshot.modified_at)} by {record.snapshot.modified_by or 'somebody'}"),
            ("policy", record.policy),
            ("written", output.of_json(record.patch) if record.patch else "nothing"),
        ]
    )
    print()
    output.table(row.decisions, _DECISION_COLUMNS)


@audit.command("export", epilog=commands.example("reconciler audit export --to audit.jsonl.zst --since 30d"))
@click.option("--to", required=True, type=options.TARGET, metavar="FILE", help=files.HELP)
@_spanned
@options.configured(store=True)
def export(config: Config, to: Path, document: str | None, since_us: int, until_us: int | None) -> None:
    """
    Write the trail as JSON lines that can be verified.

    Oldest first: what was decided and what people did, in the order in which it came. With --since or --until, the
    piece of the chain from the first record of that time to the last.
    """
    count, first = exits.run(_export(config, to, document, since_us, until_us))
    files.say(f"Wrote {output.counted(count, 'record')} to {files.name(to)}.")
    if first > 1:
        files.say(f"The file begins with record {first}, in mid-chain.")


@audit.command(
    "verify",
    epilog=commands.example(
        "reconciler audit verify -c reconciler.toml",
        'reconciler audit verify --head "$(cat audit-head.txt)"',
        "reconciler audit verify --file audit.jsonl.zst",
    ),
)
@click.option("--file", type=options.FILE, help="Verify this export instead of the store.")
@click.option(
    "--head",
    "kept",
    type=_Kept(),
    multiple=True,
    help="A head that was kept elsewhere: its record must still be there, and be that one. May be repeated.",
)
@_spanned
@options.reporting
@options.configured(store=True)
def verify(config: Config, document: str | None, since_us: int, until_us: int | None, **said: Any) -> int:
    """
    Check that no record was changed, removed or moved, and decide everything again.

    Each record, a decision or an act, must be the one that its link in the chain stands for, and each decision must
    give the patch that it gave then. Removal of the newest records shows only with --head; a whole chain's head is
    printed at the end, to be kept where whoever could change the store can't change it. Exit code 1 if anything is
    wrong.
    """
    file: Path | None = said["file"]
    kept: Sequence[Head] = said["kept"]
    spanned = document is not None or since_us != 0 or until_us is not None
    if spanned and (kept or file):
        raise UsageError("heads and --file are about whole trails; leave out --document, --since and --until")
    if file:
        verifier, faults = _verify_file(file, kept)
    else:
        scope = Scope(document, whole=not spanned)
        verifier, faults = exits.run(_verify(config, scope, since_us, until_us, kept))
    rows = [{"id": fault.number, "document": fault.document, "fault": fault.text} for fault in faults]
    if said["form"] == "json":
        output.as_json(rows)
    elif rows:
        output.table(rows, _FAULT_COLUMNS)
        print()
    say = files.say if said["form"] == "json" else output.line  # programs get the faults alone
    for sentence in _outcome(verifier, len(faults)):
        say(sentence)
    return exits.FAILED if faults else exits.DONE


def _outcome(verifier: Verifier, faults: int) -> Iterator[str]:
    """Yield in words what was verified; at the end the head, if it stands for all there is."""
    scope, first, head = verifier.scope, verifier.first, verifier.head
    decided = f"{output.counted(verifier.recomputed, 'decision')} recomputed; differing: {verifier.differing}."
    yield decided + (f" {output.counted(verifier.actions, 'act')} of people." if verifier.actions else "")
    if faults:
        yield f"The trail was changed, or is damaged: {output.counted(faults, 'fault')}."
    elif first is None or head is None:
        yield "There are no records."
    elif scope.document is not None:
        yield f"Each is the one that its link stands for. What stands between the records of {scope.document}, and"
        yield "whether one is filed under another document, shows only when the whole trail is verified."
    elif first.number > 1:
        yield f"The chain holds from record {first.number} to record {head.number}; what stands before was not seen."
    else:
        yield f"The chain holds from the first record to record {head.number}."
        if scope.whole:
            yield f"head {head}"


async def _list(
    config: Config, document: str | None, since_us: int, until_us: int | None, limit: int
) -> list[AuditRecord]:
    async with looking.store_of(config) as store:
        return await store.audit(document, since_us, until_us, limit)


async def _actions(config: Config, document: str | None, actor: str | None, limit: int) -> list[OperatorAction]:
    async with looking.store_of(config) as store:
        return await store.actions(document=document, who=actor, limit=limit)


async def _one(config: Config, id: int) -> Recorded:
    async with looking.store_of(config) as store:
        entry = await store.audit_entry(id)
    if entry is None:
        raise ReconcilerError(f"there is no record {id}; see `reconciler audit list` and `reconciler audit acts`")
    try:
        return attrs.evolve(codec.decode_record(entry.record), id=id)
    except codec.UNREADABLE as error:
        raise ReconcilerError(f"record {id} can't be read; `reconciler audit verify` says more") from error


async def _export(
    config: Config, to: Path, document: str | None, since_us: int, until_us: int | None
) -> tuple[int, int]:
    """Write the trail; return how many records were written, and the number of the first, 0 if there was none."""
    count = first = 0
    async with looking.store_of(config) as store:
        head = await store.audit_head()  # first: see `_verify`
        policies = await store.policy_texts()
        with files.writing(to) as write:
            write(header(document))
            for digest, text in sorted(policies.items()):
                write(policy(digest, text))
            async for entry in looking.chain(store, head, document, since_us, until_us):
                write(record(entry))
                count, first = count + 1, first or entry.number
    return count, first


async def _verify(
    config: Config, scope: Scope, since_us: int, until_us: int | None, kept: Sequence[Head]
) -> tuple[Verifier, list[Fault]]:
    async with looking.store_of(config) as store:
        head = await store.audit_head()  # first: whatever was decided up to it was decided under a policy read now
        verifier = Verifier(scope, await store.policy_texts(), kept)
        faults: list[Fault] = []
        async for entry in looking.chain(store, head, scope.document, since_us, until_us):
            faults += verifier.faults(entry)
    return verifier, faults + verifier.missing()


def _verify_file(path: Path, kept: Sequence[Head]) -> tuple[Verifier, list[Fault]]:
    exported = Exported(str(path), files.reading(path))
    verifier = Verifier(exported.scope, exported.policies, kept)
    faults = exported.faults
    for entry in exported.entries():
        faults += [entry] if isinstance(entry, Fault) else verifier.faults(entry)
    return verifier, [*faults, *verifier.missing()]


def _before(record: AuditRecord) -> str:
    return f"the record before it came again {output.counted(record.repeats, 'time')}, at looks without a record"


# ------------------------------------------------------------------------------------------------------- exported trail


_FORMAT = "windchill-reconciler/audit/2"
_NOT_OURS = "was not written by `reconciler audit export`; name a file that was"

_encode = msgspec.json.encode


class _Header(msgspec.Struct, frozen=True):
    format: str
    document: str | None


class _Policy(msgspec.Struct, frozen=True):
    policy: str
    rules: msgspec.Raw


class _Record(msgspec.Struct, frozen=True):
    number: Annotated[int, msgspec.Meta(le=2**63 - 1)]
    previous: str | None
    link: str
    record: msgspec.Raw = msgspec.Raw()
    damaged: str = ""


_header = msgspec.json.Decoder(_Header).decode
_policy = msgspec.json.Decoder(_Policy).decode
_record = msgspec.json.Decoder(_Record).decode


def header(document: str | None) -> bytes:
    """Return the first line."""
    return _encode(_Header(_FORMAT, document)) + b"\n"


def policy(digest: str, text: bytes) -> bytes:
    """Return the line of a policy, nothing if it can't be one."""
    if not _is_json_line(text):
        return b""
    return b'{"policy":%b,"rules":%b}\n' % (_encode(digest), text)


def record(entry: Entry) -> bytes:
    """Return the line of a record."""
    previous = GENESIS if entry.number == 1 else entry.previous
    told = _encode(None if previous is None else previous.hex())
    start = b'{"number":%d,"previous":%b,"link":"%b",' % (entry.number, told, entry.link.hex().encode())
    if _is_json_line(entry.record):
        return start + b'"record":%b}\n' % entry.record
    return start + b'"damaged":"%b"}\n' % entry.record.hex().encode()


class Exported:
    """A file that is read: its scope and policies at once, then its entries one by one."""

    def __init__(self, name: str, lines: Iterable[bytes]) -> None:
        """Read up to the first record; raises ReconcilerError for another kind of file, which `name` names."""
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
        if found.format != _FORMAT or line + b"\n" != header(found.document):
            raise ReconcilerError(f"{name} {_NOT_OURS} (its first line says {found.format!r})")
        self.faults: list[Fault] = []  # of lines before the first record
        self.policies: Mapping[str, bytes] = dict(self._take_policies())
        self.scope = Scope(found.document, self._begins())

    def entries(self) -> Iterator[Entry | Fault]:
        """Yield the records, and in place of a line that no export has written, the fault."""
        return (_entry(number, line) for number, line in self._lines)

    def _begins(self) -> bool:
        """Whether the next line is the first of the chain, as far as can be told."""
        for number, line in self._lines:
            self._put_back(number, line)
            first = _entry(number, line)
            return not isinstance(first, Entry) or first.number == 1
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
        entry = Entry(found.number, previous, bytes.fromhex(found.link), text)
    except UNREADABLE:
        return _strange(number)
    return entry if record(entry) == line + b"\n" else _strange(number)


def _strange(line: int) -> Fault:
    return Fault(None, None, f"line {line} of the file is not as any export has written it")


def _is_json_line(text: bytes) -> bool:
    if b"\n" in text or b"\r" in text:
        return False
    try:
        msgspec.json.decode(text)
    except UNREADABLE:
        return False
    return True
