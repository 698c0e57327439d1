"""Trace names: how spans and their attributes are called. OpenTelemetry still renames some; this is the one place."""

from typing import Final

SCOPE: Final = "reconciler"
SERVICE: Final = "windchill-reconciler"

ATTEMPT: Final = "reconcile document"
DOCUMENT: Final = "reconciler.document"
LANE: Final = "reconciler.lane"
STATUS: Final = "reconciler.status"
RESULT: Final = "reconciler.result"
REASON: Final = "reconciler.reason"
FIELDS: Final = "reconciler.fields_written"
POLICY: Final = "reconciler.policy"
EVENT_ID: Final = "cloudevents.event_id"
EVENT_SOURCE: Final = "cloudevents.event_source"

METHOD: Final = "http.request.method"
URL: Final = "url.full"
HOST: Final = "server.address"
HTTP_STATUS: Final = "http.response.status_code"
ERROR: Final = "error.type"
