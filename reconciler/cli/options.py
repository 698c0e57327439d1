"""Options: from `-c`, `--store` and the environment to a configuration."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from reconciler import config
from reconciler.errors import ConfigError

_STORE_VARIABLE = "RECONCILER_STORE__URL"

FILE = click.Path(dir_okay=False, path_type=Path)


def configured(*, store: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """
    Give a command `-c/--config`, and pass what it says as `config`; with `store`, `--store URL` too.

    The environment overrides the file, and `--store` both.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, config_file: Path | None, store_url: str | None = None, **kwargs: Any) -> Any:
            return function(*args, config=load(config_file, store_url), **kwargs)

        if store:
            run = click.option(
                "--store",
                "store_url",
                metavar="URL",
                help="State store, instead of the configuration's: sqlite:///FILE.",
            )(run)
        return config_file_option(run)

    return decorate


def config_file_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `-c/--config FILE`, passed on as `config_file`."""
    return click.option("-c", "--config", "config_file", type=FILE, metavar="FILE", help="Configuration in TOML.")(
        function
    )


def reporting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `-o/--output`, passed on as `form`."""
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(("table", "json")),
        default="table",
        help="For people (table, the default) or for programs (json).",
    )(function)


def load(path: Path | None, store_url: str | None = None) -> config.Config:
    """Return the configuration of a file and the environment, with another store if one is named."""
    if store_url is None:
        return config.load(path, os.environ)
    try:
        return config.load(path, {**os.environ, _STORE_VARIABLE: store_url})
    except ConfigError as error:
        raise ConfigError(str(error).replace(_STORE_VARIABLE, "--store")) from error
