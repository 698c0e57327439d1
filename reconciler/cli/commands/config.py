"""`reconciler config`: checks a configuration, or shows the values in effect."""

import os
from pathlib import Path

from reconciler import config as configuration
from reconciler.cli import framework, options, output, runtime
from reconciler.core.events import mapping

config = framework.family("config", "Check a configuration, or show the values in effect.")

_COLUMNS = (
    output.Column("section", "section", whole=True),
    output.Column("key", "key", whole=True),
    output.Column("value", "value", output.of_json),
    output.Column("origin", "origin"),
)


@config.subcommand("check", "reconciler config check -c reconciler.toml")
@options.config_file_option
def check(config_file: Path | None) -> None:
    """Check a configuration file and the environment over it; list every fault."""
    loaded = configuration.load(config_file, os.environ)
    shown = configuration.shown(loaded)
    for source in loaded.sources:
        if source.time is None:
            runtime.note(f"[[source]] {source.name} {mapping.UNPROTECTED}")
    changed = sum(1 for setting in shown if setting.origin != "default")
    print(f"ok: {config_file or 'no file, defaults and environment'} ({changed} of {len(shown)} values set)")


@config.subcommand("show", "reconciler config show -c reconciler.toml")
@options.reporting
@options.config_file_option
def show(config_file: Path | None, form: str) -> None:
    """Show every value in effect and where it comes from; secrets are masked."""
    rows = [setting._asdict() for setting in configuration.shown(configuration.load(config_file, os.environ))]
    output.report(form, rows, _COLUMNS, "No settings.")
