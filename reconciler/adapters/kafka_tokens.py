"""
Tokens with which Kafka lets us in: of an identity provider (OIDC client credentials), and of Amazon MSK.

A token is reused until shortly before it expires. A broker asks for one with each new connection; when it ends a
session because a token has expired, aiokafka connects again, and asks for the next.
"""

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import attrs
from aiokafka import errors
from aiokafka.abc import AbstractTokenProvider

from reconciler.adapters import credentials, http
from reconciler.adapters.credentials import ClientCredentials, Grant, Headers
from reconciler.adapters.replies import Exchange
from reconciler.errors import ConfigError
from reconciler.ports import Clock

_TIMEOUT_S = 10.0
_BYTES_MAX = 64 * 1024
_MARGIN_S = 60.0  # of MSK's tokens, which are good for 15 minutes


class TokenError(errors.KafkaError):  # type: ignore[misc]  # aiokafka has no types; it takes this for a lost broker
    """No token could be had. Asked again with the next connection."""


@attrs.define
class OidcTokens(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Tokens of an identity provider's token endpoint."""

    _client: ClientCredentials
    _clock: Clock
    _ca_file: Path | None = None
    _keeper: credentials.Keeper = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._keeper = credentials.keeper(self._client, self._send, self._clock)

    async def token(self) -> str:
        """Return a token that is not about to expire. Raises TokenError."""
        match await self._keeper.current():
            case Grant(secret=secret):
                return secret
            case trouble:
                raise TokenError(f"log.oauth_token_url gives no token: {getattr(trouble, 'message', trouble)}")

    async def _send(self, method: str, url: str, headers: Headers, content: bytes) -> Exchange:
        """Send one request by a client of its own: tokens are asked for too rarely to keep a connection."""
        options = http.HttpOptions(timeout_s=_TIMEOUT_S, body_bytes_max=_BYTES_MAX, ca_file=self._ca_file)
        client = http.HttpClient(options, self._clock)
        try:
            return await client.exchange(method, url, headers, content)
        finally:
            await client.close()


@attrs.define
class MskTokens(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Tokens of Amazon MSK, signed with the credentials that AWS's own library finds (role, environment, file)."""

    _region: str
    _clock: Clock
    _latest: tuple[str, float] | None = None  # with the end of its use, on the wall clock
    _lock: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)

    async def token(self) -> str:
        """Return a token that is not about to expire. Raises TokenError, or ConfigError without the extra `aws`."""
        async with self._lock:
            if self._latest is None or self._clock.now_us() / 1_000_000 >= self._latest[1] - _MARGIN_S:
                self._latest = await asyncio.to_thread(self._signed)
            return self._latest[0]

    def _signed(self) -> tuple[str, float]:
        signer = _signer()
        try:
            token, expires_ms = signer.generate_auth_token(self._region)
        except Exception as error:  # botocore has hundreds, without a root of their own
            raise TokenError(f"AWS gives no credentials for a token: {error}") from error
        return token, expires_ms / 1000


def require_msk() -> None:
    """Raise ConfigError unless the extra `aws` is installed."""
    _signer()


def _signer() -> Any:
    try:
        from aws_msk_iam_sasl_signer import (  # type: ignore[import-untyped]  # noqa: PLC0415  an extra, slow to import
            MSKAuthTokenProvider,
        )
    except ImportError as error:
        raise ConfigError(
            "log.sasl_mechanism: AWS_MSK_IAM needs what is not installed: pip install 'windchill-reconciler[aws]'"
        ) from error
    return MSKAuthTokenProvider


def require_kerberos() -> None:
    """Raise ConfigError unless the extra `kerberos` is installed."""
    if importlib.util.find_spec("gssapi") is None:
        raise ConfigError(
            "log.sasl_mechanism: GSSAPI needs Kerberos' libraries, and pip install 'windchill-reconciler[kerberos]'"
        )
