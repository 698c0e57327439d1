"""
Framework: what every command and every family of commands has.

`--debug` and `--log-level` are accepted by each command, and shown in the help of the program only.
"""

import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from reconciler import __version__
from reconciler.cli import log_output, runtime

_DEBUG = "reconciler.debug"
_LEVEL = "reconciler.log_level"

F = TypeVar("F", bound=Callable[..., object])

_SENTENCE_MAX = 1000  # characters


def _keep(name: str) -> Callable[[click.Context, click.Parameter, object], None]:
    def keep(context: click.Context, _: click.Parameter, value: object) -> None:
        if value:
            context.meta[name] = value  # shared by a context and all within it

    return keep


def _everywhere(*, hidden: bool) -> list[click.Parameter]:
    return [
        click.Option(
            ["--log-level"],
            type=click.Choice(log_output.LEVELS),
            hidden=hidden,
            expose_value=False,
            callback=_keep(_LEVEL),
            help="Lowest level logged on stderr.  [default: info for run, error otherwise]",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            hidden=hidden,
            expose_value=False,
            callback=_keep(_DEBUG),
            help="Show the traceback of an error.",
        ),
    ]


class Command(click.Command):
    """A command; `log_level` is what it logs from unless told otherwise."""

    def __init__(self, *args: Any, log_level: str = "error", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _everywhere(hidden=True)
        self._log_level = log_level

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command's function, with logging as asked for."""
        level: str | None = ctx.meta.get(_LEVEL)
        log_output.configure(level or self._log_level, asked_for=level is not None or self._log_level != "error")
        return super().invoke(ctx)


class Family(click.Group):
    """A group of commands, listed in the order they were added, which is their order of use."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _everywhere(hidden=True)

    def subcommand(self, name: str, *examples: str) -> Callable[[Callable[..., Any]], click.Command]:
        """Make a function a command of this family, as `command` does it."""
        return self.command(name, epilog=example(*examples))

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their whole first sentences, which click would cut off at the end of a line."""
        rows = [(name, one.get_short_help_str(_SENTENCE_MAX)) for name, one in self.commands.items() if not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def list_commands(self, _: click.Context) -> list[str]:
        """Return the commands in the order they were added."""
        return list(self.commands)


class Root(Family):
    """The program, which turns errors into lines and exit codes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, context_settings={"help_option_names": ["-h", "--help"]}, **kwargs)
        self.params = [*_everywhere(hidden=False), *_version()]

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command and exit with its code; with `standalone_mode=False`, as click does."""
        standalone = extra.pop("standalone_mode", True)
        command: Callable[[], object] = partial(super().main, *args, **extra, standalone_mode=False)
        if not standalone:
            return command()
        sys.exit(runtime.ended(command))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; with --debug, print the traceback of an error."""
        try:
            with runtime.quiet_ends():
                return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException):
            raise
        except Exception:
            if ctx.meta.get(_DEBUG):
                traceback.print_exc()
            raise


def command(*examples: str, name: str | None = None, log_level: str = "error") -> Callable[[F], Command]:
    """Make a function a command. Its docstring is the help; the examples follow the options."""
    return click.command(name=name, cls=Command, epilog=example(*examples), log_level=log_level)


def family(name: str, help: str) -> Family:
    """Return a group for commands that belong together."""
    return Family(name=name, help=help, no_args_is_help=True)


def example(*lines: str) -> str:
    """Return the examples of a help text, unwrapped."""
    shown = "\n".join(f"  {line}" for line in lines)
    return f"\b\nExample{'s' if len(lines) > 1 else ''}:\n{shown}"


def _version() -> list[click.Parameter]:
    def show(context: click.Context, _: click.Parameter, value: object) -> None:
        if value:
            print(f"reconciler {__version__}")
            context.exit()

    return [
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=show, help="Show the version."
        )
    ]
