"""`reconciler doctor`: whether all that the reconciler needs is there and behaves. It only reads, save for a probe."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from reconciler.adapters.replies import Exchange, Reply
from reconciler.cli import caring, commands, exits, folding, looking, options, output, topics
from reconciler.cli.topics import FAILED as _FAILED
from reconciler.cli.topics import OK as _OK
from reconciler.cli.topics import WARNING as _WARNING
from reconciler.cli.topics import Check
from reconciler.config import Config
from reconciler.errors import ConfigError, LogError, StoreError, UsageError
from reconciler.model.answer import NotAvailable, Refused, Unauthorised, Unchanged, VersionConflict, Written
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import Windchill

if TYPE_CHECKING:
    from reconciler.adapters.wrs.windchill import WrsWindchill

_MARKS = {_OK: "✓", _FAILED: "✗", _WARNING: "!"}
_STYLES = {_OK: "green", _FAILED: "red", _WARNING: "yellow"}
_LOG_S_MAX = 20.0  # for one topic; more than the log itself needs to say why it can't be reached
_SKEW_S_MAX = 60.0  # more than that and "modified after the event" means little


@commands.command(
    "reconciler doctor -c reconciler.toml",
    "reconciler doctor --probe 0000012345 -c reconciler.toml",
    "reconciler doctor --deep -c reconciler.toml",
)
@click.option("--document", default=None, metavar="DOC", help="The document to read.  [default: the store's first]")
@click.option("--probe", default=None, metavar="DOC", help="Try on this one what the server does; see above.")
@click.option("--deep", is_flag=True, help="Read all of the store: every page, index and row.")
@options.reporting
@options.config_file_option
def doctor(config_file: Path | None, document: str | None, probe: str | None, deep: bool, form: str) -> int:
    """
    Check configuration, store, log, Windchill and clocks.

    It only reads, but for --probe DOC, which tries on a document what the server really does. Take one that nobody
    needs. With dialect "documents" one write is sent: a field's present value under a token made up, which a server
    must refuse. With dialect "wrs" the document is checked out, changed, checked in, renamed, moved to another state
    and put back; what is going to be done is said first, and the configuration that follows is printed last. With
    -o json that is a report to be sent to us, without host names and secrets.

    Exit code 1 if anything failed, or makes writing unsafe.
    """
    if probe is not None and (config := _speaks_wrs(config_file)) is not None:
        if document is not None or deep:
            raise UsageError("--probe goes alone on this server: leave out --document and --deep")
        from reconciler.cli import probing

        return exits.run(probing.probe(config, probe, form))
    found = exits.run(_gather(form, _checks(config_file, document, probe, deep=deep)))
    if form == "json":
        output.as_json([attrs.asdict(check) for check in found])
    return exits.FAILED if any(check.result == _FAILED for check in found) else exits.DONE


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
            mark, style = _MARKS[check.result], _STYLES[check.result]
            output.console().print(
                f"[{style}]{mark}[/] [bold]{check.check}[/]: {output.escape(check.message)}", soft_wrap=True
            )
    return found


async def _checks(
    config_file: Path | None, document: str | None, probe: str | None, *, deep: bool
) -> AsyncIterator[Check]:
    try:
        config = options.load(config_file)
    except ConfigError as error:
        for fault in str(error).splitlines():
            yield Check("configuration", _FAILED, fault)
        return
    yield Check("configuration", _OK, str(config_file or "defaults and environment"))
    first = None
    async for check, key in _store(config):
        yield check
        first = key or first
    if config.store.path.exists():
        yield await _soundness(config.store.path, deep=deep)
        yield caring.privacy(config)
    async for check in _log(config):
        yield check
    for check in topics.of_log(config):
        yield check
    try:
        async for check in _windchill(config, document or probe or first, probe):
            yield check
    except ConfigError as error:  # a certificate's file that can't be used
        yield Check("Windchill", _FAILED, str(error))


async def _store(config: Config) -> AsyncIterator[tuple[Check, str | None]]:
    """Yield what is found of the store, with its first document's key."""
    path = config.store.path
    if not path.exists():
        if path.parent.is_dir():
            yield Check("store", _WARNING, f"{path} is not there yet; `reconciler run` makes it"), None
        else:
            yield Check("store", _FAILED, f"there is no directory {path.parent}; make it, or correct [store] url"), None
        return
    try:
        async with looking.store_of(config) as store:
            documents = sum((await store.counts()).values())
            first = next(iter(await store.list_documents(None, "", 1)), None)
            noted = await store.signing()
            size = path.stat().st_size / 1_000_000
            yield Check("store", _OK, f"{path}, {documents} documents, {size:.1f} MB"), first.key if first else None
            yield caring.signatures(config, noted), None
            async for check in caring.times(config, store):
                yield check, None
    except (StoreError, OSError) as error:
        yield Check("store", _FAILED, str(error)), None


