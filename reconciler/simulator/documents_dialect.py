"""
The dialect `documents`: plain JSON resources with entity tags, merge patch and `If-Match`.

    GET /documents/{id}              200 with ETag and Last-Modified; 304
    PATCH /documents/{id}            merge patch (RFC 7396); 200 with the document, or 204
    PUT /documents/{id}              the whole document
    {"error": …, "message": …}       every refusal; "field" names the refused field, if there is one

A module that is an `asgi.Dialect`. Nothing here awaits, so a write is one step, made while its precondition holds.

At the end: entity tags. A token here is bare (`v1.2.45`); on the wire it has quotes and, by mode, `W/` or a `-gzip`
suffix.
"""

import gzip
import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache
from typing import Any

import attrs
import orjson

from reconciler.simulator import fields
from reconciler.simulator.documents import READ_ONLY, Documents, Version
from reconciler.simulator.history import ANY, Writer
from reconciler.simulator.messages import JSON, Headers, Reply, Request, problem
from reconciler.simulator.settings import Behaviour
from reconciler.simulator.world import World

_ROOT = "/documents"
_ITEMS = _ROOT + "/"
_MERGE_PATCH = b"application/merge-patch+json"
_TYPES = {"PATCH": (_MERGE_PATCH, b"application/json"), "PUT": (b"application/json",)}


def serves(path: str) -> bool:
    """Whether the path is `/documents` or below it."""
    return path == _ROOT or path.startswith(_ITEMS)


def target(_: World, request: Request) -> str | None:
    """The document's key, which may itself contain slashes."""
    return request.path[len(_ITEMS) :] or None


def guarded(request: Request) -> bool:
    """Whether there is a precondition."""
    return b"if-match" in request.headers


def answer(world: World, request: Request, user: str) -> Reply:
    """Carry out the request."""
    key = target(world, request)
    if key is None or key in world.documents.former:
        return _not_found(key or request.path)
    if request.method == "GET":
        return _read(world.documents, request, key)
    if request.method in _TYPES:
        return _write(world.documents, request, key, user)
    reply = problem(405, "Method Not Allowed", f"{request.method} means nothing here", cause="bad_request")
    return Reply(405, [*reply.headers, (b"allow", b"GET, PATCH, PUT")], reply.body, reply.cause)


def _read(documents: Documents, request: Request, key: str) -> Reply:
    current = documents.get(key)
    refusal = _standing_refusal(documents, key, writing=False)
    if refusal is not None:
        return refusal
    if current is None:
        return _not_found(key)
    if _not_modified(request, current, documents.behaviour):
        headers, _ = _shown(current, request, documents.behaviour)
        return Reply(304, [header for header in headers if header[0] in (b"etag", b"last-modified", b"vary")])
    headers, body = _shown(current, request, documents.behaviour)
    return Reply(200, headers, body)


def _not_modified(request: Request, current: Version, behaviour: Behaviour) -> bool:
    # RFC 9110, 13.1.3: If-Modified-Since is ignored when If-None-Match is present.
    if_none_match = request.headers.get(b"if-none-match")
    if if_none_match is not None:
        return unchanged(if_none_match, current.token, behaviour)
    since = request.headers.get(b"if-modified-since")
    if since is None:
        return False
    try:
        # Whole seconds, as in the header: an edit within the same second goes unnoticed, as on real servers.
        return int(current.modified.timestamp()) <= int(parsedate_to_datetime(since.decode("latin-1")).timestamp())
    except (ValueError, OverflowError):
        return False  # an invalid date is to be ignored


def _write(documents: Documents, request: Request, key: str, user: str) -> Reply:
    # RFC 9110, 13.2.1: other refusals come before the precondition is evaluated.
    refusal = _standing_refusal(documents, key, writing=True)
    if refusal is not None:
        return refusal
    current = documents.get(key)
    if current is None:
        return _not_found(key)
    content = _content(request)
    if isinstance(content, Reply):
        return content
    behaviour = documents.behaviour
    refusal = _locked(documents, key, user) or _precondition(request, current, behaviour)
    if refusal is not None:
        return refusal
    if request.method == "PATCH":
        new, named = fields.merge(current.fields, content, behaviour.cleared_fields), content
    else:
        # A client may send back the read-only fields as it read them, or leave them out.
        new = {**content, **{name: current.fields[name] for name in READ_ONLY if name in current.fields}}
        named = {name: value for name, value in content.items() if value != current.fields.get(name)}
    refusal = _refused_field(named, current, new, behaviour)
    if refusal is not None:
        return refusal
    guard = bare(request.headers.get(b"if-match"))
    written = documents.write(key, _kept(current.fields, new, behaviour), Writer(user, "rest", guard))
    reply = _write_reply(_as_sent(written, new) if behaviour.write_shows == "sent" else written, request, behaviour)
    changed = fields.changes(current.fields, written.fields, READ_ONLY).keys()
    back = {path: value for path, value in behaviour.set_back_fields.items() if path in changed}
    if back:
        documents.edit(key, back, Writer("plm-batch", "rival"))
    return reply


def _kept(current: dict[str, Any], new: dict[str, Any], behaviour: Behaviour) -> dict[str, Any]:
    """The document that a write stores."""
    paths = {path: fields.at(current, path) for path in behaviour.ignored_fields}
    paths |= {path: _capitals(fields.at(new, path)) for path in behaviour.capitalised_fields}
    return fields.merge(new, fields.nested(paths), behaviour.cleared_fields) if paths else new


def _capitals(value: Any) -> Any:
    if isinstance(value, list):
        return [_capitals(element) for element in value]
    return value.upper() if isinstance(value, str) else value


