"""Who is told of what: each `[[notify.rules]]`, and the addresses that rules name."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from reconciler.config.values import TEN_YEARS_S, File, Filled, Seconds, text
from reconciler.core.explain import routing

_NAME = r"[A-Za-z0-9._-]{1,64}"
_HOUR = r"([01][0-9]|2[0-3]):[0-5][0-9]"
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
EMAIL = r"[^\s@,<>]+@[^\s@,<>]+"
_TARGET = rf"{_NAME}[ \t]+[!-~]+[ \t\r]*"
TARGETS = text(
    rf"({_TARGET}(\n[ \t\r\n]*{_TARGET})*[ \t\r\n]*)?", "a name, a space and an address, one a line", lines=True
)

_Name = Annotated[str, text(_NAME, "a name: 1 to 64 letters, digits, '.', '_' or '-'")]
_To = Annotated[str, text(f"{EMAIL}|{_NAME}", "an e-mail address, or a name of notify.targets")]
_Hours = Annotated[str, text(f"({_HOUR}-{_HOUR})?", "hours such as 18:00-07:30, or empty for none")]


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is told of what. Rules do not exclude each other: each sends what it covers."""

    name: Annotated[_Name, Meta(description="What messages, metrics and the status call it.")]
    to: Annotated[
        tuple[_To, ...], Meta(min_length=1, description="E-mail addresses, which get one mail together, and targets.")
    ]
    kinds: Annotated[
        tuple[Filled, ...], Meta(description="Globs over types of notifications, such as conflict.*; empty: all.")
    ] = ()
    fields: Annotated[tuple[Filled, ...], Meta(description="Globs over fields: only conflicts about these.")] = ()
    types: Annotated[tuple[Filled, ...], Meta(description="Globs over types of documents.")] = ()
    sources: Annotated[tuple[Filled, ...], Meta(description="Globs over the sources of what documents should be.")] = ()
    modified_by: Annotated[
        tuple[Filled, ...], Meta(description="Globs over who changed the document last in Windchill.")
    ] = ()
    window_s: Annotated[
        Seconds,
        Meta(ge=0, le=TEN_YEARS_S, description="Seconds between two messages; each has all that came meanwhile."),
    ] = 300.0
    quiet: Annotated[_Hours, Meta(description="Hours without messages; what is still open then follows.")] = ""
    quiet_days: Annotated[
        tuple[Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"], ...], Meta(description="Days without messages.")
    ] = ()
    time_zone: Annotated[
        Filled, Meta(description="The zone of quiet hours and of times in messages, such as Europe/Berlin.")
    ] = "UTC"
    template: Annotated[File, Meta(description="A template in place of the built-in one; docs/notifications.md.")] = ""


def route(rule: Rule) -> routing.Route:
    """Return what a rule sends, and when."""
    since, _, until = rule.quiet.partition("-")
    quiet = routing.Quiet(
        since_min=_minute(since),
        until_min=_minute(until),
        days=frozenset(map(DAYS.index, rule.quiet_days)),
        zone=ZoneInfo(rule.time_zone),
    )
    return routing.Route(
        kinds=rule.kinds,
        fields=rule.fields,
        types=rule.types,
        sources=rule.sources,
        modified_by=rule.modified_by,
        quiet=quiet,
    )


def _minute(hour: str) -> int:
    hours, _, minutes = hour.partition(":")
    return int(hours) * 60 + int(minutes) if hour else 0


RULES = tuple[Rule, ...]


def targets(given: str) -> dict[str, str]:
    """Return the addresses of `notify.targets` by name."""
    return dict(line.split(maxsplit=1) for line in map(str.strip, given.splitlines()) if line)


def is_email(to: str) -> bool:
    """Whether one of a rule's `to` is an e-mail address rather than a name of `notify.targets`."""
    return re.fullmatch(EMAIL, to) is not None


def faults(rules: Sequence[Rule], known: str, given: Callable[[str], Any]) -> Iterator[str]:
    """Yield what is wrong with rules that are each allowed, given the targets and the other keys of the section."""
    named = targets(known)
    for name, count in Counter(rule.name for rule in rules).items():
        if count > 1:
            yield f"two rules are named {name}; give each a name of its own"
    for rule in rules:
        if any(map(is_email, rule.to)) and not (given("smtp_host") and given("email_from")):
            yield f"{rule.name}: an e-mail needs notify.smtp_host and notify.email_from"
        for to in rule.to:
            if not is_email(to) and to not in named:
                yield f"{rule.name}: there is no target {to}; notify.targets has {', '.join(named) or 'none'}"
        try:
            ZoneInfo(rule.time_zone)
        except (LookupError, OSError, ValueError):
            yield f"{rule.name}: {rule.time_zone!r} is no time zone that this host knows, such as Europe/Berlin"
