"""`reconciler explain`: where a value comes from, told from the audit trail alone."""

import bisect
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click
import msgspec
from msgspec import structs

from reconciler import views
from reconciler.adapters.clock import SystemClock
from reconciler.cli import files, framework, options, output, runtime, store_access
from reconciler.config import Config
from reconciler.core.explain import narrative
from reconciler.core.explain.audit_file import Exported
from reconciler.core.explain.narrative import Sentence, Story
from reconciler.core.explain.trail import Fault
from reconciler.errors import ReconcilerError
from reconciler.model import chain, codec
from reconciler.model.action import UNLOGGED, OperatorAction
from reconciler.model.audit import AuditRecord
from reconciler.model.chain import Cut, Entry, Recorded
from reconciler.model.document import Document, Superseded
from reconciler.model.policy import Policy
from reconciler.ports import authorship

_WIDTH_MIN = 40
_KNOWN_MAX = store_access.PAGE  # newest decisions that a story is made from, unless more are asked for
_INDENT = "  "

R = TypeVar("R", AuditRecord, OperatorAction)


@attrs.frozen
class _Known:
    """The inputs of the story: the newest decisions, and from a store also the document's present state."""

    trail: list[AuditRecord]  # newest first
    policies: Mapping[str, Policy]
    document: Document | None
    paused: OperatorAction | None
    released: OperatorAction | None
    more: bool  # there are older decisions
    actions: Sequence[OperatorAction] = ()
    superseded: Superseded | None = None
    archived: Sequence[Cut] = ()  # pieces of the trail that are not in the store any more


@framework.command(
    "reconciler explain 0000012345 -c reconciler.toml",
    "reconciler explain 0000012345 attributes.CostCenter -c reconciler.toml",
    "reconciler explain 0000012345 --file audit.jsonl.zst",
)
@click.argument("document")
@click.argument("field", required=False)
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="How many steps to tell.")
@click.option("--file", type=options.FILE, help="Read an export of the audit trail instead of the store.")
@options.on_store
def explain(config: Config, document: str, field: str | None, limit: int, *, file: Path | None, form: str) -> None:
    """
    Tell in sentences where a document's values come from.

    First the state of each field: whose value won and until when, or what it waits for and the command that resolves
    it. Then its history, oldest first: who requested what, what Windchill had, which rule decided and why, what was
    written under which token, and whose edits came in between. It reads the audit trail alone: it needs neither log nor
    Windchill, and with --file no store either.
    """
    most = max(limit, _KNOWN_MAX)
    known = _from_file(file, document, field, most) if file else runtime.run(_from_store(config, document, field, most))
    told = narrative.tell(
        document,
        known.trail,
        known.policies,
        SystemClock().now_us(),
        only=field,
        row=known.document,
        paused=known.paused,
        released=known.released,
        actions=known.actions,
        chapters_max=limit,
        older=known.more,
    )
    if form == "json":
        output.as_json(_all(config, known, told, field, limit))
    else:
        _tell(known, told, field)


async def _from_store(config: Config, key: str, field: str | None, most: int) -> _Known:
    async with store_access.opened(config) as store:
        document = await store_access.find_document(store, key)
        trail = await store.audit(key, limit=most + 1)
        policies = codec.readable_policies(await store.policy_texts())
        paused = await authorship.paused(store, document)
        released = await authorship.released(store, document)
        actions = await store.actions(document=key, kinds=UNLOGGED, limit=most + 1)
        superseded = await store.superseded(key)
        cuts = await store.cuts()
    desired = document.desired.fields
    if field is not None and field not in desired and not any(field in record.desired.fields for record in trail):
        raise _unheard_of(key, field, desired)
    more = len(trail) > most
    return _Known(trail[:most], policies, document, paused, released, more, actions, superseded, cuts)


def _from_file(path: Path, key: str, field: str | None, most: int) -> _Known:
    """Take a document's newest decisions from an export, without verifying it: `audit verify` does that."""
    exported = Exported(str(path), files.reading(path))
    newest: list[AuditRecord] = []
    actions: list[OperatorAction] = []
    count = 0
    name = msgspec.json.encode(key)
    for entry in exported.entries():
        if isinstance(entry, Fault) or entry.chain == chain.CHECKPOINTS or name not in entry.record:
            continue
        match _record(entry):
            case AuditRecord(document=document) as record if document == key:
                _keep(newest, record, most)
                count += 1
            case OperatorAction(document=document) as action if document == key and action.kind in UNLOGGED:
                _keep(actions, action, _KNOWN_MAX)
    newest, actions = newest[-most:], actions[-_KNOWN_MAX:]
    if not newest:
        raise ReconcilerError(f"{path} holds no decision on document {key!r}")
    if field is not None and not any(field in record.desired.fields for record in newest):
        raise _unheard_of(key, field, newest[-1].desired.fields)
    policies = codec.readable_policies(exported.policies)
    return _Known(newest[::-1], policies, None, None, None, count > most, actions)


