"""One finding of `reconciler doctor`, and how it is printed."""

import attrs

from reconciler.cli import output

OK, FAILED, WARNING = "ok", "failed", "warning"
_MARKS = {OK: "[green]✓[/]", FAILED: "[red]✗[/]", WARNING: "[yellow]![/]"}


@attrs.frozen
class Check:
    """One thing that was checked."""

    check: str
    result: str
    message: str

    def show(self) -> None:
        """Print it on one line."""
        text = f"{_MARKS[self.result]} [bold]{self.check}[/]: {output.escape(self.message)}"
        output.console().print(text, soft_wrap=True)
