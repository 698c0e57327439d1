"""`reconciler docs refold`: one document folded again from the log, under today's rules."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from reconciler.cli import acting, commands, folding, looking, options, output, running, sources
from reconciler.config import Config
from reconciler.errors import ReconcilerError
from reconciler.model.act import CLI, UNKNOWN_DOCUMENT

if TYPE_CHECKING:
    from reconciler.core.signing import Required
    from reconciler.flows.refold import Origin, Result


@commands.command(
    "reconciler docs refold 0000012345 --reason 'a clock from 2099'",
    "reconciler docs refold 0000012345 --from 2025.jsonl.zst -c r.toml",
)
@click.argument("document")
@click.option("--from", "archives", multiple=True, metavar="FILE", help="Archives of what the log no longer holds.")
@click.option("--accept-truncation", is_flag=True, help="Do without events of the document that are in none of them.")
@acting.by_whom
@options.reporting
@options.configured()
def refold(config: Config, document: str, form: str, **given: Any) -> None:
    """
    Fold one document again, from all of the log, under today's rules, and replace its row by that.

    It repairs a document that took a claim, or a release, from a clock that ran ahead: such events, and those whose
    source may not set a field today, are left out and become dead letters. What was agreed on them keeps its value, and
    the next attempt decides on what is wanted then. A reconciler may be at work meanwhile; it goes on with the new row.
    """
    result = running.run(_refold(config, document, **given))
    letters = [letter.id for letter in result.refused]
    if form == "json":
        output.as_json({"document": document, "changed": result.changed, "refused": letters})
        return
    changed = (
        f"The log now wants other values of {', '.join(result.changed)}." if result.changed else "Nothing changed."
    )
    output.line(f"Folded document {document} again. {changed}")
    for letter in result.refused:
        output.line(f"Left out: {letter.id}: {letter.reason}")


async def _refold(
    config: Config, document: str, *, archives: tuple[str, ...], accept_truncation: bool, actor: str | None, reason: str
) -> "Result":
    from reconciler.adapters.clock import SystemClock
    from reconciler.adapters.counters import Counters
    from reconciler.flows.refold import Refold

    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(looking.store_of(config))
        signed = await folding.required(config, store)
        refold = Refold(
            store=store,
            log=_origin(stack, config, config, signed),
            archives=[_origin(stack, config, sources.in_file(config, Path(one)), signed) for one in archives],
            clock=SystemClock(),
            telemetry=Counters(),
            dead_letter_topic=config.log.dead_letter_topic,
            role=CLI,
            accept_truncation=accept_truncation,
        )
        result = await refold.document(document, acting.actor(actor), reason)
    if result is None:
        raise ReconcilerError(UNKNOWN_DOCUMENT)
    return result


def _origin(stack: AsyncExitStack, config: Config, log: Config, signed: "Required | None") -> "Origin":
    from reconciler.flows.refold import Origin

    source = sources.Source(log, lambda _done, _total: None)
    stack.push_async_callback(source.close)
    return Origin(source, attrs.evolve(folding.rules(config, log), signed=signed))