async def _soundness(path: Path, *, deep: bool) -> Check:
    """Look for damage in the store, as a start does, or in all of it."""
    from reconciler.adapters.sqlite import damage, inspection

    try:
        if deep:
            with output.progress("reading rows", None) as tell:
                found = await asyncio.to_thread(inspection.inspect, path, tell)
            fault, said = found.fault, f"every page, index and row was read ({output.counted(found.rows, 'row')})"
        else:
            fault = await asyncio.to_thread(inspection.glance, path)
            said = "no damage at first sight; --deep reads all of it"
    except (StoreError, OSError) as error:
        return Check("store's file", _FAILED, str(error))
    if fault:
        return Check("store's file", _FAILED, f"damaged ({fault}); {damage.REMEDY}")
    return Check("store's file", _OK, said)


async def _log(config: Config) -> AsyncIterator[Check]:
    if config.log.kind == "file":
        yield await _topic("log", config, config.log.path)
        return
    from reconciler import parts

    log = config.log
    changes = {"log" if len(log.change_topics) == 1 else f"log {topic}": topic for topic in log.change_topics}
    ranked = {**changes, "decisions": log.decisions_topic}
    beside = {"outcomes": log.outcomes_topic, "dead letters": log.dead_letter_topic}
    known = {name: parts.alone(config, topic, order=log.order) for name, topic in ranked.items()} | {
        name: parts.alone(config, topic) for name, topic in beside.items()
    }
    stamped = ranked if log.order == "log" else changes  # elsewhere decisions rank by our own clock
    for check in await asyncio.gather(*(_topic(name, one, one.log.topic) for name, one in known.items())):
        yield check
        if check.result == _OK and check.check != "dead letters":
            async for told in topics.look(check.check, known[check.check], stamped=check.check in stamped):
                yield told


async def _topic(name: str, config: Config, what: str) -> Check:
    source = folding.Source(config, lambda _done, _total: None)
    try:
        async with asyncio.timeout(_LOG_S_MAX):
            await source.open({}, accept_truncation=True)  # only its end is asked for
            ends = await source.ends()
    except TimeoutError:
        where = ", ".join(config.log.brokers) if config.log.kind == "kafka" else "it"
        return Check(name, _FAILED, f"{what}: no answer of {where} within {_LOG_S_MAX:g} s")
    except (ConfigError, LogError) as error:
        return Check(name, _FAILED, str(error))
    finally:
        await source.close()
    shown = ", ".join(f"{place.partition} at {end}" for place, end in sorted(ends.items()))
    return Check(name, _OK, f"{what}, end of partition {shown}")


