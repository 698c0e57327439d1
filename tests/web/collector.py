"""A collector of traces on a real socket: it receives OTLP over HTTP and shows it to the test."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """Takes spans until `close`. `status` is what it answers with; `silent`, that it never does."""

    def __init__(self, *, status: int = 200) -> None:
        self.status = status
        self.silent = threading.Event()
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        collector = self

        class Taking(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                if collector.silent.is_set():
                    collector._stopped.wait(60)
                    return
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if collector.status == 200:
                    collector._take(ExportTraceServiceRequest.FromString(body))
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _take(self, request: ExportTraceServiceRequest) -> None:
        for of_resource in request.resource_spans:
            self.resources.append({one.key: one.value.string_value for one in of_resource.resource.attributes})
            for of_scope in of_resource.scope_spans:
                self.spans.extend(of_scope.spans)

    def named(self, name: str) -> list[Any]:
        """The spans of a name."""
        return [span for span in list(self.spans) if span.name == name]

    def close(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    """A span's attributes as plain values."""
    found: dict[str, Any] = {}
    for one in span.attributes:
        kind = one.value.WhichOneof("value")
        value = getattr(one.value, kind)
        found[one.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found
