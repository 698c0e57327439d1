"""Change events that commands append: values of options, checks, the log they go to."""

import getpass
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from reconciler.adapters.clock import SystemClock
from reconciler.config import Config
from reconciler.core.events import change_events, decode
from reconciler.errors import LogError
from reconciler.model.event import Outgoing
from reconciler.model.value import Json

_CHUNK = 5_000  # records per append, each of which must be acknowledged within a time limit


def value(text: str) -> Json:
    """Return the value of an option's text: what it is as JSON, or else the text itself."""
    try:
        return json.loads(text, parse_constant=_not_json)  # type: ignore[no-any-return]  # JSON is Json
    except ValueError:
        return text


def refusal(record: Outgoing, decode_options: decode.Options) -> str | None:
    """Return why the reconciler would refuse a record; `None` if it would not."""
    return change_events.refusal(record, decode_options, SystemClock().now_us())


def decode_options(config: Config) -> decode.Options:
    """Return the options that the reconciler decodes with."""
    from reconciler import factory

    return factory.decoding(config)


async def append(config: Config, records: Sequence[Outgoing]) -> None:
    """Append records to the configured log."""
    from reconciler import factory

    log = factory.make_log(config, SystemClock())
    done = 0
    try:
        for start in range(0, len(records), _CHUNK):
            await log.append(records[start : start + _CHUNK])
            done = start + _CHUNK
    except LogError as error:
        if not done:
            raise
        raise LogError(f"{error} (the first {done} events were appended; it is safe to append them again)") from error
    finally:
        await log.close()


def log_name(config: Config, origins: Iterable[str]) -> str:
    """Return the names of the topics, or files, to which records of these topics are appended."""
    names = sorted({decode_options(config).topics.again(origin) for origin in origins})
    if config.log.kind == "file":
        return ", ".join(str(Path(config.log.path).with_name(name)) for name in names)
    return f"topic {', '.join(names)}"


def decisions_log(config: Config) -> str:
    """Return the name of the topic, or file, that takes operators' decisions."""
    return log_name(config, [decode_options(config).topics.decisions])


def user() -> str:
    """Return the user who runs the command, empty where they have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # as in some containers
        return ""


def _not_json(constant: str) -> Json:
    raise ValueError(f"{constant} is not JSON")
