"""
Templates of messages to people: text files in Jinja, whose first line becomes the title.

Templates come from whoever configures the program, but run in Jinja's sandbox all the same: they have no need of more.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from reconciler.errors import ConfigError


class Template:
    """One template; its times are those of `zone`. Raises ConfigError if the file can't be used."""

    def __init__(self, path: Path | None = None, zone: tzinfo = UTC) -> None:
        environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        environment.filters["local"] = lambda at: _local(at, zone)
        try:
            if path is None:
                text = resources.files("reconciler.adapters").joinpath("templates/message.txt").read_text("utf-8")
            else:
                text = path.read_text("utf-8")
            self._template = environment.from_string(text)
        except jinja2.TemplateSyntaxError as error:
            raise ConfigError(f"notify.rules: {path}, line {error.lineno}: {error.message}") from error
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"notify.rules: the template {path} can't be read: {reason}") from error

    def render(self, told: Mapping[str, Any]) -> tuple[str, str]:
        """Return title and text. Raises ValueError if the template asks for what there is not."""
        try:
            title, _, text = self._template.render(told).strip().partition("\n")
        except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError) as error:
            raise ValueError(f"the template can't be filled in: {error}") from error
        return title.strip(), text.strip() + "\n"


def _local(at: str, zone: tzinfo) -> str:
    """Return an instant by the clock of a time zone."""
    return datetime.fromisoformat(at).astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")
