"""What `reconciler doctor` checks of Windchill: access, what guards writes, and its clock."""

from collections.abc import AsyncIterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.replies import Exchange, Reply
from reconciler.cli.doctor.check import FAILED, OK, WARNING, Check
from reconciler.config import Config
from reconciler.model.answer import NotAvailable, Refused, Unauthorised, Unchanged, VersionConflict, Written
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import Windchill

if TYPE_CHECKING:
    from reconciler.adapters.wrs.windchill import WrsWindchill

_SKEW_S_MAX = 60.0  # more than that and "modified after the event" means little


async def checks(config: Config, key: str | None, probe: str | None) -> AsyncIterator[Check]:
    """Yield what is found of Windchill, reading a document, and writing to one that is to be probed."""
    from reconciler import factory
    from reconciler.adapters.counters import Counters

    url = config.windchill.base_url
    answer, skew = await _knock(config)
    if key is None:
        if isinstance(answer, Reply):
            said = f"{url} answers; give --document to check credentials and how writes are guarded"
            yield Check("Windchill", WARNING, said)
        else:
            yield Check("Windchill", FAILED, f"{url}: {answer.message}")
    else:
        windchill = factory.make_windchill(config, SystemClock(), Counters())
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
            yield Check("Windchill", OK, f"{url} answers, accepts our credentials, and shows document {key}")
        case Unauthorised(message):
            yield Check("Windchill", FAILED, f"{url} refuses our credentials: {message}")
            return
        case NotAvailable(status, message):
            yield Check("Windchill", WARNING, f"{url} answers, but document {key} can't be read ({status}): {message}")
            return
        case Unchanged():
            yield Check("Windchill", FAILED, f"{url} answers 304 to a read without a condition")
            return
        case trouble:
            yield Check("Windchill", FAILED, f"{url}: {trouble.message}")
            return
    checks = _wrs(windchill, answer, config) if isinstance(windchill, WrsWindchill) else _etag(windchill, answer)
    async for check in checks:
        yield check


async def _etag(windchill: Windchill, shown: Snapshot) -> AsyncIterator[Check]:
    if shown.token is None:
        yield Check("ETag", FAILED, f"document {shown.key} has no ETag, so nothing can be written safely")
        return
    yield Check("ETag", OK, shown.token)
    again = await windchill.read(shown.key, shown)
    if isinstance(again, Unchanged):
        yield Check("If-None-Match", OK, "answered 304, so comparing again is cheap")
    elif isinstance(again, Snapshot) and again.token != shown.token:
        yield Check("If-None-Match", WARNING, f"document {shown.key} changed meanwhile; try again")
    else:
        yield Check("If-None-Match", WARNING, "not answered 304, so every comparison reads the whole document")


async def _wrs(windchill: "WrsWindchill", shown: Snapshot, config: Config) -> AsyncIterator[Check]:
    """Yield what a read shows about writes."""
    from reconciler.adapters.wrs import results, signatures
    from reconciler.adapters.wrs.metadata import Schema

    schema = await windchill.service.schema()
    if not isinstance(schema, Schema):
        yield Check("metadata", FAILED, schema.message)
        return
    turns = ", then ".join(["attributes", *(", ".join(group) for group in shown.later_portions)])
    yield Check("type", OK, f"{shown.type or schema.document.name}; written in turn: {turns}")
    for difference in signatures.differences(schema):
        yield Check("actions", WARNING, f"{difference}; --probe tries it")
    possible = schema.action("CheckOut") is not None
    if not windchill.service.options.checks_out(possible=possible):
        place = results.place_of(shown)
        if place is None or place.etag is None:
            said = (
                "there is no check-out, or the configuration rules it out, and no ETag: nothing can be written safely"
            )
            yield Check("lock", FAILED, said)
        elif not config.windchill.etag_proven:
            said = f"by ETag ({place.etag}), if this server honours If-Match: try --probe, then set etag_proven"
            yield Check("lock", WARNING, said)
        else:
            yield Check("lock", OK, f"by ETag: {place.etag}")
        return
    if possible:
        yield Check("lock", OK, "by check-out; ETags are not needed")
    else:
        yield Check("lock", FAILED, 'lock = "checkout", and the service offers no CheckOut')
    if shown.locked_by_us:
        said = "`run` undoes that if a write of its own was cut short; else a person uses the account"
        yield Check("check-out", WARNING, f"{shown.key} is checked out by our own account: {said}")
    if config.windchill.account:
        said = f"{config.windchill.account!r}: what that name has checked out is shown as our own account's"
        yield Check("account", OK, f"{said}; only --probe shows whether the name is right")
    else:
        said = "windchill.account is empty: what our own account has checked out is shown by its name alone"
        yield Check("account", WARNING, f"{said}; --probe finds the name")


async def _probe(windchill: Windchill, key: str) -> Check:
    """Send a write that must be refused: the present value under a wrong token."""
    name = "If-Match"
    answer = await windchill.read(key)
    if not isinstance(answer, Snapshot) or answer.token is None:
        return Check(name, FAILED, f"document {key} can't be read with an ETag, so it can't be probed")
    field = _harmless(answer)
    if field is None:
        return Check(name, FAILED, f"document {key} has no text field to probe with; take another document")
    weak = "W/" if answer.token.startswith("W/") else ""
    wrong = Token(f'{weak}"reconciler-doctor"')
    written = await windchill.write(answer, {field: answer.body[field]}, token=wrong, journal=_Unrecorded())
    match written:
        case VersionConflict(status):
            return Check(name, OK, f"enforced: a write under a wrong token was refused with {status}")
        case Written():
            return Check(
                name,
                FAILED,
                f"IGNORED: {key} was written under a wrong token; do not run the reconciler here",
            )
        case other:
            said = getattr(other, "message", "")
            return Check(name, WARNING, f"unclear: the write was answered {type(other).__name__}: {said}")


class _Unrecorded:
    """The journal of a probe, which records nothing."""

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
    """Return the server's answer to a plain GET, and how far its clock is from ours; `None` if it sends no time."""
    from reconciler.adapters import http

    clock = SystemClock()
    ca_file = Path(config.windchill.ca_file) if config.windchill.ca_file else None
    cert_file, key_file = (
        Path(name) if name else None for name in (config.windchill.cert_file, config.windchill.key_file)
    )
    known = http.HttpOptions(
        timeout_s=config.windchill.timeout_s,
        body_bytes_max=config.windchill.body_bytes_max,
        ca_file=ca_file,
        cert_file=cert_file,
        key_file=key_file,
    )
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
        return answer, Check("clocks", WARNING, f"{said}: by it, `newest` and adoption tell who was later")
    return answer, Check("clocks", OK, said if abs(skew_s) > 1.5 else "the same as ours, to the second")
