"""`reconciler demo`: shows the reconciler at work on this machine, with real-life faults, in about a minute."""

import asyncio
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from reconciler.cli import framework, runtime
from reconciler.errors import ReconcilerError, UsageError

_ACTS = 7  # as many as the longer demonstration has; it is imported only when it runs
_PARTS = ("starlette", "uvicorn", "httptools", "confluent_kafka")


@framework.command(
    "reconciler demo", "reconciler demo --stay", "reconciler demo --replicas", "reconciler demo --keep ./demo"
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Keep configuration and store in this folder, for other commands to use.",
)
@click.option("--stay", is_flag=True, help="Keep everything running after the summary, until Ctrl-C.")
@click.option("--stay-s", type=click.FloatRange(0), metavar="SECONDS", help="Keep everything running for this long.")
@click.option(
    "--acts",
    type=click.IntRange(1, _ACTS),
    default=_ACTS,
    show_default=True,
    help="Show only the first so many acts.",
)
@click.option("--replicas", is_flag=True, help="Show three replicas on PostgreSQL instead, and lose one after another.")
def demo(keep: Path | None, stay: bool, stay_s: float | None, acts: int, replicas: bool) -> None:
    """
    Show the reconciler at work on this machine.

    Starts a broker, a simulated Windchill with users who edit documents, and the reconciler, all on loopback. It ends
    in under a minute with a summary computed from the simulated Windchill's own history. With --stay everything keeps
    running afterwards, including the operators' page. --replicas needs PostgreSQL on this machine, and starts a server
    of its own: what it shows is how the others take over when one of three dies, hangs or is stopped.
    """
    try:
        from reconciler.cli.demo.replicas import Replication
        from reconciler.cli.demo.scenes import Demonstration, DemoOptions
    except ModuleNotFoundError as error:
        if error.name not in _PARTS:
            raise
        raise ReconcilerError(f"the demo needs {error.name}: pip install 'windchill-reconciler[demo]'") from error
    from reconciler.simulator.broker import Unavailable

    if replicas and keep is not None:
        raise UsageError("--keep is for a store in a file; with --replicas it is a database that ends with the demo")
    options = DemoOptions(keep=keep, acts=acts, stay=stay or stay_s is not None, stay_s=stay_s)
    with ExitStack() as stack:
        if keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reconciler-demo-")))
        else:
            keep.mkdir(parents=True, exist_ok=True)
            if any(keep.iterdir()):
                raise UsageError(f"{keep} is not empty: name a new folder")
            folder = keep
        try:
            asyncio.run((Replication if replicas else Demonstration)(folder, options).run())
        except Unavailable as error:
            raise ReconcilerError(str(error)) from error
        except asyncio.CancelledError:
            raise click.exceptions.Exit(runtime.TERMINATED) from None
