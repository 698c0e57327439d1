"""
The dialect `documents`: plain JSON resources with entity tags, merge patches and `If-Match` (docs/windchill.md).

Rules
- A token is sent back exactly as it came, with its quotes and `W/` (RFC 9110 section 8.8.3; servers match weak tags).
- `If-Match: *` is never sent: it would match any version (section 13.1.1).
- Only a status says whether a write was carried out. Anything else is `Unknown`, never a guess.

Rules of merge patches (RFC 7396), which are made from dotted paths
- Applied to the document as we read it, the patch gives the same as `Snapshot.with_fields`, except that a field set to
  null is cleared: a merge patch does not distinguish absent and null.
- A member whose own name contains dots is one member, as in `Snapshot.value`.
- An object given as a value *replaces* the live one: its other members are cleared one by one, as a merge patch would
  keep them. This is exact because the write is guarded: the server applies it to what we read, or not at all.
- A null inside an object can't be expressed, since it would mean "clear it".
"""

from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote

import attrs
import msgspec
from msgspec import structs

from reconciler.adapters import http, refusals, replies
from reconciler.adapters.credentials import Headers
from reconciler.adapters.http import HttpClient
from reconciler.adapters.replies import Exchange, Lost, Reply, Unusable
from reconciler.model import instant
from reconciler.model.answer import (
    Broken,
    Locked,
    NotAvailable,
    ReadAnswer,
    Refused,
    Released,
    Unchanged,
    Unknown,
    WriteAnswer,
    Written,
)
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import Journal

_JSON = "application/json"
_READ_ONLY = ("id", "modifiedBy", "modifiedOn", "type")
# identity: a front end that compresses marks or weakens the ETag of what it compressed.
_HEADERS: Headers = ((b"accept", _JSON.encode()), (b"accept-encoding", b"identity"))


@attrs.frozen(kw_only=True)
class DocumentsOptions:
    """Where the documents are and how they are written."""

    base_url: str = attrs.field(converter=http.without_slash, validator=http.plain_url)
    """What `/documents/{id}` is appended to."""
    write_method: Literal["patch", "put"]
    """`put` sends the whole document, for servers without PATCH."""
    media_type: str = "application/merge-patch+json"
    """Of a PATCH. A server that refuses it with 415 gets `application/json` from then on."""


