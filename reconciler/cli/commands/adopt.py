"""`reconciler adopt`: take existing documents under management, after a report."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from reconciler.cli import actions, amending, framework, options, output, reading, runtime
from reconciler.config import Config
from reconciler.core.planning import amendments
from reconciler.core.planning import plan as planning
from reconciler.core.planning.amendments import Amended, Amendment
from reconciler.errors import UsageError
from reconciler.model.action import ActionKind, Unusable
from reconciler.model.document import Document
from reconciler.model.plan import Verb
from reconciler.model.snapshot import Snapshot
from reconciler.model.value import Json, or_null

if TYPE_CHECKING:
    from reconciler.flows.amending import Amending, Prepared
    from reconciler.model.answer import ReadAnswer

_WOULD = "an event claims it already, and would have this written"
_PAGE = 200  # documents read at a time


@framework.command(
    "reconciler adopt 0000012345 --field status -c reconciler.toml",
    "reconciler adopt --list documents.txt --field status --apply",
)
@click.argument("document", nargs=-1)
@click.option("--list", "listed", type=options.FILE, metavar="FILE", help="A file with the key of a document a line.")
@click.option("--field", "fields", multiple=True, required=True, metavar="FIELD", help="A field. May be repeated.")
@amending.applying
@actions.with_actor_and_reason
@options.on_store
def adopt(
    config: Config,
    *,
    document: tuple[str, ...],
    listed: Path | None,
    fields: tuple[str, ...],
    apply: bool,
    per_minute: float,
    actor: str,
    reason: str,
    form: str,
) -> None:
    """
    Take fields of existing documents under management, with the values that they have in Windchill.

    The report comes first: it reads each document, and shows the value that a field has now, and the one that it would
    get. For a field that no event claims yet these are the same, so adopting writes nothing. A field that events claim
    already is left as it is, and the report shows what they would have written.

    With --apply, an event for each document claims the values shown. From then on the policy decides: an edit by a
    person is set back, kept or held as its rule says, and a later event of a source replaces the value.
    """
    keys = [*document, *(_lines(listed) if listed is not None else ())]
    if not keys:
        raise UsageError("give the keys of documents, or --list FILE")
    rows, appended = runtime.run(
        _adopt(config, list(dict.fromkeys(keys)), fields, apply=apply, per_minute=per_minute, who=actor, reason=reason)
    )
    amending.report(form, rows, appended, nothing="No fields.")


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--list {path} can't be read: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


async def _adopt(
    config: Config, keys: Sequence[str], fields: Sequence[str], *, apply: bool, per_minute: float, who: str, reason: str
) -> tuple[list[Amended], int | None]:
    rows: list[Amended] = []
    ready: list[Prepared] = []
    async with amending.opened(config) as amends, reading.opened(config) as reader:
        with output.progress("reading", len(keys)) as tell:
            for start in range(0, len(keys), _PAGE):
                some = keys[start : start + _PAGE]
                known = await amends.store.documents(some)
                answers = await asyncio.gather(*(reader.read(key) for key in some))
                for key, answer in zip(some, answers, strict=True):
                    amendment = _amendment(config, known.get(key, Document(key)), answer, fields)
                    rows += _prepare(amends, amendment, who, reason, ready)
                tell(start + len(some), None)
        if not apply:
            return rows, None
        details: dict[str, Json] = {"reason": reason}
        with output.progress("appending", len(ready)) as tell:
            count = await amends.append(
                who, ActionKind.ADOPT, ready, details, per_minute=per_minute, done=lambda n: tell(n, None)
            )
    return rows, count


def _prepare(
    amends: "Amending", amendment: Amendment, who: str, reason: str, ready: list["Prepared"]
) -> tuple[Amended, ...]:
    prepared = amends.prepared(amendment, who, reason)
    if isinstance(prepared, Unusable):
        return (Amended(amendment.document, "", None, None, prepared.reason),)
    ready.append(prepared)
    return amendment.rows


def _amendment(config: Config, document: Document, answer: "ReadAnswer", fields: Sequence[str]) -> Amendment:
    if not isinstance(answer, Snapshot):
        why = reading.trouble(config, answer)
        return Amendment(document.key, (Amended(document.key, "", None, None, why),), (), 0)
    amendment = amendments.adopted(document.key, document.desired, answer, fields)
    drafted = planning.draft(document.desired, document.agreement.base, answer, config.policy)
    written = tuple(
        Amended(document.key, one.field, or_null(one.live), or_null(one.target), _WOULD)
        for one in drafted.decisions
        if one.verb is Verb.WRITE
    )
    others = tuple(row for row in amendment.rows if row.field not in {one.field for one in written})
    return attrs.evolve(amendment, rows=(*others, *written))
