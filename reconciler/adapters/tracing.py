"""Tracing: OpenTelemetry's own environment variables say whether traces are sent."""

from collections.abc import Mapping
from typing import Final

import structlog

from reconciler.tracing import NO_TRACING, Tracing

_log = structlog.get_logger(__name__)

_OFF: Final = ("", "none")
_PROTOCOL: Final = "http/protobuf"


def configured(environ: Mapping[str, str]) -> Tracing:
    """Return the tracing that the environment asks for; `NO_TRACING` if it asks for none."""
    endpoint = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporter = environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()
    if disabled or not endpoint.strip() or exporter in _OFF:
        return NO_TRACING
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    if protocol.strip() not in ("", _PROTOCOL):
        _log.warning("no traces are sent: only the protocol http/protobuf is supported")
        return NO_TRACING
    try:
        from reconciler.adapters import otel  # noqa: PLC0415  an extra, and slow to load

        return otel.OtelTracing(otel.provider(environ))
    except ImportError:
        _log.warning("no traces are sent: install windchill-reconciler[otel], or unset the OTLP endpoint")
    except Exception as error:  # noqa: BLE001  a wrong variable of another library must not stop the daemon
        _log.warning("no traces are sent: OpenTelemetry can't be set up", error=type(error).__name__)
    return NO_TRACING
