"""`reconciler demo`: the real job on this machine, with everything that goes wrong in real life, in under a minute."""

import asyncio
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from reconciler.cli import commands
from reconciler.errors import ReconcilerError, UsageError

_PARTS = ("starlette", "uvicorn", "httptools", "confluent_kafka")


@commands.command("reconciler demo", "reconciler demo --keep ./demo")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Leave configuration and store in this folder, to look at with the other commands.",
)
def demo(keep: Path | None) -> None:
    """
    Show the whole job on this machine: broker, simulated Windchill with rival users, reconciler.

    It starts everything as processes on loopback, prints what it shows, and ends by itself in under a minute with a
    summary that is computed from the simulated Windchill's own history.
    """
    try:
        from reconciler.cli.demonstration import Demonstration
    except ModuleNotFoundError as error:
        if error.name not in _PARTS:
            raise
        raise ReconcilerError(f"the demo needs {error.name}: pip install 'windchill-reconciler[demo]'") from error
    with ExitStack() as stack:
        if keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reconciler-demo-")))
        else:
            keep.mkdir(parents=True, exist_ok=True)
            if any(keep.iterdir()):
                raise UsageError(f"{keep} is not empty: name a new folder")
            folder = keep
        asyncio.run(Demonstration(folder, keep).run())
