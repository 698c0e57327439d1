"""Logs: on a terminal for people, else one JSON object a line; always on stderr, so that output can be piped."""

import logging
import sys
from collections.abc import Sequence
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from reconciler.cli import output

LEVELS: Sequence[str] = ("debug", "info", "warning", "error")
_SILENT = logging.CRITICAL + 1


def configure(level: str, *, asked_for: bool) -> None:
    """
    Log from `level` on.

    Client libraries log what they will raise in a moment anyway: they are heard only where somebody asked for logs.
    aiokafka, which says so again at every attempt to reach a broker, is heard only in debugging.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*_marks(), _renderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,  # the test suite runs many commands in one process
    )
    foreign = logging.StreamHandler(sys.stderr)
    foreign.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_marks(),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer()],
        )
    )
    root = logging.getLogger()
    root.handlers = [foreign]
    root.setLevel(max(number, logging.WARNING) if asked_for else _SILENT)
    logging.getLogger("aiokafka").setLevel(logging.NOTSET if number <= logging.DEBUG else _SILENT)


def _marks() -> list[Processor]:
    return [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True), _in_order]


def _renderer() -> Processor:
    if sys.stderr.isatty():
        console = structlog.dev.ConsoleRenderer()
        return lambda logger, name, event: console(logger, name, _plain(event))
    return structlog.processors.JSONRenderer(serializer=_json)


def _plain(event: EventDict) -> EventDict:
    """Spell out what would steer a terminal: keys of documents, and what servers say, come from outside."""
    return {name: output.plain(value) if isinstance(value, str) else value for name, value in event.items()}


def _json(event: EventDict, **_: Any) -> str:
    import orjson

    return orjson.dumps(event, default=repr).decode()


def _in_order(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return first | {name: value for name, value in event.items() if value is not None}
