"""
Metrics: the counters, as Prometheus reads them (docs/observing.md).

`Counters` counts, on the hot path and cheaply; the client library is used only when someone asks for the numbers. The
registry is our own, so two daemons in one process don't share numbers.
"""

import platform
from collections.abc import Awaitable, Callable, Iterator
from itertools import accumulate
from typing import Final, Literal

import attrs
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

import reconciler
from reconciler.adapters.counters import BOUNDS_S, Counters, Durations, Labels

PREFIX = "reconciler_"


@attrs.frozen
class Metric:
    """One metric: its name without the prefix, its kind, its meaning, its labels."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    says: str
    labels: tuple[str, ...] = ()


CATALOG: Final = (
    Metric(
        "events_total",
        "counter",
        "Records of the change log: folded, superseded (an existing claim was newer, so nothing changed), "
        "refused, foreign (of a type or shape that is not ours), or elsewhere (not in log.subjects and log.sources).",
        ("result",),
    ),
    Metric(
        "log_lag",
        "gauge",
        "Records of the change log that are not folded yet; NaN while the log does not answer.",
        ("topic", "partition"),
    ),
    Metric("attempts_total", "counter", "Attempts on documents, by result.", ("result",)),
    Metric(
        "decisions_total",
        "counter",
        "Decisions on fields: keep, write, yield or hold, and the strategy that decided.",
        ("decision", "strategy"),
    ),
    Metric(
        "version_conflicts_total",
        "counter",
        "Writes that were refused because someone else had written first.",
        ("status",),
    ),
    Metric(
        "field_conflicts_total", "counter", "Fields that someone changed between our read and our write.", ("field",)
    ),
    Metric("http_requests_total", "counter", "Requests to Windchill; status none: no answer.", ("method", "status")),
    Metric("http_request_seconds", "histogram", "Seconds from sending a request to receiving the whole answer."),
    Metric("convergence_seconds", "histogram", "Seconds from the time of an event to its agreement with Windchill."),
    Metric("documents", "gauge", "Documents by status.", ("status",)),
    Metric(
        "oldest_pending_seconds", "gauge", "How long the oldest pending document has been pending; 0: there is none."
    ),
    Metric("queue_depth", "gauge", "Documents in the queue in memory.", ("lane",)),
    Metric("in_flight", "gauge", "Requests to Windchill under way."),
    Metric("in_flight_limit", "gauge", "How many requests may be under way now; it adapts to Windchill's load."),
    Metric("dead_letters", "gauge", "Open dead letters: events that could not be used."),
    Metric("breaker_open", "gauge", "1 while the breaker is open, because Windchill is down; else 0."),
    Metric("writes_stopped", "gauge", "1 while operators have stopped all writes; else 0."),
    Metric(
        "policy_reloads_total",
        "counter",
        "Policies read on SIGHUP: loaded, unchanged or refused.",
        ("result",),
    ),
    Metric("policy_loaded_timestamp_seconds", "gauge", "When the current policy was loaded, in seconds since 1970."),
    Metric(
        "policy_refused",
        "gauge",
        "1 while the policy that was last read is invalid, and an older one decides.",
    ),
    Metric(
        "notifications_total",
        "counter",
        "Notifications: delivered, digested (delivered in a digest), failed (will be sent again) or refused "
        "(given up). `to` is the webhook, or a rule and where it sends to.",
        ("result", "to"),
    ),
    Metric("notifications_waiting", "gauge", "Notifications being posted; later ones are still in the store.", ("to",)),
    Metric(
        "notifications_oldest_seconds",
        "gauge",
        "How long the oldest of these has been waiting; 0: there is none.",
        ("to",),
    ),
    Metric(
        "archived_total",
        "counter",
        "What has gone from the store to archives: records of the audit trail, conflicts and dead letters.",
        ("kind",),
    ),
    Metric("retention_failing", "gauge", "1 while what is old can't be archived, and so stays in the store; else 0."),
    Metric(
        "disk_free_bytes",
        "gauge",
        "Bytes that are free for us in the file system of the store, or of a log in a file.",
        ("of",),
    ),
    Metric("disk_size_bytes", "gauge", "The size of that file system.", ("of",)),
    Metric(
        "build_info",
        "gauge",
        "Always 1; the labels name the version.",
        ("version", "python"),
    ),
)


class Exposition:
    """
    All counters, and the system's figures for this process, as text.

    `refresh` is awaited first: it sets the gauges that are only read when someone asks.
    """

    def __init__(self, counters: Counters, refresh: Callable[[], Awaitable[None]]) -> None:
        self._refresh = refresh
        counters.gauge("build_info", 1, version=reconciler.__version__, python=platform.python_version())
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Reading(counters))
        ProcessCollector(registry=self._registry)  # registers itself; on systems without /proc it says nothing

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Return the text and its content type, in the format that an `Accept` header prefers."""
        await self._refresh()
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Reading(Collector):
    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Family]:
        """Yield every metric of the catalog, even if nothing was counted yet."""
        for metric in CATALOG:
            match metric.kind:
                case "counter":
                    yield self._counter(metric)
                case "gauge":
                    yield self._gauge(metric)
                case "histogram":
                    yield self._histogram(metric)

    def _counter(self, metric: Metric) -> Family:
        family = CounterMetricFamily(PREFIX + metric.name, metric.says, labels=metric.labels)
        for (name, labels), value in self._counters.counts.items():
            if name == metric.name:
                family.add_metric(_values(metric, labels), value)
        return family

    def _gauge(self, metric: Metric) -> Family:
        family = GaugeMetricFamily(PREFIX + metric.name, metric.says, labels=metric.labels)
        for (name, labels), value in self._counters.gauges.items():
            if name == metric.name:
                family.add_metric(_values(metric, labels), value)
        return family

    def _histogram(self, metric: Metric) -> Family:
        family = HistogramMetricFamily(PREFIX + metric.name, metric.says, labels=metric.labels)
        kept = {labels: found for (name, labels), found in self._counters.durations.items() if name == metric.name}
        for labels, durations in kept.items() or ([((), Durations())] if not metric.labels else []):
            bounds = [*(str(bound) for bound in BOUNDS_S), "+Inf"]
            buckets = list(zip(bounds, accumulate(durations.classes), strict=True))
            family.add_metric(_values(metric, labels), buckets, durations.total_s)
        return family


def _values(metric: Metric, labels: Labels) -> list[str]:
    given = dict(labels)
    return [given[name] for name in metric.labels]