def _as_sent(written: Version, new: dict[str, Any]) -> Version:
    shown = {**new, **{name: written.fields[name] for name in READ_ONLY if name in written.fields}}
    return attrs.evolve(written, fields=shown, body=orjson.dumps(shown))


def _write_reply(written: Version, request: Request, behaviour: Behaviour) -> Reply:
    headers, body = _shown(written, request, behaviour)
    if not behaviour.write_etag:
        headers = [header for header in headers if header[0] != b"etag"]
    if behaviour.write_reply == "none":
        return Reply(204, [header for header in headers if header[0] in (b"etag", b"last-modified")])
    return Reply(200, headers, body)


def _content(request: Request) -> dict[str, Any] | Reply:
    given = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if given not in _TYPES[request.method]:
        known = b", ".join(_TYPES[request.method])
        reply = problem(415, "Unsupported Media Type", f"Send one of {known.decode()}", cause="media_type")
        # RFC 5789, 2.2.
        return Reply(415, [*reply.headers, (b"accept-patch", known)], reply.body, reply.cause)
    try:
        content = orjson.loads(request.body)
    except orjson.JSONDecodeError as mistake:
        return problem(400, "Bad Request", f"Not JSON: {mistake}", cause="bad_request")
    if not isinstance(content, dict):
        return problem(400, "Bad Request", "The body must be a JSON object", cause="bad_request")
    return content


def _precondition(request: Request, current: Version, behaviour: Behaviour) -> Reply | None:
    if_match = request.headers.get(b"if-match")
    if if_match is None or not behaviour.if_match_enforced or permits(if_match, current.token, behaviour):
        return None
    return problem(
        behaviour.conflict_status, "Version mismatch", "Document modified by another user", cause="version_conflict"
    )


def _refused_field(named: dict[str, Any], current: Version, new: dict[str, Any], behaviour: Behaviour) -> Reply | None:
    for name in sorted(READ_ONLY & named.keys()):
        return problem(400, "Bad Request", f"{name} is read-only", cause="refused_field", field=name)
    if not behaviour.refused_fields:
        return None
    changed = fields.changes(current.fields, new, READ_ONLY)
    for path in sorted(changed.keys() | dict(fields.leaves(named)).keys()):
        if path in behaviour.refused_fields:
            message = f"{path} {behaviour.refused_fields[path]}"
            return problem(400, "Invalid field", message, cause="refused_field", field=path)
    return None


def _standing_refusal(documents: Documents, key: str, *, writing: bool) -> Reply | None:
    condition = documents.conditions.get(key)
    if condition is None or (condition.writes_only and not writing):
        return None
    return problem(condition.status, "Refused", condition.message, cause="standing_refusal")


def _locked(documents: Documents, key: str, user: str) -> Reply | None:
    holder = documents.holder(key, user)
    if holder is None:
        return None
    return problem(423, "Locked", f"Document is checked out by {holder}", cause="locked")


def _not_found(key: str) -> Reply:
    return problem(404, "Not Found", f"There is no document {key}", cause="not_found")


def _shown(version: Version, request: Request, behaviour: Behaviour) -> tuple[Headers, bytes]:
    """The version's headers and body as this client gets them."""
    compressed = behaviour.etag == "gzip" and _accepts_gzip(request)
    headers: Headers = [JSON, (b"last-modified", _http_date(int(version.modified.timestamp())))]
    tag = dressed(version.token, behaviour, compressed=compressed)
    if tag is not None:
        headers.append((b"etag", tag))
    if behaviour.etag == "gzip":
        headers.append((b"vary", b"accept-encoding"))
    if not compressed:
        return headers, version.body
    return [*headers, (b"content-encoding", b"gzip")], gzip.compress(version.body, compresslevel=1)


def _accepts_gzip(request: Request) -> bool:
    accepted = (part.partition(b";") for part in request.headers.get(b"accept-encoding", b"").lower().split(b","))
    return any(
        name.strip() == b"gzip" and weight.replace(b" ", b"") not in (b"q=0", b"q=0.0") for name, _, weight in accepted
    )


@lru_cache(maxsize=4096)
def _http_date(epoch_s: int) -> bytes:
    return format_datetime(datetime.fromtimestamp(epoch_s, UTC), usegmt=True).encode()


# ---------------------------------------------------------------------------------------------------------- entity tags


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
    out. A weak tag matches, as in OData services; the RFC's strong comparison would never match one.
    """
    if if_match.strip() == ANY.encode():
        return True
    known = _known(token, behaviour)
    if behaviour.etag == "weak":
        known = {b"W/" + tag for tag in known}
    return if_match in known or not known.isdisjoint(_TAG.findall(if_match))


def unchanged(if_none_match: bytes, token: str, behaviour: Behaviour) -> bool:
    """Whether `If-None-Match` names the current version: RFC 9110, 13.1.2, weak comparison (8.8.3.2)."""
    if if_none_match.strip() == ANY.encode():
        return True
    known = _known(token, behaviour)
    return any(tag.removeprefix(b"W/") in known for tag in _TAG.findall(if_none_match))


def _known(token: str, behaviour: Behaviour) -> set[bytes]:
    """The tags, without `W/`, that match a token in conditions."""
    known = {b'"%s"' % token.encode()}
    if behaviour.etag == "gzip" and behaviour.gzip_suffix_accepted:
        known.add(b'"%s%s"' % (token.encode(), _GZIP))
    return known


def bare(if_match: bytes | None) -> str | None:
    """The first tag's token, without quotes and marks, for the history; a text that is no tag is kept as it is."""
    if if_match is None:
        return None
    text = if_match.strip()
    found = _TAG.search(text)
    if found is None:
        return text.decode("latin-1")
    return found.group().removeprefix(b"W/").strip(b'"').removesuffix(_GZIP).decode("latin-1")