class DocumentsWindchill:
    """A Windchill behind plain JSON resources. Satisfies `reconciler.ports.Windchill`; closes its client."""

    def __init__(self, client: HttpClient, options: DocumentsOptions) -> None:
        self._client = client
        self._options = options
        self._root = f"{options.base_url}/documents/"
        self._media_type = options.media_type

    async def read(self, key: str, known: Snapshot | None = None) -> ReadAnswer:
        """Read one document; with `known`, conditionally (RFC 9110 sections 13.1.2 and 13.1.3)."""
        url = self._url(key)
        if isinstance(url, NotAvailable):
            return url
        condition = _condition(known)
        exchange = await self._client.exchange("GET", url, (*_HEADERS, *condition))
        match exchange:
            case Reply(status=200):
                return self._shown(key, exchange)
            case Reply(status=304) if condition:
                return Unchanged()
            case Reply(status=400 | 414 | 422 | 423 | 451 as status):  # about this document alone
                return NotAvailable(status, self._client.message(exchange))
            case Reply():
                message, wait_s = self._client.message(exchange), self._client.retry_after_s(exchange)
                return refusals.trouble(exchange, message, wait_s) or self._not_promised(exchange)
            case _:
                return replies.no_reply(exchange)

    @property
    def locks(self) -> bool:
        """Never: the token is the guard."""
        return False

    async def release(self, key: str, lock: str | None, mark: str) -> Released:  # noqa: ARG002 - this dialect takes no locks
        """There is nothing to release."""
        return Released()

    async def write(
        self,
        snapshot: Snapshot,
        fields: Mapping[str, Json],
        *,
        token: Token,
        journal: Journal,  # noqa: ARG002 - one request, guarded by itself: there is nothing to tell on the way
    ) -> WriteAnswer:
        """
        Write `fields` if the document is still at `token` (RFC 9110 section 13.1.1).

        Raises ValueError for a token that guards nothing: that would be a bug of ours.
        """
        if not token.strip() or token.strip() == "*":
            raise ValueError(f"a write needs the token of a read, not {token!r}")
        url = self._url(snapshot.key)
        if isinstance(url, NotAvailable):
            return url
        if self._options.write_method == "put":
            content: dict[str, Json] | Inexpressible = _whole(snapshot, fields)
        else:
            content = build(snapshot, fields)
        if isinstance(content, Inexpressible):
            said = "a merge patch can't put null inside an object: " + ", ".join(content.fields)
            return Refused(0, replies.cut(said), content.fields)
        exchange = await self._send(url, msgspec.json.encode(content), token)
        if isinstance(exchange, Lost | Unusable):
            return Unknown(exchange.message)
        return self._written(exchange, snapshot, fields) if isinstance(exchange, Reply) else exchange

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    def _url(self, key: str) -> str | NotAvailable:
        # RFC 3986 section 6.2.2.3: `.` and `..` vanish from every URL, however they are encoded.
        if key in ("", ".", ".."):
            return NotAvailable(404, f"the key {key!r} can't be written in a URL")
        try:
            return self._root + quote(key, safe="")
        except UnicodeEncodeError:
            return NotAvailable(404, f"the key {key!r} is not text")

    async def _send(self, url: str, content: bytes, token: Token) -> Exchange:
        guard = (b"if-match", token.encode())
        if self._options.write_method == "put":
            return await self._client.exchange(
                "PUT", url, (*_HEADERS, (b"content-type", _JSON.encode()), guard), content
            )
        sent = self._media_type
        exchange = await self._client.exchange(
            "PATCH", url, (*_HEADERS, (b"content-type", sent.encode()), guard), content
        )
        if not isinstance(exchange, Reply) or exchange.status != 415 or sent == _JSON:
            return exchange
        self._media_type = _JSON  # from now on; RFC 5789 section 2.2: nothing of the first was applied
        return await self._client.exchange("PATCH", url, (*_HEADERS, (b"content-type", _JSON.encode()), guard), content)

    def _shown(self, key: str, reply: Reply) -> Snapshot | Broken:
        body = replies.json_object(reply) if replies.is_json(reply) else None
        if body is None:
            return self._not_promised(reply)
        if body.get("id", key) != key:
            return Broken(replies.cut(f"asked for document {key}, the answer is document {body['id']}"))
        return _snapshot(key, body, reply)

    def _holder(self, reply: Reply) -> str | None:
        found = refusals.holder(reply)
        return None if found is None else self._client.hidden(found)

    def _written(self, reply: Reply, snapshot: Snapshot, fields: Mapping[str, Json]) -> WriteAnswer:
        match reply.status:
            case 200 | 201:
                return self._written_and_shown(reply, snapshot, fields)
            case 204 | 205:
                return Written(None, replies.token(reply))
        said, message = replies.said(reply), self._client.message(reply)
        stale = reply.status == 409 and refusals.is_version_conflict(said)
        if reply.status == 423 or (reply.status == 409 and refusals.is_lock(said) and not stale):
            return Locked(reply.status, message, self._holder(reply))
        # A redirect, a 202, a 500 in the middle of the work: it may have been applied.
        refused = refusals.of_write(reply, fields, message, self._client.retry_after_s(reply))
        return refused or Unknown(self._not_promised(reply).message)

    def _written_and_shown(self, reply: Reply, snapshot: Snapshot, fields: Mapping[str, Json]) -> Written | Unknown:
        token = replies.token(reply)
        if not reply.body:
            return Written(None, token)
        body = replies.json_object(reply) if replies.is_json(reply) else None
        if body is None:  # a login page also has status 200, and may say that it is JSON
            return Unknown(self._not_promised(reply).message)
        if body.get("id", snapshot.key) != snapshot.key:
            return Unknown(replies.cut(f"wrote document {snapshot.key}, the answer is document {body['id']}"))
        cleared = {field for field, value in fields.items() if value is None}
        if not snapshot.body.keys() - cleared <= body.keys():
            # An excerpt or just "ok". It does not show what else changed, so the next write needs a read first.
            return Written(None, None)
        # The answer may differ from what is stored, so the fields count as unseen until the next read.
        return Written(structs.replace(_snapshot(snapshot.key, body, reply), assumed=tuple(sorted(fields))), token)

    def _not_promised(self, reply: Reply) -> Broken:
        if 300 <= reply.status < 400:
            return Broken(replies.cut(f"a redirect to {replies.redirect(reply)} (status {reply.status}), not followed"))
        said = self._client.message(reply)
        kind = replies.text(reply, b"content-type") or "no content type"
        return Broken(replies.cut(f"status {reply.status} with {kind} is not an answer of this protocol: {said}"))


