"""A small OData service that answers what a test says, on a real socket, and keeps what it was asked."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
from aiohttp import web

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.credentials import Auth
from reconciler.adapters.http import HttpClient
from reconciler.adapters.wrs.windchill import WrsWindchill
from tests import defaults

LOGIN = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><input type='password'></body></html>"
ROOT = "/Windchill/servlet/odata"
SERVICE = f"{ROOT}/v6/DocMgmt"

METADATA = """<?xml version="1.0" encoding="UTF-8"?>
<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>
<Schema Namespace="PTC" xmlns="http://docs.oasis-open.org/odata/ns/edm">
  <ComplexType Name="EnumType"><Property Name="Value" Type="Edm.String"/><Property Name="Display" Type="Edm.String"/>
  </ComplexType>
  <ComplexType Name="EnumTypeList"><Property Name="Items" Type="Collection(PTC.EnumType)"/></ComplexType>
  <EntityType Name="WindchillEntity" Abstract="true"><Key><PropertyRef Name="ID"/></Key>
    <Property Name="ID" Type="Edm.String" Nullable="false"><Annotation Term="PTC.ReadOnly"/></Property>
    <Property Name="CreatedOn" Type="Edm.DateTimeOffset"><Annotation Term="PTC.ReadOnly"/></Property>
    <Property Name="LastModified" Type="Edm.DateTimeOffset"><Annotation Term="PTC.ReadOnly" Bool="true"/></Property>
  </EntityType>
</Schema>
<Schema Namespace="PTC.DocMgmt" xmlns="http://docs.oasis-open.org/odata/ns/edm">
  <EntityType Name="Document" BaseType="PTC.WindchillEntity">
    <Property Name="Number" Type="Edm.String"/><Property Name="Name" Type="Edm.String" Nullable="false"/>
    <Property Name="Title" Type="Edm.String"/><Property Name="Description" Type="Edm.String"/>
    <Property Name="Latest" Type="Edm.Boolean"><Annotation Term="PTC.ReadOnly"/></Property>
    <Property Name="State" Type="PTC.EnumType"><Annotation Term="PTC.UpdateableViaAction"/></Property>
    <Property Name="CheckoutState" Type="Edm.String"><Annotation Term="PTC.NonFilterable"/></Property>
    <NavigationProperty Name="Context" Type="PTC.WindchillEntity"/>
    <NavigationProperty Name="Organization" Type="PTC.WindchillEntity">
      <Annotation Term="PTC.UpdateableViaAction"/></NavigationProperty>
    <NavigationProperty Name="Attachments" Type="Collection(PTC.WindchillEntity)"/>
  </EntityType>
  <EntityType Name="Specification" BaseType="PTC.DocMgmt.Document">
    <Property Name="CostCenter" Type="Edm.Int64"/><Property Name="Weight" Type="Edm.Double"/>
    <Property Name="Price" Type="Edm.Decimal"/><Property Name="Count" Type="Edm.Int32"/>
    <Property Name="Controlled" Type="Edm.Boolean"/><Property Name="Due" Type="Edm.Date"/>
    <Property Name="Reviewed" Type="Edm.DateTimeOffset"/>
    <Property Name="Keywords" Type="Collection(Edm.String)"/>
    <Property Name="Lines" Type="Collection(Edm.Int64)"/>
    <Property Name="Roles" Type="Collection(PTC.EnumType)"/>
  </EntityType>
  <Action Name="CheckOut" IsBound="true"><Parameter Name="Workable" Type="PTC.DocMgmt.Document"/>
    <Parameter Name="CheckOutNote" Type="Edm.String"/><ReturnType Type="PTC.DocMgmt.Document"/></Action>
  <Action Name="CheckIn" IsBound="true"><Parameter Name="Workable" Type="PTC.DocMgmt.Document"/>
    <Parameter Name="CheckInNote" Type="Edm.String"/><Parameter Name="CheckOutNote" Type="Edm.String"/>
    <Parameter Name="KeepCheckedOut" Type="Edm.Boolean"/><ReturnType Type="PTC.DocMgmt.Document"/></Action>
  <Action Name="UndoCheckOut" IsBound="true"><Parameter Name="Workable" Type="PTC.DocMgmt.Document"/>
    <ReturnType Type="PTC.DocMgmt.Document"/></Action>
  <Action Name="CheckOutDocuments" IsBound="true">
    <Parameter Name="Documents" Type="Collection(PTC.DocMgmt.Document)"/></Action>
  <Action Name="SetState" IsBound="true"><Parameter Name="Entity" Type="PTC.WindchillEntity"/>
    <Parameter Name="State" Type="PTC.EnumType" Nullable="false"/><ReturnType Type="PTC.WindchillEntity"/></Action>
  <Action Name="UpdateCommonProperties" IsBound="true"><Parameter Name="Document" Type="PTC.DocMgmt.Document"/>
    <Parameter Name="Updates" Type="PTC.DocMgmt.Document"/></Action>
  <Action Name="Calibrate" IsBound="true"><Parameter Name="Specification" Type="PTC.DocMgmt.Specification"/></Action>
  <Action Name="CreateAll"><Parameter Name="Document" Type="PTC.DocMgmt.Document"/></Action>
  <Function Name="GetValidStateTransitions" IsBound="true"><Parameter Name="E" Type="PTC.WindchillEntity"/>
    <ReturnType Type="PTC.EnumTypeList"/></Function>
  <EntityContainer Name="Windchill"><EntitySet Name="Documents" EntityType="PTC.DocMgmt.Document"/></EntityContainer>
