"""`reconciler snapshot`: copies the state store while it is in use."""

from pathlib import Path

import click

from reconciler.adapters.clock import SystemClock
from reconciler.cli import framework, options, output, store_access, store_files
from reconciler.config import Config
from reconciler.errors import UsageError


@framework.command(
    "reconciler snapshot --to state-2026-11-22.db -c reconciler.toml",
    "reconciler snapshot --to latest.db --force -c reconciler.toml",
)
@click.option("--to", type=options.FILE, required=True, metavar="FILE", help="The copy.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@options.on_store
def snapshot(config: Config, to: Path, force: bool, form: str) -> None:
    """
    Copy the state store, even while a reconciler runs on it.

    The copy shows the store at one moment and is checked; FILE appears once it is complete. The reconciler is not held
    up. To read the copy, give a command `--store sqlite:///FILE`; to put it back, use `restore`.
    """
    if to.exists() and not force:
        raise UsageError(f"{to} exists already; give another file, or --force")
    if not to.parent.is_dir():
        raise UsageError(f"there is no directory {to.parent}; create it first")
    clock = SystemClock()
    began_s = clock.monotonic_s()
    with output.progress("copying pages", None) as tell:
        contents = store_access.admin(config).snapshot(to, tell)
    seconds = clock.monotonic_s() - began_s
    if form == "json":
        output.as_json({"file": str(to), "seconds": seconds, **store_files.as_json(contents)})
        return
    store_files.lines(
        (
            f"{to}: {store_files.shown(contents)}, copied and checked in {seconds:.1f} s.",
            f"Logs: {store_files.positions(contents)}.",
        )
    )
