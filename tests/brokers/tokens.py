"""An identity provider on loopback for Kafka: it issues tokens for client credentials, and shows brokers its keys."""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

CLIENT, SECRET, AUDIENCE = "reconciler", "hunter2 for tokens", "kafka"


class TokenServer:
    """`url` issues tokens that are good for `lifetime_s`, `keys_url` shows the keys; `issued` counts the tokens."""

    def __init__(self) -> None:
        self.issued = 0
        self.lifetime_s = 3600
        self.audience = AUDIENCE
        self._key = rsa.generate_private_key(65537, 2048)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        address = f"http://127.0.0.1:{self._server.server_port}"
        self.url, self.keys_url = f"{address}/token", f"{address}/keys"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _token(self) -> dict[str, Any]:
        self.issued += 1
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": CLIENT,
            "aud": self.audience,
            "iat": now,
            "exp": now + self.lifetime_s,
            "scope": "kafka",
        }
        token = jwt.encode(claims, self._key, "RS256", headers={"kid": "1"})
        return {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime_s}

    def _keys(self) -> dict[str, Any]:
        shown = json.loads(RSAAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [{**shown, "kid": "1", "use": "sig", "alg": "RS256"}]}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, provider._keys())

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                known = base64.b64encode(f"{CLIENT}:{SECRET.replace(' ', '+')}".encode()).decode()
                if self.headers["authorization"] != f"Basic {known}" or form["grant_type"] != ["client_credentials"]:
                    self._answer(401, {"error": "invalid_client"})
                else:
                    self._answer(200, provider._token())

            def _answer(self, status: int, body: dict[str, Any]) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
