"""`reconciler token`: a new token for the admin API, and the line that lets it in."""

import re

import click

from reconciler.cli import commands, options, output
from reconciler.config import Config
from reconciler.errors import UsageError

_ROLES = ("viewer", "operator", "admin")


@commands.command("reconciler token jdoe --role operator -c reconciler.toml", "reconciler token prometheus -o json")
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), default="viewer", show_default=True, help="What it lets do.")
@options.reporting
@options.configured()
def token(config: Config, name: str, role: str, form: str) -> None:
    """
    Make a token for the admin API.

    The token is shown once and kept nowhere: the file that admin.tokens_file names gets a line with its hash, which
    this command prints too. A running reconciler reads that file again when it changes; to take a token back, take its
    line out.
    """
    from reconciler.web import tokens
    from reconciler.web.principal import Principal, Role

    if not re.fullmatch(tokens.NAME, name):
        raise UsageError(f"{name!r}: a name has at most 64 letters, digits and . _ @ + -")
    made = tokens.fresh()
    line = tokens.line(Principal(name, Role[role.upper()]), made)
    if form == "json":
        output.as_json({"name": name, "role": role, "token": made, "line": line})
        return
    print(made)
    print()
    output.line(f"Give it to {name}; it is not shown again. Let it in by this line in {_file(config)}:")
    print()
    print(line)


def _file(config: Config) -> str:
    return config.admin.tokens_file or "the file that admin.tokens_file names"
