"""`reconciler explain`: where a value comes from, told from the store and its audit trail alone."""

from typing import Any

import click
import msgspec

from reconciler.cli import commands, looking, options, output, running
from reconciler.config import Config
from reconciler.core import fold
from reconciler.errors import ReconcilerError
from reconciler.model.audit import AuditRecord, Verdict
from reconciler.model.desired import Field
from reconciler.model.document import Document
from reconciler.model.value import MISSING

_ATTEMPT_COLUMNS = (
    output.Column("at", "at", output.when, whole=True),
    output.Column("result", "result", whole=True),
    output.Column("written", "written", lambda fields: ", ".join(fields) or "–"),
    output.Column("tokens", "token"),
)
_MESSAGE_COLUMN = output.Column("message", "message")


@commands.command(
    "reconciler explain 0000012345 -c reconciler.toml",
    "reconciler explain 0000012345 attributes.CostCenter -c reconciler.toml",
)
@click.argument("document")
@click.argument("field", required=False)
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="Attempts to show.")
@options.reporting
@options.configured(store=True)
def explain(config: Config, document: str, field: str | None, limit: int, form: str) -> None:
    """
    Tell where a document's values come from.

    Of each field: the events that claimed it, the rule, what both sides last agreed on, what Windchill had when last
    read, and what was decided. Then the last attempts, newest first.
    """
    found, trail = running.run(_gather(config, document, limit, field))
    story = _story(config, found, trail, field, limit)
    if form == "json":
        output.as_json(story)
    else:
        _tell(story)


async def _gather(config: Config, key: str, limit: int, field: str | None) -> tuple[Document, list[AuditRecord]]:
    async with looking.store_of(config) as store:
        document = await looking.document_of(store, key)
        if field is not None and field not in document.desired.fields:
            known = ", ".join(sorted(document.desired.fields)) or "none"
            raise ReconcilerError(f"no event says anything of field {field!r} of {key}; it does of: {known}")
        return document, await store.audit(key, limit=max(limit, 100))


def _story(
    config: Config, document: Document, trail: list[AuditRecord], only: str | None, limit: int
) -> dict[str, Any]:
    snapshot, released = document.agreement.snapshot, document.desired.released
    names = [only] if only is not None else sorted(document.desired.fields)
    attempts = [_attempt(record) for record in trail if only is None or _verdict(record, only) is not None]
    return {
        "document": document.key,
        "status": document.status.value,
        "reason": document.reason or None,
        "token": None if snapshot is None else snapshot.token,
        "modified_at": None if snapshot is None else snapshot.modified_at,
        "modified_by": None if snapshot is None else snapshot.modified_by,
        "released": None if released is None else looking.provenance(released),
        "fields": [_field(config, document, name, trail) for name in names],
        "attempts": attempts[:limit],
    }


def _field(config: Config, document: Document, name: str, trail: list[AuditRecord]) -> dict[str, Any]:
    field = document.desired.fields[name]
    snapshot = document.agreement.snapshot
    decided = next(((record, found) for record in trail if (found := _verdict(record, name)) is not None), None)
    rule = config.policy.rule(name, None if snapshot is None else snapshot.type)
    story: dict[str, Any] = {"field": name, "managed": fold.is_managed(field)}
    if story["managed"]:
        story |= looking.shown(document, name)
    story |= {
        "claims": _claims(field),
        "rule": rule.name if decided is None else decided[1].rule,
        "strategy": rule.strategy.value if decided is None else decided[1].strategy,
        "decision": None,
        "conflict": next((_conflict(c) for c in document.agreement.held if c.field == name), None),
    }
    if decided is not None:
        record, verdict = decided
        story["decision"] = {
            "decision": verdict.verb,
            "reason": verdict.reason,
            "at": looking.at(record.at_us),
            "event": verdict.event,
            "result": record.result,
            "token_before": record.snapshot.token,
            "token_after": record.token_after,
        }
    return story


def _claims(field: Field) -> list[dict[str, Any]]:
    claims = []
    register = field.register
    if register is not None:
        said: dict[str, Any] = {"kind": "set", "value": register.value} if register.managed else {"kind": "release"}
        if register.expect:
            said["expect"] = register.expect[0]
        claims.append(said | looking.provenance(register.stamp, register.actor, register.reason))
    for text, element in sorted(field.elements.items()):
        kind = "add" if element.present else "remove"
        said = {"kind": kind, "element": msgspec.json.decode(text)}
        claims.append(said | looking.provenance(element.stamp, element.actor, element.reason))
    return claims


