"""
Completing: what a shell may offer for an argument, from the configured store.

Theory of operation. Completing runs between two key strokes, in a shell of somebody who may not be the daemon's user.
So it is bounded, opens the store without a trace, and is silent about whatever goes wrong: then it offers nothing.

What is offered was once sent by somebody: a document's key comes from an event. Bash puts a word on the line as it is,
and a key such as `$(reboot)` would be a command there. So only words of harmless characters are offered; a colon is
none, because bash ends words at it.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import click
from click.shell_completion import CompletionItem

from reconciler.cli import options
from reconciler.errors import ReconcilerError
from reconciler.model.act import SIDES, Side

_HARMLESS = re.compile(r"[A-Za-z0-9_.@%+,/][A-Za-z0-9_.@%+,/-]*")  # no leading "-": it would be an option
_NOTE = re.compile(r"[^A-Za-z0-9_./ -]")
_USUAL = Path("reconciler.toml")  # looked at where -c has not been typed yet


class _Stored(click.types.StringParamType):
    """Text that a shell completes from the store; `query` is a name in `reconciler.adapters.sqlite.glance`."""

    query: ClassVar[str]

    def shell_complete(self, ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Return what the store has that begins so; nothing where anything is wrong."""
        return [CompletionItem(value, help=note or None) for value, note in self._found(ctx, incomplete)]

    def _found(self, ctx: click.Context, incomplete: str) -> list[tuple[str, str]]:
        import sqlite3

        from reconciler.adapters.sqlite import glance

        # An option that has no value yet keeps click from telling arguments apart: then they are in `args`.
        named = ctx.params.get("document") or ctx.args[:1] or ""
        document = named if isinstance(named, str) else named[0]  # of several the first
        query = getattr(glance, self._query(bool(document)))
        try:
            path = options.load(_config_file(ctx), ctx.params.get("store_url")).store.path
            found = glance.glance(path, query, incomplete, document)
        except (ReconcilerError, sqlite3.Error, OSError, ValueError):
            return []
        return [(value, _NOTE.sub("?", note)) for value, note in found if _HARMLESS.fullmatch(value)]

    def _query(self, _of_a_document: bool, /) -> str:
        return self.query


class _Document(_Stored):
    query = "DOCUMENTS"


class _Conflict(_Stored):
    query = "OPEN_CONFLICTS"


class _Letter(_Stored):
    query = "OPEN_LETTERS"


class _Field(_Stored):
    def _query(self, of_a_document: bool, /) -> str:
        return "DOCUMENT_FIELDS" if of_a_document else "CONFLICT_FIELDS"


class _Take(click.types.StringParamType):
    def shell_complete(self, _: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Return the words for either side."""
        words = {
            word: "what the log asks for" if side is Side.DESIRED else "what Windchill has"
            for word, side in SIDES.items()
        }
        return [CompletionItem(word, help=note) for word, note in words.items() if word.startswith(incomplete)]


class _Log(click.types.StringParamType):
    def shell_complete(self, _: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Let the shell complete the name of a file; `kafka` has to be typed."""
        return [CompletionItem(incomplete, type="file")]


def attach(root: click.Group) -> None:
    """Give every argument and option that names something in the store, by its name, what completes it."""
    for family, command in _commands(root):
        for parameter in command.params:
            if type(parameter.type) is type(click.STRING) and (kind := _kind(family, parameter.name or "")):
                parameter.type = kind


def _kind(family: str, name: str) -> click.ParamType[str] | None:
    match family, name:
        case "conflicts", "id" | "ids":
            return _Conflict()
        case "dead-letters", "id" | "ids":
            return _Letter()
        case _, "document" | "documents":
            return _Document()
        case _, "field" | "fields":
            return _Field()
        case _, "take":
            return _Take()
        case "reconciler", "origins":
            return _Log()
    return None


def _commands(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from _commands(command)
        else:
            yield group.name or "", command


def _config_file(ctx: click.Context) -> Path | None:
    named: Path | None = ctx.params.get("config_file")
    if named is not None or any(name.startswith("RECONCILER_STORE__") for name in os.environ):
        return named
    return _USUAL if _USUAL.is_file() else None
