"""`reconciler audit`: lists, exports and verifies the trail of decisions and of what operators did."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import structs

from reconciler import views
from reconciler.cli import archives, files, framework, options, output, runtime, store_access
from reconciler.config import Config
from reconciler.core.explain import audit_file
from reconciler.core.explain.trail import Fault, Scope, Verifier
from reconciler.errors import ReconcilerError, UsageError
from reconciler.model import chain, codec, instant
from reconciler.model.action import OperatorAction
from reconciler.model.audit import AuditRecord
from reconciler.model.chain import Cut, Entry, Head, Recorded

audit = framework.family("audit", "The trail of decisions and operator actions: list, show, export or verify it.")

_COLUMNS = (
    output.Column("id", "id", whole=True, right=True),
    output.Column("at", "at", output.when, whole=True),
    output.Column("document", "document", whole=True),
    output.Column("result", "result", whole=True),
    output.Column("repeats", "repeats", lambda times: str(times) if times else "–", right=True),
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
_ARCHIVE_COLUMNS = (
    output.Column("file", "file", whole=True),
    output.Column("first", "first", whole=True, right=True),
    output.Column("last", "last", whole=True, right=True),
    output.Column("since", "from", output.when, whole=True),
    output.Column("until", "to", output.when, whole=True),
    output.Column("sha256", "sha256"),
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
        click.option("--since", "since_us", type=moment, default=0, help="From this time on; 2h is 2 hours ago."),
        click.option("--document", default=None, metavar="DOC", help="Only of this document."),
    ):
        function = option(function)
    return function


@audit.subcommand("list", "reconciler audit list --document 0000012345 --since 2h")
@_spanned
@options.limit(50)
@options.on_store
def list_(config: Config, document: str | None, since_us: int, until_us: int | None, *, limit: int, form: str) -> None:
    """List decisions, newest first."""
    found = store_access.ask(config, lambda store: store.audit(document, since_us, until_us, limit))
    output.report(form, [views.history.attempt(record) for record in found], _COLUMNS, "No decisions.")


@audit.subcommand("acts", "reconciler audit acts --document 0000012345 -o json")
@click.option("--document", default=None, metavar="DOC", help="Only on this document.")
@click.option("--actor", default=None, help="Only by this person.")
@options.limit(50)
@options.on_store
def actions(config: Config, document: str | None, *, actor: str | None, limit: int, form: str) -> None:
    """List what operators did, newest first: who, when, on what, and why."""
    found = store_access.ask(config, lambda store: store.actions(document=document, who=actor, limit=limit))
    output.report(form, [views.actions.action(one) for one in found], _ACTION_COLUMNS, "No actions.")


@audit.subcommand("archives", "reconciler audit archives -c reconciler.toml")
@options.on_store
def archived(config: Config, form: str) -> None:
    """List the archives that `prune` has made: which records each has, from when to when, and its SHA-256."""
    rows = [
        {
            "file": cut.file,
            "first": cut.begin.number + 1,
            "last": cut.end.number,
            "since": instant.from_us(cut.since_us),
            "until": instant.from_us(cut.until_us),
            "sha256": cut.sha256,
            "act": cut.act,
        }
        for cut in store_access.ask(config, lambda store: store.cuts())
    ]
    output.report(form, rows, _ARCHIVE_COLUMNS, "No part of the trail was archived.")


@audit.subcommand("show", "reconciler audit show 4711 -o json -c reconciler.toml")
@click.argument("id", type=click.IntRange(1, 2**63 - 1))
@options.on_store
def show(config: Config, id: int, form: str) -> None:
    """Show one record, a decision or an action; -o json shows all that was recorded."""
    record = _one(config, id)
    if isinstance(record, OperatorAction):
        act = views.actions.action(record)
        if form == "json":
            output.as_json(act)
        else:
            output.facts([(column.title, column.show(getattr(act, column.key))) for column in _ACTION_COLUMNS])
    elif form == "json":
        output.as_json(msgspec.json.decode(codec.encode(record)))
    else:
        _show_decision(record)


def _show_decision(record: AuditRecord) -> None:
    row = views.history.attempt(record)
    output.facts(
        [
            ("record", f"{record.id}: attempt {record.attempt}, at {output.when(row.at)}"),
            ("document", record.document),
            ("cause", record.cause),
            ("result", record.result + (f" (status {record.status})" if record.status is not None else "")),
            *([("message", record.message)] if record.message else []),
            *([("repeats", _repeats(record))] if record.repeats else []),
            ("token", [f"{record.snapshot.token or 'none'} when read", f"{record.token_after or 'unknown'} after"]),
            ("modified", f"{output.when(record.snapshot.modified_at)} by {record.snapshot.modified_by or 'unknown'}"),
            ("policy", record.policy),
            ("written", output.of_json(record.patch) if record.patch else "nothing"),
        ]
    )
    print()
    output.table(row.decisions, _DECISION_COLUMNS)


@audit.subcommand("export", "reconciler audit export --to audit.jsonl.zst --since 30d")
@click.option("--to", required=True, type=options.TARGET, metavar="FILE", help=files.HELP)
@_spanned
@options.configured(store=True)
def export(config: Config, to: Path, document: str | None, since_us: int, until_us: int | None) -> None:
    """
    Write the trail as JSON lines that `audit verify --file` can check.

    Oldest first, decisions and operators' actions in the order they were recorded. With --since or --until: the part of
    the chain from the first record of that time to the last. One chain follows the other if replicas share the store.
    """
    count, firsts = runtime.run(_export(config, to, document, since_us, until_us))
    runtime.note(f"Wrote {output.counted(count, 'record')} to {files.name(to)}.")
    for first in firsts:
        if not first.is_first:
            of_chain = f"Chain {first.chain}" if len(firsts) > 1 else "The file"
            runtime.note(f"{of_chain} begins with record {first.number}; earlier records are not in it.")


@audit.subcommand(
    "verify",
    "reconciler audit verify -c reconciler.toml",
    'reconciler audit verify --head "$(cat audit-head.txt)"',
    "reconciler audit verify --file audit.jsonl.zst",
    "reconciler audit verify --archive /var/archive -c reconciler.toml",
)
@click.option("--file", type=options.FILE, help="Verify this export instead of the store.")
@click.option("--archive", type=options.FOLDER, metavar="DIR", help="Verify the archives in this directory as well.")
@click.option(
    "--head",
    "kept",
    type=_Kept(),
    multiple=True,
    help="A head that was kept elsewhere, whose record must be unchanged. May be repeated.",
)
@_spanned
@options.on_store
def verify(config: Config, document: str | None, since_us: int, until_us: int | None, **said: Any) -> int:
    """
    Check that no record was changed, removed or moved, and decide everything again.

    Every record must match its link in the chain, and every decision must give the same patch again. What `prune` has
    archived is verified with --archive; without, the chain must go on from where it was cut. The removal of the newest
    records shows only with --head: the head of the whole chain (of each, if replicas share the store) is printed at the
    end. Keep it where no one who can change the store can change it too. Exit code 1 if anything is wrong.
    """
    file: Path | None = said["file"]
    folder: Path | None = said["archive"]
    kept: Sequence[Head] = said["kept"]
    spanned = document is not None or since_us != 0 or until_us is not None
    if spanned and (kept or file or folder):
        raise UsageError("--head, --file and --archive verify whole trails; leave out --document, --since and --until")
    if folder:
        archives.require_folder(folder)
    if file:
        verifier, faults = _verify_file(file, kept)
    else:
        scope = Scope(document, whole=not spanned)
        verifier, faults = runtime.run(_verify(config, scope, since_us, until_us, kept=kept, folder=folder))
    rows = [{"id": fault.number, "document": fault.document, "fault": fault.text} for fault in faults]
    if said["form"] == "json":
        output.as_json(rows)
    elif rows:
        output.table(rows, _FAULT_COLUMNS)
        print()
    say = runtime.note if said["form"] == "json" else output.line  # programs get the faults alone
    for sentence in _outcome(verifier, faults):
        say(sentence)
    return runtime.FAILED if faults else runtime.DONE


def _outcome(verifier: Verifier, faults: Sequence[Fault]) -> Iterator[str]:
    """Yield in words what was verified; at the end the head, if the whole trail was."""
    scope = verifier.scope
    decided = f"{output.counted(verifier.recomputed, 'decision')} recomputed; differing: {verifier.differing}."
    yield decided + (f" {output.counted(verifier.actions, 'operator action')}." if verifier.actions else "")
    for loss in verifier.losses:
        gone = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in loss.spans())
        found = output.when(instant.from_us(loss.at_us))
        yield f"Records lost in a failover or a restore, as was found at {found}: {gone}, and perhaps later ones."
    if faults and all(fault.gone for fault in faults):
        yield "The trail has no other fault: records that were kept elsewhere are gone."
    elif faults:
        yield f"The trail was changed or is damaged: {output.counted(len(faults), 'fault')}."
    elif not verifier.heads:
        yield "There are no records."
    elif scope.document is not None:
        yield f"Each record of {scope.document} matches its link. Whether records between them are missing, or filed"
        yield "under another document, shows only when the whole trail is verified."
    else:
        heads = sorted(verifier.heads.items())
        for number, head in heads:
            first, name = verifier.firsts[number], f"Chain {number}" if len(heads) > 1 else "The chain"
            name = "The chain of checkpoints" if number == chain.CHECKPOINTS else name
            start, rest = "the first record", ""
            if first.records > 1:
                start, rest = f"record {first.number}", "; earlier records were not checked"
            yield f"{name} holds from {start} to record {head.number}{rest}."
        if verifier.starts:
            yield from _archived(verifier.cuts)
        if scope.whole:
            yield from (f"head {head}" for _, head in heads)


def _archived(cuts: Sequence[Cut]) -> Iterator[str]:
    last = max(cuts, key=lambda cut: cut.until_us)
    until = output.when(instant.from_us(last.until_us))
    yield f"Records up to {until} are in {output.counted(len(cuts), 'archive')}, the last {last.file}; their hashes are"
    yield "kept, and --archive DIR verifies them too."


def _one(config: Config, id: int) -> Recorded:
    entry, cuts = runtime.run(_entry_and_cuts(config, id))
    if entry is None and (file := archives.holding(cuts, id)):
        raise ReconcilerError(f"record {id} is in the archive {file}, not in the store any more")
    if entry is None:
        raise ReconcilerError(f"there is no record {id}; see `reconciler audit list` and `reconciler audit acts`")
    try:
        return structs.replace(codec.decode_record(entry.record), id=id)
    except codec.UNREADABLE as error:
        raise ReconcilerError(f"record {id} can't be read; `reconciler audit verify` says more") from error


async def _entry_and_cuts(config: Config, id: int) -> tuple[Entry | None, Sequence[Cut]]:
    async with store_access.opened(config) as store:
        return await store.audit_entry(id), await store.cuts()


async def _export(
    config: Config, to: Path, document: str | None, since_us: int, until_us: int | None
) -> tuple[int, list[Entry]]:
    """Write the trail; return how many records were written, and the first of each chain."""
    count, firsts = 0, dict[int, Entry]()
    async with store_access.opened(config) as store:
        heads = await store.audit_heads()  # first: see `_verify`
        several = sum(head.records > 0 for head in heads) > 1
        policies = await store.policy_texts()
        cuts = await store.cuts() if document is None else []
        spanned = since_us != 0 or until_us is not None
        with files.writing(to) as write:
            write(audit_file.header(document, part=several and (spanned or bool(cuts))))
            for digest, text in sorted(policies.items()):
                write(audit_file.policy(digest, text))
            async for entry in store_access.chain(store, heads, document, since_us, until_us, cuts=cuts):
                write(audit_file.record(entry if several else structs.replace(entry, ordinal=msgspec.UNSET)))
                count += 1
                firsts.setdefault(entry.chain, entry)
    return count, list(firsts.values())


async def _verify(
    config: Config, scope: Scope, since_us: int, until_us: int | None, *, kept: Sequence[Head], folder: Path | None
) -> tuple[Verifier, list[Fault]]:
    async with store_access.opened(config) as store:
        while True:
            heads = await store.audit_heads()  # first: what was decided up to them was decided under a policy read now
            told = [head for head in heads if head.records and scope.whole]
            cuts = await store.cuts()
            verifier = Verifier(scope, await store.policy_texts(), [*told, *kept], cuts, reread=folder is not None)
            left = cuts if scope.whole else []
            stored = store_access.chain(store, heads, scope.document, since_us, until_us, cuts=left)
            entries = stored if folder is None else archives.before(stored, cuts, folder, verifier)
            faults: list[Fault] = []
            async for entry in entries:
                faults += [entry] if isinstance(entry, Fault) else verifier.faults(entry)
            faults += verifier.missing()
            if not faults or await store.cuts() == cuts:  # else some records were deleted before we came to them
                return verifier, faults


def _verify_file(path: Path, kept: Sequence[Head]) -> tuple[Verifier, list[Fault]]:
    exported = audit_file.Exported(str(path), files.reading(path))
    verifier = Verifier(exported.scope, exported.policies, kept)
    faults = exported.faults
    for entry in exported.entries():
        faults += [entry] if isinstance(entry, Fault) else verifier.faults(entry)
    return verifier, [*faults, *verifier.missing()]


def _repeats(record: AuditRecord) -> str:
    return f"the previous decision was repeated {output.counted(record.repeats, 'time')}, without a record of each"