def _conflict(conflict: Any) -> dict[str, Any]:
    return {"id": conflict.id, "opened_at": looking.at(conflict.opened_at_us), "reason": conflict.reason}


def _verdict(record: AuditRecord, name: str) -> Verdict | None:
    return next((verdict for verdict in record.decisions if verdict.field == name), None)


def _attempt(record: AuditRecord) -> dict[str, Any]:
    return {
        "audit": record.id,
        "at": looking.at(record.at_us),
        "cause": record.cause,
        "attempt": record.attempt,
        "result": record.result,
        "written": sorted(record.patch or {}),
        "status": record.status,
        "message": record.message or None,
        "token_before": record.snapshot.token,
        "token_after": record.token_after,
    }


# ---------------------------------------------------------------------------------------------------------- for people


def _tell(story: dict[str, Any]) -> None:
    reason = f": {story['reason']}" if story["reason"] else ""
    output.heading(f"Document {story['document']} is {story['status']}{reason}")
    if story["token"] is not None:
        by = f", last modified by {story['modified_by']}" if story["modified_by"] else ""
        on = f" at {output.when(story['modified_at'])}" if story["modified_at"] else ""
        output.line(f"Last read at token {story['token']}{by}{on}.")
    else:
        print("It has not been read from Windchill yet.")
    if story["released"] is not None:
        output.line(f"It was released: {_origin(story['released'])}. What was said before is not managed.")
    for field in story["fields"]:
        print()
        output.heading(field["field"])
        output.facts(_field_facts(field))
    print()
    if story["attempts"]:
        output.heading("Attempts, newest first")
        told = any(attempt["message"] for attempt in story["attempts"])
        rows = [attempt | {"tokens": _tokens(attempt)} for attempt in story["attempts"]]
        output.table(rows, (*_ATTEMPT_COLUMNS, _MESSAGE_COLUMN) if told else _ATTEMPT_COLUMNS)
    else:
        print("No attempt has come to a decision yet.")


def _field_facts(field: dict[str, Any]) -> list[tuple[str, str | list[str]]]:
    facts: list[tuple[str, str | list[str]]] = []
    if field["managed"]:
        facts += [(f"  {name}", output.of_json(field.get(name, MISSING))) for name in ("desired", "live", "base")]
    else:
        facts.append(("  desired", "released: nobody manages it"))
    facts += [(f"  {claim['kind']}", _claim(claim)) for claim in field["claims"]]
    decision = field["decision"]
    if decision is None:
        facts.append(("  rule", f"{field['rule']} ({field['strategy']}); nothing decided yet"))
    else:
        tokens = _tokens(decision)
        facts.append(("  rule", f"{field['rule']} ({field['strategy']})"))
        facts.append(("  decided", f"{decision['decision']}: {decision['reason']}"))
        facts.append(("", f"{output.when(decision['at'])}, attempt ended as {decision['result']}, token {tokens}"))
    if field["conflict"] is not None:
        conflict = field["conflict"]
        facts.append(
            ("  conflict", f"{conflict['id']}, open since {output.when(conflict['opened_at'])}: {conflict['reason']}")
        )
        facts.append(("", f"reconciler conflicts resolve {conflict['id']} --take desired|live|VALUE"))
    return facts


def _tokens(attempt: dict[str, Any]) -> str:
    before, after = attempt["token_before"] or "none", attempt["token_after"]
    return before if after is None or after == before else f"{before} → {after}"


def _claim(claim: dict[str, Any]) -> list[str]:
    lines = [f"{output.of_json(claim['element'])}, {_origin(claim)}" if "element" in claim else _origin(claim)]
    if claim["reason"]:
        lines.append(f"because: {claim['reason']}")
    if "expect" in claim:
        lines.append(f"knowingly replacing {output.of_json(claim['expect'])}")
    lines.append(f"event {claim['event']}, record {claim['topic']}/{claim['partition']}/{claim['offset']}")
    return lines


def _origin(claim: dict[str, Any]) -> str:
    actor = f" ({claim['actor']})" if claim["actor"] else ""
    return f"by {claim['source']}{actor} at {output.when(claim['time'])}"
