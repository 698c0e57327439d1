"""`reconciler emit`: append change events to the log, checked first."""

import uuid
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import click
import msgspec

from reconciler.adapters.clock import SystemClock
from reconciler.cli import actions, events, framework, options, output, runtime
from reconciler.config import Config
from reconciler.core.events import change_events, decode
from reconciler.errors import StoreError, UsageError
from reconciler.model import instant
from reconciler.model.action import ActionKind
from reconciler.model.event import Outgoing
from reconciler.model.policy import OPERATORS
from reconciler.views.actions import AppendedEvent

_ACTIONS_MAX = 100  # up to so many events, each document gets a record of its own, as over HTTP


@framework.command(
    "reconciler emit 0000012345 --set status=RELEASED --reason 'ECN-2231'",
    "reconciler emit 0000012345 --set 'attributes.CostCenter=\"4711\"'",
    "reconciler emit 0000012345 --add attributes.Keywords=bracket -c r.toml",
    "reconciler emit 0000012345 --source //erp/prod --set status=RELEASED",
    "reconciler emit --file events.jsonl -c reconciler.toml",
)
@click.argument("document", required=False)
@click.option("--set", "sets", multiple=True, metavar="FIELD=VALUE", help="A field's new value; null clears it.")
@click.option("--add", "adds", multiple=True, metavar="FIELD=VALUE", help="An element to add to a list.")
@click.option("--remove", "removes", multiple=True, metavar="FIELD=VALUE", help="An element to remove from a list.")
@click.option("--release", "releases", multiple=True, metavar="FIELD", help="A field to stop managing.")
@click.option("--expect", "expects", multiple=True, metavar="FIELD=VALUE", help="Windchill's value that this replaces.")
@click.option("--source", default=OPERATORS, show_default=True, help="Who says so: operators, or a system's URI.")
@click.option("--actor", default=None, help="Who makes the change.  [default: you]")
@click.option("--reason", default="", help="Why; shown with the value, as by `explain`.")
@click.option("--time", default=None, help="When it changed, in RFC 3339.  [default: now]")
@click.option("--file", "file", type=click.File("rb"), metavar="FILE", help="Events as JSON lines; - is stdin.")
@options.reporting
@options.configured()
def emit(config: Config, document: str | None, file: BinaryIO | None, form: str, **said: Any) -> None:
    """
    Append change events to the log.

    Without --source, the change is an operator's decision: it goes to the decisions topic, and the `sources` of policy
    rules do not limit it. With --source, or from a --file, it is a system's event and goes to that source's topic.

    A VALUE that is valid JSON is taken as JSON, anything else as text: status=RELEASED is text, rank=3 is a number, and
    rank='"3"' is text. Every event is checked as the reconciler checks it; if one fails, none is appended. If the store
    can be reached, who appended the events is recorded there (`audit acts`).
    """
    decode_options = events.decode_options(config)
    changes = any(said[name] for name in ("sets", "adds", "removes", "releases", "expects"))
    if (document is None) is (file is None) or (file is not None and changes):
        raise UsageError("give either a DOCUMENT and a change such as --set, or --file; see `reconciler emit --help`")
    if file is not None:
        records = list(_from_file(file, decode_options))
    else:
        record = change_events.record(_event(document or "", **said), decode_options.topics)
        records = [change_events.signed(record, decode_options)]
        if (reason := events.refusal(records[0], decode_options)) is not None:
            raise UsageError(f"the event can't be used: {reason}")
    rows = [_row(record) for record in records]
    log = events.log_name(config, (record.topic for record in records))
    name = "" if file is None else getattr(file, "name", "<stdin>")
    unrecorded = runtime.run(_append(config, records, rows, actions.actor(said["actor"]), name))
    if form == "json":
        output.as_json(rows)
    elif len(rows) == 1:
        output.line(f"Appended {rows[0].id} (document {rows[0].document}) to {log}.")
    else:
        print(f"Appended {len(rows)} events to {log}.")
    if unrecorded:
        runtime.note(f"Not recorded in the audit trail: {unrecorded}.")


async def _append(
    config: Config, records: Sequence[Outgoing], rows: Sequence[AppendedEvent], who: str, file: str
) -> str | None:
    """
    Append events and record who did so. Return why that was not recorded, if it was not.

    A missing store is no error: events may be appended from machines that have none.
    """
    await events.append(config, records)
    if not rows:
        return None
    by_document: dict[str, list[str]] = {}
    for row in rows:
        by_document.setdefault(row.document, []).append(row.id)
    try:
        async with actions.opened(config) as operator:
            if len(rows) <= _ACTIONS_MAX:
                await operator.emitted(who, by_document)
            else:
                counts = {"count": len(rows), "documents": len(by_document)}
                await operator.note(who, ActionKind.EMIT, file, details=counts, result="appended")
    except StoreError as error:
        return str(error)
    return None


def _event(
    document: str,
    *,
    sets: tuple[str, ...],
    adds: tuple[str, ...],
    removes: tuple[str, ...],
    releases: tuple[str, ...],
    expects: tuple[str, ...],
    source: str,
    actor: str | None,
    reason: str,
    time: str | None,
) -> dict[str, Any]:
    if not (sets or adds or removes or releases):
        raise UsageError(f"nothing to change in {document}: give --set, --add, --remove or --release")
    data = {
        "set": _single("--set", sets),
        "add": _lists("--add", adds),
        "remove": _lists("--remove", removes),
        "release": list(releases),
        "expect": _single("--expect", expects),
        "reason": reason,
    }
    return change_events.changed(
        document,
        data,
        id=str(uuid.uuid4()),
        source=source,
        actor=events.user() if actor is None else actor,
        time=_time(time),
    )


def _time(text: str | None) -> str:
    try:
        return instant.from_us(SystemClock().now_us()) if text is None else instant.canonical(text)
    except ValueError as error:
        raise UsageError(f"--time {text!r}: {error}") from error


def _pair(option: str, text: str) -> tuple[str, Any]:
    field, equals, said = text.partition("=")
    if not equals or not field:
        raise UsageError(f"{option} {text!r}: must be FIELD=VALUE")
    return field, events.value(said)


def _single(option: str, texts: tuple[str, ...]) -> dict[str, Any]:
    pairs = [_pair(option, text) for text in texts]
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise UsageError(f"{option}: a field is given twice")
    return fields


def _lists(option: str, texts: tuple[str, ...]) -> dict[str, list[Any]]:
    fields: dict[str, list[Any]] = {}
    for field, element in (_pair(option, text) for text in texts):
        fields.setdefault(field, []).append(element)
    return fields


def _from_file(file: BinaryIO, decode_options: decode.Options) -> Iterator[Outgoing]:
    """Yield a record for each line; raises UsageError naming every line that the reconciler would refuse."""
    faults = []
    name = getattr(file, "name", "<stdin>")
    for number, line in enumerate(file, start=1):
        text = line.strip()
        if not text:
            continue
        record = change_events.signed(change_events.given(text, decode_options.topics), decode_options)
        reason = events.refusal(record, decode_options)
        if reason is None:
            yield record._replace(key=_row(record).document.encode())
        else:
            faults.append(f"{name}:{number}: {reason}")
    if faults:
        raise UsageError("\n".join([*faults, "nothing was appended"]))


class _Named(msgspec.Struct):
    id: str
    subject: str


_named = msgspec.json.Decoder(_Named).decode


def _row(record: Outgoing) -> AppendedEvent:
    event = _named(record.value or b"")
    return AppendedEvent(id=event.id, document=event.subject, topic=record.topic)
