"""`reconciler doctor`: checks that all that the reconciler needs is there and works. Only `--probe` writes anything."""

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import click

from reconciler.cli import framework, options, output, runtime
from reconciler.cli.doctor import log, store, windchill
from reconciler.cli.doctor.check import FAILED, OK, Check
from reconciler.config import Config
from reconciler.errors import ConfigError, UsageError


@framework.command(
    "reconciler doctor -c reconciler.toml",
    "reconciler doctor --probe 0000012345 -c reconciler.toml",
    "reconciler doctor --deep -c reconciler.toml",
)
@click.option("--document", default=None, metavar="DOC", help="The document to read.  [default: the store's first]")
@click.option("--probe", default=None, metavar="DOC", help="A document to try writes on; see above.")
@click.option("--deep", is_flag=True, help="Check every page, index and row of the store.")
@options.reporting
@options.config_file_option
def doctor(config_file: Path | None, document: str | None, probe: str | None, deep: bool, form: str) -> int:
    """
    Check configuration, store, log, Windchill and clocks.

    Only reads, except with --probe DOC, which tries on a document how the server handles writes. Use a document that no
    one needs. With dialect "documents", one write with a wrong token is sent, which the server must refuse. With
    dialect "wrs", the document is checked out, changed, checked in, renamed, moved to another state and restored; each
    step is announced first, and the resulting configuration is printed at the end. With -o json the output is a report
    to send to us, without host names and secrets.

    Exit code 1 if anything failed or makes writing unsafe.
    """
    if probe is not None and (config := _speaks_wrs(config_file)) is not None:
        if document is not None or deep:
            raise UsageError("--probe can't be combined with --document or --deep on this server")
        from reconciler.cli.doctor import wrs_probe

        return runtime.run(wrs_probe.probe(config, probe, form))
    found = runtime.run(_gather(form, _checks(config_file, document, probe, deep=deep)))
    if form == "json":
        output.as_json([attrs.asdict(check) for check in found])
    return runtime.FAILED if any(check.result == FAILED for check in found) else runtime.DONE


def _speaks_wrs(config_file: Path | None) -> Config | None:
    try:
        config = options.load(config_file)
    except ConfigError:
        return None  # told by the checks, fault by fault
    return config if config.windchill.dialect == "wrs" else None


async def _gather(form: str, checks: AsyncIterator[Check]) -> list[Check]:
    found = []
    async for check in checks:
        found.append(check)
        if form != "json":
            check.show()
    return found


async def _checks(
    config_file: Path | None, document: str | None, probe: str | None, *, deep: bool
) -> AsyncIterator[Check]:
    try:
        config = options.load(config_file)
    except ConfigError as error:
        for fault in str(error).splitlines():
            yield Check("configuration", FAILED, fault)
        return
    yield Check("configuration", OK, str(config_file or "defaults and environment"))
    async for check in store.checks(config, deep=deep):
        yield check
    async for check in log.checks(config):
        yield check
    try:
        key = document or probe or await store.first_document(config)
        async for check in windchill.checks(config, key, probe):
            yield check
    except ConfigError as error:  # a certificate's file that can't be used
        yield Check("Windchill", FAILED, str(error))
