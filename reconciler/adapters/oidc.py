"""
OpenID Connect: check the tokens of people and programs with an identity provider.

Theory of operation. The provider's endpoints and keys are read by discovery (OpenID Connect Discovery 1.0) when they
are first needed, and kept. They are read again when a token names an unknown key, and every hour, so that a withdrawn
key is forgotten. Only one request does so at a time, at most once a minute, however many tokens name unknown keys.
While the provider does not answer, its last known endpoints and keys are used.

Rules
- The discovery document must name exactly the configured issuer. Every address in it is https or of the issuer's own
  origin, which may be plain http on this machine only.
- No redirect is followed, and every answer is limited in size and time (`http.HttpClient`).
- No secret, code or token is in a message or a log.
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

import attrs
import jwt
import structlog

from reconciler.adapters import jwts, replies
from reconciler.adapters.http import HttpClient, HttpOptions
from reconciler.adapters.jwts import Expected, Keys, Name
from reconciler.adapters.replies import Reply
from reconciler.model.identity import Away, Flow, IdentityResult, Rejected, Verified
from reconciler.ports import Clock

_log = structlog.get_logger(__name__)

REFRESH_S: Final = 60.0  # between two looks at the provider's keys, at least
RETRY_S: Final = 5.0  # the same while nothing is known of it
KEEP_S: Final = 3600.0  # after which its keys are read again, whatever is known of it
BODY_BYTES_MAX: Final = 256 * 1024
TIMEOUT_S: Final = 4.0
_WELL_KNOWN = "/.well-known/openid-configuration"
_ACCESS, _IDENTITY = ("jwt", "at+jwt"), ("jwt",)  # RFC 9068 section 2.1; an ID token is a plain JWT
_NAME_MAX = 128


@attrs.frozen(kw_only=True)
class OidcOptions:
    """The provider, and what its tokens must contain."""

    issuer: str
    audience: str = ""
    """The audience that tokens of programs must have; empty: programs can't use tokens."""
    client_id: str = ""
    """Our name at the provider when people sign in; empty: they can't sign in this way."""
    client_secret: str = attrs.field(default="", repr=False)
    scope: str
    algorithms: tuple[str, ...]
    roles_claim: str
    name_claim: str
    ca_file: Path | None = None


@attrs.frozen
class _Provider:
    """What discovery says; an endpoint is empty if there is none that may be used."""

    authorization: str
    token: str
    secret_in_body: bool
    keys: Keys
    read_s: float


