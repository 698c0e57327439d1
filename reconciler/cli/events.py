"""Events as commands write them: from options to records, checked as the reconciler will check them."""

import getpass
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reconciler.adapters.clock import SystemClock
from reconciler.config import Config
from reconciler.core.events import change_events, decode
from reconciler.errors import LogError, UsageError
from reconciler.model import instant
from reconciler.model.event import Outgoing
from reconciler.model.value import Json

_CHUNK = 5_000  # records of one append, for whose acknowledgement there is a time limit
CONTENT_TYPE = change_events.CONTENT_TYPE


def value(text: str) -> Json:
    """Return what an option's text says: JSON if it is that, else the text itself."""
    try:
        return json.loads(text, parse_constant=_not_json)  # type: ignore[no-any-return]  # JSON is Json
    except ValueError:
        return text


def changed(document: str, data: Mapping[str, Any], source: str, actor: str, time: str | None = None) -> dict[str, Any]:
    """Return a changed event; `time` is a canonical instant, `None` meaning now. It gets an id of its own."""
    return change_events.changed(document, data, id=str(uuid.uuid4()), source=source, actor=actor, time=time or now())


def now() -> str:
    """Return this moment as a canonical instant."""
    return instant.from_us(SystemClock().now_us())


def refusal(record: Outgoing, decode_options: decode.Options) -> str | None:
    """Return why the reconciler would not take a record, `None` if it would."""
    return change_events.refusal(record, decode_options, SystemClock().now_us())


def require_usable(records: Sequence[Outgoing], decode_options: decode.Options) -> None:
    """Raise UsageError for the first record that the reconciler would refuse."""
    for one in records:
        reason = refusal(one, decode_options)
        if reason is not None:
            raise UsageError(f"the event can't be used: {reason}")


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
        raise LogError(f"{error} (the first {done} were appended; appending them again does no harm)") from error
    finally:
        await log.close()


def log_name(config: Config, origins: Iterable[str]) -> str:
    """Return what people call the parts of the log that records of these topics are appended to."""
    names = sorted({decode_options(config).topics.again(origin) for origin in origins})
    if config.log.kind == "file":
        return ", ".join(str(Path(config.log.path).with_name(name)) for name in names)
    return f"topic {', '.join(names)}"


def decisions_log(config: Config) -> str:
    """Return what people call where operators' decisions go."""
    return log_name(config, [decode_options(config).topics.decisions])


def user() -> str:
    """Return who runs this, as events name actors."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return ""


def _not_json(constant: str) -> Json:
    raise ValueError(f"{constant} is not JSON")
