"""Probing: `reconciler doctor --probe` of a server that speaks `wrs`, for people, and as the report to send to us."""

import json
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import attrs
from rich.table import Table

from reconciler import __version__, views
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.counters import Counters
from reconciler.adapters.wrs.probe import Means, Probe
from reconciler.adapters.wrs.probe_findings import Finding, Result
from reconciler.adapters.wrs.windchill import WrsWindchill
from reconciler.cli import output, runtime, store_access
from reconciler.config import Config
from reconciler.config.groups import GROUPS
from reconciler.errors import StoreError
from reconciler.model import instant

_MARKS = {
    Result.OK: "[green]✓[/]",
    Result.WARNING: "[yellow]![/]",
    Result.FAILED: "[red]✗[/]",
    Result.SKIPPED: "[dim]·[/]",
}
_WITH_BEARER = ("bearer", "oauth2")
_ADDRESS = re.compile(r"https?://[^/\s'\")]+", re.IGNORECASE)
_NUMERIC_ADDRESS = re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b(?!\.)")
_HIDDEN = "…"


async def probe(config: Config, key: str, form: str) -> int:
    """Probe, tell what is found, and return the exit code."""
    shown = _Shown(form)
    versions: dict[str, Any] = {}
    if (why := await _managed(config, key)) is not None:
        shown.tell(Finding("document", Result.FAILED, why))
    else:
        if form != "json":
            output.line(f"Probing {config.windchill.service or 'the service'} with document {key}.")
            print()
        versions = await _asked(config, key, shown)
    failed = any(finding.result is Result.FAILED for finding in shown.findings)
    settings = _settings(shown.findings)
    if form == "json":
        output.as_json(_report(config, shown.findings, versions, settings))
    else:
        _conclude(settings, failed=failed)
    return runtime.FAILED if failed else runtime.DONE


async def _managed(config: Config, key: str) -> str | None:
    """Return why a document is not to be probed: all writes are stopped, it is ours to keep, or no one can tell."""
    if not await store_access.admin(config).exists():
        return None
    try:
        async with store_access.opened(config) as store:
            known, stop = key in await store.documents([key]), await store.write_stop()
    except (StoreError, OSError) as error:
        return f"the store can't be read, so whether {key} is managed can't be told: {error}"
    if stop is not None:
        return f"all writes are {output.stopped(views.service.write_stop(stop))}; `reconciler writes resume` ends that"
    return f"{key} is in the reconciler's store; take one that no one needs" if known else None


async def _asked(config: Config, key: str, shown: "_Shown") -> dict[str, Any]:
    settings = config.windchill
    windchill = _part(config, lock="checkout")
    nonces = _part(config, service="PTC") if settings.service else None
    root = f"{settings.base_url.rstrip('/')}/{settings.service}"
    bare = _part(config, base_url=root, service="") if nonces and settings.auth in _WITH_BEARER else None
    means = Means(
        windchill,
        nonces.service if nonces else None,
        bare.service if bare else None,
        SystemClock(),
        settings.lock,
        shown.tell,
        shown.announce,
    )
    run = Probe(means, key)
    try:
        await run.run()
    finally:
        for part in (windchill, nonces, bare):
            if part is not None:
                await part.close()
    return run.versions


def _part(config: Config, **changes: Any) -> WrsWindchill:
    from reconciler import factory

    changed = attrs.evolve(config, windchill=attrs.evolve(config.windchill, **changes))
    part = factory.make_windchill(changed, SystemClock(), Counters())
    assert isinstance(part, WrsWindchill), "asked for no other dialect"
    return part


