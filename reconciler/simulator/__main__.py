"""`python -m reconciler.simulator`: the simulated Windchill as a program of its own."""

import argparse
import json
import sys
from pathlib import Path

from reconciler.simulator import server, settings, validation
from reconciler.simulator.wrs.options import Wrs


def parse(arguments: list[str]) -> settings.Settings:
    """Settings from command-line arguments; raises ValueError for what is out of range or unknown."""
    parser = argparse.ArgumentParser(prog="reconciler.simulator", description="A simulated Windchill.")
    defaults = settings.Settings()
    parser.add_argument("--host", default=defaults.host)
    parser.add_argument("--port", type=int, default=defaults.port, help="0 takes a free one")
    parser.add_argument("--documents", type=int, default=defaults.documents, help="how many to generate")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--seed-file", type=Path, help="documents as JSON lines, instead of generated ones")
    parser.add_argument("--base-path", default=defaults.base_path)
    parser.add_argument("--history-max", type=int, default=defaults.history_max)
    parser.add_argument("--rivals", default="0", help="edits a second, or a JSON object")
    parser.add_argument("--faults", default="{}", help='JSON object, such as {"lost_reply": 0.05}')
    parser.add_argument("--behaviour", default="{}", help='JSON object, such as {"conflict_status": 412}')
    parser.add_argument("--wrs", default="{}", help='JSON object, such as {"checkout_conflict": 423}')
    parser.add_argument("--until-stdin-closes", action="store_true", help="stop when stdin closes")
    given = vars(parser.parse_args(arguments))
    rivals = json.loads(given.pop("rivals"))
    return settings.Settings(
        faults=validation.chosen(settings.Faults(), json.loads(given.pop("faults"))),
        behaviour=validation.chosen(settings.Behaviour(), json.loads(given.pop("behaviour"))),
        wrs=validation.chosen(Wrs(), json.loads(given.pop("wrs"))),
        rivals=validation.chosen(settings.Rivals(), rivals if isinstance(rivals, dict) else {"per_second": rivals}),
        **given,
    )


def main() -> int:
    """Serve until stopped; 2 for settings that make no sense."""
    try:
        chosen = parse(sys.argv[1:])
        server.serve(chosen)
    except (ValueError, OSError) as mistake:
        print(f"simulator: {mistake}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
