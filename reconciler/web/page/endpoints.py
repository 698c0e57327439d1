"""Endpoints of the page: every address of it, with the least role."""

from typing import Final

from reconciler.web.endpoint import Call, Endpoint, Query
from reconciler.web.page import assets, overview
from reconciler.web.principal import Role


def _shows(path: str, call: Call, query: type[Query] = Query) -> Endpoint:
    return Endpoint(path=path, role=Role.VIEWER, call=call, query=query, page=True)


ENDPOINTS: Final = (
    _shows("/", overview.show),
    Endpoint(path="/static/{name}", role=None, call=assets.serve),
)
