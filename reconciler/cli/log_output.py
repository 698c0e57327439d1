"""
The program's own log: for people on a terminal, else one JSON object a line; on stderr, so that output can be piped.

Every log event is one line of visible characters, whatever it contains, and logging never fails. A traceback is logged
without the values of variables, which may be secrets.
"""

import json
import logging
import re
import sys
from collections.abc import Sequence
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from reconciler.cli import output

LEVELS: Sequence[str] = ("debug", "info", "warning", "error")
_SILENT = logging.CRITICAL + 1
_UNSEEN = re.compile(r"[^\x20-\x7e]")
_traced = structlog.processors.format_exc_info


def configure(level: str, *, asked_for: bool) -> None:
    """
    Log from `level` on.

    Client libraries log errors that they also raise, so their logs are shown only if logs were asked for; those of
    aiokafka, which repeats them at every attempt to reach a broker, only at level debug.
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
        console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        return lambda logger, name, event: console(logger, name, _plain(event))
    text = structlog.processors.JSONRenderer(serializer=_json)
    return lambda logger, name, event: text(logger, name, _traced(logger, name, event))


def _plain(event: EventDict) -> EventDict:
    """Escape control characters: documents' keys and servers' messages come from outside."""
    return {name: output.plain(value) if isinstance(value, str) else value for name, value in event.items()}


def _json(event: EventDict, **_: Any) -> str:
    import orjson

    try:
        line = orjson.dumps(event, default=repr).decode()
    except TypeError:  # half of a surrogate pair, a number of more than 64 bits: what orjson takes for no JSON
        line = json.dumps(event, default=repr, skipkeys=True)
    return line if line.isprintable() else _UNSEEN.sub(_escaped, line)


def _escaped(found: re.Match[str]) -> str:
    """Return an invisible or control character as JSON escapes it in ASCII."""
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def _in_order(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return first | {name: value for name, value in event.items() if value is not None}
