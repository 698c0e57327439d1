"""Options that several commands share, and the configuration made from them and the environment."""

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from reconciler import config
from reconciler.adapters.clock import SystemClock
from reconciler.errors import ConfigError
from reconciler.model import instant

_STORE_VARIABLE = "RECONCILER_STORE__URL"

_FILE_VARIABLE = "RECONCILER_CONFIG"
_FILE = Path("reconciler.toml")
_UNITS_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_DATE = re.compile(r"\d{4}-\d\d-\d\d")

FILE = click.Path(dir_okay=False, path_type=Path)
accept_truncation = click.option(
    "--accept-truncation", is_flag=True, help="Go on although the beginning of a log is missing."
)
FOLDER = click.Path(file_okay=False, path_type=Path)
TARGET = click.Path(dir_okay=False, allow_dash=True, path_type=Path)


class Moment(click.ParamType[int]):
    """A time: RFC 3339, a date (UTC), or how long ago, such as 90s, 15m, 2h, 3d; as microseconds since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return microseconds since 1970."""
        if isinstance(value, int):
            return value
        if ago := re.fullmatch(r"(\d{1,6})([smhd])", value):
            return SystemClock().now_us() - int(ago[1]) * _UNITS_US[ago[2]]
        try:
            return instant.to_us(instant.canonical(f"{value}T00:00:00Z" if _DATE.fullmatch(value) else value))
        except ValueError as error:
            return self.fail(
                f"{value!r} is not a time ({error}): write 2026-11-22T10:00:00Z, 2026-11-22, or 2h", param, ctx
            )


def configured(*, store: bool = False, again: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """
    Give a command `-c/--config` and pass it the configuration as `config`; with `store`, `--store URL` too.

    With `again`, also pass `again`, a function that reloads it. The environment overrides the file; `--store` both.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, config_file: Path | None, store_url: str | None = None, **kwargs: Any) -> Any:
            read = functools.partial(load, config_file, store_url)
            more = {"again": read} if again else {}
            return function(*args, config=read(), **more, **kwargs)

        if store:
            run = click.option(
                "--store",
                "store_url",
                metavar="URL",
                help="State store to use instead of the configured one, as store.url.",
            )(run)
        return config_file_option(run)

    return decorate


def config_file_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `-c/--config FILE`, passed on as `config_file`."""
    return click.option(
        "-c",
        "--config",
        "config_file",
        type=FILE,
        metavar="FILE",
        help="Configuration file (TOML).  [default: $RECONCILER_CONFIG, or ./reconciler.toml if it is there]",
    )(function)


def reporting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `-o/--output`, passed on as `form`."""
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(("table", "json")),
        default="table",
        help="table (the default) for people, json for programs.",
    )(function)


def on_store(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `-o`, `-c` and `--store`, as most commands have them."""
    return reporting(configured(store=True)(function))


def origins(*, required: bool, default: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command `--from FILE|kafka`, as often as wanted, passed on as `origins`; `--then` is the same option."""
    said = "Logs, or archives, in any order." + (f"  [default: {default}]" if default else "")
    return click.option(
        "--from", "--then", "origins", multiple=True, required=required, metavar="FILE|kafka", help=said
    )


def limit(default: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command `--limit`, for a list of rows."""
    return click.option("--limit", type=click.IntRange(1), default=default, show_default=True, help="Rows, at most.")


def found(*, only_named: bool = False) -> Path | None:
    """Return the configuration file that is used without `-c`."""
    if named := os.environ.get(_FILE_VARIABLE):
        return Path(named)
    return _FILE if not only_named and _FILE.is_file() else None


def load(path: Path | None, store_url: str | None = None) -> config.Config:
    """
    Return the configuration of a file and the environment, with another store if one is named.

    Without `-c` it is the file that RECONCILER_CONFIG names, or else reconciler.toml in the working directory, if it is
    there; but with `--store` only the former.
    """
    path = path or found(only_named=store_url is not None)
    if store_url is None:
        return config.load(path, os.environ)
    try:
        return config.load(path, {**os.environ, _STORE_VARIABLE: store_url})
    except ConfigError as error:
        raise ConfigError(str(error).replace(_STORE_VARIABLE, "--store")) from error
