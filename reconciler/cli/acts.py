"""`reconciler audit acts`: what operators did, by command, through the API or on the page."""

from collections.abc import AsyncIterator, Container, Iterator, Sequence

import click

from reconciler import views
from reconciler.cli import commands, looking, options, output, running
from reconciler.config import Config
from reconciler.core.acts_trail import ActsVerifier
from reconciler.core.trail import Fault, Scope
from reconciler.model.act import CLI, Act
from reconciler.model.chain import Entry, Head
from reconciler.ports import Store

_EVER_US = 2**63 - 1  # later than any act
_COLUMNS = (
    output.Column("id", "id", whole=True, right=True),
    output.Column("at", "at", output.when, whole=True),
    output.Column("who", "who", whole=True),
    output.Column("role", "role", whole=True),
    output.Column("kind", "what", whole=True),
    output.Column("target", "on", whole=True),
    output.Column("details", "details", lambda details: output.of_json(details) if details else ""),
)


@commands.command(
    "reconciler audit acts --actor jdoe -c reconciler.toml",
    "reconciler audit acts --document 0000012345 -o json",
)
@click.option("--document", default=None, metavar="DOC", help="Only on this document.")
@click.option("--actor", default=None, help="Only of this person.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many, at most.")
@options.reporting
@options.configured(store=True)
def acts(config: Config, document: str | None, *, actor: str | None, limit: int, form: str) -> None:
    """List what operators did, newest first: who, when, on what, and why."""
    found = running.run(_list(config, document, actor, limit))
    output.report(form, [views.acts.act(one) for one in found], _COLUMNS, "No acts.")


def told(by: views.acts.By) -> str:
    """Return who did something, when and why, in words."""
    how = " by command" if by.role == CLI else f" as {by.role}"
    how += f" ({by.issuer})" if by.issuer else ""
    return f"{output.when(by.at)} by {by.who}{how}" + (f": {by.reason}" if by.reason else ", without a reason")


async def chain(
    store: Store, head: Head | None, document: str | None = None, since_us: int = 0, until_us: int | None = None
) -> AsyncIterator[Entry]:
    """
    Yield acts as they are stored, oldest first, and none that came after `head`.

    Of a document, those on it; else the piece of the chain from the first act of that time to the last.
    """
    last = 0 if head is None else head.number
    wanted: Container[int] = range(1, last + 1)
    if document is not None or since_us or until_us is not None:
        end_us = _EVER_US if until_us is None else until_us
        found = [entry.number async for entry in store.acts_chain() if _matches(entry, document, since_us, end_us)]
        wanted = range(found[0], found[-1] + 1) if found and document is None else found
    async for entry in store.acts_chain():
        if entry.number > last:
            return
        if entry.number in wanted:
            yield entry


async def verified(store: Store, kept: Sequence[Head]) -> tuple[ActsVerifier, list[Fault]]:
    """Verify the record of acts, and return what is wrong with it; `kept` are heads that must be in it."""
    verifier = ActsVerifier(Scope(), kept)
    faults: list[Fault] = []
    async for entry in chain(store, await store.acts_head()):
        faults += verifier.faults(entry)
    return verifier, faults + verifier.missing()


def outcome(verifier: ActsVerifier) -> Iterator[str]:
    """Yield in words what was verified of acts, if there were any; the head, if it stands for all there is."""
    places = verifier.places
    if places.first is None or places.head is None:
        return
    if places.scope.document is not None:
        yield "Each act is the one that its link stands for."
    elif places.first.number > 1:
        yield (
            f"The record of acts holds from act {places.first.number} to act {places.head.number};"
            " what stands before was not seen."
        )
    else:
        yield f"The record of acts holds, up to act {places.head.number}: acts head {places.head}"


def _matches(entry: Entry, document: str | None, since_us: int, end_us: int) -> bool:
    assert entry.columns is not None, "it comes from a store"
    filed, at_us = entry.columns  # empty where they are not what they should be
    return document in (None, filed.decode(errors="replace")) and since_us <= int(at_us or -1) < end_us


async def _list(config: Config, document: str | None, actor: str | None, limit: int) -> list[Act]:
    async with looking.store_of(config) as store:
        return await store.acts(document=document, who=actor, limit=limit)
