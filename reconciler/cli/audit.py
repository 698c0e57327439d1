"""`reconciler audit`: every decision with its inputs, and whether they still give the same result."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from reconciler.cli import commands, exits, files, looking, options, output, running
from reconciler.config import Config
from reconciler.core import plan as planning
from reconciler.errors import ReconcilerError
from reconciler.model import codec
from reconciler.model.audit import AuditRecord
from reconciler.model.plan import Patch
from reconciler.model.policy import Policy
from reconciler.model.value import canonical

audit = commands.family("audit", "The trail of decisions: list it, show or export it, decide it all again.")

_COLUMNS = (
    output.Column("id", "id", whole=True, right=True),
    output.Column("at", "at", output.when, whole=True),
    output.Column("document", "document", whole=True),
    output.Column("result", "result", whole=True),
    output.Column("written", "written", lambda fields: ", ".join(fields) or "–"),
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
    found = running.run(_list(config, document, since_us, until_us, limit))
    output.report(form, [_row(record) for record in found], _COLUMNS, "No decisions.")


@audit.command("show", epilog=commands.example("reconciler audit show 4711 -o json -c reconciler.toml"))
@click.argument("id", type=int)
@options.reporting
@options.configured(store=True)
def show(config: Config, id: int, form: str) -> None:
    """Show one decision; as JSON with all its inputs."""
    record = running.run(_one(config, id))
    if form == "json":
        output.as_json(_whole(record))
        return
    row = _row(record)
    output.facts(
        [
            ("decision", f"{record.id}, attempt {record.attempt}, at {output.when(row['at'])}"),
            ("document", record.document),
            ("cause", record.cause),
            ("result", record.result + (f" (status {record.status})" if record.status is not None else "")),
            *([("message", record.message)] if record.message else []),
            ("token", [f"{record.snapshot.token or 'none'} when read", f"{record.token_after or 'not known'} after"]),
            ("modified", f"{output.when(record.snapshot.modified_at)} by {record.snapshot.modified_by or 'somebody'}"),
            ("policy", record.policy),
            ("written", output.of_json(record.patch) if record.patch else "nothing"),
        ]
    )
    print()
    output.table(row["decisions"], _DECISION_COLUMNS)


@audit.command("export", epilog=commands.example("reconciler audit export --to audit.jsonl.zst --since 30d"))
@click.option("--to", required=True, type=options.TARGET, metavar="FILE", help=files.HELP)
@_spanned
@options.configured(store=True)
def export(config: Config, to: Path, document: str | None, since_us: int, until_us: int | None) -> None:
    """Write decisions with all their inputs as JSON lines, newest first."""
    count = running.run(_export(config, to, document, since_us, until_us))
    files.say(f"Wrote {output.counted(count, 'decision')} to {files.name(to)}.")


@audit.command("verify", epilog=commands.example("reconciler audit verify --document 0000012345"))
@_spanned
@options.reporting
@options.configured(store=True)
def verify(config: Config, document: str | None, since_us: int, until_us: int | None, form: str) -> int:
    """
    Decide everything again from what was recorded.

    Each decision must give the patch that it gave then. Exit code 1 if one does not, or can't be recomputed.
    """
    count, faults = running.run(_verify(config, document, since_us, until_us))
    if form == "json":
        output.as_json(faults)
    else:
        if faults:
            output.table(faults, _FAULT_COLUMNS)
            print()
        output.line(f"{output.counted(count, 'decision')} recomputed; differing: {len(faults)}.")
    return exits.FAILED if faults else exits.DONE


async def _list(
    config: Config, document: str | None, since_us: int, until_us: int | None, limit: int
) -> list[AuditRecord]:
    async with looking.store_of(config) as store:
        return await store.audit(document, since_us, until_us, limit)


async def _one(config: Config, id: int) -> AuditRecord:
    async with looking.store_of(config) as store:
        async for record in looking.trail(store):
            if record.id == id:
                return record
    raise ReconcilerError(f"there is no decision {id}; see `reconciler audit list`")


async def _export(config: Config, to: Path, document: str | None, since_us: int, until_us: int | None) -> int:
    count = 0
    async with looking.store_of(config) as store:
        with files.writing(to) as write:
            async for record in looking.trail(store, document, since_us, until_us):
                write(codec.encode(record) + b"\n")
                count += 1
    return count


async def _verify(
    config: Config, document: str | None, since_us: int, until_us: int | None
) -> tuple[int, list[dict[str, Any]]]:
    policies: dict[str, Policy | None] = {}
    faults = []
    count = 0
    async with looking.store_of(config) as store:
        async for record in looking.trail(store, document, since_us, until_us):
            if record.policy not in policies:
                policies[record.policy] = await store.policy(record.policy)
            count += 1
            faults += [
                {"id": record.id, "document": record.document, "fault": fault}
                for fault in _faults(record, policies[record.policy])
            ]
    return count, faults


def _faults(record: AuditRecord, policy: Policy | None) -> Iterator[str]:
    """Yield how a decision differs from what its inputs give now."""
    if policy is None:
        yield f"its policy {record.policy} is not in the store, so it can't be recomputed"
        return
    drafted = planning.draft(record.desired, record.base, record.snapshot, policy)
    patch = drafted.fields if isinstance(drafted, Patch) else None
    if canonical(patch) != canonical(record.patch):
        yield f"patch was {output.of_json(record.patch)}, its inputs give {output.of_json(patch)}"


def _row(record: AuditRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "at": looking.at(record.at_us),
        "document": record.document,
        "cause": record.cause,
        "attempt": record.attempt,
        "result": record.result,
        "written": sorted(record.patch or {}),
        "status": record.status,
        "message": record.message or None,
        "token_before": record.snapshot.token,
        "token_after": record.token_after,
        "decisions": [
            {
                "field": verdict.field,
                "decision": verdict.verb,
                "desired": verdict.desired,
                "live": verdict.live,
                "reason": verdict.reason,
                "rule": verdict.rule,
                "strategy": verdict.strategy,
                "event": verdict.event,
                "source": verdict.source,
            }
            | ({"base": verdict.base} if verdict.has_base else {})
            for verdict in record.decisions
        ],
    }


def _whole(record: AuditRecord) -> Any:
    return msgspec.json.decode(codec.encode(record))
