"""
Assets: the style sheet, the script and the icon, from this package.

Each is served under a name that holds a digest of its content, so that a browser may keep it for good and still never
has an old one.
"""

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Final

import attrs
from starlette.responses import Response

from reconciler.web.answers import Refused
from reconciler.web.endpoint import Asked
from reconciler.web.sources import Sources

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FOR_GOOD: Final = "public, max-age=31536000, immutable"


@attrs.frozen
class Asset:
    """A file as it is served; `name` is the one with the digest."""

    name: str
    content: bytes
    media_type: str
    etag: str


def _read() -> Mapping[str, Asset]:
    found = {}
    for file in resources.files("reconciler.web.page").joinpath("static").iterdir():
        stem, _, ending = file.name.rpartition(".")
        if ending in _TYPES:
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:16]
            found[file.name] = Asset(f"{stem}.{digest}.{ending}", content, _TYPES[ending], f'"{digest}"')
    return found


_ASSETS: Final = _read()
_BY_ADDRESS: Final = {asset.name: asset for asset in _ASSETS.values()}


def address(name: str) -> str:
    """Return where the file of this name is served."""
    return f"/static/{_ASSETS[name].name}"


async def serve(_: Sources, asked: Asked) -> Response:
    """Answer with a file; it is no secret, and the sign-in page needs it before anybody has shown who they are."""
    asset = _BY_ADDRESS.get(asked.path["name"])
    if asset is None:
        raise Refused(404, "there is no such file; load the page again")
    headers = {"cache-control": _FOR_GOOD, "etag": asset.etag}
    if asset.etag in asked.request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers | {"content-type": asset.media_type})
