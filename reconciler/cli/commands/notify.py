"""`reconciler notify`: tries whether notifications arrive."""

from typing import Any

import click

from reconciler.adapters.clock import SystemClock
from reconciler.cli import framework, options, output, runtime
from reconciler.config import Config
from reconciler.core.explain import notices
from reconciler.errors import UsageError

notify = framework.family("notify", "Try whether notifications arrive.")

_COLUMNS = (
    output.Column("to", "to", whole=True),
    output.Column("result", "result", whole=True),
)


@notify.subcommand(
    "test",
    "reconciler notify test -c reconciler.toml",
    "reconciler notify test --rule cost -c reconciler.toml",
)
@click.option(
    "--rule", default=None, metavar="NAME", help="Only this [[notify.rules]]; otherwise all, and the webhook."
)
@options.reporting
@options.configured()
def test(config: Config, rule: str | None, form: str) -> int:
    """
    Send a made-up conflict to everyone whom notifications go to, quiet hours or not.

    Nothing is read or stored. Each message says that it is a test. Exit code 1 if one of them was not accepted.
    """
    known = [one.name for one in config.notify.rules]
    if rule is not None and rule not in known:
        raise UsageError(f"there is no [[notify.rules]] named {rule}; configured are {', '.join(known) or 'none'}")
    found = runtime.run(_send(config, rule))
    if form == "json":
        output.as_json({"items": found})
    elif found:
        output.table([{**one, "result": one["failure"] or "accepted"} for one in found], _COLUMNS)
    else:
        output.line("No one is notified: set notify.webhook_url, or write a [[notify.rules]].")
    return runtime.FAILED if not found or any(one["failure"] for one in found) else runtime.DONE


async def _send(config: Config, rule: str | None) -> list[dict[str, Any]]:
    from reconciler import factory

    clock = SystemClock()
    receivers = factory.make_receivers(config, clock, None)
    found = []
    try:
        for one in receivers:
            if rule is None or one.name.startswith(f"{rule}/"):
                failure = await one.webhook.post(notices.trial(clock.now_us(), one.options.source))
                found.append({"to": one.name, "failure": None if failure is None else failure.why})
    finally:
        for one in receivers:
            await one.webhook.close()
    return found
