"""`reconciler plan`: what the reconciler would write now, and why, writing nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from reconciler.adapters.clock import SystemClock
from reconciler.cli import framework, log_replay, options, output, reading, runtime, store_access
from reconciler.cli.commands.status import ends
from reconciler.config import Config
from reconciler.core.folding import fold
from reconciler.core.planning import plan as planning
from reconciler.core.planning import reasons
from reconciler.model.answer import Broken, NotAvailable, Unchanged
from reconciler.model.document import Document, Status
from reconciler.model.plan import Decision, Verb
from reconciler.model.snapshot import Snapshot
from reconciler.model.value import MISSING

if TYPE_CHECKING:
    from reconciler.ports import Clock, Store

_COLUMNS = (
    output.Column("document", "document", whole=True),
    output.Column("field", "field", whole=True),
    output.Column("decision", "decision", whole=True),
    output.Column("change", "live → desired"),
    output.Column("reason", "reason"),
)


@framework.command(
    "reconciler plan -c reconciler.toml",
    "reconciler plan 0000012345 --kept -c reconciler.toml",
    "reconciler plan --all --store sqlite:///then.db -c reconciler.toml",
)
@click.argument("document", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Plan all documents, not only those that are due or not synced.")
@click.option("--kept", is_flag=True, help="Also show fields that would be left as they are.")
@options.on_store
def plan(config: Config, document: tuple[str, ...], every: bool, kept: bool, form: str) -> int:
    """
    Show what would be written now, and why.

    Reads Windchill and writes nothing. Without DOCUMENTs it plans all documents that are due or not synced. Events that
    the reconciler has not folded yet are left out; before the first `run` the whole log is folded aside. With a store
    made by `replay --until` it compares the state desired then with Windchill now. Paused documents are not read, since
    nothing would be written to them. Exit code 0: nothing to write; 2: something to write; 1: some documents could not
    be read.
    """
    rows, looked_at, unfolded = runtime.run(_plan(config, document, every))
    shown = [row for row in rows if kept or row["decision"] != Verb.KEEP]
    if form == "json":
        output.as_json([{member: value for member, value in row.items() if member != "change"} for row in shown])
    else:
        output.report(form, shown, _COLUMNS, "Nothing to write.")
        print()
        output.line(_summary(rows, looked_at))
    if unfolded:
        them = "it is" if unfolded == 1 else "they are"
        runtime.note(
            f"{output.counted(unfolded, 'record')} of the log not folded yet: what {them} about is not planned."
        )
    if any(row["decision"] == "unreadable" for row in rows):
        return runtime.FAILED
    return runtime.CHANGES if any(row["decision"] == Verb.WRITE for row in rows) else runtime.DONE


async def _plan(config: Config, keys: tuple[str, ...], every: bool) -> tuple[list[dict[str, Any]], int, int]:
    rows: list[dict[str, Any]] = []
    async with _store(config) as store, reading.opened(config) as reader:
        wanted = await _wanted(store, keys, every, SystemClock())
        drafting = _Drafting(config, reader)
        with output.progress("reading", len(wanted)) as tell:
            for start in range(0, len(wanted), store_access.PAGE):
                found = await store.documents(wanted[start : start + store_access.PAGE])
                drafts = await asyncio.gather(*(drafting.draft(found[key]) for key in sorted(found)))
                rows += [row for draft in drafts for row in draft]
                tell(start + len(found), None)
        unfolded = await _unfolded(config, store)
    return rows, len(wanted), unfolded


async def _unfolded(config: Config, store: "Store") -> int:
    """Return how many records of the log are not folded yet; 0 if the log does not answer."""
    if not await store_access.admin(config).exists():
        return 0  # all of it was folded aside
    known, _ = await ends(config)
    positions = await store.positions()
    return sum(max(0, end - positions.get(place, 0)) for place, end in (known or {}).items())


@asynccontextmanager
async def _store(config: Config) -> AsyncIterator["Store"]:
    """Open the store to read; before the first `run` there is none, so fold the log into a temporary one."""
    admin = store_access.admin(config)
    if await admin.exists():
        async with store_access.opened(config) as store:
            yield store
        return
    async with log_replay.aside(config) as store:
        done = await log_replay.fold_all(config, log_replay.configured(config), None, store, with_outcomes=True)
        folded = output.counted(done.records, "record")
        runtime.note(f"There is no store at {admin.name} yet: folded {folded} aside.")
        yield store


async def _wanted(store: "Store", keys: tuple[str, ...], every: bool, clock: "Clock") -> list[str]:
    if keys:
        for key in keys:
            await store_access.find_document(store, key)
        return sorted(set(keys))
    if every:
        return [key async for key in store_access.keys(store, None)]
    all_documents = sum((await store.counts()).values())
    found = {due.key for due in await store.due(clock.now_us(), all_documents)}
    for status in Status:
        if status is not Status.SYNCED:
            found |= {key async for key in store_access.keys(store, status)}
    return sorted(found)


class _Drafting:
    """Reads documents and drafts their plans."""

    def __init__(self, config: Config, reader: reading.Reader) -> None:
        from reconciler import factory

        self._config = config
        self._options = factory.attempt_options(config)
        self._reader = reader

    async def draft(self, document: Document) -> list[dict[str, Any]]:
        """Return a row for each managed field, or one that says why the document can't be read."""
        if document.status is Status.PAUSED:
            return [_trouble(document, Status.PAUSED.value, document.reason)]
        if (wide := self._options.too_wide(document.desired)) is not None:
            return [_trouble(document, "parked", wide)]
        if not fold.managed(document.desired):
            return []
        answer = await self._reader.read(document.key, document.agreement.snapshot)
        match answer:
            case Snapshot():
                return self._rows(document, answer)
            case Unchanged():
                assert document.agreement.snapshot is not None
                return self._rows(document, document.agreement.snapshot)
            case NotAvailable(status, message):
                return [_trouble(document, "parked", f"{status}: {message}")]
            case Broken(message):
                return [_trouble(document, "unreadable", message)]
            case _:
                raise reading.unreachable(self._config, answer)

    def _rows(self, document: Document, snapshot: Snapshot) -> list[dict[str, Any]]:
        agreement = document.agreement
        base = planning.own_write_recognised(agreement.base, agreement.snapshot, snapshot)
        drafted = planning.draft(document.desired, base, snapshot, self._config.policy)
        return [_row(document, decision) for decision in drafted.decisions]


