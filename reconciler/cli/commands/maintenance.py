"""`reconciler maintenance`: windows in which no request to Windchill begins."""

import re
from typing import Any

import click

from reconciler.adapters.clock import SystemClock
from reconciler.cli import actions, framework, options, output, store_access
from reconciler.config import Config
from reconciler.core.scheduling import windows
from reconciler.core.scheduling.windows import Override
from reconciler.errors import ReconcilerError, UsageError
from reconciler.model import instant
from reconciler.model.action import ActionKind

maintenance = framework.family("maintenance", "Windows in which no request to Windchill begins: show, open, close.")

_COLUMNS = (
    output.Column("begins", "begins", output.when, whole=True),
    output.Column("ends", "ends", output.when, whole=True),
)
_COMING = 10


@maintenance.subcommand("show", "reconciler maintenance show -c reconciler.toml")
@options.on_store
def show(config: Config, form: str) -> None:
    """Show whether there is a window now, and the next ones of the calendar (windchill.windows)."""
    now_us = SystemClock().now_us()
    until_us, found = store_access.ask(config, lambda store: _now(config, store, now_us))
    coming = sorted({one for one in _periods(config, now_us) if one.begins_us > now_us}, key=lambda one: one.begins_us)[
        :_COMING
    ]
    rows = [{"begins": instant.from_us(one.begins_us), "ends": instant.from_us(one.ends_us)} for one in coming]
    if form == "json":
        output.as_json({"until": None if until_us is None else instant.from_us(until_us), "coming": rows})
        return
    output.line(_said(until_us, found, now_us))
    if rows:
        print("Next:")
        output.table(rows, _COLUMNS)


@maintenance.subcommand("open", "reconciler maintenance open --for 2h -c reconciler.toml")
@click.option("--for", "lasts", required=True, metavar="DURATION", help="30m, 2h; at most 24h.")
@actions.with_actor_and_reason
@options.on_store
def open_(config: Config, *, lasts: str, actor: str, reason: str, form: str) -> None:
    """
    Open a window now: within five seconds no request to Windchill begins any more, in no replica.

    Requests that have begun end. Events are still folded; what they ask for is written when the window is over. It
    outlasts restarts. Opening again replaces the end.
    """
    until_us = SystemClock().now_us() + _us(lasts)
    _act(config, ActionKind.OPEN_WINDOW, until_us, actor, reason)
    _report(form, until_us, f"A maintenance window is open until {output.when(instant.from_us(until_us))}.")


@maintenance.subcommand("close", "reconciler maintenance close --reason 'done early' -c reconciler.toml")
@actions.with_actor_and_reason
@options.on_store
def close(config: Config, *, actor: str, reason: str, form: str) -> None:
    """End the window of now, also one of the calendar; the next one of the calendar comes as planned."""
    now_us = SystemClock().now_us()
    until_us, _ = store_access.ask(config, lambda store: _now(config, store, now_us))
    if until_us is None:
        raise ReconcilerError("there is no maintenance window now; nothing was done")
    by_calendar_us = windows.until_us(now_us, _periods(config, now_us))
    _act(config, ActionKind.CLOSE_WINDOW, by_calendar_us or now_us, actor, reason)
    _report(form, None, "The maintenance window is closed: requests begin again within five seconds.")


async def _now(config: Config, store: Any, now_us: int) -> tuple[int | None, Override]:
    from reconciler.flows import maintenance as flow

    found = await flow.said(store)
    return windows.until_us(now_us, _periods(config, now_us), found), found


def _periods(config: Config, now_us: int) -> list[windows.Period]:
    from reconciler import factory

    return factory.make_windows(config)(now_us)


def _act(config: Config, kind: ActionKind, until_us: int, who: str, reason: str) -> None:
    from reconciler.flows import maintenance as flow

    details = {"until": instant.from_us(until_us), "reason": reason}
    actions.run(config, lambda operator: operator.note(who, kind, flow.TARGET, details=details))


def _us(text: str) -> int:
    from reconciler.flows import maintenance as flow

    found = re.fullmatch(r"([1-9]\d{0,3})([mh])", text)
    seconds = 0 if found is None else int(found[1]) * (60 if found[2] == "m" else 3600)
    if not 0 < seconds <= flow.LONGEST_S:
        raise UsageError(f"--for {text}: must be a number of minutes or hours, such as 30m or 2h, and at most 24h")
    return seconds * 1_000_000


def _said(until_us: int | None, found: Override, now_us: int) -> str:
    if until_us is None:
        return "No maintenance window now."
    by = f", opened by {found.who}" if found.closed and now_us < found.until_us else ", by the calendar"
    why = f": {found.reason}" if found.closed and now_us < found.until_us and found.reason else ""
    return f"A maintenance window is open until {output.when(instant.from_us(until_us))}{by}{why}."


def _report(form: str, until_us: int | None, text: str) -> None:
    if form == "json":
        output.as_json({"until": None if until_us is None else instant.from_us(until_us)})
    else:
        output.line(text)
