"""
The webhook: posts notifications, signed per Standard Webhooks 1.0, and to public addresses only.

Rules
- What is judged is the address that a connection is about to be made to, at the moment it is made: a name whose DNS
  answer has changed meanwhile gains nothing, and neither does an IPv4 address in the clothes of an IPv6 one.
- Addresses that are not of the public internet (loopback, private, link-local, metadata services) are refused unless
  `networks` has them. Otherwise anyone who can change one line of the configuration, or of a DNS zone, could make us
  call services that only we can reach.
- No redirect is followed, no proxy of the environment is used, and of a reply only its status and `Retry-After` count:
  the body is never read.
- No error names the address, because such addresses often are the only credential.

aiohttp itself, not `http.HttpClient`: the check needs the socket, and nothing of credentials or pools is wanted.
"""

import base64
import binascii
import errno
import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import attrs

from reconciler.adapters import replies, tls
from reconciler.core.explain.notices import Fault, Notification, Undelivered
from reconciler.errors import ConfigError
from reconciler.ports import Clock

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFUSED = "an address that is not of the public internet, see notify.networks"
_PREFIX = "whsec_"
_HEADER_BYTES_MAX = 8190
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Not covered by `is_global`: Azure's metadata has a public address, Oracle's is in a block for protocols.
_METADATA = (ipaddress.ip_network("168.63.129.16/32"), ipaddress.ip_network("192.0.0.0/24"))
_CONTENT_REFUSED = frozenset({400, 413, 415, 422})


@attrs.frozen(kw_only=True)
class WebhookOptions:
    """Where notifications go."""

    url: str = attrs.field(repr=False)
    secrets: tuple[str, ...] = attrs.field(repr=False)
    """Keys as `whsec_…`. Each signs, so that a receiver may know either while keys are exchanged."""
    networks: tuple[str, ...] = ()
    """Networks outside of the public internet that connections may go to."""
    plain: bool = False
    """Whether http:// is allowed."""
    ca_file: Path | None = None
    timeout_s: float = 10.0
    """Of one post, everything included."""


class Webhook:
    """Posts to one address. Make it inside a running event loop. Raises ConfigError when the options can't be used."""

    def __init__(self, options: WebhookOptions, clock: Clock) -> None:
        if not options.plain and not options.url.lower().startswith("https://"):
            raise ConfigError("notify.webhook_url: needs https://, or notify.plain_http = true")
        self._keys = tuple(map(_key, options.secrets))
        if not self._keys:
            raise ConfigError("notify.webhook_secret: is needed, to sign with")
        self._url = options.url
        self._clock = clock
        self._allowed = tuple(map(_network, options.networks))
        self._trust = tls.Trust(tls.Files(options.ca_file))
        connector = aiohttp.TCPConnector(
            ssl=self._trust.context,
            force_close=True,  # every post makes a new connection, and every connection is checked
            use_dns_cache=False,
            socket_factory=self._socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=options.timeout_s, connect=options.timeout_s / 2),
            auto_decompress=False,
            trust_env=False,
            max_line_size=_HEADER_BYTES_MAX,
            max_field_size=_HEADER_BYTES_MAX,
        )

    async def post(self, notification: Notification) -> Undelivered | None:
        """Post a notification once; return why it was not accepted, None if it was."""
        self._trust.refresh()
        try:
            async with self._session.post(
                self._url,
                data=notification.body,
                headers=self._headers(notification),
                allow_redirects=False,
            ) as reply:
                return self._judged(reply)
        except TimeoutError:
            return Undelivered("no answer in time")
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: an address that is none
            return Undelivered(_said(error))

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def _headers(self, notification: Notification) -> dict[str, str]:
        timestamp = self._clock.now_us() // 1_000_000
        return {
            "content-type": "application/json",
            "user-agent": "windchill-reconciler",
            "webhook-id": notification.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._keys, notification, timestamp),
        }

    def _judged(self, reply: aiohttp.ClientResponse) -> Undelivered | None:
        status = reply.status
        if 200 <= status < 300:
            return None
        if 300 <= status < 400:
            return Undelivered(f"status {status}: redirects are not followed")
        headers = {name.lower(): value for name, value in reversed(reply.raw_headers)}
        wait_s = replies.retry_after_s(replies.Reply(status, headers), self._clock.now_us())
        if status == 410:
            return Undelivered("status 410: the receiver is gone", Fault.GONE)
        fault = Fault.CONTENT if status in _CONTENT_REFUSED else Fault.ENDPOINT
        return Undelivered(f"status {status}", fault, wait_s)

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        """Make the socket of one connection, if its address is permitted."""
        family, kind, protocol, _, where = address
        if not permitted(str(where[0]), self._allowed):
            raise OSError(errno.EACCES, _REFUSED)
        return socket.socket(family=family, type=kind, proto=protocol)


def signature(keys: Sequence[bytes], notification: Notification, timestamp: int) -> str:
    """Return the value of `webhook-signature`: one signature for each key, by Standard Webhooks 1.0."""
    content = f"{notification.id}.{timestamp}.".encode() + notification.body
    digests = (hmac.digest(key, content, hashlib.sha256) for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def permitted(host: str, allowed: Sequence[Network] = ()) -> bool:
    """Whether a connection may be made to an address, given as numbers."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    both = {_inner(address)} if address in _NAT64 else {address, _inner(address)}
    return any(one in network for one in both for network in allowed) or all(map(_public, both))


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one leads to, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _public(address: Address) -> bool:
    special = address.is_multicast or address.is_unspecified or address.is_reserved or address.is_loopback
    return address.is_global and not special and not any(address in network for network in _METADATA)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ConfigError(f"notify.networks: {error}; write a network such as 10.1.0.0/16") from error


def _key(secret: str) -> bytes:
    try:
        text = secret.removeprefix(_PREFIX).rstrip("=")
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ConfigError('notify.webhook_secret: must be "whsec_" and a key in base64') from None


def _said(error: Exception) -> str:
    """Return what went wrong, without the address."""
    if _REFUSED in str(error):
        return f"it leads to {_REFUSED}"
    # In our own words: messages of aiohttp and OpenSSL contain host names, ports and addresses.
    if tls.disagreement(error) is not None:
        return "there is no TLS with it: its certificate can't be trusted, see notify.ca_file, or it wants one of ours"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
