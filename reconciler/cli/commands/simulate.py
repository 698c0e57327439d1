"""`reconciler simulate`: serves the simulated Windchill."""

from pathlib import Path
from typing import Any

import click
import orjson

from reconciler.cli import framework, options
from reconciler.errors import ReconcilerError, UsageError


@framework.command(
    "reconciler simulate --rivals 2",
    "reconciler simulate --port 9000 --faults '{\"lost_reply\": 0.02}'",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=8085, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--documents", type=int, default=300, show_default=True, help="How many documents to generate.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of documents, faults and rivals.")
@click.option(
    "--seed-file", type=options.FILE, metavar="FILE", help="Documents as JSON lines, instead of generated ones."
)
@click.option("--base-path", default="/", show_default=True, help="Path above /documents and /Windchill.")
@click.option("--rivals", default="0", metavar="RATE|JSON", help="Edits a second by other users, or a JSON object.")
@click.option("--faults", default="{}", metavar="JSON", help="Probability of each fault.")
@click.option("--behaviour", default="{}", metavar="JSON", help="Protocol details in which servers differ.")
@click.option("--wrs", default="{}", metavar="JSON", help="Details of Windchill REST Services in which servers differ.")
@click.option("--history-max", type=int, default=1_000_000, show_default=True, help="Accepted writes to remember.")
@click.option("--until-stdin-closes", is_flag=True, help="Stop when stdin closes.")
def simulate(rivals: str, faults: str, behaviour: str, wrs: str, seed_file: Path | None, **plain: Any) -> None:
    """
    Serve a simulated Windchill.

    Prints its address and serves until SIGTERM or SIGINT. Requests to /_control/ show who wrote what, and switch faults
    on and off.
    """
    try:
        from reconciler.simulator import server, settings
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "httptools"):
            raise
        raise ReconcilerError(
            f"the simulated Windchill needs {error.name}: pip install 'windchill-reconciler[simulator]'"
        ) from error
    edits = _json("--rivals", rivals)
    try:
        chosen = settings.from_json(
            {
                **plain,
                "seed_file": seed_file,
                "rivals": edits if isinstance(edits, dict) else {"per_second": edits},
                "faults": _object("--faults", faults),
                "behaviour": _object("--behaviour", behaviour),
                "wrs": _object("--wrs", wrs),
            }
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    try:
        server.serve(chosen)
    except (OSError, ValueError) as error:
        raise ReconcilerError(f"the simulated Windchill can't start: {error}") from error


def _json(option: str, text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise UsageError(f"{option}: not JSON: {error}") from error


def _object(option: str, text: str) -> dict[str, Any]:
    value = _json(option, text)
    if not isinstance(value, dict):
        raise UsageError(f'{option}: must be a JSON object, such as {{"lost_reply": 0.05}}')
    return value
