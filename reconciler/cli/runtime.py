"""How a command runs and ends: exit codes (listed in docs/commands.md), messages on stderr, the event loop."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import click

from reconciler import errors

DONE = 0
FAILED = 1
USAGE = 2
CHANGES = 2  # of `plan`: there is something to write
UNSETTLED = 3  # something is held, parked, dead-lettered or left out
INTERRUPTED = 130  # as shells have it: 128 and the signal's number
PIPE_CLOSED = 141
TERMINATED = 143


def ended(command: Callable[[], object]) -> int:
    """Run a command to its end and return its exit code; errors become lines on stderr."""
    try:
        result = command()
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)  # the whole help, which is no error to be put in a line
        return USAGE
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        fault(f"{_sentence(error.format_message())}" + (f"; see `{where} --help`" if where else ""))
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  the last resort: whatever it is ends as a line
        return _failed(error)
    return result if isinstance(result, int) else DONE


@contextlib.contextmanager
def quiet_ends() -> Iterator[None]:
    """Turn an interrupt, or a reader that went away, into an exit without a word."""
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # What Python would flush at its end goes nowhere, instead of raising again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(PIPE_CLOSED) from None


def fault(message: str) -> None:
    """Print an error on stderr, line by line."""
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    print(f"warning: {message}", file=sys.stderr)


def note(message: str) -> None:
    """Print a remark on stderr, where it does not mix with what stdout is piped to."""
    print(message, file=sys.stderr)


def reasons(error: BaseException) -> list[str]:
    """Return what is wrong, one line each."""
    match error:
        case BaseExceptionGroup():
            # Several tasks may have met the same fault, which is told once.
            told = {(type(inner), str(inner)): inner for inner in error.exceptions}
            return [line for inner in told.values() for line in reasons(inner)]
        case errors.ReconcilerError():
            return str(error).splitlines()
        case _:
            said = " ".join(str(error).split())
            what = f"unexpected {type(error).__name__}{f': {said}' if said else ''}"
            return [f"{what}; please report it with the output of the same command with --debug"]


def _failed(error: BaseException) -> int:
    for line in reasons(error):
        fault(line)
    return _code(error)


def _code(error: BaseException) -> int:
    if isinstance(error, BaseExceptionGroup):
        return max(_code(inner) for inner in error.exceptions)
    return USAGE if isinstance(error, errors.UsageError) else FAILED


def _sentence(message: str) -> str:
    """Return click's message as our lines look: no capital, no full stop, one line."""
    message = " ".join(message.split()).removesuffix(".")
    return message[:1].lower() + message[1:]


# -------------------------------------------------------------------------------------------------------------- running


T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """
    Run a command's coroutine and return its result.

    A TLS connection that was closed stays half open until the other side answers, for up to 30 s. What is still so at
    the end is cut.
    """
    if sys.platform == "win32":
        return asyncio.run(main)
    from reconciler.cli.loop import Loop

    loop = Loop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            return runner.run(main)
        finally:
            runner.run(loop.cut_closed())