def _row(document: Document, decision: Decision) -> dict[str, Any]:
    target = decision.desired if decision.target is MISSING else decision.target
    row: dict[str, Any] = {
        "document": document.key,
        "field": decision.field,
        "decision": decision.verb.value,
        "live": decision.live,
        "desired": target,
        "base": decision.base,
        "reason": reasons.text(decision.reasons, later=decision.later),
        "rule": decision.rule,
        "strategy": decision.strategy,
        "event": decision.stamp.id,
        "source": decision.stamp.source,
        "change": f"{output.of_json(decision.live)} → {output.of_json(target)}",
    }
    if decision.verb is Verb.KEEP:
        row["change"] = output.of_json(decision.live)
    return {member: value for member, value in row.items() if value is not MISSING}


def _trouble(document: Document, decision: str, reason: str) -> dict[str, Any]:
    return {"document": document.key, "field": None, "decision": decision, "change": None, "reason": reason}


def _summary(rows: list[dict[str, Any]], looked_at: int) -> str:
    counts = {verb: sum(1 for row in rows if row["decision"] == verb) for verb in ("write", "yield", "hold", "keep")}
    changed = len({row["document"] for row in rows if row["decision"] == Verb.WRITE})
    said = ", ".join(f"{count} {verb}" for verb, count in counts.items())
    documents = "1 document" if looked_at == 1 else f"{looked_at} documents"
    paused = sum(1 for row in rows if row["decision"] == Status.PAUSED.value)
    left = f", {paused} {'is' if paused == 1 else 'are'} paused" if paused else ""
    return f"{documents} read, {changed} to write{left}. Fields: {said}."
