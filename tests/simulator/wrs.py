"""A user of the simulated Windchill REST Services, for the tests of this folder."""

from typing import Any

import httpx

ODATA = "/Windchill/servlet/odata"
DOMAIN = f"{ODATA}/v6/DocMgmt"
DOCUMENTS = f"{DOMAIN}/Documents"
INWORK = {"Value": "INWORK", "Display": "In Work"}
INREVIEW = {"Value": "INREVIEW", "Display": "In Review"}
RELEASED = {"Value": "RELEASED", "Display": "Released"}


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

    def page(self, query: str = "", **headers: str) -> dict[str, Any]:
        return self.get(f"{DOCUMENTS}?{query}", **headers).raise_for_status().json()

    def numbers(self, filter: str, more: str = "") -> list[str]:
        """The last digits of the Numbers that a filter finds, in the order of the reply."""
        return [row["Number"].lstrip("0") for row in self.page(f"$filter={filter}&$select=Number{more}")["value"]]

    def find(self, number: str = "0000000001") -> dict[str, Any]:
        """The latest iteration of the document with this Number."""
        found = self.page(f"$filter=Number eq '{number}'&ptc.search.latestversion=true")["value"]
        assert len(found) == 1
        return found[0]

    def read(self, identity: str) -> dict[str, Any]:
        return self.get(f"{DOCUMENTS}('{identity}')").raise_for_status().json()

    def status(self, identity: str) -> int:
        return self.get(f"{DOCUMENTS}('{identity}')").status_code

    def act(self, identity: str, action: str, **body: Any) -> httpx.Response:
        return self.server.post(f"{DOCUMENTS}('{identity}')/PTC.DocMgmt.{action}", json=body, headers=self.headers)

    def patch(self, identity: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.server.patch(f"{DOCUMENTS}('{identity}')", json=body, headers=self.headers | given)

    def check_out(self, identity: str | None = None, note: str = "") -> dict[str, Any]:
        """Check out and read the working copy."""
        identity = self.find()["ID"] if identity is None else identity
        made = self.act(identity, "CheckOut", CheckOutNote=note).raise_for_status().json()
        return self.read(made["ID"])

    def check_in(self, identity: str, note: str = "", **more: Any) -> dict[str, Any]:
        return self.act(identity, "CheckIn", CheckInNote=note, **more).raise_for_status().json()


def code(reply: httpx.Response) -> tuple[int, str]:
    """A refusal's status and code."""
    return reply.status_code, reply.json()["error"]["code"]


def message(reply: httpx.Response) -> str:
    return reply.json()["error"]["message"]


def act(server: httpx.Client, *actions: str, user: str = "jdoe", **more: Any) -> dict[str, Any]:
    """What a person does, all at once, by the control API."""
    given = {"document": "0000000001", "user": user, "do": list(actions), **more}
    return server.post("/_control/wrs/act", json=given).raise_for_status().json()


def steps(server: httpx.Client, **asked: str) -> list[dict[str, Any]]:
    """Every check-out, check-in and undo."""
    return server.get("/_control/wrs/checkouts", params=asked).raise_for_status().json()["items"]