def _condition(known: Snapshot | None) -> Headers:
    if known is None:
        return ()
    if known.token is not None:
        return ((b"if-none-match", known.token.encode()),)
    return () if known.last_modified is None else ((b"if-modified-since", known.last_modified.encode("latin-1")),)


def _whole(snapshot: Snapshot, fields: Mapping[str, Json]) -> dict[str, Json]:
    """Return the document as it should be, its read-only fields as they were read."""
    body = snapshot.with_fields(dict(fields), None).body
    return body | {name: snapshot.body[name] for name in _READ_ONLY if name in snapshot.body}


def _snapshot(key: str, body: dict[str, Json], reply: Reply) -> Snapshot:
    by, kind = body.get("modifiedBy"), body.get("type")
    return Snapshot(
        key,
        body,
        replies.token(reply),
        modified_at=_instant(body.get("modifiedOn")),
        modified_by=by if isinstance(by, str) else None,
        type=kind if isinstance(kind, str) else None,
        last_modified=replies.last_modified(reply),
        read_only=_READ_ONLY,
    )


def _instant(value: object) -> str | None:
    try:
        return instant.canonical(value) if isinstance(value, str) else None
    except ValueError:
        return None


# -------------------------------------------------------------------------------------------------------- merge patches


_Path = tuple[str, ...]


@attrs.frozen
class Inexpressible:
    """These fields would get values that a merge patch can't express."""

    fields: tuple[str, ...]


class _NullInsideError(Exception):
    """A null inside an object."""


def build(snapshot: Snapshot, fields: Mapping[str, Json]) -> dict[str, Json] | Inexpressible:
    """Return the patch that gives the document `fields`, or the fields for which there is none."""
    paths = {field: _resolved(snapshot.body, field) for field in fields}
    target: dict[str, Json] | None = None
    if len({path[0] for path in paths.values()}) < len(paths) and _overlap(list(paths.values())):
        # For `attributes` and `attributes.Note` together, the result of both is written as the outer one.
        target = snapshot.with_fields(dict(fields), None).body
        paths = {field: path for field, path in paths.items() if not _is_inside(path, list(paths.values()))}
    patch: dict[str, Json] = {}
    refused: list[str] = []
    for field, path in paths.items():
        value = fields[field] if target is None else _at(target, path)
        try:
            _put(patch, path, _replacing(_at(snapshot.body, path), value))
        except _NullInsideError:
            refused.append(field)
    return Inexpressible(tuple(refused)) if refused else patch


def _resolved(body: object, field: str) -> _Path:
    """Return the members that lead to a field: as `Snapshot.value` finds them, and from there on the field's parts."""
    head, dot, rest = field.partition(".")
    if not dot or (isinstance(body, dict) and field in body):
        return (field,)
    return (head, *_resolved(body.get(head) if isinstance(body, dict) else None, rest))


def _overlap(paths: list[_Path]) -> bool:
    return any(_is_inside(path, paths) for path in paths)


def _is_inside(path: _Path, others: list[_Path]) -> bool:
    return any(path[:length] in others for length in range(1, len(path)))


def _at(body: object, path: _Path) -> Json:
    value = body
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value  # type: ignore[return-value]  # whatever a document holds is Json; the alias is not recursive


def _put(patch: dict[str, Json], path: _Path, value: Json) -> None:
    inside: dict[str, Json] = patch
    for name in path[:-1]:
        inside = inside.setdefault(name, {})  # type: ignore[assignment]  # paths don't overlap, so this is an object
    inside[path[-1]] = value


def _replacing(live: Json, wanted: Json) -> Json:
    """Return the patch value that makes `wanted` of `live`."""
    if not isinstance(wanted, dict):
        return wanted
    before = live if isinstance(live, dict) else {}
    patch: dict[str, object] = {name: None for name in before if name not in wanted}
    for name, value in wanted.items():
        if value is not None:
            patch[name] = _replacing(before.get(name), value)  # type: ignore[arg-type]  # Json is not recursive
        elif name not in before or before[name] is not None:
            raise _NullInsideError  # a null that is there already is simply left alone
    return patch
