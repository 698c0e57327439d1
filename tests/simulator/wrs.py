"""A user of the simulated Windchill REST Services, for the tests of this folder."""

from typing import Any

import httpx

ODATA = "/Windchill/servlet/odata"
DOMAIN = f"{ODATA}/v6/DocMgmt"
DOCUMENTS = f"{DOMAIN}/Documents"
INREVIEW = {"Value": "INREVIEW", "Display": "In Review"}


class User:
    """Someone who works with documents through the dialect."""

    def __init__(self, server: httpx.Client, name: str = "integration") -> None:
        self.server = server
        self.headers = {"X-Simulated-User": name}

    def nonce(self) -> "User":
        """Fetch a nonce and send it along from now on."""
        given = self.server.get(f"{ODATA}/PTC/GetCSRFToken()", headers=self.headers).raise_for_status().json()
        self.headers[given["NonceKey"]] = given["NonceValue"]
        return self

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.server.get(path, headers=self.headers | headers)

    def list(self, query: str = "", **headers: str) -> dict[str, Any]:
        return self.get(f"{DOCUMENTS}?{query}", **headers).raise_for_status().json()

    def find(self, number: str = "0000000001") -> dict[str, Any]:
        """The latest iteration of the document with this Number."""
        found = self.list(f"$filter=Number eq '{number}'&ptc.search.latestversion=true")["value"]
        assert len(found) == 1
        return found[0]

    def read(self, identity: str) -> dict[str, Any]:
        return self.get(f"{DOCUMENTS}('{identity}')").raise_for_status().json()

    def act(self, identity: str, action: str, **headers_and_body: Any) -> httpx.Response:
        headers = headers_and_body.pop("headers", {})
        url = f"{DOCUMENTS}('{identity}')/PTC.DocMgmt.{action}"
        return self.server.post(url, json=headers_and_body, headers=self.headers | headers)

    def patch(self, identity: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        return self.server.patch(f"{DOCUMENTS}('{identity}')", json=body, headers=self.headers | headers)

    def check_out(self, identity: str | None = None, note: str = "") -> dict[str, Any]:
        """Check out and read the working copy."""
        identity = self.find()["ID"] if identity is None else identity
        made = self.act(identity, "CheckOut", CheckOutNote=note).raise_for_status().json()
        return self.read(made["ID"])

    def check_in(self, identity: str, note: str = "") -> dict[str, Any]:
        return self.act(identity, "CheckIn", CheckInNote=note, KeepCheckedOut=False).raise_for_status().json()
