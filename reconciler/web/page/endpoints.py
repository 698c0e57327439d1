"""Every address of the page, with the least role it needs."""

from typing import Final

from reconciler.web import read_api
from reconciler.web.endpoint import Endpoint, Handler, Query
from reconciler.web.page import audit, conflicts, dead_letters, documents, notices, overview, rendering
from reconciler.web.principal import Role


def _shows(path: str, handler: Handler, query: type[Query] = Query) -> Endpoint:
    return Endpoint(path=path, role=Role.VIEWER, handler=handler, query=query, page=True, linked=True)


def _actions(path: str, handler: Handler) -> Endpoint:
    return Endpoint(path=path, role=Role.OPERATOR, handler=handler, method="POST", page=True)


ENDPOINTS: Final = (
    _shows("/", overview.show, notices.WithNotice),
    _actions("/writes/stop", overview.stop_writes),
    _actions("/writes/resume", overview.resume_writes),
    _shows("/documents", documents.show_list, documents.DocumentsQuery),
    _shows("/documents/{document}", documents.show_one, documents.DocumentQuery),
    _actions("/compare", documents.compare),
    _actions("/documents/{document}/retry", documents.retry),
    _actions("/documents/{document}/pause", documents.pause),
    _actions("/documents/{document}/resume", documents.resume),
    _actions("/documents/{document}/release", documents.release),
    _shows("/conflicts", conflicts.show_list, conflicts.ConflictsQuery),
    _actions("/conflicts/preview", conflicts.preview_many),  # must match before {id}
    _actions("/conflicts/resolve", conflicts.resolve_many),
    _shows("/conflicts/{id}", conflicts.show_one, conflicts.ConflictQuery),
    _actions("/conflicts/{id}/preview", conflicts.preview),
    _actions("/conflicts/{id}/resolve", conflicts.resolve),
    _shows("/dead-letters", dead_letters.show_list, dead_letters.LettersQuery),
    _shows("/dead-letters/{id}", dead_letters.show_one, dead_letters.LetterQuery),
    _actions("/dead-letters/{id}/replay", dead_letters.replay),
    _actions("/dead-letters/{id}/discard", dead_letters.discard),
    _actions("/dead-letters/{id}/resend", dead_letters.resend),
    _shows("/hotspots", overview.hotspots, read_api.HotSpotsQuery),
    _shows("/audit", audit.show, audit.TrailQuery),
    _shows("/audit/acts", audit.actions, audit.ActionsQuery),
    Endpoint(path="/audit.csv", role=Role.VIEWER, handler=audit.export, query=audit.ExportQuery, page=True),
    _shows("/policy", overview.policy),
    _shows("/config", overview.config),
    Endpoint(path="/static/{name}", role=None, handler=rendering.serve),
)
