"""What others do on the server, with plain HTTP and nothing of ours."""

import itertools
from typing import Any
from urllib.parse import quote

import httpx

from tests.odata import cap

JSON = dict[str, Any]


class Person:
    """Someone who makes, reads and edits documents. `http` is their client, for requests of any other kind."""

    _numbers = itertools.count(1)

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.http = httpx.Client(base_url=url, auth=(name, cap.PASSWORD))

    def make(self, **fields: Any) -> JSON:
        """Make a document with a number of its own."""
        number = next(self._numbers)
        given = {"ID": f"OR:wt.doc.WTDocument:{number}", "Number": f"{number:010}"} | fields
        return self._answer(self.http.post("/Documents", json=given))

    def read(self, document: JSON) -> JSON:
        return self._answer(self.http.get(path(document)))

    def patch(self, document: JSON, fields: JSON, if_match: str | None = None) -> httpx.Response:
        """Edit a document, whatever comes of it."""
        headers = {} if if_match is None else {"If-Match": if_match}
        return self.http.patch(path(document), json=fields, headers=headers)

    def edit(self, document: JSON, **fields: Any) -> JSON:
        """Edit a document as it is now."""
        return self._answer(self.patch(document, fields, self.read(document)["@odata.etag"]))

    def delete(self, document: JSON) -> None:
        """Delete a document as it is now."""
        condition = {"If-Match": self.read(document)["@odata.etag"]}
        self.http.delete(path(document), headers=condition).raise_for_status()

    def _answer(self, response: httpx.Response) -> JSON:
        found: JSON = response.raise_for_status().json()
        return found


def path(document: JSON) -> str:
    """Return where a document is, relative to the service."""
    literal = quote(document["ID"].replace("'", "''"), safe=":'")
    return f"/Documents('{literal}')"