async def _windchill(config: Config, key: str | None, probe: str | None) -> AsyncIterator[Check]:
    from reconciler import parts
    from reconciler.adapters.clock import SystemClock
    from reconciler.adapters.counters import Counters

    url = config.windchill.base_url
    answer, skew = await _knock(config)
    if key is None:
        if isinstance(answer, Reply):
            said = f"{url} answers; name a document with --document, to try credentials and what guards writes"
            yield Check("Windchill", _WARNING, said)
        else:
            yield Check("Windchill", _FAILED, f"{url}: {answer.message}")
    else:
        windchill = parts.make_windchill(config, SystemClock(), Counters())
        try:
            async for check in _document(windchill, url, key, config):
                yield check
            if probe is not None:
                yield await _probe(windchill, probe)
        finally:
            await windchill.close()
    if skew is not None:
        yield skew


async def _document(windchill: Windchill, url: str, key: str, config: Config) -> AsyncIterator[Check]:
    from reconciler.adapters.wrs.windchill import WrsWindchill

    answer = await windchill.read(key)
    match answer:
        case Snapshot():
            yield Check("Windchill", _OK, f"{url} answers, credentials are accepted, document {key} is readable")
        case Unauthorised(message):
            yield Check("Windchill", _FAILED, f"{url} refuses our credentials: {message}")
            return
        case NotAvailable(status, message):
            yield Check("Windchill", _WARNING, f"{url} answers, but document {key} can't be had ({status}): {message}")
            return
        case Unchanged():
            yield Check("Windchill", _FAILED, f"{url} answers 304 to a read without a condition")
            return
        case trouble:
            yield Check("Windchill", _FAILED, f"{url}: {trouble.message}")
            return
    checks = _wrs(windchill, answer, config) if isinstance(windchill, WrsWindchill) else _etag(windchill, answer)
    async for check in checks:
        yield check


async def _etag(windchill: Windchill, shown: Snapshot) -> AsyncIterator[Check]:
    if shown.token is None:
        yield Check("ETag", _FAILED, f"document {shown.key} has none, so nothing can be written safely")
        return
    yield Check("ETag", _OK, shown.token)
    again = await windchill.read(shown.key, shown)
    if isinstance(again, Unchanged):
        yield Check("If-None-Match", _OK, "answered 304: comparing again is cheap")
    elif isinstance(again, Snapshot) and again.token != shown.token:
        yield Check("If-None-Match", _WARNING, f"document {shown.key} changed meanwhile; try again")
    else:
        yield Check("If-None-Match", _WARNING, "not answered 304: every comparison costs a whole read")


async def _wrs(windchill: "WrsWindchill", shown: Snapshot, config: Config) -> AsyncIterator[Check]:
    """Yield what a read tells of how writes would go."""
    from reconciler.adapters.wrs import answers, shapes
    from reconciler.adapters.wrs.metadata import Schema

    schema = await windchill.service.schema()
    if not isinstance(schema, Schema):
        yield Check("metadata", _FAILED, schema.message)
        return
    turns = ", then ".join(["attributes", *(", ".join(group) for group in shown.later_portions)])
    yield Check("type", _OK, f"{shown.type or schema.document.name}; written in turn: {turns}")
    for difference in shapes.differences(schema):
        yield Check("actions", _WARNING, f"{difference}; --probe tries it")
    possible = schema.action("CheckOut") is not None
    if not windchill.service.options.checks_out(possible=possible):
        place = answers.place_of(shown)
        if place is None or place.etag is None:
            said = (
                "there is no check-out, or the configuration rules it out, and no ETag: nothing can be written safely"
            )
            yield Check("lock", _FAILED, said)
        elif not config.windchill.etag_proven:
            said = f"by ETag ({place.etag}), if this server honours If-Match: try --probe, then set etag_proven"
            yield Check("lock", _WARNING, said)
        else:
            yield Check("lock", _OK, f"by ETag: {place.etag}")
        return
    if possible:
        yield Check("lock", _OK, "by check-out; ETags are not needed")
    else:
        yield Check("lock", _FAILED, 'lock = "checkout", and the service offers no CheckOut')
    if shown.locked_by_us:
        said = "`run` undoes that if a write of its own was cut short; else a person uses the account"
        yield Check("check-out", _WARNING, f"{shown.key} is checked out by our own account: {said}")
    if config.windchill.account:
        said = f"{config.windchill.account!r}: what that name has checked out is shown as our own account's"
        yield Check("account", _OK, f"{said}; only --probe shows whether the name is right")
    else:
        said = "windchill.account is empty: what our own account has checked out is shown by its name alone"
        yield Check("account", _WARNING, f"{said}; --probe finds the name")


