"""The dialect `wrs` as the tests of this folder build it: against CAP, guarded by ETags alone."""

from typing import Any

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.credentials import Basic
from reconciler.adapters.http import HttpClient
from reconciler.adapters.wrs.windchill import WrsWindchill
from reconciler.model.snapshot import Snapshot
from reconciler.ports import Telemetry
from tests import defaults, windchills
from tests.odata import cap
from tests.odata.people import JSON


def adapter(
    url: str, *, password: str = cap.PASSWORD, telemetry: Telemetry | None = None, **options: Any
) -> WrsWindchill:
    """Return the adapter for a service at `url`, logged in as `integration`."""
    guard = {"lock": "etag", "etag_proven": True} | options
    clock = SystemClock()
    client = HttpClient(defaults.http(timeout_s=30), clock, Basic("integration", password), telemetry)
    return WrsWindchill(client, defaults.wrs(base_url=url, service="", **guard), clock)


async def seen(windchill: WrsWindchill, document: JSON) -> Snapshot:
    """Return a document as the adapter reads it, which it must be able to."""
    return await windchills.seen(windchill, document["Number"])
