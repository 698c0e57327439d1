"""Replies in the shape of OData v4."""

from typing import Any

import orjson

from reconciler.simulator.messages import Headers, Reply

JSON = (b"content-type", b"application/json;odata.metadata=minimal")
_VERSION = (b"odata-version", b"4.0")


def shown(content: Any, *headers: tuple[bytes, bytes], status: int = 200) -> Reply:
    """A reply with JSON."""
    return Reply(status, [JSON, _VERSION, *headers], orjson.dumps(content))


def nothing(*headers: tuple[bytes, bytes]) -> Reply:
    """204."""
    return Reply(204, [_VERSION, *headers])


def refusal(status: int, code: str, message: str, *, cause: str = "bad_request") -> Reply:
    """`{"error": {"code": …, "message": …}}`; `cause` is for the statistics."""
    headers: Headers = [JSON, _VERSION]
    return Reply(status, headers, orjson.dumps({"error": {"code": code, "message": message}}), cause)


def invalid(message: str, *, cause: str = "bad_request") -> Reply:
    """400."""
    return refusal(400, "INVALID_REQUEST", message, cause=cause)


def unknown(what: str) -> Reply:
    """404."""
    return refusal(404, "ENTITY_NOT_FOUND", f"There is no {what}", cause="not_found")


def not_implemented(what: str) -> Reply:
    """501."""
    return refusal(501, "NOT_IMPLEMENTED", f"{what} is not implemented", cause="not_implemented")


def turned_away(how: int | str) -> Reply:
    """The reply to a request without a session that is still open."""
    match how:
        case "redirect":
            return Reply(302, [(b"location", b"https://login.example/sso")], cause="signed_out")
        case "login_page":
            page = b"<html><head><title>Sign in</title></head><body><input type='password'></body></html>"
            return Reply(200, [(b"content-type", b"text/html;charset=UTF-8")], page, "signed_out")
    return refusal(401, "UNAUTHORIZED", "The session has ended.", cause="signed_out")


def message_of(reply: Reply) -> str:
    """What a refusal says."""
    return str(orjson.loads(reply.body)["error"]["message"])