class Oidc:
    """One provider. Make it inside a running event loop. Raises ConfigError when `ca_file` can't be used."""

    def __init__(self, options: OidcOptions, clock: Clock) -> None:
        self.issuer = options.issuer
        self.signs_in = bool(options.client_id)
        self._options = options
        self._clock = clock
        http = HttpOptions(timeout_s=TIMEOUT_S, body_bytes_max=BODY_BYTES_MAX, ca_file=options.ca_file)
        self._client = HttpClient(http, clock)
        self._provider: _Provider | None = None
        self._fault = Away("it was not asked yet")
        self._tried_s: float | None = None
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def bearer(self, token: str) -> IdentityResult:
        """Return whose token this is, sent by a program."""
        if not self._options.audience:
            return Rejected("programs can't use such tokens here: admin.oidc_audience is not set")
        said = await self._said(token, self._options.audience, _ACCESS)
        return said if isinstance(said, Rejected | Away) else self._who(said)

    async def address(self, flow: Flow) -> str | Away:
        """Return where a person signs in (authorization code with PKCE, RFC 7636)."""
        provider = await self._current(None)
        if isinstance(provider, Away):
            return provider
        if not provider.authorization or not provider.token:
            return Away("its discovery document names no addresses to sign in with")
        digest = hashlib.sha256(flow.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self._options.client_id,
            "redirect_uri": flow.redirect_uri,
            "scope": self._options.scope,
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in provider.authorization else "?"
        return f"{provider.authorization}{joint}{urlencode(query)}"

    async def exchange(self, code: str, flow: Flow) -> IdentityResult:
        """Return who has signed in, by the code that the provider gave their browser."""
        provider = await self._current(None)
        if isinstance(provider, Away):
            return provider
        token = await self._id_token(provider, code, flow)
        if isinstance(token, Rejected | Away):
            return token
        said = await self._said(token, self._options.client_id, _IDENTITY)
        if isinstance(said, Rejected | Away):
            return said
        nonce = said.get("nonce")
        if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), flow.nonce.encode()):
            return Rejected("it was made for another sign-in")
        if said.get("azp", self._options.client_id) != self._options.client_id:  # OpenID Connect Core section 3.1.3.7
            return Rejected("it is meant for another audience")
        return self._who(said)

    # ---------------------------------------------------------------------------------------------------- what is said

    async def _said(self, token: str, audience: str, types: tuple[str, ...]) -> Mapping[str, Any] | Rejected | Away:
        name = jwts.name(token, self._options.algorithms, types)
        if isinstance(name, Rejected):
            return name
        provider = await self._current(name)
        if isinstance(provider, Away):
            return provider
        key: jwt.PyJWK | None = provider.keys.get(name)
        if key is None:
            return Rejected("it names a key that the provider does not have")
        return jwts.claims(token, key, Expected(self.issuer, audience, types), self._clock.now_us() / 1e6)

    def _who(self, said: Mapping[str, Any]) -> Verified | Rejected:
        name = said.get(self._options.name_claim) or said["sub"]
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name.strip()) <= _NAME_MAX:
            return Rejected("it has no name that can be shown")
        return Verified(name.strip(), _roles(said, self._options.roles_claim))

    async def _id_token(self, provider: _Provider, code: str, flow: Flow) -> str | Rejected | Away:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": flow.redirect_uri,
            "code_verifier": flow.verifier,
        }
        headers = [
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"accept", b"application/json"),
        ]
        client, secret = self._options.client_id, self._options.client_secret
        if secret and not provider.secret_in_body:  # RFC 6749 section 2.3.1: both are form-encoded first
            both = f"{quote_plus(client)}:{quote_plus(secret)}".encode()
            headers.append((b"authorization", b"Basic " + base64.b64encode(both)))
        else:
            form |= {"client_id": client, **({"client_secret": secret} if secret else {})}
        reply = await self._client.exchange("POST", provider.token, tuple(headers), urlencode(form).encode())
        if not isinstance(reply, Reply):
            return Away("its token endpoint gave no answer that can be used")
        if reply.status >= 500 or 300 <= reply.status < 400:
            return Away(f"its token endpoint answered with status {reply.status}")
        token = (replies.json_object(reply) or {}).get("id_token") if reply.status == 200 else None
        return token if isinstance(token, str) else Rejected(f"the provider gave no ID token (status {reply.status})")

    # --------------------------------------------------------------------------------------------------- the provider

    async def _current(self, wanted: Name | None) -> _Provider | Away:
        """Return what is known of the provider, read again if that is due or it lacks this key; see above."""
        known = self._provider
        has_it = known is not None and (wanted is None or wanted in known.keys)
        if known is not None and has_it and (self._lock.locked() or self._is_fresh(known)):
            return known
        async with self._lock:
            known = self._provider
            if known is not None and (wanted is None or wanted in known.keys) and self._is_fresh(known):
                return known
            now_s = self._clock.monotonic_s()
            if self._tried_s is None or now_s - self._tried_s >= (REFRESH_S if known else RETRY_S):
                self._tried_s = now_s
                await self._look()
            return self._provider or self._fault

    def _is_fresh(self, provider: _Provider) -> bool:
        return self._clock.monotonic_s() - provider.read_s < KEEP_S

    async def _look(self) -> None:
        found = await self._discovered()
        if isinstance(found, Away):
            self._fault = found
            _log.warning("the identity provider can't be asked", issuer=self.issuer, reason=found.reason)
            return
        _log.info("the identity provider's keys taken up", issuer=self.issuer, keys=len({kid for kid, _ in found.keys}))
        self._provider = found

    async def _discovered(self) -> _Provider | Away:
        said = await self._document(self.issuer.removesuffix("/") + _WELL_KNOWN)
        if isinstance(said, Away):
            return said
        if said.get("issuer") != self.issuer:
            return Away("its discovery document names another issuer: set admin.oidc_issuer exactly as it says")
        address = self._endpoint(said, "jwks_uri")
        if not address:
            return Away("its discovery document names no jwks_uri that may be used: it must be https")
        listed = await self._document(address)
        if isinstance(listed, Away):
            return listed
        keys = jwts.keys(listed, self._options.algorithms)
        if not keys:
            return Away("it has no key for any of admin.oidc_algorithms")
        methods = said.get("token_endpoint_auth_methods_supported")
        in_body = isinstance(methods, list) and "client_secret_basic" not in methods and "client_secret_post" in methods
        authorization, token = (self._endpoint(said, f"{name}_endpoint") for name in ("authorization", "token"))
        return _Provider(authorization, token, in_body, keys, self._clock.monotonic_s())

    async def _document(self, url: str) -> Mapping[str, Any] | Away:
        reply = await self._client.exchange("GET", url, ((b"accept", b"application/json"),))
        if not isinstance(reply, Reply):
            return Away(f"{url}: {reply.message}")
        if 300 <= reply.status < 400:
            return Away(f"{url}: redirects are not followed (status {reply.status})")
        said = replies.json_object(reply) if reply.status == 200 else None
        return Away(f"{url}: no JSON object (status {reply.status})") if said is None else said

    def _endpoint(self, said: Mapping[str, Any], member: str) -> str:
        url = said.get(member)
        if not isinstance(url, str) or not url.isprintable() or " " in url:
            return ""
        try:
            given, own = urlsplit(url), urlsplit(self.issuer)
        except ValueError:
            return ""
        permitted = given.scheme == "https" or (given.scheme, given.netloc) == (own.scheme, own.netloc)
        return url if permitted and given.hostname and not given.fragment and "@" not in given.netloc else ""


def _roles(said: Mapping[str, Any], claim: str) -> frozenset[str]:
    """Return the texts of a claim: a list, or words. A name with dots is one claim, or a path into objects."""
    found: Any = said.get(claim)
    if found is None:
        found = said
        for step in claim.split("."):
            found = found.get(step) if isinstance(found, dict) else None
    if isinstance(found, str):
        return frozenset(found.split())
    return frozenset(one for one in found if isinstance(one, str)) if isinstance(found, list) else frozenset()
