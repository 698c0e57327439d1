"""
Checks the documentation: links lead to files and headings that exist, every page is in the index, and what is written
from the code (commands.md, configuration.md) is current.

    python docs/check.py           # one line for each fault; exit code 1 if there are any
    python docs/check.py --write   # write commands.md and configuration.md anew
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import settings

from reconciler import cli

ROOT = Path(__file__).parent.parent
DOCS = Path(__file__).parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEAD = """# Commands

Written by `docs/check.py --write` from the commands' own help; `make docs` fails when it is not current.
"""


def broken_links() -> Iterator[str]:
    """Links in Markdown files that lead to no file, or to no heading of it; web addresses are left alone."""
    for page in sorted(ROOT.rglob("*.md")):
        if any(part.startswith(".") for part in page.relative_to(ROOT).parts):
            continue  # what tools keep
        for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
            if re.match(r"\w+:", target):
                continue
            name, _, heading = target.partition("#")
            file = page.parent / name if name else page
            if not file.exists():
                yield f"{page.relative_to(ROOT)}: no such file: {target}"
            elif heading and file.suffix == ".md" and heading not in anchors(file):
                yield f"{page.relative_to(ROOT)}: no such heading: {target}"


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page can be linked by, as GitHub makes it of their text."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sections(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[str]:
    """One section for a command, then one for each command under it, at a fixed width."""
    context = click.Context(command, info_name=name, parent=parent, terminal_width=100, max_content_width=100)
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    for below in command.list_commands(context) if isinstance(command, click.Group) else ():
        child = command.get_command(context, below)
        if child and not child.hidden:
            yield from sections(child, below, context)


def lost_pages() -> Iterator[str]:
    """Pages that the index does not lead to."""
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    for page in sorted(DOCS.glob("*.md")):
        if page.name != "README.md" and f"]({page.name})" not in index:
            yield f"docs/README.md: {page.name} is under none of the four headings"


def main() -> int:
    """Check, or write; returns the exit code."""
    written = {
        DOCS / "commands.md": "\n".join([HEAD, *sections(cli.main, "reconciler")]),
        DOCS / "configuration.md": settings.reference(),
    }
    if "--write" in sys.argv[1:]:
        for page, text in written.items():
            page.write_text(text, encoding="utf-8")
    faults = [*broken_links(), *lost_pages()]
    for page, text in written.items():
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            faults.append(f"docs/{page.name} is not current: run .venv/bin/python docs/check.py --write")
    print(*faults, sep="\n", end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
