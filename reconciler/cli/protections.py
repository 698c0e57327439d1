"""Protections: what `doctor` says of who may speak as whom; of one that is off, also what turns it on."""

from collections.abc import Iterator
from pathlib import Path

from reconciler.cli.topics import OK, WARNING, Check
from reconciler.config import Config
from reconciler.model.policy import OPERATORS, Rule


def of_log(config: Config) -> Iterator[Check]:
    """Yield what keeps systems from speaking for each other, and for operators. `signatures` is told with the store."""
    yield _decisions(config)
    yield _topics(config)
    yield _rules(config)


def _decisions(config: Config) -> Check:
    from reconciler.adapters import file_log

    if config.log.kind == "kafka":
        topic = config.log.decisions_topic
        said = f"decisions of {OPERATORS} are taken from {topic} only; see that the broker lets nobody else write to it"
        return Check("who decides", OK, said)
    path = file_log.decisions_of(Path(config.log.path))
    open_to_all = [one for one in (path, path.parent) if one.exists() and one.stat().st_mode & 0o022]
    if open_to_all:
        shown = " and ".join(map(str, open_to_all))
        return Check("who decides", WARNING, f"others may write to {shown}, and so decide as operators: chmod go-w")
    return Check("who decides", OK, f"decisions of {OPERATORS} are taken from {path} only, which others can't write to")


def _topics(config: Config) -> Check:
    bound = ", ".join(f"{one.name} ({' '.join(one.sources)})" for one in config.log.topics)
    if bound:
        return Check("topics by source", OK, f"on: {bound}; see that the broker lets each system write to its own only")
    where = config.log.path if config.log.kind == "file" else config.log.topic
    said = f"off: whoever can write to {where} can speak for any system"
    return Check("topics by source", OK, said if config.log.kind == "file" else f"{said}; see [[log.topics]]")


def _rules(config: Config) -> Check:
    limited = [rule for rule in config.policy.rules if rule.sources]
    if not limited:
        said = "off: any source may set every field, and release every document; see `sources` of [[policy]]"
        return Check("rules by source", OK, said)
    shown = "; ".join(f"{rule.name} ({', '.join(rule.fields)}): {', '.join(rule.sources)}" for rule in limited)
    return Check("rules by source", OK, f"on: {shown}{_tombstones(config, limited)}")


def _tombstones(config: Config, limited: list[Rule]) -> str:
    if config.log.kind == "file":
        return ""
    refused = [name for name in config.log.change_topics if not all(rule.admits(f"//kafka/{name}") for rule in limited)]
    if not refused:
        return ""
    return f"; tombstones in {', '.join(refused)} release nothing, for these rules don't name //kafka/{refused[0]}"
