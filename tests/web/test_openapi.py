"""The OpenAPI document: valid 3.1, the same as the one checked in, and true of real answers."""

import copy
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types

from reconciler.web import application, openapi
from reconciler.web.principal import Role
from tests.flows.world import KEY, World
from tests.nodes import texts
from tests.web.conftest import Daemon
from tests.web.keys import signed_in

DOCUMENT = openapi.document(application.ENDPOINTS)
OPERATIONS = [(path, method, op) for path, methods in DOCUMENT["paths"].items() for method, op in methods.items()]
READS = [path for path, method, _ in OPERATIONS if method == "get"]


def strict(node: Any) -> Any:
    """The schemas with no room for members that they don't name."""
    if isinstance(node, dict):
        closed = {"additionalProperties": False} if "properties" in node and node.get("type") == "object" else {}
        return {name: strict(inner) for name, inner in node.items()} | closed
    return [strict(inner) for inner in node] if isinstance(node, list) else node


def validate(shown: Any, response: Any, media_type: str) -> None:
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema = copy.deepcopy(response["content"][media_type]["schema"])
    components = strict(DOCUMENT["components"])
    if media_type.startswith("application/problem"):  # further members are what RFC 9457 has them for
        components = DOCUMENT["components"]
    Draft202012Validator(schema | {"components": components}).validate(shown)


def test_every_reference_leads_somewhere() -> None:
    found = texts(DOCUMENT, "$ref")
    assert found
    for reference in found:
        node = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_every_schema_is_valid_2020_12() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_operations_have_unique_ids_and_name_their_path_parameters() -> None:
    ids = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(ids)) == len(ids)
    for path, _, operation in OPERATIONS:
        named = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert named == {segment[1:-1] for segment in path.split("/") if segment.startswith("{")}
        assert operation["summary"]


def test_every_endpoint_of_the_api_is_described_with_its_role() -> None:
    for endpoint in application.ENDPOINTS:
        if endpoint.path.startswith("/api/") and endpoint.path != openapi.PATH:
            operation = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]
            assert endpoint.role is not None
            role = [endpoint.role.name.lower()]
            mark: dict[str, list[str]] = {} if endpoint.method == "GET" else {"csrf": []}
            producer = [{"token": ["producer"]}] if endpoint.producers else []
            assert operation["security"] == [*producer, {"token": role}, {"session": role, **mark}]


async def test_the_described_security_schemes_work(guarded: httpx.AsyncClient) -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]
    csrf = await signed_in(guarded, Role.OPERATOR)
    assert list(guarded.cookies) == [schemes["session"]["name"]]
    assert (await guarded.post("/api/v1/compare", json={})).status_code == 403
    headers = {schemes["csrf"]["name"]: csrf}
    assert (await guarded.post("/api/v1/compare", json={}, headers=headers)).status_code == 200


async def test_the_served_document_is_the_one_checked_in(client: httpx.AsyncClient) -> None:
    kept = Path(__file__).parents[2] / "schemas" / "openapi.json"
    assert (await client.get(openapi.PATH)).json() == json.loads(kept.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", READS)
async def test_answers_match_the_document(daemon: Daemon, client: httpx.AsyncClient, world: World, path: str) -> None:
    world.store.field_conflicts["title"] += 1
    await daemon.actions.note("jdoe", "pause", KEY, document=KEY, details={"reason": "audit"})
    operation = DOCUMENT["paths"][path]["get"]
    (conflict,) = await world.store.conflicts()
    letter = (await world.store.dead_letters())[0]
    one = {"/api/v1/conflicts/{id}": conflict.conflict.id, "/api/v1/dead-letters/{id}": letter.id}
    address = path.replace("{document}", KEY).replace("{id}", quote(one.get(path, ""), safe=""))
    reply = await client.get(address)
    assert reply.status_code == 200
    shown = reply.json()
    assert shown.get("items") != []
    validate(shown, operation["responses"]["200"], "application/json")
    refused = await client.get(f"{address}?no_such_parameter=1")
    validate(refused.json(), operation["responses"]["400"], "application/problem+json")
    if "{" in path:
        missing = await client.get(path.replace("{document}", "nope").replace("{id}", "nope"))
        assert missing.status_code == 404
        validate(missing.json(), operation["responses"]["404"], "application/problem+json")


@pytest.mark.parametrize("path", READS)
async def test_parameters_are_taken_as_they_are_described(client: httpx.AsyncClient, world: World, path: str) -> None:
    """Whatever the document names is known, and a value of another type than it says is refused."""
    if "{id}" in path:
        return
    for parameter in DOCUMENT["paths"][path]["get"]["parameters"]:
        if parameter["in"] == "query":
            for given in parameter["schema"].get("enum", ["x"]):
                reply = await client.get(path.replace("{document}", KEY), params={parameter["name"]: given})
                is_text = parameter["schema"] == {"type": "string"}
                anything = is_text and parameter["name"] in ("document", "field", "actor")
                expected = 200 if anything or "enum" in parameter["schema"] else 400
                assert reply.status_code == expected, (parameter, reply.text)
