"""
JWTs: which ones are accepted (RFC 7519; RFC 8725 for the pitfalls).

Rules
- The token's algorithm must be one of those configured, and the key must be made for it. `none` and algorithms with a
  shared secret can't be configured.
- The key is found by `kid` among the provider's, never by anything else that the token names (`jwk`, `jku`, `x5u`).
- Issuer, audience and times are checked, the times on our own clock. A missing claim is a refusal.
- No reason repeats any part of a token.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any, Final

import attrs
import jwt
from jwt.types import Options

from reconciler.model.identity import Rejected

LEEWAY_S: Final = 30.0  # by which clocks may differ
KEYS_MAX: Final = 100
_KID_MAX = 256
_RSA_BITS_MIN = 2048  # RFC 7518 section 3.3
_OPTIONS: Final[Options] = {
    "require": ["iss", "aud", "exp", "iat", "sub"],
    "verify_exp": False,  # like the two below: the library would ask the machine's clock; see `_untimely`
    "verify_nbf": False,
    "verify_iat": False,
}
# Algorithm → key type and curve.
_MADE_FOR: Final[Mapping[str, tuple[str, str | None]]] = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}

Name = tuple[str, str]  # of a key: `kid` and algorithm
Keys = Mapping[Name, jwt.PyJWK]


@attrs.frozen
class Expected:
    """What a token must say. `types` are the allowed values of `typ`, in lower case; a token may have none."""

    issuer: str
    audience: str
    types: Collection[str]


def keys(document: Mapping[str, Any], algorithms: Collection[str]) -> Keys:
    """Return the usable keys of a JWKS (RFC 7517)."""
    listed = document.get("keys")
    found: dict[Name, jwt.PyJWK] = {}
    for row in listed[:KEYS_MAX] if isinstance(listed, list) else []:
        if not isinstance(row, dict) or not _signs(row):
            continue
        for algorithm in algorithms:
            if row.get("alg") in (None, algorithm) and (key := _key(row, algorithm)) is not None:
                found.setdefault((row["kid"], algorithm), key)
    return found


def name(token: str, algorithms: Collection[str], types: Collection[str]) -> Name | Rejected:
    """Return the name of the key that a token says it is signed with."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        return Rejected("it can't be read")
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        return Rejected("its algorithm is not among admin.oidc_algorithms")
    if not isinstance(kid, str) or not 0 < len(kid) <= _KID_MAX:
        return Rejected("it names no key")
    if "crit" in header or header.get("b64", True) is not True:
        return Rejected("it needs an extension that is not supported")
    if kind is not None and (not isinstance(kind, str) or kind.lower().removeprefix("application/") not in types):
        return Rejected("it is a token of another kind")
    return kid, algorithm


def claims(token: str, key: jwt.PyJWK, expected: Expected, now_s: float) -> Mapping[str, Any] | Rejected:
    """Return the claims of a token, if it is valid now."""
    try:
        said: Mapping[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            audience=expected.audience,
            issuer=expected.issuer,
            options=_OPTIONS,
        )
    except jwt.InvalidSignatureError:
        return Rejected("its signature is not the provider's")
    except jwt.MissingRequiredClaimError as error:
        return Rejected(f"it does not say its {error.claim}")
    except jwt.InvalidAudienceError:
        return Rejected("it is meant for another audience")
    except jwt.InvalidIssuerError:
        return Rejected("it is from another issuer")
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return Rejected("it can't be read")
    return _untimely(said, now_s) or said


def _untimely(said: Mapping[str, Any], now_s: float) -> Rejected | None:
    times = [said["exp"], said["iat"], said.get("nbf", 0)]
    if any(isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at) for at in times):
        return Rejected("its times can't be read")
    ends_s, issued_s, begins_s = times
    if now_s >= ends_s + LEEWAY_S:
        return Rejected("it has expired")
    if max(issued_s, begins_s) > now_s + LEEWAY_S:
        return Rejected("it is not valid yet")
    return None


def _signs(row: Mapping[str, Any]) -> bool:
    operations = row.get("key_ops", ["verify"])
    kid = row.get("kid")
    return (
        isinstance(kid, str)
        and 0 < len(kid) <= _KID_MAX
        and row.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
    )


def _key(row: Mapping[str, Any], algorithm: str) -> jwt.PyJWK | None:
    kind, curve = _MADE_FOR[algorithm]
    if row.get("kty") != kind or (curve is not None and row.get("crv") != curve):
        return None
    public = {member: row[member] for member in ("kty", "crv", "n", "e", "x", "y") if member in row}
    try:
        key = jwt.PyJWK(public, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return None if kind == "RSA" and key.key.key_size < _RSA_BITS_MIN else key
