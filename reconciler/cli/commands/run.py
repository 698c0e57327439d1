"""`reconciler run`: the daemon, or with `--once` a single pass up to the present end of the log."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from reconciler import views
from reconciler.cli import framework, options, output, runtime
from reconciler.config import Config
from reconciler.errors import ReplacedError
from reconciler.model.document import Status

if TYPE_CHECKING:
    from reconciler.flows.ending import Summary


@framework.command(
    "reconciler run -c reconciler.toml",
    "reconciler run --once -c reconciler.toml",
    log_level="info",
)
@click.option("--once", is_flag=True, help="Stop once the present log is folded and all documents are settled.")
@click.option(
    "--accept-truncation",
    is_flag=True,
    help="Go on although a log has lost records that were not folded yet. They stay lost.",
)
@click.option(
    "--accept-sources",
    is_flag=True,
    help="Go on although [[source]], log.subjects or log.sources have changed: what was read keeps what it said.",
)
@options.reporting
@options.configured(again=True)
def run(config: Config, again: Callable[[], Config], once: bool, form: str, **decided: bool) -> int:
    """
    Fold the change log and bring Windchill to the desired state.

    Runs until SIGTERM or SIGINT; a second signal stops it at once, which is safe. SIGHUP reloads the policy; a policy
    that can't be used is ignored.

    --once prints a summary and exits with 0 if every document is synced and every event was usable, else with 3. It
    gives up when no attempt has succeeded for 1 min (longer with a longer windchill.timeout_s), for example while
    Windchill is down; the documents concerned stay pending.

    An empty or older store is first brought up to date from the change log and the outcome log. If a log has lost
    records that are needed next, the reconciler stops; --accept-truncation, given once, lets it go on without them.
    """
    summary = runtime.run(_run(config, None if once else again, decided))
    if not once:
        return runtime.DONE
    _show(form, summary)
    return runtime.DONE if summary.settled else runtime.UNSETTLED


async def _run(config: Config, again: Callable[[], Config] | None, decided: Mapping[str, bool]) -> "Summary":
    """Run the daemon; without `again`, which reloads the configuration, a single pass."""
    from reconciler import app, factory

    once = again is None
    stop, asked = asyncio.Event(), asyncio.Event()
    stop_on(stop, asked)
    policy_source = None
    if again is not None:
        policy_source = factory.policy_source(config, again)
        ask_on_hangup(policy_source.asked)
    while True:
        try:
            async with app.daemon(config, once=once, policy_source=policy_source) as daemon:
                return await daemon.run(stop, once=once, **decided)
        except Exception as error:
            if asked.is_set() or not _is_replaced(error):
                _tell(error)
                raise
            _begin_anew(error)
        decided = {}  # what is lost now, no person has seen
        stop.clear()
        if asked.is_set():
            stop.set()


def _is_replaced(error: BaseException) -> bool:
    """Whether another database is in the store's place, so that all that we know of it does not count."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(ReplacedError) is not None
    return isinstance(error, ReplacedError)


def _begin_anew(error: Exception) -> None:
    import structlog

    structlog.get_logger(__name__).warning("beginning anew", reason=runtime.reasons(error)[0])


def _tell(error: Exception) -> None:
    """Log the error for programs that read the log; people see it as the last line."""
    import structlog

    if not sys.stderr.isatty():
        log = structlog.get_logger(__name__)
        for reason in runtime.reasons(error):
            log.critical("ended by an error", reason=reason)


def _show(form: str, summary: "Summary") -> None:
    if form == "json":
        output.as_json(
            {
                "documents": {status.value: count for status, count in summary.counts.items()},
                "dead_letters": summary.dead_letters,
                "maintenance": summary.maintenance,
                "write_stop": None if summary.stop is None else views.service.write_stop(summary.stop),
                "settled": summary.settled,
            }
        )
        return
    rows = [{"status": status.value, "documents": count} for status, count in summary.counts.items() if count]
    if rows:
        output.table(rows, [output.Column("status", "status"), output.Column("documents", "documents", right=True)])
    else:
        print("No documents.")
    if not summary.maintenance and summary.stop is None and summary.counts.get(Status.PENDING):
        print("pending: Windchill gave no usable answer; see `reconciler docs list --status pending`")
    if summary.counts.get(Status.OBSERVED):
        print("observed: decided, and not written (windchill.write); see `reconciler observed`")
    if summary.dead_letters:
        print(f"dead letters: {summary.dead_letters}; see `reconciler dead-letters list`")
    if summary.maintenance:
        print("maintenance: nothing was written")
    if summary.stop is not None:
        print(f"writes: {output.stopped(views.service.write_stop(summary.stop))}; nothing more was written")


# ------------------------------------------------------------------------------------------------------------- signals
# There is no SIGHUP on Windows.


def stop_on(*events: asyncio.Event) -> None:
    """Set events at the first SIGTERM or SIGINT, for a stop in good order; the second kills the process, as usual."""
    numbers = (signal.SIGTERM, signal.SIGINT)

    def first() -> None:
        for event in events:
            event.set()
        for number in numbers:
            with contextlib.suppress(NotImplementedError):
                asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        _listen(number, first)


def ask_on_hangup(asked: asyncio.Event) -> None:
    """Ask for the policy to be reloaded at each SIGHUP."""
    number: int | None = getattr(signal, "SIGHUP", None)
    if number is not None:
        _listen(number, asked.set)


def _listen(number: int, react: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, react)
    except NotImplementedError:  # Windows' loop: Python's own handler has to hand it over
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(react))
