"""A schema registry on loopback: real HTTP, the part of Confluent's API that readers of schemas use."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Registry:
    """Schemas by number and by `subject/version`; what it was asked; and how it fails, if it does."""

    def __init__(self) -> None:
        self.schemas: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.fails_with: tuple[int, bytes] | None = None
        self.password = ""  # of the user `reader`; empty: anyone may read
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, body = registry.answer(self.path, self.headers.get("authorization", ""))
                self.send_response(status)
                self.send_header("content-type", "application/vnd.schemaregistry.v1+json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        self.asked.append(path)
        given = "Basic " + base64.b64encode(f"reader:{self.password}".encode()).decode()
        if self.password and authorization != given:
            return 401, b'{"error_code": 401, "message": "Unauthorized"}'
        if self.fails_with is not None:
            return self.fails_with
        if path not in self.schemas:
            return 404, b'{"error_code": 40403, "message": "Schema not found"}'
        return 200, json.dumps(self.schemas[path]).encode()

    def register(self, number: int, schema: Any, **more: Any) -> None:
        self.schemas[f"/schemas/ids/{number}"] = {"schema": json.dumps(schema), **more}


@contextmanager
def running() -> Iterator[Registry]:
    """Run a registry in a thread of its own."""
    registry = Registry()
    thread = threading.Thread(target=registry.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield registry
    finally:
        registry.server.shutdown()
        thread.join()
        registry.server.server_close()


def framed(number: int, schema: Any, value: Any) -> bytes:
    """Return a value as a registry's serialiser for Avro writes it."""
    import io

    import fastavro

    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema, named_schemas={}), value)
    return b"\0" + number.to_bytes(4, "big") + stream.getvalue()
