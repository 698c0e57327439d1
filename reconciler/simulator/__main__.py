"""`python -m reconciler.simulator JSON`: the simulated Windchill as a program, for `server.Simulator`."""

import sys

import orjson

from reconciler.simulator import server, settings


def main() -> int:
    """Serve until stopped; 2 for settings that make no sense."""
    try:
        server.serve(settings.from_json(orjson.loads(sys.argv[1])))
    except (ValueError, OSError) as mistake:
        print(f"simulator: {mistake}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