async def _probe(windchill: Windchill, key: str) -> Check:
    """Send a write that must be refused: a present value, under a token that the document never had."""
    name = "If-Match"
    answer = await windchill.read(key)
    if not isinstance(answer, Snapshot) or answer.token is None:
        return Check(name, _FAILED, f"document {key} can't be read with an ETag, so it can't be probed")
    field = _harmless(answer)
    if field is None:
        return Check(name, _FAILED, f"document {key} has no text field to probe with; take another document")
    weak = "W/" if answer.token.startswith("W/") else ""
    wrong = Token(f'{weak}"reconciler-doctor"')
    written = await windchill.write(answer, {field: answer.body[field]}, token=wrong, journal=_Unrecorded())
    match written:
        case VersionConflict(status):
            return Check(name, _OK, f"enforced: a write under a wrong token was refused with {status}")
        case Written():
            return Check(name, _FAILED, f"IGNORED: {key} was written under a wrong token; don't let us write there")
        case other:
            said = getattr(other, "message", "")
            return Check(name, _WARNING, f"can't tell: the write was answered {type(other).__name__}: {said}")


class _Unrecorded:
    """The journal of a probe: whoever looks on is the record."""

    mark = "rec-probe-1"
    note = "Reconciler: a probe"

    async def locked(self, lock: str) -> None:
        """Keep nothing."""

    async def redraft(self, shown: Snapshot) -> Mapping[str, Json]:  # noqa: ARG002 - a probe has nothing more to write
        """Write nothing."""
        return {}

    async def refused(self, refusals: Sequence[Refused]) -> None:
        """Keep nothing."""


def _harmless(snapshot: Snapshot) -> str | None:
    texts = [name for name, value in snapshot.body.items() if isinstance(value, str)]
    allowed = [name for name in texts if name not in snapshot.read_only]
    preferred = [name for name in ("title", "name", "description") if name in allowed]
    return next(iter(preferred + allowed), None)


async def _knock(config: Config) -> tuple[Exchange, Check | None]:
    """Return what the server says to anybody, and how far its clock is from ours, `None` when it tells no time."""
    from reconciler.adapters import http
    from reconciler.adapters.clock import SystemClock

    clock = SystemClock()
    ca_file = Path(config.windchill.ca_file) if config.windchill.ca_file else None
    cert_file, key_file = (
        Path(name) if name else None for name in (config.windchill.cert_file, config.windchill.key_file)
    )
    timeout_s = config.windchill.timeout_s
    known = http.HttpOptions(timeout_s=timeout_s, ca_file=ca_file, cert_file=cert_file, key_file=key_file)
    client = http.HttpClient(known, clock)
    try:
        before_us = clock.now_us()
        answer = await client.exchange("GET", f"{config.windchill.base_url.rstrip('/')}/", ())
        after_us = clock.now_us()
    finally:
        await client.close()
    try:
        date = answer.headers[b"date"].decode() if isinstance(answer, Reply) else ""
        theirs_s = parsedate_to_datetime(date).timestamp()
    except (KeyError, ValueError):
        return answer, None
    skew_s = theirs_s + 0.5 - (before_us + after_us) / 2_000_000  # the header cuts its second
    far = abs(skew_s) > _SKEW_S_MAX
    said = f"Windchill's is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} ours"
    if far:
        return answer, Check("clocks", _WARNING, f"{said}: by it, `newest` and adoption tell who was later")
    return answer, Check("clocks", _OK, said if abs(skew_s) > 1.5 else "the same as ours, to the second")
