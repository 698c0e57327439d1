"""`reconciler source`: tries what a `[[source]]` makes of a record."""

from typing import Any, BinaryIO

import attrs
import click

from reconciler.adapters.clock import SystemClock
from reconciler.cli import framework, options, output, runtime
from reconciler.config import Config
from reconciler.core.events import decode, mapping
from reconciler.errors import LogError, UsageError
from reconciler.model.event import NO_MORE, Decoded, Event, Foreign, PlainRecord

source = framework.family("source", "Try what a [[source]] of the configuration makes of a record.")

_COLUMNS = (
    output.Column("field", "field", whole=True),
    output.Column("change", "change", whole=True),
    output.Column("value", "value", output.of_json),
)


@source.subcommand(
    "test",
    "reconciler source test --source sap -c reconciler.toml < payload.json",
    "reconciler source test --source sap --header type=DOCMAS -c r.toml < p.json",
)
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--source", "name", required=True, metavar="NAME", help="The [[source]] to try.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header of the record.")
@click.option("--key", default=None, help="The record's key.")
@options.reporting
@options.configured()
def try_(config: Config, file: BinaryIO, name: str, form: str, **said: Any) -> int:
    """
    Show the event that a payload means, or why it would be refused.

    FILE, or stdin, is the value of one record, as the log would hold it now. Nothing is sent or stored. Exit code 1 if
    the record would become a dead letter, or would be skipped.
    """
    from reconciler import factory

    decoding = factory.decoding(config)
    found = [(topic, one) for topic, several in decoding.sources.items() for one in several if one.name == name]
    if not found:
        names = ", ".join(one.name for one in config.sources) or "none"
        raise UsageError(f"there is no [[source]] named {name}; configured are {names}")
    topic, mapped = found[0]
    headers = tuple((header, text.encode()) for header, _, text in (one.partition("=") for one in said["headers"]))
    key = None if said["key"] is None else said["key"].encode()
    record = PlainRecord(topic, 0, 0, SystemClock().now_us() // 1000, key, file.read(), headers)
    registry, numbers = factory.make_registry(config, SystemClock()), mapping.schema_ids([mapped], record)
    if registry is not None and numbers and (fault := runtime.run(registry.learn(numbers))) is not None:
        raise LogError(fault)
    decoded = decode.record(record, attrs.evolve(decoding, sources={topic: [mapped]}))
    shown = _shown(decoded)
    if form == "json":
        output.as_json(shown)
    elif isinstance(decoded, Event):
        _print(decoded)
    else:
        output.line(f"{'Dead letter' if 'refused' in shown else 'Skipped'}: {next(iter(shown.values()))}")
    return runtime.DONE if isinstance(decoded, Event) else runtime.FAILED


def _shown(decoded: Decoded) -> dict[str, Any]:
    if isinstance(decoded, Foreign):
        return {"skipped": decoded.type}
    if not isinstance(decoded, Event):
        return {"refused": decoded.reason}
    more = decoded.more or NO_MORE
    return {
        "document": decoded.key,
        "time": decoded.time,
        "sequence": decoded.sequence,
        "source": decoded.source,
        "id": decoded.id,
        "actor": decoded.actor,
        "reason": decoded.reason,
        "released": more.released,
        "set": decoded.set,
        "elements": more.elements,
        "release": more.release,
    }


def _print(event: Event) -> None:
    more = event.more or NO_MORE
    facts = {"document": event.key, "time": event.time, "sequence": event.sequence, "source": event.source}
    facts |= {"id": event.id, "actor": event.actor, "reason": event.reason}
    for name, said in facts.items():
        if said:
            output.line(f"{name}: {said}")
    rows = [{"field": field, "change": "set", "value": value} for field, value in event.set.items()]
    for field, elements in more.elements.items():
        rows += [
            {"field": field, "change": "add" if there else "remove", "value": output.words(text)}
            for text, there in elements.items()
        ]
    rows += [{"field": field, "change": "release", "value": None} for field in more.release]
    if rows:
        print()
        output.table(rows, _COLUMNS)
    elif more.released:
        print("The whole document is released.")
