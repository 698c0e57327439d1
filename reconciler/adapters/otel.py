"""
OpenTelemetry, an extra: spans from an attempt to its requests, handed to a collector over OTLP/HTTP.

Theory of operation. The traces of the newest `EVENTS_MAX` events are kept in memory, by the event's identity. An
attempt looks up the events that it is to satisfy: if they belong to exactly one trace, that is its parent; all of them
are linked. Spans go through a bounded queue to a thread of the library, which drops what the collector does not accept;
no loop waits for it.
"""

import asyncio
import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import attrs
import structlog
from msgspec import structs
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import reconciler
from reconciler.core.events import traces
from reconciler.model.audit import Settlement
from reconciler.model.document import Document, Lane
from reconciler.model.event import Record

_log = structlog.get_logger(__name__)

EVENTS_MAX: Final = 20_000  # that are remembered: some megabytes
_LINKS_MAX: Final = 32
_CLOSE_S_MAX: Final = 3.0  # for what is left to be handed over at a stop

# Names of spans and attributes. OpenTelemetry still renames some; they stand only here.
_SCOPE: Final = "reconciler"
_SERVICE: Final = "windchill-reconciler"

_ATTEMPT: Final = "reconcile document"
_DOCUMENT: Final = "reconciler.document"
_LANE: Final = "reconciler.lane"
_STATUS: Final = "reconciler.status"
_RESULT: Final = "reconciler.result"
_REASON: Final = "reconciler.reason"
_FIELDS: Final = "reconciler.fields_written"
_POLICY: Final = "reconciler.policy"
_EVENT_ID: Final = "cloudevents.event_id"
_EVENT_SOURCE: Final = "cloudevents.event_source"

_METHOD: Final = "http.request.method"
_URL: Final = "url.full"
_HOST: Final = "server.address"
_HTTP_STATUS: Final = "http.response.status_code"
_ERROR: Final = "error.type"


def provider(environ: Mapping[str, str]) -> TracerProvider:
    """Return a provider that sends spans where the environment says."""
    told = {"service.version": reconciler.__version__}
    if not environ.get("OTEL_SERVICE_NAME") and "service.name=" not in environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        told["service.name"] = _SERVICE
    # At exit the library could wait for an absent collector without a limit; `close` has one.
    made = TracerProvider(resource=Resource.create(told), shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made


class OtelTracing:
    """The `Tracing` port over a provider of spans."""

    on = True

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(_SCOPE, reconciler.__version__)
        self._known: OrderedDict[traces.Cause, traces.Parent] = OrderedDict()

    def note(self, records: Sequence[Record]) -> None:
        """Remember the traces that events belong to."""
        for record in records:
            found = traces.of(record)
            if found is not None:
                cause, parent = found
                self._known[cause] = parent
                self._known.move_to_end(cause)
        while len(self._known) > EVENTS_MAX:
            self._known.popitem(last=False)

    @contextmanager
    def attempt(self, document: Document, lane: Lane) -> Iterator["_AttemptSpan"]:
        """Trace an attempt."""
        causes = traces.causes(document)
        known = {cause: self._known[cause] for cause in causes if cause in self._known}
        parents = set(known.values())
        span = self._tracer.start_span(
            _ATTEMPT,
            context=self._context(parents.pop()) if len(parents) == 1 else None,
            attributes={_DOCUMENT: document.key, _LANE: lane.name.lower()},
            links=[self._link(cause, parent) for cause, parent in list(known.items())[:_LINKS_MAX]],
        )
        with trace.use_span(span, end_on_exit=True, record_exception=False):
            yield _AttemptSpan(span, told=len(causes) == len(known) == 1)

    @contextmanager
    def request(self, method: str, url: str) -> Iterator["_RequestSpan"]:
        """Trace a request."""
        address = url.partition("?")[0]
        told = {_METHOD: method, _URL: address, _HOST: _host(address)}
        span = self._tracer.start_span(method, kind=trace.SpanKind.CLIENT, attributes=told)
        followed = _RequestSpan(span)
        try:
            yield followed
        finally:
            followed.end()

    async def close(self) -> None:
        """Hand over the remaining spans; a collector that does not answer gets three seconds."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(done.set)

        # Not one of the loop's own threads: the process would wait for those at its end.
        threading.Thread(target=shut_down, name="traces", daemon=True).start()
        try:
            async with asyncio.timeout(_CLOSE_S_MAX):
                await done.wait()
        except TimeoutError:
            _log.warning("the last traces were not accepted in time", limit_s=_CLOSE_S_MAX)

    def _context(self, parent: traces.Parent) -> Context:
        return trace.set_span_in_context(trace.NonRecordingSpan(self._foreign(parent)))

    def _link(self, cause: traces.Cause, parent: traces.Parent) -> trace.Link:
        told = {_EVENT_ID: cause.id, _EVENT_SOURCE: cause.source}
        return trace.Link(self._foreign(parent), told)

    def _foreign(self, parent: traces.Parent) -> trace.SpanContext:
        flags = trace.TraceFlags(parent.flags & trace.TraceFlags.SAMPLED)
        return trace.SpanContext(parent.trace, parent.span, is_remote=True, trace_flags=flags)


@attrs.frozen
class _AttemptSpan:
    """An attempt under way; `told`: its outcomes name the trace."""

    span: trace.Span
    told: bool

    def ended(self, settlement: Settlement) -> Settlement:
        """Note its result, and name the trace in its outcomes."""
        record = settlement.audit[0] if settlement.audit else None
        self.span.set_attribute(_STATUS, settlement.status.value)
        if settlement.reason:
            self.span.set_attribute(_REASON, settlement.reason)
        if settlement.result:
            self.span.set_attribute(_RESULT, settlement.result)
        if record is not None:
            self.span.set_attribute(_POLICY, record.policy)
            self.span.set_attribute(_FIELDS, sorted(record.patch or {}))
        if not self.told or not settlement.outcomes:
            return settlement
        name = _traceparent(self.span)
        return structs.replace(settlement, outcomes=tuple(traces.told(one, name) for one in settlement.outcomes))


class _RequestSpan:
    """A request under way."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._status: int | None = None

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """The trace context that goes out."""
        return ((b"traceparent", _traceparent(self._span).encode()),)

    def answered(self, status: int) -> None:
        """Note the status."""
        self._status = status

    def end(self) -> None:
        """End the span. A status of 400 and above is an error, and so is no answer."""
        if self._status is not None:
            self._span.set_attribute(_HTTP_STATUS, self._status)
        if self._status is None or self._status >= 400:
            self._span.set_attribute(_ERROR, str(self._status or "no_answer"))
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()


def _host(address: str) -> str:
    return urlsplit(address).hostname or ""


def _traceparent(span: trace.Span) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"
