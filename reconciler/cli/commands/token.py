"""`reconciler token`: makes a token for the admin API."""

import re

import click

from reconciler.cli import framework, options, output
from reconciler.config import Config
from reconciler.errors import UsageError

_ROLES = ("producer", "viewer", "operator", "admin")


@framework.command(
    "reconciler token jdoe --role operator -c reconciler.toml",
    "reconciler token erp --role producer --source '//erp/*'",
    "reconciler token prometheus -o json",
)
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), default="viewer", show_default=True, help="What the token allows.")
@click.option("--source", "sources", multiple=True, help="Sources whose events it may append; a glob like //erp/*.")
@options.reporting
@options.configured()
def token(config: Config, name: str, role: str, sources: tuple[str, ...], form: str) -> None:
    """
    Make a token for the admin API.

    Prints the token, which is stored nowhere, and a line with its hash. Add the line to the file that
    admin.tokens_file names; a running reconciler notices. To revoke the token, remove the line.

    A producer may only append events of its sources. Operators and admins may append events of any source, unless
    --source names some.
    """
    from reconciler.web import tokens
    from reconciler.web.principal import Principal, Role, usual_sources

    if not re.fullmatch(tokens.NAME, name):
        raise UsageError(f"{name!r}: a name has at most 64 letters, digits and . _ @ + -")
    of_role = Role[role.upper()]
    if fault := tokens.sources_fault(of_role, sources):
        raise UsageError(f"--source: {fault}")
    made = tokens.fresh()
    line = tokens.line(Principal(name, of_role, sources=sources or usual_sources(of_role)), made)
    if form == "json":
        output.as_json({"name": name, "role": role, "sources": list(sources), "token": made, "line": line})
        return
    print(made)
    print()
    output.line(f"Give this token to {name}; it is not shown again. To accept it, add this line to {_file(config)}:")
    print()
    print(line)


def _file(config: Config) -> str:
    return config.admin.tokens_file or "the file that admin.tokens_file names"
