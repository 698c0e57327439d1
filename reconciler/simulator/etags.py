"""
Entity tags: how tokens are dressed for the wire and recognised again. Pure functions.

A token here is bare (`v1.2.45`); on the wire it has quotes and, by mode, `W/` or a `-gzip` suffix.
"""

import re

from reconciler.simulator.history import ANY
from reconciler.simulator.settings import Behaviour

_TAG = re.compile(rb'(?:W/)?"[^"]*"')
_GZIP = b"-gzip"


def dressed(token: str, behaviour: Behaviour, *, compressed: bool) -> bytes | None:
    """The `ETag` header's value for a reply; None when this server sends none."""
    match behaviour.etag:
        case "strong":
            return b'"%s"' % token.encode()
        case "weak":
            return b'W/"%s"' % token.encode()
        case "gzip":
            return b'"%s%s"' % (token.encode(), _GZIP if compressed else b"")
        case "absent":
            return None


def permits(if_match: bytes, token: str, behaviour: Behaviour) -> bool:
    """
    Whether `If-Match` lets a write pass: RFC 9110, 13.1.1.

    The comparison is byte for byte with what this server issues, so that a client which strips quotes or `W/` is found
    out. The RFC's strong comparison would never match a weak tag; OData services do match them, hence the setting.
    """
    if if_match.strip() == ANY.encode():
        return True
    if behaviour.etag == "weak" and not behaviour.weak_if_match_accepted:
        return False
    issued = b'W/"%s"' % token.encode() if behaviour.etag == "weak" else b'"%s"' % token.encode()
    if if_match == issued:
        return True
    known = {issued}
    if behaviour.etag == "gzip" and behaviour.gzip_suffix_accepted:
        known.add(b'"%s%s"' % (token.encode(), _GZIP))
    return not known.isdisjoint(_TAG.findall(if_match))


def unchanged(if_none_match: bytes, token: str, behaviour: Behaviour) -> bool:
    """Whether `If-None-Match` names the current version: RFC 9110, 13.1.2, weak comparison (8.8.3.2)."""
    if if_none_match.strip() == ANY.encode():
        return True
    opaque = b'"%s"' % token.encode()
    known = {opaque}
    if behaviour.etag == "gzip" and behaviour.gzip_suffix_accepted:
        known.add(b'"%s%s"' % (token.encode(), _GZIP))
    return any(tag.removeprefix(b"W/") in known for tag in _TAG.findall(if_none_match))


def bare(if_match: bytes | None) -> str | None:
    """The first tag's token for the history, undressed; what is no tag at all is kept as it came."""
    if if_match is None:
        return None
    text = if_match.strip()
    found = _TAG.search(text)
    if found is None:
        return text.decode("latin-1")
    return found.group().removeprefix(b"W/").strip(b'"').removesuffix(_GZIP).decode("latin-1")
