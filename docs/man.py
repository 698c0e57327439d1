"""
Writes the manual pages from the commands' own help: `reconciler.1`, and `reconciler-run.1` for each command below.

    python docs/man.py FOLDER    # or: make man
"""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from reconciler import __version__, cli

SEE_ALSO = "The tutorial, the how-tos and the reference are in the folder docs of the source."
EXITS = """.SH EXIT STATUS
.TP
.B 0
Done; what was asked for is so.
.TP
.B 1
Failed; a line on standard error says why and what to do.
.TP
.B 2
Wrong usage. Of
.BR plan :
there is something to write. Of
.BR "policy test" :
something would be decided otherwise.
.TP
.B 3
Work remains unsettled: something is held, parked or a dead letter.
"""


def pages() -> dict[str, str]:
    """Return file name → roff of every page."""
    return {f"{path.replace(' ', '-')}.1": _page(context) for path, context in _contexts(cli.main, "reconciler", None)}


def _contexts(command: click.Command, name: str, parent: click.Context | None) -> Iterator[tuple[str, click.Context]]:
    context = click.Context(command, info_name=name, parent=parent, max_content_width=80, terminal_width=80)
    yield context.command_path, context
    for below in command.list_commands(context) if isinstance(command, click.Group) else ():
        child = command.get_command(context, below)
        if child and not child.hidden:
            yield from _contexts(child, below, context)


def _page(context: click.Context) -> str:
    command, path = context.command, context.command_path
    title = path.replace(" ", "-")
    summary, text = _help(command)
    lines = [
        f'.TH "{title.upper()}" "1" "" "reconciler {__version__}" "Reconciler"',
        ".SH NAME",
        f"{_plain(title)} \\- {_plain(summary[:1].lower() + summary[1:].rstrip('.:'))}",
        ".SH SYNOPSIS",
        f".B {_plain(path)}",
        _plain(" ".join(command.collect_usage_pieces(context))),
    ]
    if text:
        lines += [".SH DESCRIPTION", *_paragraphs(text)]
    shown = [parameter for parameter in command.get_params(context) if isinstance(parameter, click.Option)]
    options = [record for option in shown if (record := option.get_help_record(context))]
    if options:
        lines += [".SH OPTIONS", *(line for record in options for line in _tagged(*record))]
    if isinstance(command, click.Group):
        lines += [".SH COMMANDS", *_below(command, context)]
    if examples := _examples(command):
        lines += [".SH EXAMPLES", ".nf", *(_plain(example) for example in examples), ".fi"]
    return "\n".join(lines) + "\n" + EXITS + f".SH SEE ALSO\n{_see(context)}\n"


def _help(command: click.Command) -> tuple[str, list[str]]:
    parts = [" ".join(part.split()) for part in inspect.cleandoc(command.help or "").split("\n\n")]
    summary, _, rest = parts[0].partition(". ")
    return summary, [*([rest] if rest else []), *parts[1:]]


def _paragraphs(text: list[str]) -> list[str]:
    return [line for part in text for line in (".PP", _plain(part))][1:]


def _below(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        child = group.get_command(context, name)
        if child and not child.hidden:
            yield from _tagged(f"{context.command_path} {name}".replace(" ", "-") + "(1)", f"{_help(child)[0]}")


def _tagged(name: str, text: str) -> list[str]:
    return [".TP", f".B {_plain(name)}", _plain(" ".join(text.split()))]


def _examples(command: click.Command) -> list[str]:
    return [line.strip() for line in (command.epilog or "").splitlines() if line.startswith("  ")]


def _see(context: click.Context) -> str:
    above = f".BR {_plain(context.parent.command_path.replace(' ', '-'))} (1)\n.PP\n" if context.parent else ""
    return above + SEE_ALSO


def _plain(text: str) -> str:
    r"""Return text that roff shows as it is: no escapes, no requests, and hyphens that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", text)
    return re.sub(r"^([.'])", r"\\&\1", text)


def main() -> int:
    """Write all pages into a folder; returns the exit code."""
    if len(sys.argv) != 2:
        print("usage: python docs/man.py FOLDER", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="ascii")
    print(f"{len(pages())} pages in {folder}; read one with: man {folder}/reconciler.1")
    return 0


if __name__ == "__main__":
    sys.exit(main())
