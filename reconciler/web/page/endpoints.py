"""Endpoints of the page: every address of it, with the least role."""

from typing import Final

from reconciler.web import reading
from reconciler.web.endpoint import Call, Endpoint, Query
from reconciler.web.page import assets, conflicts, documents, hotspots, letters, overview, settings, trail
from reconciler.web.principal import Role


def _shows(path: str, call: Call, query: type[Query] = Query) -> Endpoint:
    return Endpoint(path=path, role=Role.VIEWER, call=call, query=query, page=True)


ENDPOINTS: Final = (
    _shows("/", overview.show),
    _shows("/documents", documents.many, documents.DocumentsQuery),
    _shows("/documents/{document}", documents.one, documents.DocumentQuery),
    _shows("/conflicts", conflicts.many, conflicts.ConflictsQuery),
    _shows("/conflicts/{id}", conflicts.one),
    _shows("/dead-letters", letters.many, reading.LettersQuery),
    _shows("/dead-letters/{id}", letters.one),
    _shows("/hotspots", hotspots.show, reading.HotSpotsQuery),
    _shows("/audit", trail.show, trail.TrailQuery),
    _shows("/audit.csv", trail.export, trail.ExportQuery),
    _shows("/policy", settings.policy),
    _shows("/config", settings.config),
    Endpoint(path="/static/{name}", role=None, call=assets.serve),
)
