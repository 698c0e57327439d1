"""
Checks the documentation: links lead to files that exist, and commands.md says what the commands' own help says.

    python docs/check.py           # one line for each fault; exit code 1 if there are any
    python docs/check.py --write   # write commands.md anew
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from reconciler import cli

ROOT = Path(__file__).parent.parent
COMMANDS = Path(__file__).parent / "commands.md"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEAD = """# Commands

Written by `docs/check.py --write` from the commands' own help; `make docs` fails when it is not current.
"""


def broken_links() -> Iterator[str]:
    """Links in Markdown files that lead to no file; web addresses are left alone, and so is what tools keep."""
    for page in sorted(ROOT.rglob("*.md")):
        if any(part.startswith(".") for part in page.relative_to(ROOT).parts):
            continue
        for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
            if not re.match(r"\w+:|#", target) and not (page.parent / target.split("#")[0]).exists():
                yield f"{page.relative_to(ROOT)}: no such file: {target}"


def sections(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[str]:
    """One section for a command, then one for each command under it, at a fixed width."""
    context = click.Context(command, info_name=name, parent=parent, terminal_width=100, max_content_width=100)
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    for below in command.list_commands(context) if isinstance(command, click.Group) else ():
        child = command.get_command(context, below)
        if child and not child.hidden:
            yield from sections(child, below, context)


def main() -> int:
    """Check, or write; returns the exit code."""
    reference = "\n".join([HEAD, *sections(cli.main, "reconciler")])
    if "--write" in sys.argv[1:]:
        COMMANDS.write_text(reference, encoding="utf-8")
    faults = list(broken_links())
    if not COMMANDS.exists() or COMMANDS.read_text(encoding="utf-8") != reference:
        faults.append("docs/commands.md is not current: run .venv/bin/python docs/check.py --write")
    print(*faults, sep="\n", end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
