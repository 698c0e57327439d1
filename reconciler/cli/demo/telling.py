"""How a demonstration tells what it shows: titles, sentences that were seen to be true, commands."""

import textwrap
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

US = "integration"  # how the simulator names everyone who comes through the front end


class Telling:
    """Prints to the terminal."""

    def __init__(self) -> None:
        self._out: Console = Console(highlight=False)
        self._act = 0

    def _title(self, text: str) -> None:
        self._act += 1
        self._out.print(f"\n[bold cyan]{self._act}. {text}[/]")

    def _say(self, text: str) -> None:
        first, *rest = textwrap.wrap(text, max(40, self._out.width - 5), break_long_words=False, break_on_hyphens=False)
        self._out.print(f"   [green]✓[/] {escape(first)}")
        for line in rest:
            self._out.print(f"     {escape(line)}")

    def _command(self, text: str) -> None:
        self._out.print(f"     [dim]$[/] {escape(text)}")

    def _things_to_try(self, things: Iterable[tuple[str, str]]) -> None:
        self._out.print("\n[bold]Try[/], in another terminal")
        for command, comment in things:
            self._out.print(f"     [dim]# {escape(comment)}[/]")
            self._out.print(f"     {escape(command)}", soft_wrap=True)

    def _say_until_when(self, seconds: float | None) -> None:
        until = "Ctrl-C ends it." if seconds is None else f"Ctrl-C ends it; else it ends in {seconds:g} seconds."
        self._out.print(f"\n{until}")

    def _figures(self, rows: Iterable[tuple[str, object]]) -> None:
        table = Table(show_header=False, box=box.SIMPLE)
        table.add_column()
        table.add_column(justify="right")
        for name, value in rows:
            table.add_row(name, str(value))
        self._out.print("\n[bold]What happened, from the simulated Windchill's own history[/]")
        self._out.print(table)