</Schema></edmx:DataServices></edmx:Edmx>"""

PLAIN = """<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>
<Schema Namespace="CatalogService" xmlns="http://docs.oasis-open.org/odata/ns/edm">
  <EntityContainer Name="EntityContainer"><EntitySet Name="Documents" EntityType="CatalogService.Documents"/>
  </EntityContainer>
  <EntityType Name="Documents"><Key><PropertyRef Name="ID"/></Key>
    <Property Name="ID" Type="Edm.Guid" Nullable="false"/><Property Name="Number" Type="Edm.String"/>
    <Property Name="Description" Type="Edm.String"/><Property Name="State" Type="Edm.String"/>
    <Property Name="modifiedAt" Type="Edm.DateTimeOffset" Precision="7"/>
  </EntityType>
  <Annotations Target="CatalogService.Documents/modifiedAt"><Annotation Term="Core.Computed" Bool="true"/></Annotations>
</Schema></edmx:DataServices></edmx:Edmx>"""


@attrs.frozen
class Asked:
    """One request as it arrived."""

    method: str
    path: str  # decoded, below the OData root
    raw: str  # path and query as they came
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@attrs.frozen
class Answer:
    """What the service answers."""

    status: int = 200
    body: Any = ""
    headers: dict[str, str] = attrs.field(factory=dict)
    cookies: tuple[str, ...] = ()


Respond = Callable[[Asked], Answer | Awaitable[Answer]]


def row(number: str = "0000000001", id: int = 100, **properties: Any) -> dict[str, Any]:
    """One iteration as JSON."""
    return {
        "ID": f"OR:wt.doc.WTDocument:{id}",
        "Number": number,
        "Name": "Bracket",
        "Latest": True,
        "CheckoutState": "Checked in",
        "WorkInProgressState": {"Value": "c/i", "Display": "Checked in"},
        "State": {"Value": "INWORK", "Display": "In Arbeit"},
        "LastModified": "2026-08-19T14:16:48+02:00",
        "ModifiedBy": "Demo User",
        **properties,
    }


def rows(*found: dict[str, Any], next_link: str | None = None) -> Answer:
    """A page of a collection."""
    return Answer(body={"value": list(found)} | ({} if next_link is None else {"@odata.nextLink": next_link}))


def error(status: int, code: str, message: str = "no", **headers: str) -> Answer:
    """A refusal in the shape of OData."""
    return Answer(status, {"error": {"code": code, "message": message}}, headers)


NONCE = Answer(body={"NonceKey": "CSRF_NONCE", "NonceValue": "8q87="})


class LaterClock(SystemClock):
    """The machine's clock, and how far it is put forward."""

    ahead_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


def accepting(*nonces: str) -> Respond:
    """Answer 204 to writes that carry one of these nonces, and refuse all others."""

    def respond(asked: Asked) -> Answer:
        if asked.headers.get("csrf_nonce") in nonces:
            return Answer(204)
        return error(400, "INVALID_NONCE", f"wrong nonce {asked.headers.get('csrf_nonce')}")

    return respond


class OData:
    """The service under test's control: nonce and metadata answer by themselves unless `respond` does."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.metadata: Answer = Answer(body=METADATA, headers={"content-type": "application/xml"})
        self.nonce: Answer | Callable[[], Answer] = NONCE
        self.respond: Respond = lambda asked: error(404, "ENTITY_NOT_FOUND")
        self.others: dict[str, Answer] = {}
        self.hold: Callable[[web.Request], Awaitable[None]] | None = None
        self.url = ""

    def of(self, path: str) -> list[Asked]:
        """What was asked of paths that end so."""
        return [asked for asked in self.asked if asked.path.endswith(path)]

    @property
    def documents(self) -> list[Asked]:
        """What was asked of documents, metadata and nonces left out."""
        return [asked for asked in self.asked if "/Documents" in asked.path]

    async def serve(self, request: web.Request) -> web.Response:
        text = await request.text()
        asked = Asked(
            request.method,
            request.path.removeprefix(ROOT),
            request.raw_path.removeprefix(ROOT),
            dict(request.query),
            {name.lower(): value for name, value in request.headers.items()},
            json.loads(text) if text else None,
        )
        self.asked.append(asked)
        if self.hold is not None:
            await self.hold(request)
        if asked.path in self.others:
            answer = self.others[asked.path]
        elif asked.path.endswith("GetCSRFToken()"):
            answer = self.nonce() if callable(self.nonce) else self.nonce
        elif asked.path.endswith("$metadata"):
            answer = self.metadata
        else:
            given = self.respond(asked)
            answer = given if isinstance(given, Answer) else await given
        body = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        kind = {} if "content-type" in answer.headers else {"content-type": "application/json"}
        reply = web.Response(status=answer.status, body=body.encode(), headers={**kind, **answer.headers})
        for cookie in answer.cookies:
            reply.headers.add("set-cookie", cookie)
        return reply


def numbered(odata: OData) -> None:
    """Let the service give another nonce each time: 1, 2, …"""
    count = iter(range(1, 1000))
    odata.nonce = lambda: Answer(body={"NonceKey": "CSRF_NONCE", "NonceValue": str(next(count))})


@asynccontextmanager
async def serving() -> AsyncIterator[OData]:
    """A running service."""
    service = OData()
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", service.serve)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield service
    finally:
        await runner.cleanup()


@asynccontextmanager
async def windchill(
    url: str, *, clock: Any = None, auth: Auth | None = None, **options: Any
) -> AsyncIterator[WrsWindchill]:
    """The adapter over a real socket."""
    clock = clock or SystemClock()
    client = HttpClient(defaults.http(timeout_s=20), clock, auth)
    made = WrsWindchill(client, defaults.wrs(**{"base_url": url + ROOT, **options}), clock)
    try:
        yield made
    finally:
        await made.close()
        await asyncio.sleep(0)