class _Shown:
    """What was found so far. People see each finding when it is made."""

    def __init__(self, form: str) -> None:
        self.findings: list[Finding] = []
        self._for_people = form != "json"

    def tell(self, finding: Finding) -> None:
        """Take note of a finding."""
        self.findings.append(finding)
        if not self._for_people:
            if finding.result is Result.FAILED:  # not only in the report, which an interrupted probe does not print
                runtime.warn(f"{finding.check}: {finding.message}")
            return
        _line(_MARKS[finding.result], f"[bold]{finding.check}[/]: {output.escape(finding.message)}")
        exchange = " → ".join(said for said in (finding.sent, finding.answer) if said)
        if exchange:
            _line(" ", f"[dim]{output.escape(exchange)}[/]")

    def announce(self, intentions: Sequence[str]) -> None:
        """Say what is going to be done to the document; beside a report on stderr."""
        if not self._for_people:
            for intention in intentions:
                print(f"going to {intention}", file=sys.stderr)
            return
        print()
        output.line("So far nothing was changed. What comes next is tried on the document, and undone each time:")
        for intention in intentions:
            _line("-", output.escape(intention))
        output.line("Ctrl-C ends it, and undoes what is under way.")
        print()


def _line(mark: str, text: str) -> None:
    """Print a line of ours: on a terminal filled to its width, hanging after the mark; in a pipe on one line."""
    console = output.console()
    if not console.is_terminal:
        console.print(f"{mark} {text}", soft_wrap=True)
        return
    grid = Table.grid(padding=(0, 1))
    grid.add_row(mark, text)
    console.print(grid)


# ------------------------------------------------------------------------------------------------------ what follows


def _settings(findings: Sequence[Finding]) -> dict[str, dict[str, Any]]:
    """Return what follows: section → key → value. The last word on a key counts."""
    found: dict[str, dict[str, Any]] = {}
    for finding in findings:
        for name, value in finding.setting.items():
            section, _, key = name.partition(".")
            found.setdefault(section, {})[key] = value
    order = {section: [field.name for field in attrs.fields(group)] for section, group in GROUPS.items()}
    return {
        section: {key: values[key] for key in sorted(values, key=order[section].index)}
        for section, values in found.items()
    }


def as_toml(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Return settings as TOML. A basic string of TOML is one of JSON, but for U+007F, which is no part of a name."""
    lines = []
    for section, values in settings.items():
        lines += [f"[{section}]", *(f"{key} = {_value(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n" if lines else ""


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _conclude(settings: dict[str, dict[str, Any]], *, failed: bool) -> None:
    print()
    if failed:
        output.heading("Don't let the reconciler write to this server yet: see the lines marked ✗.")
    if settings:
        output.line("The configuration that follows; put these lines into reconciler.toml:")
        print()
        print(as_toml(settings), end="")
        print()
    output.line("A report for us, without host names and secrets: the same command with -o json (docs/windchill.md).")


def _report(
    config: Config, findings: Sequence[Finding], versions: Mapping[str, Any], settings: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    windchill, hosts = config.windchill, _hosts(config)
    return {
        "report": "reconciler doctor --probe",
        "at": instant.from_us(SystemClock().now_us()),
        "versions": {
            "reconciler": __version__,
            "python": platform.python_version(),
            "service": windchill.service,
            "entity_set": windchill.entity_set,
            "key_property": windchill.key_property,
            "auth": windchill.auth,
            "server": dict(versions),
        },
        "findings": [_finding(finding, hosts) for finding in findings],
        "settings": settings,
        "toml": as_toml(settings),
    }


def _finding(finding: Finding, hosts: re.Pattern[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {"check": finding.check, "result": finding.result.value}
    for name, text in (("message", finding.message), ("sent", finding.sent), ("answer", finding.answer)):
        without_hosts = hosts.sub(_HIDDEN, _ADDRESS.sub(f"https://{_HIDDEN}", text))
        shown |= {name: _NUMERIC_ADDRESS.sub(_HIDDEN, without_hosts)} if text else {}
    return shown | ({"setting": dict(finding.setting)} if finding.setting else {})


def _hosts(config: Config) -> re.Pattern[str]:
    """Return what matches our hosts. A host of one word may be any word: it counts beside a port or `//`."""
    settings = config.windchill
    urls = (settings.base_url, settings.oauth2_token_url)
    hosts = {host for url in urls if url and (host := urlsplit(url).hostname)}
    named = [
        re.escape(host) if "." in host else rf"(?<=//){re.escape(host)}|{re.escape(host)}(?=:\d)" for host in hosts
    ]
    return re.compile("|".join(named), re.IGNORECASE)
