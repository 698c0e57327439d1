"""
Metrics: what the counters hold, as Prometheus reads it (docs/observing.md).

Counting is done by `Counters`, on the hot path and cheaply; the client library comes in only when somebody asks. The
registry is our own, so that two daemons in one process don't share numbers.
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
        "Records of the change log: folded, superseded, refused or foreign.",
        ("result",),
    ),
    Metric(
        "log_lag",
        "gauge",
        "Records of the change log that are not folded yet; NaN while the log does not answer.",
        ("topic", "partition"),
    ),
    Metric("attempts_total", "counter", "Attempts on documents by what came of them.", ("result",)),
    Metric(
        "decisions_total",
        "counter",
        "Decisions on fields: keep, write, yield or hold, and the strategy that took them.",
        ("decision", "strategy"),
    ),
    Metric("version_conflicts_total", "counter", "Writes that somebody else's write came before.", ("status",)),
    Metric("field_conflicts_total", "counter", "Fields that somebody moved under a write of ours.", ("field",)),
    Metric("http_requests_total", "counter", "Requests to Windchill; status none: no answer.", ("method", "status")),
    Metric("http_request_seconds", "histogram", "Seconds from sending a request to its whole answer."),
    Metric("convergence_seconds", "histogram", "Seconds from the time of an event to its agreement with Windchill."),
    Metric("documents", "gauge", "Documents by where they stand.", ("status",)),
    Metric("oldest_pending_seconds", "gauge", "For how long the oldest pending document has been pending; 0: none is."),
    Metric("queue_depth", "gauge", "Documents that wait in memory for their turn.", ("lane",)),
    Metric("in_flight", "gauge", "Requests to Windchill under way."),
    Metric("in_flight_limit", "gauge", "How many requests may be under way now; it adapts to what Windchill bears."),
    Metric("dead_letters", "gauge", "Events that could not be used and wait for a person."),
    Metric("breaker_open", "gauge", "1 while Windchill is taken to be down and is not asked, else 0."),
    Metric(
        "policy_reloads_total",
        "counter",
        "Readings of the policy on SIGHUP: loaded, unchanged or refused.",
        ("result",),
    ),
    Metric("policy_loaded_timestamp_seconds", "gauge", "When the policy in force was taken up, in seconds since 1970."),
    Metric(
        "policy_refused", "gauge", "1 while the policy as it was last read can't be used, and an older one decides."
    ),
    Metric(
        "notifications_total",
        "counter",
        "Notifications: delivered, digested (a digest was), failed (a try, made again) or refused (given up).",
        ("result",),
    ),
    Metric("notifications_waiting", "gauge", "Notifications being posted; what comes after them waits in the store."),
    Metric(
        "notifications_oldest_seconds",
        "gauge",
        "For how long the webhook has not taken the oldest of these; 0: none waits.",
    ),
    Metric("build_info", "gauge", "Always 1; the labels say what runs here.", ("version", "python")),
)


class Exposition:
    """
    Everything that the counters hold, and what the system says of this process, as text.

    `refresh` is awaited first: it sets the gauges that are only looked at when somebody asks.
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
        """Yield every metric of the catalog, those too that have nothing to say yet."""
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
