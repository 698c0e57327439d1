"""`reconciler audit acts`: what operators did, by command, through the API or on the page."""

from collections.abc import Sequence
from typing import Any

import click

from reconciler.cli import commands, looking, options, output, running
from reconciler.config import Config
from reconciler.core.acts_trail import ActsVerifier
from reconciler.core.trail import Fault
from reconciler.model.act import CLI, Act
from reconciler.model.chain import Head
from reconciler.ports import Store

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
    output.report(form, [_row(act) for act in found], _COLUMNS, "Nobody did anything.")


def by(act: Act | None) -> dict[str, Any] | None:
    """Return who did something, as JSON shows it."""
    if act is None:
        return None
    shown = {name: value for name, value in _row(act).items() if name in ("who", "role", "at", "kind")}
    return {"act": act.id, **shown, "reason": act.details.get("reason")}


def told(act: Act) -> str:
    """Return who did something, when and why, in words."""
    why = act.details.get("reason")
    how = " by command" if act.role == CLI else f" as {act.role}"
    return f"{output.when(looking.at(act.at_us))} by {act.who}{how}" + (f": {why}" if why else ", without a reason")


async def verified(store: Store, kept: Sequence[Head]) -> tuple[Head | None, list[Fault]]:
    """Return the head of the record of acts, and what is wrong with it; `kept` are heads that must be in it."""
    last, verifier = await store.acts_head(), ActsVerifier(kept)
    faults: list[Fault] = []
    async for entry in store.acts_chain():
        if last is None or entry.number > last.number:  # written meanwhile
            break
        faults += verifier.faults(entry)
    return verifier.head, faults + verifier.missing()


async def _list(config: Config, document: str | None, actor: str | None, limit: int) -> list[Act]:
    async with looking.store_of(config) as store:
        return await store.acts(document=document, who=actor, limit=limit)


def _row(act: Act) -> dict[str, Any]:
    return {
        "id": act.id,
        "at": looking.at(act.at_us),
        "who": act.who,
        "role": act.role,
        "kind": act.kind,
        "target": act.target,
        "document": act.document or None,
        "details": act.details,
        "result": act.result,
    }
