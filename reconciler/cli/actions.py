"""
Acting: what commands do is done by `flows.actions`, as the API and the page do it, and recorded with who did it.

Events as commands write them: from options to records, checked as the reconciler will check them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from reconciler.cli import exits, looking, output
from reconciler.config import Config
from reconciler.errors import ReconcilerError, UsageError
from reconciler.model.action import Done, Gone, Unusable
from reconciler.ports import Store

if TYPE_CHECKING:
    from reconciler.flows.actions import OperatorActions

import getpass
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from reconciler.adapters.clock import SystemClock
from reconciler.core.events import change_events, decode
from reconciler.errors import LogError
from reconciler.model import instant
from reconciler.model.event import Outgoing
from reconciler.model.value import Json

T = TypeVar("T")


@attrs.frozen
class Bench:
    """A store to look into and what can be done with it."""

    store: Store
    actions: "OperatorActions"


@asynccontextmanager
async def bench(config: Config) -> AsyncIterator[Bench]:
    """Open the configured store beside whoever owns it; the log is reached only by what appends to it."""
    from reconciler import parts
    from reconciler.adapters.clock import SystemClock

    clock = SystemClock()
    async with looking.store_of(config) as store:
        log = parts.make_log(config, clock)
        try:
            yield Bench(store, parts.actions(config, store, log, clock))
        finally:
            await log.close()


def actor(given: str | None) -> str:
    """Return who acts: whoever is named, else whoever runs the command."""
    return given or user() or "somebody"


by = click.option(
    "--actor", default=None, callback=lambda _, __, given: actor(given), help="Who does it.  [default: you]"
)


def by_whom(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--actor` and `--reason`."""
    return by(click.option("--reason", default="", help="Why; kept with the record of it.")(function))


def do(config: Config, action: Callable[[Bench], Awaitable[T]]) -> T:
    """Do one thing with the configured store, and return what came of it."""

    async def done() -> T:
        async with bench(config) as opened:
            return await action(opened)

    return exits.run(done())


def require(found: Any) -> Any:
    """Return what was done; raises ReconcilerError where nothing was."""
    if isinstance(found, Gone):
        raise ReconcilerError(found.reason)
    if isinstance(found, Unusable):
        raise UsageError(found.reason)
    return found


def report(form: str, done: Done, verb: str, after: str) -> None:
    """Say what was done with which documents, and what was not, with why; raises ReconcilerError if nothing was."""
    if form == "json":
        output.as_json({"done": list(done.done), "left": done.left})
    elif done.done:
        count = len(done.done)
        output.line(f"{'1 document is' if count == 1 else f'{count} documents are'} {verb}. {after}")
    left = sorted(done.left.items())
    if left and not done.done:
        more = f", and {len(left) - 1} more" if len(left) > 1 else ""
        raise ReconcilerError(f"{left[0][0]}: {left[0][1]}{more}; nothing was done")
    if form != "json":
        for key, why in left:
            output.line(f"Left {key}: {why}.")


# --------------------------------------------------------------------------------------------------------------- events


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


def refusal(record: Outgoing, rules: decode.Rules) -> str | None:
    """Return why the reconciler would not take a record, `None` if it would."""
    return change_events.refusal(record, rules, SystemClock().now_us())


def require_usable(records: Sequence[Outgoing], rules: decode.Rules) -> None:
    """Raise UsageError for the first record that the reconciler would refuse."""
    for one in records:
        reason = refusal(one, rules)
        if reason is not None:
            raise UsageError(f"the event can't be used: {reason}")


def rules(config: Config) -> decode.Rules:
    """Return the rules that the reconciler decodes by."""
    from reconciler import parts

    return parts.decoding(config)


async def append(config: Config, records: Sequence[Outgoing]) -> None:
    """Append records to the configured log."""
    from reconciler import parts

    log = parts.make_log(config, SystemClock())
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
    names = sorted({rules(config).topics.again(origin) for origin in origins})
    if config.log.kind == "file":
        return ", ".join(str(Path(config.log.path).with_name(name)) for name in names)
    return f"topic {', '.join(names)}"


def decisions_log(config: Config) -> str:
    """Return what people call where operators' decisions go."""
    return log_name(config, [rules(config).topics.decisions])


def user() -> str:
    """Return who runs this, as events name actors."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return ""


def _not_json(constant: str) -> Json:
    raise ValueError(f"{constant} is not JSON")