def _keep(kept: list[R], one: R, most: int) -> None:
    """Keep a record in order, with at least the newest `most`."""
    bisect.insort(kept, one, key=chain.place)
    if len(kept) >= 2 * most:
        del kept[:-most]


def _record(entry: Entry) -> Recorded | None:
    try:
        return structs.replace(codec.decode_record(entry.record), id=entry.number, ordinal=entry.ordinal)
    except codec.UNREADABLE:
        runtime.warn(f"record {entry.number} can't be read; run `reconciler audit verify`")
        return None


def _unheard_of(key: str, field: str, fields: Iterable[str]) -> ReconcilerError:
    known = ", ".join(sorted(fields)) or "none"
    return ReconcilerError(f"no event names field {field!r} of {key}; known fields: {known}")


# -------------------------------------------------------------------------------------------------------- for programs


def _all(config: Config, known: _Known, told: Story, only: str | None, limit: int) -> dict[str, Any]:
    """Return the API's view of a document with its attempts and its story; null where only a store would know."""
    document, trail = known.document, known.trail
    if document is None:
        document = Document(told.document, trail[0].desired)
    row = views.documents.whole(document, trail, config.policy, known.paused)
    snapshot = document.agreement.snapshot if known.document else trail[0].snapshot
    return {
        "document": row.document,
        "status": row.status if known.document else None,
        "reason": row.reason,
        "token": None if snapshot is None else snapshot.token,
        "modified_at": None if snapshot is None else snapshot.modified_at,
        "modified_by": None if snapshot is None else snapshot.modified_by,
        "paused": row.paused,
        "released": row.released,
        "superseded": views.documents.superseded(known.superseded),
        "fields": [field for field in row.fields if only in (None, field.field)],
        "attempts": [views.history.attempt(record) for record in trail if only is None or _decides(record, only)][
            :limit
        ],
        "story": views.history.told(told, known.archived),
    }


def _decides(record: AuditRecord, name: str) -> bool:
    return any(verdict.field == name for verdict in record.decisions)


# ---------------------------------------------------------------------------------------------------------- for people


def _tell(known: _Known, told: Story, field: str | None) -> None:
    subject = f"Document {told.document}" + (f", field {field}" if field else "")
    document = known.document
    if document is not None:
        output.heading(f"{subject} ({document.status})")
    else:
        output.heading(subject)
    for sentence in told.now:
        _say(sentence)
    if (lost := known.superseded) is not None:
        events = f"{output.counted(lost.count, 'event')} arrived after a claim with a later time and changed nothing"
        winner = f"{lost.by.source} of {lost.by.time} ({lost.by.place.text})"
        last = f"{lost.last.id} of {lost.last.source}, {lost.last.time}"
        output.line(output.plain(f"{events}. The last: {last}; it lost to an event of {winner}."))
    if not told.chapters:
        none = "in the store" if known.archived else "yet"
        output.line(f"No attempt has decided anything {none}.")
        _say_archived(known.archived)
        return
    print()
    output.heading("History")
    if told.left_out or told.older:
        output.line(f"(Earlier steps are left out: use --limit, or reconciler audit list --document {told.document}.)")
    _say_archived(known.archived)
    for number, chapter in enumerate(told.chapters, start=1):
        print()
        output.heading(f"{number}. {chapter.title}")
        for sentence in chapter.sentences:
            _say(sentence)


def _say_archived(cuts: Sequence[Cut]) -> None:
    """Name the archives that have what was before, the newest first."""
    found = views.history.archived(cuts)
    if found is None:
        return
    more = f", and {found.more} more (audit archives lists them)" if found.more else ""
    files, until = ", ".join(found.files), output.when(found.until)
    _filled(f"(Records up to {until} are in archives, which explain --file reads: {files}{more}.)", "")


def _say(sentence: Sentence) -> None:
    """Print a sentence, its references below it, and each command on a line of its own."""
    _filled(sentence.text, f"{_INDENT}- ")
    hidden = ("command", "rule", "decision") if sentence.kind == "stands" else ("command", "rule")
    rests_on = [f"{kind} {value}" for kind, value in sentence.references if kind not in hidden]
    if rests_on:
        _filled(f"[{'; '.join(rests_on)}]", _INDENT * 2)
    for kind, value in sentence.references:
        if kind == "command":
            print(f"{_INDENT * 2}> {output.plain(value)}")


def _filled(text: str, begins: str) -> None:
    """Print text filled to the terminal's width, in a pipe on one line."""
    text = output.plain(text)
    if not sys.stdout.isatty():
        print(f"{begins}{text}")
        return
    width = max(_WIDTH_MIN, shutil.get_terminal_size().columns)
    print(textwrap.fill(text, width, initial_indent=begins, subsequent_indent=" " * len(begins)))
