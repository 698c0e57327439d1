"""Endpoints of the page: every address of it, with the least role."""

from typing import Final

from reconciler.web import reading
from reconciler.web.endpoint import Call, Endpoint, Query
from reconciler.web.page import conflicts, deciding, documents, letters, overview, rendering, trail
from reconciler.web.principal import Role


def _shows(path: str, call: Call, query: type[Query] = Query) -> Endpoint:
    return Endpoint(path=path, role=Role.VIEWER, call=call, query=query, page=True, linked=True)


def _actions(path: str, call: Call) -> Endpoint:
    return Endpoint(path=path, role=Role.OPERATOR, call=call, method="POST", page=True)


ENDPOINTS: Final = (
    _shows("/", overview.show),
    _shows("/documents", documents.many, documents.DocumentsQuery),
    _shows("/documents/{document}", documents.one, documents.DocumentQuery),
    _actions("/compare", documents.compare),
    _actions("/documents/{document}/retry", documents.retry),
    _actions("/documents/{document}/pause", documents.pause),
    _actions("/documents/{document}/resume", documents.resume),
    _actions("/documents/{document}/release", documents.release),
    _shows("/conflicts", conflicts.many, conflicts.ConflictsQuery),
    _actions("/conflicts/preview", deciding.preview_many),  # before {id}, which it is none of
    _actions("/conflicts/resolve", deciding.resolve_many),
    _shows("/conflicts/{id}", conflicts.one, conflicts.ConflictQuery),
    _actions("/conflicts/{id}/preview", deciding.preview),
    _actions("/conflicts/{id}/resolve", deciding.resolve),
    _shows("/dead-letters", letters.many, letters.LettersQuery),
    _shows("/dead-letters/{id}", letters.one, letters.LetterQuery),
    _actions("/dead-letters/{id}/replay", letters.replay),
    _actions("/dead-letters/{id}/discard", letters.discard),
    _actions("/dead-letters/{id}/resend", letters.resend),
    _shows("/hotspots", overview.hotspots, reading.HotSpotsQuery),
    _shows("/audit", trail.show, trail.TrailQuery),
    _shows("/audit/acts", trail.actions, trail.ActionsQuery),
    Endpoint(path="/audit.csv", role=Role.VIEWER, call=trail.export, query=trail.ExportQuery, page=True),
    _shows("/policy", overview.policy),
    _shows("/config", overview.config),
    Endpoint(path="/static/{name}", role=None, call=rendering.serve),
)
